//! What a search needs of memories, held between searches.
//!
//! A card is made of a record and of what was said before it. One that is held is used while the
//! index names the same version; what a search returns was read from the records, whatever the
//! cards said.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use agentflow_storage::memories::{Kind, Memory};
use agentflow_types::{Map, MemoryId, Result, Scope, Timestamp, Value};
use jiff::civil::Date;
use quick_cache::{Weighter, sync::Cache};

use super::{Before, Service, add::SOURCE};
use crate::{index, retrieval, text};

/// Most bytes of the cards that are held, about.
const MAX_BYTES: u64 = 64 << 20;
/// How many that will be, about.
const USUAL: usize = 32_000;
/// Bytes of a card without its texts, and of a field of its payload, about.
const CARD_BYTES: usize = 400;
const FIELD_BYTES: usize = 64;

/// A memory as it is ranked.
pub(super) struct Card {
    tenant: Box<str>,
    pub(super) memory_id: MemoryId,
    pub(super) version: u64,
    pub(super) kind: Kind,
    pub(super) actor: Option<String>,
    pub(super) entities: Vec<String>,
    pub(super) terms: text::Sparse,
    pub(super) asks: f32,
    /// Its conversation, as a hash.
    pub(super) session: Option<u64>,
    pub(super) day: Option<Date>,
    pub(super) happened_at: Timestamp,
    pub(super) sources: Vec<MemoryId>,
    /// Whether it is kept as the source of facts only.
    pub(super) is_source: bool,
    /// What conditions are about.
    pub(super) payload: Map,
}

impl Card {
    pub(super) fn of(scope: &Scope, memory: &Memory, terms: text::Sparse) -> Self {
        let run = memory.owner.run_id.as_ref();
        Self {
            tenant: scope.tenant().into(),
            memory_id: memory.memory_id,
            version: memory.version,
            kind: memory.kind,
            actor: memory.actor.clone(),
            entities: memory.entities.clone(),
            terms,
            asks: retrieval::asks(&memory.text),
            session: run.map(|run| xxhash_rust::xxh3::xxh3_64(run.as_bytes())),
            day: index::day(memory.happened_at),
            happened_at: memory.happened_at,
            sources: memory.sources.clone(),
            is_source: memory.extra.get(SOURCE) == Some(&Value::Bool(true)),
            payload: memory.payload(),
        }
    }

    fn bytes(&self) -> usize {
        let texts = self.payload.values().filter_map(|value| value.as_str());
        let texts: usize = texts.map(str::len).sum();
        let keys: usize = self.entities.iter().map(String::len).sum();
        let parts = self.payload.len() + 2 * self.entities.len();
        CARD_BYTES + texts + 2 * keys + FIELD_BYTES * parts + 8 * self.terms.terms.len()
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<MemoryId, Arc<Card>> for Bytes {
    fn weight(&self, _: &MemoryId, card: &Arc<Card>) -> u64 {
        card.bytes() as u64
    }
}

/// The cards that are held; none before the first search.
#[derive(Default)]
pub(super) struct Cards(OnceLock<Cache<MemoryId, Arc<Card>, Bytes>>);

impl Cards {
    /// The card of a memory, in this version if one is named.
    fn get(&self, scope: &Scope, id: MemoryId, version: Option<u64>) -> Option<Arc<Card>> {
        // What was said before a memory may be beyond a limit: limited searches make their own.
        if scope.memories().is_some() {
            return None;
        }
        let card = self.0.get()?.get(&id)?;
        let is_that = version.is_none_or(|version| card.version == version);
        (is_that && *card.tenant == *scope.tenant()).then_some(card)
    }

    fn hold(&self, card: &Arc<Card>) {
        let held = self
            .0
            .get_or_init(|| Cache::with_weighter(USUAL, MAX_BYTES, Bytes));
        held.insert(card.memory_id, card.clone());
    }

    /// Drops the cards of memories that change.
    pub(super) fn forget(&self, ids: &[MemoryId]) {
        if let Some(held) = self.0.get() {
            for id in ids {
                held.remove(id);
            }
        }
    }
}

impl Service {
    /// Cards of memories in the versions that the index names, or `None` for whatever is held;
    /// those that are not held are made of the records. What is gone is left out.
    pub(super) async fn cards(
        &self,
        scope: &Scope,
        wanted: &[(MemoryId, Option<u64>)],
    ) -> Result<Vec<Arc<Card>>> {
        let held = &self.inner.cards;
        let get = |(id, version): &(MemoryId, Option<u64>)| held.get(scope, *id, *version);
        let found: Vec<Option<Arc<Card>>> = wanted.iter().map(get).collect();
        let missing = wanted.iter().zip(&found);
        let missing = missing.filter(|(_, card)| card.is_none());
        let missing: Vec<MemoryId> = missing.map(|((id, _), _)| *id).collect();
        if missing.is_empty() {
            return Ok(found.into_iter().flatten().collect());
        }
        let read = self.backend().memories.get(scope, &missing, None).await?;
        let made = self.made(scope, &read).await?.into_iter();
        let mut made: HashMap<MemoryId, Arc<Card>> =
            made.map(|card| (card.memory_id, card)).collect();
        if scope.memories().is_none() {
            made.values().for_each(|card| held.hold(card));
        }
        let both = wanted.iter().zip(found);
        let in_order = both.filter_map(|((id, _), card)| card.or_else(|| made.remove(id)));
        Ok(in_order.collect())
    }

    /// Cards of these records.
    pub(super) async fn made(&self, scope: &Scope, of: &[Memory]) -> Result<Vec<Arc<Card>>> {
        let all: Vec<&Memory> = of.iter().collect();
        let before = Before::read(self.backend(), scope, &all).await?;
        let card = |memory: &Memory| {
            let terms = index::words(memory, &before, self.inner.usual);
            Arc::new(Card::of(scope, memory, terms))
        };
        Ok(of.iter().map(card).collect())
    }
}
