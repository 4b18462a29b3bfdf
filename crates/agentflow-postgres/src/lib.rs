//! The PostgreSQL backend: every storage port over a pool of connections.
//!
//! Made for a pooler in between (PgBouncer in transaction mode): statements are typed and unnamed,
//! settings last for one transaction, locks end with theirs. Only wake-ups need a connection that
//! goes past the pooler; without one, other processes look by themselves.
//!
//! Checkpoints and long-term items live in the tables of LangGraph's Python savers, everything
//! else in a schema `agentflow`.

mod accounts;
mod assistants;
mod audit;
mod binding;
mod cache;
mod cancel;
mod checkpoints;
mod column;
mod condition;
mod connect;
mod counters;
mod crons;
mod decide;
mod documents;
pub mod dsn;
mod error;
mod events;
mod memories;
mod migrations;
mod outbox;
mod pool;
mod pooler;
mod records;
mod refusal;
mod runs;
mod searchable;
mod session;
mod sessions;
mod signals;
mod statement;
mod stats;
mod store;
mod threads;
mod tls;
mod turns;

use std::{path::PathBuf, sync::Arc, time::Duration};

use agentflow_storage::{Backend, msgpack::typed::Codec};
use agentflow_types::Result;

pub use connect::Source;
pub use dsn::{Dsn, Strength};
pub use migrations::Pending;
pub use signals::Hearing;
pub use stats::Stats;

pub(crate) use connect::Direct;
pub(crate) use pool::Pool;

use crate::{checkpoints::Gather, connect::Opener, signals::Wakeups, turns::Turns};

/// Limits of a pool of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections, at least 1; the one that listens for wake-ups comes on top.
    pub max_connections: usize,
    /// How long a caller waits for a connection to become free or to be opened, whichever is
    /// first; a try to open one that has begun by then is waited for.
    pub acquire_timeout: Duration,
    /// How long connecting to one server may take, unless the address says otherwise.
    pub connect_timeout: Duration,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// A statement, or a transaction whose statements are sent together, that takes longer is
    /// logged, without its values.
    pub slow_statement: Duration,
    /// How much longer a transaction may take whose statements are sent together, and how long
    /// what takes too long may take to stop.
    pub cancel_grace: Duration,
    /// How long a transaction may wait for us before the server undoes it.
    pub transaction_timeout: Duration,
    /// How long a connection may be unused before it is closed.
    pub idle_timeout: Duration,
    /// How old a connection may become.
    pub max_lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 20,
            acquire_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            slow_statement: Duration::from_secs(1),
            cancel_grace: Duration::from_secs(2),
            transaction_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(300),
            max_lifetime: Duration::from_secs(1800),
        }
    }
}

/// Where the connection goes that listens for wake-ups of other processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Listen {
    /// To the same address. If that is a pooler's, one in transaction mode, it is noticed and as
    /// good as [`Listen::Off`].
    #[default]
    Same,
    /// Past the pooler, to this address.
    At(Source),
    /// Nowhere: other processes look by themselves every now and then.
    Off,
}

/// What opening does with tables that are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Migrate {
    /// Creates them.
    #[default]
    Apply,
    /// Refuses to open.
    Check,
}

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The database.
    pub source: Source,
    /// A file with the password, read again for each connection; it takes the place of the one
    /// in the address, also of [`Listen::At`].
    pub password_file: Option<PathBuf>,
    /// Where wake-ups are listened for.
    pub listen: Listen,
    /// What happens if tables are missing.
    pub migrate: Migrate,
    /// Limits of the pool.
    pub limits: Limits,
    /// Whether values of checkpoints are encrypted.
    pub codec: Codec,
}

impl Options {
    /// The defaults for a database.
    pub fn new(source: impl Into<Source>) -> Self {
        Self {
            source: source.into(),
            password_file: None,
            listen: Listen::default(),
            migrate: Migrate::default(),
            limits: Limits::default(),
            codec: Codec::plain(),
        }
    }

    /// What protection every connection has at least, also the one that listens for wake-ups.
    /// Blocks if an address is in a file.
    ///
    /// # Errors
    /// `Invalid` as [`Source::dsn`].
    pub fn strength(&self) -> Result<Strength> {
        let main = self.source.dsn()?.strength();
        match &self.listen {
            Listen::At(source) => Ok(main.min(source.dsn()?.strength())),
            Listen::Same | Listen::Off => Ok(main),
        }
    }

    /// The changes of tables that opening would make, in order; makes none.
    ///
    /// # Errors
    /// As [`Postgres::open`].
    pub async fn plan(&self) -> Result<Vec<Pending>> {
        migrations::plan(&self.opener(&self.source)).await
    }

    /// Makes these changes, and returns them. Several processes may do so at once.
    ///
    /// # Errors
    /// As [`Postgres::open`]; `Bug` if the user may not create tables.
    pub async fn apply(&self) -> Result<Vec<Pending>> {
        migrations::apply(&self.opener(&self.source)).await
    }

    fn opener(&self, source: &Source) -> Arc<Opener> {
        let password = self.password_file.clone();
        Arc::new(Opener::new(
            source.clone(),
            password,
            self.limits.connect_timeout,
        ))
    }
}

/// An open database. Clones share it; its connections close when the last clone and the last port
/// of it are dropped.
#[derive(Clone)]
pub struct Postgres {
    pool: Pool,
    wakeups: Arc<Wakeups>,
    turns: Arc<Turns>,
    gather: Arc<Gather>,
    /// What begins a transaction.
    begin: Arc<str>,
    codec: Codec,
}

impl Postgres {
    /// Connects, and brings the tables up to date.
    ///
    /// # Errors
    /// `Busy` if there is no connection; the fact `check` then tells which check failed.
    /// `Invalid` if the address or a file that it names is wrong, or tables are missing that
    /// must not be created. `Corrupt` if a newer version wrote the tables.
    pub async fn open(options: Options) -> Result<Self> {
        let opener = options.opener(&options.source);
        let pool = Pool::new(opener.clone(), options.limits.clone())?;
        pool.get().await?.done();
        match options.migrate {
            Migrate::Apply => migrations::apply(&opener).await.map(drop)?,
            Migrate::Check => migrations::check(&opener).await?,
        }
        let direct = match &options.listen {
            Listen::Same => Some(Direct(opener)),
            Listen::At(source) => Some(Direct(options.opener(source))),
            Listen::Off => None,
        };
        let wakeups = Arc::new(Wakeups::start(pool.clone(), direct));
        Ok(Self {
            begin: session::begin(&options.limits).into(),
            codec: options.codec,
            pool,
            wakeups,
            turns: Arc::default(),
            gather: Arc::default(),
        })
    }

    /// Every port over this database.
    #[must_use]
    pub fn backend(&self) -> Backend {
        let this = Arc::new(self.clone());
        Backend {
            tenants: this.clone(),
            users: this.clone(),
            keys: this.clone(),
            audit: this.clone(),
            checkpoints: this.clone(),
            assistants: this.clone(),
            threads: this.clone(),
            events: this.clone(),
            store: this.clone(),
            crons: this.clone(),
            outbox: this.clone(),
            signals: self.wakeups.clone(),
            sessions: this.clone(),
            counters: this.clone(),
            cache: this.clone(),
            memories: this.clone(),
            documents: this,
        }
    }

    /// How values of checkpoints are stored.
    fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Whether wake-ups of other processes arrive.
    #[must_use]
    pub fn hearing(&self) -> Hearing {
        self.wakeups.hearing()
    }

    /// How busy the pool is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.pool.stats()
    }
}
