//! Memories in memory.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet},
};

use agentflow_types::{JobId, MemoryId, Result, Scope, Timestamp};
use async_trait::async_trait;

use super::{Memory as Database, Tables};
use crate::{
    filter,
    memories::{
        Change, Claimed, Job, JobQuery, JobStatus, Mark, Memories, Memory, MemoryQuery, Note,
        NoteQuery, OwnerKind, Owning, check, check_keys, stale,
    },
    page::{Order, Page, PageQuery},
};

/// Tenant, project, kind, key.
pub(super) type NoteKey = (String, String, String, String);

/// All versions of a memory, the first one first; never empty.
#[derive(Clone)]
pub(super) struct Line {
    tenant: String,
    versions: Vec<Memory>,
}

impl Line {
    /// The version of that moment, or the last one; `None` if there was none, or it was gone.
    fn at(&self, moment: Option<Timestamp>) -> Option<&Memory> {
        let mut versions = self.versions.iter().rev();
        let found = versions.find(|memory| moment.is_none_or(|at| memory.updated_at <= at))?;
        (!found.is_deleted()).then_some(found)
    }
}

/// Versions that earlier changes of the same decision make.
#[derive(Default)]
struct Ahead {
    memories: HashMap<MemoryId, u64>,
    jobs: HashSet<JobId>,
    notes: HashMap<NoteKey, u64>,
}

fn note_key(scope: &Scope, project: &str, kind: &str, key: &str) -> NoteKey {
    let own = |text: &str| text.to_owned();
    (own(scope.tenant()), own(project), own(kind), own(key))
}

/// One page of what is sorted already.
fn cut<T>(all: Vec<T>, limit: u32, offset: u64) -> Page<T> {
    let total = all.len() as u64;
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let items = all.into_iter().skip(offset).take(limit as usize).collect();
    Page { items, total }
}

impl Tables {
    /// Checks a change that comes after those that are in `ahead`.
    fn check_memories(&self, scope: &Scope, change: &Change, ahead: &mut Ahead) -> Result<()> {
        let is_next = match change {
            Change::Put(memory) => {
                let line = self.memories.get(&memory.memory_id);
                let stored = line.and_then(|line| line.versions.last());
                let stored = stored.map_or(0, |memory| memory.version);
                let last = ahead.memories.insert(memory.memory_id, memory.version);
                line.is_none_or(|line| line.tenant == scope.tenant())
                    && memory.version == last.unwrap_or(stored) + 1
            }
            Change::InsertJob(job) => {
                !self.jobs.contains_key(&job.job_id) && ahead.jobs.insert(job.job_id)
            }
            Change::PutJob(job) => self.jobs.get(&job.job_id).is_some_and(|held| {
                held.tenant == scope.tenant()
                    && held.job.status == JobStatus::Running
                    && held.job.attempt == job.attempt
            }),
            Change::PutNote(note) => {
                let key = note_key(scope, &note.project, &note.kind, &note.key);
                let stored = self.notes.get(&key).map_or(0, |note| note.version);
                let last = ahead.notes.insert(key, note.version);
                note.version == last.unwrap_or(stored) + 1
            }
            Change::Post(_) => true,
        };
        is_next.then_some(()).ok_or_else(|| stale("memory"))
    }

    fn remember(&mut self, scope: &Scope, change: Change) {
        let tenant = scope.tenant().to_owned();
        match change {
            Change::Put(mut memory) => {
                memory.metadata = filter::normal_map(&memory.metadata);
                memory.extra = filter::normal_map(&memory.extra);
                let line = self.memories.entry(memory.memory_id);
                let versions = &mut line
                    .or_insert(Line {
                        tenant,
                        versions: vec![],
                    })
                    .versions;
                versions.push(*memory);
            }
            Change::InsertJob(job) | Change::PutJob(job) => {
                self.jobs.insert(job.job_id, Claimed { tenant, job: *job });
            }
            Change::PutNote(note) => {
                let key = note_key(scope, &note.project, &note.kind, &note.key);
                self.notes.insert(key, *note);
            }
            Change::Post(letter) => self.post(scope, *letter),
        }
    }

    fn lines<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a Line> {
        self.memories
            .values()
            .filter(|line| line.tenant == scope.tenant())
    }

