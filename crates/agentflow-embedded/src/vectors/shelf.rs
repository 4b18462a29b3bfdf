//! The points of one tenant in a collection, in memory.
//!
//! Each has a slot, which is not used again: what is removed leaves a gap, and when gaps are many,
//! the rest moves together. Slots are in the order of the numbers.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use agentflow_storage::{
    condition::{Condition, Field},
    json,
    vector::{Collection, Hit, Kind, Point, Sparse},
};
use agentflow_types::{Map, Result, Value};
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::{
    VectorOptions,
    graph::Graph,
    postings::Postings,
    rows::{Rows, unit},
    values::{Chosen, Values, choose},
};

/// Gaps up to which moving the rest together is not worth it.
const GAPS: usize = 1024;
/// Bytes of a point beside its vectors and payload, about: its entry and its places in maps.
const POINT_BYTES: usize = 160;

/// Points of one tenant.
#[derive(Default)]
pub(super) struct Shelf {
    /// By slot; gaps among them.
    entries: Vec<Entry>,
    alive: RoaringBitmap,
    ids: BTreeMap<Uuid, u32>,
    fields: BTreeMap<Field, Values>,
    dense: BTreeMap<String, Rows>,
    sparse: BTreeMap<String, Postings>,
    payload_bytes: usize,
}

struct Entry {
    id: Uuid,
    number: u64,
    version: u64,
    /// JSON.
    payload: Box<[u8]>,
}

/// What a search keeps of what it found.
#[derive(Clone, Copy)]
pub(super) struct Cut<'a> {
    pub(super) condition: Option<&'a Condition>,
    pub(super) limit: u32,
    pub(super) threshold: Option<f32>,
    /// Whether hits show their payload.
    pub(super) payload: bool,
}

impl Shelf {
    pub(super) fn new(shape: &Collection) -> Self {
        let rows = |(name, dimension): (&String, &u32)| (name.clone(), Rows::new(*dimension));
        let postings = |name: &String| (name.clone(), Postings::default());
        let values = |(field, kind): (&Field, &Kind)| (field.clone(), Values::new(Some(*kind)));
        Self {
            dense: shape.dense.iter().map(rows).collect(),
            sparse: shape.sparse.iter().map(postings).collect(),
            fields: shape.indexed.iter().map(values).collect(),
            ..Self::default()
        }
    }

    /// Adds a point, whose number is the highest so far; `text` is its payload as JSON.
    pub(super) fn add(&mut self, number: u64, point: &Point, text: Box<[u8]>) {
        let slot = self.entries.len() as u32;
        for (name, vector) in &point.dense {
            if let Some(rows) = self.dense.get_mut(name) {
                rows.put(slot, vector);
            }
        }
        for (name, vector) in &point.sparse {
            if let Some(postings) = self.sparse.get_mut(name) {
                postings.put(slot, vector);
            }
        }
        for (field, values) in &mut self.fields {
            values.put(slot, field.find(&point.payload));
        }
        self.payload_bytes += text.len();
        self.entries.push(Entry {
            id: point.id,
            number,
            version: point.version,
            payload: text,
        });
        self.alive.insert(slot);
        self.ids.insert(point.id, slot);
    }

    /// Removes the point with this id and number; `words` are its sparse vectors.
    pub(super) fn remove(
        &mut self,
        id: Uuid,
        number: u64,
        words: &BTreeMap<String, Sparse>,
    ) -> Result<()> {
        let Some(slot) = self.ids.get(&id).copied() else {
            return Ok(());
        };
        let entry = &mut self.entries[slot as usize];
        if entry.number != number {
            return Ok(());
        }
        let text = std::mem::take(&mut entry.payload);
        self.payload_bytes -= text.len();
        let payload = json::parse_map(&text)?;
        for (field, values) in &mut self.fields {
            values.remove(slot, field.find(&payload));
        }
        for rows in self.dense.values_mut() {
            rows.remove(slot);
        }
        for (name, vector) in words {
            if let Some(postings) = self.sparse.get_mut(name) {
                postings.remove(slot, vector);
            }
        }
        self.ids.remove(&id);
        self.alive.remove(slot);
        let gaps = self.entries.len() - self.alive.len() as usize;
        if gaps > GAPS && gaps > self.alive.len() as usize {
            self.move_together()?;
        }
        Ok(())
    }

