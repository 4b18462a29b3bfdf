//! How large a piece of text is: in characters, or in tokens.

use super::tokens;

/// Counts units from the start of a text.
pub(super) trait Measure {
    /// Units before a byte, of which the last may reach beyond it.
    fn before(&self, byte: usize) -> usize;

    /// The last byte before which there are no more than so many units. It is between characters.
    fn reach(&self, units: usize) -> usize;

    /// Units of a piece by itself. May differ from what [`Measure::before`] says of its ends.
    fn size(&self, start: usize, end: usize) -> usize {
        self.before(end) - self.before(start)
    }
}

/// Bytes between two counts that are kept.
const STEP: usize = 256;

/// Characters, as Unicode scalar values: what R2R counts.
pub(super) struct Chars<'t> {
    text: &'t str,
    /// Characters before each multiple of [`STEP`].
    counts: Vec<usize>,
}

impl<'t> Chars<'t> {
    pub fn of(text: &'t str) -> Self {
        let mut sum = 0;
        let counts = text.as_bytes().chunks(STEP).map(|step| {
            let before = sum;
            sum += starts(step);
            before
        });
        Self {
            text,
            counts: counts.collect(),
        }
    }
}

/// Characters that begin in these bytes.
fn starts(bytes: &[u8]) -> usize {
    // Bytes of the form 10xxxxxx go on.
    bytes.iter().filter(|byte| (**byte & 0xc0) != 0x80).count()
}

impl Measure for Chars<'_> {
    fn before(&self, byte: usize) -> usize {
        let step = (byte / STEP).min(self.counts.len().saturating_sub(1));
        let counted = self.counts.get(step).copied().unwrap_or_default();
        counted + starts(&self.text.as_bytes()[step * STEP..byte])
    }

    fn reach(&self, units: usize) -> usize {
        let step = self
            .counts
            .partition_point(|count| *count <= units)
            .saturating_sub(1);
        let mut left = units - self.counts.get(step).copied().unwrap_or_default();
        let bytes = self.text.as_bytes();
        let mut at = step * STEP;
        while at < bytes.len() {
            if (bytes[at] & 0xc0) != 0x80 {
                if left == 0 {
                    break;
                }
                left -= 1;
            }
            at += 1;
        }
        at
    }
}

/// Tokens.
pub(super) struct Tokens<'t> {
    text: &'t str,
    /// Where each token ends, in bytes.
    ends: Vec<u32>,
}

impl<'t> Tokens<'t> {
    pub fn of(text: &'t str) -> Self {
        Self {
            text,
            ends: tokens::ends(text),
        }
    }
}

impl Measure for Tokens<'_> {
    fn before(&self, byte: usize) -> usize {
        self.ends.partition_point(|end| (*end as usize) < byte)
            + usize::from(byte > 0 && self.ends.last().is_some())
    }

    fn reach(&self, units: usize) -> usize {
        let Some(last) = units.checked_sub(1) else {
            return 0;
        };
        let end = self
            .ends
            .get(last)
            .map_or(self.text.len(), |end| *end as usize);
        (0..=end)
            .rev()
            .find(|at| self.text.is_char_boundary(*at))
            .unwrap_or_default()
    }

    fn size(&self, start: usize, end: usize) -> usize {
        tokens::count(&self.text[start..end])
    }
}
