//! One graph that is being compiled: where it stands, what it declares, what was found wrong.

use std::{cell::RefCell, collections::BTreeSet, path::PathBuf, sync::Arc};

use indexmap::IndexMap;
use serde_json::Value as Json;

use crate::{
    agent, codes,
    diagnostic::{Diagnostic, Diagnostics, Severity, SourceFile, did_you_mean},
    dynamic::Dynamic,
    environment::Environment,
    expression::Expression,
    file::{FieldSpec, FieldType, Fields},
    offer::Offer,
    template::{Escape, Template},
    tool::Tools,
    tree::{Span, Tree},
    variables,
};

/// A file that was read.
pub(crate) struct Unit {
    pub(crate) source: Arc<SourceFile>,
    pub(crate) tree: Tree,
    /// Path of the file; `None` for text.
    pub(crate) path: Option<PathBuf>,
}

/// What the compilation of all files of one graph shares.
pub(crate) struct Session<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) found: RefCell<Diagnostics>,
    /// Folder that no path may leave.
    pub(crate) base: PathBuf,
    /// Graph files that contain the one at hand, outermost first.
    pub(crate) stack: RefCell<Vec<PathBuf>>,
}

/// One graph of a file.
pub(crate) struct Scope<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) unit: &'a Unit,
    /// Path of the graph in the file.
    pub(crate) prefix: Vec<String>,
    pub(crate) fields: IndexMap<String, FieldSpec>,
    pub(crate) tools: Tools,
    /// Tools that the file declares, those that cannot be used included.
    pub(crate) declared: BTreeSet<String>,
    /// Tools that model nodes of this graph offer.
    pub(crate) offered: Vec<String>,
    /// Whether the graph was made from an agent's file, in which things stand elsewhere.
    pub(crate) is_agent: bool,
    /// Fields that the node at hand reads; `*` for all.
    pub(crate) reads: RefCell<BTreeSet<String>>,
}

/// All fields, in a set of fields that are read.
pub(crate) const ALL_FIELDS: &str = "*";

impl<'a> Scope<'a> {
    /// A graph of which nothing is known yet but where it stands.
    pub(crate) fn new(session: &'a Session<'a>, unit: &'a Unit, prefix: Vec<String>) -> Self {
        Self {
            session,
            unit,
            prefix,
            fields: IndexMap::new(),
            tools: Tools::none(),
            declared: BTreeSet::new(),
            offered: Vec::new(),
            is_agent: false,
            reads: RefCell::default(),
        }
    }

    pub(crate) fn path(&self, path: &[&str]) -> Vec<String> {
        if self.is_agent {
            return agent::path_in_file(path);
        }
        self.prefix
            .iter()
            .cloned()
            .chain(path.iter().map(|part| (*part).to_owned()))
            .collect()
    }

    /// The place of a value.
    pub(crate) fn at(&self, path: &[&str]) -> Span {
        self.unit.tree.at(&self.path(path)).span.clone()
    }

    /// The place of a key.
    pub(crate) fn key(&self, path: &[&str]) -> Span {
        self.unit.tree.key_span(&self.path(path))
    }

    /// The place of one character of a text; the text itself, if the file writes it otherwise
    /// than it reads (escapes, folded lines).
    pub(crate) fn inside(&self, path: &[&str], text: &str, offset: usize) -> Span {
        let span = self.at(path);
        let written = self.unit.source.text.get(span.clone()).unwrap_or_default();
        let at = match written.find(text) {
            Some(start) => Some(start + offset),
            None => in_block(written, text, offset),
        };
        match at {
            Some(at) => {
                let at = (span.start + at).min(span.end);
                at..at
            }
            None => span,
        }
    }

    pub(crate) fn report(
        &self,
        severity: Severity,
        code: &'static str,
        span: Span,
        message: String,
        help: Option<String>,
    ) {
        let source = self.unit.source.clone();
        self.session.found.borrow_mut().push(Diagnostic {
            code,
            severity,
            message,
            help,
            span,
            source,
        });
    }

    pub(crate) fn error(
        &self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        self.report(Severity::Error, code, span, message.into(), help.into());
    }

