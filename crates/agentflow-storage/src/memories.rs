//! Memories: what is kept of conversations, every version of it, and the work on it.
//!
//! A memory is a fact, or a turn as it was said. Every change stores a new version beside the
//! older ones, so that any moment can be read again. Changes of one decision are one transaction:
//! memories, jobs, notes and letters together, or nothing. Whoever changes something has read it
//! and names the version that comes next; if somebody was faster, nothing is written.

mod job;
mod note;

use std::str::FromStr;

use agentflow_types::{Error, JobId, Map, MemoryId, Result, Scope, Timestamp, Value};
use async_trait::async_trait;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use job::{Claimed, Job, JobQuery, JobStatus};
pub use note::{Note, NoteQuery};

use crate::{
    condition::{Condition, Field},
    filter, json,
    outbox::Letter,
    page::{Page, PageQuery},
};

/// Most ids of one [`Memories::get`].
pub const MAX_IDS: usize = 10_000;
/// Most changes of one [`Memories::apply`].
pub const MAX_CHANGES: usize = 10_000;

/// What a memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Something that was made out of turns.
    #[default]
    Fact,
    /// Something that was said, as it was said.
    Turn,
    /// How an agent did something, step by step.
    Procedure,
}

impl Kind {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fact => "fact",
            Self::Turn => "turn",
            Self::Procedure => "procedure",
        }
    }
}

/// Whether a memory still counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It does.
    #[default]
    Active,
    /// A later one says otherwise.
    Superseded,
    /// It was folded into another one that says the same.
    Merged,
}

/// What made a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Event {
    /// The first one.
    #[default]
    Add,
    /// A change.
    Update,
    /// The end; the version tells what was there before it.
    Delete,
}

/// Whose memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnerKind {
    /// A user.
    User,
    /// An agent.
    Agent,
    /// An app.
    App,
    /// A run, also called a session.
    Run,
}

impl OwnerKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::User, Self::Agent, Self::App, Self::Run];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Agent => "agent",
            Self::App => "app",
            Self::Run => "run",
        }
    }

    /// The field that names such an owner.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::User => "user_id",
            Self::Agent => "agent_id",
            Self::App => "app_id",
            Self::Run => "run_id",
        }
    }
}

impl FromStr for OwnerKind {
    type Err = Error;

    /// # Errors
    /// `Invalid` for another word.
    fn from_str(word: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == word);
        found.ok_or_else(|| Error::invalid("Invalid entity type"))
    }
}

/// Whose a memory is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The user.
    pub user_id: Option<String>,
    /// The agent.
    pub agent_id: Option<String>,
    /// The app.
    pub app_id: Option<String>,
    /// The run.
    pub run_id: Option<String>,
}

impl Owner {
    /// The owner of a kind.
    #[must_use]
    pub fn get(&self, kind: OwnerKind) -> Option<&str> {
        match kind {
            OwnerKind::User => self.user_id.as_deref(),
            OwnerKind::Agent => self.agent_id.as_deref(),
            OwnerKind::App => self.app_id.as_deref(),
            OwnerKind::Run => self.run_id.as_deref(),
        }
    }

    /// Sets the owner of a kind.
    pub fn set(&mut self, kind: OwnerKind, name: Option<String>) {
        match kind {
            OwnerKind::User => self.user_id = name,
            OwnerKind::Agent => self.agent_id = name,
            OwnerKind::App => self.app_id = name,
            OwnerKind::Run => self.run_id = name,
        }
    }

    /// Whether nobody is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        OwnerKind::ALL.iter().all(|kind| self.get(*kind).is_none())
    }
}

/// A version of a memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Id.
    pub memory_id: MemoryId,
    /// Counts from 1.
    pub version: u64,
    /// The project that it belongs to, within the tenant.
    pub project: String,
    /// What it is.
    pub kind: Kind,
    /// What made this version.
    pub event: Event,
    /// Whose it is.
    pub owner: Owner,
    /// What it says.
    pub text: String,
    /// MD5 of the text, in hexadecimal digits.
    pub hash: String,
    /// What the caller keeps with it.
    pub metadata: Map,
    /// What it is about.
    pub categories: Vec<String>,
    /// Persons and things in it, as keys that compare.
    pub entities: Vec<String>,
    /// Who said it: `user`, `assistant`, `system`.
    pub role: Option<String>,
    /// Name of who said it.
    pub actor: Option<String>,
    /// The turns that a fact was made of.
    pub sources: Vec<MemoryId>,
    /// Other memories that it belongs together with.
    pub linked: Vec<MemoryId>,
    /// Whether it still counts.
    pub state: State,
    /// What took its place, if something did.
    pub replaced_by: Option<MemoryId>,
    /// Whether it may not be changed.
    pub immutable: bool,
    /// When it was said or happened.
    pub happened_at: Timestamp,
    /// The last day on which it counts, as `YYYY-MM-DD`.
    pub expires_on: Option<String>,
    /// Creation.
    pub created_at: Timestamp,
    /// When this version was made.
    pub updated_at: Timestamp,
    /// Further data of the pipeline.
    pub extra: Map,
}

