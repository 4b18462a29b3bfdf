//! Documents: what the document service keeps, and the bytes of what was uploaded.
//!
//! Everything is an [`Entry`] of some kind: a document, a chunk of it, a collection, a
//! conversation. An entry may belong to a parent, have an owner, and hold a key that no other
//! entry of its kind has. Changes of one decision are one transaction: entries, bytes and letters
//! together, or nothing. Whoever changes an entry has read it and names the version that comes
//! next; if somebody was faster, nothing is written.
//!
//! Bytes come before the document that names them, part by part. They are pending until a decision
//! keeps them, so an upload that is refused or broken off replaces nothing and is swept later.

use agentflow_types::{Error, Map, Result, Scope, Timestamp, Value};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    condition::{Condition, Field},
    filter,
    outbox::Letter,
    page::{Page, PageQuery},
};

/// Most ids of one [`Documents::get`].
pub const MAX_IDS: usize = 10_000;
/// Most changes of one [`Documents::apply`].
pub const MAX_CHANGES: usize = 10_000;
/// Most bytes of one part of a blob.
pub const MAX_PART_BYTES: usize = 1 << 20;
/// Most bytes of a key.
pub const MAX_KEY_BYTES: usize = 1024;

/// What an entry is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A document; its chunks are its children.
    #[default]
    Document,
    /// A piece of a document's text.
    Chunk,
    /// A set of documents that users share.
    Collection,
    /// That a user belongs to a collection, the parent.
    Member,
    /// A conversation; its messages are its children.
    Conversation,
    /// Something said in a conversation.
    Message,
    /// A prompt.
    Prompt,
    /// A thing that documents tell of; the parent is a document or a graph.
    Entity,
    /// How two entities relate; the parent is a document or a graph.
    Relationship,
    /// Entities of a graph that belong together.
    Community,
    /// The knowledge graph of a collection, by the same id.
    Graph,
}

impl EntryKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Document,
        Self::Chunk,
        Self::Collection,
        Self::Member,
        Self::Conversation,
        Self::Message,
        Self::Prompt,
        Self::Entity,
        Self::Relationship,
        Self::Community,
        Self::Graph,
    ];

    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::Chunk => "chunk",
            Self::Collection => "collection",
            Self::Member => "member",
            Self::Conversation => "conversation",
            Self::Message => "message",
            Self::Prompt => "prompt",
            Self::Entity => "entity",
            Self::Relationship => "relationship",
            Self::Community => "community",
            Self::Graph => "graph",
        }
    }
}

/// Something that the document service keeps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// Id; unique within tenant and kind.
    pub entry_id: Uuid,
    /// Counts from 1.
    pub version: u64,
    /// What it belongs to.
    pub parent: Option<Uuid>,
    /// Whose it is.
    pub owner: Option<Uuid>,
    /// Unique within tenant and kind.
    pub key: Option<String>,
    /// Its place below the parent.
    pub position: u64,
    /// Bytes that count towards a limit.
    pub size: u64,
    /// What conditions may look at.
    pub fields: Map,
    /// What they may not: long texts, states of work.
    pub content: Map,
    /// Creation.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

impl Entry {
    /// What conditions are about: the fields, and `id`, `parent_id`, `owner_id`, `created_at`,
    /// `updated_at`, which no field hides. Moments are text with microseconds in UTC, so that they
    /// compare as text.
    #[must_use]
    pub fn payload(&self) -> Map {
        let some = |id: Option<Uuid>| id.map_or(Value::Null, |id| Value::str(id.to_string()));
        let mut payload = filter::normal_map(&self.fields);
        for (key, value) in [
            ("id", some(Some(self.entry_id))),
            ("parent_id", some(self.parent)),
            ("owner_id", some(self.owner)),
            ("created_at", Value::str(self.created_at.to_string())),
            ("updated_at", Value::str(self.updated_at.to_string())),
        ] {
            match value.is_null() {
                true => payload.shift_remove(key),
                false => payload.insert(key.into(), value),
            };
        }
        payload
    }

