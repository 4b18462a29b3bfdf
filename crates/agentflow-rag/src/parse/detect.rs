//! Which kind a file is: by its content, and by its name where content cannot tell.

use super::{Declared, archive::Archive, text};
use crate::{kind::Kind, limits::Meter, refusal::Refusal};

/// Bytes in which a PDF has to begin.
const PDF_START: usize = 1_024;
/// Bytes that are looked at to tell text from binary data.
const SAMPLE: usize = 8_192;
/// Header fields of which a message without a telling name has at least two.
const HEADERS: [&str; 9] = [
    "from:",
    "to:",
    "subject:",
    "date:",
    "received:",
    "return-path:",
    "message-id:",
    "mime-version:",
    "delivered-to:",
];

/// The kind, and what to tell the sender about its name.
#[derive(Debug)]
pub(crate) struct Found {
    pub kind: Kind,
    pub warning: Option<String>,
}

pub(crate) fn detect(
    bytes: &[u8],
    declared: &Declared,
    meter: &Meter<'_>,
) -> Result<Found, Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::Empty { kind: None });
    }
    let said = declared.kind();
    let kind = match by_signature(bytes, said, meter)? {
        Some(kind) => kind,
        None => textual(bytes, declared, said)?,
    };
    let warning = said.filter(|said| !agree(*said, kind)).map(|said| {
        let name = declared.name.as_deref().or(declared.mime.as_deref());
        format!(
            "{} stands for {said}, but the content is {kind} and was read as such",
            name.unwrap_or_default()
        )
    });
    Ok(Found { kind, warning })
}

/// Whether a name is right about its content: people call the older kinds by one name.
fn agree(said: Kind, kind: Kind) -> bool {
    let sheets = [Kind::Xlsx, Kind::Xlsb, Kind::Xls];
    said == kind || (sheets.contains(&said) && sheets.contains(&kind))
}

/// Kinds that begin with bytes of their own.
fn by_signature(
    bytes: &[u8],
    said: Option<Kind>,
    meter: &Meter<'_>,
) -> Result<Option<Kind>, Refusal> {
    let start = &bytes[..bytes.len().min(PDF_START)];
    if start.windows(5).any(|window| window == b"%PDF-") {
        return Ok(Some(Kind::Pdf));
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return archive(bytes, said, meter).map(Some);
    }
    if bytes.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
        return compound(bytes).map(Some);
    }
    if bytes.starts_with(b"{\\rtf") {
        return Ok(Some(Kind::Rtf));
    }
    if looks_textual(bytes) {
        return Ok(None);
    }
    let Some(found) = infer::get(bytes) else {
        return match said {
            // Text in an encoding without much structure looks like this.
            Some(said) if said.is_textual() => Ok(None),
            Some(said) => Err(Refusal::malformed(said, "its content is not of that kind")),
            None => Ok(None),
        };
    };
    match found.matcher_type() {
        infer::MatcherType::Image => Ok(Some(Kind::Image)),
        infer::MatcherType::Audio => Ok(Some(Kind::Audio)),
        infer::MatcherType::Text => Ok(None),
        _ => Err(Refusal::Unsupported {
            found: found.mime_type().to_owned(),
        }),
    }
}

/// Whether the beginning is text in an encoding of single bytes or of UTF-8.
fn looks_textual(bytes: &[u8]) -> bool {
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    let control = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0xc | 0x1b);
    !sample.iter().any(control)
}

fn archive(bytes: &[u8], said: Option<Kind>, meter: &Meter<'_>) -> Result<Kind, Refusal> {
    let packed = [
        Kind::Docx,
        Kind::Pptx,
        Kind::Xlsx,
        Kind::Xlsb,
        Kind::Ods,
        Kind::Odt,
        Kind::Odp,
        Kind::Epub,
    ];
    let said = said.filter(|said| packed.contains(said));
    let mut archive =
        Archive::open(said.unwrap_or(Kind::Docx), bytes, meter).map_err(|refusal| {
            match (said, refusal) {
                (None, Refusal::Malformed { .. }) => Refusal::Unsupported {
                    found: "a damaged zip archive".into(),
                },
                (_, refusal) => refusal,
            }
        })?;
    // The smallest entry of all, and stored without packing; what is larger is something else.
    let mut small = Meter::new(meter.limits, bytes)?;
    let mimetype = archive.read("mimetype", &mut small);
    if let Ok(Some(mimetype)) = mimetype {
        let mimetype = String::from_utf8_lossy(&mimetype);
        let stem = mimetype.trim().trim_end_matches("-template");
        for kind in [Kind::Odt, Kind::Ods, Kind::Odp, Kind::Epub] {
            if stem == kind.mime() {
                return Ok(kind);
            }
        }
    }
    let names = archive.names();
    let has = |start: &str| names.iter().any(|name| name.starts_with(start));
    if has("xl/workbook.bin") {
        Ok(Kind::Xlsb)
    } else if has("xl/") {
        Ok(Kind::Xlsx)
    } else if has("word/") {
        Ok(Kind::Docx)
    } else if has("ppt/") {
        Ok(Kind::Pptx)
    } else if has("META-INF/container.xml") {
        Ok(Kind::Epub)
    } else {
        match said {
            Some(said) => Err(Refusal::malformed(
                said,
                "the archive holds no such document",
            )),
            None => Err(Refusal::Unsupported {
                found: "a zip archive".into(),
            }),
        }
    }
}

