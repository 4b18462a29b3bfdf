//! Writing: queued requests share transactions.
//!
//! There is one writing connection. Whoever queues a request lets the other tasks of its thread
//! run once, so that those which have something to write queue it too; the first to come back
//! runs all that is queued in one transaction, on its own thread: a small transaction takes a few
//! microseconds, two switches between threads take more. Whoever finds the connection taken
//! leaves the request in the queue, and the writing thread runs all that are queued. The writing
//! thread also does what may take long: everything when each commit waits for the disk, and
//! whatever another process blocks.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use agentflow_types::{Error, Result};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{Semaphore, oneshot};

use crate::{error, folder::Folder};

/// Most requests that share one transaction; more would make the first wait for long.
const MAX_BATCH: usize = 256;
const BEGIN: &str = "BEGIN IMMEDIATE";
const SAVEPOINT: &str = "SAVEPOINT request";

/// Where requests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the caller's thread if the connection is free.
    Caller,
    /// On the writing thread, because a commit waits for the disk.
    Thread,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    place: Place,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    db: Arc<Mutex<Connection>>,
    line: Arc<Line>,
    /// Room in the queue.
    room: Semaphore,
    /// Folds the log when it is long; `None` for a database without one.
    folder: Option<Folder>,
    /// The writing thread is to finish what is queued and end.
    ended: AtomicBool,
    /// How long the writing thread waits for another process.
    busy_timeout: Duration,
}

/// Requests that wait, and the bell of the writing thread.
#[derive(Default)]
struct Line {
    /// Never held while a request runs.
    queue: Mutex<Queue>,
    bell: Condvar,
}

impl Line {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue
            .lock()
            .expect("nothing panics while the queue is held")
    }

    fn ring(&self) {
        // With the lock held the thread is either waiting, or will look once more before it does.
        let _queue = self.queue();
        self.bell.notify_one();
    }
}

impl Writer {
    /// Takes the connections and starts the thread, which ends when the `Writer` is dropped.
    /// At most `queue` requests wait. `folding` folds the log.
    pub(crate) fn start(
        connection: Connection,
        folding: Option<Connection>,
        queue: usize,
        place: Place,
        busy_timeout: Duration,
    ) -> Result<Self> {
        // Only the writing thread may wait for another process.
        connection
            .busy_timeout(Duration::ZERO)
            .map_err(error::from)?;
        let db = Arc::new(Mutex::new(connection));
        let line = Arc::new(Line::default());
        let folder = match folding {
            Some(connection) => {
                // Whoever found the connection taken by the folder left its request.
                let line = line.clone();
                Some(Folder::start(connection, &db, move || line.ring())?)
            }
            None => None,
        };
        let shared = Arc::new(Shared {
            db,
            folder,
            line,
            room: Semaphore::new(queue.max(1)),
            ended: AtomicBool::new(false),
            busy_timeout,
        });
        let worker = shared.clone();
        let thread = std::thread::Builder::new()
            .name("agentflow-writer".into())
            .spawn(move || worker.work())
            .map_err(|err| error::file(&err, "cannot start the writing thread"))?;
        Ok(Self {
            shared,
            place,
            thread: Some(thread),
        })
    }

    /// Runs `job` in a transaction and waits until that is committed.
    ///
    /// Dropping the future does not stop a job that is queued.
    pub(crate) async fn run<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.run_then(job, |result| result).await
    }

    /// Runs `job` as [`Writer::run`] does, then `after` with what came of it, also if nobody waits
    /// any more. Those of several jobs run in the order of the commits; others wait meanwhile.
    pub(crate) async fn run_then<T, U, F, A>(&self, job: F, after: A) -> Result<U>
    where
        T: Send + 'static,
        U: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
        A: FnOnce(Result<T>) -> Result<U> + Send + 'static,
    {
        let shared = &*self.shared;
        let room = shared.room.acquire().await.map_err(|_| stopped())?;
        // Whoever answers the request gives the room back.
        room.forget();
        let (reply, answer) = oneshot::channel();
        shared.line.queue().push_back(Box::new(Call {
            job: Some(job),
            result: None,
            after,
            reply,
        }));
        match self.place {
            Place::Caller => {
                let left = Left(&shared.line);
                tokio::task::yield_now().await;
                left.disarm();
                if !shared.line.queue().is_empty() {
                    shared.lead();
                }
            }
            Place::Thread => shared.line.ring(),
        }
        answer.await.map_err(|_| stopped())?
    }
}

/// Rings for the writing thread if its owner is dropped before it looked after its request.
struct Left<'a>(&'a Line);

