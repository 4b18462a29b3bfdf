//! Dense vectors in memory: rows of one length, by slot.

use std::sync::{Arc, OnceLock};

use pulp::{Arch, NullaryFnOnce};
use roaring::RoaringBitmap;

use super::{
    coarse::{self, Wanted},
    graph::Graph,
};

/// Rows of one piece of memory; a growing index never copies what it has.
pub(super) const PIECE: usize = 1024;
/// Sums that are added up side by side: as many as four registers hold, so that one need not wait
/// for the other.
const LANES: usize = 32;

/// Rows that do not change any more, shared with whoever links them.
#[derive(Clone)]
pub(super) struct Pieces {
    dimension: usize,
    /// `[PIECE, dimension]` each.
    full: Vec<Arc<[f32]>>,
    /// The same, coarsely.
    coarse: Vec<Arc<coarse::Piece>>,
}

impl Pieces {
    /// Slots below this one have their rows here.
    pub(super) fn full_slots(&self) -> usize {
        self.full.len() * PIECE
    }

    /// A row of a full piece, to look for what is near it.
    pub(super) fn wanted(&self, slot: u32) -> Wanted<'_> {
        self.coarse[slot as usize / PIECE].wanted(slot, self.dimension)
    }

    /// About the cosines of these slots, which are in full pieces; in their order.
    pub(super) fn near(&self, wanted: &Wanted<'_>, slots: &[u32], into: &mut Vec<(f32, u32)>) {
        coarse::cosines((&self.coarse, self.dimension), wanted, slots, into);
    }

    /// The cosines of these slots with a unit vector, in their order.
    pub(super) fn cosines(&self, wanted: &[f32], slots: &[u32], into: &mut Vec<(f32, u32)>) {
        into.clear();
        let last = &[];
        Arch::new().dispatch(Products {
            pieces: self,
            last,
            wanted,
            slots,
            into,
        });
    }
}

/// Unit vectors by slot; a slot is written once.
pub(super) struct Rows {
    pieces: Pieces,
    /// The piece that is being filled.
    last: Vec<f32>,
    /// Slots that have a vector.
    has: RoaringBitmap,
    /// Links between the vectors in full pieces, once there are many.
    graph: OnceLock<Arc<Graph>>,
}

impl Rows {
    pub(super) fn new(dimension: u32) -> Self {
        Self {
            pieces: Pieces {
                dimension: dimension as usize,
                full: Vec::new(),
                coarse: Vec::new(),
            },
            last: Vec::new(),
            has: RoaringBitmap::new(),
            graph: OnceLock::new(),
        }
    }

    /// Slots that have a vector.
    pub(super) fn has(&self) -> &RoaringBitmap {
        &self.has
    }

    pub(super) fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// Keeps the direction of a vector.
    pub(super) fn put(&mut self, slot: u32, vector: &[f32]) {
        self.place(slot).copy_from_slice(&unit(vector));
    }

    /// The row of a slot, which has a vector from now on.
    fn place(&mut self, slot: u32) -> &mut [f32] {
        self.has.insert(slot);
        let dimension = self.pieces.dimension;
        while slot as usize / PIECE > self.pieces.full.len() {
            let mut full = std::mem::take(&mut self.last);
            full.resize(PIECE * dimension, 0.0);
            let coarse = coarse::Piece::of(&full, dimension);
            self.pieces.coarse.push(Arc::new(coarse));
            self.pieces.full.push(full.into());
        }
        let start = slot as usize % PIECE * dimension;
        self.last.resize(start + dimension, 0.0);
        &mut self.last[start..]
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.has.remove(slot);
    }

    /// The cosines of these slots, which all have a vector, with a unit vector.
    pub(super) fn cosines(
        &self,
        wanted: &[f32],
        slots: impl Iterator<Item = u32>,
    ) -> Vec<(f32, u32)> {
        let slots: Vec<u32> = slots.collect();
        let mut cosines = Vec::new();
        Arch::new().dispatch(Products {
            pieces: &self.pieces,
            last: &self.last,
            wanted,
            slots: &slots,
            into: &mut cosines,
        });
        cosines
    }

    /// About so many of the nearest of these slots, with their cosines: each is looked at coarsely,
    /// which takes a quarter of the time, and the best by their rows.
    pub(super) fn nearest(
        &self,
        wanted: &[f32],
        slots: &RoaringBitmap,
        many: usize,
    ) -> Vec<(f32, u32)> {
        let full = self.pieces.full_slots() as u32;
        let in_full: Vec<u32> = slots.range(..full).collect();
        let mut near = Vec::new();
        self.pieces.near(&Wanted::of(wanted), &in_full, &mut near);
        if many < near.len() {
            near.select_nth_unstable_by(many, |a, b| b.0.total_cmp(&a.0));
            near.truncate(many);
        }
        let best = near.into_iter().map(|(_, slot)| slot);
        self.cosines(wanted, best.chain(slots.range(full..)))
    }