/// Office's files before 2007 are folders of named streams; names are UTF-16.
fn compound(bytes: &[u8]) -> Result<Kind, Refusal> {
    let has = |name: &str| {
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        // Folder entries begin at multiples of 128 bytes.
        bytes.chunks(128).any(|entry| entry.starts_with(&name))
    };
    if has("EncryptedPackage") {
        return Err(Refusal::Encrypted { kind: Kind::Docx });
    }
    if has("Workbook") || has("Book") {
        return Ok(Kind::Xls);
    }
    if has("WordDocument") {
        Ok(Kind::Doc)
    } else if has("PowerPoint Document") {
        Ok(Kind::Ppt)
    } else if has("__properties_version1.0") {
        Ok(Kind::Msg)
    } else {
        Err(Refusal::Unsupported {
            found: "a compound file of an unknown program".into(),
        })
    }
}

/// The kind of a text. A name that is specific is right: nobody can tell Markdown from reST, or a
/// page's template from the page.
fn textual(bytes: &[u8], declared: &Declared, said: Option<Kind>) -> Result<Kind, Refusal> {
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    let sample = text::decode(sample, declared.charset(), text::Markup::None).text;
    if text::is_binary(&sample) {
        return Err(match said {
            Some(said) => Refusal::malformed(said, "its content is binary data"),
            None => Refusal::Unsupported {
                found: "binary data of an unknown kind".into(),
            },
        });
    }
    let start = sample.trim_start_matches(['\u{feff}', '\0']).trim_start();
    let markup = markup(start);
    if said == Some(Kind::Image) && markup == Some(Kind::Image) {
        return Ok(Kind::Image);
    }
    let specific = |kind: &Kind| kind.is_textual() && !matches!(kind, Kind::Text | Kind::Rtf);
    if let Some(said) = said.filter(specific) {
        return Ok(match (said, markup) {
            (Kind::Xml, Some(Kind::Html)) => Kind::Html,
            (Kind::Html, Some(Kind::Xml)) => Kind::Xml,
            (said, _) => said,
        });
    }
    if let Some(kind) = markup {
        return Ok(kind);
    }
    if start.starts_with("WEBVTT") {
        return Ok(Kind::Vtt);
    }
    if said != Some(Kind::Text) {
        if is_message(start) {
            return Ok(Kind::Email);
        }
        let json = start.starts_with(['{', '[']);
        if json && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
            return Ok(Kind::Json);
        }
    }
    Ok(Kind::Text)
}

fn markup(start: &str) -> Option<Kind> {
    let lower = start.get(..1_000.min(start.len())).unwrap_or(start);
    let mut rest = lower.to_lowercase();
    let declared = rest.starts_with("<?xml");
    // Past the declaration and comments, to the first element.
    for _ in 0..20 {
        let end = if rest.starts_with("<?") {
            "?>"
        } else if rest.starts_with("<!--") {
            "-->"
        } else {
            break;
        };
        let at = rest.find(end)? + end.len();
        rest = rest[at..].trim_start().to_owned();
    }
    let element = |name: &str| {
        rest.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_whitespace() || c == '>'))
    };
    if rest.starts_with("<!doctype html") || element("<html") {
        Some(Kind::Html)
    } else if element("<svg") || rest.starts_with("<!doctype svg") {
        Some(Kind::Image)
    } else if declared || rest.starts_with("<!doctype") {
        Some(Kind::Xml)
    } else if element("<head") || element("<body") {
        Some(Kind::Html)
    } else {
        None
    }
}

fn is_message(start: &str) -> bool {
    let lower: String = start
        .lines()
        .take(40)
        .collect::<Vec<_>>()
        .join("\n")
        .to_lowercase();
    let known = lower
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| HEADERS.iter().any(|header| line.starts_with(header)));
    known.count() >= 2
}
