//! The connections that we hold, and who may use one.
//!
//! A connection goes back only after everything that was sent over it was answered; one whose
//! user was cancelled in between, or whose time ran out, is closed.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use agentflow_types::{Error, Result};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use deadpool::managed::{
    self, Metrics, Object, PoolError, RecycleError, RecycleResult, TimeoutType, Timeouts,
};
use tokio::{task::JoinSet, time};
use tokio_postgres::{CancelToken, Client};

use crate::{
    Limits, cancel,
    connect::{Opener, Owned, Refused},
    dsn::Host,
    stats::{Counters, Stats},
    tls::Connector,
};

/// Shortest and longest pause before another try to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How often idle and old connections are looked for.
const REAP_EVERY: Duration = Duration::from_secs(10);
/// A connection that was idle for longer is asked whether it lives before it is used.
const ASK_AFTER: Duration = Duration::from_secs(5);
/// How long it may take to answer that.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// How much sooner than its lifetime a connection may end, as a part of it, so that not all end
/// at once.
const SPREAD: f64 = 0.2;
/// How long a request to cancel may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// One connection.
pub(crate) struct Connection {
    client: Client,
    tls: Connector,
    host: Host,
    /// When it is too old.
    ends: Instant,
    driver: Option<Owned>,
    counters: Arc<Counters>,
}

impl Connection {
    fn is_over(&self) -> bool {
        self.client.is_closed() || Instant::now() >= self.ends
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.counters.disconnects.fetch_add(1, Relaxed);
        // Ends once the client is gone, after it said goodbye to the server.
        if let Some(driver) = self.driver.take() {
            driver.release();
        }
    }
}

/// Makes connections for the pool.
pub(crate) struct Manager {
    opener: Arc<Opener>,
    limits: Limits,
    counters: Arc<Counters>,
    /// When a connection broke last; held only to read or set it. Others that were not used since
    /// then are likely to be broken too.
    broke: Mutex<Option<Instant>>,
}

impl Manager {
    /// Whether a connection that was used last so long ago need not be asked whether it lives.
    fn trusts(&self, idle: Duration) -> bool {
        let broke = self.broke.lock().unwrap_or_else(PoisonError::into_inner);
        idle < ASK_AFTER && broke.is_none_or(|broke| idle < broke.elapsed())
    }
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = Refused;

    /// Tries once: whoever waits for a connection takes one that becomes free meanwhile.
    async fn create(&self) -> Result<Connection, Refused> {
        let opened = self.opener.open().await?;
        let early = self.limits.max_lifetime.mul_f64(SPREAD * fastrand::f64());
        let driver = opened.driver;
        self.counters.connects.fetch_add(1, Relaxed);
        Ok(Connection {
            client: opened.client,
            tls: opened.tls,
            host: opened.host,
            ends: Instant::now() + self.limits.max_lifetime.saturating_sub(early),
            driver: Some(Owned::start(async move {
                if let Err(err) = driver.await {
                    tracing::debug!(error = %err, "a connection to the database ended");
                }
            })),
            counters: self.counters.clone(),
        })
    }

    async fn recycle(&self, connection: &mut Connection, used: &Metrics) -> RecycleResult<Refused> {
        if connection.is_over() {
            return Err(RecycleError::message("it has ended"));
        }
        if self.trusts(used.last_used()) {
            return Ok(());
        }
        match time::timeout(ASK_TIMEOUT, connection.client.batch_execute("")).await {
            Ok(Ok(())) => Ok(()),
            _ => {
                // Left to itself the driver would wait for the answer, on a peer that is silent
                // but there for ever.
                drop(connection.driver.take());
                Err(RecycleError::message("it does not answer"))
            }
        }
    }
}

/// Connections. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool {
    connections: managed::Pool<Manager>,
    counters: Arc<Counters>,
    pub(crate) limits: Limits,
    /// Closes what is idle or old, until the last clone is gone.
    _reaper: Arc<JoinSet<()>>,
}

