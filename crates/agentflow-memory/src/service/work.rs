//! Work in the background: jobs, and letters to the index.

use std::time::Duration;

use agentflow_storage::{
    memories::{
        Change, Claimed, Event, Job, JobQuery, JobStatus, Kind, Memory, MemoryQuery, State,
    },
    page::{Page, PageQuery},
};
use agentflow_types::{Error, ErrorKind, JobId, Map, MemoryId, Result, Scope, Value};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Service,
    add::{ADD, Add, SOURCE, result},
    find::{Search, Which},
    hash,
};
use crate::{
    extract::{self, Fact},
    fence,
    index::Step,
};

/// Jobs at once in this process.
const AT_ONCE: usize = 8;
/// How long an attempt holds its job unless it renews it.
const LEASE: Duration = Duration::from_secs(30);
/// How often a claim is renewed.
const RENEW: Duration = Duration::from_secs(10);
/// How often it looks by itself.
const POLL: Duration = Duration::from_secs(1);
/// Pause before an index that could not be reached is looked at again.
const FILL_AGAIN: Duration = Duration::from_secs(5);
/// Attempts before a job fails.
const MAX_ATTEMPTS: u32 = 5;
/// Memories that the model is shown beside what is new.
const NEIGHBOURS: usize = 30;
/// How many of them are the newest, near or not.
const NEWEST: u32 = 10;
/// Who acts when jobs are done.
const PRINCIPAL: &str = "memory";

impl Service {
    /// Does jobs and delivers letters until `stop` fires; jobs that are under way end first.
    pub async fn run(&self, stop: CancellationToken) {
        let mut jobs = JoinSet::new();
        let keeping = {
            let (service, stop) = (self.clone(), stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(service.keep()).await })
        };
        while !stop.is_cancelled() {
            while jobs.try_join_next().is_some() {}
            match self.claim(AT_ONCE - jobs.len()).await {
                Ok(claimed) => {
                    for claimed in claimed {
                        let service = self.clone();
                        jobs.spawn(async move { service.attempt(claimed).await });
                    }
                }
                Err(err) => tracing::error!(error = %err, "jobs could not be read"),
            }
            if let Err(err) = self.deliver().await {
                tracing::error!(error = %err, "the outbox could not be read");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                Some(_) = jobs.join_next() => {}
                () = self.inner.jobs.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
        while jobs.join_next().await.is_some() {}
        if let Err(err) = keeping.await {
            tracing::error!(error = %err, "keeping the index panicked");
        }
    }

    /// Keeps the index whole, and of the embedder that is wanted.
    async fn keep(&self) {
        let index = &self.inner.index;
        let mut is_begun = false;
        loop {
            let stepped = async {
                if !is_begun {
                    is_begun = index.begin().await?;
                }
                index.step().await
            };
            match stepped.await {
                Ok(Step::Worked) => {}
                Ok(Step::Idle) => tokio::time::sleep(POLL).await,
                Err(err) => {
                    tracing::warn!(error = %err, "the index of memories cannot be filled yet");
                    tokio::time::sleep(FILL_AGAIN).await;
                }
            }
        }
    }

    /// Does the jobs that are due now, one after the other; how many.
    ///
    /// # Errors
    /// If jobs cannot be read.
    pub async fn work(&self) -> Result<usize> {
        let mut many = 0;
        loop {
            let claimed = self.claim(AT_ONCE).await?;
            if claimed.is_empty() {
                return Ok(many);
            }
            many += claimed.len();
            for claimed in claimed {
                self.attempt(claimed).await;
            }
        }
    }

    async fn claim(&self, room: usize) -> Result<Vec<Claimed>> {
        let limit = u32::try_from(room).unwrap_or(u32::MAX);
        if limit == 0 {
            return Ok(vec![]);
        }
        let now = self.now();
        let memories = &self.backend().memories;
        memories.claim_jobs(now, now.plus(LEASE), limit).await
    }

    /// A job.
    ///
    /// # Errors
    /// `NotFound` without it.
    pub async fn event(&self, scope: &Scope, project: &str, id: JobId) -> Result<Job> {
        let job = self.backend().memories.job(scope, id).await?;
        job.filter(|job| job.project == project).ok_or_else(|| {
            Error::not_found("Event not found or you don't have permission to access it.")
        })
    }

    /// One page of jobs, the newest first.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn events(&self, scope: &Scope, query: &JobQuery) -> Result<Page<Job>> {
        self.backend().memories.jobs(scope, query).await
    }

