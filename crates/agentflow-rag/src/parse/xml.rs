//! XML as a stream of elements and text. Nothing is fetched and no entity is replaced but the five
//! of XML itself, so that a document cannot grow while it is read.

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesStart, Event},
    name::QName,
};

use super::blocks::Writer;
use crate::{kind::Kind, limits::Meter, refusal::Refusal};

/// One step through a document.
#[derive(Debug)]
pub(crate) enum Node<'a> {
    Start(Element<'a>),
    /// Local name of the element that ends; each start has one.
    End(String),
    Text(String),
    Eof,
}

/// An element's name and attributes.
#[derive(Debug)]
pub(crate) struct Element<'a>(BytesStart<'a>);

impl Element<'_> {
    /// The name without its prefix.
    pub fn name(&self) -> String {
        self.0.local_name().as_ref().to_owned()
    }

    /// An attribute by its name without prefix.
    pub fn attribute(&self, name: &str) -> Option<String> {
        self.find(|key| key.local_name().as_ref() == name)
    }

    /// An attribute by its name with prefix.
    pub fn prefixed(&self, name: &str) -> Option<String> {
        self.find(|key| key.as_ref() == name)
    }

    fn find(&self, wanted: impl Fn(QName<'_>) -> bool) -> Option<String> {
        let mut attributes = self.0.attributes();
        let found = attributes
            .with_checks(false)
            .flatten()
            .find(|it| wanted(it.key))?;
        let value = found.normalized_value(XmlVersion::Implicit1_0).ok()?;
        Some(value.into_owned())
    }
}

/// Reads a document step by step and counts how deep it is.
pub(crate) struct Steps<'a> {
    reader: Reader<&'a [u8]>,
    kind: Kind,
    depth: u64,
    limit: u64,
    /// Entities that were met and left as they are.
    pub entities: u64,
}

impl<'a> Steps<'a> {
    pub fn new(kind: Kind, text: &'a str, meter: &Meter<'_>) -> Self {
        let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        config.allow_dangling_amp = true;
        Self {
            reader,
            kind,
            depth: 0,
            limit: meter.limits.depth,
            entities: 0,
        }
    }

    pub fn next(&mut self) -> Result<Node<'a>, Refusal> {
        loop {
            let at = self.reader.buffer_position();
            let event = self
                .reader
                .read_event()
                .map_err(|error| Refusal::malformed(self.kind, format!("{error} (byte {at})")))?;
            match event {
                Event::Start(element) => {
                    self.depth += 1;
                    crate::limits::within(crate::limits::Bound::Depth, self.depth, self.limit)?;
                    return Ok(Node::Start(Element(element)));
                }
                Event::End(element) => {
                    self.depth = self.depth.saturating_sub(1);
                    return Ok(Node::End(element.local_name().as_ref().to_owned()));
                }
                Event::Text(text) => return Ok(Node::Text(text.xml10_content().into_owned())),
                Event::CData(text) => return Ok(Node::Text(text.xml10_content().into_owned())),
                Event::GeneralRef(reference) => {
                    if let Ok(Some(c)) = reference.resolve_char_ref() {
                        return Ok(Node::Text(c.to_string()));
                    }
                    let name = reference.xml10_content();
                    if let Some(text) = quick_xml::escape::resolve_predefined_entity(&name) {
                        return Ok(Node::Text(text.to_owned()));
                    }
                    self.entities += 1;
                    return Ok(Node::Text(format!("&{name};")));
                }
                Event::Eof => return Ok(Node::Eof),
                Event::Empty(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::DocType(_) => {}
            }
        }
    }

    /// The text of the element that just began, up to its end.
    pub fn inner_text(&mut self) -> Result<String, Refusal> {
        let (mut text, mut depth) = (String::new(), 1);
        while depth > 0 {
            match self.next()? {
                Node::Start(_) => depth += 1,
                Node::End(_) => depth -= 1,
                Node::Text(more) => text.push_str(&more),
                Node::Eof => break,
            }
        }
        Ok(text)
    }

    /// Passes over the element that just began.
    pub fn skip(&mut self) -> Result<(), Refusal> {
        self.inner_text().map(drop)
    }
}

/// Title and author out of `docProps/core.xml` and its like.
pub(crate) fn facts(kind: Kind, text: &str, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut steps = Steps::new(kind, text, out.meter);
    loop {
        match steps.next()? {
            Node::Start(element) => match element.name().as_str() {
                "title" => {
                    let title = steps.inner_text()?;
                    out.titled(&title);
                }
                "creator" | "initial-creator" => {
                    let author = steps.inner_text()?;
                    out.fact("author", &author);
                }
                "subject" => {
                    let subject = steps.inner_text()?;
                    out.fact("subject", &subject);
                }
                "language" => {
                    let language = steps.inner_text()?;
                    out.fact("language", &language);
                }
                _ => {}
            },
            Node::Eof => return Ok(()),
            _ => {}
        }
    }
}

/// Bytes of text after which a block of XML ends at the next element.
const BLOCK: usize = 1_500;

/// Any XML: the texts of its elements, a line each.
pub(crate) fn read(text: &str, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut steps = Steps::new(Kind::Xml, text, out.meter);
    let (mut block, mut line) = (String::new(), String::new());
    loop {
        let node = steps.next()?;
        match node {
            Node::Text(more) => {
                line.push_str(&more);
                out.meter.pending(block.len() + line.len())?;
            }
            node => {
                let text = super::blocks::one_line(&line);
                line.clear();
                if !text.is_empty() {
                    if !block.is_empty() {
                        block.push('\n');
                    }
                    block.push_str(&text);
                    if block.len() >= BLOCK {
                        out.paragraph(&block)?;
                        block.clear();
                    }
                }
                if let Node::Eof = node {
                    break;
                }
            }
        }
    }
    if steps.entities > 0 {
        out.warn("entities that the document defines were not replaced");
    }
    out.paragraph(&block)
}
