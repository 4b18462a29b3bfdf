//! Collections: sets of documents that users share.

use agentflow_storage::{
    condition::{Condition, Field},
    documents::{Change, Entry, EntryKind, EntryQuery},
    page::{Page, PageQuery},
};
use agentflow_types::{Error, ErrorKind, Map, Result, Scope, Timestamp, Value, value};
use uuid::Uuid;

use super::{
    Caller, Document, Service, ids,
    state::entry,
    work::{Task, letter},
};

/// The name of the collection that every user has.
const DEFAULT_NAME: &str = "Default";
/// Most characters of a name or a description.
pub const MAX_TEXT: usize = 4_096;

/// A collection.
#[derive(Clone, Debug, PartialEq)]
pub struct Collection {
    /// Id; that of its graph, too.
    pub id: Uuid,
    /// Whose it is.
    pub owner: Uuid,
    /// Name, unique among those of its owner.
    pub name: String,
    /// What it is about.
    pub description: Option<String>,
    /// Members.
    pub users: u64,
    /// Documents.
    pub documents: u64,
    /// Creation.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

fn key(owner: Uuid, name: &str) -> String {
    format!("{owner}/{name}")
}

fn member_key(collection: Uuid, user: Uuid) -> String {
    format!("{collection}/{user}")
}

fn member(collection: Uuid, user: Uuid, now: Timestamp) -> Entry {
    Entry {
        parent: Some(collection),
        owner: Some(user),
        key: Some(member_key(collection, user)),
        ..entry(EntryKind::Member, Uuid::now_v7(), now)
    }
}

fn text(map: &Map, key: &str) -> Option<String> {
    map.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn checked<'a>(what: &'static str, text: &'a str) -> Result<&'a str> {
    let trimmed = text.trim();
    match trimmed.chars().count() {
        0 => Err(Error::invalid(format!("the {what} is empty"))),
        1..=MAX_TEXT => Ok(trimmed),
        _ => Err(Error::invalid(format!("the {what} is too long")).with("limit", MAX_TEXT)),
    }
}

/// The documents of a collection.
pub(super) fn inside(collection: Uuid) -> EntryQuery {
    let id = Value::str(collection.to_string());
    EntryQuery {
        condition: Some(Condition::Equals(Field::of("collection_ids"), id)),
        ..EntryQuery::of(EntryKind::Document)
    }
}

fn no_access() -> Error {
    Error::denied("You do not have access to this collection.")
}

impl Service {
    /// Makes a collection; who makes it owns it and is its first member.
    ///
    /// # Errors
    /// `Invalid` for an empty name; `Conflict` if the user has one of that name.
    pub async fn create_collection(
        &self,
        scope: &Scope,
        caller: &Caller,
        name: &str,
        description: Option<&str>,
    ) -> Result<Collection> {
        let name = checked("name", name)?;
        let description = description
            .map(|it| checked("description", it))
            .transpose()?;
        let entry = self.collection_entry(Uuid::now_v7(), caller.user, name, description);
        let made = self.store_collection(scope, entry.clone()).await;
        made.map_err(|err| match err.kind() {
            ErrorKind::Conflict => {
                Error::conflict("A collection of this name exists already.").with("name", name)
            }
            _ => err,
        })?;
        self.collection_of(scope, &entry).await
    }

    fn collection_entry(
        &self,
        id: Uuid,
        owner: Uuid,
        name: &str,
        description: Option<&str>,
    ) -> Entry {
        let fields = value!({"name": name, "description": description.map(str::to_owned)});
        Entry {
            owner: Some(owner),
            key: Some(key(owner, name)),
            fields: fields.as_map().cloned().unwrap_or_default(),
            ..entry(EntryKind::Collection, id, self.now())
        }
    }

    async fn store_collection(&self, scope: &Scope, entry: Entry) -> Result<()> {
        let owner = entry.owner.unwrap_or_default();
        let member = member(entry.entry_id, owner, self.now());
        let changes = vec![Change::Put(Box::new(entry)), Change::Put(Box::new(member))];
        self.records().apply(scope, changes).await
    }

    /// The collection that a user has from the begin.
    pub(super) async fn make_default(&self, scope: &Scope, user: Uuid) -> Result<Uuid> {
        let id = ids::default_collection(user);
        let entry = self.collection_entry(id, user, DEFAULT_NAME, None);
        match self.store_collection(scope, entry).await {
            // Another request of the user was faster.
            Err(err) if err.kind() == ErrorKind::Conflict => Ok(id),
            done => done.map(|()| id),
        }
    }

    /// A collection.
    ///
    /// # Errors
    /// `NotFound` if there is none; `Denied` to who is no member.
    pub async fn collection(&self, scope: &Scope, caller: &Caller, id: Uuid) -> Result<Collection> {
        let entry = self.collection_row(scope, id).await?;
        match caller.is_member(id) {
            true => self.collection_of(scope, &entry).await,
            false => Err(no_access()),
        }
    }

    /// The collection of this name that a user owns.
    ///
    /// # Errors
    /// As [`Service::collection`].
    pub async fn collection_named(
        &self,
        scope: &Scope,
        caller: &Caller,
        owner: Uuid,
        name: &str,
    ) -> Result<Collection> {
        let key = key(owner, name);
        let found = self.records().by_key(scope, EntryKind::Collection, &key);
        let entry = found
            .await?
            .filter(|entry| caller.is_member(entry.entry_id));
        let entry = entry.ok_or_else(|| Error::not_found("Collection not found."))?;
        self.collection_of(scope, &entry).await
    }

    async fn collection_row(&self, scope: &Scope, id: Uuid) -> Result<Entry> {
        let kind = EntryKind::Collection;
        let found = self.records().get(scope, kind, &[id]).await?;
        let found = found.into_iter().next();
        found.ok_or_else(|| Error::not_found("Collection not found."))
    }

    /// The one that this user may change.
    async fn own_collection(&self, scope: &Scope, caller: &Caller, id: Uuid) -> Result<Entry> {
        let entry = self.collection_row(scope, id).await?;
        match caller.owns(entry.owner.unwrap_or_default()) {
            true => Ok(entry),
            false if caller.is_member(id) => {
                Err(Error::denied("Insufficient permissions for this action."))
            }
            false => Err(no_access()),
        }
    }

    async fn collection_of(&self, scope: &Scope, entry: &Entry) -> Result<Collection> {
        let members = EntryQuery {
            parent: Some(entry.entry_id),
            ..EntryQuery::of(EntryKind::Member)
        };
        let documents = inside(entry.entry_id);
        let (users, documents) = tokio::try_join!(
            self.records().totals(scope, &members),
            self.records().totals(scope, &documents)
        )?;
        Ok(Collection {
            id: entry.entry_id,
            owner: entry.owner.unwrap_or_default(),
            name: text(&entry.fields, "name").unwrap_or_default(),
            description: text(&entry.fields, "description"),
            users: users.entries,
            documents: documents.entries,
            created_at: entry.created_at,
            updated_at: entry.updated_at,
        })
    }

    /// Collections that the user belongs to; of all users for a superuser.
    ///
    /// # Errors
    /// `Invalid` for a page out of range.
    pub async fn collections(
        &self,
        scope: &Scope,
        caller: &Caller,
        (ids, own_only): (&[Uuid], bool),
        page: &PageQuery,
    ) -> Result<Page<Collection>> {
        let text = |id: &Uuid| Value::str(id.to_string());
        let one_of = |ids: Vec<Value>| Condition::In(Field::of("id"), ids);
        let mut parts = Vec::new();
        if !caller.is_superuser {
            parts.push(one_of(caller.collections.iter().map(text).collect()));
        }
        if !ids.is_empty() {
            parts.push(one_of(ids.iter().map(text).collect()));
        }
        let query = EntryQuery {
            owner: own_only.then_some(caller.user),
            condition: Some(Condition::All(parts)),
            ..EntryQuery::of(EntryKind::Collection)
        };
        let found = self.records().list(scope, &query, page).await?;
        let mut items = Vec::with_capacity(found.items.len());
        for entry in &found.items {
            items.push(self.collection_of(scope, entry).await?);
        }
        Ok(Page {
            items,
            total: found.total,
        })
    }

    /// Changes name or description.
    ///
    /// # Errors
    /// As [`Service::collection`] and [`Service::create_collection`]; `Denied` to who does not own
    /// it.
    pub async fn update_collection(
        &self,
        scope: &Scope,
        caller: &Caller,
        id: Uuid,
        (name, description): (Option<&str>, Option<&str>),
    ) -> Result<Collection> {
        let mut entry = self.own_collection(scope, caller, id).await?;
        if let Some(name) = name {
            let name = checked("name", name)?;
            entry.key = Some(key(entry.owner.unwrap_or_default(), name));
            entry.fields.insert("name".into(), name.into());
        }
        if let Some(description) = description {
            let description = checked("description", description)?;
            entry
                .fields
                .insert("description".into(), description.into());
        }
        entry.version += 1;
        entry.updated_at = self.now();
        let change = Change::Put(Box::new(entry.clone()));
        self.records().apply(scope, vec![change]).await?;
        self.collection_of(scope, &entry).await
    }

    /// Removes a collection. Its documents stay, and leave it in the background.
    ///
    /// # Errors
    /// As [`Service::update_collection`]; `Invalid` for the one that every user has.
    pub async fn delete_collection(&self, scope: &Scope, caller: &Caller, id: Uuid) -> Result<()> {
        let entry = self.own_collection(scope, caller, id).await?;
        if id == ids::default_collection(entry.owner.unwrap_or_default()) {
            return Err(Error::invalid("Cannot delete the default collection."));
        }
        let kind = EntryKind::Member;
        let changes = vec![
            Change::Remove {
                kind: EntryKind::Collection,
                entry_id: id,
                version: entry.version,
            },
            Change::RemoveBelow { kind, parent: id },
            letter(self.now(), &Task::Leave { collection: id }),
        ];
        self.records().apply(scope, changes).await?;
        self.wake();
        Ok(())
    }

    /// Lets a user in.
    ///
    /// # Errors
    /// As [`Service::update_collection`]: only who owns it lets somebody in.
    pub async fn add_member(
        &self,
        scope: &Scope,
        caller: &Caller,
        id: Uuid,
        user: Uuid,
    ) -> Result<()> {
        self.own_collection(scope, caller, id).await?;
        let change = Change::Put(Box::new(member(id, user, self.now())));
        match self.records().apply(scope, vec![change]).await {
            // The user is a member already.
            Err(err) if err.kind() == ErrorKind::Conflict => Ok(()),
            done => done,
        }
    }

    /// Shows a user out; members may leave by themselves.
    ///
    /// # Errors
    /// As [`Service::update_collection`]; `NotFound` for who is no member.
    pub async fn remove_member(
        &self,
        scope: &Scope,
        caller: &Caller,
        id: Uuid,
        user: Uuid,
    ) -> Result<()> {
        if caller.user != user {
            self.own_collection(scope, caller, id).await?;
        }
        let key = member_key(id, user);
        let found = self.records().by_key(scope, EntryKind::Member, &key);
        let found = found.await?;
        let member = found.ok_or_else(|| Error::not_found("The user is not in the collection."))?;
        let change = Change::Remove {
            kind: EntryKind::Member,
            entry_id: member.entry_id,
            version: member.version,
        };
        self.records().apply(scope, vec![change]).await
    }

    /// Users of a collection.
    ///
    /// # Errors
    /// As [`Service::collection`].
    pub async fn members(
        &self,
        scope: &Scope,
        caller: &Caller,
        id: Uuid,
        page: &PageQuery,
    ) -> Result<Page<Uuid>> {
        self.collection(scope, caller, id).await?;
        let query = EntryQuery {
            parent: Some(id),
            ..EntryQuery::of(EntryKind::Member)
        };
        let found = self.records().list(scope, &query, page).await?;
        Ok(Page {
            items: found.items.iter().filter_map(|one| one.owner).collect(),
            total: found.total,
        })
    }

    /// Puts a document into a collection, or takes it out.
    ///
    /// # Errors
    /// As [`Service::update_collection`]; `NotFound` for a document that the user does not see, or
    /// that is not there to be taken out; `Conflict` for one that is there already.
    pub async fn place(
        &self,
        scope: &Scope,
        caller: &Caller,
        (collection, document): (Uuid, Uuid),
        inside: bool,
    ) -> Result<Document> {
        self.own_collection(scope, caller, collection).await?;
        let mut document = self.document(scope, caller, document).await?;
        // Who sees a document as a member of one collection must not give it to others.
        if inside && !caller.owns(document.owner()) {
            return Err(Error::denied("Insufficient permissions for this action."));
        }
        let held = &mut document.fields.collection_ids;
        match (held.contains(&collection), inside) {
            (true, true) => {
                return Err(Error::conflict("Document is already in the collection."));
            }
            (false, false) => return Err(Error::not_found("Document is not in the collection.")),
            (false, true) => held.push(collection),
            (true, false) => held.retain(|id| *id != collection),
        }
        self.change(scope, document).await
    }

    /// Takes the documents of a collection that is gone out of it; whether there may be more.
    pub(super) async fn leave(&self, scope: &Scope, collection: Uuid) -> Result<bool> {
        let page = super::access::page(0);
        let found = self
            .records()
            .list(scope, &inside(collection), &page)
            .await?;
        for entry in found.items {
            let mut document = Document::read(entry)?;
            document
                .fields
                .collection_ids
                .retain(|id| *id != collection);
            match self.change(scope, document).await {
                // Whoever changed it meanwhile: it is looked at again.
                Err(err) if err.kind() == ErrorKind::Conflict => {}
                done => {
                    done?;
                }
            }
        }
        Ok(found.total > 0)
    }

    /// Stores a document whose fields were changed, and brings the index to it.
    pub(super) async fn change(&self, scope: &Scope, mut document: Document) -> Result<Document> {
        let now = self.now();
        document.content.shown += 1;
        let entry = document.next(now)?;
        let task = Task::Show {
            document: document.id(),
        };
        let changes = vec![Change::Put(Box::new(entry.clone())), letter(now, &task)];
        self.records().apply(scope, changes).await?;
        self.wake();
        Document::read(entry)
    }
}
