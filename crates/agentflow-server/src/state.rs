//! What every handler shares: the service, limits, and what is known about this server.

use std::{sync::Arc, time::Duration};

use agentflow_auth::{Auth, Limited, StreamPlace};
use agentflow_runs::service::Service;
use agentflow_storage::figures::Figures;
use agentflow_types::Scope;
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access::{Admit, Doors, Requests, Secure},
    exposition::Sample,
    health::Part,
    metrics::Metrics,
    tls::Tls,
};

/// Limits of the server. Each protects memory or time against a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Most bytes of a request body; more is answered with 413.
    pub body_bytes: usize,
    /// Most bytes of a document that is sent; more is answered with 413.
    pub upload_bytes: usize,
    /// Documents that arrive at once, because each is held in memory; further ones wait.
    pub uploads: usize,
    /// Most nested lists and objects of a request body.
    pub depth: usize,
    /// Most bytes of the request line and the headers together, at least 8 KiB; more is answered
    /// with 431.
    pub header_bytes: usize,
    /// Most headers of a request.
    pub headers: usize,
    /// Longest time for a request body to arrive.
    pub body_timeout: Duration,
    /// Longest time for request headers to arrive.
    pub header_timeout: Duration,
    /// Most open connections; further ones wait in the backlog of the socket.
    pub connections: usize,
    /// Pause between signs of life on a silent stream or wait.
    pub heartbeat: Duration,
    /// How long a client may leave written bytes or frames unread before it is cut off. The run
    /// goes on.
    pub stall: Duration,
    /// Frames that may wait for a slow reader; beyond it the log is not read further.
    pub frames: usize,
    /// Bytes of frames that may wait for a slow reader, unless a single one is larger.
    pub stream_bytes: usize,
    /// How long streams go on after the server was told to stop.
    pub drain: Duration,
    /// Most subscriptions on one WebSocket.
    pub subscriptions: usize,
    /// Most MCP tool calls at once; further ones are refused.
    pub tool_calls: usize,
    /// Longest time of one MCP tool call; a run that it waits for is stopped then.
    pub tool_call: Duration,
    /// Most bytes of the result of an MCP tool call, as JSON text.
    pub tool_result_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 16 * 1024 * 1024,
            upload_bytes: 64 * 1024 * 1024,
            uploads: 8,
            depth: 100,
            header_bytes: 64 * 1024,
            headers: 100,
            body_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(30),
            connections: 12_000,
            heartbeat: Duration::from_secs(5),
            stall: Duration::from_secs(30),
            frames: 64,
            stream_bytes: 256 * 1024,
            drain: Duration::from_secs(5),
            subscriptions: 32,
            tool_calls: 256,
            tool_call: Duration::from_secs(300),
            tool_result_bytes: 4 * 1024 * 1024,
        }
    }
}

/// What `/info` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Version of this server.
    pub version: String,
    /// How it is hosted.
    pub host_kind: String,
}

impl Default for Info {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host_kind: "self-hosted".into(),
        }
    }
}

/// Tells values for `/metrics`, each time the same ones in the same order. Does no I/O.
pub type Samples = Arc<dyn Fn() -> Vec<Sample> + Send + Sync>;

/// Pages of which origins may use the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins, for example `https://app.example`; `*` for all, without cookies.
    pub origins: Vec<String>,
    /// Whether pages on public addresses may reach a server on a private one.
    pub private_network: bool,
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            origins: vec!["*".into()],
            private_network: true,
        }
    }
}

/// How browsers are told to treat the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Other origins.
    pub cors: Cors,
    /// Whether the server is reached over TLS: by its own, or by that of a proxy.
    pub secure: Secure,
}

