//! Opening one connection: the servers of an address in turn, with secrets read again.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use agentflow_types::{Error, Result};
use futures_util::{StreamExt as _, stream::BoxStream};
use tokio::{task::JoinHandle, time};
use tokio_postgres::{AsyncMessage, Client, Config, Socket, config};

use crate::{
    dsn::{Binding, Dsn, Host, Password, Place, SslMode, Target},
    error, refusal,
    tls::{Connector, Stream},
};

/// A connection that says nothing is asked whether it lives after this, so often, and is given
/// up after so many questions.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long the peer may leave what we sent without acknowledgement.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// Most bytes of a file with an address or a password.
const MAX_SECRET_BYTES: u64 = 64 << 10;
/// What the server calls us unless the address says otherwise.
const APPLICATION: &str = "agentflow";

/// An address, or the file that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The address.
    Dsn(Box<Dsn>),
    /// A file with the address, read again for each connection.
    File(PathBuf),
}

impl Source {
    /// The address as it is now. Blocks if it is in a file.
    ///
    /// # Errors
    /// `Invalid` if the file cannot be read, or as [`Dsn::parse`].
    pub fn dsn(&self) -> Result<Dsn> {
        match self {
            Self::Dsn(dsn) => Ok(dsn.as_ref().clone()),
            Self::File(path) => Dsn::parse(&secret(path)?),
        }
    }
}

impl From<Dsn> for Source {
    fn from(dsn: Dsn) -> Self {
        Self::Dsn(Box::new(dsn))
    }
}

/// The content of a file without the line's end.
fn secret(path: &std::path::Path) -> Result<String> {
    let wrong = |err: std::io::Error| {
        Error::invalid("a secret of the database cannot be read")
            .with("path", path.display())
            .with("reason", &err)
            .source_err(err)
    };
    if fs::metadata(path).map_err(wrong)?.len() > MAX_SECRET_BYTES {
        return Err(wrong(std::io::Error::other("too large")));
    }
    let text = fs::read_to_string(path).map_err(wrong)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: Error,
    /// Whether it may go better by itself: nobody listens yet, or the server is starting.
    pub(crate) passing: bool,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Refused {}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self {
            error,
            passing: false,
        }
    }
}

/// Opens connections.
#[derive(Clone)]
pub(crate) struct Opener {
    source: Source,
    password_file: Option<PathBuf>,
    timeout: Duration,
}

/// What a new connection consists of.
pub(crate) struct Opened {
    pub(crate) client: Client,
    pub(crate) driver: tokio_postgres::Connection<Socket, Stream<Socket>>,
    pub(crate) tls: Connector,
    /// Where it goes, to the very address.
    pub(crate) host: Host,
}

impl Opener {
    /// Opens connections to `source`, each within `timeout` for each server unless the address
    /// says otherwise.
    pub(crate) fn new(source: Source, password_file: Option<PathBuf>, timeout: Duration) -> Self {
        Self {
            source,
            password_file,
            timeout,
        }
    }

    /// Opens a connection to the first server that will do.
    pub(crate) async fn open(&self) -> Result<Opened, Refused> {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || this.read()).await;
        let (mut dsn, tls) =
            read.map_err(|err| Error::bug("reading the secrets failed").source_err(err))??;
        if dsn.shuffled {
            fastrand::shuffle(&mut dsn.hosts);
        }
        let mut refused: Option<Refused> = None;
        for host in &dsn.hosts {
            let timeout = dsn.connect_timeout.unwrap_or(self.timeout);
            match open_at(&dsn, host, &tls, timeout).await {
                Ok(opened) => return Ok(opened),
                // What a server says weighs more than that another cannot be reached.
                Err(next) => {
                    if refused.as_ref().is_none_or(|before| before.passing) {
                        refused = Some(next);
                    }
                }
            }
        }
        Err(refused.unwrap_or_else(|| Error::bug("an address has no hosts").into()))
    }

    /// Opens a connection past the pool.
    ///
    /// # Errors
    /// Which check failed.
    pub(crate) async fn client(&self) -> Result<Session> {
        let opened = self.open().await.map_err(|refused| refused.error)?;
        let driver = opened.driver;
        Ok(Session {
            client: opened.client,
            _driver: Owned::start(async move {
                // Its end is seen at the client.
                let _ = driver.await;
            }),
        })
    }

    /// The address with its secrets, and its certificates. Blocks.
    fn read(&self) -> Result<(Dsn, Connector)> {
        let mut dsn = self.source.dsn()?;
        if let Some(path) = &self.password_file {
            dsn.password = Some(Password(secret(path)?));
        }
        let mut ssl = dsn.ssl.clone();
        if dsn.hosts.iter().all(|host| !is_remote(host)) {
            // A socket has no TLS, as in libpq.
            ssl.mode = SslMode::Disable;
        }
        let tls = Connector::read(&ssl)?;
        Ok((dsn, tls))
    }
}

