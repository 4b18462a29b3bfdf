//! YAML text as a tree whose every part knows where it stands.
//!
//! Graph files use the JSON part of YAML 1.2: no aliases, tags or several documents, so that a
//! small file cannot become a large graph, and duplicate keys are mistakes.

use std::{ops::Range, sync::Arc};

use granit_parser::{Event, Parser, ScalarStyle};
use serde_json::Value as Json;

use crate::{
    codes,
    diagnostic::{Diagnostic, Diagnostics, Severity, SourceFile},
};

/// Most bytes of a graph file.
pub const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting of lists and maps.
pub const MAX_DEPTH: usize = 64;
/// Most values in a file, keys not counted; lists and maps count twice.
pub const MAX_VALUES: usize = 50_000;

/// A place in the text.
pub(crate) type Span = Range<usize>;

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tree {
    pub(crate) data: Data,
    pub(crate) span: Span,
}

/// The content of a [`Tree`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    /// Null, boolean, number or text.
    Scalar(Json),
    List(Vec<Tree>),
    /// Keys in the order of the file, each once.
    Map(Vec<(Key, Tree)>),
}

/// A key with its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) span: Span,
}

impl Tree {
    /// A tree of a JSON value, without places.
    pub(crate) fn of_json(json: &Json) -> Self {
        let data = match json {
            Json::Array(items) => Data::List(items.iter().map(Self::of_json).collect()),
            Json::Object(map) => Data::Map(
                map.iter()
                    .map(|(name, value)| {
                        let key = Key {
                            name: name.clone(),
                            span: 0..0,
                        };
                        (key, Self::of_json(value))
                    })
                    .collect(),
            ),
            scalar => Data::Scalar(scalar.clone()),
        };
        Self { data, span: 0..0 }
    }

    /// The value without places.
    pub(crate) fn to_json(&self) -> Json {
        match &self.data {
            Data::Scalar(json) => json.clone(),
            Data::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Data::Map(entries) => Json::Object(
                entries
                    .iter()
                    .map(|(key, value)| (key.name.clone(), value.to_json()))
                    .collect(),
            ),
        }
    }

    /// The entry of a map, with its key.
    pub(crate) fn entry(&self, name: &str) -> Option<(&Key, &Self)> {
        match &self.data {
            Data::Map(entries) => entries
                .iter()
                .find(|(key, _)| key.name == name)
                .map(|(key, value)| (key, value)),
            _ => None,
        }
    }

    /// The text of a scalar.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(Json::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The value at a path of keys and list positions, or the nearest thing that exists above it.
    pub(crate) fn at<S: AsRef<str>>(&self, path: &[S]) -> &Self {
        let mut here = self;
        for part in path {
            let part = part.as_ref();
            let next = match &here.data {
                Data::Map(_) => here.entry(part).map(|(_, value)| value),
                Data::List(items) => part.parse::<usize>().ok().and_then(|at| items.get(at)),
                Data::Scalar(_) => None,
            };
            match next {
                Some(next) => here = next,
                None => break,
            }
        }
        here
    }

    /// The place of the key at the end of a path, or of the nearest thing above it.
    pub(crate) fn key_span<S: AsRef<str>>(&self, path: &[S]) -> Span {
        let Some((last, above)) = path.split_last() else {
            return self.span.clone();
        };
        let parent = self.at(above);
        match parent.entry(last.as_ref()) {
            Some((key, _)) => key.span.clone(),
            None => self.at(path).span.clone(),
        }
    }
}

/// Reads YAML.
///
/// # Errors
/// Every mistake of syntax up to the first that makes reading on impossible, and every duplicate
/// key.
pub(crate) fn read(source: &Arc<SourceFile>) -> Result<Tree, Diagnostics> {
    let mut reader = Reader {
        source,
        found: Diagnostics::new(),
        values: 0,
    };
    let tree = reader.document();
    match tree {
        Some(tree) if !reader.found.has_errors() => Ok(tree),
        _ => Err(reader.found),
    }
}

struct Reader<'a> {
    source: &'a Arc<SourceFile>,
    found: Diagnostics,
    values: usize,
}

/// What one event of the parser means.
enum Step {
    /// A value is complete.
    Value(Tree),
    /// A list or map begins at this byte.
    Open(Data, usize),
    /// Nothing for the tree, or a key.
    Nothing,
    /// Reading on makes no sense.
    Stop,
}

