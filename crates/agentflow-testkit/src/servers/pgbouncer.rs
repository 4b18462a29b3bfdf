//! PgBouncer in transaction mode in front of a PostgreSQL.

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
    certs::Identity,
    daemon::{self, Owned, Signal},
    find,
    postgres::{self, ADMIN, ADMIN_PASSWORD, APP, APP_PASSWORD},
    shared, user,
};
use crate::ports;

/// Connections to the server per database and user, unless options say otherwise.
pub const POOL: u32 = 20;

/// Clients that it takes.
const CLIENTS: u32 = 2_000;

/// Seconds after which an unused connection to the server is closed: databases of tests come and
/// go.
const IDLE_SECONDS: u32 = 5;

/// TLS between clients and PgBouncer.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct ClientTls {
    /// PgBouncer's certificate.
    pub server: Identity,
    /// The authority of clients' certificates; if there is one, clients must have a certificate.
    pub client_ca: Option<PathBuf>,
}

/// TLS between PgBouncer and PostgreSQL: `verify-full`.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct ServerTls {
    /// The authority of the server's certificate.
    pub ca: PathBuf,
    /// PgBouncer's certificate as a client, where the server demands one.
    pub client: Option<Identity>,
}

/// Options of a PgBouncer.
#[derive(Clone, Debug, Hash)]
pub struct Options {
    /// Port of PostgreSQL on 127.0.0.1.
    pub server_port: u16,
    /// Connections to the server per database and user.
    pub pool: u32,
    /// TLS towards clients; plaintext only if absent.
    pub client_tls: Option<ClientTls>,
    /// TLS towards the server; plaintext if absent.
    pub server_tls: Option<ServerTls>,
    /// Further settings, name and value as in `pgbouncer.ini`; they win.
    pub settings: Vec<(String, String)>,
}

impl Options {
    /// Plaintext on both sides, [`POOL`] connections.
    #[must_use]
    pub fn new(server_port: u16) -> Self {
        Self {
            server_port,
            pool: POOL,
            client_tls: None,
            server_tls: None,
            settings: Vec::new(),
        }
    }

    /// With so many connections to the server per database and user.
    #[must_use]
    pub fn pool(mut self, connections: u32) -> Self {
        self.pool = connections;
        self
    }

    /// With TLS towards clients; see [`ClientTls`].
    #[must_use]
    pub fn client_tls(mut self, server: &Identity, client_ca: Option<&Path>) -> Self {
        self.client_tls = Some(ClientTls {
            server: server.clone(),
            client_ca: client_ca.map(Path::to_owned),
        });
        self
    }

    /// With TLS towards the server; see [`ServerTls`].
    #[must_use]
    pub fn server_tls(mut self, ca: &Path, client: Option<&Identity>) -> Self {
        self.server_tls = Some(ServerTls {
            ca: ca.to_owned(),
            client: client.cloned(),
        });
        self
    }

    /// With a setting, for example `query_wait_timeout` and `30`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    fn config(&self, dir: &Path, port: u16) -> String {
        let Self {
            server_port, pool, ..
        } = self;
        let users = dir.join("users.txt");
        let users = users.display();
        let mut text = format!(
            "[databases]
* = host=127.0.0.1 port={server_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
admin_users = {ADMIN}
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = {CLIENTS}
server_idle_timeout = {IDLE_SECONDS}
server_login_retry = 1
"
        );
        let mut set = |name: &str, value: &str| {
            writeln!(text, "{name} = {value}").expect("a string takes all text");
        };
        let shown = |file: &str| dir.join(file).display().to_string();
        if let Some(tls) = &self.client_tls {
            set("client_tls_cert_file", &shown("server.pem"));
            set("client_tls_key_file", &shown("server.key"));
            match tls.client_ca {
                None => set("client_tls_sslmode", "require"),
                Some(_) => {
                    set("client_tls_sslmode", "verify-full");
                    set("client_tls_ca_file", &shown("clients.pem"));
                }
            }
        }
        if let Some(tls) = &self.server_tls {
            set("server_tls_sslmode", "verify-full");
            set("server_tls_ca_file", &shown("authority.pem"));
            if tls.client.is_some() {
                set("server_tls_cert_file", &shown("client.pem"));
                set("server_tls_key_file", &shown("client.key"));
            }
        }
        for (name, value) in &self.settings {
            set(name, value);
        }
        text
    }