impl Memory {
    /// Whether this version is the end of the memory.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.event == Event::Delete
    }

    /// What conditions are about. Moments are text with microseconds in UTC, so that they compare
    /// as text.
    #[must_use]
    pub fn payload(&self) -> Map {
        let some = |text: Option<&str>| text.map_or(Value::Null, Value::str);
        let texts = |all: &[String]| {
            let all = all.iter().map(|text| Value::str(text.as_str()));
            Value::list(all.collect())
        };
        let owners = OwnerKind::ALL
            .into_iter()
            .map(|kind| (kind.field(), some(self.owner.get(kind))));
        let state = match self.state {
            State::Active => "active",
            State::Superseded => "superseded",
            State::Merged => "merged",
        };
        let others = [
            ("memory_id", Value::str(self.memory_id.text())),
            ("project", Value::str(&*self.project)),
            ("kind", Value::str(self.kind.as_str())),
            ("state", Value::str(state)),
            ("text", Value::str(&*self.text)),
            ("hash", Value::str(&*self.hash)),
            ("role", some(self.role.as_deref())),
            ("actor_id", some(self.actor.as_deref())),
            ("categories", texts(&self.categories)),
            ("entities", texts(&self.entities)),
            (
                "source",
                self.extra.get("source").cloned().unwrap_or(Value::Null),
            ),
            ("metadata", Value::map(filter::normal_map(&self.metadata))),
            ("timestamp", Value::str(self.happened_at.to_string())),
            ("created_at", Value::str(self.created_at.to_string())),
            ("updated_at", Value::str(self.updated_at.to_string())),
            ("expiration_date", some(self.expires_on.as_deref())),
        ];
        owners
            .chain(others)
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.into(), value))
            .collect()
    }
}

/// What a decision changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Stores the next version of a memory.
    Put(Box<Memory>),
    /// Stores a job whose id nobody has.
    InsertJob(Box<Job>),
    /// Stores a job that is still claimed by the attempt that it names.
    PutJob(Box<Job>),
    /// Stores the next version of a note.
    PutNote(Box<Note>),
    /// Stores a letter of the tenant; one whose id exists stays as it is.
    Post(Box<Letter>),
}

/// Which memories; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryQuery {
    /// Of this project.
    pub project: String,
    /// Of these kinds; empty for all.
    pub kinds: Vec<Kind>,
    /// About the payload.
    pub condition: Option<Condition>,
    /// As they were at this moment; `None` for now.
    pub as_of: Option<Timestamp>,
    /// Whether the total may be left out, because nobody reads it: it is then the number of the
    /// page's last row, or the total.
    pub uncounted: bool,
}

impl MemoryQuery {
    /// The column that holds a field of the payload, for those that have one; of the versions of
    /// the past only what is in all of them.
    #[must_use]
    pub fn column(&self, field: &Field) -> Option<&'static str> {
        let [key] = field.keys() else { return None };
        let always = ["project", "kind"];
        let now = OwnerKind::ALL.map(OwnerKind::field);
        let now = now.iter().filter(|_| self.as_of.is_none());
        always
            .iter()
            .chain(now)
            .find(|name| ***name == **key)
            .copied()
    }
}

/// An owner of memories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owning {
    /// What it is.
    pub kind: OwnerKind,
    /// Its name.
    pub name: String,
    /// How many memories it has.
    pub memories: u64,
    /// Creation of its first one.
    pub created_at: Timestamp,
    /// The last change.
    pub updated_at: Timestamp,
}

/// A memory as the records have it, for comparing them with an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose it is.
    pub tenant: String,
    /// The memory.
    pub memory_id: MemoryId,
    /// Its version.
    pub version: u64,
}

