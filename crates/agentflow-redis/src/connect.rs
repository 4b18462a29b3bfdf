//! Opening connections, with secrets and certificates read again each time.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use agentflow_types::{Error, Result};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo as _, Pipeline, RedisConnectionInfo, RedisResult, TlsCertificates, TlsMode,
    Value, aio::MultiplexedConnection, cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection, cmd,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    address::{Address, Host, Kind, Secret},
    error, refusal,
};

/// Most bytes of a file with an address, a password or certificates.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// How long a server may take to show that it speaks without TLS.
const PLAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the driver asks another node of a cluster before it gives up.
const CLUSTER_RETRIES: u32 = 3;

/// An address, or the file that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The address.
    Address(Box<Address>),
    /// A file with the address, read again for each connection.
    File(PathBuf),
}

impl Source {
    /// The address as it is now. Blocks if it is in a file.
    ///
    /// # Errors
    /// `Invalid` if the file cannot be read, or holds no address.
    pub fn address(&self) -> Result<Address> {
        match self {
            Self::Address(address) => Ok((**address).clone()),
            Self::File(path) => text("redis.url_file", path)?.parse(),
        }
    }
}

impl From<Address> for Source {
    fn from(address: Address) -> Self {
        Self::Address(Box::new(address))
    }
}

/// How Redis is reached.
#[derive(Clone, Debug)]
pub struct Access {
    /// The address.
    pub source: Source,
    /// Takes the place of the user in the address.
    pub username: Option<String>,
    /// A file with the password, read again for each connection; takes the place of the one in
    /// the address.
    pub password_file: Option<PathBuf>,
    /// The authorities that may have signed the server's certificate, as PEM; those of the
    /// operating system if absent.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, as PEM.
    pub cert_file: Option<PathBuf>,
    /// Its key, as PEM.
    pub key_file: Option<PathBuf>,
}

impl Access {
    /// Without files beside the address.
    pub fn new(source: impl Into<Source>) -> Self {
        Self {
            source: source.into(),
            username: None,
            password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }

    /// The address with the user and password that apply. Blocks.
    ///
    /// # Errors
    /// `Invalid` if a file cannot be read or the address is wrong.
    pub fn address(&self) -> Result<Address> {
        let mut address = self.source.address()?;
        if let Some(user) = &self.username {
            address.user = Some(user.clone());
        }
        if let Some(path) = &self.password_file {
            address.password = Some(Secret(text("redis.password_file", path)?));
        }
        if !address.is_tls && (self.ca_file.is_some() || self.cert_file.is_some()) {
            return Err(Error::invalid(
                "there are certificates for Redis, but its address says no TLS: use rediss://",
            ));
        }
        Ok(address)
    }

    /// What a connection needs, read from the files. Blocks.
    pub(crate) fn read(&self) -> Result<Ready> {
        let address = self.address()?;
        let client_tls = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => Some(ClientTlsConfig {
                client_cert: bytes("redis.cert_file", cert)?,
                client_key: bytes("redis.key_file", key)?,
            }),
            (None, None) => None,
            _ => {
                return Err(Error::invalid(
                    "redis.cert_file and redis.key_file go together: set both or neither",
                ));
            }
        };
        let ca = self.ca_file.as_deref();
        let root_cert = ca.map(|path| bytes("redis.ca_file", path)).transpose()?;
        Ok(Ready {
            address,
            certificates: TlsCertificates {
                client_tls,
                root_cert,
            },
        })
    }
}

fn bytes(setting: &'static str, path: &Path) -> Result<Vec<u8>> {
    let wrong = |err: std::io::Error| {
        Error::invalid("a file for Redis cannot be read")
            .with("setting", setting)
            .with("path", path.display())
            .with("reason", &err)
            .source_err(err)
    };
    if fs::metadata(path).map_err(wrong)?.len() > MAX_FILE_BYTES {
        return Err(wrong(std::io::Error::other("too large")));
    }
    fs::read(path).map_err(wrong)
}

/// The content of a file without the line's end.
fn text(setting: &'static str, path: &Path) -> Result<String> {
    let text = String::from_utf8(bytes(setting, path)?).map_err(|_| {
        Error::invalid("a file for Redis is not UTF-8")
            .with("setting", setting)
            .with("path", path.display())
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// How long things may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connecting to one server.
    pub connect_timeout: Duration,
    /// One command.
    pub response_timeout: Duration,
    /// Shortest pause after a connection failed before the next is tried; meanwhile callers are
    /// refused at once.
    pub min_pause: Duration,
    /// Longest such pause.
    pub max_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(3),
            min_pause: Duration::from_millis(50),
            max_pause: Duration::from_secs(5),
        }
    }
}

