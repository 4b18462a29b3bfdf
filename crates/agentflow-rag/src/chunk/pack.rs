//! Fills chunks up to a size, ending each at the best place.

use std::ops::Range;

use super::{
    bounds::{Bound, Bounds, Rank, anywhere},
    measure::Measure,
};

/// Tries to make a chunk smaller that by itself is larger than its place in the text said.
const TRIES: usize = 4;

/// Cuts one text, or a range of it.
pub(super) struct Packer<'a> {
    text: &'a str,
    bounds: &'a Bounds,
    measure: &'a dyn Measure,
    size: usize,
    overlap: usize,
    end: usize,
}

impl<'a> Packer<'a> {
    pub fn new(
        text: &'a str,
        bounds: &'a Bounds,
        measure: &'a dyn Measure,
        size: usize,
        overlap: usize,
    ) -> Self {
        Self {
            text,
            bounds,
            measure,
            size,
            overlap,
            end: text.len(),
        }
    }

    /// The chunks of the whole text. Stops when there are more than `most`.
    pub fn pack(self, most: usize) -> Vec<Range<usize>> {
        let whole = 0..self.text.len();
        self.range(whole, most)
    }

    /// The chunks of a range of the text.
    pub fn range(mut self, range: Range<usize>, most: usize) -> Vec<Range<usize>> {
        self.end = range.end;
        let mut chunks: Vec<Range<usize>> = Vec::new();
        let (mut start, mut done) = (range.start, range.start);
        while done < range.end && chunks.len() <= most {
            let end = self.chunk_end(start, done);
            chunks.push(start..end);
            done = end;
            start = self.next_start(start, end);
        }
        chunks
    }

    /// Where a chunk ends that begins at `start`, when everything up to `done` is in chunks already.
    fn chunk_end(&self, start: usize, done: usize) -> usize {
        let mut size = self.size;
        for _ in 0..TRIES {
            let end = self.place_to_end(start, done, size);
            let found = self.measure.size(start, end);
            let excess = found.saturating_sub(self.size);
            if excess == 0 {
                return end;
            }
            if size <= excess {
                break;
            }
            size -= excess;
        }
        self.halved(start, done, self.place_to_end(start, done, size))
    }

    /// An end that comes earlier, until the chunk has its size or nothing is left to leave out.
    fn halved(&self, start: usize, done: usize, mut end: usize) -> usize {
        let from = start.max(done);
        while self.measure.size(start, end) > self.size {
            let mut half = (from..=from + (end - from) / 2).rev();
            let half = half.find(|at| self.text.is_char_boundary(*at));
            let smaller = anywhere(self.text, from, half.unwrap_or(from));
            if smaller >= end {
                break;
            }
            end = smaller;
        }
        end
    }

    fn place_to_end(&self, start: usize, done: usize, size: usize) -> usize {
        let before = self.measure.before(start);
        let reach = self.measure.reach(before + size).min(self.end);
        if reach == self.end {
            return self.end;
        }
        // Well filled, and with enough that is new: a paragraph that ends just behind the overlap
        // would make a chunk that says the same again.
        let new = size.saturating_sub(self.overlap) / 2;
        let filled = self.measure.reach(before + size / 2);
        let new = self.measure.reach(self.measure.before(done) + new);
        let least = filled.max(new).max(done + 1);
        let good = self.bounds.within(least, reach);
        if let Some(bound) = best(good) {
            return bound.at as usize;
        }
        if let Some(bound) = self.bounds.within(done + 1, reach).last() {
            return bound.at as usize;
        }
        // From what is in chunks already on, if the next piece is not too large for that.
        let from = start.max(done);
        anywhere(self.text, from, reach.max(from)).min(self.end)
    }

    /// Where the next chunk begins: as early as the overlap allows, at a sentence if there is one.
    fn next_start(&self, start: usize, end: usize) -> usize {
        if self.overlap == 0 || end >= self.end {
            return end;
        }
        let last = self.measure.before(end);
        let earliest = self.measure.reach(last.saturating_sub(self.overlap));
        let earliest = earliest.max(start + 1);
        if earliest >= end {
            return end;
        }
        let bounds = self.bounds.within(earliest, end - 1);
        let sentence = bounds.iter().find(|bound| bound.rank <= Rank::Sentence);
        match sentence.or(bounds.first()) {
            Some(bound) => bound.at as usize,
            None => self.grapheme_from(earliest, start, end),
        }
    }

    /// The first place at or behind a byte that is between graphemes, where there are no words. It
    /// is looked for from `start` on, which is one.
    fn grapheme_from(&self, byte: usize, start: usize, end: usize) -> usize {
        use unicode_segmentation::UnicodeSegmentation;
        let places = self.text[start..end].grapheme_indices(true);
        let found = places.map(|(at, _)| start + at).find(|at| *at >= byte);
        found.unwrap_or(end)
    }
}

/// The best place, of equal ones the last.
fn best(bounds: &[Bound]) -> Option<&Bound> {
    // The last of equal ones is the first from behind.
    bounds.iter().rev().min_by_key(|bound| bound.rank)
}