impl Left<'_> {
    fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.ring();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.line.ring();
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

impl Shared {
    fn take(&self) -> Queue {
        let mut queue = self.line.queue();
        let many = queue.len().min(MAX_BATCH);
        queue.drain(..many).collect()
    }

    fn look_at_log(&self) {
        if let Some(folder) = &self.folder {
            folder.look();
        }
    }

    /// Runs one batch here if the connection is free; the writing thread gets what else there is.
    ///
    /// Whoever finds the connection taken may leave: its holder looks at the queue again after
    /// it gave the connection back, and the request was queued before that.
    fn lead(&self) {
        let db = match self.db.try_lock() {
            Ok(db) => db,
            Err(TryLockError::Poisoned(err)) => err.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let batch = self.take();
        let many = batch.len();
        let left = transact(&db, batch, Place::Caller);
        self.room.add_permits(many - left.len());
        if !left.is_empty() {
            // Another process writes; waiting for it is not the caller's business.
            let mut queue = self.line.queue();
            for request in left.into_iter().rev() {
                queue.push_front(request);
            }
        }
        drop(db);
        self.look_at_log();
        if !self.line.queue().is_empty() {
            self.line.ring();
        }
    }

    /// The writing thread.
    fn work(&self) {
        loop {
            {
                let mut queue = self.line.queue();
                while queue.is_empty() {
                    if self.ended.load(Ordering::Acquire) {
                        return;
                    }
                    queue = self
                        .line
                        .bell
                        .wait(queue)
                        .expect("nothing panics while the queue is held");
                }
            }
            let db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
            self.drain(&db);
        }
    }

    /// Runs everything that is queued, on the writing thread.
    fn drain(&self, db: &Connection) {
        // Setting it cannot fail on an open connection; without it the next write is busy sooner.
        let _ = db.busy_timeout(self.busy_timeout);
        loop {
            let batch = self.take();
            if batch.is_empty() {
                break;
            }
            let many = batch.len();
            // On this thread nothing is left over.
            transact(db, batch, Place::Thread);
            self.room.add_permits(many);
            self.look_at_log();
        }
        let _ = db.busy_timeout(Duration::ZERO);
    }
}

/// A queued request.
trait Request: Send {
    /// Runs the job, once; true if it wants its changes committed.
    fn run(&mut self, db: &Connection) -> bool;

    /// Answers the caller after the transaction ended: with the job's result if it was committed.
    fn answer(self: Box<Self>, commit: Result<()>);
}

struct Call<T, U, F, A> {
    job: Option<F>,
    result: Option<Result<T>>,
    after: A,
    reply: oneshot::Sender<Result<U>>,
}

impl<T, U, F, A> Request for Call<T, U, F, A>
where
    T: Send,
    U: Send,
    F: FnOnce(&Connection) -> Result<T> + Send,
    A: FnOnce(Result<T>) -> Result<U> + Send,
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
        let _ = self.reply.send((self.after)(result));
    }
}

/// Runs all requests, in one transaction unless one of them breaks it, and answers them.
///
/// Returns the requests that were not run because another process writes and `place` is the
/// caller's, who must not wait.
fn transact(db: &Connection, mut queue: Queue, place: Place) -> Queue {
    while !queue.is_empty() {
        let mut done = Vec::with_capacity(queue.len());
        if let Err(err) = begin(db) {
            if err.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && place == Place::Caller {
                return queue;
            }
            let err = error::from(err);
            for request in queue.drain(..) {
                request.answer(Err(again(&err)));
            }
            return queue;
        }
        let outcome = run_some(db, &mut queue, &mut done);
        if outcome.is_err() && !db.is_autocommit() {
            // Nothing is lost by a failing rollback: the next BEGIN will say what is wrong.
            let _ = db.execute_batch("ROLLBACK");
        }
        for request in done {
            request.answer(outcome.as_ref().map_err(again).copied());
        }
    }
    queue
}

fn begin(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached(BEGIN)
        .and_then(|mut statement| statement.execute([]))
        .map(drop)
}

/// A second error like `err`; every request of a failed transaction gets one.
fn again(err: &Error) -> Error {
    let copy = Error::new(err.kind(), err.message().to_owned());
    err.context()
        .iter()
        .fold(copy, |copy, (name, value)| copy.with(name, value))
}

type Queue = VecDeque<Box<dyn Request>>;

