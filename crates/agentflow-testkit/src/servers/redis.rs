//! Debian's Redis, shared by tests or one test's own.

use std::{
    fmt::Write as _,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use agentflow_types::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{
    certs::{Authority, Identity},
    daemon::{self, Owned, Signal},
    find, shared, user,
};
use crate::ports;

/// The user that may do everything; every server has it.
pub const ADMIN: &str = "admin";

/// Password of [`ADMIN`].
pub const ADMIN_PASSWORD: &str = "admin-password";

/// Numbered databases of the shared server; tests take them in turn.
const DATABASES: u64 = 4_096;

/// Tries to start on a free port; somebody may take it before the server does.
const PORT_TRIES: u32 = 3;

/// TLS of a server; there is no plaintext port then.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate.
    pub server: Identity,
    /// The authority of both sides' certificates.
    pub ca: PathBuf,
    /// Certificate for the tests' own commands; if there is one, every client must have one.
    pub client: Option<Identity>,
}

/// What a server writes to disk.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing.
    Memory,
    /// Every command before it is answered.
    AppendAlways,
    /// The log of commands, flushed each second.
    AppendEverySecond,
}

/// What the process is.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Kind {
    /// A server for data.
    Data,
    /// A sentinel, which watches others and tells who is primary.
    Sentinel,
}

/// Whose program the server is.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Engine {
    /// Redis, from Debian.
    Redis,
    /// Valkey, from PyPI, built without TLS.
    Valkey,
}

/// Options of an own server.
#[derive(Clone, Debug, Hash)]
pub struct Options {
    /// Whose program.
    pub engine: Engine,
    /// Data or sentinel.
    pub kind: Kind,
    /// TLS; plaintext if absent.
    pub tls: Option<Tls>,
    /// Lines of an ACL file besides [`ADMIN`]'s. Without any, the default user may do everything
    /// without a password; with some, it is off unless they say otherwise.
    pub acl: Vec<String>,
    /// What is written to disk.
    pub persistence: Persistence,
    /// Further settings, name and value as in `redis.conf`.
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    /// Plaintext, in memory, no password.
    fn default() -> Self {
        Self {
            engine: Engine::Redis,
            kind: Kind::Data,
            tls: None,
            acl: Vec::new(),
            persistence: Persistence::Memory,
            settings: Vec::new(),
        }
    }
}

impl Options {
    /// With TLS only; see [`Tls`].
    #[must_use]
    pub fn tls(mut self, server: &Identity, ca: &Path, client: Option<&Identity>) -> Self {
        self.tls = Some(Tls {
            server: server.clone(),
            ca: ca.to_owned(),
            client: client.cloned(),
        });
        self
    }

    /// With the lines of an ACL file; empty lines and comments are left out.
    #[must_use]
    pub fn acl(mut self, file: &str) -> Self {
        let lines = file.lines().map(str::trim);
        let users = lines.filter(|line| line.starts_with("user "));
        self.acl.extend(users.map(str::to_owned));
        self
    }

    /// With what is written to disk.
    #[must_use]
    pub fn persistence(mut self, persistence: Persistence) -> Self {
        self.persistence = persistence;
        self
    }

    /// With a setting, for example `maxmemory` and `1mb`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    fn config(&self, dir: &Path, port: u16) -> String {
        let shown = |file: &str| dir.join(file).display().to_string();
        let data = shown("data");
        let mut text = format!("bind 127.0.0.1\ndaemonize no\nsave \"\"\ndir {data}\n");
        let mut set = |name: &str, value: &str| {
            writeln!(text, "{name} {value}").expect("a string takes all text");
        };
        match &self.tls {
            None => set("port", &port.to_string()),
            Some(tls) => {
                set("port", "0");
                set("tls-port", &port.to_string());
                set("tls-cert-file", &shown("server.pem"));
                set("tls-key-file", &shown("server.key"));
                set("tls-ca-cert-file", &shown("ca.pem"));
                set("tls-replication", "yes");
                let auth = if tls.client.is_some() { "yes" } else { "no" };
                set("tls-auth-clients", auth);
            }
        }
        let fsync = match self.persistence {
            Persistence::Memory => None,
            Persistence::AppendAlways => Some("always"),
            Persistence::AppendEverySecond => Some("everysec"),
        };
        if let Some(fsync) = fsync {
            set("appendonly", "yes");
            set("appendfsync", fsync);
        }
        set("aclfile", &shown("users.acl"));
        for (name, value) in &self.settings {
            set(name, value);
        }
        text
    }

    fn users(&self) -> String {
        let admin = format!("user {ADMIN} on >{ADMIN_PASSWORD} ~* &* +@all");
        let names_default = self
            .acl
            .iter()
            .any(|line| line.starts_with("user default "));
        let default = match (names_default, self.acl.is_empty()) {
            (true, _) => "",
            (false, true) => "user default on nopass ~* &* +@all",
            // With its rights: Redis 7 reads transactions in its log as this user.
            (false, false) => "user default off ~* &* +@all",
        };
        format!("{admin}\n{default}\n{}\n", self.acl.join("\n"))
    }

    /// Writes all files but the data.
    fn write(&self, dir: &Path, port: u16) -> Result<()> {
        let put = |name: &str, text: &str| -> Result<()> {
            let path = dir.join(name);
            fs::write(&path, text).map_err(find::io)?;
            user::give(&path)
        };
        let data = dir.join("data");
        if !data.is_dir() {
            fs::create_dir(&data).map_err(find::io)?;
            user::give(&data)?;
        }
        if let Some(tls) = &self.tls {
            let read = |path: &Path| fs::read_to_string(path).map_err(find::io);
            put("server.pem", &read(&tls.server.cert)?)?;
            put("server.key", &read(&tls.server.key)?)?;
            put("ca.pem", &read(&tls.ca)?)?;
        }
        put("users.acl", &self.users())?;
        put("redis.conf", &self.config(dir, port))
    }

    fn command(&self, dir: &Path) -> Result<Command> {
        let program = match self.engine {
            Engine::Redis => find::program("redis-server", "redis-server")?,
            Engine::Valkey => find::pypi_valkey()?,
        };
        let mut command = user::command(&program)?;
        command.arg(dir.join("redis.conf"));
        if self.kind == Kind::Sentinel {
            command.arg("--sentinel");
        }
        Ok(command)
    }
}

