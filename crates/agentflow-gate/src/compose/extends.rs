//! `extends`: a service laid over another.

use std::rc::Rc;

use super::{
    files::{join, parent, relative},
    loader::{Failure, Loader, Place, Role, forget},
    merge, resolve,
};
use crate::{
    problem::{Kind, Problem},
    source::Span,
    tree::{Map, Node, Path, Value},
    yaml::Document,
};

/// Longest chain of services that extend one another.
pub const MAX_EXTENDS: usize = 64;
/// Most values that `extends` copies in one load.
pub const MAX_COPIED: usize = 2_000_000;

/// What a service extends.
struct Wanted {
    service: String,
    file: Option<String>,
    span: Span,
}

impl Loader<'_> {
    /// Follows every `extends` of a document.
    pub(super) fn follow_extends(
        &mut self,
        document: &mut Document,
        file: &str,
        place: &Place,
    ) -> Result<(), Failure> {
        let resets = &document.resets;
        let Some(entry) = document
            .root
            .as_map_mut()
            .and_then(|map| map.get_mut("services"))
        else {
            return Ok(());
        };
        let span = entry.node.used();
        let Some(services) = entry.node.as_map_mut() else {
            let message = "must be a mapping";
            return Err(Problem::new(Kind::Schema, span, message)
                .at("services")
                .into());
        };
        let names: Vec<String> = services.keys().cloned().collect();
        for name in names {
            self.extend(&name, services, file, place, resets, &mut Vec::new())?;
        }
        Ok(())
    }

    /// Follows the `extends` of one service; the service is whole after.
    fn extend(
        &mut self,
        name: &str,
        services: &mut Map,
        file: &str,
        place: &Place,
        resets: &[Vec<String>],
        chain: &mut Vec<(String, String)>,
    ) -> Result<(), Failure> {
        let Some(entry) = services.get(name) else {
            return Ok(());
        };
        let span = entry.node.used();
        match &entry.node.value {
            Value::Null => return Ok(()),
            Value::Map(_) => {}
            _ => {
                let path = format!("services.{name}");
                return Err(Problem::new(Kind::Schema, span, "must be a mapping")
                    .at(path)
                    .into());
            }
        }
        let Some(wanted) = wanted(name, &entry.node)? else {
            return Ok(());
        };
        let step = (
            wanted.file.clone().unwrap_or_else(|| file.to_owned()),
            name.to_owned(),
        );
        if chain.contains(&step) || chain.len() >= MAX_EXTENDS {
            let (kind, message) = match chain.contains(&step) {
                true => (Kind::Reference, "this service extends itself".to_owned()),
                false => (
                    Kind::Limit,
                    format!("more than {MAX_EXTENDS} services extend one another"),
                ),
            };
            return Err(Problem::new(kind, wanted.span, message)
                .at(format!("services.{name}"))
                .into());
        }
        chain.push(step);
        let base = match &wanted.file {
            Some(other) => self.base_of_file(&wanted, other, place, chain)?,
            None => {
                if !services.contains_key(&wanted.service) {
                    return Err(absent(name, &wanted).into());
                }
                self.extend(&wanted.service, services, file, place, resets, chain)?;
                services
                    .get(&wanted.service)
                    .map(|entry| entry.node.clone())
            }
        };
        chain.pop();
        let Some(base) = base.filter(|base| !base.is_null()) else {
            return Ok(());
        };
        self.count(&base, wanted.span)?;
        let base = without(base, name, resets);
        if let Some(slot) = services.get_mut(name) {
            lay_over(base, &mut slot.node)?;
        }
        Ok(())
    }

    /// A service of another file, whole.
    fn base_of_file(
        &mut self,
        wanted: &Wanted,
        other: &str,
        place: &Place,
        chain: &mut Vec<(String, String)>,
    ) -> Result<Option<Node>, Failure> {
        let path = join(&place.folder, other);
        let key = format!("{}\0{path}", place.folder);
        let base = match self.bases.get(&key) {
            Some(base) => base.clone(),
            None => {
                let base = Rc::new(self.read_base(&path, wanted, place)?);
                self.bases.insert(key, base.clone());
                base
            }
        };
        let Some(services) = base.root.get("services").and_then(Node::as_map) else {
            let message = format!("`{other}` has no services");
            return Err(Problem::new(Kind::Reference, wanted.span, message).into());
        };
        let Some(service) = services.get(&wanted.service) else {
            return Err(absent(other, wanted).into());
        };
        if service.node.get("extends").is_none() {
            return Ok(Some(service.node.clone()));
        }
        // The service extends another one: only then are its neighbours needed.
        self.count(&base.root, wanted.span)?;
        let mut services = services.clone();
        self.extend(
            &wanted.service,
            &mut services,
            other,
            place,
            &base.resets,
            chain,
        )?;
        Ok(services
            .swap_remove(&wanted.service)
            .map(|entry| entry.node))
    }

    fn read_base(
        &mut self,
        path: &str,
        wanted: &Wanted,
        place: &Place,
    ) -> Result<Document, Failure> {
        let folder = match self.files.is_dir(std::path::Path::new(path)) {
            true => path.to_owned(),
            false => parent(path),
        };
        let shown = relative(&place.folder, &folder);
        let inner = Place {
            folder,
            shown: shown.clone(),
            ..place.clone()
        };
        let empty = Node::new(Value::Map(Map::new()), Span::default());
        let mut base = self
            .layer(path, empty, &inner, &[], Role::Base)
            .map_err(|failure| failure.brought_in_at(wanted.span))?;
        let from = resolve::Base {
            folder: &shown,
            home: self.home(),
        };
        resolve::resolve(&mut base.root, &Path::ROOT, &from)?;
        Ok(base)
    }

    fn count(&mut self, node: &Node, span: Span) -> Result<(), Problem> {
        self.copied += size(node);
        match self.copied > MAX_COPIED {
            true => {
                let message = format!("`extends` copies more than {MAX_COPIED} values");
                Err(Problem::new(Kind::Limit, span, message))
            }
            false => Ok(()),
        }
    }
}

