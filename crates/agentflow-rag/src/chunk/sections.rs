//! Chunks of whole blocks, by size or by headings.

use std::ops::Range;

use agentflow_types::Result;

use super::{
    CHUNKS, Settings, Strategy,
    bounds::Bounds,
    measure::{Chars, Measure},
    pack::Packer,
};

/// Cuts a text of blocks. `starts`: where each begins, the first at 0; `headings`: which of them are.
pub(super) fn cut(
    text: &str,
    starts: &[usize],
    headings: &[bool],
    settings: &Settings,
) -> Result<Vec<Range<usize>>> {
    let chars = Chars::of(text);
    let size = |range: &Range<usize>| chars.before(range.end) - chars.before(range.start);
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let blocks = starts
        .iter()
        .copied()
        .zip(ends)
        .map(|(start, end)| start..end);
    let mut packed: Vec<Range<usize>> = Vec::new();
    // Whether the last chunk may grow.
    let mut open = false;
    for (block, heading) in blocks.zip(headings) {
        let Some(last) = packed.last_mut().filter(|_| open) else {
            open = true;
            packed.push(block);
            continue;
        };
        let joined = last.start..block.end;
        let have = size(last);
        let new_section = *heading
            && settings.strategy == Strategy::ByTitle
            && have >= settings.combine_under_n_chars;
        let full = have >= settings.new_after_n_chars || size(&joined) > settings.max_characters;
        if new_section || full {
            packed.push(block);
        } else {
            *last = joined;
        }
    }
    if packed
        .iter()
        .all(|range| size(range) <= settings.max_characters)
    {
        return Ok(packed);
    }
    let bounds = Bounds::of(text, settings.language.as_deref());
    let mut chunks = Vec::new();
    for range in packed {
        if size(&range) <= settings.max_characters {
            chunks.push(range);
        } else {
            let (most, overlap) = (settings.max_characters, settings.overlap);
            let packer = Packer::new(text, &bounds, &chars, most, overlap);
            chunks.extend(packer.range(range, CHUNKS));
        }
        if chunks.len() > CHUNKS {
            break;
        }
    }
    Ok(chunks)
}
