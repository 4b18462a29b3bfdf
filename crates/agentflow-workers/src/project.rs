//! A project as `langgraph.json` describes it.

use std::path::{Path, PathBuf};

use agentflow_types::{Error, Result, Value};
use serde_json::{Map, Value as Json};

/// Name of the file.
pub const FILE_NAME: &str = "langgraph.json";
/// Largest file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// One graph of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphEntry {
    /// Its id.
    pub id: String,
    /// Where it is: `./file.py:variable` or `module:variable`.
    pub path: String,
    /// Description for people.
    pub description: Option<String>,
}

/// What `langgraph.json` says.
#[derive(Clone, Debug)]
pub struct Project {
    /// The file, absolute.
    pub file: PathBuf,
    /// Its graphs, sorted by id.
    pub graphs: Vec<GraphEntry>,
    /// Folders and packages that it needs.
    pub dependencies: Vec<String>,
    /// The whole file.
    pub raw: Map<String, Json>,
}

impl Project {
    /// Reads a file; `folder` or the file itself.
    ///
    /// # Errors
    /// `NotFound` if there is none, `Invalid` with the reason if it is not one of LangGraph's.
    pub fn read(path: &Path) -> Result<Self> {
        let file = match path.is_dir() {
            true => path.join(FILE_NAME),
            false => path.to_owned(),
        };
        let wrong = |message: String| Error::invalid(message).with("file", file.display());
        let file =
            std::path::absolute(&file).map_err(|err| wrong("not a path".into()).source_err(err))?;
        let size = std::fs::metadata(&file).map_err(|err| {
            Error::not_found("langgraph.json cannot be read")
                .with("file", file.display())
                .source_err(err)
        })?;
        if size.len() > MAX_BYTES {
            return Err(wrong("langgraph.json is larger than 1 MiB".into()));
        }
        let text = std::fs::read_to_string(&file)
            .map_err(|err| wrong("langgraph.json cannot be read".into()).source_err(err))?;
        let raw: Map<String, Json> = serde_json::from_str(&text)
            .map_err(|err| wrong(format!("langgraph.json is not a JSON object: {err}")))?;
        let graphs = raw.get("graphs").and_then(Json::as_object);
        let graphs = graphs.ok_or_else(|| {
            wrong("langgraph.json needs \"graphs\": an object from id to path".into())
        })?;
        let mut entries = Vec::with_capacity(graphs.len());
        for (id, given) in graphs {
            entries.push(entry(id, given).map_err(|err| err.with("file", file.display()))?);
        }
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        let dependencies = raw.get("dependencies").and_then(Json::as_array);
        let dependencies = dependencies.into_iter().flatten().filter_map(Json::as_str);
        Ok(Self {
            graphs: entries,
            dependencies: dependencies.map(str::to_owned).collect(),
            raw,
            file,
        })
    }

    /// The folder that its paths refer to.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("."))
    }

    /// The section `store`, as workers are told.
    pub(crate) fn store(&self) -> Value {
        self.raw.get("store").map_or(Value::Null, Value::from_json)
    }
}

fn entry(id: &str, given: &Json) -> Result<GraphEntry> {
    let path = given
        .as_str()
        .or_else(|| given.get("path").and_then(Json::as_str));
    let path = path.ok_or_else(|| {
        Error::invalid("a graph needs a path such as \"./agent.py:graph\"").with("graph", id)
    })?;
    let description = given.get("description").and_then(Json::as_str);
    Ok(GraphEntry {
        id: id.to_owned(),
        path: path.to_owned(),
        description: description.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(text: &str) -> Result<Project> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), text).unwrap();
        Project::read(dir.path())
    }

    #[test]
    fn graphs_are_texts_or_objects() {
        let text = r#"{"dependencies": ["."], "graphs": {
            "b": {"path": "./b.py:make", "description": "B"}, "a": "pkg.a:graph"}}"#;
        let read = project(text).unwrap();
        let paths: Vec<_> = read.graphs.iter().map(|g| (&*g.id, &*g.path)).collect();
        assert_eq!(paths, [("a", "pkg.a:graph"), ("b", "./b.py:make")]);
        assert_eq!(read.graphs[1].description.as_deref(), Some("B"));
        assert_eq!(read.dependencies, ["."]);
    }

    #[test]
    fn mistakes_name_the_file() {
        for text in ["", "[]", "{}", r#"{"graphs": {"a": 1}}"#] {
            let err = project(text).unwrap_err();
            assert!(err.to_string().contains(FILE_NAME), "{err}");
        }
        let none = Project::read(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(none.kind(), agentflow_types::ErrorKind::NotFound);
    }
}
