//! A server with small native graphs, for the client tests, the crash driver and the benches.
//!
//! It is also an example of a Rust program that brings its own graphs:
//! `cargo run --example fixture_server -- --port 8123 --data ./data`.

mod agents;
mod chat;
mod graphs;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use agentflow::{
    app::{App, Keep},
    config::{self, Config, Sources},
    logging,
};
use agentflow_declarative::Environment;
use agentflow_types::{Error, Result};
use agentflow_workers::Project;
use clap::Parser;

#[derive(Parser)]
// A test may set what every test sets.
#[command(args_override_self = true)]
struct Args {
    /// Port on 127.0.0.1; 0 for any free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Data folder; without one nothing is kept.
    #[arg(long)]
    data: Option<PathBuf>,
    /// An `agentflow.toml` instead of the options about storage, runs and authentication.
    #[arg(long)]
    config: Option<PathBuf>,
    /// PostgreSQL database instead of a folder.
    #[arg(long)]
    database_url: Option<String>,
    /// Address of that database past a pooler.
    #[arg(long, default_value = "")]
    listen_url: String,
    /// How long a run belongs to a server that is gone.
    #[arg(long, default_value_t = 30)]
    lease_seconds: u64,
    /// Guards the doors; this key is an operator.
    #[arg(long)]
    bootstrap_key: Option<String>,
    /// Issuer of tokens that are let in.
    #[arg(long, requires = "jwks")]
    issuer: Option<String>,
    /// File with the issuer's keys.
    #[arg(long)]
    jwks: Option<PathBuf>,
    /// Most connections to that database.
    #[arg(long, default_value_t = 20)]
    max_connections: usize,
    /// How long a request waits for a connection to it.
    #[arg(long, default_value_t = 10)]
    acquire_timeout_seconds: u64,
    /// How long a statement may take.
    #[arg(long, default_value_t = 30)]
    statement_timeout_seconds: u64,
    /// How long running work may go on after a stop signal.
    #[arg(long, default_value_t = 30)]
    drain_seconds: u64,
    /// Log filter.
    #[arg(long, default_value = "warn")]
    log: String,
    /// Runs at once.
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// A further graph: its id, `=`, and its file.
    #[arg(long)]
    graph: Vec<String>,
    /// A LangGraph project; its graphs take the place of those of the same id.
    #[arg(long)]
    project: Option<PathBuf>,
    /// Interpreter for it.
    #[arg(long, default_value = "")]
    python: String,
    /// Processes for it.
    #[arg(long, default_value_t = 1)]
    processes: i64,
    /// Attempts per run that make no checkpoint.
    #[arg(long, default_value_t = 3)]
    max_attempts: u32,
}

/// What the file says.
fn from_file(file: &Path) -> Result<Config> {
    let sources = Sources {
        file: Some(file),
        env: &|_| None,
        env_names: &[],
        flags: &[],
        cwd: Path::new("."),
    };
    config::load(&sources).map(|(config, _)| config)
}

/// What the options say.
fn from_options(args: &Args) -> Result<Config> {
    let mut config = config::embedded(&args.data.clone().unwrap_or_default())?;
    config.storage.url = args.database_url.clone().unwrap_or_default();
    config.storage.listen_url = args.listen_url.clone();
    config.storage.max_connections = args.max_connections;
    config.storage.acquire_timeout_seconds = args.acquire_timeout_seconds;
    config.storage.statement_timeout_seconds = args.statement_timeout_seconds;
    config.server.drain_seconds = args.drain_seconds;
    config.runs.lease_seconds = args.lease_seconds;
    config.runs.concurrency = args.concurrency;
    config.runs.max_attempts = args.max_attempts;
    if let Some(key) = &args.bootstrap_key {
        config.auth.mode = config::Mode::On;
        config.auth.bootstrap_key = key.clone();
        config.auth.cache_seconds = 0;
    }
    if let (Some(issuer), Some(jwks)) = (&args.issuer, &args.jwks) {
        config.auth.jwt.issuer = issuer.clone();
        config.auth.jwt.jwks_file = jwks.clone();
        config.auth.jwt.audience = vec!["agentflow".into()];
        config.auth.jwt.default_role = "user".into();
    }
    config.workers.python = args.python.clone();
    config.workers.processes = args.processes;
    Ok(config)
}

async fn serve(args: Args, started: Instant) -> Result<()> {
    let mut config = match &args.config {
        Some(file) => from_file(file)?,
        None => from_options(&args)?,
    };
    let keep = if args.data.is_some() || config.storage.is_remote() {
        Keep::OnDisk
    } else {
        Keep::Nothing
    };
    config.server.port = args.port;
    config.port_is_explicit = true;
    config.log.level = args.log.clone();
    let _exporting = logging::start(&config.log, &config.traces)?;
    let mut app = App::new(config).keep(keep);
    let project = args.project.map(|path| Project::read(&path)).transpose()?;
    let in_python = |id: &str| {
        let graphs = project.iter().flat_map(|project| &project.graphs);
        graphs.into_iter().any(|graph| graph.id == id)
    };
    for (id, hosted) in agentflow::project::built_in(&Default::default())? {
        if id == "review" && !in_python(&id) {
            app = app.graph(&id, hosted.graph);
        }
    }
    for (id, graph) in graphs::all()?
        .into_iter()
        .chain(agents::all()?)
        .chain(chat::all()?)
    {
        if !in_python(id) {
            app = app.graph(id, graph);
        }
    }
    if let Some(project) = project {
        app = app.project(project);
    }
    let environment = Environment {
        mcp: app.mcp().clone(),
        ..Environment::default()
    };
    for given in &args.graph {
        let named = given.split_once('=');
        let (id, file) = named.ok_or_else(|| Error::invalid("--graph is ID=FILE"))?;
        app = app.graph(id, agentflow_declarative::load(file, &environment)?.graph);
    }
    let server = app.start().await?;
    println!("{}", server.ready(started).json());
    server.until_signal().await
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Args::parse(), Instant::now()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:?}");
            ExitCode::FAILURE
        }
    }
}
