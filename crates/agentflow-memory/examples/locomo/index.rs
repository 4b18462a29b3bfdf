//! Stand-ins for the indexes: exact, in memory. What is done with their hits is the product's.

use std::collections::{HashMap, HashSet};

use agentflow_memory::{
    retrieval::{self, BM25, Candidate, Kind, Query, Weights, asks, breadth, rank},
    text::{Entity, Language, Sparse, Statistics, bm25, entities},
};
use agentflow_minilm::Embedder;
use agentflow_models::Embed;
use anyhow::Result;
use jiff::civil::Date;

use crate::{MODEL, data::Conversation};

/// Results that a search is for.
const WANTED: usize = 50;

/// Something that can be found.
struct Entry {
    kind: Kind,
    vector: Vec<f32>,
    terms: Sparse,
    speaker: Option<String>,
    entities: Vec<Entity>,
    asks: f32,
    session: u64,
    day: Date,
    /// Places among the entries; turns come first and have the places of the conversation.
    sources: Vec<usize>,
}

/// One conversation's texts.
pub struct Index {
    entries: Vec<Entry>,
    turns: usize,
}

/// How rare terms are among all conversations, as a shared index knows it.
pub type Rarity = HashMap<u32, f32>;

impl Index {
    /// Embeds and analyses turns and facts.
    pub async fn build(conversation: &Conversation, embedder: &Embedder) -> Result<Self> {
        let said: Vec<String> = conversation
            .turns
            .iter()
            .map(|turn| format!("{}: {}", turn.speaker, turn.text))
            .collect();
        let facts = conversation.facts.iter().map(|fact| fact.text.clone());
        let texts: Vec<String> = said.iter().cloned().chain(facts).collect();
        let mut vectors = embedder.embed(MODEL, &texts).await?.into_iter();
        let mut entries = Vec::new();
        for (place, turn) in conversation.turns.iter().enumerate() {
            let same = |other: &usize| conversation.turns[*other].session == turn.session;
            let before: Vec<&str> = (0..place)
                .rev()
                .take(2)
                .filter(same)
                .map(|other| said[other].as_str())
                .collect();
            let terms =
                retrieval::stored_terms(&said[place], &before, Some(turn.day), Language::English);
            entries.push(Entry {
                kind: Kind::Turn,
                vector: vectors.next().unwrap_or_default(),
                terms: BM25.vector(&terms),
                speaker: Some(turn.speaker.clone()),
                entities: entities(&turn.text, Language::English),
                asks: asks(&turn.text),
                session: turn.session,
                day: turn.day,
                sources: Vec::new(),
            });
        }
        for fact in &conversation.facts {
            let terms = retrieval::stored_terms(&fact.text, &[], Some(fact.day), Language::English);
            entries.push(Entry {
                kind: Kind::Fact,
                vector: vectors.next().unwrap_or_default(),
                terms: BM25.vector(&terms),
                speaker: None,
                entities: entities(&fact.text, Language::English),
                asks: 0.0,
                session: fact.session,
                day: fact.day,
                sources: fact.sources.clone(),
            });
        }
        Ok(Self {
            entries,
            turns: conversation.turns.len(),
        })
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Turns by cosine alone.
    pub fn dense(&self, vector: &[f32]) -> Vec<usize> {
        best(self.scores(0..self.turns, |entry| cosine(vector, &entry.vector)))
    }

    /// Turns by words alone, with exact statistics of the conversation.
    pub fn lexical(&self, query: &Query) -> Vec<usize> {
        let turns = &self.entries[..self.turns];
        let terms = turns.iter().map(|turn| &turn.terms);
        let statistics = Statistics::of_candidates(self.turns, &query.terms, terms);
        let asked = statistics.weights(&query.terms);
        best(self.scores(0..self.turns, |entry| bm25::score(&asked, &entry.terms)))
    }

    /// Turns as the product finds them, from turns alone or from turns and facts.
    pub fn fused(
        &self,
        query: &Query,
        vector: &[f32],
        rarity: &Rarity,
        weights: &Weights,
        with_facts: bool,
    ) -> Vec<usize> {
        let mut found = self.candidates(query, vector, rarity, 0..self.turns);
        if with_facts {
            found.extend(self.candidates(query, vector, rarity, self.turns..self.len()));
            let facts: Vec<usize> = found.iter().copied().collect();
            found.extend(facts.iter().flat_map(|fact| &self.entries[*fact].sources));
        }
        let mut places: Vec<usize> = found.into_iter().collect();
        places.sort_unstable();
        let sources: Vec<Vec<usize>> = places
            .iter()
            .map(|place| {
                let sources = self.entries[*place].sources.iter();
                sources
                    .filter_map(|turn| places.binary_search(turn).ok())
                    .collect()
            })
            .collect();
        let candidates: Vec<Candidate<'_>> = places
            .iter()
            .zip(&sources)
            .map(|(place, sources)| self.candidate(query, vector, *place, sources))
            .collect();
        let texts = match with_facts {
            true => self.len(),
            false => self.turns,
        };
        rank(query, texts, &candidates, weights)
            .into_iter()
            .map(|hit| places[hit.candidate])
            .filter(|place| *place < self.turns)
            .collect()
    }

    /// The union of what the three indexes find among some entries.
    fn candidates(
        &self,
        query: &Query,
        vector: &[f32],
        rarity: &Rarity,
        among: std::ops::Range<usize>,
    ) -> HashSet<usize> {
        let asked: Vec<(u32, f32)> = query
            .terms
            .iter()
            .map(|term| (*term, rarity.get(term).copied().unwrap_or_default()))
            .collect();
        let most = breadth(WANTED);
        let dense = self.scores(among.clone(), |entry| cosine(vector, &entry.vector));
        let lexical = self.scores(among.clone(), |entry| bm25::score(&asked, &entry.terms));
        let related = self.scores(among, |entry| {
            query.fit(
                None,
                entry.entities.iter().map(|entity| entity.key.as_str()),
            )
        });
        let mut found: HashSet<usize> = best(dense).into_iter().take(most).collect();
        for scores in [lexical, related] {
            let hits: Vec<_> = scores
                .into_iter()
                .filter(|(_, score)| *score > 0.0)
                .collect();
            found.extend(best(hits).into_iter().take(most));
        }
        found
    }

    fn candidate<'a>(
        &'a self,
        query: &Query,
        vector: &[f32],
        place: usize,
        sources: &'a [usize],
    ) -> Candidate<'a> {
        let entry = &self.entries[place];
        let keys = entry.entities.iter().map(|entity| entity.key.as_str());
        Candidate {
            kind: entry.kind,
            dense: Some(cosine(vector, &entry.vector)),
            terms: &entry.terms,
            entity: query.fit(entry.speaker.as_deref(), keys),
            asks: entry.asks,
            session: Some(entry.session),
            day: Some(entry.day),
            sources,
            decay: 1.0,
        }
    }

    fn scores(
        &self,
        among: std::ops::Range<usize>,
        score: impl Fn(&Entry) -> f32,
    ) -> Vec<(usize, f32)> {
        among
            .map(|place| (place, score(&self.entries[place])))
            .collect()
    }
}

/// How rare terms are among the texts of all indexes.
pub fn rarity(indexes: &[Index]) -> Rarity {
    let mut holding: HashMap<u32, usize> = HashMap::new();
    for term in indexes
        .iter()
        .flat_map(|index| &index.entries)
        .flat_map(|entry| &entry.terms.terms)
    {
        *holding.entry(*term).or_default() += 1;
    }
    let texts = indexes.iter().map(Index::len).sum();
    let statistics = Statistics::exact(texts, holding.iter().map(|(term, n)| (*term, *n)));
    holding
        .keys()
        .map(|term| (*term, statistics.weight(*term)))
        .collect()
}

fn best(mut scores: Vec<(usize, f32)>) -> Vec<usize> {
    scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    scores.into_iter().map(|(place, _)| place).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
