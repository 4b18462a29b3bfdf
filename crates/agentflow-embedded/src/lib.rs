//! The embedded backend: SQLite behind every storage port, in one file.
//!
//! One connection writes. Requests that meet share a transaction, each under its own savepoint, so
//! that many callers share one commit and one failing request does not spoil the others. A few
//! connections read; in WAL mode they neither block the writer nor wait for it. What takes
//! microseconds runs on the caller's thread, what may take longer on threads of our own. Values
//! are encoded on the caller's side.
//!
//! Checkpoints live in the tables of `langgraph-checkpoint-sqlite` and long-term items in the
//! table of LangGraph's `SqliteStore`, so Python can open the same file. All other tables start
//! with `agentflow_`.

mod accounts;
mod assistants;
mod audit;
mod backup;
mod cache;
mod checkpoints;
mod column;
mod condition;
mod counters;
mod crons;
mod documents;
mod error;
mod events;
mod folder;
mod functions;
mod memories;
mod outbox;
mod reader;
mod runs;
mod schema;
mod sessions;
mod store;
mod threads;
mod vectors;
mod writer;

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use backup::{Copied, SchemaVersion, backup, restore, schema_version};
pub use vectors::VectorOptions;

use agentflow_storage::{Backend, msgpack::typed::Codec, signal::Local, vector::Vectors};
use agentflow_types::{Error, Result};
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::{
    reader::Readers,
    vectors::Linker,
    writer::{Place, Writer},
};

/// Prepared statements that each connection keeps.
const CACHED_STATEMENTS: usize = 128;
/// Most bytes that the write-ahead log keeps on disk after it was folded into the database.
const MAX_IDLE_LOG_BYTES: i64 = 64 << 20;

/// When a commit counts as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// The operating system has it: survives a crash of the process, not a loss of power.
    #[default]
    Normal,
    /// The disk has it.
    Full,
}

/// How the database is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// When a commit counts as stored.
    pub synchronous: Synchronous,
    /// Threads and connections that read, at least 1.
    pub readers: usize,
    /// Requests that may wait for the writer, and for the readers; further callers wait outside.
    pub queue: usize,
    /// How long to wait for another process that holds SQLite's own lock.
    pub busy_timeout: Duration,
    /// How checkpoints are encoded; with a cipher they are encrypted as LangGraph encrypts them
    /// with `LANGGRAPH_AES_KEY`. Plain ones stay readable.
    pub codec: Codec,
    /// How vectors are kept in memory.
    pub vectors: VectorOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            synchronous: Synchronous::Normal,
            readers: 4,
            queue: 1024,
            busy_timeout: Duration::from_secs(5),
            codec: Codec::plain(),
            vectors: VectorOptions::default(),
        }
    }
}

/// An open database. Clones share it; it closes when the last clone and the last port of it are
/// dropped, after the writer has finished what is queued.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    // Dropped in this order: readers and writer join their threads, then the lock is released.
    readers: Readers,
    writer: Writer,
    path: PathBuf,
    signals: Arc<Local>,
    codec: Codec,
    vectors: Arc<vectors::Index>,
    _linker: Linker,
    _lock: File,
}

impl Embedded {
    /// Opens or creates the database at `path` and brings its tables up to date. Blocks.
    ///
    /// A lock file beside the database (`path` plus `.lock`) keeps a second AgentFlow out; Python
    /// may still open the database.
    ///
    /// # Errors
    /// `Busy` if another process has it open. `Corrupt` if it is not a database or was written by
    /// a newer version. `Invalid` or `Denied` if the file cannot be opened.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let lock = lock(&path)?;
        let connection = connect(&path, &options)?;
        schema::migrate(&connection)?;
        let place = match options.synchronous {
            Synchronous::Normal => Place::Caller,
            Synchronous::Full => Place::Thread,
        };
        let folding = Some(connect(&path, &options)?);
        let writer = Writer::start(
            connection,
            folding,
            options.queue,
            place,
            options.busy_timeout,
        )?;
        let readers = Readers::start(&path, &options)?;
        let vectors = Arc::new(vectors::Index::new(options.vectors));
        Ok(Self {
            inner: Arc::new(Inner {
                readers,
                writer,
                path,
                signals: Arc::default(),
                codec: options.codec,
                _linker: Linker::start(&vectors)?,
                vectors,
                _lock: lock,
            }),
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
            signals: self.inner.signals.clone(),
            sessions: this.clone(),
            counters: this.clone(),
            cache: this.clone(),
            memories: this.clone(),
            documents: this,
        }
    }

    /// The vectors in this database. They are loaded into memory when they are first asked for.
    #[must_use]
    pub fn vectors(&self) -> Arc<dyn Vectors> {
        Arc::new(self.clone())
    }

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Checks the file's structure; slow for large ones.
    ///
    /// # Errors
    /// `Corrupt` with SQLite's first complaint.
    pub async fn check_integrity(&self) -> Result<()> {
        let verdict: String = self
            .read(|db| {
                db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
                    .map_err(error::from)
            })
            .await?;
        if verdict == "ok" {
            return Ok(());
        }
        Err(Error::corrupt("the database is damaged").with("verdict", verdict))
    }

    /// Reads a few rows by their key, in one transaction, at once where a connection is free.
    async fn read_short<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.inner.readers.run_short(job).await
    }

    fn codec(&self) -> Codec {
        self.inner.codec.clone()
    }

    /// Runs `job` on a reading thread, in one transaction.
    async fn read<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.inner.readers.run(job).await
    }

    /// Runs `job` on the writing connection; what it wrote is committed when this returns `Ok`.
    async fn write<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.inner.writer.run(job).await
    }
}

fn lock(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let open = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name);
    let file = open.map_err(|err| {
        error::file(&err, "cannot open the lock file").with("path", Path::new(&name).display())
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::busy(
            "the database is in use by another agentflow process",
        )
        .with("path", path.display())),
        Err(TryLockError::Error(err)) => Err(error::file(&err, "cannot lock the database")),
    }
}

/// A connection as readers and the writer use it.
fn connect(path: &Path, options: &Options) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(options.busy_timeout)?;
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        // Otherwise each new value of a parameter next to a partial index compiles the statement
        // again.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        // Answers with the new mode; in memory-like file systems it may stay another one.
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        let synchronous = match options.synchronous {
            Synchronous::Normal => "NORMAL",
            Synchronous::Full => "FULL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update_and_check(
            None,
            "journal_size_limit",
            MAX_IDLE_LOG_BYTES,
            |_| Ok(()),
        )?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        functions::register(&connection)?;
        Ok(connection)
    };
    open().map_err(|err| error::from(err).with("path", path.display()))
}
