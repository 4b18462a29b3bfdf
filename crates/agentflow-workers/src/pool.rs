//! The processes of a project: started before they are needed, watched, replaced.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use agentflow_types::{Error, ErrorKind, Result};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Services,
    listen::{Door, RemoteDoor},
    peer::{self, Hello, Loaded, Peer, Reading, Welcome, Writing},
    process::{Launch, Process},
};

/// Class of the error of a request that no worker could be started for.
pub const START_ERROR: &str = "WorkerStartError";
/// Shortest and longest pause before a process that could not be started is started again.
pub(crate) const BACKOFF: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(30));
/// Longest pause before a process that died of a run is started again: such deaths are as many as
/// attempts are allowed.
const AFTER_DEATH: Duration = Duration::from_secs(1);
/// What Python says when the library is not in the project's environment.
const MISSING: &str = "No module named 'langgraph'";
/// Starts that fail in a row before requests are told, if the processes were killed.
const ENOUGH: usize = 3;
/// A process that lived for this long did not fail at its start.
const STEADY: Duration = Duration::from_secs(30);
/// How long a process that is done may take to end.
const EXIT: Duration = Duration::from_secs(5);

/// Settings of a pool.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Processes.
    pub processes: usize,
    /// Runs of one process at once.
    pub concurrency: usize,
    /// How long a process may take until the project is loaded.
    pub start_timeout: Duration,
    /// Pause between signs of life that are asked for.
    pub ping: Duration,
    /// How long one may take before the process is killed.
    pub stall: Duration,
    /// How long a cancelled request may take to end before its process is replaced.
    pub cancel_grace: Duration,
    /// How long work may go on in a process that is replaced.
    pub drain: Duration,
    /// Largest frame, in bytes.
    pub max_frame_bytes: usize,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            processes: 1,
            concurrency: 32,
            start_timeout: Duration::from_secs(60),
            ping: Duration::from_secs(5),
            stall: Duration::from_secs(60),
            cancel_grace: Duration::from_secs(5),
            drain: Duration::from_secs(30),
            max_frame_bytes: crate::frame::MAX_BODY_BYTES,
        }
    }
}

/// What a request needs of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// One of the places for runs.
    Place,
    /// An answer, however much there is to do.
    Answer,
}

/// A connection that was greeted.
pub(crate) struct Arrival {
    pub(crate) hello: Hello,
    pub(crate) reading: Reading,
    pub(crate) writing: Writing,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) ready: Vec<Arc<Peer>>,
    /// Why the newest start failed, if none succeeded since.
    failure: Option<String>,
    /// Starts that failed since one succeeded.
    failures: usize,
    /// What the newest process could not serve, as the log was told.
    told: Vec<String>,
    /// Who waits for the process that shows a token.
    expected: HashMap<String, oneshot::Sender<Arrival>>,
}

/// A pool of workers.
pub(crate) struct Pool {
    pub(crate) config: PoolConfig,
    launch: Launch,
    project: PathBuf,
    pub(crate) welcome: Welcome,
    pub(crate) services: Services,
    door: Door,
    pub(crate) remote: Option<RemoteDoor>,
    /// Guards who is there; never held across an await.
    state: Mutex<State>,
    /// Rung when somebody came, or has room, or failed.
    pub(crate) changed: Notify,
    /// Grows when the project changed.
    generation: watch::Sender<u64>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// Processes that were started since the beginning.
    started: AtomicUsize,
}

/// A worker that works on a request; gives the place back when dropped.
pub(crate) struct Lease {
    pub(crate) peer: Arc<Peer>,
    pool: Arc<Pool>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.peer.ease();
        self.pool.changed.notify_waiters();
    }
}

/// How watching a process ended.
enum Watched {
    /// It died.
    Died,
    /// Another one takes its place while it finishes its work.
    Leaves(Box<Process>),
    /// The pool stops.
    Stopped(Box<Process>),
}

