//! One process that serves: backend, graph hosts, run service, worker, listener.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use agentflow_auth::Auth;
use agentflow_graph::{Graph, Runtime};
use agentflow_mcp::Pool;
use agentflow_models::Registry;
use agentflow_runs::{
    host::GraphHost,
    patience,
    service::{Delivery, MissedFirings, Service, ServiceConfig, ServiceParts},
};
use agentflow_server::AppState;
use agentflow_types::{Error, Result, SystemClock};
use agentflow_workers::{Project, Workers};
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    banner::Ready,
    config::{Config, Missed},
    database::{self, Database},
    descriptors, documents, figures, heap,
    host::{Hosted, InProcess},
    memory, models,
    project::{self, Given},
    recollection::Recollection,
    remembered::Remembered,
    webhook,
};

/// Ports that are tried after the default one when it is taken.
const PORT_TRIES: u16 = 20;

/// Connections that wait to be accepted; what the standard library asks for.
const BACKLOG: u32 = 1024;

/// The database in the data folder.
pub const DATABASE_FILE: &str = "agentflow.db";

/// Whether data outlives the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// In the data folder.
    #[default]
    OnDisk,
    /// Only in memory.
    Nothing,
}

/// A server that is being put together.
pub struct App {
    config: Config,
    keep: Keep,
    graphs: BTreeMap<String, Hosted>,
    graphs_from: String,
    model: Option<String>,
    mcp: Pool,
    memory: Recollection,
    /// The configured models, if there are any.
    registry: Option<Arc<Registry>>,
    /// The project whose graphs are in other processes.
    project: Option<Project>,
}

impl App {
    /// An app without graphs.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mcp = Pool::with_limits(config.mcp.limits());
        Self {
            config,
            keep: Keep::OnDisk,
            graphs: BTreeMap::new(),
            graphs_from: "this program".into(),
            model: None,
            mcp,
            memory: Recollection::default(),
            registry: None,
            project: None,
        }
    }

    /// The connections to MCP servers; the server ends them when it stops. Graphs written in Rust
    /// may use them.
    #[must_use]
    pub fn mcp(&self) -> &Pool {
        &self.mcp
    }

    /// Long-term memory, from when the server has started. Graphs written in Rust may use it in
    /// their nodes.
    #[must_use]
    pub fn memory(&self) -> &Recollection {
        &self.memory
    }

    /// Sets whether data outlives the process.
    #[must_use]
    pub fn keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// Adds a graph under an id.
    #[must_use]
    pub fn graph(mut self, id: &str, graph: Arc<Graph>) -> Self {
        let hosted = Hosted {
            graph,
            name: id.to_owned(),
            description: None,
        };
        self.graphs.insert(id.to_owned(), hosted);
        self
    }

    /// Adds the graphs of a LangGraph project, which run in processes of their own as the section
    /// `workers` of the configuration says.
    #[must_use]
    pub fn project(mut self, project: Project) -> Self {
        self.project = Some(project);
        self
    }

    /// Adds the graphs that the configuration names, and those of a LangGraph project; or the
    /// built-in ones if there are neither.
    ///
    /// # Errors
    /// `Invalid` with the report of all mistakes in graph files, or in `langgraph.json`.
    pub async fn graphs_from_config(mut self) -> Result<Self> {
        let models = models::from_config(&self.config.models).await?;
        self.model = models.default.clone();
        self.registry = Some(models.registry.clone());
        let section = &self.config.workers;
        if section.is_set() {
            self.project = Some(Project::read(&section.project)?);
        }
        let none_named = self.config.graphs.is_empty();
        let mut sources = Vec::new();
        if let (Some(file), false) = (&self.config.file, none_named) {
            sources.push(file_name(file));
        }
        if let Some(project) = &self.project {
            sources.push(file_name(&project.file));
        }
        if none_named && self.project.is_some() {
            self.graphs_from = sources.join(" and ");
            return Ok(self);
        }
        let given = Given {
            mcp: self.mcp.clone(),
            memory: self.config.memory.enabled.then(|| self.memory.clone()),
        };
        let loaded = project::load(&self.config, &models, &given)?;
        self.graphs_from = match sources.is_empty() {
            true => "the built-in project".into(),
            false => sources.join(" and "),
        };
        self.graphs.extend(loaded);
        Ok(self)
    }

    /// Opens the backend, starts worker and listener. Ready when it returns.
    ///
    /// # Errors
    /// `Conflict` if the data folder or an explicitly chosen port is in use.
    pub async fn start(self) -> Result<Running> {
        let mut database = database::open(&self.config, self.keep).await?;
        let backend = database.backend.clone();
        let settings = service_config(&self.config, &database);
        let runtime = runtime_over(&database, &settings);
        let meter = runtime.meter.clone();
        let workers = self
            .project
            .map(|project| crate::workers::open(&self.config.workers, project, &runtime));
        let workers = workers.transpose()?;
        let tokens = self.registry.as_ref().map(|registry| registry.tokens());
        let samples = figures::of(meter, tokens, workers.clone());
        let models = (self.registry.as_ref(), self.model.as_deref());
        let memory = memory::open(&self.config, &database, models, memory::GRACE).await?;
        let cache = Remembered::new(database.backend.cache.clone(), database.codec.clone());
        let native = InProcess::new(self.graphs, runtime).remembering(cache);
        let (hosts, graphs) = hosts_of(native, workers.as_ref());
        let service = Service::open(ServiceParts {
            backend,
            hosts,
            clock: Arc::new(SystemClock),
            config: settings,
            webhook: Some(Arc::new(webhook::from_config(&self.config)?)),
        })
        .await?;

        let auth = crate::auth::open(&self.config, database.backend.clone())?;
        let told = crate::auth::told(&self.config, &auth).await?;
        let (listener, address, wanted_port) = bind_api(&self.config)?;
        let state = state(&self.config, &database, service.clone(), auth.clone())?;
        let stop = CancellationToken::new();
        let remembers = memory::told(memory.as_ref());
        let (state, remembering) = remember(state, memory, &self.memory, &stop);
        let worker = tokio::spawn(work(service, stop.clone()));
        let state = state
            .with_samples(samples)
            .with_part(Arc::new(figures::Model(self.model.clone())));
        let filed = documents::open(&self.config, &database, self.registry.as_ref())?;
        let documents = documents::Serving::start(&self.config, &state, filed, &stop)?;
        let upkeep = tokio::spawn(auth.upkeep(stop.clone()));
        let heap = tokio::spawn(heap::keep_small(stop.clone()));
        let listening = tokio::spawn(agentflow_server::serve(
            listener,
            agentflow_server::router(state.clone()),
            state,
            stop.clone(),
        ));
        Ok(Running {
            address,
            scheme: scheme(&self.config),
            auth: told,
            wanted_port,
            graphs,
            graphs_from: self.graphs_from,
            model: self.model,
            remembers,
            data: database.place.take(),
            drain: Duration::from_secs(self.config.server.drain_seconds),
            stop,
            worker,
            upkeep,
            remembering,
            documents,
            heap,
            listening,
            mcp: self.mcp,
            workers,
            database,
        })
    }
}

