//! What is wrong with a graph file, where, and what to do about it.

use std::{fmt, ops::Range, sync::Arc};

use agentflow_types::Error;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// Most diagnostics that are kept; a file with more mistakes is not read any further.
pub const MAX_DIAGNOSTICS: usize = 100;

/// Longest word that is compared for "did you mean".
const SUGGESTION_CHARS: usize = 64;

/// Least similarity (Jaro-Winkler, 0 to 1) of a suggestion.
const SUGGESTION_SIMILARITY: f64 = 0.78;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The graph cannot be used.
    Error,
    /// The graph can be used, but perhaps not as meant.
    Warning,
}

/// Whether a rendered report has colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    #[default]
    Plain,
    /// ANSI colours.
    Ansi,
}

/// A file with its text.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Name as it appears in reports.
    pub name: String,
    /// Content.
    pub text: String,
}

impl SourceFile {
    /// Line and column of a byte offset, both from 1; the column counts characters.
    #[must_use]
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let offset = self.floor(offset);
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    /// The nearest character boundary at or before `offset`.
    fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// One mistake or doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Code of the page under `docs/errors/`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one lowercase line.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Where: bytes of the file.
    pub span: Range<usize>,
    /// The file.
    pub source: Arc<SourceFile>,
}

impl Diagnostic {
    /// Line and column of the beginning, both from 1.
    #[must_use]
    pub fn line_column(&self) -> (usize, usize) {
        self.source.line_column(self.span.start)
    }

    /// `file:line:column`.
    #[must_use]
    pub fn location(&self) -> String {
        let (line, column) = self.line_column();
        format!("{}:{line}:{column}", self.source.name)
    }

    /// The report of this one mistake in the manner of rustc.
    #[must_use]
    pub fn render(&self, colour: Colour) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let start = self.source.floor(self.span.start);
        let end = self.source.floor(self.span.end).max(start);
        // Only the first line of a long span is marked; the rest would hide the message.
        let end = self.source.text[start..end]
            .find('\n')
            .map_or(end, |at| start + at);
        let snippet = Snippet::source(self.source.text.as_str())
            .path(self.source.name.as_str())
            .annotation(AnnotationKind::Primary.span(start..end));
        let mut group = level
            .primary_title(self.message.as_str())
            .id(self.code)
            .element(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = match colour {
            Colour::Plain => Renderer::plain(),
            Colour::Ansi => Renderer::styled(),
        };
        renderer.render(&[group])
    }
}

impl fmt::Display for Diagnostic {
    /// One line: `file:line:column: message (help) [code]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location(), self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        write!(f, " [{}]", self.code)
    }
}

/// Everything that is wrong with a file and the files it names, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// No diagnostics.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, unless there are [`MAX_DIAGNOSTICS`] or the same is there already.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.0.len() < MAX_DIAGNOSTICS && !self.0.contains(&diagnostic) {
            self.0.push(diagnostic);
        }
    }

    /// Whether one of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|one| one.severity == Severity::Error)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The diagnostics.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }

    /// All reports in the manner of rustc, with an empty line between them.
    #[must_use]
    pub fn render(&self, colour: Colour) -> String {
        let reports: Vec<String> = self.0.iter().map(|one| one.render(colour)).collect();
        reports.join("\n\n")
    }

    /// Sorts by place, files in the order in which they were read.
    pub(crate) fn sort(&mut self) {
        let mut order: Vec<Arc<SourceFile>> = Vec::new();
        for one in &self.0 {
            if !order.iter().any(|known| Arc::ptr_eq(known, &one.source)) {
                order.push(one.source.clone());
            }
        }
        self.0.sort_by_key(|one| {
            let file = order
                .iter()
                .position(|known| Arc::ptr_eq(known, &one.source));
            (file, one.span.start)
        });
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Colour::Plain))
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostics> for Error {
    fn from(all: Diagnostics) -> Self {
        let first = all.iter().find(|one| one.severity == Severity::Error);
        let code = first.map_or("AF0129", |one| one.code);
        let message = match (first, all.len()) {
            (None, _) => "the graph file has no errors".to_owned(),
            (Some(first), 1) => first.to_string(),
            (Some(first), n) => format!("{first}, and {} more", n - 1),
        };
        Self::invalid(message).code(code).source_err(all)
    }
}

/// The known word that `word` was probably meant to be.
pub(crate) fn suggestion<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.chars().count() > SUGGESTION_CHARS {
        return None;
    }
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            (
                strsim::jaro_winkler(&lower, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(similarity, _)| *similarity >= SUGGESTION_SIMILARITY)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// "did you mean …?" if there is something to suggest, otherwise the list of what is known.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(better) = suggestion(word, known.clone()) {
        return Some(format!("did you mean `{better}`?"));
    }
    let all: Vec<String> = known.into_iter().map(|word| format!("`{word}`")).collect();
    (!all.is_empty()).then(|| format!("known: {}", all.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_carries_the_code_of_the_first_mistake() {
        // Without a mistake of its own the report stands for the graph library's refusal.
        let err = agentflow_types::Error::from(Diagnostics::new());
        assert_eq!(err.error_code(), Some("AF0129"));
    }
}
