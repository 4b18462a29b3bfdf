//! Python graphs behind the real server: templates, failures, the SDK's own suite, kills.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    fixture::{self, Fixture},
    install,
    shell::{built, program, root, run, target},
    suites::{self, Scratch},
    summary::{Outcome, counted},
};

/// A program that prints one JSON line when it is ready; killed on drop.
pub(crate) struct Program {
    child: Child,
    /// The line.
    pub(crate) ready: Value,
}

impl Program {
    /// Starts it and waits for the line.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let ready = serde_json::from_str(&line).with_context(|| format!("not ready: {line:?}"))?;
        Ok(Self { child, ready })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // An interrupt lets it tidy up behind itself.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        let _ = self.child.wait();
    }
}

/// A binary that [`built`] builds.
pub(crate) fn debug(name: &str) -> PathBuf {
    target().join("debug").join(name)
}

fn templates_with(database: Option<&str>) -> Result<Outcome> {
    let python = install::worker_python()?;
    built()?;
    let mut command = program(&python);
    command
        .args(["-m", "pytest", "-p", "no:cacheprovider", "--timeout", "120"])
        .args(["--tb", "short", "--color", "no", "clients/workers"])
        .env("AGENTFLOW_BINARY", debug("agentflow"))
        .env(
            "AGENTFLOW_MODEL_SERVER",
            debug("agentflow-testkit-model-server"),
        )
        .env("AGENTFLOW_WORKER_PYTHON", &python);
    if let Some(url) = database {
        command.env("AGENTFLOW_TEST_DATABASE_URL", url);
    }
    counted(&mut command)
}

/// Sample projects and processes that die, with the embedded database.
pub fn templates() -> Result<Outcome> {
    templates_with(None)
}

/// The same with PostgreSQL.
pub fn templates_postgres() -> Result<Outcome> {
    install::servers()?;
    built()?;
    let database = Program::start(&mut program(debug("agentflow-testkit-postgres")))?;
    let url = database.ready["url"].as_str().context("no url")?;
    templates_with(Some(url))
}

/// LangGraph's integration suite of its Python SDK, with the suite's own graphs in Python.
pub fn sdk_suite() -> Result<Outcome> {
    let python = install::worker_python()?;
    let suite = install::sdk_suite()?;
    let sources = suite.ancestors().nth(2).context("no sources of the SDK")?;
    let binary = fixture::build()?;
    let data = Scratch::new("worker-suite")?;
    let project = sources.join("integration").display().to_string();
    let interpreter = python.display().to_string();
    let options = ["--project", &project, "--python", &interpreter];
    let server = Fixture::start_with(&binary, data.path(), 0, &options)?;
    suites::integration_against(&suite, &server)
}

/// What CI kills of a server and its processes.
pub const SHORT_CRASH: [&str; 8] = [
    "--runs",
    "60",
    "--threads",
    "6",
    "--kills",
    "6",
    "--between-kills-ms",
    "2500",
];

/// Kills a server and the processes that execute its graphs, at random moments under load.
pub fn crash(args: &[&str]) -> Result<Outcome> {
    let python = install::worker_python()?;
    let python = python.display().to_string();
    let project = root().join("clients/workers/crash").display().to_string();
    let ours = [
        "--project",
        &project,
        "--python",
        &python,
        "--max-attempts",
        "50",
    ];
    let all: Vec<&str> = ours.into_iter().chain(args.iter().copied()).collect();
    suites::crash(&all)
}

/// The tests of the Python package, its types and its style.
pub fn package() -> Result<Outcome> {
    let python = install::worker_python()?;
    let folder = root().join("workers").join("python");
    let tool = |name: &str, args: &[&str]| {
        let mut command = program(&python);
        command.args(["-m", name]).args(args).current_dir(&folder);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    run(&mut tool("ruff", &["check", "--no-cache", "src", "tests"]))?;
    run(&mut tool("mypy", &["--cache-dir", "/dev/null"]))?;
    let paths = ["-p", "no:cacheprovider", "--color", "no"];
    counted(tool("pytest", &paths).env("PYTHONPATH", path(&folder.join("src"))))
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
