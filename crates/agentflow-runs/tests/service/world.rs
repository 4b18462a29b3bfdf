//! A service over the in-memory backend with a scripted host and a clock that tests move.

use std::{sync::Arc, time::Duration};

use agentflow_runs::{
    config::{CreateRun, RunThread},
    service::{CreateThread, Service, ServiceConfig, ServiceParts, Topic, Webhook},
};
use agentflow_storage::{Backend, event::Event, memory::Memory, record::Run};
use agentflow_types::{
    Error, ErrorKind, ManualClock, Result, RunId, Scope, ThreadId, Timestamp, Value,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::host::{GRAPH, Scripted};

/// Noon of a Thursday.
pub const NOON: Timestamp = Timestamp(1_767_268_800_000_000);

pub struct World {
    pub service: Arc<Service>,
    pub host: Arc<Scripted>,
    pub clock: Arc<ManualClock>,
    pub scope: Scope,
    pub backend: Backend,
    pub shutdown: CancellationToken,
    pub worker: Option<JoinHandle<Result<()>>>,
}

pub fn config() -> ServiceConfig {
    ServiceConfig {
        worker_id: "worker-a".into(),
        ..ServiceConfig::default()
    }
}

impl World {
    /// A service with a worker.
    pub async fn new() -> Self {
        let mut world = Self::idle(config()).await;
        world.start_worker().await;
        world
    }

    /// A service without a worker.
    pub async fn idle(config: ServiceConfig) -> Self {
        Self::over(
            Memory::open(),
            Arc::new(ManualClock::at(NOON)),
            config,
            None,
        )
        .await
    }

    /// A service over an existing database.
    pub async fn over(
        backend: Backend,
        clock: Arc<ManualClock>,
        config: ServiceConfig,
        webhook: Option<Arc<dyn Webhook>>,
    ) -> Self {
        let host = Scripted::new(backend.clone());
        let service = Service::open(ServiceParts {
            backend: backend.clone(),
            hosts: vec![host.clone()],
            clock: clock.clone(),
            config,
            webhook,
        });
        Self {
            service: service.await.unwrap(),
            host,
            clock,
            scope: Scope::local(),
            backend,
            shutdown: CancellationToken::new(),
            worker: None,
        }
    }

    /// Starts the worker and lets it get ready.
    pub async fn start_worker(&mut self) {
        let (service, stop) = (self.service.clone(), self.shutdown.clone());
        self.worker = Some(tokio::spawn(async move { service.run_worker(stop).await }));
        settle().await;
    }

    /// Stops the worker and waits for it.
    pub async fn stop_worker(&mut self) {
        self.shutdown.cancel();
        self.worker.take().unwrap().await.unwrap().unwrap();
    }

    pub async fn thread(&self) -> ThreadId {
        let created = self
            .service
            .create_thread(&self.scope, CreateThread::default())
            .await;
        created.unwrap().thread_id
    }

    /// A run with this script on a thread.
    pub async fn run(&self, thread: ThreadId, script: Value) -> Run {
        self.create(request(RunThread::Existing(thread), script))
            .await
            .unwrap()
    }

    pub async fn create(&self, request: CreateRun) -> Result<Run> {
        self.service.create_run(&self.scope, request).await
    }

    pub async fn join(&self, run: &Run) -> Value {
        let joined = self
            .service
            .join(&self.scope, Some(run.thread_id), run.run_id)
            .await;
        joined.unwrap()
    }

    pub async fn status(&self, run: &Run) -> &'static str {
        let run = self
            .service
            .get_run(&self.scope, Some(run.thread_id), run.run_id)
            .await;
        run.unwrap().status.as_str()
    }

    pub async fn thread_status(&self, thread: ThreadId) -> &'static str {
        self.service
            .get_thread(&self.scope, thread)
            .await
            .unwrap()
            .status
            .as_str()
    }

    /// All events of a run, to its end, as `kind data`.
    pub async fn events(&self, thread: ThreadId, run: RunId) -> Vec<String> {
        let mut reader = self
            .service
            .subscribe(&self.scope, thread, Topic::Run(run), Some(0))
            .await
            .unwrap();
        let mut events = vec![];
        while let Some(event) = reader.next().await.unwrap() {
            events.push(shown(&event));
        }
        events
    }

    /// Moves the clock of the service, and lets timers fire.
    pub async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

pub fn shown(event: &Event) -> String {
    format!("{} {}", event.kind, event.data)
}

/// A request for a run of the scripted graph.
pub fn request(thread: RunThread, script: Value) -> CreateRun {
    let mut request = CreateRun::new(GRAPH, thread);
    request.input = script;
    request
}

/// Lets everything that is ready go on; time is paused, so this takes none.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind, message: &str) -> Error {
    let err = result.unwrap_err();
    assert_eq!((err.kind(), err.message()), (kind, message));
    err
}