/// Where a server listens and how to get in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Address {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Arguments of `redis-cli` for TLS.
    cli_tls: Vec<String>,
}

impl Address {
    fn new(port: u16, tls: Option<&Tls>) -> Self {
        let mut cli_tls = Vec::new();
        if let Some(tls) = tls {
            let mut add = |name: &str, path: &Path| {
                cli_tls.extend([name.to_owned(), path.display().to_string()]);
            };
            add("--cacert", &tls.ca);
            if let Some(client) = &tls.client {
                add("--cert", &client.cert);
                add("--key", &client.key);
            }
            cli_tls.push("--tls".into());
        }
        Self { port, cli_tls }
    }

    fn scheme(&self) -> &'static str {
        match self.cli_tls.is_empty() {
            true => "redis",
            false => "rediss",
        }
    }

    /// URL for the default user, database 0.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}/0", self.scheme(), self.port)
    }

    /// URL for a user, database 0.
    #[must_use]
    pub fn url_for(&self, user: &str, password: &str) -> String {
        let (scheme, port) = (self.scheme(), self.port);
        format!("{scheme}://{user}:{password}@127.0.0.1:{port}/0")
    }

    /// Runs a command as [`ADMIN`]; what `redis-cli` prints.
    ///
    /// # Errors
    /// `Failed` with the server's message.
    pub fn cli(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command()?;
        command.args(arguments);
        Ok(daemon::run(command, "")?.trim_end().to_owned())
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(find::program("redis-cli", "redis-tools")?);
        command
            .args(["-e", "-h", "127.0.0.1", "-p", &self.port.to_string()])
            .args(["--user", ADMIN, "--no-auth-warning"])
            .args(&self.cli_tls)
            .env("REDISCLI_AUTH", ADMIN_PASSWORD);
        Ok(command)
    }

    /// Whether the server answers; one that still loads its data does not.
    fn is_ready(&self) -> bool {
        daemon::listens(self.port) && self.cli(&["PING"]).is_ok_and(|reply| reply == "PONG")
    }
}

/// What users of the shared server know about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Handle {
    address: Address,
}

impl Handle {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// An empty database of one test; it is flushed with the value. Channels and the users' list
    /// are the server's: give channels names of your own.
    ///
    /// # Errors
    /// `Failed` with the server's message.
    pub fn database(&self) -> Result<Database> {
        let count = self.address.cli(&["INCR", "agentflow-testkit:databases"])?;
        let count: u64 = count.trim().parse().map_err(|error| {
            Error::failed("redis counted in words")
                .with("reply", count.clone())
                .source_err(error)
        })?;
        // Number 0 holds the counter. A number comes round again after four thousand tests.
        let number = 1 + count % (DATABASES - 1);
        self.address.cli(&["-n", &number.to_string(), "FLUSHDB"])?;
        Ok(Database {
            address: self.address.clone(),
            number,
        })
    }
}

/// A numbered database of one test.
#[derive(Debug)]
pub struct Database {
    address: Address,
    number: u64,
}

impl Database {
    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// URL for the default user.
    #[must_use]
    pub fn url(&self) -> String {
        let Address { port, .. } = self.address;
        format!(
            "{}://127.0.0.1:{port}/{}",
            self.address.scheme(),
            self.number
        )
    }

