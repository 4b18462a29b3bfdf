//! What every handler shares: the service, limits, and what is known about this server.

use std::{sync::Arc, time::Duration};

use agentflow_runs::service::Service;
use agentflow_storage::figures::Figures;
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{exposition::Sample, health::Part, metrics::Metrics};

/// Limits of the server. Each protects memory or time against a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Most bytes of a request body; more is answered with 413.
    pub body_bytes: usize,
    /// Most nested lists and objects of a request body.
    pub depth: usize,
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
            depth: 100,
            body_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(30),
            connections: 12_000,
            heartbeat: Duration::from_secs(5),
            stall: Duration::from_secs(30),
            frames: 64,
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

/// State of the server. Clones share it.
#[derive(Clone)]
pub struct AppState {
    pub(crate) service: Arc<Service>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) info: Arc<Info>,
    pub(crate) metrics: Arc<Metrics>,
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
            limits: Arc::default(),
            info: Arc::default(),
            metrics: Arc::default(),
            figures: Vec::new(),
            samples: Vec::new(),
            parts: Vec::new(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            tool_calls: Arc::new(Semaphore::new(Limits::default().tool_calls)),
            started: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Sets the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.tool_calls = Arc::new(Semaphore::new(limits.tool_calls));
        self.limits = Arc::new(limits);
        self
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