/// Runs requests until the queue is empty or the transaction broke, commits.
fn run_some(db: &Connection, queue: &mut Queue, done: &mut Vec<Box<dyn Request>>) -> Result<()> {
    let alone = queue.len() == 1;
    let mut dirty = false;
    while let Some(mut request) = queue.pop_front() {
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
    use futures_util::FutureExt;

    use super::*;

    fn writer(pages: u32) -> Writer {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, x BLOB)")
            .unwrap();
        db.pragma_update(None, "max_page_count", pages).unwrap();
        start(db, Place::Thread)
    }

    fn start(db: Connection, place: Place) -> Writer {
        Writer::start(db, None, 64, place, Duration::from_secs(5)).unwrap()
    }

    /// A new file with the table, and where it is.
    fn file() -> (tempfile::TempDir, std::path::PathBuf, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, x BLOB)",
        )
        .unwrap();
        (folder, path, db)
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
        let (_folder, path, db) = file();
        let writer = start(db, Place::Thread);
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

    /// Returns once everything that was taken from the queue gave its room back, which happens
    /// just after it was answered.
    async fn has_room(writer: &Writer) {
        while writer.shared.room.available_permits() != 64 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn callers_and_the_thread_take_turns() {
        let (_folder, _path, db) = file();
        let writer = Arc::new(start(db, Place::Caller));
        let callers = (0..32_i64).map(|caller| {
            let writer = writer.clone();
            tokio::spawn(async move {
                for n in 0..200 {
                    let id = caller * 1000 + n;
                    writer.run(move |db| insert(db, id, 100)).await?;
                }
                Ok::<(), Error>(())
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap().unwrap();
        }
        assert_eq!(ids(&writer).await.len(), 32 * 200);
        has_room(&writer).await;
    }

    /// Commits of a database file, counted by its log's hook.
    fn count_commits(db: &mut Connection) -> Arc<std::sync::atomic::AtomicU32> {
        let commits = Arc::<std::sync::atomic::AtomicU32>::default();
        let counter = commits.clone();
        let count = move |_: &mut rusqlite::hooks::Wal, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        db.wal_hook(Some(count)).unwrap();
        commits
    }

    #[tokio::test]
    async fn tasks_that_are_ready_share_a_transaction() {
        let (_folder, _path, mut db) = file();
        let commits = count_commits(&mut db);
        let writer = Arc::new(start(db, Place::Caller));
        let callers = (0..20_i64).map(|id| {
            let writer = writer.clone();
            tokio::spawn(async move { writer.run(move |db| insert(db, id, 1)).await })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap().unwrap();
        }
        assert_eq!(ids(&writer).await.len(), 20);
        // One, and one of the thread if it starts only now and finds something queued.
        assert!(commits.load(Ordering::Relaxed) <= 2);
    }

    #[tokio::test]
    async fn who_goes_away_early_leaves_its_request_to_the_thread() {
        let (_folder, _path, db) = file();
        let writer = start(db, Place::Caller);
        {
            let mut write = std::pin::pin!(writer.run(|db| insert(db, 1, 1)));
            // It is queued, and others get their turn.
            assert!(write.as_mut().now_or_never().is_none());
        }
        has_room(&writer).await;
        assert_eq!(ids(&writer).await, [1]);
    }

    #[tokio::test]
    async fn a_caller_does_not_wait_for_another_process() {
        let (_folder, path, db) = file();
        let writer = start(db, Place::Caller);
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let write = writer.run(|db| {
            insert(db, 1, 1)?;
            Ok(std::thread::current().name().map(str::to_owned))
        });
        // Were this thread to wait, nobody would end the other transaction.
        let release = async {
            // The writer lets others run once before it tries.
            for _ in 0..2 {
                tokio::task::yield_now().await;
            }
            other.execute_batch("COMMIT").unwrap();
        };
        let (name, ()) = tokio::join!(write, release);
        assert_eq!(name.unwrap().as_deref(), Some("agentflow-writer"));
        has_room(&writer).await;
    }

    #[tokio::test]
    async fn a_long_log_is_folded() {
        let (_folder, path, db) = file();
        let folding = Connection::open(&path).unwrap();
        let timeout = Duration::from_secs(5);
        let writer = Writer::start(db, Some(folding), 64, Place::Caller, timeout).unwrap();
        writer.run(|db| insert(db, 1, 10 << 20)).await.unwrap();
        let folder = writer.shared.folder.as_ref().unwrap();
        // Once all of it is folded, the next commit begins the log anew.
        for id in 2.. {
            writer.run(move |db| insert(db, id, 1)).await.unwrap();
            if (1..100).contains(&folder.pages()) {
                break;
            }
        }
    }
}
