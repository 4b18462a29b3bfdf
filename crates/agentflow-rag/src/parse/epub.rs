//! Electronic books: the chapters in their reading order, each an HTML page.

use std::collections::HashMap;

use super::{
    archive::{Archive, resolve},
    blocks::Writer,
    html,
    text::{Markup, decode},
    xml::{Node, Steps, facts},
};
use crate::{kind::Kind, refusal::Refusal};

const KIND: Kind = Kind::Epub;

pub(crate) fn read(bytes: &[u8], out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut archive = Archive::open(KIND, bytes, out.meter)?;
    archive.warn(out);
    let encrypted = archive
        .read("META-INF/encryption.xml", out.meter)?
        .is_some();
    let container = archive.need_text("META-INF/container.xml", out.meter)?;
    let package = root_file(&container, out)?;
    let text = archive.need_text(&package, out.meter)?;
    facts(KIND, &text, out)?;
    let chapters = spine(&text, &package, out)?;
    out.meter.entries(chapters.len() as u64)?;
    for name in &chapters {
        let Some(bytes) = archive.read(name, out.meter)? else {
            out.warn(format!("the chapter {name:?} is missing"));
            continue;
        };
        let chapter = decode(&bytes, None, Markup::Xml);
        // Fonts may be hidden by the same means as chapters; text tells.
        if encrypted && super::text::is_binary(&chapter.text) {
            return Err(Refusal::Encrypted { kind: KIND });
        }
        out.below(&[]);
        // A chapter's own title is not the book's.
        let title = out.title.clone().unwrap_or_default();
        out.title = Some(title.clone());
        html::read(&chapter.text, out)?;
        out.title = Some(title).filter(|title| !title.is_empty());
    }
    Ok(())
}

fn root_file(container: &str, out: &Writer<'_, '_>) -> Result<String, Refusal> {
    let mut steps = Steps::new(KIND, container, out.meter);
    loop {
        match steps.next()? {
            Node::Start(element) if element.name() == "rootfile" => {
                if let Some(path) = element.attribute("full-path") {
                    return Ok(resolve("", &path));
                }
            }
            Node::Eof => return Err(Refusal::malformed(KIND, "the container names no package")),
            _ => {}
        }
    }
}

/// Names of the chapters, in reading order, each once.
fn spine(text: &str, package: &str, out: &Writer<'_, '_>) -> Result<Vec<String>, Refusal> {
    let mut steps = Steps::new(KIND, text, out.meter);
    let (mut items, mut order) = (HashMap::new(), Vec::new());
    loop {
        match steps.next()? {
            Node::Start(element) => match element.name().as_str() {
                "item" => {
                    let get = |name| element.attribute(name).unwrap_or_default();
                    let page = get("media-type").contains("html");
                    // The table of contents repeats the headings.
                    let contents = get("properties").split(' ').any(|it| it == "nav");
                    if page && !contents {
                        items.insert(get("id"), resolve(package, &unescape(&get("href"))));
                    }
                }
                "itemref" => order.push(element.attribute("idref").unwrap_or_default()),
                _ => {}
            },
            Node::Eof => break,
            _ => {}
        }
    }
    Ok(order.iter().filter_map(|id| items.remove(id)).collect())
}

/// `%20` and its like.
fn unescape(reference: &str) -> String {
    let mut bytes = Vec::with_capacity(reference.len());
    let mut rest = reference.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let escaped = (*byte == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escaped {
            Some(value) => {
                bytes.push(value);
                rest = &tail[2..];
            }
            None => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