/// Lays a service over what it extends.
fn lay_over(base: Node, service: &mut Node) -> Result<(), Problem> {
    let span = service.span;
    let over = std::mem::replace(service, Node::new(Value::Null, span));
    let path = Path::ROOT.child("services");
    let mut merged = merge::merge(base, over, &path.child("x"))?;
    if let Some(map) = merged.as_map_mut() {
        map.shift_remove("extends");
    }
    merged.span = span;
    *service = merged;
    Ok(())
}

fn wanted(name: &str, service: &Node) -> Result<Option<Wanted>, Problem> {
    let Some(extends) = service.get("extends") else {
        return Ok(None);
    };
    let span = extends.used();
    let refuse = |message: &str| {
        let path = format!("services.{name}.extends");
        Err(Problem::new(Kind::Reference, span, message).at(path))
    };
    match &extends.value {
        Value::Text(service) => Ok(Some(Wanted {
            service: service.clone(),
            file: None,
            span,
        })),
        Value::Map(map) => {
            let Some(service) = map.get("service").and_then(|entry| entry.node.as_str()) else {
                return refuse("`service` is missing");
            };
            let file = match map.get("file").map(|entry| &entry.node.value) {
                None | Some(Value::Null) => None,
                Some(Value::Text(file)) => Some(file.clone()),
                Some(_) => return refuse("`file` must be a path"),
            };
            let service = service.to_owned();
            Ok(Some(Wanted {
                service,
                file,
                span,
            }))
        }
        _ => refuse("expected a service"),
    }
}

fn absent(whose: &str, wanted: &Wanted) -> Problem {
    let message = format!(
        "`{whose}`: there is no service `{}` to extend",
        wanted.service
    );
    Problem::new(Kind::Reference, wanted.span, message)
}

/// The base without what the extending document resets for this service.
fn without(base: Node, name: &str, resets: &[Vec<String>]) -> Node {
    if resets.is_empty() {
        return base;
    }
    let mut base = base;
    let mut here = vec!["services".to_owned(), name.to_owned()];
    forget(&mut base, resets, &mut here);
    base
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(map) => map.values().map(|entry| size(&entry.node)).sum(),
        _ => 0,
    }
}
