//! A stand-in for a Qdrant server: its own gRPC services over collections in memory.
//!
//! It evaluates Qdrant's filters itself, knows nothing of ours, and refuses what a real server
//! refuses: unknown collections, other dimensions, repeated words, paths that are none, facets
//! without an index, a wrong key. What it does not know it refuses as well. Where a real server
//! promises no order, it takes the unpleasant one; removed points count for the rarity of words,
//! as they do there until it tidies up.

mod collection;
mod filter;
mod path;
mod service;
mod shared;
mod wire;

use std::{fs, io, net::Ipv4Addr, sync::Arc};

use qdrant_client::qdrant::{
    collections_server::CollectionsServer, points_server::PointsServer,
    qdrant_server::QdrantServer as HealthServer,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use self::{service::Service, shared::Shared};
use crate::servers::certs;

pub use self::shared::Fault;

/// Most bytes of a request.
const REQUEST_BYTES: usize = 256 << 20;

/// How the server is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// The key that callers must send; none if absent.
    pub api_key: Option<String>,
    /// The server's certificate; without one it speaks without TLS.
    pub identity: Option<certs::Identity>,
    /// File of the authority that must have signed the certificates of clients.
    pub client_ca: Option<std::path::PathBuf>,
    /// The version that it says it has.
    pub version: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            api_key: None,
            identity: None,
            client_ca: None,
            version: "1.19.0".into(),
        }
    }
}

/// A running server on a loopback port. Dropping it stops it.
pub struct QdrantServer {
    port: u16,
    options: Options,
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl QdrantServer {
    /// Starts on a free port.
    ///
    /// # Errors
    /// If no port can be bound or a certificate cannot be read.
    pub async fn start(options: Options) -> io::Result<Self> {
        Self::start_on(options, 0).await
    }

    /// Starts on `port`; 0 means a free one.
    ///
    /// # Errors
    /// If the port cannot be bound or a certificate cannot be read.
    pub async fn start_on(options: Options, port: u16) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(options.version.clone()));
        let mut server = Self {
            port,
            options,
            shared,
            stop: CancellationToken::new(),
            task: None,
        };
        server.resume().await?;
        Ok(server)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address.
    #[must_use]
    pub fn url(&self) -> String {
        match self.options.identity {
            Some(_) => format!("https://localhost:{}", self.port),
            None => format!("http://localhost:{}", self.port),
        }
    }

    /// Names of the methods that were called so far, in their order.
    #[must_use]
    pub fn calls(&self) -> Vec<&'static str> {
        self.shared.calls().clone()
    }

    /// Lets calls fail: each fault once, in their order.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults().extend(faults);
    }

    /// Stops listening and ends connections; the collections stay.
    pub async fn pause(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // It only fails if it panicked, which the test's output shows.
            let _ = task.await;
        }
    }

    /// Listens again on the same port.
    ///
    /// # Errors
    /// If the port was taken meanwhile.
    pub async fn resume(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await?;
        self.port = listener.local_addr()?.port();
        self.stop = CancellationToken::new();
        let mut server = Server::builder();
        if let Some(tls) = self.tls()? {
            server = server.tls_config(tls).map_err(io::Error::other)?;
        }
        let service = Arc::new(Service(self.shared.clone()));
        let key = Key(self.options.api_key.clone());
        let points = PointsServer::from_arc(service.clone());
        let points = points.max_decoding_message_size(REQUEST_BYTES);
        let points = InterceptedService::new(points, key.clone());
        let collections = CollectionsServer::from_arc(service.clone());
        let collections = InterceptedService::new(collections, key);
        let router = server
            .add_service(points)
            .add_service(collections)
            // A real server tells everybody how it is, whatever the key.
            .add_service(HealthServer::from_arc(service));
        let stopped = self.stop.clone().cancelled_owned();
        // Without this each answer would wait for the client's acknowledgement of its head.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        // The task ends with the token, which the server's drop fires.
        self.task = Some(tokio::spawn(async move {
            let _ = router.serve_with_incoming_shutdown(incoming, stopped).await;
        }));
        Ok(())
    }

    fn tls(&self) -> io::Result<Option<ServerTlsConfig>> {
        let Some(identity) = &self.options.identity else {
            return Ok(None);
        };
        let (cert, key) = (fs::read(&identity.cert)?, fs::read(&identity.key)?);
        let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(cert, key));
        if let Some(path) = &self.options.client_ca {
            tls = tls.client_ca_root(Certificate::from_pem(fs::read(path)?));
        }
        Ok(Some(tls))
    }
}

impl Drop for QdrantServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Lets through who has the key.
#[derive(Clone)]
struct Key(Option<String>);

impl Interceptor for Key {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(key) = &self.0 else {
            return Ok(request);
        };
        let metadata = request.metadata();
        let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
        let bearer = text("authorization").and_then(|text| text.strip_prefix("Bearer "));
        match text("api-key").or(bearer) {
            Some(given) if given == key => Ok(request),
            Some(_) => Err(Status::unauthenticated("Invalid API key or JWT")),
            None => Err(Status::unauthenticated(
                "Must provide an API key or an Authorization bearer token",
            )),
        }
    }
}
