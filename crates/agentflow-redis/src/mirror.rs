//! A copy of the newest events in Redis, beside the log in the database.
//!
//! What was stored is copied afterwards, to a stream per thread whose ids are the events' numbers.
//! A read is answered from there only if the stream has every number from the first one asked for
//! up to the newest one that this process heard of; everything else is answered by the database.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use agentflow_storage::{
    Backend,
    checkpoint::{Fence, Rest},
    event::{Event, Events},
    page::{Page, PageQuery},
    record::{
        Ages, Candidate, Change, Decide, Heartbeat, Run, RunQuery, RunStatus, Standing, Thread,
        ThreadQuery, Threads,
    },
};
use agentflow_types::{Error, ErrorKind, Result, RunId, Scope, Str, ThreadId, Timestamp};
use async_trait::async_trait;
use redis::cmd;

use crate::{
    Inner,
    link::Repeat,
    outbox::Outbox,
    signals::{Announced, Wakeups},
};

/// Events and threads of a database, copied to Redis.
struct Mirror {
    events: Arc<dyn Events>,
    threads: Arc<dyn Threads>,
    redis: Arc<Inner>,
    outbox: Arc<Outbox>,
    announced: Arc<Announced>,
}

/// The backend with wake-ups over Redis and a copy of its newest events there.
pub(crate) fn over(redis: Arc<Inner>, backend: Backend) -> Backend {
    let announced = Arc::<Announced>::default();
    let wakeups = Wakeups::start(redis.clone(), backend.signals.clone(), announced.clone());
    let mirror = Arc::new(Mirror {
        events: backend.events.clone(),
        threads: backend.threads.clone(),
        redis,
        outbox: wakeups.outbox.clone(),
        announced,
    });
    Backend {
        events: mirror.clone(),
        threads: mirror,
        signals: Arc::new(wakeups),
        ..backend
    }
}

impl Mirror {
    fn copy(&self, thread: ThreadId, events: Vec<Event>) {
        if let Some(last) = events.last() {
            self.announced.note(thread, last.seq);
            self.outbox.events(thread, events);
        }
    }

    fn forget(&self, thread: ThreadId) {
        self.announced.forget(Some(thread));
        self.outbox.forget(thread);
    }

    /// Events from the copy; `None` if it does not have all.
    async fn copied(
        &self,
        thread: ThreadId,
        run: Option<RunId>,
        after: u64,
        limit: u32,
    ) -> Option<Vec<Event>> {
        let newest = self.announced.get(thread)?;
        if newest <= after || limit == 0 {
            return None;
        }
        let mut command = cmd("XRANGE");
        command.arg(self.redis.keys.events(thread));
        command.arg(format!("({after}-0")).arg("+");
        command.arg("COUNT").arg(limit);
        let found = self.redis.link.run(&command, Repeat::Yes).await.ok()?;
        let found: Vec<(String, Fields)> = found;
        let events = found
            .into_iter()
            .map(read)
            .collect::<Result<Vec<_>>>()
            .ok()?;
        let is_whole = (after + 1..)
            .zip(&events)
            .all(|(seq, event)| event.seq == seq);
        let reached = after + events.len() as u64;
        if !is_whole || (reached < newest && events.len() < limit as usize) {
            return None;
        }
        match run {
            None => Some(events),
            // A full page of several runs may leave out what a page of one would still hold.
            Some(_) if reached < newest => None,
            Some(run) => Some(
                events
                    .into_iter()
                    .filter(|event| event.run_id == run)
                    .collect(),
            ),
        }
    }
}

type Fields = HashMap<String, String>;

fn read((id, mut fields): (String, Fields)) -> Result<Event> {
    let wrong = || Error::corrupt("an event in Redis has an unexpected content");
    let mut field = |name: &str| fields.remove(name).ok_or_else(wrong);
    let (seq, _) = id.split_once('-').ok_or_else(wrong)?;
    let ns: Vec<Str> = serde_json::from_str(&field("ns")?).map_err(|_| wrong())?;
    Ok(Event {
        seq: seq.parse().map_err(|_| wrong())?,
        run_id: field("run")?.parse()?,
        at: Timestamp(field("at")?.parse().map_err(|_| wrong())?),
        kind: field("kind")?.into(),
        ns,
        data: field("data")?.into(),
    })
}

