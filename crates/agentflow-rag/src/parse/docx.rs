//! Word documents: paragraphs, headings by their styles, tables, notes.

use std::collections::HashMap;

use super::{
    archive::{Archive, resolve},
    blocks::{Writer, join_cells},
    xml::{Element, Node, Steps, facts},
};
use crate::{kind::Kind, refusal::Refusal};

const KIND: Kind = Kind::Docx;

pub(crate) fn read(bytes: &[u8], out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut archive = Archive::open(KIND, bytes, out.meter)?;
    archive.warn(out);
    let main = main_part(&mut archive, out)?;
    if let Some(core) = archive.text("docProps/core.xml", out.meter)? {
        facts(KIND, &core, out)?;
    }
    let styles = match archive.text(&resolve(&main, "styles.xml"), out.meter)? {
        Some(text) => styles(&text, out)?,
        None => HashMap::new(),
    };
    let text = archive.need_text(&main, out.meter)?;
    Body::new(&styles).read(&text, out)?;
    for (name, title) in [("footnotes.xml", "footnotes"), ("endnotes.xml", "endnotes")] {
        if let Some(text) = archive.text(&resolve(&main, name), out.meter)? {
            out.below(&[]);
            let notes = Body::new(&styles).read(&text, out);
            notes.map_err(|refusal| match refusal {
                Refusal::Malformed { message, .. } => {
                    Refusal::malformed(KIND, format!("{title}: {message}"))
                }
                other => other,
            })?;
        }
    }
    Ok(())
}

/// Name of the part that holds the text.
fn main_part(archive: &mut Archive<'_>, out: &mut Writer<'_, '_>) -> Result<String, Refusal> {
    if let Some(text) = archive.text("_rels/.rels", out.meter)? {
        for (kind, target) in relations(KIND, &text, out)?.into_values() {
            if kind.ends_with("/officeDocument") {
                return Ok(resolve("", &target));
            }
        }
    }
    Ok("word/document.xml".into())
}

/// Relations of a part, by id: type and target. Those to the outside are left out.
pub(crate) fn relations(
    kind: Kind,
    text: &str,
    out: &Writer<'_, '_>,
) -> Result<HashMap<String, (String, String)>, Refusal> {
    let mut steps = Steps::new(kind, text, out.meter);
    let mut all = HashMap::new();
    loop {
        match steps.next()? {
            Node::Start(element) if element.name() == "Relationship" => {
                if element.attribute("TargetMode").as_deref() == Some("External") {
                    continue;
                }
                let get = |name| element.attribute(name).unwrap_or_default();
                all.insert(get("Id"), (get("Type"), get("Target")));
            }
            Node::Eof => return Ok(all),
            _ => {}
        }
    }
}

/// Levels of heading styles by their ids.
fn styles(text: &str, out: &Writer<'_, '_>) -> Result<HashMap<String, u8>, Refusal> {
    let mut steps = Steps::new(KIND, text, out.meter);
    let mut levels = HashMap::new();
    let mut style = None;
    loop {
        match steps.next()? {
            Node::Start(element) => match (element.name().as_str(), &style) {
                ("style", _) => style = element.attribute("styleId"),
                ("name", Some(id)) => {
                    let name = element.attribute("val").unwrap_or_default();
                    if let Some(level) = named_level(&name) {
                        levels.insert(id.clone(), level);
                    }
                }
                ("outlineLvl", Some(id)) => {
                    if let Some(level) = outline_level(&element) {
                        levels.insert(id.clone(), level);
                    }
                }
                _ => {}
            },
            Node::End(name) if name == "style" => style = None,
            Node::Eof => return Ok(levels),
            _ => {}
        }
    }
}

/// The level of a heading by the name of its style.
pub(crate) fn named_level(name: &str) -> Option<u8> {
    let name = name.to_ascii_lowercase();
    if name == "title" {
        return Some(1);
    }
    let level = name.strip_prefix("heading")?.trim().parse().ok()?;
    (1..=9).contains(&level).then_some(level)
}

