//! Configuration: defaults, file, environment, flags.
//!
//! `agentflow.default.toml` is embedded and *is* the defaults; its shape is the list of known
//! keys. [`load`] merges the sources, remembers where each value came from, and checks the result
//! into a [`Config`].

mod auth;
mod file;
mod mcp;
pub(crate) mod memory;
mod merge;
mod qdrant;
mod redis;
mod webhooks;
mod workers;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use agentflow_types::{Error, Result};
use serde::Deserialize;

pub use auth::{AuditSection, AuthSection, Cors, JwtSection, LimitsSection, Mode, TlsSection};
pub use file::find;
pub use mcp::{Mcp, McpClient};
pub use memory::MemorySection;
pub use merge::{Merged, Origin};
pub use qdrant::Qdrant;
pub use redis::{Checkpointer, Redis};
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
    /// Folder that relative paths refer to.
    pub base: PathBuf,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
}

/// Listener.
#[derive(Clone, Debug, Deserialize)]
pub struct Server {
    /// Address.
    pub host: IpAddr,
    /// Port.
    pub port: u16,
    /// Largest request body in bytes.
    pub body_limit_bytes: usize,
    /// Largest request line with headers, in bytes.
    pub header_limit_bytes: usize,
    /// Most headers of a request.
    pub max_headers: usize,
    /// Most nested lists and objects of a body.
    pub max_depth: usize,
    /// How long headers may take to arrive, in seconds.
    pub header_timeout_seconds: u64,
    /// How long a body may take to arrive, in seconds.
    pub body_timeout_seconds: u64,
    /// Most connections at once.
    pub max_connections: usize,
    /// Pause between signs of life on a silent stream, in seconds.
    pub heartbeat_seconds: u64,
    /// How long a reader may leave what was written unread, in seconds.
    pub stall_seconds: u64,
    /// Frames that may wait for a slow reader.
    pub stream_buffer_frames: usize,
    /// Bytes of them.
    pub stream_buffer_bytes: usize,
    /// Bytes that the system may hold for the reader of one connection; 0 for as it likes.
    pub send_buffer_bytes: u32,
    /// Most subscriptions on one WebSocket.
    pub socket_subscriptions: usize,
    /// Whether a proxy in front speaks TLS.
    pub behind_tls: bool,
    /// Pages of other origins.
    pub cors: Cors,
    /// TLS of the listener.
    pub tls: TlsSection,
    /// Seconds that running work may go on after a stop signal.
    pub drain_seconds: u64,
}

/// What is demanded of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Anything goes.
    Dev,
    /// What a production must not do is refused.
    Production,
}

/// Database.
#[derive(Clone, Deserialize)]
pub struct Storage {
    /// Folder of the embedded database.
    pub path: PathBuf,
    /// Address of a PostgreSQL server; empty for the embedded database.
    pub url: String,
    /// File with the address; empty for none.
    pub url_file: PathBuf,
    /// File with the password; empty for the one in the address.
    pub password_file: PathBuf,
    /// Where wake-ups are listened for: empty, `off`, or an address.
    pub listen_url: String,
    /// File with that address; empty for none.
    pub listen_url_file: PathBuf,
    /// Most connections.
    pub max_connections: usize,
    /// How long a request waits for a connection, in seconds.
    pub acquire_timeout_seconds: u64,
    /// How long a statement may take, in seconds.
    pub statement_timeout_seconds: u64,
    /// A statement that takes longer is logged, in milliseconds.
    pub slow_statement_milliseconds: u64,
    /// Whether opening brings the tables up to date.
    pub migrate: bool,
    /// What has the checkpoints.
    pub checkpointer: Checkpointer,
    /// How long checkpoints stay in Redis after a thread's last one, in seconds; 0 for as long as
    /// the thread.
    pub checkpoint_ttl_seconds: u64,
    /// Key that checkpoints are encrypted with; empty for none.
    pub encryption_key: String,
    /// File with that key; empty for none.
    pub encryption_key_file: PathBuf,
    /// Flush policy.
    pub synchronous: Synchronous,
    /// Connections for reading.
    pub readers: usize,
}