    /// Whether an older job of the lane is not over.
    fn is_behind(&self, claimed: &Claimed) -> bool {
        let place = |job: &Job| (job.created_at, job.job_id);
        self.jobs.values().any(|other| {
            other.tenant == claimed.tenant
                && other.job.lane == claimed.job.lane
                && !other.job.status.is_over()
                && place(&other.job) < place(&claimed.job)
        })
    }
}

fn matches(query: &MemoryQuery, memory: &Memory) -> bool {
    memory.project == query.project
        && (query.kinds.is_empty() || query.kinds.contains(&memory.kind))
        && query
            .condition
            .as_ref()
            .is_none_or(|condition| condition.holds(&memory.payload()))
}

fn compare(page: &PageQuery, a: &Memory, b: &Memory) -> Ordering {
    let by = match page.sort_by.as_str() {
        "created_at" => a.created_at.cmp(&b.created_at),
        "updated_at" => a.updated_at.cmp(&b.updated_at),
        "happened_at" => a.happened_at.cmp(&b.happened_at),
        _ => Ordering::Equal,
    };
    let order = by.then(a.memory_id.cmp(&b.memory_id));
    match page.order {
        Order::Ascending => order,
        Order::Descending => order.reverse(),
    }
}

#[async_trait]
impl Memories for Database {
    async fn apply(&self, scope: &Scope, changes: Vec<Change>) -> Result<()> {
        let mut tables = self.lock();
        let mut ahead = Ahead::default();
        for change in &changes {
            tables.check_memories(scope, change, &mut ahead)?;
        }
        for change in changes {
            tables.remember(scope, change);
        }
        Ok(())
    }

    async fn get(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
        as_of: Option<Timestamp>,
    ) -> Result<Vec<Memory>> {
        let tables = self.lock();
        let lines = ids.iter().filter_map(|id| tables.memories.get(id));
        let own = lines.filter(|line| line.tenant == scope.tenant());
        Ok(own.filter_map(|line| line.at(as_of).cloned()).collect())
    }

    async fn versions(&self, scope: &Scope, id: MemoryId) -> Result<Vec<Memory>> {
        let tables = self.lock();
        let line = tables.memories.get(&id);
        let own = line.filter(|line| line.tenant == scope.tenant());
        Ok(own.map(|line| line.versions.clone()).unwrap_or_default())
    }

