//! A connected worker: who it is, what it works on, what it wants from us.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use agentflow_runs::host::CRASHED;
use agentflow_types::{Error, Result, Value};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, Semaphore, watch},
};

use crate::{
    Services,
    frame::{self, Frame, counted},
    items,
    link::Link,
    saver,
    session::{self, Session},
    wire,
};

/// Versions of the protocol that we speak.
const PROTOCOL: i64 = 1;
/// Requests of one worker that are answered at once; beyond it the connection is not read.
const AT_ONCE: usize = 1024;
/// How long the reason of a lost connection is waited for.
const REASON: Duration = Duration::from_secs(15);
/// Time for the first frame.
const HELLO: Duration = Duration::from_secs(10);

/// The reading half of a connection.
pub(crate) type Reading = Box<dyn AsyncRead + Send + Unpin>;
/// The writing half.
pub(crate) type Writing = Box<dyn AsyncWrite + Send + Unpin>;

/// What a worker says first.
pub(crate) struct Hello {
    /// Number of the request, for the answer.
    id: u64,
    /// Secret of the process that we started; empty for workers from elsewhere.
    pub(crate) token: String,
    /// Name, version, language and library, for people.
    pub(crate) told: String,
}

/// Reads the first frame of a connection.
///
/// # Errors
/// `Invalid` if it is not `hello`, or the versions do not fit; `NotFound` if there is none.
pub(crate) async fn hello(reading: &mut Reading) -> Result<Hello> {
    let mut body = Vec::new();
    let first = frame::read(reading, &mut body, 1 << 16);
    let arrived = tokio::time::timeout(HELLO, first).await;
    if !arrived.map_err(|_| Error::invalid("a connection said nothing"))?? {
        // Somebody looked whether we are there.
        return Err(Error::not_found("a connection said nothing"));
    }
    let Frame::Request { id, method, params } = frame::decode(&body)? else {
        return Err(Error::invalid("a worker must begin with hello"));
    };
    if &*method != "hello" {
        return Err(Error::invalid("a worker must begin with hello"));
    }
    let spoken = wire::items(&params, "protocols");
    if !spoken
        .iter()
        .any(|version| version.as_i64() == Some(PROTOCOL))
    {
        return Err(
            Error::invalid("the worker speaks another version of the protocol")
                .with("ours", PROTOCOL)
                .with("its", Value::list(spoken.to_vec())),
        );
    }
    let told = ["name", "version", "language", "library"];
    let told = told.iter().filter_map(|key| wire::maybe_text(&params, key));
    Ok(Hello {
        id,
        token: wire::maybe_text(&params, "token").unwrap_or_default(),
        told: told.collect::<Vec<_>>().join(", "),
    })
}

/// What a worker is told when it connects.
#[derive(Clone, Debug)]
pub(crate) struct Welcome {
    /// Graphs that are wanted.
    pub(crate) graphs: Vec<String>,
    /// Section `store` of the project.
    pub(crate) store: Value,
    /// Pause between pings.
    pub(crate) ping: Duration,
    /// Largest body, in bytes.
    pub(crate) max_frame_bytes: usize,
}

impl Welcome {
    fn params(&self) -> Value {
        let graphs = self.graphs.iter().map(|id| Value::str(id.as_str()));
        Value::object([
            ("protocol", Value::Int(PROTOCOL)),
            ("server", Value::str(env!("CARGO_PKG_VERSION"))),
            ("max_frame_bytes", counted(self.max_frame_bytes as u64)),
            ("ping_seconds", Value::Float(self.ping.as_secs_f64())),
            ("graphs", Value::list(graphs.collect())),
            ("store", self.store.clone()),
        ])
    }
}

/// What a worker loaded.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Description, or why it cannot be loaded, by graph.
    pub(crate) graphs: HashMap<String, (Option<String>, Value)>,
    /// What is not supported.
    pub(crate) notes: Vec<String>,
}

/// A connected worker.
pub(crate) struct Peer {
    pub(crate) link: Arc<Link>,
    /// Name and version, for people.
    pub(crate) told: String,
    /// Guards requests of ours that are worked on; never held across an await.
    sessions: Mutex<HashMap<u64, Arc<Session>>>,
    /// Set by `ready`.
    loaded: OnceLock<Loaded>,
    is_ready: Notify,
    /// Runs and other requests.
    load: AtomicUsize,
    /// Rung when a request ended.
    pub(crate) eased: Notify,
    retired: AtomicBool,
    /// Rung when it is to be replaced.
    pub(crate) replace: Notify,
    /// Why it died; for those whose request it took with it.
    death: watch::Sender<Option<String>>,
}