    /// One attempt of a job, under a claim that is renewed meanwhile.
    async fn attempt(&self, claimed: Claimed) {
        let Claimed { tenant, job } = claimed;
        let scope = Scope::new(&tenant, PRINCIPAL);
        let scope = match fence::scope_of(scope.clone(), &job) {
            Ok(scope) => scope,
            Err(err) => return self.set_back(&scope, job, &err).await,
        };
        let held = job.clone();
        let work = self.perform(&scope, &held);
        tokio::pin!(work);
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                () = tokio::time::sleep(RENEW) => {
                    let until = self.now().plus(LEASE);
                    let memories = &self.backend().memories;
                    match memories.renew_job(job.job_id, job.attempt, until).await {
                        Ok(true) => {}
                        // Somebody else does it now, and stores what it finds.
                        Ok(false) => return,
                        Err(err) => tracing::warn!(error = %err, "a claim was not renewed"),
                    }
                }
            }
        };
        if let Err(err) = outcome {
            self.set_back(&scope, job, &err).await;
        }
        self.inner.jobs.notify_one();
        self.inner.ended.notify_waiters();
    }

    /// Tries a job later; at last its turns become the memories, so that nothing is lost.
    async fn set_back(&self, scope: &Scope, mut job: Job, err: &Error) {
        tracing::warn!(job = %job.job_id, error = %err, "an attempt of a job failed");
        job.error = err.to_string();
        job.updated_at = self.now();
        let is_last = job.attempt >= MAX_ATTEMPTS;
        let ended = if is_last && job.kind == ADD {
            self.keep_turns(scope, job, JobStatus::Failed).await
        } else if is_last {
            if let Err(err) = self.gave_up(scope, &job).await {
                tracing::warn!(error = %err, "a profile was not marked as failed");
            }
            let change = self.end(job, JobStatus::Failed);
            self.backend().memories.apply(scope, vec![change]).await
        } else {
            job.status = JobStatus::Pending;
            // Somebody changed what was read: that is decided anew at once. If it is the job
            // itself that another attempt holds, this changes nothing.
            job.due_at = match err.kind() {
                ErrorKind::Conflict => self.now(),
                _ => self.now().plus(POLL * (1 << job.attempt.min(6))),
            };
            let change = Change::PutJob(Box::new(job));
            self.backend().memories.apply(scope, vec![change]).await
        };
        if let Err(err) = ended {
            tracing::warn!(error = %err, "a job is tried again when its claim ends");
        }
    }

    async fn sources(&self, scope: &Scope, job: &Job) -> Result<Vec<Memory>> {
        let ids = job.payload.get("turns").and_then(Value::as_list);
        let ids = ids.unwrap_or_default().iter();
        let ids: Vec<MemoryId> = ids.filter_map(|id| id.as_str()?.parse().ok()).collect();
        self.backend().memories.get(scope, &ids, None).await
    }

    /// Ends a job with its turns as memories.
    async fn keep_turns(&self, scope: &Scope, mut job: Job, status: JobStatus) -> Result<()> {
        let turns = self.sources(scope, &job).await?;
        let mut changes = Vec::new();
        job.results.clear();
        for turn in turns {
            let mut turn = self.next(turn, Event::Update);
            turn.extra.swap_remove(SOURCE);
            job.results.push(result(&Memory {
                event: Event::Add,
                ..turn.clone()
            }));
            changes.push(Change::Put(Box::new(turn)));
        }
        changes.push(self.end(job, status));
        self.commit(scope, changes).await
    }

    pub(super) fn end(&self, mut job: Job, status: JobStatus) -> Change {
        job.status = status;
        job.updated_at = self.now();
        job.completed_at = Some(job.updated_at);
        Change::PutJob(Box::new(job))
    }

    /// Reads facts out of the turns of a job, and stores them with its end in one transaction.
    pub(super) async fn infer(&self, scope: &Scope, job: &Job) -> Result<()> {
        let add = Add::of_job(job)?;
        let Some((chat, model)) = &self.inner.models.chat else {
            return self
                .keep_turns(scope, job.clone(), JobStatus::Succeeded)
                .await;
        };
        let turns = self.sources(scope, job).await?;
        if turns.is_empty() {
            // They were removed meanwhile.
            let change = self.end(job.clone(), JobStatus::Succeeded);
            return self.backend().memories.apply(scope, vec![change]).await;
        }
        let settings = self.project(scope, &job.project).await?;
        let neighbours = self.neighbours(scope, job, &add, &turns).await?;
        let prompt = extract::Prompt {
            add: &add,
            settings: &settings,
            turns: &turns,
            neighbours: &neighbours,
        };
        match extract::facts(&**chat, model, &prompt).await? {
            Ok(facts) => {
                self.keep_facts(scope, job, &add, &turns, neighbours, facts)
                    .await
            }
            Err(why) => {
                let mut job = job.clone();
                job.error = format!("{why}: the messages themselves are stored");
                self.keep_turns(scope, job, JobStatus::Succeeded).await
            }
        }
    }

    /// Facts of the same owner that the new turns may repeat or contradict: those that are near,
    /// then the newest.
    async fn neighbours(
        &self,
        scope: &Scope,
        job: &Job,
        add: &Add,
        turns: &[Memory],
    ) -> Result<Vec<Memory>> {
        let which = Which {
            filter: own_filter(add),
            latest_only: true,
            ..Which::default()
        };
        let mut found: Vec<Memory> = Vec::new();
        for turn in turns.iter().take(NEIGHBOURS) {
            let search = Search {
                query: turn.text.chars().take(2_000).collect(),
                which: which.clone(),
                threshold: 0.0,
                ..Search::default()
            };
            let hits = self.search(scope, &job.project, &search).await?;
            found.extend(hits.into_iter().map(|hit| hit.memory));
        }
        let newest = self.newest(scope, &job.project, &which, NEWEST);
        found.extend(newest.await?);
        let mut seen = std::collections::HashSet::new();
        found.retain(|memory| seen.insert(memory.memory_id));
        found.truncate(NEIGHBOURS);
        Ok(found)
    }

    async fn keep_facts(
        &self,
        scope: &Scope,
        job: &Job,
        add: &Add,
        turns: &[Memory],
        neighbours: Vec<Memory>,
        facts: Vec<Fact>,
    ) -> Result<()> {
        let mut job = job.clone();
        let mut changed: Vec<Memory> = Vec::new();
        let mut made: Vec<Memory> = Vec::new();
        for fact in facts {
            let mut new = self.fact(&job.project, add, turns, &fact);
            fence::keep_owners(scope, &mut new);
            let repeats = self.repeated(scope, &new).await?;
            if repeats || made.iter().any(|other| other.hash == new.hash) {
                continue;
            }
            made.push(self.linked(new, &fact, &neighbours, &mut changed));
        }
        job.results = made.iter().map(result).collect();
        let all: Vec<Memory> = made.into_iter().chain(changed).collect();
        let mut changes = self.told(scope, &all).await?;
        changes.extend(all.into_iter().map(|memory| Change::Put(Box::new(memory))));
        changes.push(self.end(job, JobStatus::Succeeded));
        self.commit(scope, changes).await
    }

    /// Labels what the fact replaces, and links both ways.
    fn linked(
        &self,
        mut new: Memory,
        fact: &Fact,
        neighbours: &[Memory],
        changed: &mut Vec<Memory>,
    ) -> Memory {
        let replaced = fact
            .replaces
            .iter()
            .map(|place| (*place, State::Superseded));
        let merged = fact.merges.iter().map(|place| (*place, State::Merged));
        for (place, state) in replaced.chain(merged) {
            let Some(old) = neighbours.get(place).filter(|old| !old.immutable) else {
                continue;
            };
            if changed.iter().any(|other| other.memory_id == old.memory_id) {
                continue;
            }
            let mut next = self.next(old.clone(), Event::Update);
            (next.state, next.replaced_by) = (state, Some(new.memory_id));
            new.linked.push(old.memory_id);
            if state == State::Merged {
                new.sources.extend(&old.sources);
            }
            changed.push(next);
        }
        new
    }

    fn fact(&self, project: &str, add: &Add, turns: &[Memory], fact: &Fact) -> Memory {
        let kind = if add.procedural {
            Kind::Procedure
        } else {
            Kind::Fact
        };
        let mut new = self.fresh(project, add, kind, fact.text.clone());
        new.role = Some(fact.speaker.clone());
        // A fact belongs to who spoke, if both are named.
        if add.owner.user_id.is_some() && add.owner.agent_id.is_some() && !add.procedural {
            match fact.speaker.as_str() {
                "assistant" => new.owner.user_id = None,
                _ => new.owner.agent_id = None,
            }
        }
        let cited = fact.sources.iter().filter_map(|place| turns.get(*place));
        new.sources = cited.map(|turn| turn.memory_id).collect();
        if new.sources.is_empty() {
            new.sources = turns.iter().map(|turn| turn.memory_id).collect();
        }
        new.categories.clone_from(&fact.categories);
        new
    }

    /// Whether the owner has exactly this already.
    async fn repeated(&self, scope: &Scope, new: &Memory) -> Result<bool> {
        let mut filter = Map::new();
        for kind in agentflow_storage::memories::OwnerKind::ALL {
            if let Some(name) = new.owner.get(kind) {
                filter.insert(kind.field().into(), Value::str(name));
            }
        }
        filter.insert("hash".into(), Value::str(hash(&new.text)));
        let query = MemoryQuery {
            project: new.project.clone(),
            kinds: vec![Kind::Fact, Kind::Procedure],
            condition: Some(crate::filter::read(&filter)?),
            as_of: None,
            uncounted: true,
        };
        let page = PageQuery {
            limit: 1,
            ..PageQuery::default()
        };
        let found = self.backend().memories.list(scope, &query, &page).await?;
        Ok(found.total > 0)
    }
}

/// Whose facts are compared: of the user, or of the agent, whoever is named.
fn own_filter(add: &Add) -> Map {
    use agentflow_storage::memories::OwnerKind::{Agent, App, Run, User};
    let by = |kinds: &[agentflow_storage::memories::OwnerKind]| {
        let named = kinds.iter().filter_map(|kind| {
            let name = add.owner.get(*kind)?;
            Some(Value::object([(kind.field(), Value::str(name))]))
        });
        named.collect::<Vec<Value>>()
    };
    let people = by(&[User, Agent]);
    let any = if people.is_empty() {
        by(&[App, Run])
    } else {
        people
    };
    [("OR".into(), Value::list(any))].into_iter().collect()
}
