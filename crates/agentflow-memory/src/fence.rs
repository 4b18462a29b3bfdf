//! The limit of a scope to some memories, held at the records and at the index, below everything
//! that reads a filter.
//!
//! Reads get the limit as one more condition that must hold; what is written must meet it. Work
//! in the background is done in the name of whoever asked for it: a job notes the limit, and is
//! shown to that limit only. Without a limit all calls go through unchanged.

use std::{collections::BTreeMap, sync::Arc};

use agentflow_storage::{
    Backend,
    condition::{Condition, Field},
    memories::{
        Change, Claimed, Job, JobQuery, Mark, Memories, Memory, MemoryQuery, Note, NoteQuery,
        OwnerKind, Owning,
    },
    page::{Page, PageQuery},
    vector::{self, Collection, Hit, Point, Search, Vectors},
};
use agentflow_types::{Error, JobId, Map, MemoryId, MemoryScope, Result, Scope, Timestamp, Value};
use async_trait::async_trait;
use uuid::Uuid;

/// Where jobs and exports note the limit under which they were asked for.
const WITHIN: &str = "within";
/// Rows that are read at once to be looked through.
const PAGE: u32 = 500;
/// Most rows that are looked through for one answer to a limited scope.
const MAX_LOOKED: u64 = 20_000;
/// Kinds of notes that a limited scope may write.
const OWN_NOTES: [&str; 6] = [
    "export",
    "feedback",
    "profile",
    "profile-request",
    "profile-jobs",
    "used",
];
/// Those that only the limit under which they were written may read.
const MARKED: [&str; 3] = ["export", "profile-request", "profile-jobs"];

/// What must hold of a memory.
fn condition(limit: &MemoryScope) -> Condition {
    let owners = OwnerKind::ALL.into_iter().filter_map(|kind| {
        let name = limit.owner(kind.field())?;
        Some(Condition::Equals(Field::of(kind.field()), Value::str(name)))
    });
    let metadata = limit
        .metadata()
        .map(|(key, value)| Condition::Equals(Field::within(&["metadata", key]), value.clone()));
    Condition::All(owners.chain(metadata).collect())
}

/// A condition with the limit beside it.
fn with(limit: &MemoryScope, other: Option<&Condition>) -> Condition {
    let own = condition(limit);
    match other {
        Some(other) => Condition::All(vec![own, other.clone()]),
        None => own,
    }
}

/// Whether a job or a note was made under this limit.
fn is_own(limit: &MemoryScope, noted: &Map) -> bool {
    noted.get(WITHIN).and_then(Value::as_map) == Some(limit.as_map())
}

/// The scope in which a job is done.
///
/// # Errors
/// `Corrupt` if the limit that the job notes is none.
pub(crate) fn scope_of(scope: Scope, job: &Job) -> Result<Scope> {
    match job.payload.get(WITHIN) {
        None => Ok(scope),
        Some(noted) => {
            let limit = noted.as_map().map(MemoryScope::new);
            let corrupt = || Error::corrupt("a stored job has a limit that is none");
            Ok(scope.within(limit.and_then(Result::ok).ok_or_else(corrupt)?))
        }
    }
}

/// Gives a fact that is about one of two owners the other one back, if the scope asks for both.
pub(crate) fn keep_owners(scope: &Scope, memory: &mut Memory) {
    for kind in OwnerKind::ALL {
        let name = scope.memories().and_then(|limit| limit.owner(kind.field()));
        if let Some(name) = name {
            memory.owner.set(kind, Some(name.to_owned()));
        }
    }
}

/// Refuses what concerns more than the memories that a scope is limited to.
///
/// # Errors
/// `Denied` if there is a limit.
pub(crate) fn unlimited(scope: &Scope) -> Result<()> {
    match scope.memories() {
        None => Ok(()),
        Some(limit) => Err(Error::denied(format!(
            "this key is limited to memories of {limit}: it may not do what concerns others"
        ))),
    }
}