    /// Indexes fields that are not yet.
    pub(super) fn index(&mut self, shape: &Collection) -> Result<()> {
        let new = shape.indexed.iter();
        let mut added: BTreeMap<Field, Values> = new
            .filter(|(field, _)| !self.fields.contains_key(field))
            .map(|(field, kind)| (field.clone(), Values::new(Some(*kind))))
            .collect();
        if added.is_empty() {
            return Ok(());
        }
        for slot in &self.alive {
            let payload = self.payload(slot)?;
            for (field, values) in &mut added {
                values.put(slot, field.find(&payload));
            }
        }
        self.fields.extend(added);
        Ok(())
    }

    fn move_together(&mut self) -> Result<()> {
        let mut slots = vec![None; self.entries.len()];
        for (new, old) in (0..).zip(&self.alive) {
            slots[old as usize] = Some(new);
        }
        let mut moved = Self {
            payload_bytes: self.payload_bytes,
            sparse: self
                .sparse
                .iter()
                .map(|(name, postings)| (name.clone(), postings.moved(&slots)))
                .collect(),
            dense: self
                .dense
                .iter()
                .map(|(name, rows)| (name.clone(), rows.moved(&slots)))
                .collect(),
            fields: self
                .fields
                .iter()
                .map(|(field, values)| (field.clone(), values.emptied()))
                .collect(),
            ..Self::default()
        };
        for (entry, slot) in std::mem::take(&mut self.entries).into_iter().zip(slots) {
            let Some(slot) = slot else { continue };
            let payload = json::parse_map(&entry.payload)?;
            for (field, values) in &mut moved.fields {
                values.put(slot, field.find(&payload));
            }
            moved.ids.insert(entry.id, slot);
            moved.alive.insert(slot);
            moved.entries.push(entry);
        }
        *self = moved;
        Ok(())
    }

    fn payload(&self, slot: u32) -> Result<Map> {
        json::parse_map(&self.entries[slot as usize].payload)
    }

    fn choose(&self, condition: Option<&Condition>) -> Chosen {
        choose(condition, &self.alive, &self.fields)
    }

    /// Points that meet a condition.
    fn matching(&self, condition: Option<&Condition>) -> Result<RoaringBitmap> {
        let Chosen { slots, is_exact } = self.choose(condition);
        let slots = slots.unwrap_or_else(|| self.alive.clone());
        let Some(condition) = condition.filter(|_| !is_exact) else {
            return Ok(slots);
        };
        let mut meeting = RoaringBitmap::new();
        for slot in slots {
            if condition.holds(&self.payload(slot)?) {
                meeting.insert(slot);
            }
        }
        Ok(meeting)
    }

    pub(super) fn len(&self) -> u64 {
        self.alive.len()
    }

    pub(super) fn count(&self, condition: Option<&Condition>) -> Result<u64> {
        Ok(self.matching(condition)?.len())
    }

