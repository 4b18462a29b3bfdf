//! HTML as a stream of tags: no tree is built, so that no depth of nesting costs anything.

use html5gum::{DefaultEmitter, Token, Tokenizer};

use super::blocks::{Writer, join_cells};
use crate::refusal::Refusal;

/// Elements whose content nobody reads.
const HIDDEN: [&str; 9] = [
    "script", "style", "noscript", "template", "svg", "iframe", "object", "select", "canvas",
];
/// Elements that begin and end a line of their own.
const LINES: [&str; 30] = [
    "p",
    "div",
    "section",
    "article",
    "header",
    "footer",
    "main",
    "aside",
    "nav",
    "ul",
    "ol",
    "dl",
    "dt",
    "dd",
    "blockquote",
    "pre",
    "hr",
    "form",
    "fieldset",
    "figure",
    "figcaption",
    "address",
    "details",
    "summary",
    "body",
    "caption",
    "thead",
    "tbody",
    "tfoot",
    "center",
];

/// Reads a page. Its title becomes the document's, unless that has one.
pub(crate) fn read(html: &str, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    let mut page = Page::default();
    for token in Tokenizer::new_with_emitter(html, emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name).into_owned();
                let attribute = |name: &str| {
                    tag.attributes
                        .get(name.as_bytes())
                        .map(|value| String::from_utf8_lossy(value).into_owned())
                };
                // XHTML closes these at once; HTML ignores the slash.
                let closed =
                    tag.self_closing && (HIDDEN.contains(&name.as_str()) || name == "title");
                if !closed {
                    page.start(&name, attribute, out)?;
                }
            }
            Token::EndTag(tag) => page.end(&String::from_utf8_lossy(&tag.name), out)?,
            Token::String(text) => page.text(&String::from_utf8_lossy(&text), out)?,
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    page.end_tables(out)?;
    page.flush(out)
}

#[derive(Default)]
struct Page {
    line: String,
    level: Option<u8>,
    hidden: Option<(String, usize)>,
    title: Option<String>,
    pre: usize,
    tables: usize,
    row: Vec<String>,
    rows: Vec<String>,
    /// Whether a cell is open, so that `line` is its text.
    cell: bool,
}

impl Page {
    fn start(
        &mut self,
        name: &str,
        attribute: impl Fn(&str) -> Option<String>,
        out: &mut Writer<'_, '_>,
    ) -> Result<(), Refusal> {
        if let Some((hidden, depth)) = &mut self.hidden {
            *depth += usize::from(hidden == name);
            return Ok(());
        }
        if HIDDEN.contains(&name) {
            self.hidden = Some((name.to_owned(), 1));
            return Ok(());
        }
        match name {
            "title" => self.title = Some(String::new()),
            "br" => self.line.push('\n'),
            "img" => {
                if let Some(alt) = attribute("alt").filter(|alt| !alt.trim().is_empty()) {
                    self.space();
                    self.line.push_str(&alt);
                }
            }
            "meta" => {
                let content = attribute("content").unwrap_or_default();
                let name = attribute("name").unwrap_or_default().to_lowercase();
                if ["author", "description", "keywords"].contains(&name.as_str()) {
                    out.fact(&name, &content);
                }
            }
            "table" => {
                if self.tables == 0 {
                    self.flush(out)?;
                }
                self.tables += 1;
            }
            "tr" if self.tables == 1 => self.end_row(out)?,
            "td" | "th" if self.tables == 1 => {
                self.end_cell();
                self.cell = true;
            }
            "li" => {
                self.begin_line(out)?;
                self.line.push_str("- ");
            }
            "pre" => {
                self.begin_line(out)?;
                self.pre += 1;
            }
            name if heading(name).is_some() => {
                self.begin_line(out)?;
                if self.tables == 0 {
                    self.level = heading(name);
                }
            }
            name if LINES.contains(&name) => self.begin_line(out)?,
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, name: &str, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        if let Some((hidden, depth)) = &mut self.hidden {
            *depth -= usize::from(hidden == name);
            if *depth == 0 {
                self.hidden = None;
            }
            return Ok(());
        }
        match name {
            "title" => {
                if let Some(title) = self.title.take() {
                    out.titled(&title);
                }
            }
            "td" | "th" if self.tables == 1 => self.end_cell(),
            "tr" if self.tables == 1 => self.end_row(out)?,
            "table" if self.tables > 1 => self.tables -= 1,
            "table" => self.end_tables(out)?,
            "pre" => {
                self.begin_line(out)?;
                self.pre = self.pre.saturating_sub(1);
            }
            "li" => self.begin_line(out)?,
            name if heading(name).is_some() || LINES.contains(&name) => self.begin_line(out)?,
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, text: &str, out: &Writer<'_, '_>) -> Result<(), Refusal> {
        if self.hidden.is_some() {
            return Ok(());
        }
        if let Some(title) = &mut self.title {
            title.push_str(text);
            return Ok(());
        }
        if self.pre > 0 {
            self.line.push_str(text);
        } else {
            for c in text.chars() {
                if c.is_ascii_whitespace() {
                    self.space();
                } else {
                    self.line.push(c);
                }
            }
        }
        out.meter.pending(self.line.len())
    }

    fn space(&mut self) {
        if !self.line.is_empty() && !self.line.ends_with([' ', '\n']) {
            self.line.push(' ');
        }
    }

    /// What came until here is a block; in a table, a part of the cell.
    fn begin_line(&mut self, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        if self.tables > 0 {
            self.space();
            return Ok(());
        }
        self.flush(out)
    }

    fn flush(&mut self, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        let line = std::mem::take(&mut self.line);
        match self.level.take() {
            Some(level) => out.heading(level, &line),
            None if line.starts_with("- ") && self.pre == 0 => out.item(&line),
            None if self.pre > 0 => out.paragraph(&line),
            None => out.lines(&line),
        }
    }

    fn end_cell(&mut self) {
        let text = std::mem::take(&mut self.line);
        if self.cell || !text.trim().is_empty() {
            self.row.push(text);
        }
        self.cell = false;
    }

    fn end_row(&mut self, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        self.end_cell();
        out.meter.cells(self.row.len() as u64)?;
        let row = join_cells(self.row.iter().map(String::as_str));
        self.row.clear();
        if !row.is_empty() {
            self.rows.push(row);
        }
        Ok(())
    }

    fn end_tables(&mut self, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        if self.tables == 0 {
            return Ok(());
        }
        self.end_row(out)?;
        self.tables = 0;
        let table = self.rows.join("\n");
        self.rows.clear();
        out.paragraph(&table)
    }
}

fn heading(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [b'h', digit @ b'1'..=b'6'] => Some(digit - b'0'),
        _ => None,
    }
}