    /// Writes all files; returns the one of the configuration.
    fn write(&self, dir: &Path, port: u16) -> Result<PathBuf> {
        let put = |name: &str, text: &str| -> Result<PathBuf> {
            let path = dir.join(name);
            fs::write(&path, text).map_err(find::io)?;
            user::give(&path)?;
            Ok(path)
        };
        let copy = |name: &str, from: &Path| {
            let text = fs::read_to_string(from).map_err(find::io)?;
            put(name, &text).map(|_| ())
        };
        if let Some(tls) = &self.client_tls {
            copy("server.pem", &tls.server.cert)?;
            copy("server.key", &tls.server.key)?;
            if let Some(ca) = &tls.client_ca {
                copy("clients.pem", ca)?;
            }
        }
        if let Some(tls) = &self.server_tls {
            copy("authority.pem", &tls.ca)?;
            if let Some(client) = &tls.client {
                copy("client.pem", &client.cert)?;
                copy("client.key", &client.key)?;
            }
        }
        put("users.txt", &users(APP_PASSWORD))?;
        put("pgbouncer.ini", &self.config(dir, port))
    }
}

/// Passwords in plain text: PgBouncer needs them to log in at the server.
fn users(app_password: &str) -> String {
    format!("\"{APP}\" \"{app_password}\"\n\"{ADMIN}\" \"{ADMIN_PASSWORD}\"\n")
}

/// Where a PgBouncer listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Address {
    /// Port on 127.0.0.1.
    pub port: u16,
}

impl Address {
    /// URL of `database` for [`APP`], without TLS.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_with(database, &[("sslmode", "disable")])
    }

    /// URL of `database` for [`APP`] with parameters of one's own.
    #[must_use]
    pub fn url_with(&self, database: &str, parameters: &[(&str, &str)]) -> String {
        postgres::url(self.port, database, parameters)
    }
}

fn command(config: &Path) -> Result<Command> {
    let mut command = user::command(&find::program("pgbouncer", "pgbouncer")?)?;
    command.arg("-q").arg(config);
    Ok(command)
}

/// A PgBouncer that belongs to one test. Its port stays the same when it is restarted.
pub struct Bouncer {
    address: Address,
    options: Options,
    owned: Owned,
}

impl Bouncer {
    /// Starts a PgBouncer.
    ///
    /// # Errors
    /// `Failed` if it is not installed (the message names the package) or does not start.
    pub fn start(options: &Options) -> Result<Self> {
        let mut bouncer = Self {
            address: Address {
                port: ports::free().map_err(find::io)?,
            },
            options: options.clone(),
            owned: Owned::new("pgbouncer-own")?,
        };
        bouncer.restart()?;
        Ok(bouncer)
    }

    /// The shared PgBouncer with these options in front of the shared server `server`.
    pub(crate) fn shared(server: &str, options: &Options) -> Result<Address> {
        // The server's port changes with every start; the name need not, see below.
        let mut hasher = DefaultHasher::new();
        let portless = Self::portless(options);
        (&portless, portless.config(Path::new(""), 0)).hash(&mut hasher);
        let name = format!("pgbouncer-{server}-{:08x}", hasher.finish() as u32);
        let start = |dir: &Path| {
            let port = ports::free().map_err(find::io)?;
            let command = command(&options.write(dir, port)?)?;
            let mut child = daemon::spawn(dir, command, Signal::Terminate)?;
            daemon::wait_ready(dir, &mut child, || daemon::listens(port))?;
            Ok((Address { port }, options.server_port))
        };
        let is_usable = |(address, server_port): &(Address, u16)| {
            *server_port == options.server_port && daemon::listens(address.port)
        };
        shared::get(&name, start, is_usable).map(|(address, _)| address)
    }

    fn portless(options: &Options) -> Options {
        Options {
            server_port: 0,
            ..options.clone()
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Kills it without warning.
    ///
    /// # Errors
    /// `Failed` if the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.owned.stop(Signal::Kill)
    }

    /// Starts it again, after killing it if it runs.
    ///
    /// # Errors
    /// `Failed` if it does not start; the message shows its log.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        let port = self.address.port;
        let command = command(&self.options.write(&self.owned.dir, port)?)?;
        let listens = || daemon::listens(port);
        self.owned.start(command, Signal::Terminate, listens)
    }
}
