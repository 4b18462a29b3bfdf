//! Finding memories.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use agentflow_storage::{
    condition::{Condition, Field, Order},
    memories::{Memory, MemoryQuery, OwnerKind, Owning},
    page::{Page, PageQuery},
    vector::{Hit, Probe, Search as Look, Sparse},
};
use agentflow_types::{Error, Map, MemoryId, Result, Scope, Timestamp, Value};
use uuid::Uuid;

use super::{
    Service,
    add::SOURCE,
    cards::Card,
    place::{Placed, Pool, Pooled, place},
};
use crate::{
    filter,
    index::{self, DENSE, Edition, WORDS},
    retrieval::{Parts, Query, Reason, breadth},
};

/// Most hits of a search.
const MAX_TOP_K: usize = 1_000;
/// Most bytes of a question.
pub const MAX_QUERY_BYTES: usize = 16 << 10;
/// Records that are looked through where the index cannot answer: the past, and an outage.
const MAX_SCAN: u32 = 1_000;
/// How often what was found is placed anew, because it changed since the index saw it.
const MAX_ROUNDS: usize = 8;

/// Which memories are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Which {
    /// The filter of the client, as [`filter::read`] reads it.
    pub filter: Map,
    /// With one of these categories; empty for all.
    pub categories: Vec<String>,
    /// Whether those that expired are wanted.
    pub show_expired: bool,
    /// Whether those that were superseded are not wanted.
    pub latest_only: bool,
    /// Whether those that were folded into others are wanted.
    pub include_merged: bool,
    /// Whether turns that facts were made of are wanted.
    pub include_sources: bool,
    /// As it was at this moment; `None` for now.
    pub as_of: Option<Timestamp>,
}

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// What is asked.
    pub query: String,
    /// Which memories are looked at.
    pub which: Which,
    /// Most hits, 1 to 1000.
    pub top_k: usize,
    /// Least score.
    pub threshold: f32,
    /// Whether the reranker judges the hits, if there is one.
    pub rerank: bool,
    /// Whether only words count.
    pub keyword: bool,
    /// Whether near misses are told of.
    pub explain: bool,
    /// What "last week" counts from; now if nothing is said about it.
    pub reference: Option<Timestamp>,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            query: String::new(),
            which: Which::default(),
            top_k: 10,
            threshold: 0.1,
            rerank: false,
            keyword: false,
            explain: false,
            reference: None,
        }
    }
}

/// A memory that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The memory; its sources are ids of turns.
    pub memory: Memory,
    /// From 0 to 1.
    pub score: f32,
    /// What the score is made of.
    pub parts: Parts,
    /// What the reranker said, if it was asked.
    pub rerank: Option<f32>,
    /// Why it is not among the results; `None` for results.
    pub missed: Option<Reason>,
}

impl Which {
    /// The condition, with the project at its root.
    ///
    /// # Errors
    /// `Invalid` for a filter that is none.
    fn condition(&self, project: &str, now: Timestamp) -> Result<Condition> {
        let of = |field: &str, word: &str| Condition::Equals(Field::of(field), Value::str(word));
        let mut all = vec![of("project", project), filter::read(&self.filter)?];
        if !self.include_sources {
            let is_source = Condition::Equals(Field::of(SOURCE), Value::Bool(true));
            all.push(is_source.negated());
        }
        if self.latest_only {
            all.push(of("state", "superseded").negated());
        }
        if !self.include_merged {
            all.push(of("state", "merged").negated());
        }
        if !self.categories.is_empty() {
            let words = self.categories.iter().map(|word| Value::str(word.as_str()));
            all.push(Condition::In(Field::of("categories"), words.collect()));
        }
        if !self.show_expired {
            let today = self.as_of.unwrap_or(now).to_string();
            let today = Value::str(today.get(..10).unwrap_or_default());
            let field = Field::of("expiration_date");
            all.push(Condition::Compares(field, Order::Less, today).negated());
        }
        let condition = Condition::All(all);
        condition.check()?;
        Ok(condition)
    }
}