/// Serves memories, to nodes of graphs too, and works on them in the background.
fn remember(
    state: AppState,
    memory: Option<agentflow_memory::Service>,
    nodes: &Recollection,
    stop: &CancellationToken,
) -> (AppState, JoinHandle<()>) {
    let Some(memory) = memory else {
        return (state, tokio::spawn(async {}));
    };
    nodes.open(memory.clone(), ServiceConfig::default().patience);
    let work = tokio::spawn({
        let (memory, stop) = (memory.clone(), stop.clone());
        async move { memory.run(stop).await }
    });
    let health = Arc::new(memory::Health(memory.clone()));
    (state.with_part(health).with_memory(memory), work)
}

/// All graph hosts, and the ids of their graphs.
fn hosts_of(
    native: InProcess,
    workers: Option<&Arc<Workers>>,
) -> (Vec<Arc<dyn GraphHost>>, Vec<String>) {
    let mut hosts: Vec<Arc<dyn GraphHost>> = vec![Arc::new(native)];
    if let Some(workers) = workers {
        hosts.push(workers.clone());
    }
    let graphs = hosts.iter().flat_map(|host| host.graphs());
    let mut graphs: Vec<String> = graphs.map(|graph| graph.graph_id).collect();
    graphs.sort();
    (hosts, graphs)
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// What graphs run with.
fn runtime_over(database: &Database, settings: &ServiceConfig) -> Runtime {
    let backend = &database.backend;
    let (checkpoints, store) = (backend.checkpoints.clone(), backend.store.clone());
    let (saver, store) = match database.is_never_away() {
        true => (checkpoints, store),
        false => (
            patience::checkpoints(checkpoints, settings.patience),
            patience::store(store, settings.patience),
        ),
    };
    Runtime {
        saver: Some(saver),
        store: Some(store),
        ..Runtime::default()
    }
}

/// What the listener serves.
fn state(
    config: &Config,
    database: &Database,
    service: Arc<Service>,
    auth: Arc<Auth>,
) -> Result<AppState> {
    let state = AppState::new(service).with_limits(server_limits(config));
    let state = crate::auth::protect(config, state, auth)?;
    let state = match &database.figures {
        Some(figures) => state.with_figures(figures.clone()),
        None => state,
    };
    let state = match &database.qdrant {
        Some(qdrant) => state.with_part(qdrant.clone()),
        None => state,
    };
    Ok(match &database.redis {
        Some(redis) => state
            .with_figures(Arc::new(redis.redis.clone()))
            .with_part(redis.clone()),
        None => state,
    })
}

fn scheme(config: &Config) -> &'static str {
    match config.server.tls.is_on() {
        true => "https",
        false => "http",
    }
}