    async fn changes(
        &self,
        scope: &Scope,
        project: &str,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Memory>> {
        let tables = self.lock();
        let versions = tables.lines(scope).flat_map(|line| &line.versions);
        let mut found: Vec<&Memory> = versions.filter(|one| one.project == project).collect();
        found.sort_by_key(|one| std::cmp::Reverse((one.updated_at, one.memory_id, one.version)));
        Ok(cut(found.into_iter().cloned().collect(), limit, offset))
    }

    async fn list(
        &self,
        scope: &Scope,
        query: &MemoryQuery,
        page: &PageQuery,
    ) -> Result<Page<Memory>> {
        check(query, page)?;
        let tables = self.lock();
        let mut found: Vec<&Memory> = tables
            .lines(scope)
            .filter_map(|line| line.at(query.as_of))
            .filter(|memory| matches(query, memory))
            .collect();
        found.sort_by(|a, b| compare(page, a, b));
        let found = found.into_iter().cloned().collect();
        Ok(cut(found, page.limit, page.offset))
    }

    async fn owners(
        &self,
        scope: &Scope,
        project: &str,
        kind: Option<OwnerKind>,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Owning>> {
        let tables = self.lock();
        let mut found: BTreeMap<(OwnerKind, String), Owning> = BTreeMap::new();
        let memories = tables.lines(scope).filter_map(|line| line.at(None));
        for memory in memories.filter(|memory| memory.project == project) {
            for of in OwnerKind::ALL {
                let Some(name) = memory.owner.get(of) else {
                    continue;
                };
                if kind.is_some_and(|kind| kind != of) {
                    continue;
                }
                let owning = found
                    .entry((of, name.to_owned()))
                    .or_insert_with(|| Owning {
                        kind: of,
                        name: name.to_owned(),
                        memories: 0,
                        created_at: memory.created_at,
                        updated_at: memory.updated_at,
                    });
                owning.memories += 1;
                owning.created_at = owning.created_at.min(memory.created_at);
                owning.updated_at = owning.updated_at.max(memory.updated_at);
            }
        }
        Ok(cut(found.into_values().collect(), limit, offset))
    }

    async fn marks(&self, after: Option<MemoryId>, limit: u32) -> Result<Vec<Mark>> {
        let tables = self.lock();
        let lines = tables.memories.values();
        let marks = lines.filter_map(|line| {
            let memory = line.at(None)?;
            Some(Mark {
                tenant: line.tenant.clone(),
                memory_id: memory.memory_id,
                version: memory.version,
            })
        });
        Ok(marks
            .filter(|mark| after.is_none_or(|after| mark.memory_id > after))
            .take(limit as usize)
            .collect())
    }

    async fn job(&self, scope: &Scope, id: JobId) -> Result<Option<Job>> {
        let tables = self.lock();
        let held = tables.jobs.get(&id);
        let own = held.filter(|held| held.tenant == scope.tenant());
        Ok(own.map(|held| held.job.clone()))
    }

    async fn jobs(&self, scope: &Scope, query: &JobQuery) -> Result<Page<Job>> {
        let tables = self.lock();
        let mut found: Vec<&Job> = tables
            .jobs
            .values()
            .filter(|held| held.tenant == scope.tenant())
            .map(|held| &held.job)
            .filter(|job| job.project == query.project)
            .filter(|job| query.kind.as_ref().is_none_or(|kind| *kind == job.kind))
            .filter(|job| query.status.is_none_or(|status| status == job.status))
            .collect();
        found.sort_by_key(|job| std::cmp::Reverse((job.created_at, job.job_id)));
        let found = found.into_iter().cloned().collect();
        Ok(cut(found, query.limit, query.offset))
    }

    async fn claim_jobs(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Claimed>> {
        let mut tables = self.lock();
        let mut due: Vec<(Timestamp, JobId)> = tables
            .jobs
            .values()
            .filter(|held| !held.job.status.is_over() && held.job.due_at <= now)
            .filter(|held| !tables.is_behind(held))
            .map(|held| (held.job.due_at, held.job.job_id))
            .collect();
        due.sort_unstable();
        due.truncate(limit as usize);
        let mut claimed = Vec::new();
        for (_, id) in due {
            if let Some(held) = tables.jobs.get_mut(&id) {
                held.job.status = JobStatus::Running;
                held.job.attempt += 1;
                held.job.due_at = until;
                held.job.started_at.get_or_insert(now);
                claimed.push(held.clone());
            }
        }
        Ok(claimed)
    }

    async fn renew_job(&self, id: JobId, attempt: u32, until: Timestamp) -> Result<bool> {
        let mut tables = self.lock();
        let held = tables
            .jobs
            .get_mut(&id)
            .filter(|held| held.job.status == JobStatus::Running && held.job.attempt == attempt);
        Ok(held.map(|held| held.job.due_at = until).is_some())
    }

    async fn note(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        key: &str,
    ) -> Result<Option<Note>> {
        let tables = self.lock();
        let note = tables.notes.get(&note_key(scope, project, kind, key));
        Ok(note.filter(|note| !note.is_deleted).cloned())
    }

    async fn notes_of(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        keys: &[String],
    ) -> Result<Vec<Note>> {
        check_keys(keys.len())?;
        let tables = self.lock();
        let found = keys
            .iter()
            .filter_map(|key| tables.notes.get(&note_key(scope, project, kind, key)));
        Ok(found.filter(|note| !note.is_deleted).cloned().collect())
    }

    async fn notes(&self, scope: &Scope, query: &NoteQuery) -> Result<Page<Note>> {
        let tables = self.lock();
        let mut found: Vec<&Note> = tables
            .notes
            .iter()
            .filter(|(key, _)| key.0 == scope.tenant() && key.1 == query.project)
            .map(|(_, note)| note)
            .filter(|note| note.kind == query.kind && !note.is_deleted)
            .collect();
        found.sort_by(|a, b| (a.created_at, &a.key).cmp(&(b.created_at, &b.key)));
        let found = found.into_iter().cloned().collect();
        Ok(cut(found, query.limit, query.offset))
    }
}
