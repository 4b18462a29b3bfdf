//! Sparse vectors in memory: for each word the points that have it.

use std::collections::HashMap;

use agentflow_storage::vector::Sparse;
use roaring::RoaringBitmap;

/// Entries of a word up to which removed ones are not worth tidying up.
const TIDY_FROM: usize = 64;

/// Words of points, by slot.
#[derive(Default)]
pub(super) struct Postings {
    words: HashMap<u32, Entries>,
    /// Slots that have such a vector.
    has: RoaringBitmap,
    entries: usize,
}

/// Points of a word with its weight in each; removed ones among them.
#[derive(Default)]
struct Entries {
    all: Vec<(u32, f32)>,
    removed: usize,
}

impl Postings {
    /// Slots that have such a vector.
    pub(super) fn has(&self) -> &RoaringBitmap {
        &self.has
    }

    pub(super) fn put(&mut self, slot: u32, vector: &Sparse) {
        self.has.insert(slot);
        self.entries += vector.indices.len();
        for (word, weight) in vector.iter() {
            self.words.entry(word).or_default().all.push((slot, weight));
        }
    }

    /// Removes a point with the words that it was put with.
    pub(super) fn remove(&mut self, slot: u32, vector: &Sparse) {
        self.has.remove(slot);
        for word in &vector.indices {
            let Some(entries) = self.words.get_mut(word) else {
                continue;
            };
            entries.removed += 1;
            if entries.removed == entries.all.len() {
                self.entries -= entries.all.len();
                self.words.remove(word);
            } else if entries.all.len() >= TIDY_FROM && entries.removed * 2 > entries.all.len() {
                self.entries -= entries.removed;
                entries.all.retain(|(slot, _)| self.has.contains(*slot));
                entries.removed = 0;
            }
        }
    }

    /// What the words in common are worth, for each slot below `slots` that has one of them.
    ///
    /// `wanted`: words, each with its weight times its rarity.
    pub(super) fn scores(&self, wanted: &[(u32, f32)], slots: usize) -> Vec<(f32, u32)> {
        let found = wanted
            .iter()
            .filter_map(|(word, worth)| Some((&self.words.get(word)?.all, *worth)));
        let found: Vec<_> = found.collect();
        let longest = found.iter().map(|(all, _)| all.len()).max().unwrap_or(0);
        let total: usize = found.iter().map(|(all, _)| all.len()).sum();
        if total * 8 < slots {
            // Few points: looking at each slot would take longer.
            let mut sums: HashMap<u32, f32> = HashMap::with_capacity(longest);
            for (all, worth) in found {
                for (slot, weight) in all {
                    *sums.entry(*slot).or_default() += worth * weight;
                }
            }
            return sums.into_iter().map(|(slot, sum)| (sum, slot)).collect();
        }
        // No word in common is not the same as words that are worth nothing.
        let mut sums = vec![f32::NAN; slots];
        for (all, worth) in found {
            for (slot, weight) in all {
                let sum = &mut sums[*slot as usize];
                let more = worth * weight;
                *sum = if sum.is_nan() { more } else { *sum + more };
            }
        }
        let sums = sums.into_iter().zip(0..);
        sums.filter(|(sum, _)| !sum.is_nan()).collect()
    }

    /// The same with other slots: `slots` names the new one of each that is kept.
    pub(super) fn moved(&self, slots: &[Option<u32>]) -> Self {
        let new = |slot: u32| slots.get(slot as usize).copied().flatten();
        let mut moved = Self {
            has: self.has.iter().filter_map(new).collect(),
            ..Self::default()
        };
        for (word, entries) in &self.words {
            let all = entries.all.iter();
            let all: Vec<_> = all
                .filter(|(slot, _)| self.has.contains(*slot))
                .filter_map(|(slot, weight)| Some((new(*slot)?, *weight)))
                .collect();
            if !all.is_empty() {
                moved.entries += all.len();
                moved.words.insert(*word, Entries { all, removed: 0 });
            }
        }
        moved
    }

    /// Bytes of memory, about.
    pub(super) fn size_bytes(&self) -> usize {
        self.entries * size_of::<(u32, f32)>() + self.words.len() * 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut scores: Vec<(f32, u32)>) -> Vec<(f32, u32)> {
        scores.sort_by_key(|(_, slot)| *slot);
        scores
    }

    #[test]
    fn both_ways_of_adding_up_agree_and_removed_points_are_left_out() {
        let mut postings = Postings::default();
        let vector = |slot: u32| Sparse::of([(slot % 3, 1.0), (100 + slot % 7, 2.0)]);
        for slot in 0..300 {
            postings.put(slot, &vector(slot));
        }
        for slot in (0..300_u32).filter(|slot| !slot.is_multiple_of(4)) {
            postings.remove(slot, &vector(slot));
        }
        let wanted = [(0, 0.5), (103, 1.0), (999, 1.0)];
        let live = |scores: Vec<(f32, u32)>| {
            let live = scores
                .into_iter()
                .filter(|(_, s)| postings.has().contains(*s));
            sorted(live.collect())
        };
        let dense = live(postings.scores(&wanted, 300));
        let hashed = live(postings.scores(&wanted, 1_000_000));
        assert_eq!(dense, hashed);
        let expected = (0..300).step_by(4).filter_map(|slot: u32| {
            let sum = f32::from(slot.is_multiple_of(3)) * 0.5 + f32::from(slot % 7 == 3) * 2.0;
            (sum > 0.0).then_some((sum, slot))
        });
        assert_eq!(dense, expected.collect::<Vec<_>>());

        let slots: Vec<Option<u32>> = (0..300_u32)
            .map(|slot| slot.is_multiple_of(4).then_some(slot / 4))
            .collect();
        let moved = sorted(postings.moved(&slots).scores(&wanted, 75));
        let before = dense.iter().map(|(sum, slot)| (*sum, slot / 4));
        assert_eq!(moved, before.collect::<Vec<_>>());
    }
}
