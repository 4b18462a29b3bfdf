//! Collects the blocks of a document while a reader goes through it.

use std::collections::BTreeMap;

use crate::{
    document::{Block, Parsed, Place},
    kind::Kind,
    limits::{Limits, Meter},
    refusal::Refusal,
};

/// Rows that share a block at most.
const ROWS: usize = 50;
/// Bytes after which a block of rows ends.
const ROW_BYTES: usize = 2_000;
/// Between the cells of a row.
pub(crate) const CELL: &str = " | ";

/// Collects blocks, counts them, and knows the headings above the next one.
pub(crate) struct Writer<'m, 'l> {
    pub meter: &'m mut Meter<'l>,
    pub title: Option<String>,
    pub encoding: Option<String>,
    pub pages: Option<u32>,
    pub place: Place,
    facts: BTreeMap<String, String>,
    blocks: Vec<Block>,
    warnings: Vec<String>,
    headings: Vec<(u8, String)>,
    rows: String,
    row_count: usize,
    row_first: u32,
    /// Whether the last block is a list that goes on.
    list: bool,
}

impl<'m, 'l> Writer<'m, 'l> {
    pub fn new(meter: &'m mut Meter<'l>) -> Self {
        Self {
            meter,
            title: None,
            encoding: None,
            pages: None,
            place: Place::default(),
            facts: BTreeMap::new(),
            blocks: Vec::new(),
            warnings: Vec::new(),
            headings: Vec::new(),
            rows: String::new(),
            row_count: 0,
            row_first: 0,
            list: false,
        }
    }

    /// A paragraph, or whatever else stands for itself. Blank text is passed over.
    pub fn paragraph(&mut self, text: &str) -> Result<(), Refusal> {
        let text = clean(text);
        let text = text.trim_matches('\n').trim_end();
        if text.trim().is_empty() {
            return Ok(());
        }
        self.push(text.to_owned(), false)
    }

    /// An item of a list, its mark included. Items that follow each other share a block.
    pub fn item(&mut self, text: &str) -> Result<(), Refusal> {
        let text = clean(text);
        let text = text.trim();
        if text.is_empty() || text == "-" {
            return Ok(());
        }
        let last = self
            .blocks
            .last_mut()
            .filter(|last| last.text.len() < ROW_BYTES);
        match last {
            Some(last) if self.list => {
                self.meter.more(text.len() + 1)?;
                last.text.push('\n');
                last.text.push_str(text);
            }
            _ => self.push(text.to_owned(), false)?,
        }
        self.list = true;
        Ok(())
    }

    /// Text whose lines were broken to fit a page: blank lines are kept once, the end of each line
    /// is trimmed.
    pub fn lines(&mut self, text: &str) -> Result<(), Refusal> {
        let mut out = String::with_capacity(text.len());
        let mut blank = 0;
        for line in clean(text).lines() {
            let line = line.trim_end();
            if line.is_empty() {
                blank += 1;
                continue;
            }
            if !out.is_empty() {
                out.push_str(if blank > 0 { "\n\n" } else { "\n" });
            }
            blank = 0;
            out.push_str(line);
        }
        self.paragraph(&out)
    }

    /// A heading of a level from 1. It ends headings of its level and below.
    pub fn heading(&mut self, level: u8, text: &str) -> Result<(), Refusal> {
        let text = one_line(text);
        if text.is_empty() {
            return Ok(());
        }
        while self
            .headings
            .last()
            .is_some_and(|(above, _)| *above >= level)
        {
            self.headings.pop();
        }
        self.set_place();
        self.push(text.clone(), true)?;
        self.headings.push((level, fact(&text)));
        self.set_place();
        Ok(())
    }

    /// Sets the headings above what follows, without writing them.
    pub fn below(&mut self, path: &[String]) {
        self.headings = path
            .iter()
            .enumerate()
            .map(|(at, text)| (u8::try_from(at + 1).unwrap_or(u8::MAX), fact(text)))
            .collect();
        self.set_place();
    }

    fn set_place(&mut self) {
        self.place.headings = self.headings.iter().map(|(_, text)| text.clone()).collect();
    }