impl Pool {
    /// Starts the processes in the background.
    pub(crate) fn open(
        config: PoolConfig,
        launch: Launch,
        project: PathBuf,
        welcome: Welcome,
        services: Services,
        (door, remote): (Door, Option<RemoteDoor>),
    ) -> Arc<Self> {
        let pool = Arc::new(Self {
            config,
            launch,
            project,
            welcome,
            services,
            door,
            remote,
            state: Mutex::default(),
            changed: Notify::new(),
            generation: watch::Sender::new(0),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            started: AtomicUsize::new(0),
        });
        pool.tasks.spawn(pool.clone().accept());
        if pool.remote.is_some() {
            pool.tasks.spawn(pool.clone().accept_remote());
        }
        for _ in 0..pool.config.processes {
            pool.tasks.spawn(pool.clone().keep());
        }
        pool
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces all processes, because the project changed.
    pub(crate) fn reload(&self) {
        // What was wrong may be right now.
        self.state().failure = None;
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Processes that were started since the beginning, and those that are ready.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (
            self.started.load(Ordering::Relaxed),
            self.state().ready.len(),
        )
    }

    /// Stops all processes; what they work on may go on for the time of the drain.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.door.remove();
    }

    /// The worker with the least to do.
    ///
    /// # Errors
    /// `Failed` of class [`START_ERROR`] if none can be started, `Busy` if none is ready in time.
    pub(crate) async fn pick(self: &Arc<Self>, need: Need) -> Result<Lease> {
        let until = Instant::now() + self.config.start_timeout;
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // From here on nothing is missed.
            changed.as_mut().enable();
            let is_crowded = match self.try_pick(need)? {
                Ok(lease) => return Ok(lease),
                Err(is_crowded) => is_crowded,
            };
            let patient = async {
                match is_crowded {
                    // There will be a place when a run ends.
                    true => std::future::pending().await,
                    false => tokio::time::sleep_until(until).await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = self.stop.cancelled() => return Err(Error::busy("the server stops")),
                () = patient => {
                    return Err(Error::busy("no worker was ready in time").class(START_ERROR));
                }
            }
        }
    }

    /// A worker, or whether there are some and all are full.
    fn try_pick(self: &Arc<Self>, need: Need) -> Result<Result<Lease, bool>> {
        let state = self.state();
        let open = || state.ready.iter().filter(|peer| !peer.is_retired());
        let fits =
            |peer: &&Arc<Peer>| need == Need::Answer || peer.load() < self.config.concurrency;
        if let Some(peer) = open().filter(fits).min_by_key(|peer| peer.load()) {
            peer.add_load();
            return Ok(Ok(Lease {
                peer: peer.clone(),
                pool: self.clone(),
            }));
        }
        match (open().next(), &state.failure) {
            (None, Some(why)) => Err(Error::failed(why.clone()).class(START_ERROR)),
            (any, _) => Ok(Err(any.is_some())),
        }
    }

    /// Greets whoever connects.
    async fn accept(self: Arc<Self>) {
        loop {
            let (mut reading, writing) = tokio::select! {
                accepted = self.door.accept() => match accepted {
                    Ok(halves) => halves,
                    Err(err) => {
                        tracing::warn!(error = %err, "a worker's connection was not accepted");
                        tokio::time::sleep(BACKOFF.0).await;
                        continue;
                    }
                },
                () = self.stop.cancelled() => return,
            };
            let pool = self.clone();
            // Ends by itself: the first frame must come in time.
            tokio::spawn(async move {
                match peer::hello(&mut reading).await {
                    Ok(hello) => pool.arrived(Arrival {
                        hello,
                        reading,
                        writing,
                    }),
                    Err(err) if err.kind() == ErrorKind::NotFound => {}
                    Err(err) => tracing::warn!(error = %err, "a worker's connection is refused"),
                }
            });
        }
    }

    fn arrived(&self, arrival: Arrival) {
        let expecting = self.state().expected.remove(&arrival.hello.token);
        match expecting {
            // Whoever gave up on the process kills it.
            Some(expecting) => drop(expecting.send(arrival)),
            None => tracing::warn!("a connection to the workers' socket has no valid token"),
        }
    }