    /// The entry as JSON keeps it.
    #[must_use]
    pub fn normal(mut self) -> Self {
        self.fields = filter::normal_map(&self.fields);
        self.content = filter::normal_map(&self.content);
        self
    }
}

/// What a decision changes; in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Stores the next version of an entry.
    Put(Box<Entry>),
    /// Removes an entry that has this version.
    Remove {
        /// What it is.
        kind: EntryKind,
        /// Which.
        entry_id: Uuid,
        /// The version that was read.
        version: u64,
    },
    /// Removes all entries of a kind below a parent.
    RemoveBelow {
        /// What they are.
        kind: EntryKind,
        /// What they belong to.
        parent: Uuid,
    },
    /// Keeps bytes that are pending.
    KeepBlob(Uuid),
    /// Removes bytes, if they are there.
    DropBlob(Uuid),
    /// Stores a letter of the tenant; one whose id exists stays as it is.
    Post(Box<Letter>),
}

/// Which entries; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntryQuery {
    /// Of this kind.
    pub kind: EntryKind,
    /// Below this parent.
    pub parent: Option<Uuid>,
    /// Of this owner.
    pub owner: Option<Uuid>,
    /// About the payload.
    pub condition: Option<Condition>,
}

impl EntryQuery {
    /// All entries of a kind.
    #[must_use]
    pub fn of(kind: EntryKind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    /// The column that holds a field of the payload, for those that have one.
    #[must_use]
    pub fn column(field: &Field) -> Option<&'static str> {
        let [key] = field.keys() else { return None };
        match &**key {
            "owner_id" => Some("owner"),
            "parent_id" => Some("parent"),
            _ => None,
        }
    }

    /// Whether an entry is one of them.
    #[must_use]
    pub fn holds(&self, entry: &Entry) -> bool {
        self.kind == entry.kind
            && self.parent.is_none_or(|id| entry.parent == Some(id))
            && self.owner.is_none_or(|id| entry.owner == Some(id))
            && self
                .condition
                .as_ref()
                .is_none_or(|condition| condition.holds(&entry.payload()))
    }
}

/// How many entries match, and how large they are together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries.
    pub entries: u64,
    /// Bytes.
    pub size: u64,
}

/// An entry as the records have it, for comparing them with an index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Whose it is.
    pub tenant: String,
    /// The entry.
    pub entry_id: Uuid,
    /// Its version.
    pub version: u64,
}

/// Bytes that are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Whose they are.
    pub tenant: String,
    /// Which.
    pub blob_id: Uuid,
    /// Whether a decision kept them.
    pub is_kept: bool,
    /// When the first part came.
    pub created_at: Timestamp,
    /// All parts together.
    pub bytes: u64,
}

/// Stores entries and bytes.
///
/// Sort columns of [`Documents::list`]: `entry_id`, `created_at`, `updated_at`, `position`.
#[async_trait]
pub trait Documents: Send + Sync {
    /// Applies changes in one transaction; durable when it returns.
    ///
    /// # Errors
    /// `Conflict`, and nothing is written, if an entry's version is not the one after the stored
    /// one, or the one that is removed, another entry of the kind has its key, or bytes that are
    /// to be kept are not pending. `Invalid` for more than [`MAX_CHANGES`], or a key that is too
    /// long.
    async fn apply(&self, scope: &Scope, changes: Vec<Change>) -> Result<()>;

    /// Those of the entries that exist, in the order of the ids.
    ///
    /// # Errors
    /// `Invalid` for more than [`MAX_IDS`] ids.
    async fn get(&self, scope: &Scope, kind: EntryKind, ids: &[Uuid]) -> Result<Vec<Entry>>;

    /// The entry with this key.
    async fn by_key(&self, scope: &Scope, kind: EntryKind, key: &str) -> Result<Option<Entry>>;

    /// One page of the entries that match.
    ///
    /// # Errors
    /// `Invalid` for a condition that [`Condition::check`] refuses, or a page out of range.
    async fn list(
        &self,
        scope: &Scope,
        query: &EntryQuery,
        page: &PageQuery,
    ) -> Result<Page<Entry>>;