    /// The links, if there are any yet.
    pub(super) fn graph(&self) -> Option<&Arc<Graph>> {
        self.graph.get().filter(|graph| graph.covered() > 0)
    }

    /// The links that are to be made, if a full piece lacks them.
    pub(super) fn unlinked(&self) -> Option<&Arc<Graph>> {
        let graph = self.graph.get_or_init(|| Arc::new(Graph::new()));
        (graph.covered() < self.pieces.full_slots()).then_some(graph)
    }

    /// The same with other slots: `slots` names the new one of each that is kept, in their order.
    pub(super) fn moved(&self, slots: &[Option<u32>]) -> Self {
        let mut moved = Self::new(self.pieces.dimension as u32);
        for old in &self.has {
            if let Some(new) = slots.get(old as usize).copied().flatten() {
                moved
                    .place(new)
                    .copy_from_slice(row(&self.pieces, &self.last, old));
            }
        }
        moved
    }

    /// Bytes of memory, without the links, which come by themselves.
    pub(super) fn size_bytes(&self) -> usize {
        let full = self.pieces.full_slots() * self.pieces.dimension;
        // A coarse row has a byte for each number.
        full + (full + self.last.capacity()) * size_of::<f32>()
    }
}

/// Products with rows. All of it is inlined into what is compiled for the processor: a function
/// that is called from there, as an iterator's may be, is compiled for any.
struct Products<'a> {
    pieces: &'a Pieces,
    last: &'a [f32],
    wanted: &'a [f32],
    slots: &'a [u32],
    into: &'a mut Vec<(f32, u32)>,
}

impl NullaryFnOnce for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.into.reserve(self.slots.len());
        for slot in self.slots {
            let row = row(self.pieces, self.last, *slot);
            self.into.push((product(self.wanted, row), *slot));
        }
    }
}

#[inline(always)]
fn row<'a>(pieces: &'a Pieces, last: &'a [f32], slot: u32) -> &'a [f32] {
    let start = slot as usize % PIECE * pieces.dimension;
    let piece = match pieces.full.get(slot as usize / PIECE) {
        Some(full) => full,
        None => last,
    };
    &piece[start..start + pieces.dimension]
}

/// The vector of length 1 in this direction.
pub(super) fn unit(vector: &[f32]) -> Vec<f32> {
    // In double precision: a square may be too large or too small for a float.
    let squares: f64 = vector.iter().map(|n| f64::from(*n) * f64::from(*n)).sum();
    let length = squares.sqrt();
    vector
        .iter()
        .map(|n| (f64::from(*n) / length) as f32)
        .collect()
}

/// The sum of products; compiled for the processor that it runs on, within a dispatch.
#[inline(always)]
fn product(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarse_look_finds_the_nearest() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut vector = || -> Vec<f32> { (0..64).map(|_| random.f32() - 0.5).collect() };
        let mut rows = Rows::new(64);
        for slot in 0..3 * PIECE as u32 {
            rows.put(slot, &vector());
        }
        rows.remove(5);
        let order = |mut found: Vec<(f32, u32)>| -> Vec<u32> {
            found.sort_by(|a, b| b.0.total_cmp(&a.0));
            found.into_iter().take(10).map(|(_, slot)| slot).collect()
        };
        for _ in 0..50 {
            let wanted = unit(&vector());
            let exact = order(rows.cosines(&wanted, rows.has().iter()));
            assert_eq!(order(rows.nearest(&wanted, rows.has(), 40)), exact);
        }
    }

    #[test]
    fn cosines_are_those_of_the_vectors_as_they_were_given() {
        for dimension in [1, 3, 16, 33, 384] {
            let vector = |n: usize| -> Vec<f32> {
                let numbers = (0..dimension).map(|i| ((i * 7 + n * 13) % 11) as f32 - 4.5);
                numbers.collect()
            };
            let mut rows = Rows::new(dimension as u32);
            for n in [0, 1, 1500] {
                rows.put(n, &vector(n as usize));
            }
            rows.remove(1);
            let wanted = vector(3);
            let found = rows.cosines(&unit(&wanted), rows.has().iter());
            assert_eq!(
                found.iter().map(|(_, slot)| *slot).collect::<Vec<_>>(),
                [0, 1500]
            );
            for (cosine, slot) in found {
                let other = vector(slot as usize);
                let product = |a: &[f32], b: &[f32]| -> f64 {
                    a.iter()
                        .zip(b)
                        .map(|(a, b)| f64::from(*a) * f64::from(*b))
                        .sum()
                };
                let lengths = (product(&other, &other) * product(&wanted, &wanted)).sqrt();
                let exact = product(&other, &wanted) / lengths;
                assert!(
                    (f64::from(cosine) - exact).abs() < 1e-5,
                    "{cosine} is not {exact}"
                );
            }
        }
    }
}
