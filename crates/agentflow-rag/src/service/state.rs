//! What entries hold, as types.

use agentflow_storage::documents::{Entry, EntryKind};
use agentflow_types::{Error, Map, Result, Timestamp, from_value, to_value};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::chunk::Settings;

/// How far a document is, in the words of R2R, because clients know no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is stored and waits.
    #[default]
    Pending,
    /// Its file is being read.
    Parsing,
    /// Its text is being cut.
    Chunking,
    /// Chunks are being stored and indexed.
    Storing,
    /// It could not be read; `failure` of its metadata says why.
    Failed,
    /// It can be found.
    Success,
}

impl Status {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Parsing => "parsing",
            Self::Chunking => "chunking",
            Self::Storing => "storing",
            Self::Failed => "failed",
            Self::Success => "success",
        }
    }

    /// Whether nothing is to be done any more.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Success)
    }
}

/// How a document was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A file of any kind.
    #[default]
    File,
    /// Text.
    Text,
    /// Chunks, as a JSON list of texts.
    Chunks,
}

/// What conditions may look at of a document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Fields {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) title: Option<String>,
    pub(crate) status: Status,
    pub(crate) collection_ids: Vec<Uuid>,
    pub(crate) metadata: Map,
}

/// What they may not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Content {
    /// The bytes, which also name the upload.
    pub(crate) upload: Uuid,
    pub(crate) form: Form,
    pub(crate) name: Option<String>,
    pub(crate) mime: Option<String>,
    pub(crate) settings: Settings,
    /// Chunks that are stored and in the index.
    pub(crate) done: u64,
    /// Chunks of the whole document, once it was cut.
    pub(crate) chunks: Option<u64>,
    /// Changes of what the index shows of each chunk besides the chunk itself.
    pub(crate) shown: u64,
    pub(crate) attempts: u32,
}

/// A document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub(crate) entry: Entry,
    pub(crate) fields: Fields,
    pub(crate) content: Content,
}

impl Document {
    pub(crate) fn read(entry: Entry) -> Result<Self> {
        Ok(Self {
            fields: part(&entry.fields)?,
            content: part(&entry.content)?,
            entry,
        })
    }

    /// The entry of the next version.
    pub(crate) fn next(&self, now: Timestamp) -> Result<Entry> {
        Ok(Entry {
            version: self.entry.version + 1,
            fields: map(&self.fields)?,
            content: map(&self.content)?,
            updated_at: now,
            ..self.entry.clone()
        })
    }

    /// Id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.entry.entry_id
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> Uuid {
        self.entry.owner.unwrap_or_default()
    }

    /// The collections that it is in.
    #[must_use]
    pub fn collections(&self) -> &[Uuid] {
        &self.fields.collection_ids
    }

    /// What the file is by name: an extension in lower case.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.fields.kind
    }

    /// What the sender says about it, and `failure` if it failed.
    #[must_use]
    pub fn metadata(&self) -> &Map {
        &self.fields.metadata
    }

    /// The title.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        self.fields.title.as_deref()
    }

    /// How far it is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.fields.status
    }

    /// Bytes of what was sent.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.entry.size
    }

    /// Name of the file, if it had one.
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        self.content.name.as_deref()
    }

    /// Chunks that are stored, and how many there will be once that is known.
    #[must_use]
    pub fn progress(&self) -> (u64, Option<u64>) {
        (self.content.done, self.content.chunks)
    }

    /// How often it was begun.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.content.attempts
    }

    /// Creation.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.entry.created_at
    }

    /// Last change.
    #[must_use]
    pub fn updated_at(&self) -> Timestamp {
        self.entry.updated_at
    }
}

/// What conditions may look at of a chunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ChunkFields {
    /// What it says besides the document: its number, page, headings.
    pub(crate) metadata: Map,
}

/// What they may not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ChunkContent {
    pub(crate) text: String,
}

/// A chunk, with its document.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    pub(crate) entry: Entry,
    pub(crate) fields: ChunkFields,
    pub(crate) content: ChunkContent,
}

impl Chunk {
    pub(crate) fn read(entry: Entry) -> Result<Self> {
        Ok(Self {
            fields: part(&entry.fields)?,
            content: part(&entry.content)?,
            entry,
        })
    }

    /// The entry of the next version.
    pub(crate) fn next(&self, now: Timestamp) -> Result<Entry> {
        Ok(Entry {
            version: self.entry.version + 1,
            size: self.content.text.len() as u64,
            fields: map(&self.fields)?,
            content: map(&self.content)?,
            updated_at: now,
            ..self.entry.clone()
        })
    }

    /// Id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.entry.entry_id
    }

    /// The document that it is a piece of.
    #[must_use]
    pub fn document(&self) -> Uuid {
        self.entry.parent.unwrap_or_default()
    }

    /// What it says.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.content.text
    }

    /// What its document says, and what it says itself, which counts first.
    #[must_use]
    pub fn metadata(&self, document: &Document) -> Map {
        let mut all = document.fields.metadata.clone();
        all.insert("document_type".into(), document.fields.kind.as_str().into());
        all.insert("version".into(), VERSION.into());
        all.extend(self.fields.metadata.clone());
        all
    }
}

/// What R2R calls the version of every document.
pub const VERSION: &str = "v0";

fn part<T: DeserializeOwned>(map: &Map) -> Result<T> {
    let value = agentflow_types::Value::map(map.clone());
    from_value(&value).map_err(|err| Error::corrupt("a stored entry is not one").source_err(err))
}

pub(crate) fn map(part: &impl Serialize) -> Result<Map> {
    let value = to_value(part)?;
    let map = value.as_map().cloned();
    map.ok_or_else(|| Error::bug("a part of an entry is no map"))
}

/// The first version of an entry.
pub(crate) fn entry(kind: EntryKind, entry_id: Uuid, now: Timestamp) -> Entry {
    Entry {
        kind,
        entry_id,
        version: 1,
        created_at: now,
        updated_at: now,
        ..Entry::default()
    }
}
