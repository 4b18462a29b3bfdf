//! YAML as Compose reads it: anchors, merge keys, `!reset` and `!override`.
//!
//! The parser's events become an arena in which an anchored value stands once. Building the tree
//! copies a value for each alias, which [`MAX_ALIASED`] bounds, so that a small file cannot
//! become a large model.

mod scalar;

use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, StructureStyle, Tag};

use crate::{
    problem::{Kind, Problem},
    source::{Sources, Span},
    tree::{Entry, Map, Node, Value},
};

/// Deepest nesting of lists and maps, with aliases followed.
pub const MAX_DEPTH: usize = 128;
/// Most values that aliases bring in a second time, in one file.
pub const MAX_ALIASED: usize = 250_000;

/// One document of a file.
#[derive(Debug)]
pub(crate) struct Document {
    /// Null if the document is empty.
    pub(crate) root: Node,
    /// Paths tagged `!reset` or `!override`: what earlier files say there goes away.
    pub(crate) resets: Vec<Vec<String>>,
}

/// Reads every document of a file.
///
/// # Errors
/// The first thing that makes reading on impossible.
pub(crate) fn read(sources: &Sources, file: u32) -> Result<Vec<Document>, Problem> {
    let text = match sources.file(file) {
        Some(file) => file.text.as_str(),
        None => return Ok(Vec::new()),
    };
    let mut options = Options::default();
    options.block_scalar_eof_without_line_feed = true;
    options.bom_inside_document_as_content = true;
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut arena = Arena::new(file);
    let mut inline = Vec::new();
    let mut documents = Vec::new();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| {
            let at = error.marker().byte_offset().unwrap_or(text.len());
            let message = format!("the file is not valid YAML: {}", error.info());
            Problem::new(Kind::Syntax, arena.span(at..at), message)
        })?;
        let ended = matches!(event, Event::DocumentEnd);
        arena.no_tabs_before(&event, span.byte_range().unwrap_or_default(), text)?;
        arena.take(event, span.byte_range().unwrap_or_default())?;
        if ended {
            if let Some(root) = arena.root {
                documents.push(Builder::new(&arena, sources).document(root)?);
            }
            inline.append(&mut arena.inline);
            arena = Arena::new(file);
        }
    }
    no_blank_tabs(text, &inline, &arena)?;
    Ok(documents)
}

/// Refuses a line of nothing but white space that begins with a tab, as Docker does. `inline`:
/// where such a line may stand, in order.
fn no_blank_tabs(text: &str, inline: &[Range], arena: &Arena) -> Result<(), Problem> {
    let starts = text.match_indices("\n\t").map(|(at, _)| at + 1);
    for at in text
        .starts_with('\t')
        .then_some(0)
        .into_iter()
        .chain(starts)
    {
        let line = text[at..].split('\n').next().unwrap_or_default();
        let next = inline.partition_point(|range| range.end <= at);
        let within = inline.get(next).is_some_and(|range| range.start < at);
        if line.trim().is_empty() && !within {
            let message = "a line begins with a tab; use spaces";
            return Err(Problem::new(Kind::Syntax, arena.span(at..at + 1), message));
        }
    }
    Ok(())
}

type Range = std::ops::Range<usize>;

type Id = usize;

/// A value as it is written, its aliases not followed.
struct Raw {
    data: Data,
    tag: Written,
    span: Span,
}

enum Data {
    Scalar { text: String, plain: bool },
    List(Vec<Id>),
    Map(Vec<(Id, Id)>),
    Alias(Id),
}

/// The tag of a value.
#[derive(Clone, Debug, PartialEq)]
enum Written {
    None,
    Reset,
    Override,
    /// One of YAML's own, without its prefix.
    Core(String),
    Other,
}

impl Written {
    fn of(tag: Option<&Tag>) -> Self {
        let Some(tag) = tag else {
            return Self::None;
        };
        match (tag.handle(), tag.suffix()) {
            ("!", "reset") => Self::Reset,
            ("!", "override") => Self::Override,
            ("tag:yaml.org,2002:", core) => Self::Core(core.to_owned()),
            ("", "!") | ("!", "") => Self::Core("str".to_owned()),
            _ => Self::Other,
        }
    }
}

