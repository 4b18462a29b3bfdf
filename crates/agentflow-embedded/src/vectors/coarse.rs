//! Rows in a quarter of the memory: a number is a byte. Walks look at them, because what a walk
//! waits for is memory; what it found is judged by the rows themselves.

use std::{borrow::Cow, sync::Arc};

use pulp::{Arch, NullaryFnOnce};

use super::rows::PIECE;

/// The largest number of a coarse row.
const MOST: f32 = 127.0;
/// Products that are added up before they are widened: as many as a wide register holds.
const LANES: usize = 64;

/// Coarse rows of a piece.
pub(super) struct Piece {
    /// `[PIECE, dimension]`.
    numbers: Box<[i8]>,
    /// What the numbers of a row are to be multiplied with.
    scales: Box<[f32]>,
}

impl Piece {
    /// Of rows `[PIECE, dimension]`.
    pub(super) fn of(rows: &[f32], dimension: usize) -> Self {
        let mut numbers = Vec::with_capacity(rows.len());
        let mut scales = Vec::with_capacity(PIECE);
        for row in rows.chunks_exact(dimension) {
            scales.push(round(row, &mut numbers));
        }
        Self {
            numbers: numbers.into(),
            scales: scales.into(),
        }
    }

    /// A row of this piece, to look for what is near it.
    pub(super) fn wanted(&self, slot: u32, dimension: usize) -> Wanted<'_> {
        let (numbers, scale) = self.row(slot, dimension);
        Wanted {
            numbers: numbers.into(),
            scale,
        }
    }

    #[inline(always)]
    fn row(&self, slot: u32, dimension: usize) -> (&[i8], f32) {
        let at = slot as usize % PIECE;
        let numbers = &self.numbers[at * dimension..(at + 1) * dimension];
        (numbers, self.scales[at])
    }
}

/// What is looked for, as a coarse row.
pub(super) struct Wanted<'a> {
    numbers: Cow<'a, [i8]>,
    scale: f32,
}

impl Wanted<'static> {
    pub(super) fn of(row: &[f32]) -> Self {
        let mut numbers = Vec::with_capacity(row.len());
        let scale = round(row, &mut numbers);
        Self {
            numbers: numbers.into(),
            scale,
        }
    }
}

fn round(row: &[f32], into: &mut Vec<i8>) -> f32 {
    let most = row.iter().fold(0.0_f32, |most, n| most.max(n.abs()));
    let scale = if most > 0.0 { most / MOST } else { 1.0 };
    into.extend(row.iter().map(|n| (n / scale).round() as i8));
    scale
}

/// The cosines of these slots, about, with what is wanted; in their order.
pub(super) fn cosines(
    (pieces, dimension): (&[Arc<Piece>], usize),
    wanted: &Wanted<'_>,
    slots: &[u32],
    into: &mut Vec<(f32, u32)>,
) {
    into.clear();
    Arch::new().dispatch(Products {
        pieces,
        dimension,
        wanted,
        slots,
        into,
    });
}

/// Products with rows; inlined as [`super::rows`] says.
struct Products<'a> {
    pieces: &'a [Arc<Piece>],
    dimension: usize,
    wanted: &'a Wanted<'a>,
    slots: &'a [u32],
    into: &'a mut Vec<(f32, u32)>,
}

impl NullaryFnOnce for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.into.reserve(self.slots.len());
        for slot in self.slots {
            let piece = &self.pieces[*slot as usize / PIECE];
            let (row, scale) = piece.row(*slot, self.dimension);
            let product = product(&self.wanted.numbers, row) as f32;
            self.into.push((product * scale * self.wanted.scale, *slot));
        }
    }
}

/// The sum of products; compiled for the processor that it runs on, within a dispatch.
#[inline(always)]
fn product(a: &[i8], b: &[i8]) -> i32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sum = 0;
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sum += i32::from(i16::from(a[lane]) * i16::from(b[lane]));
        }
    }
    let rest = a_rest.iter().zip(b_rest);
    sum + rest
        .map(|(a, b)| i32::from(*a) * i32::from(*b))
        .sum::<i32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_cosines_are_near() {
        let mut random = fastrand::Rng::with_seed(1);
        for dimension in [1, 3, 64, 100, 384] {
            let mut rows = Vec::new();
            for _ in 0..PIECE {
                let row: Vec<f32> = (0..dimension).map(|_| random.f32() - 0.5).collect();
                rows.extend(super::super::rows::unit(&row));
            }
            let wanted = rows[..dimension].to_vec();
            let piece = [Arc::new(Piece::of(&rows, dimension))];
            let mut found = Vec::new();
            let slots: Vec<u32> = (0..PIECE as u32).collect();
            cosines(
                (&piece, dimension),
                &Wanted::of(&wanted),
                &slots,
                &mut found,
            );
            for ((cosine, slot), row) in found.iter().zip(rows.chunks(dimension)) {
                let exact: f32 = row.iter().zip(&wanted).map(|(a, b)| a * b).sum();
                assert!((cosine - exact).abs() < 0.012, "{slot}: {cosine}, {exact}");
            }
        }
    }

    #[test]
    fn a_row_of_nothing_is_near_nothing() {
        let piece = [Arc::new(Piece::of(&vec![0.0; PIECE * 4], 4))];
        let mut found = Vec::new();
        let wanted = Wanted::of(&[1.0, 0.0, 0.0, 0.0]);
        cosines((&piece, 4), &wanted, &[7], &mut found);
        assert_eq!(found, [(0.0, 7)]);
    }
}
