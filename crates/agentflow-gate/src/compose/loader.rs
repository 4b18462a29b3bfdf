//! The order of a load.

use std::{
    collections::HashMap,
    path::{Path as FilePath, PathBuf},
    rc::Rc,
};

use super::{
    Environment, Files, Loaded, Paths, Project, Request, Variables,
    canonical::{self, Unreadable},
    dotenv, fill,
    interpolate::{self, Filler, MAX_FILLED},
    merge, normalize, resolve, schema, unicity,
};
use crate::{
    problem::{Kind, Problem},
    source::{self, Sources, Span},
    tree::{Entry, Map, Node, Path, Value},
    yaml::{self, Document},
};

/// Most files that one load reads, each counted as often as it is laid over others.
pub const MAX_FILES: usize = 1000;

/// Loads a project.
pub fn load(files: &dyn Files, request: &Request) -> Loaded {
    let mut loader = Loader::new(files, request);
    let project = loader.project().map_err(|failure| failure.0);
    Loaded {
        sources: loader.sources,
        project,
        warnings: loader.warnings,
    }
}

/// What makes a project none.
pub(super) struct Failure(Vec<Problem>);

impl Failure {
    /// Adds which place of the project led to the file that is wrong.
    pub(super) fn brought_in_at(mut self, span: Span) -> Self {
        for problem in &mut self.0 {
            problem.related.push((span, "brought in here".to_owned()));
            if problem.span == Span::default() {
                problem.span = span;
            }
        }
        self
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// Where a file is read from.
#[derive(Clone)]
pub(super) struct Place {
    /// The folder that its files are found from, absolute.
    pub(super) folder: String,
    /// The folder that its paths become relative to.
    pub(super) shown: String,
    pub(super) environment: Rc<Environment>,
    pub(super) paths: Paths,
}

/// What is done with a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Part of a project.
    Project,
    /// Holds services that others extend: they are followed and checked there.
    Base,
}

pub(super) struct Loader<'a> {
    pub(super) files: &'a dyn Files,
    request: &'a Request,
    pub(super) sources: Sources,
    pub(super) warnings: Vec<Problem>,
    texts: HashMap<PathBuf, u32>,
    loaded: usize,
    /// Bytes that variables may still bring in.
    left: usize,
    /// Values that `extends` copied.
    pub(super) copied: usize,
    /// Files that others extend, with what they reset.
    pub(super) bases: HashMap<String, Rc<Document>>,
}

impl<'a> Loader<'a> {
    fn new(files: &'a dyn Files, request: &'a Request) -> Self {
        Self {
            files,
            request,
            sources: Sources::default(),
            warnings: Vec::new(),
            texts: HashMap::new(),
            loaded: 0,
            left: MAX_FILLED,
            copied: 0,
            bases: HashMap::new(),
        }
    }

    fn project(&mut self) -> Result<Project, Failure> {
        let nowhere = Span::default();
        let Some(first) = self.request.files.first() else {
            return Err(Problem::new(Kind::File, nowhere, "no Compose file is given").into());
        };
        let folder = match &self.request.directory {
            Some(folder) => folder.clone(),
            None => first
                .parent()
                .map(FilePath::to_path_buf)
                .unwrap_or_default(),
        };
        let folder = folder.to_string_lossy().into_owned();
        let mut environment = self.environment(&folder)?;
        let name = self.name(&folder, &environment);
        let profiles = match self.request.profiles.as_slice() {
            [] => {
                let set = environment
                    .get("COMPOSE_PROFILES")
                    .map_or("", String::as_str);
                set.split(',').map(|it| it.trim().to_owned()).collect()
            }
            asked => asked.to_vec(),
        };
        if self.request.variables == Variables::Leave {
            // Docker then knows no variables but those of included projects.
            environment.clear();
        }
        environment.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
        let environment = Rc::new(environment);
        let place = Place {
            shown: folder.clone(),
            folder,
            environment: environment.clone(),
            paths: self.request.paths,
        };
        let names = self.request.files.iter();
        let names: Vec<String> = names.map(|it| it.to_string_lossy().into_owned()).collect();
        let mut root = self.layers(&names, &place, &[])?;
        let span = root.span;
        let empty = root.as_map().is_none_or(Map::is_empty);
        if empty {
            return Err(Problem::new(Kind::Schema, span, "the Compose file is empty").into());
        }
        if let Some(map) = root.as_map_mut() {
            let named = Node::text(name.clone(), span);
            let key = map.get("name").map_or(span, |entry| entry.key);
            map.insert("name".to_owned(), Entry::new(key, named));
            normalize::normalize(map, &name, &environment);
        }
        Ok(Project {
            name,
            root,
            environment: Rc::unwrap_or_clone(environment),
            profiles,
        })
    }

    fn environment(&mut self, folder: &str) -> Result<Environment, Problem> {
        let mut environment = self.request.environment.clone();
        match &self.request.env_files {
            Some(paths) => {
                for path in paths.clone() {
                    self.variables(&path, &mut environment)?;
                }
            }
            None => {
                let path = PathBuf::from(folder).join(".env");
                if self.files.read(&path).is_ok() {
                    self.variables(&path, &mut environment)?;
                }
            }
        }
        Ok(environment)
    }