/// A list or map whose end has not come.
struct Open {
    id: Id,
    key: Option<Id>,
}

struct Arena {
    file: u32,
    nodes: Vec<Raw>,
    anchors: HashMap<usize, Id>,
    open: Vec<Open>,
    /// How many `[` and `{` are open. Within them no block begins.
    flow: usize,
    /// Where lines may begin with a tab: outermost `[…]`, `{…}` and quoted text of several lines.
    inline: Vec<Range>,
    root: Option<Id>,
}

impl Arena {
    fn new(file: u32) -> Self {
        Self {
            file,
            nodes: Vec::new(),
            anchors: HashMap::new(),
            open: Vec::new(),
            flow: 0,
            inline: Vec::new(),
            root: None,
        }
    }

    fn span(&self, range: Range) -> Span {
        Span {
            file: self.file,
            start: range.start as u32,
            end: range.end.max(range.start) as u32,
        }
    }

    /// Refuses a block value whose line is indented with tabs: the parser lets them pass, Docker
    /// does not.
    fn no_tabs_before(
        &mut self,
        event: &Event<'_>,
        range: Range,
        text: &str,
    ) -> Result<(), Problem> {
        let begins = matches!(
            event,
            Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::MappingStart(..)
                | Event::Alias(_)
        );
        if begins && self.flow == 0 {
            let before = text.get(..range.start).unwrap_or_default();
            let indent = &before[before.rfind('\n').map_or(0, |at| at + 1)..];
            if indent.contains('\t') && indent.trim_start_matches([' ', '\t']).is_empty() {
                let message = "a line is indented with a tab; use spaces";
                return Err(Problem::new(Kind::Syntax, self.span(range), message));
            }
        }
        match event {
            Event::SequenceStart(StructureStyle::Flow, ..)
            | Event::MappingStart(StructureStyle::Flow, ..) => {
                if self.flow == 0 {
                    self.inline.push(range);
                }
                self.flow += 1;
            }
            Event::SequenceEnd | Event::MappingEnd if self.flow > 0 => {
                self.flow -= 1;
                if let Some(last) = self.inline.last_mut() {
                    last.end = range.end;
                }
            }
            Event::Scalar(_, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted, ..)
                if self.flow == 0 =>
            {
                self.inline.push(range);
            }
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, range: Range) -> Result<(), Problem> {
        let span = self.span(range);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let data = Data::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                };
                let id = self.add(data, Written::of(tag.as_deref()), anchor, span);
                self.place(id);
            }
            Event::SequenceStart(_, anchor, tag) => {
                let id = self.add(
                    Data::List(Vec::new()),
                    Written::of(tag.as_deref()),
                    anchor,
                    span,
                );
                self.open.push(Open { id, key: None });
            }
            Event::MappingStart(_, anchor, tag) => {
                let id = self.add(
                    Data::Map(Vec::new()),
                    Written::of(tag.as_deref()),
                    anchor,
                    span,
                );
                self.open.push(Open { id, key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { id, .. }) = self.open.pop() {
                    let start = self.nodes[id].span.start;
                    self.nodes[id].span.end = self.end_of(id, span.end).max(start);
                    self.place(id);
                }
            }
            Event::Alias(anchor) => {
                let Some(target) = self.anchors.get(&anchor).copied() else {
                    let message = "this alias has no anchor before it";
                    return Err(Problem::new(Kind::Syntax, span, message));
                };
                let id = self.add(Data::Alias(target), Written::None, 0, span);
                self.place(id);
            }
            _ => {}
        }
        Ok(())
    }

    /// Where a list or map ends: a block ends with its last value, not where the next line begins.
    fn end_of(&self, id: Id, closed: u32) -> u32 {
        let last = match &self.nodes[id].data {
            Data::List(items) => items.last(),
            Data::Map(entries) => entries.last().map(|(_, value)| value),
            Data::Scalar { .. } | Data::Alias(_) => None,
        };
        let flow = closed > self.nodes[id].span.start
            && self.nodes[id].span.end > self.nodes[id].span.start;
        match last {
            Some(last) if !flow => self.nodes[*last].span.end,
            _ => closed,
        }
    }

    fn add(&mut self, data: Data, tag: Written, anchor: usize, span: Span) -> Id {
        let id = self.nodes.len();
        self.nodes.push(Raw { data, tag, span });
        if anchor > 0 {
            self.anchors.insert(anchor, id);
        }
        id
    }

    /// Puts a complete value into the list or map that is open.
    fn place(&mut self, id: Id) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(id);
            return;
        };
        match &mut self.nodes[open.id].data {
            Data::List(items) => items.push(id),
            Data::Map(entries) => match open.key.take() {
                Some(key) => entries.push((key, id)),
                None => open.key = Some(id),
            },
            Data::Scalar { .. } | Data::Alias(_) => {}
        }
    }
}

