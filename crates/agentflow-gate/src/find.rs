//! Which files are looked at.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use crate::compose::Files;

/// Deepest folder below one that was named.
pub const MAX_DEPTH: usize = 32;
/// Most folders that are looked into.
pub const MAX_FOLDERS: usize = 20_000;

/// Names that Docker looks for, in its order.
pub(crate) const DEFAULTS: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
];
/// Names that Docker lays over them.
pub(crate) const OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];
/// Middle parts of names of overlays that are checked with the file beside them.
const STAGES: [&str; 3] = ["prod", "production", "staging"];
/// Folders that hold what others wrote.
const FOREIGN: [&str; 8] = [
    ".git",
    "node_modules",
    "target",
    ".venv",
    "venv",
    "__pycache__",
    "vendor",
    "site-packages",
];

/// Something to check.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A Compose file and those laid over it.
    Compose(Vec<PathBuf>),
    /// A Dockerfile.
    Dockerfile(PathBuf),
    /// A file of variables.
    DotEnv(PathBuf),
    /// `agentflow.toml`.
    AgentFlow(PathBuf),
    /// `langgraph.json`.
    LangGraph(PathBuf),
    /// A configuration of Mem0.
    Mem0(PathBuf),
    /// What git keeps of a working copy.
    Repository(PathBuf),
}

/// What a file is by its name; a Compose file if it is YAML that says nothing else.
pub fn of_file(path: &Path) -> Option<Target> {
    let name = path.file_name()?.to_str()?;
    let lower = name.to_ascii_lowercase();
    let path = path.to_owned();
    let is_data = [".json", ".yaml", ".yml"]
        .iter()
        .any(|it| lower.ends_with(it));
    if lower == "dockerfile"
        || lower == "containerfile"
        || lower.starts_with("dockerfile.")
        || lower.ends_with(".dockerfile")
    {
        return Some(Target::Dockerfile(path));
    }
    if is_dotenv(&lower) {
        return Some(Target::DotEnv(path));
    }
    match lower.as_str() {
        "agentflow.toml" => return Some(Target::AgentFlow(path)),
        "langgraph.json" => return Some(Target::LangGraph(path)),
        _ if lower.contains("mem0") && is_data => return Some(Target::Mem0(path)),
        _ => {}
    }
    (lower.ends_with(".yaml") || lower.ends_with(".yml")).then(|| Target::Compose(vec![path]))
}

/// A file of variables that is in use; examples are none.
fn is_dotenv(name: &str) -> bool {
    let example = ["example", "sample", "template", "dist"];
    (name == ".env" || name.starts_with(".env.") || name.ends_with(".env"))
        && !example.iter().any(|it| name.ends_with(it))
}

fn is_compose(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".yaml").or(name.strip_suffix(".yml")) else {
        return false;
    };
    stem == "compose"
        || stem.starts_with("compose.")
        || stem.starts_with("docker-compose")
        || stem.ends_with(".compose")
        || stem.ends_with("-compose")
}

/// Everything in a folder and below it.
///
/// # Errors
/// The folder cannot be read.
pub fn in_folder(files: &dyn Files, folder: &Path) -> io::Result<Vec<Target>> {
    let mut found = Vec::new();
    let mut waiting = vec![(folder.to_owned(), 0)];
    let mut looked = 0;
    while let Some((folder, depth)) = waiting.pop() {
        looked += 1;
        if looked > MAX_FOLDERS {
            let message = format!("there are more than {MAX_FOLDERS} folders; name fewer");
            return Err(io::Error::other(message));
        }
        let listed = match files.list(&folder) {
            Ok(listed) => listed,
            // One folder that is shut does not hide the others.
            Err(_) if depth > 0 => continue,
            Err(error) => return Err(error),
        };
        let mut names = BTreeSet::new();
        for entry in &listed {
            let Some(name) = entry.path.file_name().and_then(|it| it.to_str()) else {
                continue;
            };
            match entry.is_dir {
                true if depth < MAX_DEPTH && !FOREIGN.contains(&name) => {
                    waiting.push((entry.path.clone(), depth + 1));
                }
                true => {}
                false => {
                    names.insert(name);
                }
            }
        }
        let git = folder.join(".git");
        if files.is_dir(&git) || files.is_file(&git) {
            found.push(Target::Repository(folder.clone()));
        }
        compose(&folder, &names, &mut found);
        for name in &names {
            match of_file(&folder.join(name)) {
                Some(Target::Compose(_)) | None => {}
                Some(target) => found.push(target),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The projects of one folder.
fn compose(folder: &Path, names: &BTreeSet<&str>, found: &mut Vec<Target>) {
    let first = |of: &[&str]| {
        of.iter()
            .find(|it| names.contains(**it))
            .map(|it| folder.join(it))
    };
    let Some(base) = first(&DEFAULTS) else {
        let alone = names.iter().filter(|it| is_compose(it));
        found.extend(alone.map(|it| Target::Compose(vec![folder.join(it)])));
        return;
    };
    let over = first(&OVERRIDES);
    found.push(Target::Compose(
        std::iter::once(base.clone()).chain(over).collect(),
    ));
    for name in names {
        let stem = name.strip_suffix(".yaml").or(name.strip_suffix(".yml"));
        let stem = stem.unwrap_or_default();
        let stage = stem
            .strip_prefix("compose.")
            .or(stem.strip_prefix("docker-compose."));
        if stage.is_some_and(|it| STAGES.contains(&it)) {
            found.push(Target::Compose(vec![base.clone(), folder.join(name)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::InMemory;

    #[test]
    fn a_folder_holds_projects_and_other_files() {
        let files = InMemory::default()
            .with("/p/compose.yaml", "")
            .with("/p/docker-compose.yml", "")
            .with("/p/compose.override.yml", "")
            .with("/p/compose.prod.yaml", "")
            .with("/p/compose.test.yaml", "")
            .with("/p/.env.example", "")
            .with("/p/prod.env", "")
            .with("/p/node_modules/x/compose.yaml", "")
            .with("/p/sub/my-compose.yml", "")
            .with("/p/sub/Dockerfile", "")
            .with("/p/sub/values.yaml", "");
        let at = PathBuf::from;
        assert_eq!(
            in_folder(&files, Path::new("/p")).expect("it is a folder"),
            [
                Target::Compose(vec![at("/p/compose.yaml"), at("/p/compose.override.yml")]),
                Target::Compose(vec![at("/p/compose.yaml"), at("/p/compose.prod.yaml")]),
                Target::Compose(vec![at("/p/sub/my-compose.yml")]),
                Target::Dockerfile(at("/p/sub/Dockerfile")),
                Target::DotEnv(at("/p/prod.env")),
            ]
        );
    }
}