    /// The entries that match, counted.
    ///
    /// # Errors
    /// `Invalid` for a condition that [`Condition::check`] refuses.
    async fn totals(&self, scope: &Scope, query: &EntryQuery) -> Result<Totals>;

    /// All entries of a kind, of all tenants, by tenant and id, after this one.
    async fn marks(&self, kind: EntryKind, after: Option<&Mark>, limit: u32) -> Result<Vec<Mark>>;

    /// Stores a part of bytes; the first one makes them, pending since `now`. A part that is there
    /// is replaced.
    ///
    /// # Errors
    /// `Conflict` if they are kept already, or another tenant's; `Invalid` for a part of more than
    /// [`MAX_PART_BYTES`].
    async fn write_part(
        &self,
        scope: &Scope,
        blob_id: Uuid,
        part: u32,
        bytes: Vec<u8>,
        now: Timestamp,
    ) -> Result<()>;

    /// A part of bytes; `None` if there is none of that number.
    async fn read_part(&self, scope: &Scope, blob_id: Uuid, part: u32) -> Result<Option<Vec<u8>>>;

    /// All bytes, of all tenants, by id, after these.
    async fn blobs(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<Blob>>;

    /// Removes bytes that are pending since before that moment, at most `limit`; returns how many
    /// went.
    async fn sweep_blobs(&self, before: Timestamp, limit: u32) -> Result<u64>;
}

/// Sort columns of [`Documents::list`].
pub const COLUMNS: &[&str] = &["entry_id", "created_at", "updated_at", "position"];

/// Checks changes before a backend applies them.
///
/// # Errors
/// As [`Documents::apply`].
pub fn check_changes(changes: &[Change]) -> Result<()> {
    if changes.len() > MAX_CHANGES {
        return Err(Error::invalid("too many changes at once")
            .with("changes", changes.len())
            .with("limit", MAX_CHANGES));
    }
    let is_long = |change: &Change| match change {
        Change::Put(entry) => entry
            .key
            .as_ref()
            .is_some_and(|key| key.len() > MAX_KEY_BYTES),
        _ => false,
    };
    match changes.iter().any(is_long) {
        true => Err(Error::invalid("the key is too long").with("limit", MAX_KEY_BYTES)),
        false => Ok(()),
    }
}

/// Checks how many ids are asked for at once.
///
/// # Errors
/// `Invalid` if there are too many.
pub fn check_ids(ids: &[Uuid]) -> Result<()> {
    match ids.len() {
        0..=MAX_IDS => Ok(()),
        many => Err(Error::invalid("too many ids at once")
            .with("ids", many)
            .with("limit", MAX_IDS)),
    }
}

/// Checks a query before a backend looks for it.
///
/// # Errors
/// As [`Documents::totals`].
pub fn check_query(query: &EntryQuery) -> Result<()> {
    query.condition.as_ref().map_or(Ok(()), Condition::check)
}

/// Checks a list before a backend looks for it.
///
/// # Errors
/// As [`Documents::list`].
pub fn check(query: &EntryQuery, page: &PageQuery) -> Result<()> {
    filter::check_page(page, COLUMNS)?;
    check_query(query)
}

/// Checks a part before a backend stores it.
///
/// # Errors
/// As [`Documents::write_part`].
pub fn check_part(bytes: &[u8]) -> Result<()> {
    match bytes.len() {
        0..=MAX_PART_BYTES => Ok(()),
        many => Err(Error::invalid("the part is too large")
            .with("bytes", many)
            .with("limit", MAX_PART_BYTES)),
    }
}

/// The answer to who was not the first.
#[must_use]
pub fn stale(what: &'static str) -> Error {
    Error::conflict("it was changed meanwhile").with("what", what)
}

/// The answer to a key that another entry has.
#[must_use]
pub fn taken(kind: EntryKind) -> Error {
    Error::conflict("another one has this key").with("kind", kind.as_str())
}