/// Follows aliases and merge keys.
struct Builder<'a> {
    arena: &'a Arena,
    sources: &'a Sources,
    path: Vec<String>,
    resets: Vec<Vec<String>>,
    /// Lists and maps on the way down, to see a value that holds itself.
    within: Vec<bool>,
    /// Lists and maps that were built once: their `!reset` values are gone the second time.
    seen: Vec<bool>,
    depth: usize,
    /// How many aliases are being followed.
    following: usize,
    aliased: usize,
    /// How many values tagged `!override` are around.
    overriding: usize,
}

impl<'a> Builder<'a> {
    fn new(arena: &'a Arena, sources: &'a Sources) -> Self {
        Self {
            arena,
            sources,
            path: Vec::new(),
            resets: Vec::new(),
            within: vec![false; arena.nodes.len()],
            seen: vec![false; arena.nodes.len()],
            depth: 0,
            following: 0,
            aliased: 0,
            overriding: 0,
        }
    }

    fn document(mut self, root: Id) -> Result<Document, Problem> {
        let span = self.arena.nodes[root].span;
        let root = self.build(root, true)?;
        Ok(Document {
            root: root.unwrap_or(Node::new(Value::Null, span)),
            resets: self.resets,
        })
    }

    /// The value, or nothing if it is tagged `!reset`. `first`: its parent is built for the first
    /// time, so what it resets is not known yet.
    fn build(&mut self, id: Id, first: bool) -> Result<Option<Node>, Problem> {
        let raw = &self.arena.nodes[id];
        if self.following > 0 {
            self.aliased += 1;
            if self.aliased > MAX_ALIASED {
                let message = format!("aliases bring in more than {MAX_ALIASED} values");
                return Err(Problem::new(Kind::Limit, raw.span, message));
            }
        }
        if self.within[id] {
            let message = "an alias stands inside the value that it repeats";
            return Err(Problem::new(Kind::Syntax, raw.span, message));
        }
        if let Data::Alias(target) = raw.data {
            self.following += 1;
            let built = self.build(target, first);
            self.following -= 1;
            return Ok(built?.map(|mut node| {
                node.alias = Some(raw.span);
                node
            }));
        }
        match raw.tag {
            Written::Reset if self.overriding == 0 => {
                if first {
                    self.resets.push(self.path.clone());
                }
                Ok(None)
            }
            Written::Override if self.overriding == 0 => {
                self.resets.push(self.path.clone());
                self.overriding += 1;
                let built = self.value(id);
                self.overriding -= 1;
                built.map(Some)
            }
            _ => self.value(id).map(Some),
        }
    }

    fn value(&mut self, id: Id) -> Result<Node, Problem> {
        let raw = &self.arena.nodes[id];
        if let Data::Scalar { text, plain } = &raw.data {
            return self.scalar(raw, text, *plain);
        }
        if self.depth >= MAX_DEPTH {
            let message = format!("lists and maps are nested more than {MAX_DEPTH} deep");
            return Err(Problem::new(Kind::Limit, raw.span, message));
        }
        self.depth += 1;
        self.within[id] = true;
        let first = !std::mem::replace(&mut self.seen[id], true);
        let value = match &raw.data {
            Data::List(items) => self.list(items, first),
            Data::Map(entries) => self.entries(entries, first, raw.span),
            Data::Scalar { .. } | Data::Alias(_) => Ok(Value::Null),
        };
        self.within[id] = false;
        self.depth -= 1;
        Ok(Node::new(value?, raw.span))
    }