impl Service {
    /// Memories that answer a question, best first; behind them, if it is to be explained, near
    /// misses.
    ///
    /// Candidates are what the dense index, the words and the entities find, over turns and facts
    /// together. Without the index, and for the past, the newest records are looked through.
    ///
    /// # Errors
    /// `Invalid` if the question or the filter is none.
    pub async fn search(
        &self,
        scope: &Scope,
        project: &str,
        search: &Search,
    ) -> Result<Vec<Found>> {
        if search.query.trim().is_empty() || search.query.len() > MAX_QUERY_BYTES {
            return Err(Error::invalid("query must be a text of up to 16 KiB"));
        }
        if !(1..=MAX_TOP_K).contains(&search.top_k) {
            return Err(Error::invalid("top_k must be between 1 and 1000"));
        }
        let now = self.now();
        // Sources take part, so that they lift the facts that were made of them.
        let wide = Which {
            include_sources: true,
            ..search.which.clone()
        };
        let condition = wide.condition(project, now)?;
        let today = index::day(search.reference.unwrap_or(now)).unwrap_or_default();
        let query = Query::read(&search.query, self.inner.usual, today);
        let mut pool = match search.which.as_of {
            None if self.inner.index.is_away(now) => {
                self.scan(scope, project, &condition, None).await?
            }
            None => {
                let pool = self.pool(scope, search, &query, &condition).await;
                self.inner.index.note(now, &pool);
                match pool {
                    Ok(pool) => pool,
                    Err(err) => {
                        tracing::warn!(error = %err, "records are searched without the index");
                        self.scan(scope, project, &condition, None).await?
                    }
                }
            }
            moment => self.scan(scope, project, &condition, moment).await?,
        };
        let decays = search.which.as_of.is_none() && self.decays(scope, project).await?;
        if decays {
            self.fade(scope, project, &mut pool).await?;
        }
        let found = self.chosen(scope, search, &query, pool, &condition);
        let found = self.judged(search, found.await?).await?;
        if decays {
            let hits = found.iter().filter(|one| one.missed.is_none());
            self.note_used(scope, project, hits.map(|one| &one.memory))
                .await;
        }
        Ok(found)
    }

    /// Sets the factors of decay.
    async fn fade(&self, scope: &Scope, project: &str, pool: &mut Pool) -> Result<()> {
        let cards = pool.candidates.iter().map(|pooled| &*pooled.card);
        let factors = self.factors(scope, project, cards).await?;
        for pooled in &mut pool.candidates {
            if let Some(factor) = factors.get(&pooled.card.memory_id) {
                pooled.decay = *factor;
            }
        }
        Ok(())
    }

    /// What the indexes find.
    async fn pool(
        &self,
        scope: &Scope,
        search: &Search,
        query: &Query,
        condition: &Condition,
    ) -> Result<Pool> {
        let index = &self.inner.index;
        let edition = index.serving().await?;
        let collection = edition.name.as_str();
        let texts = index.vectors.count(scope, collection, Some(condition));
        let looks = self.looks(&edition, search, query, condition);
        let (texts, looks) = tokio::try_join!(texts, looks)?;
        let hits = match looks.is_empty() {
            true => vec![],
            false => index.vectors.search(scope, collection, &looks).await?,
        };
        let (mut wanted, mut dense) = (Vec::new(), HashMap::new());
        let mut seen: HashMap<Uuid, u64> = HashMap::new();
        for (look, hits) in looks.iter().zip(&hits) {
            let new = |hit: &&Hit| seen.insert(hit.id, hit.version).is_none();
            let new = hits.iter().filter(new);
            wanted.extend(new.map(|hit| (MemoryId(hit.id), Some(hit.version))));
            if matches!(look.probe, Probe::Dense(..)) {
                dense.extend(hits.iter().map(|hit| (hit.id, hit.score)));
            }
        }
        let mut cards = self.cards(scope, &wanted).await?;
        let sources = cards.iter().flat_map(|card| &card.sources);
        let sources = sources.filter(|id| !seen.contains_key(&id.0));
        let sources: BTreeSet<MemoryId> = sources.copied().collect();
        let sources: Vec<_> = sources.into_iter().map(|id| (id, None)).collect();
        cards.extend(self.cards(scope, &sources).await?);
        // The index may be behind the records, never the other way round. What it found in the
        // version of the card meets the condition.
        let is_found = |card: &Card| seen.get(&card.memory_id.0) == Some(&card.version);
        cards.retain(|card| is_found(card) || condition.holds(&card.payload));
        let pooled = |card: Arc<Card>| Pooled {
            dense: dense.get(&card.memory_id.0).copied(),
            decay: 1.0,
            card,
        };
        let texts = usize::try_from(texts).unwrap_or(usize::MAX);
        Ok(Pool {
            texts: texts.max(cards.len()),
            candidates: cards.into_iter().map(pooled).collect(),
            memories: HashMap::new(),
        })
    }

