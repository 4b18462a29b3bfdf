//! reStructuredText and Org: text whose headings are told by their lines.

use super::blocks::Writer;
use crate::refusal::Refusal;

/// Characters that underline a heading of reStructuredText.
const ADORNMENT: &str = "=-~`:'\"^_*+#<>.!$%&(),/;?@[\\]{|}";

/// reStructuredText: headings are underlined; their characters rank in the order of appearance.
pub(crate) fn rst(text: &str, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let lines: Vec<&str> = text.lines().collect();
    let mut ranks: Vec<(char, bool)> = Vec::new();
    let mut paragraph = Paragraph::default();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let next = lines.get(at + 1).copied().unwrap_or_default();
        let over = adornment(line).filter(|c| {
            !next.trim().is_empty() && lines.get(at + 2).and_then(|it| adornment(it)) == Some(*c)
        });
        let under = adornment(next).filter(|_| {
            let width = |text: &str| text.trim_end().chars().count();
            !line.trim().is_empty() && !line.starts_with(' ') && width(next) >= width(line)
        });
        let heading = match (over, under) {
            (Some(c), _) => Some((c, true, next, 3)),
            (None, Some(c)) if adornment(line).is_none() => Some((c, false, line, 2)),
            _ => None,
        };
        if let Some((c, over, title, used)) = heading {
            paragraph.end(out)?;
            let rank = ranks.iter().position(|known| *known == (c, over));
            let rank = rank.unwrap_or_else(|| {
                ranks.push((c, over));
                ranks.len() - 1
            });
            if out.is_empty() {
                out.titled(title);
            }
            out.heading(u8::try_from(rank + 1).unwrap_or(u8::MAX), title)?;
            at += used;
            continue;
        }
        at += 1;
        if line.trim().is_empty() {
            paragraph.end(out)?;
        } else if adornment(line).is_some_and(|_| line.len() >= 4) {
            // A line between paragraphs, or the border of a simple table.
        } else if let Some(directive) = line.trim_start().strip_prefix(".. ") {
            paragraph.end(out)?;
            // A note or a code block says something; links, images and comments do not.
            if let Some((_, argument)) = directive.split_once("::") {
                paragraph.line(argument.trim());
            }
        } else {
            paragraph.line(line);
        }
    }
    paragraph.end(out)
}

/// The character of a line that holds nothing else.
fn adornment(line: &str) -> Option<char> {
    let line = line.trim_end();
    let first = line.chars().next()?;
    let known = line.len() >= 2 && ADORNMENT.contains(first);
    (known && line.chars().all(|c| c == first)).then_some(first)
}

/// Org: headings begin with stars, keywords with `#+`.
pub(crate) fn org(text: &str, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut paragraph = Paragraph::default();
    let mut drawer = false;
    for line in text.lines() {
        let trimmed = line.trim();
        let stars = line.chars().take_while(|c| *c == '*').count();
        let lower = trimmed.to_ascii_lowercase();
        if drawer {
            drawer = lower != ":end:";
        } else if stars > 0 && line[stars..].starts_with(' ') {
            paragraph.end(out)?;
            out.heading(
                u8::try_from(stars).unwrap_or(u8::MAX),
                headline(&line[stars..]),
            )?;
        } else if matches!(lower.as_str(), ":properties:" | ":logbook:") {
            drawer = true;
        } else if let Some(keyword) = lower.strip_prefix("#+") {
            paragraph.end(out)?;
            let value = trimmed.split_once(':').map(|(_, value)| value.trim());
            match (keyword.split([':', ' ']).next(), value) {
                (Some("title"), Some(title)) => out.titled(title),
                (Some("author"), Some(author)) => out.fact("author", author),
                _ => {}
            }
        } else if trimmed.starts_with("# ") || trimmed == "#" {
            // A comment.
        } else if trimmed.is_empty() {
            paragraph.end(out)?;
        } else {
            paragraph.line(line);
        }
    }
    paragraph.end(out)
}

/// A headline without its state, priority and tags.
fn headline(text: &str) -> &str {
    let mut text = text.trim();
    for state in ["TODO ", "DONE "] {
        text = text.strip_prefix(state).unwrap_or(text).trim_start();
    }
    if text.starts_with("[#")
        && let Some((_, rest)) = text.split_once("] ")
    {
        text = rest;
    }
    match text.rsplit_once(' ') {
        Some((title, tags)) if tags.len() > 2 && tags.starts_with(':') && tags.ends_with(':') => {
            title.trim_end()
        }
        _ => text,
    }
}

/// Lines up to a blank one.
#[derive(Default)]
struct Paragraph(String);

impl Paragraph {
    fn line(&mut self, line: &str) {
        if line.is_empty() {
            return;
        }
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(line.trim_end());
    }

    fn end(&mut self, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        let text = std::mem::take(&mut self.0);
        out.paragraph(&text)
    }
}