fn server_limits(config: &Config) -> agentflow_server::Limits {
    let server = &config.server;
    agentflow_server::Limits {
        body_bytes: server.body_limit_bytes,
        upload_bytes: config.documents.upload_limit_bytes,
        depth: server.max_depth,
        header_bytes: server.header_limit_bytes,
        headers: server.max_headers,
        body_timeout: Duration::from_secs(server.body_timeout_seconds),
        header_timeout: Duration::from_secs(server.header_timeout_seconds),
        connections: descriptors::room_for(server.max_connections),
        heartbeat: Duration::from_secs(server.heartbeat_seconds),
        stall: Duration::from_secs(server.stall_seconds),
        frames: server.stream_buffer_frames,
        stream_bytes: server.stream_buffer_bytes,
        subscriptions: server.socket_subscriptions,
        tool_calls: config.mcp.max_calls,
        tool_call: Duration::from_secs(config.mcp.call_timeout_seconds),
        tool_result_bytes: config.mcp.result_limit_bytes,
        ..agentflow_server::Limits::default()
    }
}

fn service_config(config: &Config, database: &Database) -> ServiceConfig {
    ServiceConfig {
        // Process numbers repeat between machines, and in containers nearly always.
        worker_id: format!(
            "worker-{}-{}",
            std::process::id(),
            uuid::Uuid::new_v4().simple()
        ),
        concurrency: config.runs.concurrency,
        max_attempts: config.runs.max_attempts,
        lease: Duration::from_secs(config.runs.lease_seconds),
        run_timeout: Duration::from_secs(config.runs.timeout_seconds),
        drain_timeout: Duration::from_secs(config.server.drain_seconds),
        event_retention: Duration::from_secs(config.runs.event_retention_seconds),
        live_event_bytes: config.runs.live_event_bytes,
        exclusive: database.is_exclusive,
        delivery: Delivery {
            max_attempts: config.webhooks.max_attempts,
            retry: Duration::from_secs(config.webhooks.retry_seconds),
            timeout: Duration::from_secs(config.webhooks.timeout_seconds),
            ..Delivery::default()
        },
        missed: match config.crons.missed {
            Missed::Once => MissedFirings::Once,
            Missed::Skip => MissedFirings::Skip,
            Missed::All => MissedFirings::All,
        },
        ..ServiceConfig::default()
    }
}

/// Executes runs.
async fn work(service: Arc<Service>, stop: CancellationToken) -> Result<()> {
    service.run_worker(stop).await
}

/// Binds the port of the agent API, as [`bind`].
fn bind_api(config: &Config) -> Result<(TcpListener, SocketAddr, Option<u16>)> {
    bind(config, config.server.port, config.port_is_explicit)
}

/// Binds the wanted port, or the next free one if nobody chose this one; the listener, its address,
/// and the port that was wanted if it is another one.
pub(crate) fn bind(
    config: &Config,
    wanted: u16,
    is_chosen: bool,
) -> Result<(TcpListener, SocketAddr, Option<u16>)> {
    let tries = if is_chosen { 0 } else { PORT_TRIES };
    let mut last = None;
    for port in wanted..=wanted.saturating_add(tries) {
        match listen(SocketAddr::new(config.server.host, port), config) {
            Ok(listener) => {
                let address = listener
                    .local_addr()
                    .map_err(|err| Error::busy("the listener has no address").source_err(err))?;
                return Ok((listener, address, (port != wanted).then_some(wanted)));
            }
            Err(err) if err.kind() == std::io::ErrorKind::AddrInUse => last = Some(err),
            Err(err) => {
                return Err(Error::invalid("the address cannot be listened on")
                    .with("address", SocketAddr::new(config.server.host, port))
                    .source_err(err));
            }
        }
    }
    let message = match tries {
        0 => format!("port {wanted} is in use; stop the other program or choose another --port"),
        _ => format!(
            "ports {wanted} to {} are in use; choose one with --port",
            wanted + tries
        ),
    };
    let mut error = Error::conflict(message);
    if let Some(err) = last {
        error = error.source_err(err);
    }
    Err(error)
}

