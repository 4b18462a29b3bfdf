//! A backend that fails when it is told to.
//!
//! [`wrap`] puts a [`Faults`] function between a caller and a backend. It is asked before each
//! write and may let it fail, lose the answer, or stop the process. After a crash every call of
//! the wrapped backend fails; what the inner backend committed is what a restart finds:
//!
//! ```
//! use agentflow_storage::{faulty, memory::Memory};
//! use std::sync::Arc;
//!
//! let database = Memory::new();
//! let first_life = faulty::wrap(database.backend(), Arc::new(|_| faulty::Fault::CrashAfter));
//! // … the first write is committed, its caller learns nothing, all later calls fail …
//! let second_life = database.backend();
//! # let _ = (first_life, second_life);
//! ```

mod documents;
mod ephemeral;
mod memories;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use agentflow_types::{
    AssistantId, CronId, Error, LetterId, Map, Result, RunId, Scope, Str, ThreadId, Timestamp,
};
use async_trait::async_trait;

use crate::{
    Backend,
    checkpoint::{
        CheckpointKey, CheckpointOp, CheckpointQuery, CheckpointTuple, Checkpoints, Fence, Prune,
        Rest, delta::DeltaHistory, usage::Usage,
    },
    cron::{Cron, CronQuery, Crons},
    event::{Event, Events},
    outbox::{Depth, Outbox, Posted, Settled},
    page::{Page, PageQuery},
    record::{
        Ages, Assistant, AssistantQuery, Assistants, Candidate, Decide, Heartbeat, Run, RunQuery,
        RunStatus, Standing, Thread, ThreadQuery, Threads,
    },
    store::{Item, ItemQuery, NamespaceQuery, PutItem, Refresh, Store},
};

/// What happens to a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing out of the ordinary.
    #[default]
    None,
    /// `Busy`; nothing is written.
    Busy,
    /// `Uncertain`; it is written.
    Uncertain,
    /// `Uncertain`; nothing is written.
    Lost,
    /// The process stops before the write.
    CrashBefore,
    /// The process stops after the write.
    CrashAfter,
}

/// The writes of all ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Write {
    Commit,
    DeleteThread,
    CopyThread,
    DeleteForRuns,
    Prune,
    InsertAssistant,
    InsertVersion,
    SelectVersion,
    DeleteAssistant,
    Decide,
    Heartbeat,
    Append,
    Expire,
    PutItems,
    GetItem,
    DeleteItem,
    SearchItems,
    Sweep,
    PutCron,
    DeleteCron,
    Advance,
    CreateSession,
    TouchSession,
    DeleteSession,
    DeleteSessions,
    SweepSessions,
    Take,
    Spend,
    Refund,
    Reset,
    SweepCounters,
    PutCached,
    DeleteCached,
    ClearCache,
    SweepCache,
    ClaimLetters,
    SettleLetter,
    ReviveLetter,
    DiscardLetter,
    ForgetLetters,
    ApplyMemories,
    ClaimJobs,
    RenewJob,
    ApplyDocuments,
    WritePart,
    SweepBlobs,
}

/// Decides what happens to the next write. It is called once per write, before it.
pub type Faults = Arc<dyn Fn(Write) -> Fault + Send + Sync>;

/// A backend whose writes fail as `faults` says.
#[must_use]
pub fn wrap(inner: Backend, faults: Faults) -> Backend {
    let signals = inner.signals.clone();
    // Nothing about accounts is decided from more than one write, so a fault between two is of
    // no interest.
    let accounts = (
        inner.tenants.clone(),
        inner.users.clone(),
        inner.keys.clone(),
        inner.audit.clone(),
    );
    let this = Arc::new(Faulty {
        inner,
        faults,
        crashed: AtomicBool::new(false),
    });
    Backend {
        tenants: accounts.0,
        users: accounts.1,
        keys: accounts.2,
        audit: accounts.3,
        checkpoints: this.clone(),
        assistants: this.clone(),
        threads: this.clone(),
        events: this.clone(),
        store: this.clone(),
        crons: this.clone(),
        outbox: this.clone(),
        signals,
        sessions: this.clone(),
        counters: this.clone(),
        cache: this.clone(),
        memories: this.clone(),
        documents: this,
    }
}

