//! What of a project will work, what will not, and why.

use std::time::Duration;

use agentflow_storage::memory::Memory;
use agentflow_types::Result;
use serde_json::Value as Json;

use crate::{PoolConfig, Project, Reload, Services, Workers, WorkersConfig, python};

/// Whether something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It does.
    Works,
    /// It does, otherwise than in LangGraph's server, or in part.
    Differs,
    /// It does not.
    Fails,
}

impl Verdict {
    /// The word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Differs => "differs",
            Self::Fails => "fails",
        }
    }
}

/// What was found out about one part of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which part, for example `graph agent`.
    pub subject: String,
    /// Whether it works.
    pub verdict: Verdict,
    /// Why, and what to do.
    pub told: String,
}

impl Finding {
    fn new(subject: impl Into<String>, verdict: Verdict, told: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            verdict,
            told: told.into(),
        }
    }
}

/// Sections that only say how images are built.
const FOR_IMAGES: [&str; 9] = [
    "dockerfile_lines",
    "pip_config_file",
    "pip_installer",
    "base_image",
    "image_distro",
    "node_version",
    "keep_pkg_tools",
    "api_version",
    "source",
];
/// Sections that say what is checked elsewhere.
const ELSEWHERE: [&str; 5] = ["graphs", "dependencies", "env", "python_version", "$schema"];
/// Endings of graphs in JavaScript.
const SCRIPTS: [&str; 6] = [".ts", ".js", ".mts", ".mjs", ".tsx", ".jsx"];

/// Looks at a project and loads its graphs in a process of its own, with `python` or the
/// interpreter that would be used.
///
/// # Errors
/// If the check itself cannot be made; what is wrong with the project is a finding.
pub async fn check(project: &Project, configured: &str) -> Result<Vec<Finding>> {
    let mut findings = sections(project);
    findings.extend(environment(project));
    let scripts = project.graphs.iter().filter(|graph| is_script(&graph.path));
    findings.extend(scripts.map(|graph| {
        let told = "graphs in JavaScript need a worker for JavaScript, which does not exist yet; \
            docs/worker-protocol.md says how to write one";
        Finding::new(format!("graph {}", graph.id), Verdict::Fails, told)
    }));
    findings.extend(loading(project, configured).await?);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    Ok(findings)
}

fn is_script(path: &str) -> bool {
    let file = path.split(':').next().unwrap_or_default();
    SCRIPTS.iter().any(|ending| file.ends_with(ending))
}

fn sections(project: &Project) -> Vec<Finding> {
    let one = |(key, value): (&String, &Json)| section(key, value);
    project.raw.iter().filter_map(one).collect()
}

fn section(key: &str, value: &Json) -> Option<Finding> {
    let has = |inner: &str| value.get(inner).is_some();
    let (verdict, told) = match key {
        _ if value.is_null() || ELSEWHERE.contains(&key) => return None,
        "http" if has("app") => (
            Verdict::Fails,
            "custom routes (http.app) are not served: run that application beside AgentFlow, \
             under its own address",
        ),
        "http" => (
            Verdict::Differs,
            "settings of the listener are in agentflow.toml, [server] and [server.cors]",
        ),
        "auth" => (
            Verdict::Fails,
            "custom authentication is not executed: AgentFlow checks API keys, tokens and \
             sessions by itself (docs/auth.md); graphs see the user in \
             config[\"configurable\"][\"langgraph_auth_user\"]",
        ),
        "store" if has("index") => (
            Verdict::Differs,
            "items are stored and found by namespace and filter; a search with a query is not \
             ranked by meaning, and store.index is not used",
        ),
        "store" => (
            Verdict::Differs,
            "items live in the server's database; times to live are those that puts give",
        ),
        "checkpointer" => (
            Verdict::Differs,
            "checkpoints are in the server's database ([storage] in agentflow.toml)",
        ),
        "encryption" => (
            Verdict::Fails,
            "custom encryption is not executed: storage.encryption_key encrypts checkpoints",
        ),
        "ui" | "ui_config" => (
            Verdict::Fails,
            "components of a user interface are not served",
        ),
        "webhooks" => (
            Verdict::Differs,
            "webhooks are configured in agentflow.toml, [webhooks]",
        ),
        _ if FOR_IMAGES.contains(&key) => (
            Verdict::Works,
            "is about building images, and is passed over",
        ),
        _ => (Verdict::Differs, "is not known, and is passed over"),
    };
    Some(Finding::new(key, verdict, told))
}

