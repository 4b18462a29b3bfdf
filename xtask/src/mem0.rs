//! Mem0's published clients, for Python and JavaScript, and its program, against the real server.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    install,
    shell::{built, program, run},
    suites::Scratch,
    summary::{Outcome, counted},
    workers::{Program, debug},
};

/// What the clients show: the server's first key.
const KEY: &str = "a-key-for-the-clients-of-mem0-that-is-long-enough";

/// What our server shows to the stand-in for Qdrant.
const QDRANT_KEY: &str = "a-key-for-the-index-of-vectors";

/// What the model server answers to, and makes vectors with.
const MODEL: &str = "openai:test-model";

/// All clients, with the embedded database and index.
pub fn embedded() -> Result<Outcome> {
    built()?;
    clients("SQLite", None)
}

/// The same with PostgreSQL, and the index on the stand-in for Qdrant, over TLS and with a key.
pub fn postgres() -> Result<Outcome> {
    install::servers()?;
    built()?;
    let scratch = Scratch::new("clients-mem0-certs")?;
    let folder = scratch.path();
    run(program(debug("agentflow")).arg("certs").arg(folder))?;
    let key = folder.join("qdrant-key");
    fs::write(&key, QDRANT_KEY)?;
    let database = Program::start(&mut program(debug("agentflow-testkit-postgres")))?;
    let database = Remote {
        url: database.ready["url"].as_str().context("no url")?.to_owned(),
        _database: database,
        qdrant: Program::start(
            program(debug("agentflow-testkit-qdrant"))
                .arg("--api-key-file")
                .arg(&key)
                .arg("--cert")
                .arg(folder.join("server.pem"))
                .arg("--key")
                .arg(folder.join("server.key")),
        )?,
        ca: folder.join("ca.pem"),
        key,
    };
    clients("PostgreSQL and Qdrant", Some(&database))
}

/// A database and an index of vectors on servers.
struct Remote {
    url: String,
    _database: Program,
    qdrant: Program,
    ca: PathBuf,
    key: PathBuf,
}

fn clients(deployment: &str, database: Option<&Remote>) -> Result<Outcome> {
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
fn serve(folder: &Path, models: &str, remote: Option<&Remote>) -> Result<Program> {
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
    if let Some(remote) = remote {
        let url = remote.qdrant.ready["url"].as_str().context("no url")?;
        command
            .env("DATABASE_URL", &remote.url)
            .env("QDRANT_URL", url)
            .env("QDRANT_API_KEY_FILE", &remote.key)
            .env("AGENTFLOW_QDRANT__CA_FILE", &remote.ca);
    }
    Program::start(&mut command)
}
