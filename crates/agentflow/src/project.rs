//! The graphs of a project: those that the configuration names, or the built-in ones.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use agentflow_declarative::{
    Environment, LoadedGraph, Memories,
    diagnostic::{Colour, Diagnostics},
};
use agentflow_mcp::Pool;
use agentflow_types::{Error, Result};

use crate::{config::Config, host::Hosted, logging, models::Models, recollection::Recollection};

/// The project that is served without a configuration: graph id and file.
pub const BUILT_IN: [(&str, &str); 2] = [
    ("agent", include_str!("builtin/agent.yaml")),
    ("review", include_str!("builtin/review.yaml")),
];

fn colour() -> Colour {
    if logging::colour() {
        Colour::Ansi
    } else {
        Colour::Plain
    }
}

/// What graph files are given beside models.
#[derive(Clone, Default)]
pub struct Given {
    /// Connections to MCP servers.
    pub mcp: Pool,
    /// Long-term memory; `None` if the configuration keeps none.
    pub memory: Option<Recollection>,
}

fn environment(models: &Models, given: &Given) -> Environment {
    let memory = given.memory.clone();
    Environment {
        mcp: given.mcp.clone(),
        memory: memory.map(|memory| Arc::new(memory) as Arc<dyn Memories>),
        ..Environment::with_models(models.registry.clone(), models.default.clone())
    }
}

fn hosted(id: &str, loaded: LoadedGraph) -> (String, Hosted) {
    let hosted = Hosted {
        graph: loaded.graph,
        name: id.to_owned(),
        description: loaded.description,
    };
    (id.to_owned(), hosted)
}

/// The built-in graphs.
///
/// # Errors
/// Never for the files as shipped; a test loads them.
pub fn built_in(environment: &Environment) -> Result<BTreeMap<String, Hosted>> {
    let load = |(id, text): (&str, &str)| {
        let loaded = agentflow_declarative::load_text(&format!("{id}.yaml"), text, environment)
            .map_err(|report| Error::bug(report.render(Colour::Plain)))?;
        Ok(hosted(id, loaded))
    };
    BUILT_IN.into_iter().map(load).collect()
}

/// Loads the graphs that the configuration names; warnings go to stderr.
///
/// # Errors
/// `Invalid` with the report of all mistakes in all files.
pub fn load(config: &Config, models: &Models, given: &Given) -> Result<BTreeMap<String, Hosted>> {
    let environment = environment(models, given);
    if config.graphs.is_empty() {
        return built_in(&environment);
    }
    let mut graphs = BTreeMap::new();
    let mut reports = Vec::new();
    for (id, path) in &config.graphs {
        match agentflow_declarative::load(path, &environment) {
            Ok(loaded) => {
                warn(&loaded.warnings);
                graphs.extend([hosted(id, loaded)]);
            }
            Err(report) => reports.push(report.render(colour())),
        }
    }
    match reports.is_empty() {
        true => Ok(graphs),
        false => Err(Error::invalid(format!(
            "graph files have mistakes\n{}",
            reports.join("\n")
        ))),
    }
}

fn warn(warnings: &Diagnostics) {
    if !warnings.is_empty() {
        eprintln!("{}", warnings.render(colour()));
    }
}

/// Checks one graph file: the rendered warnings, or the rendered report.
///
/// # Errors
/// The report.
pub fn check(path: &Path, models: &Models, given: &Given) -> std::result::Result<String, String> {
    match agentflow_declarative::load(path, &environment(models, given)) {
        Ok(loaded) => Ok(loaded.warnings.render(colour())),
        Err(report) => Err(report.render(colour())),
    }
}

/// Writes the template of a project into `dir`; returns the files.
///
/// # Errors
/// `Conflict` if one of the files exists; nothing is written then.
pub fn write(dir: &Path) -> Result<Vec<PathBuf>> {
    let files: Vec<(PathBuf, String)> = agentflow_declarative::project_template()
        .into_iter()
        .map(|(path, text)| (dir.join(path), text.to_owned()))
        .collect();
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists()) {
        return Err(
            Error::conflict("a file of that name exists; choose an empty folder")
                .with("path", path.display()),
        );
    }
    for (path, text) in &files {
        let failed = |err: std::io::Error| {
            Error::invalid("the file cannot be written")
                .with("path", path.display())
                .source_err(err)
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(path, text).map_err(failed)?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Models {
        Models {
            registry: Default::default(),
            default: None,
        }
    }

    #[test]
    fn built_in_graphs_load() {
        let graphs = built_in(&Environment::default()).unwrap();
        assert_eq!(graphs.keys().collect::<Vec<_>>(), ["agent", "review"]);
    }

    #[test]
    fn a_written_project_checks_and_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let written = write(dir.path()).unwrap();
        let graphs: Vec<_> = written
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
            .collect();
        assert!(!graphs.is_empty());
        for graph in graphs {
            check(graph, &none(), &Given::default()).unwrap();
        }
        let err = write(dir.path()).unwrap_err();
        assert_eq!(err.kind(), agentflow_types::ErrorKind::Conflict);
    }
}