impl Pool {
    /// A pool without connections yet.
    pub(crate) fn new(opener: Arc<Opener>, limits: Limits) -> Result<Self> {
        let counters = Arc::<Counters>::default();
        let manager = Manager {
            opener,
            limits: limits.clone(),
            counters: counters.clone(),
            broke: Mutex::new(None),
        };
        let connections = managed::Pool::builder(manager)
            .max_size(limits.max_connections.max(1))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|err| Error::bug("no pool of connections").source_err(err))?;
        let mut reaper = JoinSet::new();
        reaper.spawn(reap(connections.weak(), limits.idle_timeout));
        Ok(Self {
            connections,
            counters,
            limits,
            _reaper: Arc::new(reaper),
        })
    }

    /// A connection.
    ///
    /// # Errors
    /// `Busy` if none becomes free in time, or none can be opened.
    pub(crate) async fn get(&self) -> Result<Lease> {
        let at_once = self.take(Duration::ZERO).await;
        let got = match at_once {
            Err(PoolError::Timeout(TimeoutType::Wait)) => self.wait().await,
            Err(PoolError::Backend(refused)) if refused.passing => self.wait().await,
            other => other,
        };
        let object = got.map_err(|err| self.name(err))?;
        Ok(Lease {
            object: Some(object),
            counters: self.counters.clone(),
            cancelled: AtomicBool::new(false),
        })
    }

    /// Notes that a connection broke.
    pub(crate) fn broke(&self) {
        let broke = &self.connections.manager().broke;
        *broke.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    async fn take(&self, wait: Duration) -> Result<Object<Manager>, PoolError<Refused>> {
        // Creating one has its own limit, and so has asking whether it lives.
        let timeouts = Timeouts {
            wait: Some(wait),
            create: None,
            recycle: None,
        };
        self.connections.timeout_get(&timeouts).await
    }

    /// Waits for a connection to become free or to be opened, whichever is first: a server that
    /// takes no more connections may still answer over those that there are.
    async fn wait(&self) -> Result<Object<Manager>, PoolError<Refused>> {
        /// Counts a caller while it waits, however that ends.
        struct Waiting<'a>(&'a Counters, Instant);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.waiting.fetch_sub(1, Relaxed);
                self.0.waited(self.1.elapsed());
            }
        }
        self.counters.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.counters, Instant::now());
        let ends = Instant::now() + self.limits.acquire_timeout;
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(BACKOFF.0)
            .with_max_delay(BACKOFF.1)
            .without_max_times()
            .with_jitter()
            .build();
        loop {
            let left = ends.saturating_duration_since(Instant::now());
            match self.take(left).await {
                Err(PoolError::Backend(refused)) if refused.passing => {
                    let pause = pauses.next().unwrap_or(BACKOFF.1);
                    if Instant::now() + pause > ends {
                        return Err(PoolError::Backend(refused));
                    }
                    time::sleep(pause).await;
                }
                done => return done,
            }
        }
    }

    fn name(&self, err: PoolError<Refused>) -> Error {
        match err {
            PoolError::Backend(refused) => {
                if refused.passing {
                    self.counters.timeouts.fetch_add(1, Relaxed);
                }
                refused.error
            }
            PoolError::Timeout(_) => {
                self.counters.timeouts.fetch_add(1, Relaxed);
                Error::busy("no connection to the database became free in time")
                    .with("limit", self.limits.max_connections)
                    .with("timeout_ms", self.limits.acquire_timeout.as_millis())
            }
            other => Error::bug("the pool of connections failed").source_err(other),
        }
    }

    /// How busy it is.
    pub(crate) fn stats(&self) -> Stats {
        let status = self.connections.status();
        let in_use = status.size.saturating_sub(status.available);
        self.counters.stats(status.max_size, status.size, in_use)
    }

    /// What is counted.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// Closes connections that nobody used for `idle`, or that are too old, again and again.
async fn reap(pool: managed::WeakPool<Manager>, idle: Duration) {
    loop {
        time::sleep(REAP_EVERY.min(idle)).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.retain(|connection, used| !connection.is_over() && used.last_used() < idle);
    }
}

/// A connection in use. It goes back to the pool by [`Self::done`] and is closed otherwise.
pub(crate) struct Lease {
    object: Option<Object<Manager>>,
    counters: Arc<Counters>,
    cancelled: AtomicBool,
}

impl Lease {
    fn connection(&self) -> &Connection {
        self.object
            .as_ref()
            .expect("the object is there until the lease is dropped")
    }

    /// Whoever sends over the connection.
    pub(crate) fn client(&self) -> &Client {
        &self.connection().client
    }

    /// Everything sent was answered, or needs no answer.
    pub(crate) fn done(mut self) {
        if !self.cancelled.load(Relaxed) {
            self.object = None;
        }
    }

    /// Asks the server to stop what it does for this connection. The connection is not used again
    /// afterwards: the request may arrive late, and would stop whatever is then at work.
    pub(crate) async fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
        let connection = self.connection();
        let token: CancelToken = connection.client.cancel_token();
        let asked = cancel::ask(token, &connection.host, &connection.tls);
        // Whether it was heard is seen at the connection itself.
        if let Ok(Err(reason)) = time::timeout(CANCEL_TIMEOUT, asked).await {
            tracing::debug!(reason, "a statement could not be cancelled");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else {
            return;
        };
        let mut connection = Object::take(object);
        if !connection.client.is_closed() {
            self.counters.discarded.fetch_add(1, Relaxed);
        }
        // The driver would wait for answers that may never come.
        drop(connection.driver.take());
    }
}