    fn scalar(&self, raw: &Raw, text: &str, plain: bool) -> Result<Node, Problem> {
        let core = match &raw.tag {
            Written::None => None,
            Written::Core(core) => Some(core.as_str()),
            Written::Reset | Written::Override | Written::Other => Some("str"),
        };
        match scalar::resolve(text, plain, core) {
            Ok(value) => Ok(Node::new(value, raw.span)),
            Err(message) => Err(Problem::new(Kind::Syntax, raw.span, message)),
        }
    }

    fn list(&mut self, items: &[Id], first: bool) -> Result<Value, Problem> {
        let mut built = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            self.path.push(at.to_string());
            let item = self.build(*item, first);
            self.path.pop();
            built.extend(item?);
        }
        Ok(Value::List(built))
    }

    fn entries(&mut self, entries: &[(Id, Id)], first: bool, span: Span) -> Result<Value, Problem> {
        let mut map = Map::with_capacity(entries.len());
        let mut known: HashMap<&str, Span> = HashMap::with_capacity(entries.len());
        let mut merged = None;
        for (key, value) in entries {
            let (name, is_merge) = self.key(*key)?;
            let key_span = self.arena.nodes[*key].span;
            if let Some(before) = known.insert(name, key_span) {
                return Err(self.twice(name, key_span, before));
            }
            if is_merge {
                merged = self.build(*value, first)?;
                continue;
            }
            self.path.push(name.to_owned());
            let node = self.build(*value, first);
            self.path.pop();
            if let Some(node) = node? {
                map.insert(name.to_owned(), Entry::new(key_span, node));
            }
        }
        if let Some(merged) = merged {
            merge_into(&mut map, merged, span)?;
        }
        Ok(Value::Map(map))
    }

    fn twice(&self, name: &str, span: Span, before: Span) -> Problem {
        let file = self.sources.file(before.file);
        let line = file.map_or(0, |file| file.line_column(before.start).0);
        let message = format!("the key `{name}` stands twice; it is also on line {line}");
        Problem::new(Kind::Syntax, span, message).related(before, "first written here")
    }

    /// A key's text, and whether it is the merge key `<<`.
    fn key(&self, id: Id) -> Result<(&'a str, bool), Problem> {
        let mut raw = &self.arena.nodes[id];
        let span = raw.span;
        if let Data::Alias(target) = raw.data {
            raw = &self.arena.nodes[target];
        }
        let Data::Scalar { text, plain } = &raw.data else {
            return Err(Problem::new(Kind::Syntax, span, "a key must be text"));
        };
        if *plain && raw.tag == Written::None && text == "<<" {
            return Ok((text, true));
        }
        match self.scalar(raw, text, *plain)?.value {
            Value::Text(_) => Ok((text, false)),
            _ => {
                let message = format!("the key `{text}` is not text; write it in quotes");
                Err(Problem::new(Kind::Syntax, span, message))
            }
        }
    }
}

/// Adds what `<<` brings: keys that are not there yet, of several maps those of the first.
fn merge_into(map: &mut Map, merged: Node, span: Span) -> Result<(), Problem> {
    let refuse = |at: Span| {
        let message = "`<<` takes a mapping or a list of mappings";
        Err(Problem::new(Kind::Syntax, at, message))
    };
    let at = merged.used();
    let layers = match merged.value {
        Value::Map(layer) => vec![layer],
        Value::List(items) => {
            let mut layers = Vec::with_capacity(items.len());
            for item in items {
                match item.value {
                    Value::Map(layer) => layers.push(layer),
                    _ => return refuse(item.span),
                }
            }
            layers
        }
        _ => return refuse(if at == Span::default() { span } else { at }),
    };
    for (name, mut entry) in layers.into_iter().flatten() {
        if !map.contains_key(&name) {
            entry.node.alias.get_or_insert(at);
            map.insert(name, entry);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
