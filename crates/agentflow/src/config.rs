//! Configuration: defaults, file, environment, flags.
//!
//! `agentflow.default.toml` is embedded and *is* the defaults; its shape is the list of known
//! keys. [`load`] merges the sources, remembers where each value came from, and checks the result
//! into a [`Config`].

mod auth;
mod documents;
mod file;
mod log;
mod mcp;
pub(crate) mod memory;
mod merge;
mod models;
mod qdrant;
mod redis;
mod runs;
mod server;
mod storage;
mod vectors;
mod webhooks;
mod workers;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use agentflow_types::{Error, Result};
use serde::Deserialize;

use storage::checked_storage;

pub use auth::{AuditSection, AuthSection, Cors, JwtSection, LimitsSection, Mode, TlsSection};
pub use documents::DocumentsSection;
pub use file::find;
pub use log::{Log, LogFormat, Traces};
pub use mcp::{Mcp, McpClient};
pub use memory::{MemorySection, Reembedding};
pub(crate) use merge::suggestion;
pub use merge::{Merged, Origin};
pub use models::{Models, Provider};
pub use qdrant::Qdrant;
pub use redis::{Checkpointer, Redis};
pub use runs::{Crons, Missed, Runs};
pub use server::{Profile, Server};
pub use storage::{Storage, Synchronous};
pub use vectors::Vectors;
pub use webhooks::Webhooks;
pub use workers::WorkersSection;

/// The defaults, fully commented.
pub const DEFAULTS: &str = include_str!("config/agentflow.default.toml");

/// Name of the configuration file.
pub const FILE_NAME: &str = "agentflow.toml";

/// Checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is demanded.
    pub profile: Profile,
    /// Listener.
    pub server: Server,
    /// Who is let in.
    pub auth: AuthSection,
    /// Limits of keys and tenants.
    pub limits: LimitsSection,
    /// The log of changes.
    pub audit: AuditSection,
    /// Database.
    pub storage: Storage,
    /// Redis.
    pub redis: Redis,
    /// Qdrant.
    pub qdrant: Qdrant,
    /// Vectors of the embedded database.
    pub vectors: Vectors,
    /// Run execution.
    pub runs: Runs,
    /// Webhooks.
    pub webhooks: Webhooks,
    /// Crons.
    pub crons: Crons,
    /// MCP.
    pub mcp: Mcp,
    /// Models.
    pub models: Models,
    /// Memory.
    pub memory: MemorySection,
    /// Documents.
    pub documents: DocumentsSection,
    /// Graph files by graph id, absolute.
    pub graphs: BTreeMap<String, PathBuf>,
    /// Graphs in Python.
    pub workers: WorkersSection,
    /// Logging.
    pub log: Log,
    /// Traces.
    pub traces: Traces,
    /// Whether the port is somebody's wish rather than the default.
    pub port_is_explicit: bool,
    /// Whether somebody chose the port of documents.
    pub documents_port_is_explicit: bool,
    /// Folder that relative paths refer to.
    pub base: PathBuf,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
}

/// What [`load`] reads besides the defaults.
pub struct Sources<'a> {
    /// The file that was asked for, or found.
    pub file: Option<&'a Path>,
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// All names of the environment.
    pub env_names: &'a [String],
    /// Flags: dotted key and value.
    pub flags: &'a [(String, toml::Value)],
    /// Current folder.
    pub cwd: &'a Path,
}

/// Reads and checks the configuration.
///
/// # Errors
/// `Invalid` with file, line and a suggestion for syntax errors, unknown keys and wrong values.
pub fn load(sources: &Sources<'_>) -> Result<(Config, Merged)> {
    let mut merged = Merged::defaults();
    let base = match sources.file {
        Some(path) => {
            let text = file::read(path)?;
            merged.add_file(path, &text)?;
            path.parent()
                .map_or_else(|| sources.cwd.to_owned(), Path::to_owned)
        }
        None => sources.cwd.to_owned(),
    };
    let base = if base.as_os_str().is_empty() {
        sources.cwd.to_owned()
    } else {
        base
    };
    merged.add_env(sources.env_names, sources.env)?;
    merged.add_flags(sources.flags)?;
    let config = check(&merged, base, sources.file.map(Path::to_owned))?;
    Ok((config, merged))
}

/// The defaults with data in `data`, for programs that embed the server.
///
/// # Errors
/// Never for the defaults as shipped; the type leaves room for checks.
pub fn embedded(data: &Path) -> Result<Config> {
    let flags = [(
        "storage.path".to_owned(),
        toml::Value::String(data.display().to_string()),
    )];
    let sources = Sources {
        file: None,
        env: &|_| None,
        env_names: &[],
        flags: &flags,
        cwd: Path::new("."),
    };
    load(&sources).map(|(config, _)| config)
}