    /// Ids and numbers of the points that meet a condition, by id, after this one.
    pub(super) fn page(
        &self,
        condition: Option<&Condition>,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<(Uuid, u64)>> {
        let slots = self.by_id(condition, after, limit)?;
        let entry = |slot| &self.entries[slot as usize];
        let row = |slot| (entry(slot).id, entry(slot).number);
        Ok(slots.into_iter().map(row).collect())
    }

    /// Slots of points that meet a condition, by id, after this one.
    fn by_id(
        &self,
        condition: Option<&Condition>,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<u32>> {
        let Chosen { slots, is_exact } = self.choose(condition);
        let condition = condition.filter(|_| !is_exact);
        let from = (
            after.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        );
        // Going through all by id meets one that is chosen every so often; putting those that are
        // chosen in order looks at each of them.
        let steps = self.len().saturating_mul(limit as u64);
        let is_few = |slots: &&RoaringBitmap| slots.len().saturating_mul(slots.len()) < steps;
        let few = slots.as_ref().filter(is_few);
        let mut found = Vec::new();
        let mut keep = |slot: u32| {
            if self.meets(slot, condition)? {
                found.push(slot);
            }
            Ok::<_, agentflow_types::Error>(found.len() < limit)
        };
        if let Some(few) = few {
            let id = |slot: u32| (self.entries[slot as usize].id, slot);
            let mut few: Vec<(Uuid, u32)> = few.iter().map(id).collect();
            few.retain(|(id, _)| after.is_none_or(|after| *id > after));
            few.sort_unstable();
            for (_, slot) in few {
                if !keep(slot)? {
                    break;
                }
            }
        } else {
            for (_, slot) in self.ids.range(from) {
                let is_chosen = slots.as_ref().is_none_or(|slots| slots.contains(*slot));
                if is_chosen && !keep(*slot)? {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The first by id.
    pub(super) fn any(&self, cut: Cut<'_>) -> Result<Vec<Hit>> {
        if cut.threshold.is_some_and(|least| least > 0.0) {
            return Ok(vec![]);
        }
        let slots = self.by_id(cut.condition, None, cut.limit as usize)?;
        let hits = slots.into_iter().map(|slot| self.hit(0.0, slot, cut));
        hits.collect()
    }

    fn meets(&self, slot: u32, condition: Option<&Condition>) -> Result<bool> {
        match condition {
            None => Ok(true),
            Some(condition) => Ok(condition.holds(&self.payload(slot)?)),
        }
    }

    /// The values of a field, counted.
    pub(super) fn facet(
        &self,
        field: &Field,
        condition: Option<&Condition>,
        limit: u32,
    ) -> Result<Vec<(Value, u64)>> {
        let slots = self.matching(condition)?;
        let counts = match self.fields.get(field) {
            Some(values) => values.counts(&slots),
            None => {
                let mut values = Values::new(None);
                for slot in &slots {
                    values.put(slot, field.find(&self.payload(slot)?));
                }
                values.counts(&slots)
            }
        };
        let mut counts: Vec<(Value, u64)> = counts;
        counts.sort_by_cached_key(|(value, count)| (Reverse(*count), value.json_text()));
        counts.truncate(limit as usize);
        Ok(counts)
    }

    /// The nearest by a dense vector.
    pub(super) fn nearest(
        &self,
        name: &str,
        wanted: &[f32],
        cut: Cut<'_>,
        options: &VectorOptions,
    ) -> Result<Vec<Hit>> {
        let Some(rows) = self.dense.get(name) else {
            return Ok(vec![]);
        };
        let Chosen { slots, is_exact } = self.choose(cut.condition);
        let wanted = unit(wanted);
        let slots = match slots {
            None => Cow::Borrowed(rows.has()),
            Some(slots) => Cow::Owned(slots & rows.has()),
        };
        if let Some(graph) = rows.graph()
            && options.walks(cut.limit, slots.len(), rows.has().len())
        {
            let covered = graph.covered() as u32;
            let condition = cut.condition.filter(|_| !is_exact);
            let counts = |slot| {
                slot < covered
                    && slots.contains(slot)
                    // What cannot be read is reported by those who read it.
                    && self.meets(slot, condition).unwrap_or(false)
            };
            let width = options.width(cut.limit);
            let mut found = graph.nearest(rows.pieces(), &wanted, width, counts);
            found.extend(rows.cosines(&wanted, slots.range(covered..)));
            if found.len() as u64 >= slots.len().min(cut.limit.into()) {
                return self.best(found, is_exact, cut);
            }
        }
        // Links are on their way, or the condition leaves too few for a walk.
        let found = match is_exact && slots.len() > options.exact_limit {
            true => rows.nearest(&wanted, &slots, options.width(cut.limit)),
            false => rows.cosines(&wanted, slots.iter()),
        };
        self.best(found, is_exact, cut)
    }

    /// Rows whose links are to be made.
    pub(super) fn unlinked(&self, options: &VectorOptions) -> Option<(&Rows, &Arc<Graph>)> {
        let many = self.dense.values();
        let mut many = many.filter(|rows| rows.has().len() > options.exact_limit);
        many.find_map(|rows| Some((rows, rows.unlinked()?)))
    }

    /// The most words in common; `wanted` are words with their weight times their rarity.
    pub(super) fn worded(
        &self,
        name: &str,
        wanted: &[(u32, f32)],
        cut: Cut<'_>,
    ) -> Result<Vec<Hit>> {
        let Some(postings) = self.sparse.get(name) else {
            return Ok(vec![]);
        };
        let Chosen { slots, is_exact } = self.choose(cut.condition);
        let mut found = postings.scores(wanted, self.entries.len());
        let allowed = slots.as_ref().unwrap_or_else(|| postings.has());
        found.retain(|(_, slot)| allowed.contains(*slot));
        self.best(found, is_exact, cut)
    }

    /// The best of what was found; equal scores: smaller id first. Unless `is_exact`, some of it
    /// may not meet the condition.
    fn best(&self, mut found: Vec<(f32, u32)>, is_exact: bool, cut: Cut<'_>) -> Result<Vec<Hit>> {
        if let Some(least) = cut.threshold {
            found.retain(|(score, _)| *score >= least);
        }
        let limit = cut.limit as usize;
        let condition = cut.condition.filter(|_| !is_exact);
        let id = |slot: u32| self.entries[slot as usize].id;
        let mut hits = Vec::new();
        let mut rest = &mut found[..];
        // The best come first in rounds, as payloads are looked at only until there are enough.
        let mut round = limit;
        while !rest.is_empty() && hits.len() < limit {
            let order = |a: &(f32, u32), b: &(f32, u32)| {
                b.0.total_cmp(&a.0).then_with(|| id(a.1).cmp(&id(b.1)))
            };
            let taken = round.min(rest.len());
            if taken < rest.len() {
                rest.select_nth_unstable_by(taken - 1, order);
            }
            let (first, later) = std::mem::take(&mut rest).split_at_mut(taken);
            first.sort_unstable_by(order);
            for (score, slot) in &*first {
                if hits.len() < limit && self.meets(*slot, condition)? {
                    hits.push(self.hit(*score, *slot, cut)?);
                }
            }
            rest = later;
            round = round.saturating_mul(4);
        }
        Ok(hits)
    }

    fn hit(&self, score: f32, slot: u32, cut: Cut<'_>) -> Result<Hit> {
        let entry = &self.entries[slot as usize];
        Ok(Hit {
            id: entry.id,
            version: entry.version,
            score,
            payload: match cut.payload {
                true => self.payload(slot)?,
                false => Map::new(),
            },
        })
    }

    /// Bytes of memory, about.
    pub(super) fn size_bytes(&self) -> usize {
        let dense: usize = self.dense.values().map(Rows::size_bytes).sum();
        let sparse: usize = self.sparse.values().map(Postings::size_bytes).sum();
        dense + sparse + self.payload_bytes + self.entries.len() * POINT_BYTES
    }
}

/// How many points have which words, over all tenants.
#[derive(Default)]
pub(super) struct Counts {
    all: u64,
    having: HashMap<u32, u64>,
}

impl Counts {
    pub(super) fn add(&mut self, vector: &Sparse) {
        self.all += 1;
        for word in &vector.indices {
            *self.having.entry(*word).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, vector: &Sparse) {
        self.all = self.all.saturating_sub(1);
        for word in &vector.indices {
            if let Some(having) = self.having.get_mut(word) {
                *having -= 1;
                if *having == 0 {
                    self.having.remove(word);
                }
            }
        }
    }

    /// The words with their weight times their rarity; those that no point has are left out.
    pub(super) fn weighted(&self, wanted: &Sparse) -> Vec<(u32, f32)> {
        let weighted = |(word, weight)| {
            let having = self.having.get(&word)?;
            let rarity = agentflow_storage::vector::rarity(self.all, *having);
            Some((word, weight * rarity))
        };
        wanted.iter().filter_map(weighted).collect()
    }
}
