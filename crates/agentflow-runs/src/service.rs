//! The run service: everything that the agent API does, without HTTP.

mod admission;
mod assistants;
mod attend;
mod conclude;
mod crons;
mod execute;
mod items;
mod outbox;
mod runs;
mod signals;
mod subscribe;
mod temporary;
mod threads;
mod worker;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, atomic::Ordering::Relaxed},
    time::Duration,
};

use agentflow_storage::{
    Backend,
    record::{Ages, Assistant, CancelAction, Run, RunStatus},
    signal::Signal,
};
use agentflow_types::{
    AssistantId, Clock, DEFAULT_TENANT, Error, ErrorKind, Map, Result, RunId, Scope, Timestamp,
    Value,
};
use indexmap::IndexMap;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

pub use admission::Admission;
pub use assistants::{CreateAssistant, DeleteThreads, IfExists, PatchAssistant};
pub use attend::Awaited;
pub use crons::{CreateCron, MissedFirings, PatchCron};
pub use outbox::{Delivery, Webhook};
pub use subscribe::{Coming, END, Subscription, Topic};
pub use threads::{CreateThread, PatchThread, StateUpdate};

use crate::{
    host::{GraphHost, GraphInfo},
    hub::Hub,
    measure::{Measured, Meter},
    patience::Patience,
};

/// Settings of the service.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// Name of this worker in leases.
    pub worker_id: String,
    /// Whether this process is the only one on its database: then runs that were running when
    /// it starts belong to nobody and are taken up at once.
    pub exclusive: bool,
    /// Runs that execute at once.
    pub concurrency: usize,
    /// Attempts of a run in a row that make no checkpoint before their worker is lost; then it
    /// counts as failed.
    pub max_attempts: u32,
    /// Length of a lease; renewed at a third of it.
    pub lease: Duration,
    /// Longest time of one attempt.
    pub run_timeout: Duration,
    /// How long running work may go on after the worker was told to stop.
    pub drain_timeout: Duration,
    /// How long running work, and who reads it, waits for a database that is away; then a run is
    /// given back.
    pub patience: Patience,
    /// How long events of ended runs are kept.
    pub event_retention: Duration,
    /// Bytes of the newest events that are held in memory for those who listen.
    pub live_event_bytes: usize,
    /// Pause between looks at the database for work and news of other processes, lost leases,
    /// crons and expired threads.
    pub poll: Duration,
    /// How webhooks are delivered.
    pub delivery: Delivery,
    /// What happens to firings of crons that were missed.
    pub missed: MissedFirings,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            worker_id: format!("worker-{}", std::process::id()),
            exclusive: false,
            concurrency: 64,
            max_attempts: 3,
            lease: agentflow_storage::record::LEASE,
            run_timeout: Duration::from_secs(86_400),
            drain_timeout: Duration::from_secs(30),
            patience: Patience(Duration::from_secs(300)),
            event_retention: Duration::from_secs(7 * 86_400),
            live_event_bytes: 16 << 20,
            poll: Duration::from_secs(1),
            delivery: Delivery::default(),
            missed: MissedFirings::default(),
        }
    }
}

/// What the service is made of.
pub struct ServiceParts {
    /// Data.
    pub backend: Backend,
    /// Graphs; ids must be unique among them.
    pub hosts: Vec<Arc<dyn GraphHost>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Settings.
    pub config: ServiceConfig,
    /// Where ends of runs are reported; `None` refuses runs that ask for it.
    pub webhook: Option<Arc<dyn Webhook>>,
}

/// How a run ended, for those who waited in this process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) error: Value,
    /// `wait` result: values with `__interrupt__` if there are interrupts.
    pub(crate) result: Value,
}

/// Somebody who waits for a run's end.
struct Waiter {
    tenant: Arc<str>,
    tx: oneshot::Sender<Arc<Ended>>,
}

/// A run that executes in this process.
struct Running {
    stop: CancellationToken,
    action: Option<CancelAction>,
    /// Has it look at once whether somebody asked for a stop.
    nudge: Arc<Notify>,
}