impl Storage {
    /// Whether a PostgreSQL server holds the data.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        !self.url.is_empty() || !self.url_file.as_os_str().is_empty()
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Addresses may hold passwords.
        f.debug_struct("Storage")
            .field("path", &self.path)
            .field("url", &merge::masked(&self.url))
            .field("url_file", &self.url_file)
            .field("password_file", &self.password_file)
            .field("listen_url", &merge::masked(&self.listen_url))
            .field("listen_url_file", &self.listen_url_file)
            .field("max_connections", &self.max_connections)
            .field("migrate", &self.migrate)
            .field("checkpointer", &self.checkpointer)
            .field("checkpoint_ttl_seconds", &self.checkpoint_ttl_seconds)
            .field("synchronous", &self.synchronous)
            .field("readers", &self.readers)
            .finish_non_exhaustive()
    }
}

/// When SQLite flushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Synchronous {
    /// At checkpoints of the write-ahead log.
    Normal,
    /// At each commit.
    Full,
}

/// Run execution.
#[derive(Clone, Debug, Deserialize)]
pub struct Runs {
    /// Runs at once.
    pub concurrency: usize,
    /// Attempts per run that make no checkpoint before their server is lost.
    pub max_attempts: u32,
    /// How long a run belongs to a server that does not renew its claim, in seconds.
    pub lease_seconds: u64,
    /// Longest attempt in seconds.
    pub timeout_seconds: u64,
    /// Retention of events of ended runs in seconds.
    pub event_retention_seconds: u64,
    /// Bytes of the newest events that are held for those who listen.
    pub live_event_bytes: usize,
}

/// Crons.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Crons {
    /// What happens to firings that were missed.
    pub missed: Missed,
}

/// What happens to firings that were missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// All that a cron missed make one run.
    Once,
    /// They make no run.
    Skip,
    /// Each makes a run.
    All,
}

/// Models.
#[derive(Clone, Debug, Deserialize)]
pub struct Models {
    /// Default model, `provider:model`; empty for what the environment offers.
    pub default: String,
    /// Whether to look for an Ollama server at start.
    pub detect_ollama: bool,
    /// Providers by name.
    pub providers: BTreeMap<String, Provider>,
}

/// A model provider.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// `openai`, `anthropic` or `ollama`.
    pub kind: String,
    /// Base URL; the provider's own if absent.
    pub base_url: Option<String>,
    /// Key.
    pub api_key: Option<String>,
    /// File that holds the key.
    pub api_key_file: Option<PathBuf>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider")
            .field("kind", &self.kind)
            .field("base_url", &self.base_url)
            .field("api_key", &self.api_key.as_ref().map(|_| "***"))
            .field("api_key_file", &self.api_key_file)
            .finish()
    }
}

/// Traces.
#[derive(Clone, Debug, Deserialize)]
pub struct Traces {
    /// Address of a collector; empty for none.
    pub endpoint: String,
    /// Share of traces that are sent, 0 to 1.
    pub sample_ratio: f64,
}

/// Logging.
#[derive(Clone, Debug, Deserialize)]
pub struct Log {
    /// Filter.
    pub level: String,
    /// Format.
    pub format: LogFormat,
}

/// Log format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// JSON.
    Json,
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
    runs: Runs,
    webhooks: Webhooks,
    crons: Crons,
    mcp: Mcp,
    models: Models,
    memory: MemorySection,
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
        runs: raw.runs,
        webhooks,
        crons: raw.crons,
        mcp: raw.mcp.check()?,
        models: raw.models,
        memory: raw.memory.checked(&base)?,
        graphs: raw
            .graphs
            .into_iter()
            .map(|(id, path)| (id, base.join(path)))
            .collect(),
        workers: raw.workers.checked(&base)?,
        log: raw.log,
        traces: raw.traces,
        port_is_explicit: merged.origin("server.port") != Some(&Origin::Default),
        base,
        file,
    })
}

