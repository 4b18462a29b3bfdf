//! Chunks: pieces of a document's text that can be found, read and cited by themselves.
//!
//! A chunk is a range of the text of its document ([`Parsed::text`]), so every character is in at
//! least one, and nothing is rewritten. No range begins or ends inside a grapheme.
//!
//! Sizes and defaults are R2R's. Where it takes the first separator that occurs and leaves remnants,
//! a chunk here ends at the best boundary that leaves it well filled: the end of a paragraph, of a
//! line, of a sentence, of a word.

use std::ops::Range;

use agentflow_types::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::document::{BETWEEN, Parsed, Place};

mod bounds;
mod language;
mod measure;
mod pack;
mod sections;
pub mod sentence;
pub mod tokens;

use bounds::{Bounds, Rank};
use measure::{Chars, Measure, Tokens};
use pack::Packer;

/// Chunks that one document may become.
pub const CHUNKS: usize = 102_400;

/// How text is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// At paragraphs, else lines, else sentences, else words. Sizes are in characters.
    #[default]
    Recursive,
    /// At one separator, else words. Sizes are in characters.
    Character,
    /// At the end of sentences, as many as fit. Sizes are in characters.
    Sentence,
    /// As `Recursive`, with sizes in tokens of OpenAI's embedding models.
    Token,
    /// Whole blocks (paragraphs, tables) up to a size.
    Basic,
    /// As `Basic`; a heading begins a new chunk.
    ByTitle,
}

/// How text is cut, in the names of R2R's configuration of ingestion. Unknown names belong to other
/// parts of that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The strategy.
    #[serde(rename = "chunking_strategy")]
    pub strategy: Strategy,
    /// Size of a chunk: characters, or tokens for [`Strategy::Token`].
    pub chunk_size: usize,
    /// How much of its predecessor a chunk repeats at most, in the same unit.
    pub chunk_overlap: usize,
    /// Where [`Strategy::Character`] cuts.
    pub separator: String,
    /// Language of the text as in `de` or `pt-BR`; without it, the text is looked at.
    pub language: Option<String>,
    /// Characters after which `Basic` and `ByTitle` begin a new chunk.
    pub new_after_n_chars: usize,
    /// Characters that a chunk of those has at most.
    pub max_characters: usize,
    /// Sections smaller than this are joined with the next by `ByTitle`.
    pub combine_under_n_chars: usize,
    /// Characters that parts of one large block repeat of each other under those.
    pub overlap: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strategy: Strategy::Recursive,
            chunk_size: 1_024,
            chunk_overlap: 512,
            separator: "\n\n".into(),
            language: None,
            new_after_n_chars: 2_048,
            max_characters: 4_096,
            combine_under_n_chars: 1_024,
            overlap: 1_024,
        }
    }
}

impl Settings {
    /// Checks what is used by the strategy.
    ///
    /// # Errors
    /// `Invalid`: a size is zero, or an overlap is not below its size.
    pub fn check(&self) -> Result<()> {
        let (size, overlap, names) = match self.strategy {
            Strategy::Basic | Strategy::ByTitle => (
                self.max_characters,
                self.overlap,
                ("max_characters", "overlap"),
            ),
            _ => (
                self.chunk_size,
                self.chunk_overlap,
                ("chunk_size", "chunk_overlap"),
            ),
        };
        if size == 0 {
            return Err(Error::invalid("chunks have no size").with("setting", names.0));
        }
        if overlap >= size {
            return Err(Error::invalid("chunks overlap by all of their size")
                .with(names.0, size)
                .with(names.1, overlap));
        }
        if self.strategy == Strategy::Character && self.separator.is_empty() {
            return Err(Error::invalid("the separator is empty"));
        }
        Ok(())
    }
}

/// A piece of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The text, which is not blank.
    pub text: String,
    /// Where it is in the text of the document, in bytes.
    pub bytes: Range<usize>,
    /// Where it begins: page, headings, row and so on of its first block.
    pub place: Place,
    /// Last page that it reaches, if its document has pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_page: Option<u32>,
    /// Last row that it reaches, if it is of a sheet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_row: Option<u32>,
}