impl Peer {
    /// Answers `hello`; the frames that follow are read by [`Peer::serve`].
    pub(crate) async fn welcome(hello: Hello, writing: Writing, welcome: &Welcome) -> Arc<Self> {
        let link = Arc::new(Link::open(writing, welcome.max_frame_bytes));
        link.answer(hello.id, Ok(welcome.params())).await;
        Arc::new(Self {
            link,
            told: hello.told,
            sessions: Mutex::default(),
            loaded: OnceLock::new(),
            is_ready: Notify::new(),
            load: AtomicUsize::new(0),
            eased: Notify::new(),
            retired: AtomicBool::new(false),
            replace: Notify::new(),
            death: watch::Sender::new(None),
        })
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<u64, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a request under a number of the link's.
    pub(crate) fn open(&self, id: u64, session: Session) {
        self.sessions().insert(id, Arc::new(session));
    }

    /// Ends it: the worker may do nothing more for it.
    pub(crate) fn close(&self, id: u64) {
        self.sessions().remove(&id);
    }

    /// How many requests it works on.
    pub(crate) fn load(&self) -> usize {
        self.load.load(Ordering::Acquire)
    }

    /// Counts one more request.
    pub(crate) fn add_load(&self) {
        self.load.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts one less.
    pub(crate) fn ease(&self) {
        self.load.fetch_sub(1, Ordering::AcqRel);
        self.eased.notify_waiters();
    }

    /// Whether it gets nothing new.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire) || self.link.closed().is_cancelled()
    }

    /// It gets nothing new from now on.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Waits until the project is loaded.
    ///
    /// # Errors
    /// `Failed` if the connection ends first.
    pub(crate) async fn ready(&self) -> Result<&Loaded> {
        loop {
            let told = self.is_ready.notified();
            if let Some(loaded) = self.loaded.get() {
                return Ok(loaded);
            }
            tokio::select! {
                () = told => {}
                () = self.link.closed().cancelled() => return Err(self.crash().await),
            }
        }
    }

    /// Checks that a graph was loaded.
    ///
    /// # Errors
    /// Why it could not be; `NotFound` if the project has none of this name.
    pub(crate) fn check_graph(&self, graph_id: &str) -> Result<()> {
        let graph = self
            .loaded
            .get()
            .and_then(|loaded| loaded.graphs.get(graph_id));
        match graph {
            Some((_, error)) if error.is_null() => Ok(()),
            Some((_, error)) => Err(load_error(error)),
            None => Err(Error::not_found(format!(
                "Graph '{graph_id}' was not loaded by the worker"
            ))),
        }
    }

    /// Says why it died, to all who wait; the first reason counts.
    pub(crate) fn died(&self, why: String) {
        self.death.send_if_modified(|death| {
            let is_first = death.is_none();
            if is_first {
                *death = Some(why);
            }
            is_first
        });
        self.link.close();
        self.sessions().clear();
    }

    /// The error of a request that died with the worker.
    pub(crate) async fn crash(&self) -> Error {
        let mut death = self.death.subscribe();
        let told = tokio::time::timeout(REASON, death.wait_for(Option::is_some)).await;
        let why = match told {
            Ok(Ok(why)) => why.clone().unwrap_or_default(),
            _ => "the connection to the worker was lost".into(),
        };
        Error::failed(why).class(CRASHED)
    }

    /// Reads what the worker sends until the connection ends.
    pub(crate) async fn serve(self: Arc<Self>, mut reading: Reading, services: Services) {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let serving = async {
            let mut body = Vec::new();
            while frame::read(&mut reading, &mut body, self.link.limit()).await? {
                self.take(frame::decode(&body)?, &services, &room).await?;
                if body.capacity() > 1 << 20 {
                    // One large frame does not cost its memory for ever.
                    body = Vec::new();
                }
            }
            Ok::<_, Error>(())
        };
        let ended = tokio::select! {
            ended = serving => ended,
            () = self.link.closed().cancelled() => Ok(()),
        };
        if let Err(err) = ended {
            tracing::warn!(error = %err, worker = self.told, "a worker's connection is closed");
        }
        self.link.close();
        self.sessions().clear();
        self.eased.notify_waiters();
    }

    async fn take(
        self: &Arc<Self>,
        frame: Frame,
        services: &Services,
        room: &Arc<Semaphore>,
    ) -> Result<()> {
        match frame {
            Frame::Answer { id, result } => self.link.answered(id, result),
            Frame::Notice { method, params } => self.heard(&method, &params)?,
            Frame::Request { id, method, params } => {
                let session = match self.session(&params) {
                    Ok(session) => session,
                    Err(err) => {
                        self.link.answer(id, Err(err)).await;
                        return Ok(());
                    }
                };
                if &*method == "saver.commit" {
                    // In the order in which they came.
                    let queued = match saver::read_ops(&session, &params) {
                        Ok(ops) => session.commit(id, ops).await,
                        Err(err) => Err(err),
                    };
                    if let Err(err) = queued {
                        self.link.answer(id, Err(err)).await;
                    }
                    return Ok(());
                }
                let Ok(permit) = room.clone().acquire_owned().await else {
                    return Ok(());
                };
                let (peer, services) = (self.clone(), services.clone());
                tokio::spawn(async move {
                    let result = asked(&services, &session, &method, &params).await;
                    peer.link.answer(id, result).await;
                    drop(permit);
                });
            }
        }
        Ok(())
    }

    /// The request of ours that something is for.
    fn session(&self, params: &Value) -> Result<Arc<Session>> {
        let id = params.get("for").and_then(Value::as_i64);
        let id = id.and_then(|id| u64::try_from(id).ok());
        let id = id.ok_or_else(|| wire::wrong("for"))?;
        self.sessions().get(&id).cloned().ok_or_else(session::over)
    }

    fn heard(&self, method: &str, params: &Value) -> Result<()> {
        match method {
            "run.events" => {
                // Events of a run that is over are nobody's.
                if let Ok(session) = self.session(params) {
                    for event in session::read_events(params)? {
                        session.event(event)?;
                    }
                }
            }
            "ready" => {
                // A worker loads its project once; what it says later is passed over.
                let _ = self.loaded.set(loaded(params)?);
                self.is_ready.notify_waiters();
            }
            "log" => log(params),
            _ => {}
        }
        Ok(())
    }
}

fn loaded(params: &Value) -> Result<Loaded> {
    let graphs = wire::items(params, "graphs").iter().map(|graph| {
        let error = graph.get("error").cloned().unwrap_or_default();
        let described = wire::maybe_text(graph, "description");
        Ok((wire::text(graph, "graph_id")?, (described, error)))
    });
    Ok(Loaded {
        graphs: graphs.collect::<Result<_>>()?,
        notes: wire::texts(params, "notes"),
    })
}

/// Why a graph cannot be loaded, with the traceback.
pub(crate) fn load_error(error: &Value) -> Error {
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let told = match text("traceback") {
        "" => text("message").to_owned(),
        traceback => format!("{}\n{}", text("message"), traceback.trim_end()),
    };
    let class = match text("class") {
        "" => "ImportError",
        class => class,
    };
    Error::failed(told).class(class.to_owned())
}

async fn asked(
    services: &Services,
    session: &Session,
    method: &str,
    params: &Value,
) -> Result<Value> {
    match method {
        "saver.get" => saver::get(services, session, params).await,
        "saver.list" => saver::list(services, session, params).await,
        "saver.delta_history" => saver::delta_history(services, session, params).await,
        "saver.delete_thread" => {
            session.scope()?;
            let thread_id = wire::text(params, "thread_id")?;
            session.check_thread(&thread_id)?;
            services.checkpoints.delete_thread(&thread_id).await?;
            Ok(Value::Null)
        }
        "store.batch" => items::batch(services, session, params).await,
        _ => Err(Error::invalid("no such method").with("method", method)),
    }
}

fn log(params: &Value) {
    let text = |key: &str| params.get(key).and_then(Value::as_str).unwrap_or_default();
    let (target, message) = (text("target"), text("message"));
    match text("level") {
        "error" | "critical" => tracing::error!(logger = target, "{message}"),
        "warning" => tracing::warn!(logger = target, "{message}"),
        "debug" => tracing::debug!(logger = target, "{message}"),
        _ => tracing::info!(logger = target, "{message}"),
    }
}