/// State of the server. Clones share it.
#[derive(Clone)]
pub struct AppState {
    pub(crate) service: Arc<Service>,
    pub(crate) memory: Option<agentflow_memory::Service>,
    pub(crate) documents: Option<agentflow_rag::Service>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) info: Arc<Info>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) auth: Option<Arc<Auth>>,
    pub(crate) doors: Doors,
    pub(crate) security: Arc<Security>,
    /// The newest requests about memories.
    pub(crate) requests: Arc<Requests>,
    pub(crate) tls: Option<Arc<Tls>>,
    /// Who tells figures for `/metrics`.
    pub(crate) figures: Vec<Arc<dyn Figures>>,
    /// Who tells values for `/metrics`.
    pub(crate) samples: Vec<Samples>,
    /// Who tells how parts are, for `/health`.
    pub(crate) parts: Vec<Arc<dyn Part>>,
    /// Owns the tasks that feed streams.
    pub(crate) tasks: TaskTracker,
    /// Ends all streams when it fires.
    pub(crate) closing: CancellationToken,
    /// Places for documents that arrive.
    pub(crate) uploads: Arc<Semaphore>,
    /// Places for MCP tool calls.
    pub(crate) tool_calls: Arc<Semaphore>,
    /// Counts threads that commands may have created; wakes streams that wait for their thread.
    pub(crate) started: Arc<watch::Sender<u64>>,
}

impl AppState {
    /// The state of a server over `service`, with default limits.
    #[must_use]
    pub fn new(service: Arc<Service>) -> Self {
        Self {
            service,
            memory: None,
            documents: None,
            limits: Arc::default(),
            info: Arc::default(),
            metrics: Arc::default(),
            auth: None,
            doors: Doors::Open,
            security: Arc::default(),
            requests: Arc::default(),
            tls: None,
            figures: Vec::new(),
            samples: Vec::new(),
            parts: Vec::new(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            uploads: Arc::new(Semaphore::new(Limits::default().uploads)),
            tool_calls: Arc::new(Semaphore::new(Limits::default().tool_calls)),
            started: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Serves memories.
    #[must_use]
    pub fn with_memory(mut self, memory: agentflow_memory::Service) -> Self {
        self.memory = Some(memory);
        self
    }

    /// Serves documents, by [`crate::document_router`].
    #[must_use]
    pub fn with_documents(mut self, documents: agentflow_rag::Service) -> Self {
        self.documents = Some(documents);
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.uploads = Arc::new(Semaphore::new(limits.uploads));
        self.tool_calls = Arc::new(Semaphore::new(limits.tool_calls));
        self.limits = Arc::new(limits);
        self
    }

    /// Sets who is let in. With [`Doors::Guarded`] the limits of tenants also hold.
    #[must_use]
    pub fn with_auth(mut self, auth: Arc<Auth>, doors: Doors) -> Self {
        if doors == Doors::Guarded {
            self.service.set_admission(Arc::new(Admit(auth.clone())));
        }
        (self.auth, self.doors) = (Some(auth), doors);
        self
    }

    /// Sets how browsers are told to treat the server.
    #[must_use]
    pub fn with_security(mut self, security: Security) -> Self {
        self.security = Arc::new(security);
        self
    }

    /// Serves over TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Arc<Tls>) -> Self {
        self.tls = Some(tls);
        self
    }

    /// A place for a stream of the tenant, if streams are counted.
    pub(crate) fn stream_place(&self, scope: &Scope) -> Result<Option<StreamPlace>, Limited> {
        match (&self.auth, self.doors) {
            (Some(auth), Doors::Guarded) => auth.open_stream(scope).map(Some),
            _ => Ok(None),
        }
    }

    /// Adds figures to `/metrics`; their names must differ from those of others.
    #[must_use]
    pub fn with_figures(mut self, figures: Arc<dyn Figures>) -> Self {
        self.figures.push(figures);
        self
    }

    /// Adds values to `/metrics`; their names must differ from those of others.
    #[must_use]
    pub fn with_samples(mut self, samples: Samples) -> Self {
        self.samples.push(samples);
        self
    }

    /// Adds a part to `/health`.
    #[must_use]
    pub fn with_part(mut self, part: Arc<dyn Part>) -> Self {
        self.parts.push(part);
        self
    }

    /// Sets what `/info` says.
    #[must_use]
    pub fn with_info(mut self, info: Info) -> Self {
        self.info = Arc::new(info);
        self
    }
}