/// Cuts a document.
///
/// The chunks are in the order of the text. White space alone makes no chunk.
///
/// # Errors
/// `Invalid` for settings that cannot be met; `Unprocessable` for more than [`CHUNKS`] chunks.
pub fn chunk(document: &Parsed, settings: &Settings) -> Result<Vec<Chunk>> {
    let text = document.text();
    placeable(&text)?;
    let starts = starts(document);
    let ranges = match settings.strategy {
        Strategy::Basic | Strategy::ByTitle => {
            let headings = document.blocks.iter().map(|block| block.heading);
            let headings: Vec<bool> = headings.collect();
            settings.check()?;
            limited(sections::cut(&text, &starts, &headings, settings)?)?
        }
        _ => cut(&text, settings)?,
    };
    let chunks = ranges.into_iter().filter_map(|bytes| {
        let piece = &text[bytes.clone()];
        let lead = piece.len() - piece.trim_start().len();
        let tail = piece.trim_end().len();
        if tail == 0 {
            return None;
        }
        let first = at(document, &starts, &text, bytes.start + lead);
        let last = at(document, &starts, &text, bytes.start + tail - 1);
        Some(Chunk {
            text: piece.to_owned(),
            last_page: last.page,
            last_row: last.row.filter(|_| last.sheet == first.sheet),
            place: first,
            bytes,
        })
    });
    Ok(chunks.collect())
}

/// Cuts a text that is no document, or has no blocks.
///
/// The ranges are in bytes, in order, cover the text and may overlap. `Basic` and `ByTitle` take
/// paragraphs for blocks.
///
/// # Errors
/// As [`chunk()`].
pub fn cut(text: &str, settings: &Settings) -> Result<Vec<Range<usize>>> {
    settings.check()?;
    placeable(text)?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let language = settings.language.as_deref();
    let packed = |bounds: &Bounds, measure: &dyn Measure| {
        let (size, overlap) = (settings.chunk_size, settings.chunk_overlap);
        Packer::new(text, bounds, measure, size, overlap).pack(CHUNKS)
    };
    let ranges = match settings.strategy {
        Strategy::Recursive => packed(&Bounds::of(text, language), &Chars::of(text)),
        Strategy::Sentence => packed(
            &Bounds::of(text, language).equal_from(Rank::Sentence),
            &Chars::of(text),
        ),
        Strategy::Character => packed(
            &Bounds::at_separator(text, &settings.separator),
            &Chars::of(text),
        ),
        Strategy::Token => packed(
            &Bounds::of(text, language).before_spaces(text),
            &Tokens::of(text),
        ),
        Strategy::Basic | Strategy::ByTitle => {
            let starts = bounds::paragraphs(text);
            let headings = vec![false; starts.len()];
            sections::cut(text, &starts, &headings, settings)?
        }
    };
    limited(ranges)
}

/// Places are kept as 32 bits, of which a long text has millions.
fn placeable(text: &str) -> Result<()> {
    match u32::try_from(text.len()) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::unprocessable("the text is too long").with("bytes", text.len())),
    }
}

fn limited(ranges: Vec<Range<usize>>) -> Result<Vec<Range<usize>>> {
    if ranges.len() > CHUNKS {
        return Err(Error::unprocessable("the text becomes too many chunks").with("most", CHUNKS));
    }
    Ok(ranges)
}

/// Where the blocks begin in the text.
fn starts(document: &Parsed) -> Vec<usize> {
    let mut at = 0;
    let each = document.blocks.iter().map(|block| {
        let start = at;
        at += block.text.len() + BETWEEN.len();
        start
    });
    each.collect()
}

/// The place of a byte.
fn at(document: &Parsed, starts: &[usize], text: &str, byte: usize) -> Place {
    let block = starts
        .partition_point(|start| *start <= byte)
        .saturating_sub(1);
    let Some(found) = document.blocks.get(block) else {
        return Place::default();
    };
    let mut place = found.place.clone();
    if let Some(row) = &mut place.row {
        let lines = text.as_bytes()[starts[block]..byte].iter();
        let before = lines.filter(|byte| **byte == b'\n').count();
        *row = row.saturating_add(u32::try_from(before).unwrap_or(u32::MAX));
    }
    place
}
