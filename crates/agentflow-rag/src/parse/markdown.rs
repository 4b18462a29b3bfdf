//! Markdown: CommonMark with tables, as text without its markup.

use pulldown_cmark::{Event, HeadingLevel, MetadataBlockKind, Options, Parser, Tag, TagEnd};

use super::blocks::{Writer, join_cells};
use crate::refusal::Refusal;

pub(crate) fn read(text: &str, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut page = Page::default();
    for event in Parser::new_ext(text, options) {
        match event {
            Event::Start(tag) => page.start(&tag, out)?,
            Event::End(tag) => page.end(tag, out)?,
            Event::Text(text)
            | Event::Code(text)
            | Event::InlineMath(text)
            | Event::DisplayMath(text) => {
                page.line.push_str(&text);
                out.meter.pending(page.line.len())?;
            }
            Event::SoftBreak => page.line.push(if page.in_table { ' ' } else { '\n' }),
            Event::HardBreak => page.line.push('\n'),
            Event::Rule => page.flush(out)?,
            Event::Html(html) => page.html.push_str(&html),
            Event::InlineHtml(_) | Event::FootnoteReference(_) => {}
            Event::TaskListMarker(done) => {
                page.line.push_str(if done { "[x] " } else { "[ ] " });
            }
        }
    }
    page.flush(out)
}

#[derive(Default)]
struct Page {
    line: String,
    html: String,
    level: Option<u8>,
    code: bool,
    metadata: bool,
    in_table: bool,
    row: Vec<String>,
    rows: Vec<String>,
}

impl Page {
    fn start(&mut self, tag: &Tag<'_>, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        match tag {
            Tag::Heading { level, .. } => {
                self.flush(out)?;
                self.level = Some(number(*level));
            }
            Tag::CodeBlock(_) => {
                self.flush(out)?;
                self.code = true;
            }
            Tag::MetadataBlock(MetadataBlockKind::YamlStyle) => self.metadata = true,
            Tag::Item => {
                self.flush(out)?;
                self.line.push_str("- ");
            }
            Tag::Table(_) => {
                self.flush(out)?;
                self.in_table = true;
            }
            Tag::Paragraph if self.line != "- " => self.flush(out)?,
            Tag::BlockQuote(_) | Tag::List(_) | Tag::FootnoteDefinition(_) => self.flush(out)?,
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, tag: TagEnd, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        match tag {
            TagEnd::Heading(_) | TagEnd::Paragraph | TagEnd::Item | TagEnd::CodeBlock => {
                self.flush(out)?;
                self.code = false;
            }
            TagEnd::HtmlBlock => {
                let html = std::mem::take(&mut self.html);
                super::html::read(&html, out)?;
            }
            TagEnd::MetadataBlock(_) => {
                self.metadata = false;
                front_matter(&std::mem::take(&mut self.line), out);
            }
            TagEnd::TableCell => self.row.push(std::mem::take(&mut self.line)),
            TagEnd::TableHead | TagEnd::TableRow => {
                out.meter.cells(self.row.len() as u64)?;
                self.rows
                    .push(join_cells(self.row.iter().map(String::as_str)));
                self.row.clear();
            }
            TagEnd::Table => {
                self.in_table = false;
                self.rows.retain(|row| !row.is_empty());
                out.paragraph(&self.rows.join("\n"))?;
                self.rows.clear();
            }
            _ => {}
        }
        Ok(())
    }

    fn flush(&mut self, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        let line = std::mem::take(&mut self.line);
        if let Some(level) = self.level.take() {
            if level == 1 && out.is_empty() {
                out.titled(&line);
            }
            return out.heading(level, &line);
        }
        if line.starts_with("- ") && !self.code {
            return out.item(&line);
        }
        out.paragraph(&line)
    }
}

/// The title and author of the block of YAML before the text, if they are plain words.
fn front_matter(yaml: &str, out: &mut Writer<'_, '_>) {
    for line in yaml.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim().trim_matches(['"', '\'']);
        match key {
            "title" => out.titled(value),
            "author" | "date" | "description" | "language" => out.fact(key, value),
            _ => {}
        }
    }
}

fn number(level: HeadingLevel) -> u8 {
    match level {
        HeadingLevel::H1 => 1,
        HeadingLevel::H2 => 2,
        HeadingLevel::H3 => 3,
        HeadingLevel::H4 => 4,
        HeadingLevel::H5 => 5,
        HeadingLevel::H6 => 6,
    }
}
