//! Commits of many threads in few transactions.
//!
//! A commit goes out at once while fewer than [`LANES`] are on their way. Others gather meanwhile,
//! and whoever comes back takes what gathered along, as one statement: it is parsed, planned and
//! flushed to the disk once for all of them. Who is alone notices nothing of it.
//!
//! Nobody answers for others. If a statement for several fails, or the run of one of them is
//! locked by somebody, each is told to go alone, as if it had never waited.

use std::{
    collections::{HashSet, VecDeque},
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use agentflow_storage::checkpoint::{Fence, fenced};
use agentflow_types::{Error, ErrorKind, Result};
use tokio::{runtime::Handle, sync::oneshot, task::JoinSet, time};

use super::batch::{Batch, together};
use crate::{Postgres, column::get, statement::Done};

/// Statements on their way at the same time, before further commits gather.
const LANES: usize = 3;
/// How long a statement counts as on its way. One that waits for a lock holds nobody up.
const LONG: Duration = Duration::from_millis(100);
/// Most commits of one statement, and most bytes.
const MAX_COMMITS: usize = 64;
const MAX_BYTES: usize = 1 << 20;
/// A commit of more bytes goes out at once and alone: the disk is what it waits for.
const LARGE_BYTES: usize = 128 << 10;
/// Most commits that wait; further ones go out at once and wait for a connection.
const MAX_WAITING: usize = 4096;

/// One commit that waits for company.
struct Share {
    batch: Batch,
    fence: Option<Fence>,
    answer: oneshot::Sender<Answer>,
}

/// What becomes of a commit that waited.
enum Answer {
    Stored,
    /// It may be stored.
    Uncertain(String),
    /// It is not stored: its caller sends it.
    Alone(Batch),
}

/// The commits of one process.
#[derive(Default)]
pub(crate) struct Gather(Mutex<State>);

#[derive(Default)]
struct State {
    /// Statements on their way.
    running: usize,
    waiting: VecDeque<Share>,
    /// Those that send for several.
    tasks: JoinSet<()>,
}

/// A place among the statements on their way; it is passed on when dropped.
struct Lane {
    db: Postgres,
}

impl Lane {
    /// Keeps the lane while the work is done, but not for long.
    async fn hold<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Ok(done) = time::timeout(LONG, &mut work).await {
            return done;
        }
        drop(self);
        work.await
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let gather = self.db.gather.clone();
        let mut state = gather.lock();
        let runtime = Handle::try_current();
        if state.waiting.is_empty() || runtime.is_err() {
            // Without a runtime nobody waits for an answer any more.
            state.running -= 1;
            state.waiting.clear();
            return;
        }
        while state.tasks.try_join_next().is_some() {}
        let lane = Lane {
            db: self.db.clone(),
        };
        state.tasks.spawn(async move {
            let db = lane.db.clone();
            let group = db.gather.lock().take();
            // Another lane may have taken all.
            if !group.is_empty() {
                lane.hold(send(&db, group)).await;
            }
        });
    }
}

/// When a commit goes out.
enum Turn {
    /// At once, and it takes one of the lanes.
    Now(Batch),
    /// With others; this is its answer.
    Later(oneshot::Receiver<Answer>),
    /// At once, because too many wait.
    Over(Batch),
}

impl Gather {
    fn turn(&self, batch: Batch, fence: Option<Fence>) -> Turn {
        let mut state = self.lock();
        if state.running < LANES {
            state.running += 1;
            return Turn::Now(batch);
        }
        if state.waiting.len() >= MAX_WAITING {
            return Turn::Over(batch);
        }
        let (answer, later) = oneshot::channel();
        state.waiting.push_back(Share {
            batch,
            fence,
            answer,
        });
        Turn::Later(later)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next commits that go together: those that wait longest, each of another thread,
    /// because rows of one statement may not meet.
    fn take(&mut self) -> Vec<Share> {
        let mut threads = HashSet::new();
        let (mut group, mut bytes) = (Vec::new(), 0);
        let mut place = 0;
        while group.len() < MAX_COMMITS && place < self.waiting.len() {
            let batch = &self.waiting[place].batch;
            let thread = batch.thread().unwrap_or_default();
            let fits = group.is_empty() || bytes + batch.bytes() <= MAX_BYTES;
            if !fits || !threads.insert(thread.to_owned()) {
                place += 1;
                continue;
            }
            bytes += batch.bytes();
            group.extend(self.waiting.remove(place));
        }
        group
    }
}

/// Stores a commit, alone or with others.
///
/// # Errors
/// `Conflict` if the lease of the fence is not held; else as [`Postgres::write`].
pub(super) async fn commit(db: &Postgres, batch: Batch, fence: Option<Fence>) -> Result<()> {
    if batch.bytes() > LARGE_BYTES || batch.thread().is_none() {
        return alone(db, batch, fence).await;
    }
    match db.gather.turn(batch, fence) {
        Turn::Now(batch) => {
            let lane = Lane { db: db.clone() };
            lane.hold(alone(db, batch, fence)).await
        }
        Turn::Over(batch) => alone(db, batch, fence).await,
        Turn::Later(answer) => match answer.await {
            Ok(Answer::Stored) => Ok(()),
            Ok(Answer::Alone(batch)) => alone(db, batch, fence).await,
            Ok(Answer::Uncertain(reason)) => Err(Error::uncertain(
                "the answer of the database to a commit was lost",
            )
            .with("reason", reason)),
            Err(_) => Err(Error::uncertain("the process stopped during a commit")),
        },
    }
}

async fn alone(db: &Postgres, batch: Batch, fence: Option<Fence>) -> Result<()> {
    let done = db.write(&batch.statement(fence)).await?;
    match fence {
        Some(fence) if stored(&done)?.is_empty() => Err(fenced(fence)),
        _ => Ok(()),
    }
}

/// The numbers of the commits that were stored.
fn stored(done: &Done) -> Result<Vec<i64>> {
    let row = done.rows.first();
    row.map_or_else(|| Ok(Vec::new()), |row| get(row, 0))
}

/// Sends several commits as one statement, and tells each what became of it.
async fn send(db: &Postgres, group: Vec<Share>) {
    let numbered = (0..).zip(&group);
    let commits = numbered.map(|(number, share)| (number, share.batch.clone(), share.fence));
    let sent = db.write(&together(commits.collect())).await;
    let stored = sent.and_then(|done| stored(&done));
    for (number, share) in (0..).zip(group) {
        let answer = match &stored {
            Ok(stored) if stored.contains(&number) => Answer::Stored,
            Err(err) if err.kind() == ErrorKind::Uncertain => Answer::Uncertain(err.to_string()),
            _ => Answer::Alone(share.batch),
        };
        // Whoever is gone does not want to know.
        let _ = share.answer.send(answer);
    }
}