struct Faulty {
    inner: Backend,
    faults: Faults,
    crashed: AtomicBool,
}

fn crashed() -> Error {
    Error::uncertain("the process stopped (simulated)")
}

impl Faulty {
    /// What a read may do: nothing after a crash.
    fn alive(&self) -> Result<()> {
        if self.crashed.load(Ordering::SeqCst) {
            Err(crashed())
        } else {
            Ok(())
        }
    }

    /// Performs a write, or not.
    async fn write<T: Send>(
        &self,
        write: Write,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.alive()?;
        match (self.faults)(write) {
            Fault::None => call.await,
            Fault::Busy => Err(Error::busy("the backend is busy (simulated)")),
            Fault::Lost => Err(Error::uncertain("the request was lost (simulated)")),
            Fault::Uncertain => {
                call.await?;
                Err(Error::uncertain("the answer was lost (simulated)"))
            }
            Fault::CrashBefore => {
                self.crashed.store(true, Ordering::SeqCst);
                Err(crashed())
            }
            Fault::CrashAfter => {
                // Whatever the write answers, nobody is left to hear it.
                let _ = call.await;
                self.crashed.store(true, Ordering::SeqCst);
                Err(crashed())
            }
        }
    }
}

#[async_trait]
impl Checkpoints for Faulty {
    async fn usage(&self, thread_id: &str) -> Result<Option<Usage>> {
        self.alive()?;
        self.inner.checkpoints.usage(thread_id).await
    }
    async fn get(&self, key: &CheckpointKey) -> Result<Option<CheckpointTuple>> {
        self.alive()?;
        self.inner.checkpoints.get(key).await
    }
    async fn list(&self, query: &CheckpointQuery) -> Result<Vec<CheckpointTuple>> {
        self.alive()?;
        self.inner.checkpoints.list(query).await
    }
    async fn commit_at_rest(&self, ops: Vec<CheckpointOp>, rest: Rest) -> Result<()> {
        let call = self.inner.checkpoints.commit_at_rest(ops, rest);
        self.write(Write::Commit, call).await
    }
    async fn take_over(&self, thread_id: &str, fence: Fence) -> Result<()> {
        self.alive()?;
        self.inner.checkpoints.take_over(thread_id, fence).await
    }
    async fn delta_history(
        &self,
        key: &CheckpointKey,
        channels: &[Str],
    ) -> Result<Vec<DeltaHistory>> {
        self.alive()?;
        self.inner.checkpoints.delta_history(key, channels).await
    }
    async fn commit(&self, ops: Vec<CheckpointOp>, fence: Option<Fence>) -> Result<()> {
        self.write(Write::Commit, self.inner.checkpoints.commit(ops, fence))
            .await
    }
    async fn delete_thread(&self, thread_id: &str) -> Result<()> {
        self.write(
            Write::DeleteThread,
            self.inner.checkpoints.delete_thread(thread_id),
        )
        .await
    }
    async fn copy_thread(&self, from: &str, to: &str) -> Result<()> {
        self.write(
            Write::CopyThread,
            self.inner.checkpoints.copy_thread(from, to),
        )
        .await
    }
    async fn delete_for_runs(&self, run_ids: &[String]) -> Result<()> {
        self.write(
            Write::DeleteForRuns,
            self.inner.checkpoints.delete_for_runs(run_ids),
        )
        .await
    }
    async fn prune(&self, thread_ids: &[String], strategy: Prune) -> Result<()> {
        self.write(
            Write::Prune,
            self.inner.checkpoints.prune(thread_ids, strategy),
        )
        .await
    }
}