/// Connects to the first address of a server that answers, each within `timeout`.
async fn open_at(
    dsn: &Dsn,
    host: &Host,
    tls: &Connector,
    timeout: Duration,
) -> Result<Opened, Refused> {
    let slow = || Refused {
        error: Error::busy("the database did not accept a connection in time")
            .with("check", "network")
            .with("host", host)
            .with("timeout_ms", timeout.as_millis()),
        passing: true,
    };
    let found = time::timeout(timeout, addresses(host)).await;
    let mut refused = slow();
    for host in found.map_err(|_| slow())?? {
        let config = config(dsn, &host);
        match time::timeout(timeout, config.connect(tls.clone())).await {
            Ok(Ok((client, driver))) => {
                return Ok(Opened {
                    client,
                    driver,
                    tls: tls.clone(),
                    host,
                });
            }
            Ok(Err(err)) => refused = refusal::name(err, dsn, &host),
            Err(_) => refused = slow(),
        }
    }
    Err(refused)
}

/// The addresses of a server. They are looked up here so that a request to cancel goes where the
/// connection went.
async fn addresses(host: &Host) -> Result<Vec<Host>, Refused> {
    let Place::Tcp(name, None) = &host.place else {
        return Ok(vec![host.clone()]);
    };
    let found = tokio::net::lookup_host((name.as_str(), host.port)).await;
    let found = found.map_err(|err| Refused {
        error: Error::busy("the host of the database has no address")
            .with("check", "network")
            .with("host", host)
            .with("reason", &err)
            .source_err(err),
        passing: true,
    })?;
    let at = |address: std::net::SocketAddr| Host {
        place: Place::Tcp(name.clone(), Some(address.ip())),
        port: host.port,
    };
    Ok(found.map(at).collect())
}

fn is_remote(host: &Host) -> bool {
    matches!(host.place, Place::Tcp(..))
}

/// The driver's settings for one server of an address.
fn config(dsn: &Dsn, host: &Host) -> Config {
    let mut config = Config::new();
    config
        .user(&dsn.user)
        .dbname(&dsn.dbname)
        .port(host.port)
        .application_name(dsn.application_name.as_deref().unwrap_or(APPLICATION))
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
        .tcp_user_timeout(UNACKNOWLEDGED)
        .channel_binding(match dsn.binding {
            Binding::Disable => config::ChannelBinding::Disable,
            Binding::Prefer => config::ChannelBinding::Prefer,
            Binding::Require => config::ChannelBinding::Require,
        })
        .target_session_attrs(match dsn.target {
            Target::Any => config::TargetSessionAttrs::Any,
            Target::ReadWrite => config::TargetSessionAttrs::ReadWrite,
            Target::ReadOnly => config::TargetSessionAttrs::ReadOnly,
        });
    if let Some(password) = &dsn.password {
        config.password(&password.0);
    }
    if let Some(options) = &dsn.options {
        config.options(options);
    }
    match &host.place {
        Place::Socket(path) => {
            config.host_path(path).ssl_mode(config::SslMode::Disable);
        }
        Place::Tcp(name, address) => {
            config.host(name).ssl_mode(match dsn.ssl.mode {
                SslMode::Disable => config::SslMode::Disable,
                SslMode::Prefer => config::SslMode::Prefer,
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                    config::SslMode::Require
                }
            });
            if let Some(address) = address {
                config.hostaddr(*address);
            }
        }
    }
    config
}

/// A task that ends with its owner.
pub(crate) struct Owned(Option<JoinHandle<()>>);

impl Owned {
    pub(crate) fn start(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Some(tokio::spawn(task)))
    }

    /// Lets the task end by itself.
    pub(crate) fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// A connection of its own, past the pool; it ends when dropped.
pub(crate) struct Session {
    client: Client,
    _driver: Owned,
}

impl std::ops::Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Opens the connection that listens for wake-ups, past a pooler.
pub(crate) struct Direct(pub(crate) Arc<Opener>);

impl Direct {
    /// A client and what arrives for it, which must be polled for the client's answers.
    pub(crate) async fn connect(
        &self,
    ) -> Result<(Client, BoxStream<'static, Result<AsyncMessage>>)> {
        let opened = self.0.open().await.map_err(|refused| refused.error)?;
        let (client, mut driver) = (opened.client, opened.driver);
        let messages = futures_util::stream::poll_fn(move |cx| driver.poll_message(cx))
            .map(|message| message.map_err(error::from));
        Ok((client, messages.boxed()))
    }
}
