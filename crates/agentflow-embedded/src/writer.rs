//! The writing thread: queued requests share transactions.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread::JoinHandle,
};

use agentflow_types::{Error, Result};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::error;

/// Most requests that share one transaction; more would make the first wait for long.
const MAX_BATCH: usize = 256;
const BEGIN: &str = "BEGIN IMMEDIATE";
const SAVEPOINT: &str = "SAVEPOINT request";

pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread; it owns the connection and ends when the `Writer` is dropped.
    pub(crate) fn start(connection: Connection, queue: usize) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(queue.max(1));
        let thread = std::thread::Builder::new()
            .name("agentflow-writer".into())
            .spawn(move || work(&connection, receiver))
            .map_err(|err| error::file(&err, "cannot start the writing thread"))?;
        Ok(Self {
            queue: Some(sender),
            thread: Some(thread),
        })
    }

    /// Queues `job` and waits until its transaction is committed.
    ///
    /// Dropping the future does not stop a job that is queued.
    pub(crate) async fn run<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let request = Box::new(Call {
            job: Some(job),
            result: None,
            reply,
        });
        let queue = self
            .queue
            .as_ref()
            .expect("the queue is taken only on drop");
        queue.send(request).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        let thread = self.thread.take();
        // A job may have held the last handle; then this is the writing thread itself.
        if let Some(thread) = thread.filter(|t| t.thread().id() != std::thread::current().id()) {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn stopped() -> Error {
    Error::uncertain("the writing thread stopped before it answered")
}

/// A queued request.
trait Request: Send {
    /// Runs the job, once; true if it wants its changes committed.
    fn run(&mut self, db: &Connection) -> bool;

    /// Answers the caller after the transaction ended: with the job's result if it was committed.
    fn answer(self: Box<Self>, commit: Result<()>);
}

struct Call<T, F> {
    job: Option<F>,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Request for Call<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T> + Send,
{
    fn run(&mut self, db: &Connection) -> bool {
        let Some(job) = self.job.take() else {
            return false;
        };
        // A decision is code of others; its panic must not end the thread. The job's changes
        // are rolled back, and it owns everything else that it may have left half done.
        let result = catch_unwind(AssertUnwindSafe(|| job(db)))
            .unwrap_or_else(|_| Err(Error::bug("a write panicked")));
        let wants_commit = result.is_ok();
        self.result = Some(result);
        wants_commit
    }

    fn answer(self: Box<Self>, commit: Result<()>) {
        let result = match (self.result, commit) {
            (Some(Err(err)), _) => Err(err),
            (_, Err(err)) => Err(err),
            (Some(result), Ok(())) => result,
            (None, Ok(())) => Err(Error::bug("a write was not run")),
        };
        // The caller may have gone; what it asked for is done all the same.
        let _ = self.reply.send(result);
    }
}

fn work(db: &Connection, mut queue: mpsc::Receiver<Box<dyn Request>>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while queue.blocking_recv_many(&mut batch, MAX_BATCH) > 0 {
        transact(db, &mut batch);
    }
}

/// Runs all requests, in one transaction unless one of them breaks it, and answers them.
fn transact(db: &Connection, batch: &mut Vec<Box<dyn Request>>) {
    let mut queue = std::mem::take(batch).into_iter().peekable();
    while queue.peek().is_some() {
        let mut done = Vec::with_capacity(queue.len());
        let outcome = run_some(db, &mut queue, &mut done);
        if outcome.is_err() && !db.is_autocommit() {
            // Nothing is lost by a failing rollback: the next BEGIN will say what is wrong.
            let _ = db.execute_batch("ROLLBACK");
        }
        for request in done {
            request.answer(outcome.as_ref().map_err(again).copied());
        }
    }
}

/// A second error like `err`; every request of a failed transaction gets one.
fn again(err: &Error) -> Error {
    let copy = Error::new(err.kind(), err.message().to_owned());
    err.context()
        .iter()
        .fold(copy, |copy, (name, value)| copy.with(name, value))
}

type Queue = std::iter::Peekable<std::vec::IntoIter<Box<dyn Request>>>;

/// Begins, runs requests until the queue is empty or the transaction broke, commits.
fn run_some(db: &Connection, queue: &mut Queue, done: &mut Vec<Box<dyn Request>>) -> Result<()> {
    if let Err(err) = execute(db, BEGIN) {
        done.extend(queue.next());
        return Err(err);
    }
    let alone = queue.len() == 1;
    let mut dirty = false;
    for mut request in queue.by_ref() {
        if !alone {
            execute(db, SAVEPOINT)?;
        }
        let keep = request.run(db);
        done.push(request);
        dirty |= keep;
        if db.is_autocommit() {
            // SQLite itself rolled back, for example because the disk is full.
            return Err(Error::busy("the shared transaction was rolled back"));
        }
        if alone && !keep {
            return execute(db, "ROLLBACK");
        }
        if !alone {
            if !keep {
                execute(db, "ROLLBACK TO request")?;
            }
            execute(db, "RELEASE request")?;
        }
    }
    execute(db, if dirty { "COMMIT" } else { "ROLLBACK" })
}

fn execute(db: &Connection, sql: &str) -> Result<()> {
    db.prepare_cached(sql)
        .and_then(|mut statement| statement.execute([]))
        .map_err(error::from)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use agentflow_types::ErrorKind;

    use super::*;

    fn writer(pages: u32) -> Writer {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, x BLOB)")
            .unwrap();
        db.pragma_update(None, "max_page_count", pages).unwrap();
        Writer::start(db, 64).unwrap()
    }

    fn insert(db: &Connection, id: i64, size: usize) -> Result<()> {
        let row = rusqlite::params![id, vec![1_u8; size]];
        db.execute("INSERT INTO t VALUES (?1, ?2)", row)
            .map(drop)
            .map_err(error::from)
    }

    async fn ids(writer: &Writer) -> Vec<i64> {
        writer
            .run(|db| {
                crate::column::all(db, "SELECT id FROM t", [], |row| crate::column::get(row, 0))
            })
            .await
            .unwrap()
    }

    /// Holds the thread until all requests of a test are queued, so that they share a batch.
    fn hold(
        writer: &Writer,
    ) -> (
        impl Future<Output = Result<()>>,
        std::sync::mpsc::Sender<()>,
    ) {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let wait = writer.run(move |_| {
            held.recv().map_err(|_| Error::bug("the test ended"))?;
            Ok(())
        });
        (wait, release)
    }

    #[tokio::test]
    async fn a_failing_request_does_not_spoil_its_neighbours() {
        let writer = writer(1000);
        let (wait, release) = hold(&writer);
        let requests = futures_util::future::join_all((0..10).map(|id| {
            writer.run(move |db| {
                insert(db, id, 1)?;
                match id % 3 {
                    0 => Err(Error::invalid("no")),
                    1 if id == 4 => panic!("a decision panicked"),
                    _ => Ok(id),
                }
            })
        }));
        let go = async { release.send(()).unwrap() };
        let (held, outcomes, ()) = tokio::join!(wait, requests, go);
        held.unwrap();
        for (id, outcome) in (0_i64..).zip(outcomes) {
            match (id, outcome) {
                (4, Err(err)) => assert_eq!(err.kind(), ErrorKind::Bug),
                (_, Err(err)) => assert_eq!((id % 3, err.kind()), (0, ErrorKind::Invalid)),
                (_, Ok(answer)) => assert_eq!(answer, id),
            }
        }
        assert_eq!(ids(&writer).await, [1, 2, 5, 7, 8]);
    }

    #[tokio::test]
    async fn a_full_disk_is_busy_and_nothing_is_half_written() {
        let writer = writer(20);
        let (wait, release) = hold(&writer);
        let sizes = [(1, 10), (2, 1 << 20), (3, 10)];
        let requests = futures_util::future::join_all(
            sizes.map(|(id, size)| writer.run(move |db| insert(db, id, size))),
        );
        let go = async { release.send(()).unwrap() };
        let (_, outcomes, ()) = tokio::join!(wait, requests, go);
        let kinds: Vec<_> = outcomes
            .iter()
            .map(|o| o.as_ref().err().map(Error::kind))
            .collect();
        assert_eq!(kinds[1], Some(ErrorKind::Busy), "{outcomes:?}");
        let stored: Vec<i64> = (1..)
            .zip(&kinds)
            .filter(|(_, k)| k.is_none())
            .map(|(n, _)| n)
            .collect();
        assert_eq!(ids(&writer).await, stored);
        assert_eq!(stored.last(), Some(&3));
    }

    #[tokio::test]
    async fn what_is_queued_is_done_before_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, x BLOB)")
            .unwrap();
        let writer = Writer::start(db, 64).unwrap();
        let (answer, ()) = tokio::join!(writer.run(|db| insert(db, 1, 1)), async {});
        answer.unwrap();
        drop(writer);
        let count = "SELECT count(*) FROM t";
        let db = Connection::open(&path).unwrap();
        assert_eq!(
            db.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(),
            1
        );
    }
}