    /// Completes when a worker has nothing to do.
    pub(crate) async fn idle(peer: &Peer) {
        loop {
            let eased = peer.eased.notified();
            let mut eased = std::pin::pin!(eased);
            eased.as_mut().enable();
            if peer.load() == 0 {
                return;
            }
            eased.await;
        }
    }

    /// Keeps one process running.
    async fn keep(self: Arc<Self>) {
        let mut pause = Duration::ZERO;
        while !self.stop.is_cancelled() {
            let mut generation = self.generation.subscribe();
            generation.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Perhaps the mistake is gone.
                _ = generation.changed() => {}
                () = self.stop.cancelled() => return,
            }
            let began = Instant::now();
            let mut longest = BACKOFF.1;
            match self.start(&mut generation).await {
                Ok((peer, process)) => {
                    let watched = self.watch(&peer, process, &mut generation).await;
                    let (leaves, process) = match watched {
                        Watched::Died => (false, None),
                        Watched::Leaves(process) => (true, Some(process)),
                        Watched::Stopped(process) => (false, Some(process)),
                    };
                    if let Some(process) = process {
                        self.tasks.spawn(self.clone().leave(peer, process));
                    }
                    if leaves {
                        pause = Duration::ZERO;
                        continue;
                    }
                    longest = AFTER_DEATH;
                }
                Err(err) if err.kind() == ErrorKind::Cancelled => {
                    pause = Duration::ZERO;
                    continue;
                }
                Err(err) => self.failed(&err),
            }
            pause = match began.elapsed() > STEADY {
                true => Duration::ZERO,
                false => (pause * 2).clamp(BACKOFF.0, longest),
            };
        }
    }

    fn failed(&self, err: &Error) {
        if self.stop.is_cancelled() {
            return;
        }
        tracing::error!(error = %err, "a worker could not be started");
        if err.message().contains(MISSING) {
            tracing::error!("`agentflow dev --install` makes an environment with what is needed");
        }
        {
            let mut state = self.state();
            state.failures += 1;
            if err.kind() == ErrorKind::Failed || state.failures >= ENOUGH {
                state.failure = Some(err.to_string());
            }
        }
        self.changed.notify_waiters();
    }

    /// Starts a process and waits until it has loaded the project.
    async fn start(
        self: &Arc<Self>,
        generation: &mut watch::Receiver<u64>,
    ) -> Result<(Arc<Peer>, Process)> {
        let began = Instant::now();
        let token = uuid::Uuid::new_v4().simple().to_string();
        let (tx, rx) = oneshot::channel();
        self.state().expected.insert(token.clone(), tx);
        let address = self.door.address();
        let mut process = Process::start(&self.launch, &self.project, &address, &token)?;
        self.started.fetch_add(1, Ordering::Relaxed);
        let ready = async {
            let Ok(arrival) = rx.await else {
                return Err(Error::busy("the server stops"));
            };
            let peer = Peer::welcome(arrival.hello, arrival.writing, &self.welcome).await;
            // Ends with the connection.
            tokio::spawn(peer.clone().serve(arrival.reading, self.services.clone()));
            peer.ready().await?;
            Ok(peer)
        };
        let outcome = tokio::select! {
            ready = ready => ready,
            last = process.ended() => Err(match last.exited {
                true => Error::failed(last.told()),
                // Whoever killed it may not do so again.
                false => Error::uncertain(last.told()),
            }),
            () = tokio::time::sleep(self.config.start_timeout) => {
                process.kill_with_stacks().await;
                let seconds = self.config.start_timeout.as_secs_f64();
                let why = format!("the project was not loaded within {seconds} s");
                Err(Error::failed(process.ended().await.because(&why)))
            }
            () = self.stop.cancelled() => Err(Error::busy("the server stops")),
            _ = generation.changed() => Err(Error::cancelled("the project changed")),
        };
        self.state().expected.remove(&token);
        let peer = match outcome {
            Ok(peer) => peer,
            Err(err) => {
                process.kill();
                return Err(err.class(START_ERROR));
            }
        };
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            pid = process.pid(),
            ms,
            worker = peer.told,
            "a worker is ready"
        );
        self.warn(peer.ready().await?);
        {
            let mut state = self.state();
            state.failure = None;
            state.failures = 0;
            state.ready.push(peer.clone());
        }
        self.changed.notify_waiters();
        Ok((peer, process))
    }

    /// Says once what cannot be served.
    pub(crate) fn warn(&self, loaded: &Loaded) {
        let broken = loaded
            .graphs
            .iter()
            .filter(|(_, (_, error))| !error.is_null());
        let mut told: Vec<String> = broken
            .map(|(id, (_, error))| {
                let err = peer::load_error(error);
                format!(
                    "graph {id} cannot be loaded: {}: {}",
                    err.class_name(),
                    err.message()
                )
            })
            .chain(loaded.notes.iter().cloned())
            .collect();
        told.sort();
        let is_new = {
            let mut state = self.state();
            let is_new = state.told != told;
            state.told.clone_from(&told);
            is_new
        };
        for line in told.iter().filter(|_| is_new) {
            tracing::warn!("{line}");
        }
    }

    pub(crate) fn remove(&self, peer: &Arc<Peer>) {
        peer.retire();
        self.state().ready.retain(|other| !Arc::ptr_eq(other, peer));
    }

    /// Watches a process until it dies or is to go.
    async fn watch(
        &self,
        peer: &Arc<Peer>,
        process: Process,
        generation: &mut watch::Receiver<u64>,
    ) -> Watched {
        let mut process = Box::new(process);
        let why = tokio::select! {
            last = process.ended() => last.told(),
            () = peer.link.closed().cancelled() => {
                // It usually ends at the same moment, and says more.
                match tokio::time::timeout(EXIT, process.ended()).await {
                    Ok(last) => last.told(),
                    Err(_) => {
                        process.kill();
                        let last = process.ended().await;
                        last.because("the worker closed its connection")
                    }
                }
            }
            () = self.stalled(peer) => {
                process.kill_with_stacks().await;
                let what = format!(
                    "the worker did not answer for {} s and was killed; code that never awaits?",
                    self.config.stall.as_secs_f64()
                );
                process.ended().await.because(&what)
            }
            () = peer.replace.notified() => {
                self.remove(peer);
                return Watched::Leaves(process);
            }
            _ = generation.changed() => {
                self.remove(peer);
                return Watched::Leaves(process);
            }
            () = self.stop.cancelled() => {
                self.remove(peer);
                return Watched::Stopped(process);
            }
        };
        self.remove(peer);
        tracing::warn!(pid = process.pid(), "{why}");
        peer.died(why);
        self.changed.notify_waiters();
        Watched::Died
    }

    /// Completes when a worker does not answer in time.
    pub(crate) async fn stalled(&self, peer: &Peer) {
        loop {
            tokio::time::sleep(self.config.ping).await;
            let id = peer.link.next_id();
            let params = agentflow_types::Value::map(agentflow_types::Map::new());
            let answered = async {
                match peer.link.request(id, "ping", params).await {
                    Ok(answer) => answer.await.is_ok(),
                    Err(_) => false,
                }
            };
            match tokio::time::timeout(self.config.stall, answered).await {
                Ok(true) => {}
                // The connection is over, which others notice.
                Ok(false) => std::future::pending().await,
                Err(_) => return,
            }
        }
    }

    /// Lets a process finish its work, then ends it.
    async fn leave(self: Arc<Self>, peer: Arc<Peer>, mut process: Box<Process>) {
        let why = tokio::select! {
            () = Self::idle(&peer) => None,
            () = tokio::time::sleep(self.config.drain) => {
                process.kill_with_stacks().await;
                Some("the worker was replaced, and its work did not end in time")
            }
            last = process.ended() => return peer.died(last.told()),
        };
        if why.is_none() {
            let id = peer.link.next_id();
            let params = agentflow_types::Value::map(agentflow_types::Map::new());
            let asked = peer.link.request(id, "drain", params).await;
            let gone = tokio::time::timeout(EXIT, process.ended()).await;
            drop(asked);
            if gone.is_ok() {
                return peer.died("the worker was replaced".into());
            }
            process.kill();
        }
        let last = process.ended().await;
        peer.died(last.because(why.unwrap_or("the worker was replaced")));
    }
}