/// 0 to 8 are headings, 9 is body text.
fn outline_level(element: &Element<'_>) -> Option<u8> {
    let level: u8 = element.attribute("val")?.parse().ok()?;
    (level < 9).then_some(level + 1)
}

#[derive(Default)]
struct Paragraph {
    text: String,
    level: Option<u8>,
    style: Option<String>,
}

/// A reader of one part with paragraphs.
struct Body<'s> {
    styles: &'s HashMap<String, u8>,
    /// Text boxes stand inside paragraphs, so there may be several.
    open: Vec<Paragraph>,
    tables: usize,
    cell: String,
    row: Vec<String>,
    rows: Vec<String>,
    page: u32,
}

impl<'s> Body<'s> {
    fn new(styles: &'s HashMap<String, u8>) -> Self {
        Self {
            styles,
            open: Vec::new(),
            tables: 0,
            cell: String::new(),
            row: Vec::new(),
            rows: Vec::new(),
            page: 1,
        }
    }

    fn read(mut self, text: &str, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        // Pages are known only if Word itself laid the text out.
        let paged = text.contains("lastRenderedPageBreak");
        out.place.page = paged.then_some(1);
        let mut steps = Steps::new(KIND, text, out.meter);
        loop {
            match steps.next()? {
                Node::Start(element) => self.start(&element, &mut steps)?,
                Node::End(name) => self.end(&name, out)?,
                Node::Text(_) => {}
                Node::Eof => break,
            }
            if paged {
                out.place.page = Some(self.page);
            }
        }
        out.place.page = None;
        Ok(())
    }

    fn start(&mut self, element: &Element<'_>, steps: &mut Steps<'_>) -> Result<(), Refusal> {
        match element.name().as_str() {
            "p" => self.open.push(Paragraph::default()),
            "t" => {
                let text = steps.inner_text()?;
                self.push(&text);
            }
            "tab" | "ptab" => self.push("\t"),
            "cr" => self.push("\n"),
            "br" if element.attribute("type").as_deref() == Some("page") => self.push("\n"),
            "br" => self.push("\n"),
            "noBreakHyphen" => self.push("-"),
            "lastRenderedPageBreak" => self.page += 1,
            "pStyle" => {
                if let Some(paragraph) = self.open.last_mut() {
                    paragraph.style = element.attribute("val");
                }
            }
            "outlineLvl" => {
                if let Some(paragraph) = self.open.last_mut() {
                    paragraph.level = outline_level(element);
                }
            }
            "tbl" => self.tables += 1,
            // The same once more for older programs; and tab stops, whose elements are named as tabs.
            "Fallback" | "tabs" | "rPr" | "sectPr" => steps.skip()?,
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, text: &str) {
        if let Some(paragraph) = self.open.last_mut() {
            paragraph.text.push_str(text);
        }
    }

    fn end(&mut self, name: &str, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        match name {
            "p" => {
                let Some(paragraph) = self.open.pop() else {
                    return Ok(());
                };
                if self.tables > 0 {
                    self.cell.push(' ');
                    self.cell.push_str(&paragraph.text);
                    return out.meter.pending(self.cell.len());
                }
                let style = paragraph.style.as_ref();
                let by_style =
                    style.and_then(|id| self.styles.get(id).copied().or(named_level(id)));
                match paragraph.level.or(by_style) {
                    Some(level) => out.heading(level, &paragraph.text)?,
                    None => out.paragraph(&paragraph.text)?,
                }
            }
            "tc" if self.tables == 1 => self.row.push(std::mem::take(&mut self.cell)),
            "tr" if self.tables == 1 => {
                out.meter.cells(self.row.len() as u64)?;
                self.rows
                    .push(join_cells(self.row.iter().map(String::as_str)));
                self.row.clear();
            }
            "tbl" => {
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