    /// How the indexes are asked: by words, by meaning, by what the question is about.
    async fn looks(
        &self,
        edition: &Edition,
        search: &Search,
        query: &Query,
        condition: &Condition,
    ) -> Result<Vec<Look>> {
        let limit = u32::try_from(breadth(search.top_k)).unwrap_or(u32::MAX);
        let look = |probe| Look {
            probe,
            condition: Some(condition.clone()),
            limit,
            threshold: None,
            payload: false,
        };
        let mut looks = Vec::new();
        if !query.terms.is_empty() {
            let terms = query.terms.iter().map(|term| (*term, 1.0));
            looks.push(look(Probe::Sparse(WORDS.into(), Sparse::of(terms))));
        }
        if !search.keyword {
            let texts = std::slice::from_ref(&search.query);
            let vectors = edition.embed(texts).await?;
            let vector = vectors.into_iter().flatten().next();
            let vector = vector.filter(|vector| vector.iter().any(|n| *n != 0.0));
            looks.extend(vector.map(|vector| look(Probe::Dense(DENSE.into(), vector))));
        }
        let keys = query.entities.iter();
        let keys: Vec<Value> = keys.map(|one| Value::str(one.key.as_str())).collect();
        if !keys.is_empty() {
            let named = Condition::In(Field::of("entities"), keys);
            looks.push(Look {
                condition: Some(Condition::All(vec![condition.clone(), named])),
                ..look(Probe::Any)
            });
        }
        Ok(looks)
    }

    /// The newest records that meet the condition.
    async fn scan(
        &self,
        scope: &Scope,
        project: &str,
        condition: &Condition,
        as_of: Option<Timestamp>,
    ) -> Result<Pool> {
        let query = MemoryQuery {
            project: project.to_owned(),
            condition: Some(condition.clone()),
            as_of,
            ..MemoryQuery::default()
        };
        let page = PageQuery {
            limit: MAX_SCAN,
            ..PageQuery::default()
        };
        let found = self.backend().memories.list(scope, &query, &page).await?;
        let cards = self.made(scope, &found.items).await?.into_iter();
        let memories = found.items.into_iter();
        Ok(Pool {
            texts: usize::try_from(found.total).unwrap_or(usize::MAX),
            candidates: cards.map(Pooled::alone).collect(),
            memories: memories.map(|memory| (memory.memory_id, memory)).collect(),
        })
    }

    /// The best of the pool, as the records have them; those that changed since the index saw
    /// them are placed anew.
    async fn chosen(
        &self,
        scope: &Scope,
        search: &Search,
        query: &Query,
        mut pool: Pool,
        condition: &Condition,
    ) -> Result<Vec<Found>> {
        for _ in 0..MAX_ROUNDS {
            let placed = place(search, query, &pool);
            let unread = placed.iter().map(|one| one.memory_id);
            let unread = unread.filter(|id| !pool.memories.contains_key(id));
            let unread: Vec<MemoryId> = unread.collect();
            let read = self.backend().memories.get(scope, &unread, None).await?;
            let read = read.into_iter().map(|memory| (memory.memory_id, memory));
            pool.memories.extend(read);
            let is_same = |one: &&Placed| {
                let memory = pool.memories.get(&one.memory_id);
                memory.is_some_and(|memory| memory.version == one.version)
            };
            let stale = placed.iter().filter(|one| !is_same(one));
            let stale: Vec<MemoryId> = stale.map(|one| one.memory_id).collect();
            if stale.is_empty() {
                let found = placed.into_iter().filter_map(|one| {
                    Some(Found {
                        memory: pool.memories.remove(&one.memory_id)?,
                        score: one.ranked.score,
                        parts: one.ranked.parts,
                        rerank: None,
                        missed: one.missed,
                    })
                });
                return Ok(found.collect());
            }
            self.inner.cards.forget(&stale);
            let changed = stale.iter().filter_map(|id| pool.memories.get(id));
            let changed: Vec<Memory> = changed.cloned().collect();
            let mut cards = self.made(scope, &changed).await?;
            cards.retain(|card| condition.holds(&card.payload));
            pool.replace(&stale, &cards);
        }
        Err(Error::busy("the memories change faster than they are read"))
    }

