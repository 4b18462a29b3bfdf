//! Messages of Outlook: sender, subject, text, attachments. Each property is a stream.
//!
//! Source: Microsoft, [MS-OXMSG], sections 2.1 and 2.2.

use super::{
    blocks::Writer,
    compound::{Compound, utf16},
    email::attached,
    html,
    text::{Markup, decode},
};
use crate::{kind::Kind, refusal::Refusal};

const KIND: Kind = Kind::Msg;
/// Properties of a message and of an attachment.
const SUBJECT: &str = "0037";
const SENDER: &str = "0C1A";
const SENDER_ADDRESS: &str = "5D01";
const TO: &str = "0E04";
const CC: &str = "0E03";
const HEADERS: &str = "007D";
const BODY: &str = "1000";
const HTML: &str = "1013";
const CONTENT: &str = "3701";
const NAME: &str = "3707";
const SHORT_NAME: &str = "3704";
const MIME: &str = "370E";

pub(crate) fn read(bytes: &[u8], out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut file = Compound::open(KIND, bytes)?;
    head(&mut file, out)?;
    let body = text(&mut file, "", BODY, out)?;
    if body.trim().is_empty() {
        if let Some(page) = binary(&mut file, "", HTML, out)? {
            let title = out.title.clone();
            html::read(&decode(&page, None, Markup::Html).text, out)?;
            out.title = title;
        }
    } else {
        out.lines(&body)?;
    }
    out.below(&[]);
    let folders = file.folders();
    let attachments: Vec<&String> = folders
        .iter()
        .filter(|name| name.starts_with("__attach_version1.0_"))
        .collect();
    out.meter.entries(attachments.len() as u64)?;
    for (number, folder) in (1..).zip(attachments) {
        let mut name = text(&mut file, folder, NAME, out)?;
        if name.is_empty() {
            name = text(&mut file, folder, SHORT_NAME, out)?;
        }
        if name.is_empty() {
            name = format!("attachment {number}");
        }
        let mime = Some(text(&mut file, folder, MIME, out)?).filter(|mime| !mime.is_empty());
        match binary(&mut file, folder, CONTENT, out)? {
            Some(content) => attached(&content, name, mime, out)?,
            None => out.warn(format!("{name}: it is no file and was passed over")),
        }
    }
    Ok(())
}

fn head(file: &mut Compound<'_>, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut from = text(file, "", SENDER, out)?;
    let address = text(file, "", SENDER_ADDRESS, out)?;
    if !address.is_empty() && address != from {
        from = format!("{from} <{address}>");
    }
    let headers = text(file, "", HEADERS, out)?;
    let date = headers.lines().find_map(|line| line.strip_prefix("Date:"));
    let subject = text(file, "", SUBJECT, out)?;
    out.titled(&subject);
    let fields = [
        ("From", from),
        ("To", text(file, "", TO, out)?),
        ("Cc", text(file, "", CC, out)?),
        ("Date", date.unwrap_or_default().to_owned()),
        ("Subject", subject),
    ];
    let mut lines = Vec::new();
    for (label, value) in fields {
        let value = value.trim().trim_end_matches('\0');
        if !value.is_empty() {
            out.fact(&label.to_lowercase(), value);
            lines.push(format!("{label}: {value}"));
        }
    }
    out.paragraph(&lines.join("\n"))
}

/// A property that is text; empty if there is none.
fn text(
    file: &mut Compound<'_>,
    folder: &str,
    property: &str,
    out: &mut Writer<'_, '_>,
) -> Result<String, Refusal> {
    if let Some(bytes) = file.read(&stream(folder, property, "001F"), out.meter)? {
        return Ok(utf16(&bytes));
    }
    let bytes = file.read(&stream(folder, property, "001E"), out.meter)?;
    Ok(bytes
        .map(|bytes| decode(&bytes, None, Markup::None).text)
        .unwrap_or_default())
}

/// A property that is bytes.
fn binary(
    file: &mut Compound<'_>,
    folder: &str,
    property: &str,
    out: &mut Writer<'_, '_>,
) -> Result<Option<Vec<u8>>, Refusal> {
    file.read(&stream(folder, property, "0102"), out.meter)
}

fn stream(folder: &str, property: &str, kind: &str) -> String {
    format!("/{folder}/__substg1.0_{property}{kind}")
}