/// Stores memories, their versions, jobs and notes.
///
/// Sort columns of [`Memories::list`]: `memory_id`, `created_at`, `updated_at`, `happened_at`.
#[async_trait]
pub trait Memories: Send + Sync {
    /// Applies changes in one transaction; durable when it returns.
    ///
    /// # Errors
    /// `Conflict`, and nothing is written, if a memory's or note's version is not the one after
    /// the stored one, an id belongs to another tenant, an inserted job exists, or a job that is
    /// put is not running in the attempt that it names.
    async fn apply(&self, scope: &Scope, changes: Vec<Change>) -> Result<()>;

    /// Those of the memories that exist (or did at the moment), in the order of the ids.
    async fn get(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
        as_of: Option<Timestamp>,
    ) -> Result<Vec<Memory>>;

    /// All versions of a memory, the first one first; also of one that is gone.
    async fn versions(&self, scope: &Scope, id: MemoryId) -> Result<Vec<Memory>>;

    /// Versions of all memories of a project, the last one first.
    async fn changes(
        &self,
        scope: &Scope,
        project: &str,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Memory>>;

    /// One page of the memories that match.
    ///
    /// # Errors
    /// `Invalid` for a condition that [`Condition::check`] refuses, or a page out of range.
    async fn list(
        &self,
        scope: &Scope,
        query: &MemoryQuery,
        page: &PageQuery,
    ) -> Result<Page<Memory>>;

    /// Owners of facts, turns and procedures of a project, by kind and name.
    async fn owners(
        &self,
        scope: &Scope,
        project: &str,
        kind: Option<OwnerKind>,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Owning>>;

    /// All memories, of all tenants, by id, after the one of this id.
    async fn marks(&self, after: Option<MemoryId>, limit: u32) -> Result<Vec<Mark>>;

    /// The job.
    async fn job(&self, scope: &Scope, id: JobId) -> Result<Option<Job>>;

    /// One page of jobs, the newest first.
    async fn jobs(&self, scope: &Scope, query: &JobQuery) -> Result<Page<Job>>;

    /// Hands out jobs, of all tenants, that are due at `now`, the longest due first, at most
    /// `limit`. Each is running then, in one more attempt, and due again at `until`. A job waits
    /// while an older one of its lane is not over.
    async fn claim_jobs(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Claimed>>;

    /// Keeps a running job claimed until then; false if the attempt is not the last one.
    async fn renew_job(&self, id: JobId, attempt: u32, until: Timestamp) -> Result<bool>;

    /// The note.
    async fn note(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        key: &str,
    ) -> Result<Option<Note>>;

    /// Those of the notes of a kind that exist, in no order.
    ///
    /// # Errors
    /// `Invalid` for more than [`MAX_IDS`] keys.
    async fn notes_of(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        keys: &[String],
    ) -> Result<Vec<Note>>;

    /// One page of notes, in the order of their creation, then by key.
    async fn notes(&self, scope: &Scope, query: &NoteQuery) -> Result<Page<Note>>;
}

/// The answer to who was not the first.
#[must_use]
pub fn stale(what: &'static str) -> Error {
    Error::conflict("it was changed meanwhile").with("what", what)
}

/// Checks how many keys are asked for at once.
///
/// # Errors
/// `Invalid` if there are too many.
pub fn check_keys(keys: usize) -> Result<()> {
    match keys {
        0..=MAX_IDS => Ok(()),
        _ => Err(Error::invalid("too many keys at once")
            .with("keys", keys)
            .with("limit", MAX_IDS)),
    }
}

/// A record as JSON text.
///
/// # Errors
/// `Invalid` if it is nested too deeply.
pub fn encode(record: &impl Serialize) -> Result<String> {
    json::text(&filter::normal(&agentflow_types::to_value(record)?))
}

/// A record from its JSON text.
///
/// # Errors
/// `Corrupt` if it is none.
pub fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    agentflow_types::from_value(&json::parse(text)?)
        .map_err(|err| Error::corrupt("a stored record is not one").source_err(err))
}

/// Sort columns of [`Memories::list`].
pub const COLUMNS: &[&str] = &["memory_id", "created_at", "updated_at", "happened_at"];

/// Checks a list before a backend looks for it.
///
/// # Errors
/// As [`Memories::list`].
pub fn check(query: &MemoryQuery, page: &PageQuery) -> Result<()> {
    filter::check_page(page, COLUMNS)?;
    query.condition.as_ref().map_or(Ok(()), Condition::check)
}