/// State that belongs to this process only.
#[derive(Default)]
struct Local {
    /// Runs executing here, for cancellation.
    running: HashMap<RunId, Running>,
    /// Stops of runs that do not execute here, or not yet: a run that was just claimed finds its
    /// stop here when it starts. Oldest first, at most [`EARLY_STOPS`].
    early_stops: IndexMap<RunId, CancelAction>,
    /// Tenants that have their system assistants, at most [`WELCOMED`].
    welcomed: HashSet<Box<str>>,
    /// Who waits for a run's end.
    waiters: HashMap<RunId, Vec<Waiter>>,
    /// Threads of stateless runs that are over.
    leaving: temporary::Leaving,
}

/// Stops that are remembered for runs that may be about to start here. A run that misses its stop
/// learns of it with its next heartbeat.
const EARLY_STOPS: usize = 1024;

/// Tenants that are remembered as having their system assistants.
const WELCOMED: usize = 10_000;

/// The run service. All calls take the [`Scope`] of whoever asks.
pub struct Service {
    backend: Backend,
    hosts: Vec<Arc<dyn GraphHost>>,
    by_graph: HashMap<String, usize>,
    clock: Arc<dyn Clock>,
    config: ServiceConfig,
    webhook: Option<Arc<dyn Webhook>>,
    /// Set once, before the first request.
    admission: OnceLock<Arc<dyn Admission>>,
    hub: Hub,
    local: Mutex<Local>,
    /// Free places for runs in this process.
    slots: Arc<Semaphore>,
    /// Rung when there may be work.
    bell: Notify,
    /// Rung when what other processes said may have been lost.
    look: Arc<Notify>,
    /// Rung when there may be a letter to deliver.
    letters: Notify,
    /// Everything that executes here; the drain waits for it.
    tasks: tokio_util::task::TaskTracker,
    /// Fires when the drain time is over: what still executes is given back.
    released: CancellationToken,
    meter: Meter,
    /// Whether the worker left work because there was no room.
    starved: std::sync::atomic::AtomicBool,
    /// Whether a worker of this process takes runs.
    working: std::sync::atomic::AtomicBool,
    /// How its claims went.
    claims: worker::Claims,
}

/// What the database holds, for health and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs by status.
    pub runs: Vec<(RunStatus, u64)>,
    /// Runs executing in this process.
    pub executing: usize,
    /// Runs that this process's worker found in the queue and tried to claim.
    pub claims_tried: u64,
    /// Of these, those that another worker had claimed meanwhile.
    pub claims_missed: u64,
    /// How long runs of all processes wait and execute.
    pub ages: Ages,
    /// Moment of the counting.
    pub at: Timestamp,
}

impl Service {
    /// Opens the service: each graph gets its system assistant if it has none.
    ///
    /// # Errors
    /// `Invalid` if two hosts offer one graph id; errors of the backend.
    pub async fn open(parts: ServiceParts) -> Result<Arc<Self>> {
        let mut by_graph = HashMap::new();
        for (index, host) in parts.hosts.iter().enumerate() {
            for graph in host.graphs() {
                if by_graph.insert(graph.graph_id.clone(), index).is_some() {
                    return Err(Error::invalid("two graphs have the same id")
                        .with("graph_id", graph.graph_id));
                }
            }
        }
        let signals = (!parts.config.exclusive).then(|| parts.backend.signals.clone());
        let live_bytes = parts.config.live_event_bytes;
        let service = Arc::new(Self {
            slots: Arc::new(Semaphore::new(parts.config.concurrency)),
            backend: parts.backend,
            hosts: parts.hosts,
            by_graph,
            clock: parts.clock,
            config: parts.config,
            webhook: parts.webhook,
            admission: OnceLock::new(),
            hub: Hub::new(signals, live_bytes),
            local: Mutex::default(),
            bell: Notify::new(),
            look: Arc::default(),
            letters: Notify::new(),
            meter: Meter::new(),
            tasks: tokio_util::task::TaskTracker::new(),
            released: CancellationToken::new(),
            starved: std::sync::atomic::AtomicBool::new(false),
            working: std::sync::atomic::AtomicBool::new(false),
            claims: worker::Claims::default(),
        });
        service.register_system_assistants(&Scope::local()).await?;
        Ok(service)
    }

