//! Documents in memory.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
};

use agentflow_types::{Result, Scope, Timestamp};
use async_trait::async_trait;
use uuid::Uuid;

use super::{Memory as Database, Tables};
use crate::{
    documents::{
        Blob, Change, Documents, Entry, EntryKind, EntryQuery, Mark, Totals, check, check_changes,
        check_ids, check_part, check_query, stale, taken,
    },
    outbox::Letter,
    page::{Order, Page, PageQuery},
};

/// Kind, tenant, id.
type EntryKey = (EntryKind, String, Uuid);

/// Bytes in parts.
#[derive(Clone)]
struct BlobRow {
    tenant: String,
    is_kept: bool,
    created_at: Timestamp,
    parts: BTreeMap<u32, Vec<u8>>,
}

/// Entries and bytes.
#[derive(Clone, Default)]
pub(super) struct Shelf {
    entries: BTreeMap<EntryKey, Entry>,
    keys: HashMap<(EntryKind, String, String), Uuid>,
    blobs: BTreeMap<Uuid, BlobRow>,
}

/// What was there before a change.
enum Undo {
    Entry(EntryKey, Option<Box<Entry>>),
    Blob(Uuid, Option<BlobRow>),
}

impl Shelf {
    /// Puts an entry there, or takes it away; gives what was there.
    fn set(&mut self, key: &EntryKey, entry: Option<Entry>) -> Option<Entry> {
        let name = |entry: &Entry| Some((key.0, key.1.clone(), entry.key.clone()?));
        let old = self.entries.remove(key);
        if let Some(name) = old.as_ref().and_then(name) {
            self.keys.remove(&name);
        }
        if let Some(entry) = entry {
            if let Some(name) = name(&entry) {
                self.keys.insert(name, key.2);
            }
            self.entries.insert(key.clone(), entry);
        }
        old
    }

    fn put(&mut self, tenant: &str, entry: Entry, done: &mut Vec<Undo>) -> Result<()> {
        let key = (entry.kind, tenant.to_owned(), entry.entry_id);
        let stored = self.entries.get(&key).map_or(0, |entry| entry.version);
        if entry.version != stored + 1 {
            return Err(stale("entry"));
        }
        if let Some(name) = &entry.key {
            let holder = self
                .keys
                .get(&(entry.kind, tenant.to_owned(), name.clone()));
            if holder.is_some_and(|holder| *holder != entry.entry_id) {
                return Err(taken(entry.kind));
            }
        }
        let old = self.set(&key, Some(entry.normal()));
        done.push(Undo::Entry(key, old.map(Box::new)));
        Ok(())
    }

    fn remove(&mut self, key: EntryKey, done: &mut Vec<Undo>) {
        let old = self.set(&key, None);
        done.push(Undo::Entry(key, old.map(Box::new)));
    }

    fn change(&mut self, tenant: &str, change: Change, done: &mut Vec<Undo>) -> Result<()> {
        match change {
            Change::Put(entry) => self.put(tenant, *entry, done)?,
            Change::Remove {
                kind,
                entry_id,
                version,
            } => {
                let key = (kind, tenant.to_owned(), entry_id);
                let held = self.entries.get(&key).map(|entry| entry.version);
                if held != Some(version) {
                    return Err(stale("entry"));
                }
                self.remove(key, done);
            }
            Change::RemoveBelow { kind, parent } => {
                let below = self.own(kind, tenant);
                let below = below.filter(|entry| entry.parent == Some(parent));
                let ids: Vec<Uuid> = below.map(|entry| entry.entry_id).collect();
                for id in ids {
                    self.remove((kind, tenant.to_owned(), id), done);
                }
            }
            Change::KeepBlob(id) => {
                let row = self.blobs.get_mut(&id);
                let row = row.filter(|row| row.tenant == tenant && !row.is_kept);
                let row = row.ok_or_else(|| stale("blob"))?;
                done.push(Undo::Blob(id, Some(row.clone())));
                row.is_kept = true;
            }
            Change::DropBlob(id) => {
                if self.blobs.get(&id).is_some_and(|row| row.tenant == tenant) {
                    done.push(Undo::Blob(id, self.blobs.remove(&id)));
                }
            }
            // Letters follow when all else is done.
            Change::Post(_) => {}
        }
        Ok(())
    }

    fn undo(&mut self, done: Vec<Undo>) {
        for step in done.into_iter().rev() {
            match step {
                Undo::Entry(key, old) => {
                    self.set(&key, old.map(|entry| *entry));
                }
                Undo::Blob(id, Some(row)) => {
                    self.blobs.insert(id, row);
                }
                Undo::Blob(id, None) => {
                    self.blobs.remove(&id);
                }
            }
        }
    }

    /// Entries of a kind and tenant, by id.
    fn own<'a>(&'a self, kind: EntryKind, tenant: &str) -> impl Iterator<Item = &'a Entry> {
        let from = (kind, tenant.to_owned(), Uuid::nil());
        let to = (kind, tenant.to_owned(), Uuid::max());
        self.entries.range(from..=to).map(|(_, entry)| entry)
    }
}

impl Tables {
    fn shelve(&mut self, scope: &Scope, changes: Vec<Change>) -> Result<()> {
        let letters: Vec<Letter> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Post(letter) => Some((**letter).clone()),
                _ => None,
            })
            .collect();
        let mut done = Vec::new();
        for change in changes {
            if let Err(err) = self.documents.change(scope.tenant(), change, &mut done) {
                self.documents.undo(done);
                return Err(err);
            }
        }
        for letter in letters {
            self.post(scope, letter);
        }
        Ok(())
    }
}

