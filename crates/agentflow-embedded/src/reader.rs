//! Reading: a few connections, for callers and for threads of our own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, PoisonError, TryLockError},
    thread::JoinHandle,
};

use agentflow_types::{Error, Result};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::{Options, connect, error};

/// Most KiB of pages that a reading connection keeps; it takes them as it reads.
const CACHE_KIB: i64 = 8 << 10;

type Job = Box<dyn FnOnce(&Connection) + Send>;

pub(crate) struct Readers {
    /// Held for the length of one read; a thread prefers its own.
    connections: Arc<[Mutex<Connection>]>,
    queue: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(crate) fn start(path: &Path, options: &Options) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(options.queue.max(1));
        // Held by the one thread that waits for the next job; released before the job runs.
        let receiver = Arc::new(Mutex::new(receiver));
        let open = |_| {
            let connection = connect(path, options)?;
            connection
                .pragma_update(None, "query_only", true)
                .map_err(error::from)?;
            connection
                .pragma_update(None, "cache_size", -CACHE_KIB)
                .map_err(error::from)?;
            Ok(Mutex::new(connection))
        };
        let connections: Result<Vec<_>> = (0..options.readers.max(1)).map(open).collect();
        let mut readers = Self {
            connections: connections?.into(),
            queue: Some(sender),
            threads: Vec::new(),
        };
        for number in 0..readers.connections.len() {
            let (connections, receiver) = (readers.connections.clone(), receiver.clone());
            let thread = std::thread::Builder::new()
                .name(format!("agentflow-reader-{number}"))
                .spawn(move || work(&connections[number], &receiver))
                .map_err(|err| error::file(&err, "cannot start a reading thread"))?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    /// Runs `job`, which may take long, in one transaction on a thread of its own: all its
    /// statements see the same state.
    pub(crate) async fn run<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |db| {
            let _ = reply.send(caught(db, job));
        });
        let queue = self
            .queue
            .as_ref()
            .expect("the queue is taken only on drop");
        queue.send(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Runs `job`, which reads a few rows by their key, as [`Readers::run`] does, but on the
    /// caller's thread if a connection is free: it takes less time than changing threads.
    pub(crate) async fn run_short<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        for connection in &*self.connections {
            let db = match connection.try_lock() {
                Ok(db) => db,
                Err(TryLockError::Poisoned(err)) => err.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            return caught(&db, job);
        }
        self.run(job).await
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue = None;
        let here = std::thread::current().id();
        // A job may have held the last handle; then this is one of the reading threads.
        for thread in self
            .threads
            .drain(..)
            .filter(|thread| thread.thread().id() != here)
        {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn stopped() -> Error {
    Error::busy("the reading threads stopped")
}

/// Runs `job` in a transaction; a panic becomes an error and leaves the connection usable.
fn caught<T>(db: &Connection, job: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    let result = catch_unwind(AssertUnwindSafe(|| in_transaction(db, job)));
    if !db.is_autocommit() {
        // A panic left the transaction open.
        let _ = db.execute_batch("ROLLBACK");
    }
    result.unwrap_or_else(|_| Err(Error::bug("a read panicked")))
}

fn in_transaction<T>(db: &Connection, job: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    execute(db, "BEGIN")?;
    let result = job(db);
    let end = execute(db, "COMMIT");
    let value = result?;
    end?;
    Ok(value)
}

fn execute(db: &Connection, sql: &str) -> Result<()> {
    db.prepare_cached(sql)
        .and_then(|mut statement| statement.execute([]))
        .map_err(error::from)?;
    Ok(())
}

fn work(connection: &Mutex<Connection>, queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .blocking_recv();
        let Some(job) = job else { return };
        job(&connection.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