    /// Has new runs counted. Whoever comes first stays.
    pub fn set_admission(&self, admission: Arc<dyn Admission>) {
        let _ = self.admission.set(admission);
    }

    /// Gives a tenant its system assistants, once in the life of this process. The default
    /// tenant has them from the start.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn welcome(&self, scope: &Scope) -> Result<()> {
        let tenant = scope.tenant();
        if tenant == DEFAULT_TENANT || self.local().welcomed.contains(tenant) {
            return Ok(());
        }
        self.register_system_assistants(scope).await?;
        let mut local = self.local();
        if local.welcomed.len() >= WELCOMED {
            local.welcomed.clear();
        }
        local.welcomed.insert(tenant.into());
        Ok(())
    }

    /// The graphs of all hosts, sorted by id.
    #[must_use]
    pub fn graphs(&self) -> Vec<GraphInfo> {
        let mut graphs: Vec<_> = self.hosts.iter().flat_map(|host| host.graphs()).collect();
        graphs.sort_by(|a, b| a.graph_id.cmp(&b.graph_id));
        graphs
    }

    /// Whether the database answers, and what it holds.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn counts(&self) -> Result<Counts> {
        let threads = &self.backend.threads;
        let (runs, ages) = (threads.counts().await?, threads.ages().await?);
        Ok(Counts {
            runs,
            executing: self.local().running.len(),
            claims_tried: self.claims.tried.load(Relaxed),
            claims_missed: self.claims.missed.load(Relaxed),
            ages,
            at: self.now(),
        })
    }

    /// What this process measured about runs.
    #[must_use]
    pub fn measured(&self) -> Measured {
        self.meter.read()
    }

    /// Whether a worker of this process takes runs, and how many more it could take at once.
    #[must_use]
    pub fn worker_room(&self) -> Option<usize> {
        let works = self.working.load(std::sync::atomic::Ordering::Acquire);
        works.then(|| self.slots.available_permits())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn local(&self) -> MutexGuard<'_, Local> {
        self.local
            .lock()
            .expect("nothing panics while local state is held")
    }

    fn host(&self, graph_id: &str) -> Result<&Arc<dyn GraphHost>> {
        match self.by_graph.get(graph_id) {
            Some(index) => Ok(&self.hosts[*index]),
            None => {
                let known: Vec<String> = self.graphs().into_iter().map(|g| g.graph_id).collect();
                Err(Error::not_found(format!(
                    "Graph '{graph_id}' not found. Expected one of: {known:?}"
                )))
            }
        }
    }

    async fn register_system_assistants(&self, scope: &Scope) -> Result<()> {
        for graph in self.graphs() {
            let id = AssistantId::system_in(scope.tenant(), &graph.graph_id);
            if self.backend.assistants.get(scope, id).await?.is_some() {
                continue;
            }
            let now = self.now();
            let mut metadata = Map::new();
            metadata.insert("created_by".into(), Value::str("system"));
            let assistant = Assistant {
                assistant_id: id,
                name: graph.name,
                description: graph.description,
                graph_id: graph.graph_id,
                version: 1,
                config: Map::new(),
                context: Map::new(),
                metadata,
                created_at: now,
                updated_at: now,
            };
            match self.backend.assistants.insert(scope, assistant).await {
                Err(err) if err.kind() != ErrorKind::Conflict => return Err(err),
                _ => {}
            }
        }
        Ok(())
    }

    /// Wakes the dispatcher if the end of a run is told to somebody outside.
    fn letters_may_wait(&self, ended: &Run) {
        if ended
            .kwargs
            .get("webhook")
            .is_some_and(|url| !url.is_null())
        {
            self.letters.notify_one();
        }
    }

    /// Tells those who wait in this process that a run ended.
    fn tell_waiters(&self, scope: &Scope, run: &Run, result: Value) {
        let waiters = self.local().waiters.remove(&run.run_id).unwrap_or_default();
        let ended = Arc::new(Ended {
            error: run.error.clone(),
            result,
        });
        for waiter in waiters {
            if &*waiter.tenant == scope.tenant() {
                // Whoever stopped waiting does not mind.
                let _ = waiter.tx.send(ended.clone());
            }
        }
        self.signal(Signal::Ended(run.run_id));
    }
}
