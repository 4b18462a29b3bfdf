//! What a rule has to say, and how people read it.

use std::path::Path;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::{
    fix::Fix,
    problem::{Kind, Problem},
    rules,
    source::{Sources, Span},
};

/// Most places that one finding shows.
const MAX_RELATED: usize = 5;
/// Most bytes of a line that are shown.
const MAX_LINE_BYTES: usize = 400;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It is worth knowing.
    Note,
    /// It may be meant.
    Warning,
    /// It is to be mended.
    Error,
}

impl Severity {
    /// Its name, as `warning`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Whether a rendered finding has colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    #[default]
    Plain,
    /// ANSI colours.
    Ansi,
}

/// How findings are shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct View<'a> {
    /// With colours or without.
    pub colour: Colour,
    /// The folder that the names of files start from; none shows them as they are.
    pub root: Option<&'a Path>,
    /// Secret text, which is covered.
    pub hidden: &'a [Span],
}

impl<'a> View<'a> {
    /// The name of a file as people know it.
    pub fn name(&self, name: &'a str) -> &'a str {
        let inside = self
            .root
            .and_then(|root| Path::new(name).strip_prefix(root).ok());
        inside.and_then(Path::to_str).unwrap_or(name)
    }
}

/// Whether a finding repeats why its rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A note says it.
    Told,
    /// An earlier finding of the rule said it.
    Known,
}

/// One thing that a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule, as `AFC003`.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it; empty if the message says it.
    pub help: String,
    /// Dotted path of the value in the model.
    pub path: String,
    /// Where it stands.
    pub span: Span,
    /// Other places that explain it.
    pub related: Vec<(Span, String)>,
    /// An edit that mends it.
    pub fix: Option<Fix>,
}

impl Finding {
    /// A problem of reading as a finding: AFC007 for what is no YAML, AFC006 for all else.
    pub fn of_problem(problem: &Problem) -> Self {
        let rule = match problem.kind {
            Kind::Encoding | Kind::Syntax | Kind::Limit => "AFC007",
            _ => "AFC006",
        };
        Self {
            rule,
            severity: Severity::Error,
            message: problem.to_string(),
            help: String::new(),
            path: problem.path.clone(),
            span: problem.span,
            related: problem.related.clone(),
            fix: None,
        }
    }

    /// The finding in rustc's style, with the lines it is about.
    pub fn render(&self, sources: &Sources, view: &View<'_>, why: Why) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let related = &self.related[..self.related.len().min(MAX_RELATED)];
        let first = (self.span, "", AnnotationKind::Primary);
        let others = related
            .iter()
            .map(|(span, label)| (*span, label.as_str(), AnnotationKind::Context));
        let title = level.primary_title(self.message.as_str()).id(self.rule);
        let mut group = Group::with_title(title);
        for (span, label, kind) in std::iter::once(first).chain(others) {
            let Some(line) = Line::of(sources, span, view) else {
                continue;
            };
            let mut annotation = kind.span(line.start..line.end);
            if !label.is_empty() {
                annotation = annotation.label(label);
            }
            group = group.element(
                Snippet::source(line.text)
                    .path(line.name)
                    .line_start(line.number)
                    .annotation(annotation),
            );
        }
        let rule = rules::find(self.rule).filter(|_| why == Why::Told);
        if let Some(rule) = rule {
            group = group.element(Level::NOTE.message(rule.why()));
        }
        if !self.help.is_empty() {
            group = group.element(Level::HELP.message(self.help.as_str()));
        }
        let renderer = match view.colour {
            Colour::Plain => Renderer::plain(),
            Colour::Ansi => Renderer::styled(),
        };
        renderer.render(&[group])
    }
}

/// The line in which a place begins, and the part of it that the place covers.
struct Line<'a> {
    name: &'a str,
    text: String,
    number: usize,
    start: usize,
    end: usize,
}

impl<'a> Line<'a> {
    fn of(sources: &'a Sources, span: Span, view: &View<'a>) -> Option<Self> {
        let file = sources.file(span.file)?;
        let whole = file.text.as_str();
        let floor = |at: usize| {
            let mut at = at.min(whole.len());
            while !whole.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = floor(span.start as usize);
        let end = floor(span.end as usize).max(start);
        let line_start = whole[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = whole[start..]
            .find('\n')
            .map_or(whole.len(), |at| start + at);
        // A long line is cut, so that a minified file still shows where it is wrong.
        let from = floor(line_start.max(start.saturating_sub(MAX_LINE_BYTES / 2)));
        let to = floor(line_end.min(start + MAX_LINE_BYTES / 2));
        let shown = whole[from..to].trim_end_matches('\r');
        let text = cover(shown, from, span.file, view.hidden);
        Some(Self {
            name: view.name(&file.name),
            number: file.line_column(start as u32).0,
            start: (start - from).min(shown.len()),
            end: (end.min(to) - from).min(shown.len()),
            text,
        })
    }
}

/// Part of a file, from the byte `from` on, with stars where secrets stand; as many bytes as before.
fn cover(shown: &str, from: usize, file: u32, hidden: &[Span]) -> String {
    let mut text = shown.to_owned();
    for span in hidden.iter().filter(|span| span.file == file) {
        let start = (span.start as usize).clamp(from, from + shown.len()) - from;
        let end = (span.end as usize).clamp(from, from + shown.len()) - from;
        if start < end && text.is_char_boundary(start) && text.is_char_boundary(end) {
            text.replace_range(start..end, &"*".repeat(end - start));
        }
    }
    text
}