#[derive(Deserialize)]
struct Raw {
    profile: Profile,
    server: Server,
    auth: AuthSection,
    limits: LimitsSection,
    audit: AuditSection,
    storage: Storage,
    redis: Redis,
    qdrant: Qdrant,
    vectors: Vectors,
    runs: Runs,
    webhooks: Webhooks,
    crons: Crons,
    mcp: Mcp,
    models: Models,
    memory: MemorySection,
    documents: DocumentsSection,
    graphs: BTreeMap<String, PathBuf>,
    workers: WorkersSection,
    log: Log,
    traces: Traces,
}

fn check(merged: &Merged, base: PathBuf, file: Option<PathBuf>) -> Result<Config> {
    let raw: Raw = merged.deserialize()?;
    let positive = |value: usize, key: &'static str| match value {
        0 => Err(Error::invalid("must be at least 1").with("key", key)),
        _ => Ok(()),
    };
    positive(raw.runs.concurrency, "runs.concurrency")?;
    positive(raw.storage.readers, "storage.readers")?;
    positive(raw.storage.max_connections, "storage.max_connections")?;
    positive(raw.server.max_connections, "server.max_connections")?;
    positive(raw.runs.max_attempts as usize, "runs.max_attempts")?;
    positive(raw.runs.lease_seconds as usize, "runs.lease_seconds")?;
    positive(raw.server.max_headers, "server.max_headers")?;
    positive(raw.server.max_depth, "server.max_depth")?;
    positive(
        raw.server.heartbeat_seconds as usize,
        "server.heartbeat_seconds",
    )?;
    positive(raw.server.stall_seconds as usize, "server.stall_seconds")?;
    guarded(&raw)?;
    raw.auth.check()?;
    raw.server.tls.check()?;
    let (server, auth) = checked_doors(raw.server, raw.auth, &base)?;
    positive(raw.webhooks.max_attempts as usize, "webhooks.max_attempts")?;
    positive(
        raw.webhooks.timeout_seconds as usize,
        "webhooks.timeout_seconds",
    )?;
    let storage = checked_storage(raw.storage, &base)?;
    let webhooks = raw.webhooks.checked(&base)?;
    Ok(Config {
        profile: raw.profile,
        server,
        auth,
        limits: raw.limits,
        audit: raw.audit,
        storage,
        redis: raw.redis.checked(&base)?,
        qdrant: raw.qdrant.checked(&base)?,
        vectors: raw.vectors.checked()?,
        runs: raw.runs,
        webhooks,
        crons: raw.crons,
        mcp: raw.mcp.check()?,
        memory: raw.memory.checked(&base, &raw.models)?,
        documents: raw.documents.checked(&raw.models)?,
        models: raw.models.checked()?,
        graphs: raw
            .graphs
            .into_iter()
            .map(|(id, path)| (id, base.join(path)))
            .collect(),
        workers: raw.workers.checked(&base)?,
        log: raw.log,
        traces: raw.traces,
        port_is_explicit: merged.origin("server.port") != Some(&Origin::Default),
        documents_port_is_explicit: merged.origin("documents.port") != Some(&Origin::Default),
        base,
        file,
    })
}

/// The sections with paths relative to `base`.
///
/// # Errors
/// `Invalid` if a value is given twice, itself and as a file.
fn checked_doors(
    mut server: Server,
    mut auth: AuthSection,
    base: &Path,
) -> Result<(Server, AuthSection)> {
    let is_given = |file: &Path| !file.as_os_str().is_empty();
    one_of(
        ("auth.bootstrap_key", !auth.bootstrap_key.is_empty()),
        (
            "auth.bootstrap_key_file",
            is_given(&auth.bootstrap_key_file),
        ),
    )?;
    for file in [
        &mut auth.bootstrap_key_file,
        &mut auth.jwt.jwks_file,
        &mut server.tls.cert_file,
        &mut server.tls.key_file,
        &mut server.tls.client_ca_file,
    ] {
        if is_given(file) {
            *file = base.join(&*file);
        }
    }
    Ok((server, auth))
}

/// Nobody unknown may reach a server from elsewhere, nor one in production.
///
/// # Errors
/// `Invalid` if authentication is off and must be on.
fn guarded(raw: &Raw) -> Result<()> {
    if raw.auth.is_on() {
        return Ok(());
    }
    let how = "set auth.mode = \"on\", and make a key with `agentflow keys create`";
    if raw.profile == Profile::Production {
        return Err(Error::invalid(format!(
            "in production callers must be known: {how}"
        )));
    }
    if !raw.server.host.is_loopback() {
        return Err(Error::invalid(format!(
            "without authentication only loopback addresses may be served: use 127.0.0.1, or {how}"
        ))
        .with("server.host", raw.server.host));
    }
    Ok(())
}

/// # Errors
/// `Invalid` if both are given.
fn one_of(first: (&str, bool), second: (&str, bool)) -> Result<()> {
    match first.1 && second.1 {
        true => Err(Error::invalid(format!(
            "give {} or {}, not both",
            first.0, second.0
        ))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