/// A connection. Clones share it.
#[derive(Clone)]
pub(crate) enum Wire {
    /// To one server.
    Server(MultiplexedConnection),
    /// To the nodes of a cluster.
    Cluster(ClusterConnection),
}

impl Wire {
    pub(crate) async fn run(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Server(server) => command.query_async(server).await,
            Self::Cluster(cluster) => command.query_async(cluster).await,
        }
    }

    pub(crate) async fn run_all(&mut self, all: &Pipeline) -> RedisResult<Value> {
        match self {
            Self::Server(server) => all.query_async(server).await,
            Self::Cluster(cluster) => all.query_async(cluster).await,
        }
    }
}

/// Everything that a connection needs.
pub(crate) struct Ready {
    address: Address,
    certificates: TlsCertificates,
}

/// Opens a connection whose commands may take `response` each.
///
/// # Errors
/// `Busy` with the check that failed; `Invalid` if a file or the address is wrong.
pub(crate) async fn open(access: &Access, limits: &Limits, response: Duration) -> Result<Wire> {
    let access = access.clone();
    let read = tokio::task::spawn_blocking(move || access.read()).await;
    let ready = read.map_err(|err| Error::bug("reading the secrets failed").source_err(err))??;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limits.connect_timeout))
        .set_response_timeout(Some(response));
    match &ready.address.kind {
        Kind::Single => ready.server(&config, limits).await,
        Kind::Sentinel { service } => ready.primary(service, &config, limits).await,
        Kind::Cluster => ready.cluster(limits, response).await,
    }
}

impl Ready {
    fn user(&self) -> Option<&str> {
        self.address.user.as_deref()
    }

    fn info(&self, host: &Host, login: Login, database: u32) -> Result<ConnectionInfo> {
        let addr = match self.address.is_tls {
            true => ConnectionAddr::TcpTls {
                host: host.name.clone(),
                port: host.port,
                insecure: false,
                tls_params: None,
            },
            false => ConnectionAddr::Tcp(host.name.clone(), host.port),
        };
        let mut settings = RedisConnectionInfo::default()
            .set_db(database.into())
            .set_skip_set_lib_name();
        if login == Login::Ours {
            if let Some(user) = self.user() {
                settings = settings.set_username(user);
            }
            if let Some(password) = &self.address.password {
                settings = settings.set_password(&password.0);
            }
        }
        let info = addr.into_connection_info().map_err(error::from)?;
        Ok(info.set_redis_settings(settings))
    }

    fn client(&self, info: ConnectionInfo) -> Result<Client> {
        let made = match self.address.is_tls {
            true => Client::build_with_tls(info, self.certificates.clone()),
            false => Client::open(info),
        };
        made.map_err(|err| {
            Error::invalid("the certificates for Redis cannot be used")
                .with("reason", error::causes(&err))
                .source_err(err)
        })
    }

    /// Connects to one server and has it answer once.
    async fn connect(
        &self,
        host: &Host,
        login: Login,
        config: &AsyncConnectionConfig,
        limits: &Limits,
    ) -> Result<MultiplexedConnection> {
        let database = match login {
            Login::Ours => self.address.database,
            Login::None => 0,
        };
        let client = self.client(self.info(host, login, database)?)?;
        let opened = async {
            let mut server = client
                .get_multiplexed_async_connection_with_config(config)
                .await?;
            // With TLS 1.3 a server that refuses our certificate says so after the handshake.
            let _: redis::Value = cmd("PING").query_async(&mut server).await?;
            RedisResult::Ok(server)
        };
        let refused = match tokio::time::timeout(limits.connect_timeout, opened).await {
            Ok(Ok(server)) => return Ok(server),
            Ok(Err(err)) if !err.is_timeout() => {
                return Err(refusal::name(err, host, self.user(), self.address.is_tls));
            }
            Ok(Err(_)) | Err(_) => refusal::slow(host, limits.connect_timeout),
        };
        match self.address.is_tls && speaks_plainly(host).await {
            true => Err(refusal::no_tls(host)),
            false => Err(refused),
        }
    }

    async fn server(&self, config: &AsyncConnectionConfig, limits: &Limits) -> Result<Wire> {
        let host = &self.address.hosts[0];
        let server = self.connect(host, Login::Ours, config, limits).await?;
        Ok(Wire::Server(server))
    }