/// Listens, as [`TcpListener::bind`] does, with the send buffer of the configuration.
fn listen(address: SocketAddr, config: &Config) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    if config.server.send_buffer_bytes > 0 {
        // Accepted connections have it from here.
        socket.set_send_buffer_size(config.server.send_buffer_bytes)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A server that serves.
pub struct Running {
    address: SocketAddr,
    scheme: &'static str,
    auth: String,
    wanted_port: Option<u16>,
    graphs: Vec<String>,
    graphs_from: String,
    model: Option<String>,
    remembers: String,
    data: Option<String>,
    drain: Duration,
    stop: CancellationToken,
    worker: JoinHandle<Result<()>>,
    upkeep: JoinHandle<()>,
    remembering: JoinHandle<()>,
    documents: documents::Serving,
    heap: JoinHandle<()>,
    listening: JoinHandle<Result<()>>,
    mcp: Pool,
    /// Processes that execute graphs.
    workers: Option<Arc<Workers>>,
    /// Held open until everything that writes has ended.
    database: Database,
}

impl Running {
    /// Base URL of the agent API.
    #[must_use]
    pub fn url(&self) -> String {
        let (scheme, port) = (self.scheme, self.address.port());
        match self.address.ip() {
            IpAddr::V4(ip) => format!("{scheme}://{ip}:{port}"),
            IpAddr::V6(ip) => format!("{scheme}://[{ip}]:{port}"),
        }
    }

    /// Facts for the banner; `started` is when the process began.
    #[must_use]
    pub fn ready(&self, started: Instant) -> Ready {
        Ready {
            event: "ready",
            version: env!("CARGO_PKG_VERSION"),
            api: self.url(),
            data: self.data.clone(),
            graphs: self.graphs.clone(),
            graphs_from: self.graphs_from.clone(),
            auth: self.auth.clone(),
            model: self.model.clone(),
            memory: self.remembers.clone(),
            documents: self.documents.url(self.scheme),
            wanted_port: self.wanted_port,
            pid: std::process::id(),
            ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Begins to stop: no new connections, no new runs.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Serves until Ctrl-C or SIGTERM, then drains. A second signal ends the process at once.
    ///
    /// # Errors
    /// What the worker or the listener failed with.
    pub async fn until_signal(self) -> Result<()> {
        self.until(Signals::listen()?).await
    }

    /// As [`Running::until_signal`], with signals that were listened for before.
    ///
    /// # Errors
    /// What the worker or the listener failed with.
    pub async fn until(self, mut signals: Signals) -> Result<()> {
        tokio::select! {
            () = signals.next() => {}
            () = self.stop.cancelled() => {}
        }
        eprintln!(
            "stopping: waiting up to {} s for running work",
            self.drain.as_secs()
        );
        tokio::spawn(async move {
            signals.next().await;
            // Nothing acknowledged is lost: the next start takes interrupted runs up again.
            std::process::exit(130);
        });
        self.shut_down().await
    }

    /// Stops and waits for everything to end.
    ///
    /// # Errors
    /// What the worker or the listener failed with.
    pub async fn shut_down(self) -> Result<()> {
        self.stop.cancel();
        let panicked = |err| Error::bug("a server task panicked").source_err(err);
        let (worker, listening) = (self.worker.await, self.listening.await);
        self.upkeep.await.map_err(panicked)?;
        self.remembering.await.map_err(panicked)?;
        self.documents.ended().await?;
        self.heap.await.map_err(panicked)?;
        self.mcp.close().await;
        if let Some(workers) = &self.workers {
            workers.close().await;
        }
        drop(self.database);
        worker.map_err(panicked)?.and(listening.map_err(panicked)?)
    }
}

/// Ctrl-C and SIGTERM. From the moment this exists they do not end the process by themselves.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// `Busy` if the system refuses.
    pub fn listen() -> Result<Self> {
        let listen = |kind| {
            signal(kind)
                .map_err(|err| Error::busy("signals cannot be listened for").source_err(err))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Completes at the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
