//! R2R's published client against the real server.

use anyhow::{Context as _, Result};

use crate::{
    install,
    shell::{built, program},
    suites::Scratch,
    summary::{Outcome, counted},
    workers::{Program, debug},
};

/// What the model server makes vectors with.
const MODEL: &str = "openai:test-model";

/// With the embedded database and index.
pub fn embedded() -> Result<Outcome> {
    built()?;
    client(None)
}

/// With PostgreSQL and the stand-in for Qdrant.
pub fn postgres() -> Result<Outcome> {
    install::servers()?;
    built()?;
    let database = Program::start(&mut program(debug("agentflow-testkit-postgres")))?;
    let qdrant = Program::start(&mut program(debug("agentflow-testkit-qdrant")))?;
    client(Some((&database, &qdrant)))
}

fn client(remote: Option<(&Program, &Program)>) -> Result<Outcome> {
    let python = install::r2r_python()?;
    let scratch = Scratch::new("clients-r2r")?;
    let mut model = program(debug("agentflow-testkit-model-server"));
    let model = Program::start(model.args(["--script", "clients/mem0/script.json"]))?;
    let models = model.ready["openai_base_url"].as_str().context("no url")?;
    let mut command = program(debug("agentflow"));
    command
        .args(["dev", "--port", "0", "--json", "--data"])
        .arg(scratch.path().join("data"))
        .current_dir(scratch.path())
        .env("AGENTFLOW_DOCUMENTS__ENABLED", "true")
        // The suite sends one document slower than that.
        .env("AGENTFLOW_SERVER__BODY_TIMEOUT_SECONDS", "5")
        .env("AGENTFLOW_DOCUMENTS__EMBEDDING", MODEL)
        .env("OPENAI_API_KEY", "test")
        .env("OPENAI_BASE_URL", models);
    if let Some((database, qdrant)) = remote {
        let url = |one: &Program| {
            one.ready["url"]
                .as_str()
                .context("no url")
                .map(str::to_owned)
        };
        command
            .env("DATABASE_URL", url(database)?)
            .env("QDRANT_URL", url(qdrant)?);
    }
    let server = Program::start(&mut command)?;
    let url = server.ready["documents"].as_str().context("no documents")?;
    counted(
        program(python)
            .args(["-m", "pytest", "-p", "no:cacheprovider", "--timeout", "180"])
            .args(["-o", "asyncio_mode=auto", "--tb", "short", "--color", "no"])
            .arg("clients/r2r")
            .env("AGENTFLOW_R2R_URL", url),
    )
}