    /// Adds the variables of a file that are not set yet.
    pub(super) fn variables(
        &mut self,
        path: &FilePath,
        environment: &mut Environment,
    ) -> Result<(), Problem> {
        let file = self.text(path, Span::default())?;
        let text = self
            .sources
            .file(file)
            .map_or("", |file| file.text.as_str());
        let outer = |name: &str| environment.get(name).cloned();
        let read = dotenv::parse(text, &outer).map_err(|message| {
            let message = format!("`{}`: {message}", path.display());
            let span = Span {
                file,
                start: 0,
                end: 0,
            };
            Problem::new(Kind::Interpolation, span, message)
        })?;
        for (name, value) in read {
            environment.entry(name).or_insert(value);
        }
        Ok(())
    }

    /// The name of the project: asked for, set, written in a file, or that of the folder.
    fn name(&mut self, folder: &str, environment: &Environment) -> String {
        let asked = self.request.name.clone();
        let set = || {
            environment
                .get("COMPOSE_PROJECT_NAME")
                .filter(|it| !it.is_empty())
                .cloned()
        };
        if let Some(name) = asked.or_else(set) {
            return name;
        }
        let mut written = None;
        for path in self.request.files.clone() {
            let Ok(file) = self.text(&path, Span::default()) else {
                continue;
            };
            for document in yaml::read(&self.sources, file).unwrap_or_default() {
                if let Some(name) = document.root.get("name").and_then(Node::as_str) {
                    written = Some(name.to_owned());
                }
            }
        }
        if let (Some(name), Variables::Fill) = (&written, self.request.variables) {
            let lookup = |name: &str| environment.get(name).cloned();
            let filled = Filler::new(&lookup, self.left).fill(name);
            // What cannot be filled in is refused where the file is read.
            written = Some(filled.unwrap_or_default());
        }
        let folder = folder
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default();
        let name = written
            .filter(|it| !it.is_empty())
            .unwrap_or_else(|| folder.to_owned());
        let kept = name.to_lowercase();
        let kept = kept
            .chars()
            .filter(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-'));
        kept.collect::<String>()
            .trim_start_matches(['_', '-'])
            .to_owned()
    }

    /// Reads a file once.
    fn text(&mut self, path: &FilePath, from: Span) -> Result<u32, Problem> {
        if let Some(file) = self.texts.get(path) {
            return Ok(*file);
        }
        let name = path.to_string_lossy().into_owned();
        let bytes = self.files.read(path).map_err(|error| {
            Problem::new(
                Kind::File,
                from,
                format!("`{name}` cannot be read: {error}"),
            )
        })?;
        let (text, wrong) = match source::decode(&bytes) {
            Ok(text) => (text, None),
            Err(wrong) => (String::new(), Some(wrong)),
        };
        let file = self.sources.add(name, text);
        if let Some((message, at)) = wrong {
            let kind = match bytes.len() > source::MAX_FILE_BYTES {
                true => Kind::Limit,
                false => Kind::Encoding,
            };
            let message = format!("{message} (byte {at})");
            return Err(Problem::new(
                kind,
                Span {
                    file,
                    start: 0,
                    end: 0,
                },
                message,
            ));
        }
        self.texts.insert(path.to_path_buf(), file);
        Ok(file)
    }

    /// Files laid over each other, with defaults and paths.
    pub(super) fn layers(
        &mut self,
        names: &[String],
        place: &Place,
        included: &[String],
    ) -> Result<Node, Failure> {
        let mut root = Node::new(Value::Map(Map::new()), Span::default());
        for name in names {
            root = self.layer(name, root, place, included, Role::Project)?.root;
        }
        fill::defaults(&mut root, &Path::ROOT)?;
        let mut found = Vec::new();
        fill::check(&root, &Path::ROOT, &mut found);
        if !found.is_empty() {
            return Err(Failure(found));
        }
        if place.paths == Paths::Resolve {
            let base = resolve::Base {
                folder: &place.shown,
                home: self.home(),
            };
            resolve::resolve(&mut root, &Path::ROOT, &base)?;
        }
        values(&mut root, &place.environment);
        Ok(root)
    }

    /// A file laid over what was read before, and what it resets.
    pub(super) fn layer(
        &mut self,
        name: &str,
        mut root: Node,
        place: &Place,
        included: &[String],
        role: Role,
    ) -> Result<Document, Failure> {
        self.loaded += 1;
        if self.loaded > MAX_FILES {
            let message = format!("more than {MAX_FILES} files are read");
            return Err(Problem::new(Kind::Limit, root.span, message).into());
        }
        let file = self.text(FilePath::new(name), Span::default())?;
        let mut resets = Vec::new();
        for mut document in yaml::read(&self.sources, file)? {
            let span = document.root.span;
            if document.root.as_map().is_none() {
                let message = "a Compose file is a mapping";
                return Err(Problem::new(Kind::Syntax, span, message).into());
            }
            if root.span == Span::default() {
                root.span = span;
            }
            if self.request.variables == Variables::Fill {
                self.interpolate(&mut document.root, place)?;
            }
            if role == Role::Project {
                self.follow_extends(&mut document, name, place)?;
            }
            forget(&mut root, &document.resets, &mut Vec::new());
            if role == Role::Project {
                let mut seen = included.to_vec();
                seen.push(name.to_owned());
                self.follow_includes(&mut document.root, place, &seen)?;
            }
            root = merge::merge(root, document.root, &Path::ROOT)?;
            unicity::enforce(&mut root, &Path::ROOT)?;
            if role == Role::Project {
                let found = schema::check(&root);
                if !found.is_empty() {
                    return Err(Failure(found));
                }
                self.drop_version(&mut root);
            }
            let unreadable = match self.request.variables {
                Variables::Fill => Unreadable::Refuse,
                Variables::Leave => Unreadable::Keep,
            };
            canonical::expand(&mut root, &Path::ROOT, unreadable)?;
            drop_empty_dns(&mut root);
            unicity::enforce(&mut root, &Path::ROOT)?;
            resets = document.resets;
        }
        Ok(Document { root, resets })
    }

    /// What `~` stands for.
    pub(super) fn home(&self) -> Option<&str> {
        self.request.environment.get("HOME").map(String::as_str)
    }

    fn interpolate(&mut self, root: &mut Node, place: &Place) -> Result<(), Problem> {
        let lookup = |name: &str| place.environment.get(name).cloned();
        let mut filler = Filler::new(&lookup, self.left);
        let warnings = &mut self.warnings;
        let filled = interpolate::fill(root, &Path::ROOT, &mut filler, &mut |name, node, path| {
            let message = format!("the variable `{name}` is not set; it becomes empty");
            let warning = Problem::new(Kind::Interpolation, node.span, message);
            warnings.push(warning.at(path.dotted()));
        });
        self.left = filler.left;
        filled
    }

    fn drop_version(&mut self, root: &mut Node) {
        let version = root
            .as_map_mut()
            .and_then(|map| map.shift_remove("version"));
        if let Some(version) = version {
            let message = "`version` is obsolete and ignored; remove it";
            self.warnings
                .push(Problem::new(Kind::Schema, version.span(), message).at("version"));
        }
    }
}

/// Removes what the paths name. As in Docker Compose, nothing within a list is removed.
pub(super) fn forget(node: &mut Node, paths: &[Vec<String>], here: &mut Vec<String>) {
    if paths.is_empty() {
        return;
    }
    let Some(map) = node.as_map_mut() else {
        return;
    };
    map.retain(|name, entry| {
        here.push(name.clone());
        let matches = |path: &Vec<String>| {
            path.len() == here.len()
                && path
                    .iter()
                    .zip(&*here)
                    .all(|(p, name)| p == "*" || p == name)
        };
        let gone = paths.iter().any(matches);
        let below = |path: &Vec<String>| path.len() > here.len();
        if !gone && paths.iter().any(below) {
            forget(&mut entry.node, paths, here);
        }
        here.pop();
        !gone
    });
}

/// Empty texts in `services.*.dns` come from variables without value.
fn drop_empty_dns(root: &mut Node) {
    let services = root.as_map_mut().and_then(|map| map.get_mut("services"));
    let Some(services) = services.and_then(|entry| entry.node.as_map_mut()) else {
        return;
    };
    for service in services
        .values_mut()
        .filter_map(|entry| entry.node.as_map_mut())
    {
        if let Some(Value::List(items)) = service.get_mut("dns").map(|it| &mut it.node.value) {
            items.retain(|item| !item.is_null() && item.as_str() != Some(""));
        }
    }
}

/// Values that stand in the environment: variables that are named only, configs and secrets.
fn values(root: &mut Node, environment: &Environment) {
    let Some(map) = root.as_map_mut() else {
        return;
    };
    if let Some(services) = map.get_mut("services").and_then(|it| it.node.as_map_mut()) {
        for service in services
            .values_mut()
            .filter_map(|entry| entry.node.as_map_mut())
        {
            let variables = service.get_mut("environment").map(|it| &mut it.node.value);
            let Some(Value::List(items)) = variables else {
                continue;
            };
            for item in items {
                if let Value::Text(text) = &mut item.value
                    && let Some(value) = environment.get(text.as_str())
                {
                    *text = format!("{text}={value}");
                }
            }
        }
    }
    for (kind, key) in [("secrets", "x-#value"), ("configs", "content")] {
        let Some(all) = map.get_mut(kind).and_then(|it| it.node.as_map_mut()) else {
            continue;
        };
        for one in all.values_mut().filter_map(|entry| entry.node.as_map_mut()) {
            let name = one.get("environment").and_then(|it| it.node.as_str());
            let found = name.and_then(|name| environment.get(name)).cloned();
            if let (Some(value), Some(entry)) = (found, one.get("environment").cloned()) {
                let node = Node::text(value, entry.node.span);
                one.insert(key.to_owned(), Entry::new(entry.key, node));
            }
        }
    }
}
