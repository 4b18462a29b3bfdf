//! Dense vectors in memory: rows of one length, by slot.

use pulp::Arch;
use roaring::RoaringBitmap;

/// Rows of one piece of memory; a growing index never copies what it has.
const PIECE: usize = 1024;
/// Sums that are added up side by side; as many as the widest registers hold.
const LANES: usize = 16;

/// Unit vectors by slot.
pub(super) struct Rows {
    dimension: usize,
    /// `[PIECE, dimension]` each, the last one as far as it is filled.
    pieces: Vec<Vec<f32>>,
    /// Slots that have a vector.
    has: RoaringBitmap,
}

impl Rows {
    pub(super) fn new(dimension: u32) -> Self {
        Self {
            dimension: dimension as usize,
            pieces: Vec::new(),
            has: RoaringBitmap::new(),
        }
    }

    /// Slots that have a vector.
    pub(super) fn has(&self) -> &RoaringBitmap {
        &self.has
    }

    /// Keeps the direction of a vector.
    pub(super) fn put(&mut self, slot: u32, vector: &[f32]) {
        self.place(slot).copy_from_slice(&unit(vector));
    }

    /// The row of a slot, which has a vector from now on.
    fn place(&mut self, slot: u32) -> &mut [f32] {
        self.has.insert(slot);
        let index = slot as usize;
        while self.pieces.len() <= index / PIECE {
            if let Some(full) = self.pieces.last_mut() {
                full.resize(PIECE * self.dimension, 0.0);
                full.shrink_to_fit();
            }
            self.pieces.push(Vec::new());
        }
        let start = index % PIECE * self.dimension;
        let piece = &mut self.pieces[index / PIECE];
        // The last one grows: most tenants have few points.
        if piece.len() < start + self.dimension {
            piece.resize(start + self.dimension, 0.0);
        }
        &mut piece[start..start + self.dimension]
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.has.remove(slot);
    }

    /// The unit vector of a slot that has one.
    pub(super) fn row(&self, slot: u32) -> &[f32] {
        let start = slot as usize % PIECE * self.dimension;
        &self.pieces[slot as usize / PIECE][start..start + self.dimension]
    }

    /// The cosines of these slots, which all have a vector, with a unit vector.
    pub(super) fn cosines(
        &self,
        wanted: &[f32],
        slots: impl Iterator<Item = u32>,
    ) -> Vec<(f32, u32)> {
        Arch::new().dispatch(|| {
            slots
                .map(|slot| (product(wanted, self.row(slot)), slot))
                .collect()
        })
    }

    /// The same with other slots: `slots` names the new one of each that is kept.
    pub(super) fn moved(&self, slots: &[Option<u32>]) -> Self {
        let mut moved = Self::new(self.dimension as u32);
        for old in &self.has {
            if let Some(new) = slots.get(old as usize).copied().flatten() {
                moved.place(new).copy_from_slice(self.row(old));
            }
        }
        moved
    }

    /// Bytes of memory.
    pub(super) fn size_bytes(&self) -> usize {
        let last = self.pieces.last().map_or(0, Vec::capacity);
        let full = self.pieces.len().saturating_sub(1) * PIECE * self.dimension;
        (full + last) * size_of::<f32>()
    }
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
    let mut sums = [[0.0_f32; LANES]; 2];
    for (index, (a, b)) in a.iter().zip(b).enumerate() {
        let sums = &mut sums[index % 2];
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    let [even, odd] = sums;
    even.iter().zip(odd).map(|(a, b)| a + b).sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

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