#[async_trait]
impl Events for Mirror {
    async fn append(
        &self,
        thread_id: ThreadId,
        events: Vec<Event>,
        fence: Option<Fence>,
    ) -> Result<()> {
        self.events.append(thread_id, events.clone(), fence).await?;
        self.copy(thread_id, events);
        Ok(())
    }

    async fn read(
        &self,
        thread_id: ThreadId,
        run: Option<RunId>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Event>> {
        match self.copied(thread_id, run, after, limit).await {
            Some(events) => Ok(events),
            None => self.events.read(thread_id, run, after, limit).await,
        }
    }

    async fn read_stored(
        &self,
        thread_id: ThreadId,
        run: Option<RunId>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Event>> {
        self.events.read_stored(thread_id, run, after, limit).await
    }

    async fn last_seq(&self, thread_id: ThreadId) -> Result<u64> {
        self.events.last_seq(thread_id).await
    }

    async fn expire(&self, before: Timestamp, limit: u32) -> Result<u64> {
        self.events.expire(before, limit).await
    }
}

/// What a decision means for the copy.
#[derive(Default)]
struct Seen {
    forget: bool,
    events: Vec<Event>,
}

impl Seen {
    fn of(changes: &[Change]) -> Self {
        let mut seen = Self::default();
        for change in changes {
            match change {
                Change::Append(events) => seen.events.extend(events.iter().cloned()),
                Change::RollbackRun(_) | Change::DeleteRun(_) | Change::DeleteThread => {
                    seen.forget = true;
                    seen.events.clear();
                }
                Change::PutThread(_)
                | Change::PutRun(_)
                | Change::InsertRun(_)
                | Change::AdvanceCron { .. }
                | Change::Post(_) => {}
            }
        }
        seen
    }
}

#[async_trait]
impl Threads for Mirror {
    async fn get(&self, scope: &Scope, id: ThreadId) -> Result<Option<Thread>> {
        self.threads.get(scope, id).await
    }

    async fn decide(&self, scope: &Scope, id: ThreadId, decide: Decide) -> Result<()> {
        let seen = Arc::<Mutex<Seen>>::default();
        let note = seen.clone();
        let watched: Decide = Box::new(move |thread| {
            let changes = decide(thread)?;
            *note.lock().unwrap_or_else(PoisonError::into_inner) = Seen::of(&changes);
            Ok(changes)
        });
        let decided = self.threads.decide(scope, id, watched).await;
        let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        match &decided {
            Ok(()) => {
                if seen.forget {
                    self.forget(id);
                }
                self.copy(id, seen.events);
            }
            Err(err) if err.kind() == ErrorKind::Uncertain => self.forget(id),
            Err(_) => {}
        }
        decided
    }

    async fn remove_resting(&self, threads: &[Candidate]) -> Result<()> {
        let removed = self.threads.remove_resting(threads).await;
        // Some may be gone even if it failed; a copy too few is no loss.
        for candidate in threads {
            self.forget(candidate.thread_id);
        }
        removed
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &ThreadQuery,
        page: &PageQuery,
    ) -> Result<Page<Thread>> {
        self.threads.search(scope, query, page).await
    }

    async fn run(&self, scope: &Scope, id: RunId) -> Result<Option<Run>> {
        self.threads.run(scope, id).await
    }

    async fn runs(&self, scope: &Scope, query: &RunQuery) -> Result<Vec<Run>> {
        self.threads.runs(scope, query).await
    }

    async fn candidates(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        self.threads.candidates(now, limit).await
    }

    async fn heartbeat(&self, run_id: RunId, token: i64, until: Timestamp) -> Result<Heartbeat> {
        self.threads.heartbeat(run_id, token, until).await
    }

    async fn rests(&self, rest: Rest) -> Result<bool> {
        self.threads.rests(rest).await
    }

    async fn holds(&self, fence: Fence) -> Result<bool> {
        self.threads.holds(fence).await
    }

    async fn standing(&self, threads: &[ThreadId], runs: &[RunId]) -> Result<Standing> {
        self.threads.standing(threads, runs).await
    }

    async fn ages(&self) -> Result<Ages> {
        self.threads.ages().await
    }

    async fn counts(&self) -> Result<Vec<(RunStatus, u64)>> {
        self.threads.counts().await
    }

    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        self.threads.expired(now, limit).await
    }
}