/// A list or map whose end has not come.
struct Open {
    data: Data,
    start: usize,
    key: Option<Key>,
}

impl Reader<'_> {
    fn report(&mut self, code: &'static str, span: Span, message: String, help: Option<&str>) {
        self.found.push(Diagnostic {
            code,
            severity: Severity::Error,
            message,
            help: help.map(str::to_owned),
            span,
            source: self.source.clone(),
        });
    }

    fn document(&mut self) -> Option<Tree> {
        if self.source.text.len() > MAX_BYTES {
            let message = format!("the file has more than {MAX_BYTES} bytes");
            self.report(
                codes::LIMIT,
                0..0,
                message,
                Some("split it with `subgraph` nodes"),
            );
            return None;
        }
        let source = self.source.clone();
        let mut open: Vec<Open> = Vec::new();
        let mut root = None;
        for next in Parser::new_from_str(&source.text) {
            let (event, span) = match next {
                Ok(next) => next,
                Err(error) => {
                    let at = error.marker().byte_offset().unwrap_or(source.text.len());
                    let message = format!("the file is not valid YAML: {}", error.info());
                    self.report(codes::SYNTAX, at..at, message, None);
                    return None;
                }
            };
            if matches!(event, Event::DocumentStart(..)) && root.is_some() {
                let message = "the file holds more than one document".to_owned();
                let span = span.byte_range().unwrap_or(0..0);
                let help = Some("one graph, one file");
                self.report(codes::UNSUPPORTED_YAML, span, message, help);
                return None;
            }
            match self.step(event, span.byte_range().unwrap_or(0..0), &mut open) {
                Step::Value(done) => self.place(&mut open, done, &mut root),
                Step::Open(data, start) => open.push(Open {
                    data,
                    start,
                    key: None,
                }),
                Step::Nothing => continue,
                Step::Stop => return None,
            }
            self.values += 1;
            if self.values > MAX_VALUES {
                let message = format!("the file has more than {MAX_VALUES} values");
                self.report(codes::LIMIT, 0..0, message, None);
                return None;
            }
        }
        if root.is_none() {
            let help = Some("begin with `version: 1`");
            self.report(codes::SYNTAX, 0..0, "the file is empty".to_owned(), help);
        }
        root
    }

    /// What one event of the parser means.
    fn step(&mut self, event: Event<'_>, span: Span, open: &mut Vec<Open>) -> Step {
        match event {
            Event::Scalar(text, style, _, tag) => {
                self.plain_only(&span, tag.is_some());
                if self.is_key(open, &text, &span) {
                    return Step::Nothing;
                }
                let data = Data::Scalar(scalar(&text, style));
                Step::Value(Tree { data, span })
            }
            Event::SequenceStart(_, _, tag) if !self.too_deep(open, &span, tag.is_some()) => {
                Step::Open(Data::List(Vec::new()), span.start)
            }
            Event::MappingStart(_, _, tag) if !self.too_deep(open, &span, tag.is_some()) => {
                Step::Open(Data::Map(Vec::new()), span.start)
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => Step::Stop,
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open { data, start, .. }) => {
                    let span = start..span.end.max(start);
                    Step::Value(Tree { data, span })
                }
                None => Step::Stop,
            },
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let message = "aliases are not used in graph files".to_owned();
                let help = Some("write the value out where it is used");
                self.report(codes::UNSUPPORTED_YAML, span.clone(), message, help);
                let data = Data::Scalar(Json::Null);
                Step::Value(Tree { data, span })
            }
            _ => Step::Nothing,
        }
    }

    fn plain_only(&mut self, span: &Span, has_tag: bool) {
        if has_tag {
            let message = "tags are not used in graph files".to_owned();
            let help = Some("remove the word that begins with `!`");
            self.report(codes::UNSUPPORTED_YAML, span.clone(), message, help);
        }
    }

    fn too_deep(&mut self, open: &[Open], span: &Span, has_tag: bool) -> bool {
        self.plain_only(span, has_tag);
        if open
            .last()
            .is_some_and(|o| matches!(o.data, Data::Map(_)) && o.key.is_none())
        {
            let message = "a key must be text".to_owned();
            self.report(codes::SYNTAX, span.clone(), message, None);
            return true;
        }
        if open.len() >= MAX_DEPTH {
            let message = format!("lists and maps are nested more than {MAX_DEPTH} deep");
            self.report(codes::LIMIT, span.clone(), message, None);
            return true;
        }
        false
    }

    /// Takes a scalar as the key of the open map, if one is waited for.
    fn is_key(&mut self, open: &mut [Open], text: &str, span: &Span) -> bool {
        let Some(Open {
            data: Data::Map(entries),
            key: key @ None,
            ..
        }) = open.last_mut()
        else {
            return false;
        };
        let first = entries.iter().find(|(known, _)| known.name == text);
        if let Some(first) = first.map(|(known, _)| known.span.start) {
            let line = self.source.line_column(first).0;
            let message = format!("`{text}` stands twice; it is also on line {line}");
            self.report(
                codes::DUPLICATE_KEY,
                span.clone(),
                message,
                Some("keep one of them"),
            );
        }
        *key = Some(Key {
            name: text.to_owned(),
            span: span.clone(),
        });
        true
    }

    /// Puts a finished value where it belongs.
    fn place(&mut self, open: &mut [Open], done: Tree, root: &mut Option<Tree>) {
        match open.last_mut() {
            None => *root = Some(done),
            Some(Open {
                data: Data::List(items),
                ..
            }) => items.push(done),
            Some(Open {
                data: Data::Map(entries),
                key,
                ..
            }) => match key.take() {
                Some(key) => entries.push((key, done)),
                None => {
                    let message = "a key must be text".to_owned();
                    self.report(codes::SYNTAX, done.span, message, None);
                }
            },
            Some(_) => {}
        }
    }
}