    async fn judged(&self, search: &Search, mut found: Vec<Found>) -> Result<Vec<Found>> {
        let Some(reranker) = self.inner.models.rerank.as_ref().filter(|_| search.rerank) else {
            return Ok(found);
        };
        let hits = found.iter().take_while(|one| one.missed.is_none()).count();
        let texts = found[..hits].iter().map(|one| one.memory.text.clone());
        let scores = reranker
            .scores(&search.query, &texts.collect::<Vec<_>>())
            .await?;
        for (one, score) in found[..hits].iter_mut().zip(scores) {
            one.rerank = Some(score);
        }
        found[..hits].sort_by(|a, b| {
            let score = |one: &Found| one.rerank.unwrap_or(0.0);
            score(b).total_cmp(&score(a))
        });
        Ok(found)
    }

    /// One page of memories.
    ///
    /// # Errors
    /// `Invalid` for a filter or page that is none.
    pub async fn list(
        &self,
        scope: &Scope,
        project: &str,
        which: &Which,
        page: &PageQuery,
    ) -> Result<Page<Memory>> {
        let query = MemoryQuery {
            project: project.to_owned(),
            condition: Some(which.condition(project, self.now())?),
            as_of: which.as_of,
            ..MemoryQuery::default()
        };
        self.backend().memories.list(scope, &query, page).await
    }

    /// The newest memories.
    pub(super) async fn newest(
        &self,
        scope: &Scope,
        project: &str,
        which: &Which,
        limit: u32,
    ) -> Result<Vec<Memory>> {
        let query = MemoryQuery {
            project: project.to_owned(),
            condition: Some(which.condition(project, self.now())?),
            as_of: which.as_of,
            uncounted: true,
            ..MemoryQuery::default()
        };
        let page = PageQuery {
            limit,
            ..PageQuery::default()
        };
        let found = self.backend().memories.list(scope, &query, &page).await?;
        Ok(found.items)
    }

    /// A memory, as it was at a moment if one is named.
    ///
    /// # Errors
    /// `NotFound` without it.
    pub async fn get(
        &self,
        scope: &Scope,
        project: &str,
        id: MemoryId,
        as_of: Option<Timestamp>,
    ) -> Result<Memory> {
        let found = self.backend().memories.get(scope, &[id], as_of).await?;
        let own = found.into_iter().find(|memory| memory.project == project);
        own.ok_or_else(super::not_found)
    }

    /// Those of the memories that exist.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn some(
        &self,
        scope: &Scope,
        project: &str,
        ids: &[MemoryId],
    ) -> Result<Vec<Memory>> {
        let mut found = self.backend().memories.get(scope, ids, None).await?;
        found.retain(|memory| memory.project == project);
        Ok(found)
    }

    /// All versions of a memory, the first one first; also of one that is gone.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn history(&self, scope: &Scope, project: &str, id: MemoryId) -> Result<Vec<Memory>> {
        let mut versions = self.backend().memories.versions(scope, id).await?;
        versions.retain(|memory| memory.project == project);
        Ok(versions)
    }

    /// Versions of all memories, the last one first.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn changes(
        &self,
        scope: &Scope,
        project: &str,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Memory>> {
        let memories = &self.backend().memories;
        memories.changes(scope, project, limit, offset).await
    }

    /// Users, agents, apps and runs that have memories.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn entities(
        &self,
        scope: &Scope,
        project: &str,
        kind: Option<OwnerKind>,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Owning>> {
        let memories = &self.backend().memories;
        memories.owners(scope, project, kind, limit, offset).await
    }
}