    /// Names that expressions and templates may use here.
    fn known<'b>(&'b self, extras: &'b [&'b str]) -> impl Iterator<Item = &'b str> + Clone {
        let fields = self.fields.keys().map(String::as_str);
        fields
            .chain(extras.iter().copied())
            .chain(variables::ALWAYS)
    }

    fn used(&self, names: &[String]) {
        let mut reads = self.reads.borrow_mut();
        for name in names {
            match name.as_str() {
                "state" => reads.insert(ALL_FIELDS.to_owned()),
                name if self.fields.contains_key(name) => reads.insert(name.to_owned()),
                _ => false,
            };
        }
    }

    /// Compiles an expression that may use the fields and `extras`; reports what is wrong.
    pub(crate) fn expression(
        &self,
        path: &[&str],
        text: &str,
        extras: &[&str],
    ) -> Option<Expression> {
        self.expression_at(path, text, text, extras)
    }

    /// As [`Self::expression`], for text that stands inside a longer one.
    fn expression_at(
        &self,
        path: &[&str],
        whole: &str,
        text: &str,
        extras: &[&str],
    ) -> Option<Expression> {
        let before = whole.len() - text.len();
        let expression =
            match Expression::compile(text, |name| self.known(extras).any(|known| known == name)) {
                Ok(expression) => expression,
                Err(mistake) => {
                    let span = self.inside(path, whole, before + mistake.offset);
                    self.error(codes::BAD_EXPRESSION, span, mistake.message, None);
                    return None;
                }
            };
        let mut is_sound = true;
        for name in expression.variables() {
            if !self.known(extras).any(|known| known == name) {
                let offset = before + find_word(text, name);
                let span = self.inside(path, whole, offset);
                let help = did_you_mean(name, self.known(extras));
                let message = format!("unknown variable `{name}`");
                self.error(codes::UNKNOWN_IN_EXPRESSION, span, message, help);
                is_sound = false;
            }
        }
        for name in expression.unknown_functions() {
            let span = self.inside(path, whole, before + find_word(text, &name));
            let message = format!("unknown function `{name}`");
            self.error(codes::UNKNOWN_IN_EXPRESSION, span, message, None);
            is_sound = false;
        }
        self.used(expression.variables());
        is_sound.then_some(expression)
    }

    /// Compiles a template that may use the fields and `extras`; reports what is wrong.
    pub(crate) fn template(
        &self,
        path: &[&str],
        text: &str,
        escape: Escape,
        extras: &[&str],
    ) -> Option<Template> {
        let template = match Template::compile(text, escape) {
            Ok(template) => template,
            Err(mistake) => {
                let span = self.inside(path, text, mistake.offset);
                self.error(codes::BAD_TEMPLATE, span, mistake.message, None);
                return None;
            }
        };
        let mut is_sound = true;
        for name in template.variables() {
            if !self.known(extras).any(|known| known == name) {
                let span = self.inside(path, text, find_word(text, name));
                let help = did_you_mean(name, self.known(extras));
                let message = format!("unknown variable `{name}`");
                self.error(codes::UNKNOWN_IN_TEMPLATE, span, message, help);
                is_sound = false;
            }
        }
        self.used(template.variables());
        is_sound.then_some(template)
    }

    /// Compiles a dynamic value; what is wrong is reported and stands as null.
    pub(crate) fn dynamic(&self, path: &[&str], json: &Json, extras: &[&str]) -> Dynamic {
        let mut text = |text: &str, below: &[String]| {
            let path: Vec<&str> = path
                .iter()
                .copied()
                .chain(below.iter().map(String::as_str))
                .collect();
            let built = match text.strip_prefix('=') {
                Some(inner) => self
                    .expression_at(&path, text, inner, extras)
                    .map(Dynamic::Expression),
                None if !text.contains('{') => Some(Dynamic::Constant(text.into())),
                None => self
                    .template(&path, text, Escape::None, extras)
                    .map(Dynamic::Template),
            };
            built.unwrap_or(Dynamic::Constant(agentflow_types::Value::Null))
        };
        Dynamic::build(json, &mut Vec::new(), &mut text)
    }

    /// Compiles a map from fields of the state to expressions; reports unknown fields.
    pub(crate) fn assignments(
        &self,
        path: &[&str],
        values: &Fields<Json>,
        extras: &[&str],
    ) -> Vec<(agentflow_types::Str, Dynamic)> {
        let mut compiled = Vec::with_capacity(values.len());
        for (name, value) in values {
            let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
            self.is_field(self.key(&path), name);
            if let Some(value) = self.computed(&path, value, extras) {
                compiled.push((name.as_str().into(), value));
            }
        }
        compiled
    }

    /// An expression, or a value that is not text and stands for itself.
    pub(crate) fn computed(&self, path: &[&str], value: &Json, extras: &[&str]) -> Option<Dynamic> {
        match value {
            Json::String(text) => self.expression(path, text, extras).map(Dynamic::Expression),
            other => Some(Dynamic::Constant(agentflow_types::Value::from_json(other))),
        }
    }

    /// Whether the state has a field; reports if not.
    pub(crate) fn is_field(&self, span: Span, name: &str) -> bool {
        if self.fields.contains_key(name) {
            return true;
        }
        let help = did_you_mean(name, self.fields.keys().map(String::as_str))
            .or_else(|| Some(format!("declare it: `state: {{{name}: any}}`")));
        let message = format!("the state has no field `{name}`");
        self.error(codes::UNKNOWN_STATE_FIELD, span, message, help);
        false
    }

    /// The field of messages that a node means: the named one, or the only one.
    pub(crate) fn messages_field(&self, node: &str, named: Option<&str>) -> Option<String> {
        let is_messages = |spec: &FieldSpec| spec.kind == FieldType::Messages;
        if let Some(name) = named {
            let path = ["nodes", node, "messages"];
            if !self.is_field(self.at(&path), name) {
                return None;
            }
            if !self.fields.get(name).is_some_and(is_messages) {
                let help = format!("declare it: `state: {{{name}: messages}}`");
                let message = format!("the field `{name}` is not of type `messages`");
                self.error(codes::NO_MESSAGES_FIELD, self.at(&path), message, help);
                return None;
            }
            return Some(name.to_owned());
        }
        let mut fields = self.fields.iter().filter(|(_, spec)| is_messages(spec));
        match (fields.next(), fields.next()) {
            (Some((name, _)), None) => Some(name.clone()),
            (first, _) => {
                let (message, help) = match first {
                    None => (
                        "the state has no field of messages",
                        "declare one: `state: {messages: messages}`",
                    ),
                    Some(_) => (
                        "the state has several fields of messages",
                        "say which one: `messages: …`",
                    ),
                };
                let span = self.key(&["nodes", node]);
                self.error(codes::NO_MESSAGES_FIELD, span, message, help.to_owned());
                None
            }
        }
    }

    /// What a word in a list of tools means; reports if it means nothing.
    pub(crate) fn tool(&self, span: Span, word: &str) -> Option<Offer> {
        let found = Offer::find(&self.tools, word);
        let declared = word.split('.').next().unwrap_or(word);
        // A declared tool that cannot be used is reported where it is declared.
        if found.is_none() && !self.declared.contains(declared) {
            let help = did_you_mean(word, self.tools.names());
            let message = format!("unknown tool `{word}`");
            self.error(codes::UNKNOWN_TOOL, span, message, help);
        }
        found
    }

    /// Checks that a map is a JSON Schema, as far as that is quickly said.
    pub(crate) fn json_schema(&self, path: &[&str], schema: &Fields<Json>) -> Json {
        const TYPES: [&str; 7] = [
            "string", "integer", "number", "boolean", "array", "object", "null",
        ];
        if let Some(Json::String(word)) = schema.get("type")
            && !TYPES.contains(&word.as_str())
        {
            let path: Vec<&str> = path.iter().copied().chain(["type"]).collect();
            let help = did_you_mean(word, TYPES);
            let message = format!("`{word}` is not a type of JSON Schema");
            self.error(codes::BAD_SCHEMA, self.at(&path), message, help);
        } else if schema
            .get("properties")
            .is_some_and(|properties| !properties.is_object())
        {
            let path: Vec<&str> = path.iter().copied().chain(["properties"]).collect();
            let message = "`properties` of a JSON Schema is a map from names to schemas";
            self.error(codes::BAD_SCHEMA, self.at(&path), message, None);
        }
        Json::Object(
            schema
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        )
    }
}

/// Where a character of a text stands in the indented lines of a block (`|`) that it was read
/// from; `None` if its line is not there as it is.
fn in_block(written: &str, text: &str, offset: usize) -> Option<usize> {
    let before = text.get(..offset)?;
    let line = before.matches('\n').count();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let wanted = text[line_start..].lines().next().unwrap_or_default();
    let start: usize = written.split_inclusive('\n').take(line).map(str::len).sum();
    let found = written.get(start..)?.lines().next()?.find(wanted)?;
    Some(start + found + (offset - line_start))
}

/// Where a word stands in a text; 0 if it does not.
fn find_word(text: &str, word: &str) -> usize {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .map(|(at, _)| at)
        .find(|at| {
            let before = text[..*at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            !before.is_some_and(|c| is_part(c) || c == '.') && !after.is_some_and(is_part)
        })
        .unwrap_or(0)
}