/// The section with paths relative to `base`.
///
/// # Errors
/// `Invalid` if a value is given twice, itself and as a file.
fn checked_storage(mut storage: Storage, base: &Path) -> Result<Storage> {
    let is_given = |file: &Path| !file.as_os_str().is_empty();
    one_of(
        ("storage.url", !storage.url.is_empty()),
        ("storage.url_file", is_given(&storage.url_file)),
    )?;
    one_of(
        ("storage.listen_url", !storage.listen_url.is_empty()),
        (
            "storage.listen_url_file",
            is_given(&storage.listen_url_file),
        ),
    )?;
    one_of(
        ("storage.encryption_key", !storage.encryption_key.is_empty()),
        (
            "storage.encryption_key_file",
            is_given(&storage.encryption_key_file),
        ),
    )?;
    if storage.checkpoint_ttl_seconds > 0 && storage.checkpointer == Checkpointer::Database {
        return Err(Error::invalid(
            "storage.checkpoint_ttl_seconds is only for storage.checkpointer = \"redis\"",
        ));
    }
    storage.path = base.join(&storage.path);
    for file in [
        &mut storage.encryption_key_file,
        &mut storage.url_file,
        &mut storage.password_file,
        &mut storage.listen_url_file,
    ] {
        if is_given(file) {
            *file = base.join(&*file);
        }
    }
    Ok(storage)
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
mod tests {
    use super::*;

    fn check_with(
        text: Option<&str>,
        env: &[(&str, &str)],
        flags: &[(&str, toml::Value)],
    ) -> Result<(Config, Merged)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let names: Vec<String> = env.iter().map(|(k, _)| (*k).to_owned()).collect();
        let lookup = |name: &str| {
            env.iter()
                .find(|(k, _)| *k == name)
                .map(|(_, v)| (*v).to_owned())
        };
        let flags: Vec<_> = flags
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()))
            .collect();
        load(&Sources {
            file: text.is_some().then_some(&*path),
            env: &lookup,
            env_names: &names,
            flags: &flags,
            cwd: dir.path(),
        })
    }

    #[test]
    fn later_sources_win_and_are_remembered() {
        let (config, merged) = check_with(
            Some("[server]\nport = 1\n[runs]\nconcurrency = 2\n"),
            &[
                ("AGENTFLOW_SERVER__PORT", "2"),
                ("AGENTFLOW_STORAGE__READERS", "9"),
            ],
            &[("server.port", toml::Value::Integer(3))],
        )
        .unwrap();
        assert_eq!(
            (
                config.server.port,
                config.runs.concurrency,
                config.storage.readers
            ),
            (3, 2, 9)
        );
        assert_eq!(merged.origin("server.port"), Some(&Origin::Flag));
        assert_eq!(
            merged.origin("storage.readers"),
            Some(&Origin::Env("AGENTFLOW_STORAGE__READERS".into()))
        );
        assert!(matches!(
            merged.origin("runs.concurrency"),
            Some(Origin::File { line: 4, .. })
        ));
        assert_eq!(merged.origin("log.level"), Some(&Origin::Default));
    }

    #[test]
    fn mistakes_name_the_place_and_the_remedy() {
        for (text, want) in [
            (
                "[server]\nprot = 1\n",
                "line 2: unknown key `server.prot`; did you mean `port`?",
            ),
            (
                "[sever]\nport = 1\n",
                "line 1: unknown key `sever`; did you mean `server`?",
            ),
            ("[server]\nport = \"x\"\n", "server.port"),
            ("[server\n", "line 1"),
            ("[server]\nhost = \"0.0.0.0\"\n", "only loopback"),
            ("profile = \"production\"\n", "callers must be known"),
            ("[auth]\nbootstrap_key = \"short\"\n", "32 characters"),
            (
                "[server.tls]\ncert_file = \"x\"\n",
                "both cert_file and key_file",
            ),
            ("[auth]\nmode = \"maybe\"\n", "auth.mode"),
            ("[runs]\nconcurrency = 0\n", "must be at least 1"),
            (
                "[storage]\ncheckpointer = \"reddis\"\n",
                "storage.checkpointer: unknown variant `reddis`, expected `database` or `redis`; \
                 did you mean `redis`?",
            ),
            ("[storage]\ncheckpoint_ttl_seconds = 60\n", "only for"),
        ] {
            let err = check_with(Some(text), &[], &[]).unwrap_err().to_string();
            assert!(err.contains(want), "{text:?} gave {err:?}, wanted {want:?}");
        }
    }

    #[test]
    fn environment_mistakes_are_told() {
        let err = check_with(None, &[("AGENTFLOW_SERVER__PROT", "1")], &[]).unwrap_err();
        assert!(
            err.to_string()
                .contains("did you mean `AGENTFLOW_SERVER__PORT`"),
            "{err}"
        );
        let err = check_with(None, &[("AGENTFLOW_SERVER__PORT", "many")], &[]).unwrap_err();
        assert!(err.to_string().contains("AGENTFLOW_SERVER__PORT"), "{err}");
    }

    #[test]
    fn the_address_of_the_database_comes_from_where_programs_look() {
        let url = "postgres://u:p%40:w@db/x?sslmode=verify-full&sslpassword=pw";
        let env = [
            ("DATABASE_URL", url),
            ("AGENTFLOW_PROFILE", "production"),
            ("AGENTFLOW_AUTH__MODE", "on"),
        ];
        let (config, merged) = check_with(None, &env, &[]).unwrap();
        assert!(config.storage.is_remote());
        assert_eq!(
            (config.storage.url.as_str(), config.profile),
            (url, Profile::Production)
        );
        let shown: Vec<_> = merged
            .rows()
            .into_iter()
            .filter(|row| row.key == "storage.url")
            .collect();
        let masked = "\"postgres://u:***@db/x?sslmode=verify-full&sslpassword=***\"";
        assert_eq!(shown[0].value, masked);
        assert_eq!(shown[0].origin, Origin::Env("DATABASE_URL".into()));
        let printed = format!("{config:?}");
        assert!(
            !printed.contains("p%40") && !printed.contains("pw"),
            "{printed}"
        );
        // Our own variable is the more precise wish.
        let env = [("DATABASE_URL", url), ("AGENTFLOW_STORAGE__URL", "")];
        assert!(!check_with(None, &env, &[]).unwrap().0.storage.is_remote());
        let both = [("DATABASE_URL", url), ("DATABASE_URL_FILE", "f")];
        let err = check_with(None, &both, &[]).unwrap_err();
        assert!(err.message().contains("not both"), "{err}");
    }

    #[test]
    fn with_authentication_any_address_may_be_served() {
        let text = "profile = \"production\"\n[server]\nhost = \"0.0.0.0\"\n\
            [auth]\nmode = \"on\"\n[auth.jwt.roles]\nstaff = \"user\"\n";
        let env = [(
            "AGENTFLOW_SERVER__CORS__ORIGINS",
            "https://a.example, https://b.example",
        )];
        let (config, _) = check_with(Some(text), &env, &[]).unwrap();
        assert!(config.auth.is_on());
        assert_eq!(config.auth.jwt.roles["staff"], "user");
        assert_eq!(
            config.server.cors.origins,
            ["https://a.example", "https://b.example"]
        );
    }

    #[test]
    fn limits_of_mcp_are_configured() {
        let text = "[mcp]\nmax_calls = 3\n[mcp.client]\ntimeout_seconds = 7\nmax_tools = 9\n";
        let (config, _) = check_with(Some(text), &[], &[]).unwrap();
        let limits = config.mcp.limits();
        assert_eq!((config.mcp.max_calls, limits.tools), (3, 9));
        assert_eq!(limits.call, std::time::Duration::from_secs(7));
        // What is shipped is what the client has by itself.
        let (config, _) = check_with(None, &[], &[]).unwrap();
        assert_eq!(config.mcp.limits(), agentflow_mcp::Limits::default());
        let err = check_with(Some("[mcp]\nmax_calls = 0\n"), &[], &[]).unwrap_err();
        assert!(err.to_string().contains("mcp.max_calls"), "{err}");
    }

    #[test]
    fn secrets_are_masked_where_values_are_shown() {
        let text = "[models.providers.x]\nkind = \"openai\"\napi_key = \"sk-secret\"\n";
        let (config, merged) = check_with(Some(text), &[], &[]).unwrap();
        assert!(!format!("{config:?}").contains("sk-secret"));
        let shown: String = merged.rows().into_iter().map(|row| row.value).collect();
        assert!(!shown.contains("sk-secret"), "{shown}");
    }
}