/// The value of a scalar under YAML 1.2's core schema; quoted ones are text.
fn scalar(text: &str, style: ScalarStyle) -> Json {
    if style != ScalarStyle::Plain {
        return Json::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Json::Null,
        "true" | "True" | "TRUE" => return Json::Bool(true),
        "false" | "False" | "FALSE" => return Json::Bool(false),
        _ => {}
    }
    number(text).unwrap_or_else(|| Json::String(text.to_owned()))
}

fn number(text: &str) -> Option<Json> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(Json::from);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return u64::from_str_radix(octal, 8).ok().map(Json::from);
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let text = text.strip_prefix('+').unwrap_or(text);
        let whole = text.parse::<i64>().map(Json::from);
        return whole.or_else(|_| text.parse::<u64>().map(Json::from)).ok();
    }
    let float_like = digits
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let float = float_like.then(|| text.parse::<f64>().ok()).flatten()?;
    serde_json::Number::from_f64(float).map(Json::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Tree, Diagnostics> {
        read(&Arc::new(SourceFile {
            name: "x.yaml".into(),
            text: text.into(),
        }))
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        let text = "[1, -2, 1.0, 1e3, true, no, ~, '1', 0x1f, 18446744073709551615, 1.2.3, .5, -x]";
        let json = read_text(text).unwrap().to_json();
        let want =
            r#"[1,-2,1.0,1000.0,true,"no",null,"1",31,18446744073709551615,"1.2.3",0.5,"-x"]"#;
        assert_eq!(json.to_string(), want);
    }

    #[test]
    fn parts_know_their_place() {
        let text = "a:\n  b: [x, yy]\n";
        let tree = read_text(text).unwrap();
        assert_eq!(&text[tree.at(&["a", "b", "1"]).span.clone()], "yy");
        assert_eq!(&text[tree.key_span(&["a", "b"])], "b");
    }

    #[test]
    fn bombs_are_refused() {
        let laughs = "a: &a [x]\nb: [*a, *a]\n";
        assert_eq!(
            read_text(laughs).unwrap_err().iter().next().unwrap().code,
            "AF0108"
        );
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert_eq!(
            read_text(&deep).unwrap_err().iter().next().unwrap().code,
            "AF0102"
        );
        let wide = format!("[{}]", "1,".repeat(MAX_VALUES + 1));
        assert_eq!(
            read_text(&wide).unwrap_err().iter().next().unwrap().code,
            "AF0102"
        );
        let large = " ".repeat(MAX_BYTES + 1);
        assert_eq!(
            read_text(&large).unwrap_err().iter().next().unwrap().code,
            "AF0102"
        );
    }
}