/// A backend and an index behind the fence.
pub(crate) fn around(backend: &Backend, vectors: Arc<dyn Vectors>) -> (Backend, Arc<dyn Vectors>) {
    let mut fenced = backend.clone();
    fenced.memories = Arc::new(Records(backend.memories.clone()));
    (fenced, Arc::new(Index(vectors)))
}

struct Records(Arc<dyn Memories>);

impl Records {
    /// Notes the limit in a change, or refuses it.
    fn check(limit: &MemoryScope, holds: &Condition, change: &mut Change) -> Result<()> {
        let note = || Value::map(limit.as_map().clone());
        match change {
            Change::Put(memory) if !holds.holds(&memory.payload()) => Err(Error::denied(format!(
                "this key may only add and change memories of {limit}"
            ))),
            Change::InsertJob(job) => {
                job.payload.insert(WITHIN.into(), note());
                Ok(())
            }
            Change::PutNote(written) => {
                let is_own = OWN_NOTES.contains(&written.kind.as_str())
                    && (written.kind != "profile" || limit.has_user(&written.key));
                if !is_own {
                    return Err(Error::denied(format!(
                        "this key is limited to memories of {limit}: it may not change settings"
                    )));
                }
                if MARKED.contains(&written.kind.as_str()) {
                    written.body.insert(WITHIN.into(), note());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether a note may be read.
    async fn shows(&self, scope: &Scope, limit: &MemoryScope, note: &Note) -> Result<bool> {
        match note.kind.as_str() {
            kind if MARKED.contains(&kind) => Ok(is_own(limit, &note.body)),
            "profile" => Ok(limit.has_user(&note.key)),
            "feedback" => match note.key.parse::<MemoryId>() {
                Ok(id) => Ok(!self.get(scope, &[id], None).await?.is_empty()),
                Err(_) => Ok(false),
            },
            _ => Ok(true),
        }
    }
}

/// A page of what was gathered.
fn cut<T>(all: Vec<T>, limit: u32, offset: u64) -> Page<T> {
    let total = all.len() as u64;
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let items = all.into_iter().skip(offset).take(limit as usize).collect();
    Page { items, total }
}

#[async_trait]
impl Memories for Records {
    async fn apply(&self, scope: &Scope, mut changes: Vec<Change>) -> Result<()> {
        if let Some(limit) = scope.memories() {
            let holds = condition(limit);
            for change in &mut changes {
                Self::check(limit, &holds, change)?;
            }
        }
        self.0.apply(scope, changes).await
    }

    async fn get(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
        as_of: Option<Timestamp>,
    ) -> Result<Vec<Memory>> {
        let mut found = self.0.get(scope, ids, as_of).await?;
        if let Some(limit) = scope.memories() {
            let holds = condition(limit);
            found.retain(|memory| holds.holds(&memory.payload()));
        }
        Ok(found)
    }

    async fn versions(&self, scope: &Scope, id: MemoryId) -> Result<Vec<Memory>> {
        let mut found = self.0.versions(scope, id).await?;
        if let Some(limit) = scope.memories() {
            let holds = condition(limit);
            found.retain(|memory| holds.holds(&memory.payload()));
        }
        Ok(found)
    }

    async fn changes(
        &self,
        scope: &Scope,
        project: &str,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Memory>> {
        let Some(own) = scope.memories() else {
            return self.0.changes(scope, project, limit, offset).await;
        };
        let (holds, mut all, mut at) = (condition(own), Vec::new(), 0);
        while at < MAX_LOOKED {
            let found = self.0.changes(scope, project, PAGE, at).await?.items;
            let is_last = found.len() < PAGE as usize;
            all.extend(found.into_iter().filter(|one| holds.holds(&one.payload())));
            if is_last {
                break;
            }
            at += u64::from(PAGE);
        }
        Ok(cut(all, limit, offset))
    }

    async fn list(
        &self,
        scope: &Scope,
        query: &MemoryQuery,
        page: &PageQuery,
    ) -> Result<Page<Memory>> {
        match scope.memories() {
            None => self.0.list(scope, query, page).await,
            Some(limit) => {
                let query = MemoryQuery {
                    condition: Some(with(limit, query.condition.as_ref())),
                    ..query.clone()
                };
                self.0.list(scope, &query, page).await
            }
        }
    }

    async fn owners(
        &self,
        scope: &Scope,
        project: &str,
        kind: Option<OwnerKind>,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Owning>> {
        if scope.memories().is_none() {
            return self.0.owners(scope, project, kind, limit, offset).await;
        }
        let query = MemoryQuery {
            project: project.to_owned(),
            ..MemoryQuery::default()
        };
        let mut page = PageQuery {
            limit: PAGE,
            ..PageQuery::default()
        };
        let mut all: BTreeMap<(OwnerKind, String), Owning> = BTreeMap::new();
        while page.offset < MAX_LOOKED {
            let found = self.list(scope, &query, &page).await?.items;
            for memory in &found {
                for kind in OwnerKind::ALL
                    .into_iter()
                    .filter(|one| kind.is_none_or(|k| k == *one))
                {
                    if let Some(name) = memory.owner.get(kind) {
                        let one = all.entry((kind, name.to_owned()));
                        count(
                            one.or_insert_with(|| nothing_of(kind, name, memory)),
                            memory,
                        );
                    }
                }
            }
            if found.len() < PAGE as usize {
                break;
            }
            page.offset += u64::from(PAGE);
        }
        Ok(cut(all.into_values().collect(), limit, offset))
    }

    async fn marks(&self, after: Option<MemoryId>, limit: u32) -> Result<Vec<Mark>> {
        self.0.marks(after, limit).await
    }

    async fn job(&self, scope: &Scope, id: JobId) -> Result<Option<Job>> {
        let found = self.0.job(scope, id).await?;
        let is_shown = |job: &Job| {
            let limit = scope.memories();
            limit.is_none_or(|limit| is_own(limit, &job.payload))
        };
        Ok(found.filter(is_shown))
    }

    async fn jobs(&self, scope: &Scope, query: &JobQuery) -> Result<Page<Job>> {
        let Some(own) = scope.memories() else {
            return self.0.jobs(scope, query).await;
        };
        let (mut all, mut at) = (Vec::new(), 0);
        while at < MAX_LOOKED {
            let part = JobQuery {
                limit: PAGE,
                offset: at,
                ..query.clone()
            };
            let found = self.0.jobs(scope, &part).await?.items;
            let is_last = found.len() < PAGE as usize;
            all.extend(found.into_iter().filter(|job| is_own(own, &job.payload)));
            if is_last {
                break;
            }
            at += u64::from(PAGE);
        }
        Ok(cut(all, query.limit, query.offset))
    }

    async fn claim_jobs(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Claimed>> {
        self.0.claim_jobs(now, until, limit).await
    }

    async fn renew_job(&self, id: JobId, attempt: u32, until: Timestamp) -> Result<bool> {
        self.0.renew_job(id, attempt, until).await
    }

    async fn note(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        key: &str,
    ) -> Result<Option<Note>> {
        let mut found = self.0.note(scope, project, kind, key).await?;
        if let (Some(limit), Some(note)) = (scope.memories(), &found)
            && !self.shows(scope, limit, note).await?
        {
            return Ok(None);
        }
        if let Some(note) = &mut found {
            note.body.shift_remove(WITHIN);
        }
        Ok(found)
    }

    async fn notes_of(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        keys: &[String],
    ) -> Result<Vec<Note>> {
        let found = self.0.notes_of(scope, project, kind, keys).await?;
        let Some(limit) = scope.memories() else {
            return Ok(found);
        };
        let mut shown = Vec::new();
        for note in found {
            if self.shows(scope, limit, &note).await? {
                shown.push(note);
            }
        }
        Ok(shown)
    }

    async fn notes(&self, scope: &Scope, query: &NoteQuery) -> Result<Page<Note>> {
        let mut found = self.0.notes(scope, query).await?;
        if let Some(limit) = scope.memories() {
            let mut shown = Vec::new();
            for note in found.items {
                if self.shows(scope, limit, &note).await? {
                    shown.push(note);
                }
            }
            found.total = shown.len() as u64;
            found.items = shown;
        }
        Ok(found)
    }
}

fn nothing_of(kind: OwnerKind, name: &str, first: &Memory) -> Owning {
    Owning {
        kind,
        name: name.to_owned(),
        memories: 0,
        created_at: first.created_at,
        updated_at: first.updated_at,
    }
}

fn count(one: &mut Owning, memory: &Memory) {
    one.memories += 1;
    one.created_at = one.created_at.min(memory.created_at);
    one.updated_at = one.updated_at.max(memory.updated_at);
}

struct Index(Arc<dyn Vectors>);

#[async_trait]
impl Vectors for Index {
    async fn ensure(&self, collection: &Collection) -> Result<()> {
        self.0.ensure(collection).await
    }

    async fn collections(&self) -> Result<Vec<Collection>> {
        self.0.collections().await
    }

    async fn drop_collection(&self, name: &str) -> Result<bool> {
        self.0.drop_collection(name).await
    }

    async fn upsert(&self, scope: &Scope, collection: &str, points: Vec<Point>) -> Result<()> {
        self.0.upsert(scope, collection, points).await
    }

    async fn delete(&self, scope: &Scope, collection: &str, ids: &[Uuid]) -> Result<()> {
        self.0.delete(scope, collection, ids).await
    }

    async fn delete_where(
        &self,
        scope: &Scope,
        collection: &str,
        condition: &Condition,
    ) -> Result<()> {
        match scope.memories() {
            None => self.0.delete_where(scope, collection, condition).await,
            Some(limit) => {
                let both = with(limit, Some(condition));
                self.0.delete_where(scope, collection, &both).await
            }
        }
    }

    async fn get(&self, scope: &Scope, collection: &str, ids: &[Uuid]) -> Result<Vec<Point>> {
        let mut found = self.0.get(scope, collection, ids).await?;
        if let Some(limit) = scope.memories() {
            let holds = condition(limit);
            found.retain(|point| holds.holds(&point.payload));
        }
        Ok(found)
    }

    async fn search(
        &self,
        scope: &Scope,
        collection: &str,
        searches: &[Search],
    ) -> Result<Vec<Vec<Hit>>> {
        let Some(limit) = scope.memories() else {
            return self.0.search(scope, collection, searches).await;
        };
        let limited: Vec<Search> = searches
            .iter()
            .map(|search| Search {
                condition: Some(with(limit, search.condition.as_ref())),
                ..search.clone()
            })
            .collect();
        self.0.search(scope, collection, &limited).await
    }

    async fn scroll(
        &self,
        scope: &Scope,
        collection: &str,
        condition: Option<&Condition>,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Point>> {
        let both = scope.memories().map(|own| with(own, condition));
        let condition = both.as_ref().or(condition);
        let scroll = self.0.scroll(scope, collection, condition, after, limit);
        scroll.await
    }

    async fn count(
        &self,
        scope: &Scope,
        collection: &str,
        condition: Option<&Condition>,
    ) -> Result<u64> {
        let both = scope.memories().map(|own| with(own, condition));
        let condition = both.as_ref().or(condition);
        self.0.count(scope, collection, condition).await
    }

    async fn facet(
        &self,
        scope: &Scope,
        collection: &str,
        field: &Field,
        condition: Option<&Condition>,
        limit: u32,
    ) -> Result<Vec<(Value, u64)>> {
        let both = scope.memories().map(|own| with(own, condition));
        let condition = both.as_ref().or(condition);
        let facet = self.0.facet(scope, collection, field, condition, limit);
        facet.await
    }

    async fn marks(
        &self,
        collection: &str,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<vector::Mark>> {
        self.0.marks(collection, after, limit).await
    }
}