#[async_trait]
impl Assistants for Faulty {
    async fn insert(&self, scope: &Scope, assistant: Assistant) -> Result<()> {
        self.write(
            Write::InsertAssistant,
            self.inner.assistants.insert(scope, assistant),
        )
        .await
    }
    async fn get(&self, scope: &Scope, id: AssistantId) -> Result<Option<Assistant>> {
        self.alive()?;
        self.inner.assistants.get(scope, id).await
    }
    async fn insert_version(&self, scope: &Scope, assistant: Assistant) -> Result<Assistant> {
        let call = self.inner.assistants.insert_version(scope, assistant);
        self.write(Write::InsertVersion, call).await
    }
    async fn select_version(
        &self,
        scope: &Scope,
        id: AssistantId,
        version: i64,
    ) -> Result<Assistant> {
        let call = self.inner.assistants.select_version(scope, id, version);
        self.write(Write::SelectVersion, call).await
    }
    async fn versions(
        &self,
        scope: &Scope,
        id: AssistantId,
        metadata: &Map,
        limit: u32,
        offset: u64,
    ) -> Result<Vec<Assistant>> {
        self.alive()?;
        self.inner
            .assistants
            .versions(scope, id, metadata, limit, offset)
            .await
    }
    async fn delete(&self, scope: &Scope, id: AssistantId) -> Result<bool> {
        self.write(
            Write::DeleteAssistant,
            self.inner.assistants.delete(scope, id),
        )
        .await
    }
    async fn search(
        &self,
        scope: &Scope,
        query: &AssistantQuery,
        page: &PageQuery,
    ) -> Result<Page<Assistant>> {
        self.alive()?;
        self.inner.assistants.search(scope, query, page).await
    }
}

#[async_trait]
impl Threads for Faulty {
    async fn get(&self, scope: &Scope, id: ThreadId) -> Result<Option<Thread>> {
        self.alive()?;
        self.inner.threads.get(scope, id).await
    }
    async fn decide(&self, scope: &Scope, id: ThreadId, decide: Decide) -> Result<()> {
        self.write(Write::Decide, self.inner.threads.decide(scope, id, decide))
            .await
    }
    async fn search(
        &self,
        scope: &Scope,
        query: &ThreadQuery,
        page: &PageQuery,
    ) -> Result<Page<Thread>> {
        self.alive()?;
        self.inner.threads.search(scope, query, page).await
    }
    async fn run(&self, scope: &Scope, id: RunId) -> Result<Option<Run>> {
        self.alive()?;
        self.inner.threads.run(scope, id).await
    }
    async fn runs(&self, scope: &Scope, query: &RunQuery) -> Result<Vec<Run>> {
        self.alive()?;
        self.inner.threads.runs(scope, query).await
    }
    async fn candidates(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        self.alive()?;
        self.inner.threads.candidates(now, limit).await
    }
    async fn heartbeat(&self, run_id: RunId, token: i64, until: Timestamp) -> Result<Heartbeat> {
        self.write(
            Write::Heartbeat,
            self.inner.threads.heartbeat(run_id, token, until),
        )
        .await
    }
    async fn holds(&self, fence: Fence) -> Result<bool> {
        self.alive()?;
        self.inner.threads.holds(fence).await
    }
    async fn rests(&self, rest: Rest) -> Result<bool> {
        self.alive()?;
        self.inner.threads.rests(rest).await
    }
    async fn standing(&self, threads: &[ThreadId], runs: &[RunId]) -> Result<Standing> {
        self.alive()?;
        self.inner.threads.standing(threads, runs).await
    }
    async fn ages(&self) -> Result<Ages> {
        self.alive()?;
        self.inner.threads.ages().await
    }
    async fn counts(&self) -> Result<Vec<(RunStatus, u64)>> {
        self.alive()?;
        self.inner.threads.counts().await
    }
    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        self.alive()?;
        self.inner.threads.expired(now, limit).await
    }
}