fn environment(project: &Project) -> Option<Finding> {
    let file = project.raw.get("env")?.as_str()?;
    let path = project.folder().join(file);
    match path.is_file() {
        true => Some(Finding::new(
            "env",
            Verdict::Works,
            format!("read from {file}"),
        )),
        false => Some(Finding::new(
            "env",
            Verdict::Differs,
            format!("{file} does not exist; the graphs see the server's environment only"),
        )),
    }
}

async fn loading(project: &Project, configured: &str) -> Result<Vec<Finding>> {
    let python = python::interpreter(project, configured);
    let backend = Memory::open();
    let config = WorkersConfig {
        project: project.clone(),
        python: python.clone(),
        memory_bytes: None,
        pool: PoolConfig {
            drain: Duration::ZERO,
            ..PoolConfig::default()
        },
        reload: Reload::Never,
        remote: None,
    };
    let services = Services {
        checkpoints: backend.checkpoints,
        store: backend.store,
    };
    let workers = Workers::open(config, services)?;
    let loaded = workers.loaded().await;
    workers.close().await;
    let (graphs, notes) = match loaded {
        Ok(loaded) => loaded,
        Err(err) => {
            let told = format!(
                "{}\nthe interpreter is {}; `agentflow dev --install` makes a virtual environment \
                 with what the project needs",
                err.message(),
                python.display()
            );
            return Ok(vec![Finding::new("python", Verdict::Fails, told)]);
        }
    };
    let one = |(id, error): (String, Option<agentflow_types::Error>)| {
        let subject = format!("graph {id}");
        match error {
            None => Finding::new(subject, Verdict::Works, "loads"),
            Some(err) => Finding::new(
                subject,
                Verdict::Fails,
                format!("{}: {}", err.class_name(), err.message()),
            ),
        }
    };
    let is_python = |id: &str| {
        let graph = project.graphs.iter().find(|graph| graph.id == id);
        graph.is_some_and(|graph| !is_script(&graph.path))
    };
    let graphs = graphs.into_iter().filter(|(id, _)| is_python(id)).map(one);
    // What sections say is told above, in the same words for all.
    let told = |note: &String| !project.raw.keys().any(|key| note.starts_with(key.as_str()));
    let notes = notes.into_iter().filter(told);
    let notes = notes.map(|note| Finding::new("project", Verdict::Differs, note));
    Ok(graphs.chain(notes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_that_are_not_served_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"graphs": {"a": "./a.ts:graph"}, "http": {"app": "./x.py:app"},
            "auth": {"path": "./auth.py:auth"}, "store": {"index": {"dims": 3}},
            "python_version": "3.12", "dockerfile_lines": [], "novelty": 1, "env": ".env"}"#;
        std::fs::write(dir.path().join(crate::FILE_NAME), text).unwrap();
        let project = Project::read(dir.path()).unwrap();
        let mut told: Vec<_> = sections(&project)
            .into_iter()
            .chain(environment(&project))
            .map(|finding| (finding.subject, finding.verdict))
            .collect();
        told.sort();
        let expected = [
            ("auth", Verdict::Fails),
            ("dockerfile_lines", Verdict::Works),
            ("env", Verdict::Differs),
            ("http", Verdict::Fails),
            ("novelty", Verdict::Differs),
            ("store", Verdict::Differs),
        ];
        assert_eq!(
            told,
            expected.map(|(key, verdict)| (key.to_owned(), verdict))
        );
        assert!(is_script(&project.graphs[0].path));
    }
}