    /// One row of a sheet, numbered from 1. A blank one is passed over.
    pub fn row<'c>(
        &mut self,
        number: u32,
        cells: impl Iterator<Item = &'c str>,
    ) -> Result<(), Refusal> {
        let line = join_cells(cells);
        if line.is_empty() {
            return Ok(());
        }
        let follows = self.row_first as usize + self.row_count == number as usize;
        let full = self.row_count >= ROWS || self.rows.len() >= ROW_BYTES;
        if self.row_count > 0 && (!follows || full) {
            self.end_rows()?;
        }
        if self.row_count == 0 {
            self.row_first = number;
        } else {
            self.rows.push('\n');
        }
        self.rows.push_str(&line);
        self.row_count += 1;
        self.meter.pending(self.rows.len())
    }

    /// Ends a run of rows.
    pub fn end_rows(&mut self) -> Result<(), Refusal> {
        if self.row_count == 0 {
            return Ok(());
        }
        let text = std::mem::take(&mut self.rows);
        self.row_count = 0;
        self.place.row = Some(self.row_first);
        let pushed = self.push(text, false);
        self.place.row = None;
        pushed
    }

    fn push(&mut self, text: String, heading: bool) -> Result<(), Refusal> {
        self.meter.block(text.len())?;
        self.list = false;
        self.blocks.push(Block {
            text,
            heading,
            place: self.place.clone(),
        });
        Ok(())
    }

    /// Tells the sender something. The first warnings are kept.
    pub fn warn(&mut self, message: impl Into<String>) {
        let message = message.into();
        if self.warnings.len() < Limits::WARNINGS && !self.warnings.contains(&message) {
            self.warnings.push(fact(&message));
        }
    }

    /// A fact that the document states about itself. Blank ones are passed over.
    pub fn fact(&mut self, name: &str, value: &str) {
        let value = fact(value);
        if !value.is_empty() {
            self.facts.insert(name.to_owned(), value);
        }
    }

    /// Sets the title, unless it is blank or there is one.
    pub fn titled(&mut self, title: &str) {
        let title = fact(title);
        if !title.is_empty() && self.title.is_none() {
            self.title = Some(title);
        }
    }

    /// Takes the blocks of a file inside this one.
    pub fn include(&mut self, name: &str, inner: Parsed) {
        for mut block in inner.blocks {
            let within = block.place.attachment.take();
            block.place.attachment = Some(match within {
                Some(deeper) => format!("{name}/{deeper}"),
                None => name.to_owned(),
            });
            self.blocks.push(block);
        }
        for warning in inner.warnings {
            self.warn(format!("{name}: {warning}"));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    pub fn finish(mut self, kind: Kind) -> Result<Parsed, Refusal> {
        self.end_rows()?;
        if self.blocks.is_empty() {
            return Err(Refusal::Empty { kind: Some(kind) });
        }
        Ok(Parsed {
            kind,
            title: self.title,
            encoding: self.encoding,
            pages: self.pages,
            facts: self.facts,
            blocks: self.blocks,
            warnings: self.warnings,
        })
    }
}

/// Cells as one line, without the empty ones at the end. Empty if all are.
pub(crate) fn join_cells<'c>(cells: impl Iterator<Item = &'c str>) -> String {
    let mut line = String::new();
    let mut kept = 0;
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            line.push_str(CELL);
        }
        let before = line.len();
        push_one_line(&mut line, cell);
        if line.len() > before {
            kept = line.len();
        }
    }
    line.truncate(kept);
    line
}

/// `\n` for every line break, no control characters but that and tabs.
pub(crate) fn clean(text: &str) -> std::borrow::Cow<'_, str> {
    let unwanted = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{feff}';
    if !text.contains(unwanted) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                if chars.peek() != Some(&'\n') {
                    out.push('\n');
                }
            }
            // Line tabulation, form feed, next line.
            '\u{b}' | '\u{c}' | '\u{85}' => out.push('\n'),
            c if unwanted(c) => {}
            c => out.push(c),
        }
    }
    out.into()
}

/// Text on one line, white space once.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_one_line(&mut out, text);
    out
}

fn push_one_line(out: &mut String, text: &str) {
    let mut first = true;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}') {
        if word.is_empty() {
            continue;
        }
        if !first {
            out.push(' ');
        }
        first = false;
        out.push_str(word);
    }
}

/// One line of at most [`Limits::FACT`] bytes.
pub(crate) fn fact(text: &str) -> String {
    let mut cut = text.len().min(8 * Limits::FACT);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut line = one_line(&text[..cut]);
    if line.len() > Limits::FACT {
        let mut end = Limits::FACT;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push('…');
    }
    line
}
