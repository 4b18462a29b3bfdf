//! Compose files, as Docker Compose 2.40 resolves them.
//!
//! [`load`] follows the order of the reference implementation. Per document: fill variables in,
//! follow `extends`, forget what `!reset` and `!override` name, follow `include`, lay it over what
//! was read before, make lists unique, check the schema, write short forms out. Then, once:
//! defaults, checks, paths, names. [`Project::check`] tells what is wrong with the whole.

mod canonical;
mod consistency;
mod dotenv;
mod extends;
mod files;
mod fill;
mod include;
mod interpolate;
mod loader;
mod merge;
mod normalize;
mod port;
mod resolve;
mod schema;
mod unicity;
mod units;
mod volume;

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Value as Json;

pub use self::{
    extends::{MAX_COPIED, MAX_EXTENDS},
    files::{Disk, Files, InMemory, Listed, MAX_LISTED},
    interpolate::{MAX_FILLED, MAX_NESTED},
    loader::{MAX_FILES, load},
    port::MAX_PORTS,
};
use crate::{
    problem::Problem,
    source::Sources,
    tree::{Node, Path, Value},
};

/// Variables by name.
pub type Environment = BTreeMap<String, String>;

/// Whether variables in values are filled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variables {
    /// As `docker compose config` does.
    #[default]
    Fill,
    /// As `docker compose config --no-interpolate` does.
    Leave,
}

/// Whether relative paths are made absolute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paths {
    /// As `docker compose config` does.
    #[default]
    Resolve,
    /// As `docker compose config --no-path-resolution` does.
    Leave,
}

/// What to load.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The Compose file, then the files laid over it. Absolute paths.
    pub files: Vec<PathBuf>,
    /// Where relative paths start and `.env` is looked for; the folder of the first file if
    /// absent. An absolute path.
    pub directory: Option<PathBuf>,
    /// The name of the project; from the files or the folder if absent.
    pub name: Option<String>,
    /// Variables of the process. They win over those of files.
    pub environment: Environment,
    /// Files of variables; `.env` of the folder, if there is one, if absent.
    pub env_files: Option<Vec<PathBuf>>,
    /// Profiles whose services count; those that `COMPOSE_PROFILES` names if there are none.
    pub profiles: Vec<String>,
    /// Whether variables in values are filled in.
    pub variables: Variables,
    /// Whether relative paths are made absolute.
    pub paths: Paths,
}

/// What a load found.
#[derive(Debug)]
pub struct Loaded {
    /// Every file that was read.
    pub sources: Sources,
    /// The project, or what makes it none.
    pub project: Result<Project, Vec<Problem>>,
    /// What is suspicious and still loads.
    pub warnings: Vec<Problem>,
}

/// A resolved project.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// All of it, short forms written out.
    pub root: Node,
    /// Variables of the process and of files.
    pub environment: Environment,
    profiles: Vec<String>,
}

impl Project {
    /// The services that its profiles switch on, by name.
    pub fn services(&self) -> impl Iterator<Item = (&str, &Node)> {
        let services = self.root.get("services").and_then(Node::as_map);
        let all = services.into_iter().flatten();
        all.map(|(name, entry)| (name.as_str(), &entry.node))
            .filter(|(_, service)| self.is_on(service))
    }

    /// Whether the profiles switch a service on.
    pub fn is_on(&self, service: &Node) -> bool {
        let Some(wanted) = service.get("profiles").and_then(Node::as_list) else {
            return true;
        };
        let has = |name: &str| self.profiles.iter().any(|it| it == name || it == "*");
        wanted.is_empty() || wanted.iter().filter_map(Node::as_str).any(has)
    }

    /// What is wrong with the project as a whole; nothing if Docker Compose takes it.
    pub fn check(&self) -> Vec<Problem> {
        consistency::check(self)
    }

    /// The model as `docker compose config --format json` prints it: an empty list is null where
    /// Docker loses it.
    pub fn to_json(&self) -> Json {
        print(&self.root, &Path::ROOT)
    }
}

fn print(node: &Node, path: &Path<'_>) -> Json {
    match &node.value {
        Value::Map(map) => {
            let entries = map.iter();
            let printed = entries.map(|(key, it)| (key.clone(), print(&it.node, &path.child(key))));
            Json::Object(printed.collect())
        }
        Value::List(items) if items.is_empty() && !unicity::stays_list(path) => Json::Null,
        Value::List(items) => Json::Array(
            items
                .iter()
                .map(|it| print(it, &path.child("[]")))
                .collect(),
        ),
        _ => node.to_json(),
    }
}