    /// Runs a command in it as [`ADMIN`]; see [`Address::cli`].
    ///
    /// # Errors
    /// `Failed` with the server's message.
    pub fn cli(&self, arguments: &[&str]) -> Result<String> {
        let number = self.number.to_string();
        let all: Vec<&str> = ["-n", &number]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        self.address.cli(&all)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Ok(mut command) = self.address.command() else {
            return;
        };
        // Nobody waits for it: a database that stays filled is flushed when its turn comes again.
        let _ = command
            .args(["-n", &self.number.to_string(), "FLUSHDB"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
    }
}

/// The shared server: plaintext, in memory, no password.
///
/// # Errors
/// `Failed` if it is not installed (the message names the package) or does not start.
pub fn shared() -> Result<Handle> {
    let options = Options::default().set("databases", &DATABASES.to_string());
    get(options, |_, options| Ok(options)).map(|(address, _)| Handle { address })
}

/// A server with TLS for all test processes, and the files that clients need.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TlsHandle {
    /// The server.
    pub server: Handle,
    /// The authority of both sides' certificates.
    pub ca: PathBuf,
    /// A client's certificate; the server demands one.
    pub client: Identity,
}

/// The shared server with TLS: it demands client certificates; in memory, no password.
///
/// # Errors
/// As [`shared`].
pub fn shared_tls() -> Result<TlsHandle> {
    get_tls(Options::default().set("databases", &DATABASES.to_string()))
}

/// The shared server with TLS for these users (see [`Options::acl`]): it demands client
/// certificates and keeps a log of commands. Tests share its databases: give keys names of your
/// own.
///
/// # Errors
/// As [`shared`].
pub fn shared_acl(file: &str) -> Result<TlsHandle> {
    let options = Options::default().acl(file);
    get_tls(options.persistence(Persistence::AppendEverySecond))
}

/// The shared Valkey for these users (see [`Options::acl`]): plaintext, with a log of commands.
/// Tests share it: give keys names of your own.
///
/// # Errors
/// As [`shared`].
pub fn shared_valkey(file: &str) -> Result<Handle> {
    let options = Options {
        engine: Engine::Valkey,
        ..Options::default().acl(file)
    };
    let options = options.persistence(Persistence::AppendEverySecond);
    get(options, |_, options| Ok(options)).map(|(address, _)| Handle { address })
}

fn get_tls(options: Options) -> Result<TlsHandle> {
    let options = options.set("tls-protocols", "\"TLSv1.2 TLSv1.3\"");
    let with_tls = |dir: &Path, options: Options| {
        let ca = Authority::new(dir, "ca")?;
        let client = ca.client("test")?;
        Ok(options.tls(&ca.server()?, &ca.pem(), Some(&client)))
    };
    let (address, files) = get(options, with_tls)?;
    let (ca, client) = files.ok_or_else(|| Error::bug("a server with TLS has no files"))?;
    Ok(TlsHandle {
        server: Handle { address },
        ca,
        client,
    })
}

/// An address, and the authority and client's certificate if there is TLS.
type Shared = (Address, Option<(PathBuf, Identity)>);

fn get(options: Options, finish: impl FnOnce(&Path, Options) -> Result<Options>) -> Result<Shared> {
    let mut hasher = DefaultHasher::new();
    (&options, options.config(Path::new(""), 0)).hash(&mut hasher);
    let name = format!("redis-{:08x}", hasher.finish() as u32);
    let start = |dir: &Path| {
        let options = finish(dir, options)?;
        let files = options
            .tls
            .as_ref()
            .and_then(|tls| Some((tls.ca.clone(), tls.client.clone()?)));
        let mut tries = 0;
        loop {
            let port = ports::free().map_err(find::io)?;
            options.write(dir, port)?;
            let address = Address::new(port, options.tls.as_ref());
            let mut child = daemon::spawn(dir, options.command(dir)?, Signal::Terminate)?;
            tries += 1;
            match daemon::wait_ready(dir, &mut child, || address.is_ready()) {
                Ok(()) => return Ok((address, files)),
                Err(error) if tries == PORT_TRIES => return Err(error),
                Err(_) => {}
            }
        }
    };
    shared::get(&name, start, |(address, _): &Shared| {
        daemon::listens(address.port)
    })
}

/// A server that belongs to one test. Its port and data stay the same when it is restarted.
pub struct Own {
    address: Address,
    options: Options,
    owned: Owned,
}

impl Own {
    /// Starts a server.
    ///
    /// # Errors
    /// `Failed` if it is not installed (the message names the package) or does not start.
    pub fn start(options: &Options) -> Result<Self> {
        let owned = Owned::new("redis-own")?;
        let mut own = Self {
            address: Address::new(0, options.tls.as_ref()),
            options: options.clone(),
            owned,
        };
        let mut tries = 0;
        loop {
            own.address.port = ports::free().map_err(find::io)?;
            own.options.write(&own.owned.dir, own.address.port)?;
            tries += 1;
            match own.restart() {
                Ok(()) => return Ok(own),
                Err(error) if tries == PORT_TRIES => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Folder of the server; tests may put files there.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.owned.dir
    }

    /// Kills the server without warning.
    ///
    /// # Errors
    /// `Failed` if the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.owned.stop(Signal::Kill)
    }

    /// Starts the server again, after stopping it in order if it runs. Returns when it answers.
    ///
    /// # Errors
    /// `Failed` if it does not start; the message shows its log.
    pub fn restart(&mut self) -> Result<()> {
        self.owned.stop(Signal::Terminate)?;
        let command = self.options.command(&self.owned.dir)?;
        let address = &self.address;
        self.owned
            .start(command, Signal::Terminate, || address.is_ready())
    }
}
