//! The reading threads: one connection each, one queue for all.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use agentflow_types::{Error, Result};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::{Options, connect, error};

type Job = Box<dyn FnOnce(&Connection) + Send>;

pub(crate) struct Readers {
    queue: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(crate) fn start(path: &Path, options: &Options) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(options.queue.max(1));
        // Held by the one thread that waits for the next job; released before the job runs.
        let receiver = Arc::new(Mutex::new(receiver));
        let mut readers = Self {
            queue: Some(sender),
            threads: Vec::new(),
        };
        for number in 0..options.readers.max(1) {
            let connection = connect(path, options)?;
            connection
                .pragma_update(None, "query_only", true)
                .map_err(error::from)?;
            let receiver = receiver.clone();
            let thread = std::thread::Builder::new()
                .name(format!("agentflow-reader-{number}"))
                .spawn(move || work(&connection, &receiver))
                .map_err(|err| error::file(&err, "cannot start a reading thread"))?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    /// Runs `job` in one transaction: all its statements see the same state.
    pub(crate) async fn run<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |db| {
            let result = catch_unwind(AssertUnwindSafe(|| in_transaction(db, job)))
                .unwrap_or_else(|_| Err(Error::bug("a read panicked")));
            let _ = reply.send(result);
        });
        let queue = self
            .queue
            .as_ref()
            .expect("the queue is taken only on drop");
        queue.send(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
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

fn in_transaction<T>(db: &Connection, job: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    db.execute_batch("BEGIN").map_err(error::from)?;
    let result = job(db);
    let end = db.execute_batch("COMMIT");
    let value = result?;
    end.map_err(error::from)?;
    Ok(value)
}

fn work(db: &Connection, queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .blocking_recv();
        let Some(job) = job else { return };
        job(db);
        if !db.is_autocommit() {
            // A panic left the transaction open.
            let _ = db.execute_batch("ROLLBACK");
        }
    }
}
