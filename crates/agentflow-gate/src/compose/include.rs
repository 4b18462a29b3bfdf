//! `include`: another project brought in whole.

use std::{path::Path as FilePath, rc::Rc};

use super::{
    Paths,
    files::{join, parent, relative},
    loader::{Failure, Loader, Place},
};
use crate::{
    problem::{Kind, Problem},
    source::Span,
    tree::{Entry, Map, Node, Value, same},
};

/// One entry of `include`.
struct Included {
    paths: Vec<String>,
    directory: Option<String>,
    env_files: Vec<String>,
    span: Span,
}

impl Loader<'_> {
    /// Follows every `include` of a document. `seen`: files on the way here, to find a circle.
    pub(super) fn follow_includes(
        &mut self,
        root: &mut Node,
        place: &Place,
        seen: &[String],
    ) -> Result<(), Failure> {
        let Some(entry) = root
            .as_map_mut()
            .and_then(|map| map.shift_remove("include"))
        else {
            return Ok(());
        };
        for include in entries(&entry.node)? {
            let imported = self.include(include, place, seen)?;
            import(imported, root)?;
        }
        Ok(())
    }

    fn include(
        &mut self,
        include: Included,
        place: &Place,
        seen: &[String],
    ) -> Result<Node, Failure> {
        let span = include.span;
        let paths = include.paths.iter().map(|path| join(&place.folder, path));
        let paths: Vec<String> = paths.collect();
        let Some(main) = paths.first() else {
            return Err(Problem::new(Kind::Reference, span, "`include` names no file").into());
        };
        if seen.contains(main) {
            let message = format!("`{main}` includes itself");
            return Err(Problem::new(Kind::Reference, span, message).into());
        }
        let folder = match &include.directory {
            Some(directory) => join(&place.folder, directory),
            None => parent(main),
        };
        let shown = match &include.directory {
            Some(directory) if directory.starts_with('/') => directory.clone(),
            // As Docker does, a folder that is not there counts as the one that would hold it.
            Some(_) if !self.files.is_dir(FilePath::new(&folder)) => {
                relative(&place.folder, &parent(&folder))
            }
            _ => relative(&place.folder, &folder),
        };
        let mut environment = (*place.environment).clone();
        let default = join(&folder, ".env");
        match include.env_files.is_empty() {
            true if self.files.read(FilePath::new(&default)).is_ok() => {
                self.variables(FilePath::new(&default), &mut environment)?;
            }
            true => {}
            false => {
                for file in &include.env_files {
                    let path = join(&place.folder, file);
                    let read = self.variables(FilePath::new(&path), &mut environment);
                    read.map_err(|problem| Failure::from(problem).brought_in_at(span))?;
                }
            }
        }
        let inner = Place {
            folder,
            shown,
            environment: Rc::new(environment),
            paths: Paths::Resolve,
        };
        let imported = self.layers(&paths, &inner, seen);
        imported.map_err(|failure| failure.brought_in_at(span))
    }
}

fn entries(node: &Node) -> Result<Vec<Included>, Problem> {
    fn refuse<T>(span: Span, message: &str) -> Result<T, Problem> {
        Err(Problem::new(Kind::Reference, span, message).at("include"))
    }
    let items = match &node.value {
        Value::Null => return Ok(Vec::new()),
        Value::List(items) => items,
        _ => return refuse(node.used(), "must be a list"),
    };
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        let texts = |key: &str| match item.get(key) {
            None => Ok(Vec::new()),
            Some(node) => match &node.value {
                Value::Text(text) => Ok(vec![text.clone()]),
                Value::List(items) if items.iter().all(|it| it.as_str().is_some()) => Ok(items
                    .iter()
                    .filter_map(Node::as_str)
                    .map(str::to_owned)
                    .collect()),
                _ => refuse(node.used(), "expected a path or a list of paths"),
            },
        };
        let paths = match &item.value {
            Value::Text(path) => vec![path.clone()],
            Value::Map(_) => texts("path")?,
            _ => return refuse(item.used(), "expected a path or a mapping"),
        };
        let directory = item.get("project_directory").and_then(Node::as_str);
        all.push(Included {
            paths,
            directory: directory.filter(|it| !it.is_empty()).map(str::to_owned),
            env_files: texts("env_file")?,
            span: item.span,
        });
    }
    Ok(all)
}

/// Adds what another project brings. What both have must be equal.
fn import(from: Node, into: &mut Node) -> Result<(), Problem> {
    let span = into.span;
    let (Value::Map(mut from), Some(into)) = (from.value, into.as_map_mut()) else {
        return Ok(());
    };
    for kind in [
        "services", "volumes", "networks", "secrets", "configs", "models",
    ] {
        let Some(Entry { key, node }) = from.shift_remove(kind) else {
            continue;
        };
        let empty = || Entry::new(key, Node::new(Value::Map(Map::new()), node.span));
        let target = into.entry(kind.to_owned()).or_insert_with(empty);
        let Some(target) = target.node.as_map_mut() else {
            return Err(Problem::new(Kind::Schema, span, "must be a mapping").at(kind));
        };
        for (name, entry) in node.into_map() {
            match target.get(&name) {
                Some(known) if !same(&known.node, &entry.node) => {
                    let message = "an included project has another one of this name";
                    return Err(Problem::new(Kind::Merge, known.key, message)
                        .at(format!("{kind}.{name}"))
                        .related(entry.key, "this one is included"));
                }
                Some(_) => {}
                None => drop(target.insert(name, entry)),
            }
        }
    }
    Ok(())
}
