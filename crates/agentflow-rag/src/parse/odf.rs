//! OpenDocument texts and presentations.

use super::{
    archive::Archive,
    blocks::{Writer, join_cells},
    xml::{Element, Node, Steps, facts},
};
use crate::{kind::Kind, refusal::Refusal};

/// The style of a document's title.
const TITLE: &str = "Title";
/// Spaces that one element may stand for.
const SPACES: usize = 100;

pub(crate) fn read(kind: Kind, bytes: &[u8], out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut archive = Archive::open(kind, bytes, out.meter)?;
    archive.warn(out);
    if let Some(manifest) = archive.text("META-INF/manifest.xml", out.meter)?
        && manifest.contains("encryption-data")
    {
        return Err(Refusal::Encrypted { kind });
    }
    if let Some(meta) = archive.text("meta.xml", out.meter)? {
        facts(kind, &meta, out)?;
    }
    let text = archive.need_text("content.xml", out.meter)?;
    let mut steps = Steps::new(kind, &text, out.meter);
    let mut content = Content::default();
    loop {
        match steps.next()? {
            Node::Start(element) => content.start(&element, &mut steps, out)?,
            Node::End(name) => content.end(&name, out)?,
            Node::Text(text) => content.push(&text),
            Node::Eof => break,
        }
    }
    out.pages = (content.slides > 0).then_some(content.slides);
    out.place.slide = None;
    Ok(())
}

#[derive(Default)]
struct Paragraph {
    text: String,
    level: Option<u8>,
}

#[derive(Default)]
struct Content {
    /// Frames stand inside paragraphs, so there may be several.
    open: Vec<Paragraph>,
    tables: usize,
    cell: String,
    row: Vec<String>,
    rows: Vec<String>,
    slides: u32,
    /// Inside the frame of a slide's title.
    title: bool,
    /// Styles of titles.
    titles: Vec<String>,
}

impl Content {
    fn start(
        &mut self,
        element: &Element<'_>,
        steps: &mut Steps<'_>,
        out: &mut Writer<'_, '_>,
    ) -> Result<(), Refusal> {
        match element.name().as_str() {
            "page" => {
                self.slides += 1;
                out.meter.pages(u64::from(self.slides))?;
                out.place.slide = Some(self.slides);
                out.below(&[]);
            }
            "frame" => match element.attribute("class").as_deref() {
                Some("title") => self.title = true,
                // The same on each slide.
                Some("page-number" | "date-time" | "footer" | "header") => steps.skip()?,
                _ => self.title = false,
            },
            // Styles that the text made for itself stand before it.
            "style" => {
                let parent = element.attribute("parent-style-name");
                if parent.as_deref() == Some(TITLE) {
                    self.titles.extend(element.attribute("name"));
                }
            }
            "p" => {
                let style = element.attribute("style-name").unwrap_or_default();
                let title = self.title || style == TITLE || self.titles.contains(&style);
                self.open.push(Paragraph {
                    text: String::new(),
                    level: title.then_some(1),
                });
            }
            "h" => self.open.push(Paragraph {
                text: String::new(),
                level: element
                    .attribute("outline-level")
                    .and_then(|level| level.parse().ok())
                    .or(Some(1)),
            }),
            "s" => {
                let count = element.attribute("c").and_then(|count| count.parse().ok());
                self.push(&" ".repeat(count.unwrap_or(1).min(SPACES)));
            }
            "tab" => self.push("\t"),
            "line-break" => self.push("\n"),
            "table" => self.tables += 1,
            // What was deleted, and names of things instead of text.
            "tracked-changes" | "annotation" | "desc" | "forms" => steps.skip()?,
            _ => {}
        }
        Ok(())
    }

    /// White space counts once, as in HTML.
    fn push(&mut self, text: &str) {
        let Some(paragraph) = self.open.last_mut() else {
            return;
        };
        if text.chars().all(|c| matches!(c, ' ' | '\t' | '\n')) {
            paragraph.text.push_str(text);
            return;
        }
        for c in text.chars() {
            let space = c.is_ascii_whitespace();
            if space && paragraph.text.ends_with([' ', '\n', '\t']) {
                continue;
            }
            paragraph.text.push(if space { ' ' } else { c });
        }
    }

    fn end(&mut self, name: &str, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        match name {
            "p" | "h" => {
                let Some(paragraph) = self.open.pop() else {
                    return Ok(());
                };
                if self.tables > 0 {
                    self.cell.push(' ');
                    self.cell.push_str(&paragraph.text);
                    return out.meter.pending(self.cell.len());
                }
                match paragraph.level {
                    Some(level) => out.heading(level, &paragraph.text)?,
                    None => out.paragraph(&paragraph.text)?,
                }
            }
            "frame" => self.title = false,
            "table-cell" if self.tables == 1 => self.row.push(std::mem::take(&mut self.cell)),
            "table-row" if self.tables == 1 => {
                out.meter.cells(self.row.len() as u64)?;
                self.rows
                    .push(join_cells(self.row.iter().map(String::as_str)));
                self.row.clear();
            }
            "table" => {
                self.tables = self.tables.saturating_sub(1);
                if self.tables == 0 {
                    self.rows.retain(|row| !row.is_empty());
                    out.paragraph(&self.rows.join("\n"))?;
                    self.rows.clear();
                }
            }
            _ => {}
        }
        Ok(())
    }
}
