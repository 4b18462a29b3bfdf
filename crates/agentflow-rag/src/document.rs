//! A parsed document: blocks of text, each with its place.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kind::Kind;

/// What stands between two blocks in the text of a document.
pub const BETWEEN: &str = "\n\n";

/// Where in its document a block stands. Whatever a kind of file does not have is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// Page, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// Slide of a presentation, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slide: Option<u32>,
    /// Sheet of a workbook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sheet: Option<String>,
    /// Row of the block's first line, from 1. Each line of such a block is one row, and they follow
    /// each other without a gap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<u32>,
    /// When it is said, in milliseconds from the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_ms: Option<u64>,
    /// Name of the attachment that it stands in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachment: Option<String>,
    /// Headings above it, the highest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headings: Vec<String>,
}

/// One piece of text: a paragraph, a heading, a table, a run of rows, a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The text. Line breaks are `\n`; there are no control characters but that and tabs, and it
    /// is not blank.
    pub text: String,
    /// Whether it is a heading. It stands below the headings above it, not below itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub heading: bool,
    /// Where it stands.
    #[serde(default)]
    pub place: Place,
}

/// What was read out of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parsed {
    /// What the file is, whatever its name says.
    pub kind: Kind,
    /// The title that the document gives itself.
    pub title: Option<String>,
    /// Name of the encoding of a text file.
    pub encoding: Option<String>,
    /// Pages, slides or sheets, where the file has such.
    pub pages: Option<u32>,
    /// Other facts that the document states about itself: author, subject, date, from, to.
    pub facts: BTreeMap<String, String>,
    /// The text, in reading order.
    pub blocks: Vec<Block>,
    /// What was passed over or corrected, for whoever sent the file.
    pub warnings: Vec<String>,
}

impl Parsed {
    /// The whole text: the blocks, with [`BETWEEN`] between them.
    pub fn text(&self) -> String {
        let bytes = self
            .blocks
            .iter()
            .map(|block| block.text.len())
            .sum::<usize>();
        let mut text = String::with_capacity(bytes + self.blocks.len() * BETWEEN.len());
        for block in &self.blocks {
            if !text.is_empty() {
                text.push_str(BETWEEN);
            }
            text.push_str(&block.text);
        }
        text
    }
}