fn compare(page: &PageQuery, a: &Entry, b: &Entry) -> Ordering {
    let by = match page.sort_by.as_str() {
        "created_at" => a.created_at.cmp(&b.created_at),
        "updated_at" => a.updated_at.cmp(&b.updated_at),
        "position" => a.position.cmp(&b.position),
        _ => Ordering::Equal,
    };
    let order = by.then(a.entry_id.cmp(&b.entry_id));
    match page.order {
        Order::Ascending => order,
        Order::Descending => order.reverse(),
    }
}

#[async_trait]
impl Documents for Database {
    async fn apply(&self, scope: &Scope, changes: Vec<Change>) -> Result<()> {
        check_changes(&changes)?;
        self.lock().shelve(scope, changes)
    }

    async fn get(&self, scope: &Scope, kind: EntryKind, ids: &[Uuid]) -> Result<Vec<Entry>> {
        check_ids(ids)?;
        let tables = self.lock();
        let key = |id: &Uuid| (kind, scope.tenant().to_owned(), *id);
        let found = ids
            .iter()
            .filter_map(|id| tables.documents.entries.get(&key(id)));
        Ok(found.cloned().collect())
    }

    async fn by_key(&self, scope: &Scope, kind: EntryKind, key: &str) -> Result<Option<Entry>> {
        let tables = self.lock();
        let tenant = scope.tenant().to_owned();
        let id = tables
            .documents
            .keys
            .get(&(kind, tenant.clone(), key.to_owned()));
        let found = id.and_then(|id| tables.documents.entries.get(&(kind, tenant, *id)));
        Ok(found.cloned())
    }

    async fn list(
        &self,
        scope: &Scope,
        query: &EntryQuery,
        page: &PageQuery,
    ) -> Result<Page<Entry>> {
        check(query, page)?;
        let tables = self.lock();
        let own = tables.documents.own(query.kind, scope.tenant());
        let mut found: Vec<&Entry> = own.filter(|entry| query.holds(entry)).collect();
        found.sort_by(|a, b| compare(page, a, b));
        let total = found.len() as u64;
        let offset = usize::try_from(page.offset).unwrap_or(usize::MAX);
        let items = found.into_iter().skip(offset).take(page.limit as usize);
        let items = items.cloned().collect();
        Ok(Page { items, total })
    }

    async fn totals(&self, scope: &Scope, query: &EntryQuery) -> Result<Totals> {
        check_query(query)?;
        let tables = self.lock();
        let own = tables.documents.own(query.kind, scope.tenant());
        let all = own.filter(|entry| query.holds(entry));
        Ok(all.fold(Totals::default(), |sum, entry| Totals {
            entries: sum.entries + 1,
            size: sum.size + entry.size,
        }))
    }

    async fn marks(&self, kind: EntryKind, after: Option<&Mark>, limit: u32) -> Result<Vec<Mark>> {
        let tables = self.lock();
        let from = after.map_or((kind, String::new(), Uuid::nil()), |mark| {
            (kind, mark.tenant.clone(), mark.entry_id)
        });
        let all = tables.documents.entries.range(from.clone()..);
        let of_kind = all.take_while(|(key, _)| key.0 == kind);
        let later = of_kind.filter(|(key, _)| after.is_none() || **key > from);
        let marks = later.take(limit as usize).map(|(key, entry)| Mark {
            tenant: key.1.clone(),
            entry_id: key.2,
            version: entry.version,
        });
        Ok(marks.collect())
    }

    async fn write_part(
        &self,
        scope: &Scope,
        blob_id: Uuid,
        part: u32,
        bytes: Vec<u8>,
        now: Timestamp,
    ) -> Result<()> {
        check_part(&bytes)?;
        let mut tables = self.lock();
        let row = tables.documents.blobs.entry(blob_id);
        let row = row.or_insert_with(|| BlobRow {
            tenant: scope.tenant().to_owned(),
            is_kept: false,
            created_at: now,
            parts: BTreeMap::new(),
        });
        if row.tenant != scope.tenant() || row.is_kept {
            return Err(stale("blob"));
        }
        row.parts.insert(part, bytes);
        Ok(())
    }

    async fn read_part(&self, scope: &Scope, blob_id: Uuid, part: u32) -> Result<Option<Vec<u8>>> {
        let tables = self.lock();
        let row = tables.documents.blobs.get(&blob_id);
        let row = row.filter(|row| row.tenant == scope.tenant());
        Ok(row.and_then(|row| row.parts.get(&part)).cloned())
    }

    async fn blobs(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<Blob>> {
        let tables = self.lock();
        let all = tables.documents.blobs.iter();
        let later = all.filter(|(id, _)| after.is_none_or(|after| **id > after));
        let blobs = later.take(limit as usize).map(|(id, row)| Blob {
            tenant: row.tenant.clone(),
            blob_id: *id,
            is_kept: row.is_kept,
            created_at: row.created_at,
            bytes: row.parts.values().map(|part| part.len() as u64).sum(),
        });
        Ok(blobs.collect())
    }

    async fn sweep_blobs(&self, before: Timestamp, limit: u32) -> Result<u64> {
        let mut tables = self.lock();
        let blobs = &mut tables.documents.blobs;
        let old = blobs
            .iter()
            .filter(|(_, row)| !row.is_kept && row.created_at < before);
        let old: Vec<Uuid> = old.map(|(id, _)| *id).take(limit as usize).collect();
        for id in &old {
            blobs.remove(id);
        }
        Ok(old.len() as u64)
    }
}
