//! Messages: who wrote to whom about what, the text, and what is attached.

use mail_parser::{Address, Message, MessageParser, MimeHeaders, PartType};

use super::{Declared, blocks::Writer, html, nested};
use crate::{kind::Kind, limits::Bound, refusal::Refusal};

const KIND: Kind = Kind::Email;

pub(crate) fn read(bytes: &[u8], out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let message = MessageParser::default()
        .parse(bytes)
        .ok_or_else(|| Refusal::malformed(KIND, "it has no header fields"))?;
    head(&message, out)?;
    body(&message, out)?;
    out.meter.entries(message.attachment_count() as u64)?;
    for (number, part) in (1..).zip(message.attachments()) {
        let name = part.attachment_name().map(str::to_owned);
        let (content, name, mime) = match &part.body {
            PartType::Message(inner) => {
                let name = name.or_else(|| inner.subject().map(|subject| format!("{subject}.eml")));
                (inner.raw_message(), name, Some("message/rfc822".to_owned()))
            }
            _ => {
                let mime = part.content_type().map(|it| match it.subtype() {
                    Some(subtype) => format!("{}/{subtype}", it.ctype()),
                    None => it.ctype().to_owned(),
                });
                (part.contents(), name, mime)
            }
        };
        let name = name.unwrap_or_else(|| format!("attachment {number}"));
        attached(content, name, mime, out)?;
    }
    Ok(())
}

fn head(message: &Message<'_>, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut lines = Vec::new();
    let mut field = |label: &str, key: &str, value: String, out: &mut Writer<'_, '_>| {
        if !value.is_empty() {
            out.fact(key, &value);
            lines.push(format!("{label}: {value}"));
        }
    };
    field("From", "from", addresses(message.from()), out);
    field("To", "to", addresses(message.to()), out);
    field("Cc", "cc", addresses(message.cc()), out);
    let date = message.date().map(mail_parser::DateTime::to_rfc3339);
    field("Date", "date", date.unwrap_or_default(), out);
    let subject = message.subject().unwrap_or_default();
    out.titled(subject);
    field("Subject", "subject", subject.trim().to_owned(), out);
    out.paragraph(&lines.join("\n"))
}

fn addresses(all: Option<&Address<'_>>) -> String {
    let each = all.into_iter().flat_map(Address::iter).map(|one| {
        let address = one.address.as_deref().unwrap_or_default();
        match one.name.as_deref() {
            Some(name) => format!("{name} <{address}>"),
            None => address.to_owned(),
        }
    });
    each.collect::<Vec<_>>().join(", ")
}

/// The plain text, or else the HTML that stands for it.
fn body(message: &Message<'_>, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    for part in message.text_bodies() {
        match &part.body {
            PartType::Text(text) => out.lines(text)?,
            PartType::Html(text) => {
                let title = out.title.clone();
                html::read(text, out)?;
                out.title = title;
            }
            _ => {}
        }
    }
    out.below(&[]);
    Ok(())
}

/// Reads an attachment. One that cannot be read does not take the message with it, unless it is too
/// much for all of it.
pub(crate) fn attached(
    bytes: &[u8],
    name: String,
    mime: Option<String>,
    out: &mut Writer<'_, '_>,
) -> Result<(), Refusal> {
    let declared = Declared {
        name: Some(name.clone()),
        mime,
    };
    out.meter.nesting += 1;
    let inner = nested(bytes, &declared, out.meter);
    out.meter.nesting -= 1;
    match inner {
        Ok(inner) => out.include(&name, inner),
        // Depth is of one attachment; everything else was counted for all of them.
        Err(refusal @ Refusal::TooLarge { bound, .. }) if bound != Bound::Depth => {
            return Err(refusal);
        }
        Err(Refusal::Unsupported { found }) => {
            out.warn(format!("{name}: {found}, which cannot be read"));
        }
        Err(refusal) => out.warn(format!("{name}: {refusal}")),
    }
    Ok(())
}