    /// Asks the sentinels in turn for the primary, and connects to it.
    async fn primary(
        &self,
        service: &str,
        config: &AsyncConnectionConfig,
        limits: &Limits,
    ) -> Result<Wire> {
        let mut refused: Option<Error> = None;
        for sentinel in &self.address.hosts {
            match self.ask(sentinel, service, config, limits).await {
                Ok(primary) => return self.confirmed(&primary, config, limits).await,
                Err(err) => refused = Some(refused.unwrap_or(err)),
            }
        }
        Err(refused.unwrap_or_else(|| Error::bug("an address has no hosts")))
    }

    async fn ask(
        &self,
        sentinel: &Host,
        service: &str,
        config: &AsyncConnectionConfig,
        limits: &Limits,
    ) -> Result<Host> {
        let sentinel_only = Self {
            address: Address {
                database: 0,
                ..self.address.clone()
            },
            certificates: self.certificates.clone(),
        };
        // Sentinels have users of their own, or none; the address of the primary is no secret,
        // and whoever answers there must prove who it is.
        let ours = sentinel_only.connect(sentinel, Login::Ours, config, limits);
        let mut asked = match ours.await {
            Ok(asked) => asked,
            Err(err) => sentinel_only
                .connect(sentinel, Login::None, config, limits)
                .await
                .map_err(|_| err)?,
        };
        let mut command = cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
        let found: RedisResult<Option<(String, u16)>> = command.query_async(&mut asked).await;
        let found = found.map_err(|err| refusal::name(err, sentinel, self.user(), true))?;
        found
            .map(|(name, port)| Host { name, port })
            .ok_or_else(|| {
                Error::busy("the sentinel does not know the service")
                    .with("check", "sentinel service")
                    .with("host", sentinel)
                    .with("service", service)
            })
    }

    /// Connects to what a sentinel called the primary, which right after a failover it may not be.
    async fn confirmed(
        &self,
        primary: &Host,
        config: &AsyncConnectionConfig,
        limits: &Limits,
    ) -> Result<Wire> {
        let mut server = self.connect(primary, Login::Ours, config, limits).await?;
        let role: RedisResult<Vec<Value>> = cmd("ROLE").query_async(&mut server).await;
        let role = role.map_err(|err| refusal::name(err, primary, self.user(), true))?;
        match role.first() {
            Some(Value::BulkString(name)) if name == b"master" => Ok(Wire::Server(server)),
            _ => Err(Error::busy("the server is not primary any more")
                .with("check", "server ready")
                .with("host", primary)),
        }
    }

    async fn cluster(&self, limits: &Limits, response: Duration) -> Result<Wire> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limits.connect_timeout))
            .set_response_timeout(Some(limits.response_timeout));
        // The driver does not tell why no node will do, so one is asked before.
        let mut refused: Option<Error> = None;
        for host in &self.address.hosts {
            match self.connect(host, Login::Ours, &config, limits).await {
                Ok(_) => {
                    refused = None;
                    break;
                }
                Err(err) => refused = Some(refused.unwrap_or(err)),
            }
        }
        if let Some(err) = refused {
            return Err(err);
        }
        let nodes: Vec<ConnectionInfo> = self
            .address
            .hosts
            .iter()
            .map(|host| self.info(host, Login::Ours, 0))
            .collect::<Result<_>>()?;
        let mut builder = ClusterClientBuilder::new(nodes)
            .retries(CLUSTER_RETRIES)
            .connection_timeout(limits.connect_timeout)
            .response_timeout(response);
        if self.address.is_tls {
            builder = builder
                .tls(TlsMode::Secure)
                .certs(self.certificates.clone());
        }
        let client = builder.build().map_err(error::from)?;
        let opened = client.get_async_connection().await;
        opened.map(Wire::Cluster).map_err(|err| {
            refusal::name(
                err,
                &self.address.hosts[0],
                self.user(),
                self.address.is_tls,
            )
        })
    }
}

/// Whether a server that did not answer our handshake answers without TLS: it takes the handshake
/// for the beginning of a command, and waits for the rest. All it is told is `PING`.
async fn speaks_plainly(host: &Host) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect((host.name.as_str(), host.port)).await?;
        stream.write_all(b"PING\r\n").await?;
        stream.read_u8().await
    };
    let answer = tokio::time::timeout(PLAIN_TIMEOUT, asked).await;
    matches!(answer, Ok(Ok(b'+' | b'-')))
}

/// Who we are to a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Login {
    /// The user of the address.
    Ours,
    /// Nobody.
    None,
}
