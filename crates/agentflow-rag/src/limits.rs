//! Every limit of parsing, by name, and the meter that counts against them.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// What one document may take. Hitting a limit refuses the document; nothing is cut off silently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of the file.
    pub bytes_in: u64,
    /// Bytes of all that is unpacked out of archives.
    pub bytes_unpacked: u64,
    /// How many times larger than its file the unpacked content may be. Small contents
    /// ([`Limits::RATIO_FROM`]) are not judged by it.
    pub ratio: u64,
    /// Entries of an archive.
    pub entries: u64,
    /// Elements of XML, values of JSON or groups of RTF inside each other.
    pub depth: u64,
    /// Files inside files: attachments of attachments.
    pub nesting: u64,
    /// Pages of a PDF.
    pub pages: u64,
    /// Characters of text that come out, in bytes of UTF-8.
    pub text: u64,
    /// Cells of all sheets of a workbook, or of a CSV file.
    pub cells: u64,
    /// Blocks that come out.
    pub blocks: u64,
    /// Wall-clock time of the worker for one document.
    pub time: Duration,
    /// Processor time of the worker for one document.
    pub cpu: Duration,
    /// Address space of the worker, above what it has when it starts.
    pub memory: u64,
}

impl Limits {
    /// Content smaller than this is not judged by its ratio: short texts pack well.
    pub const RATIO_FROM: u64 = 8 << 20;
    /// Warnings that a document keeps.
    pub const WARNINGS: usize = 50;
    /// Bytes of a heading, title or other fact about a document.
    pub const FACT: usize = 500;

    /// Bytes of what a worker answers: the text, escaped, and the places of its blocks.
    pub fn answer(&self) -> u64 {
        self.text.saturating_mul(4).saturating_add(64 << 20)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_in: 100 << 20,
            bytes_unpacked: 512 << 20,
            ratio: 200,
            entries: 10_000,
            depth: 200,
            nesting: 3,
            pages: 5_000,
            text: 32 << 20,
            cells: 2_000_000,
            blocks: 500_000,
            time: Duration::from_secs(60),
            cpu: Duration::from_secs(60),
            memory: 1 << 30,
        }
    }
}

/// The name of a limit that a document hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// [`Limits::bytes_in`].
    BytesIn,
    /// [`Limits::bytes_unpacked`].
    BytesUnpacked,
    /// [`Limits::ratio`].
    Ratio,
    /// [`Limits::entries`].
    Entries,
    /// [`Limits::depth`].
    Depth,
    /// [`Limits::pages`].
    Pages,
    /// [`Limits::text`].
    Text,
    /// [`Limits::cells`].
    Cells,
    /// [`Limits::blocks`].
    Blocks,
    /// [`Limits::answer`].
    Answer,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BytesIn => "bytes of the file",
            Self::BytesUnpacked => "bytes after unpacking",
            Self::Ratio => "times the size of the file after unpacking",
            Self::Entries => "entries of the archive",
            Self::Depth => "levels of nesting",
            Self::Pages => "pages",
            Self::Text => "bytes of text",
            Self::Cells => "cells",
            Self::Blocks => "blocks",
            Self::Answer => "bytes of text with its places",
        })
    }
}

/// Counts what one document takes, its attachments included.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    pub limits: &'a Limits,
    /// Bytes of the file, the base of the ratio.
    packed: u64,
    unpacked: u64,
    text: u64,
    cells: u64,
    blocks: u64,
    /// Files around the one that is read.
    pub nesting: u64,
}

impl<'a> Meter<'a> {
    pub fn new(limits: &'a Limits, bytes: &[u8]) -> Result<Self, Refusal> {
        let packed = bytes.len() as u64;
        within(Bound::BytesIn, packed, limits.bytes_in)?;
        Ok(Self {
            limits,
            packed,
            unpacked: 0,
            text: 0,
            cells: 0,
            blocks: 0,
            nesting: 0,
        })
    }

    pub fn unpack(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.unpacked = self.unpacked.saturating_add(bytes);
        within(
            Bound::BytesUnpacked,
            self.unpacked,
            self.limits.bytes_unpacked,
        )?;
        if self.unpacked > Limits::RATIO_FROM {
            let ratio = self.unpacked / self.packed.max(1);
            within(Bound::Ratio, ratio, self.limits.ratio)?;
        }
        Ok(())
    }

    pub fn block(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.blocks += 1;
        within(Bound::Blocks, self.blocks, self.limits.blocks)?;
        self.more(bytes)
    }

    /// Text that goes on in a block.
    pub fn more(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.text += bytes as u64;
        within(Bound::Text, self.text, self.limits.text)
    }

    /// Refuses text that grows beyond what a document may hold before it becomes a block.
    pub fn pending(&self, bytes: usize) -> Result<(), Refusal> {
        within(Bound::Text, self.text + bytes as u64, self.limits.text)
    }

    pub fn cells(&mut self, count: u64) -> Result<(), Refusal> {
        self.cells = self.cells.saturating_add(count);
        within(Bound::Cells, self.cells, self.limits.cells)
    }

    pub fn entries(&self, count: u64) -> Result<(), Refusal> {
        within(Bound::Entries, count, self.limits.entries)
    }

    pub fn depth(&self, depth: u64) -> Result<(), Refusal> {
        within(Bound::Depth, depth, self.limits.depth)
    }

    pub fn pages(&self, count: u64) -> Result<(), Refusal> {
        within(Bound::Pages, count, self.limits.pages)
    }
}

/// Refuses what is beyond a limit.
pub(crate) fn within(bound: Bound, found: u64, allowed: u64) -> Result<(), Refusal> {
    if found <= allowed {
        return Ok(());
    }
    Err(Refusal::TooLarge {
        bound,
        allowed,
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_counts_only_above_its_floor() {
        let limits = Limits {
            ratio: 2,
            ..Limits::default()
        };
        let mut meter = Meter::new(&limits, &[0; 10]).unwrap();
        meter.unpack(Limits::RATIO_FROM).unwrap();
        let refusal = meter.unpack(1).unwrap_err();
        assert!(
            matches!(
                refusal,
                Refusal::TooLarge {
                    bound: Bound::Ratio,
                    allowed: 2,
                    ..
                }
            ),
            "{refusal}"
        );
    }
}