#[async_trait]
impl Events for Faulty {
    async fn append(
        &self,
        thread_id: ThreadId,
        events: Vec<Event>,
        fence: Option<Fence>,
    ) -> Result<()> {
        self.write(
            Write::Append,
            self.inner.events.append(thread_id, events, fence),
        )
        .await
    }
    async fn read(
        &self,
        thread_id: ThreadId,
        run: Option<RunId>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Event>> {
        self.alive()?;
        self.inner.events.read(thread_id, run, after, limit).await
    }
    async fn read_stored(
        &self,
        thread_id: ThreadId,
        run: Option<RunId>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Event>> {
        self.alive()?;
        let events = &self.inner.events;
        events.read_stored(thread_id, run, after, limit).await
    }
    async fn last_seq(&self, thread_id: ThreadId) -> Result<u64> {
        self.alive()?;
        self.inner.events.last_seq(thread_id).await
    }
    async fn expire(&self, before: Timestamp, limit: u32) -> Result<u64> {
        self.write(Write::Expire, self.inner.events.expire(before, limit))
            .await
    }
}

#[async_trait]
impl Store for Faulty {
    async fn put(&self, scope: &Scope, now: Timestamp, items: Vec<PutItem>) -> Result<()> {
        self.write(Write::PutItems, self.inner.store.put(scope, now, items))
            .await
    }
    async fn get(
        &self,
        scope: &Scope,
        now: Timestamp,
        namespace: &[String],
        key: &str,
        refresh: Refresh,
    ) -> Result<Option<Item>> {
        self.write(
            Write::GetItem,
            self.inner.store.get(scope, now, namespace, key, refresh),
        )
        .await
    }
    async fn delete(&self, scope: &Scope, namespace: &[String], key: &str) -> Result<()> {
        self.write(
            Write::DeleteItem,
            self.inner.store.delete(scope, namespace, key),
        )
        .await
    }
    async fn search(&self, scope: &Scope, now: Timestamp, query: &ItemQuery) -> Result<Vec<Item>> {
        self.write(
            Write::SearchItems,
            self.inner.store.search(scope, now, query),
        )
        .await
    }
    async fn namespaces(
        &self,
        scope: &Scope,
        now: Timestamp,
        query: &NamespaceQuery,
    ) -> Result<Vec<Vec<String>>> {
        self.alive()?;
        self.inner.store.namespaces(scope, now, query).await
    }
    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        self.write(Write::Sweep, self.inner.store.sweep(now, limit))
            .await
    }
}

#[async_trait]
impl Crons for Faulty {
    async fn put(&self, scope: &Scope, cron: Cron) -> Result<()> {
        self.write(Write::PutCron, self.inner.crons.put(scope, cron))
            .await
    }
    async fn get(&self, scope: &Scope, id: CronId) -> Result<Option<Cron>> {
        self.alive()?;
        self.inner.crons.get(scope, id).await
    }
    async fn delete(&self, scope: &Scope, id: CronId) -> Result<bool> {
        self.write(Write::DeleteCron, self.inner.crons.delete(scope, id))
            .await
    }
    async fn search(
        &self,
        scope: &Scope,
        query: &CronQuery,
        page: &PageQuery,
    ) -> Result<Page<Cron>> {
        self.alive()?;
        self.inner.crons.search(scope, query, page).await
    }
    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<(Scope, Cron)>> {
        self.alive()?;
        self.inner.crons.due(now, limit).await
    }
    async fn advance(
        &self,
        id: CronId,
        expected: Timestamp,
        next: Option<Timestamp>,
    ) -> Result<bool> {
        self.write(Write::Advance, self.inner.crons.advance(id, expected, next))
            .await
    }
}

#[async_trait]
impl Outbox for Faulty {
    async fn claim(
        &self,
        topic: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Posted>> {
        let call = self.inner.outbox.claim(topic, now, until, limit);
        self.write(Write::ClaimLetters, call).await
    }
    async fn settle(&self, id: LetterId, attempt: u32, settled: Settled) -> Result<bool> {
        let call = self.inner.outbox.settle(id, attempt, settled);
        self.write(Write::SettleLetter, call).await
    }
    async fn dead(
        &self,
        scope: &Scope,
        topic: &str,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Posted>> {
        self.alive()?;
        self.inner.outbox.dead(scope, topic, limit, offset).await
    }
    async fn revive(&self, scope: &Scope, id: LetterId, now: Timestamp) -> Result<bool> {
        let call = self.inner.outbox.revive(scope, id, now);
        self.write(Write::ReviveLetter, call).await
    }
    async fn discard(&self, scope: &Scope, id: LetterId) -> Result<bool> {
        let call = self.inner.outbox.discard(scope, id);
        self.write(Write::DiscardLetter, call).await
    }
    async fn forget(&self, before: Timestamp, limit: u32) -> Result<u64> {
        let call = self.inner.outbox.forget(before, limit);
        self.write(Write::ForgetLetters, call).await
    }
    async fn depth(&self, topic: &str) -> Result<Depth> {
        self.alive()?;
        self.inner.outbox.depth(topic).await
    }
}
