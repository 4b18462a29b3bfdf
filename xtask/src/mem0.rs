//! Mem0's published clients, for Python and JavaScript, and its program, against the real server.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    install,
    shell::program,
    suites::Scratch,
    summary::{Outcome, counted},
    workers::{self, Program, debug},
};

/// What the clients show: the server's first key.
const KEY: &str = "a-key-for-the-clients-of-mem0-that-is-long-enough";

/// What the model server answers to, and makes vectors with.
const MODEL: &str = "openai:test-model";

/// All clients, with the embedded database and index.
pub fn embedded() -> Result<Outcome> {
    workers::build()?;
    clients("SQLite", None)
}

/// The same with PostgreSQL.
pub fn postgres() -> Result<Outcome> {
    install::servers()?;
    workers::build()?;
    let database = Program::start(&mut program(debug("agentflow-testkit-postgres")))?;
    let url = database.ready["url"].as_str().context("no url")?;
    clients("PostgreSQL", Some(url))
}

fn clients(deployment: &str, database: Option<&str>) -> Result<Outcome> {
    let python = install::mem0_python()?;
    let node = install::mem0_node()?;
    let scratch = Scratch::new("clients-mem0")?;
    let mut model = program(debug("agentflow-testkit-model-server"));
    let model = Program::start(model.args(["--script", "clients/mem0/script.json"]))?;
    let models = model.ready["openai_base_url"].as_str().context("no url")?;
    let server = serve(scratch.path(), models, database)?;
    let url = server.ready["api"].as_str().context("no api")?;
    let suite = |command: &mut Command| {
        command.env("AGENTFLOW_URL", url);
        command.env("AGENTFLOW_MEM0_KEY", KEY);
        counted(command.env("AGENTFLOW_DEPLOYMENT", deployment))
    };
    let mut outcome = suite(
        program(python)
            .args(["-m", "pytest", "-p", "no:cacheprovider", "--timeout", "180"])
            .args(["-o", "asyncio_mode=auto", "--tb", "short", "--color", "no"])
            .arg("clients/mem0"),
    )?;
    let more = suite(
        program("node")
            .args(["--test", "--test-force-exit", "--test-reporter=tap"])
            .current_dir(node),
    )?;
    outcome.tally += more.tally;
    outcome.lines.extend(more.lines);
    Ok(outcome)
}

/// A server that lets the clients in by the key, and calls the model server.
fn serve(folder: &Path, models: &str, database: Option<&str>) -> Result<Program> {
    let key = folder.join("key");
    fs::write(&key, KEY)?;
    let mut command = program(debug("agentflow"));
    command
        .args(["dev", "--port", "0", "--json", "--data"])
        .arg(folder.join("data"))
        .current_dir(folder)
        .env("AGENTFLOW_AUTH__MODE", "on")
        .env("AGENTFLOW_AUTH__BOOTSTRAP_KEY_FILE", key)
        // Webhooks come to the suites on this machine.
        .env("AGENTFLOW_WEBHOOKS__ALLOW_NETWORKS", "127.0.0.0/8")
        .env("AGENTFLOW_MEMORY__MODEL", MODEL)
        .env("AGENTFLOW_MEMORY__EMBEDDING", MODEL)
        .env("OPENAI_API_KEY", "test")
        .env("OPENAI_BASE_URL", models);
    if let Some(url) = database {
        command.env("DATABASE_URL", url);
    }
    Program::start(&mut command)
}
