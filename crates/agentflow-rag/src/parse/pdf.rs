//! PDF: the text of each page. Two readers of pages, because each fails where the other does not.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pdf_extract::{Document, Error, Object, PlainTextOutput, decode_text_string, output_doc_page};

use super::{blocks::Writer, panic_message};
use crate::{
    kind::Kind,
    refusal::{Model, Refusal},
};

const KIND: Kind = Kind::Pdf;

pub(crate) fn read(bytes: &[u8], out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let opened = guarded(|| open(bytes));
    let document = opened.unwrap_or_else(|panic| Err(Refusal::malformed(KIND, panic)))?;
    let pages: Vec<u32> = document.get_pages().into_keys().collect();
    if pages.is_empty() {
        return Err(Refusal::malformed(KIND, "it has no pages"));
    }
    out.meter.pages(pages.len() as u64)?;
    out.pages = u32::try_from(pages.len()).ok();
    information(&document, out);
    let outline = outline(&document);
    let (mut unread, mut why) = (0_u32, None);
    for page in pages {
        out.place.page = Some(page);
        out.below(above(&outline, page));
        match page_text(&document, page) {
            Ok(text) => out.lines(&text)?,
            Err(message) => {
                unread += 1;
                why.get_or_insert(format!("page {page}: {message}"));
            }
        }
    }
    out.place.page = None;
    out.below(&[]);
    if out.is_empty() {
        return Err(match why {
            Some(message) => Refusal::malformed(KIND, message),
            // Scans are pages that show one picture.
            None if has_pictures(&document) => Refusal::NeedsModel {
                kind: KIND,
                model: Model::Vision,
            },
            None => Refusal::Empty { kind: Some(KIND) },
        });
    }
    if let Some(message) = why {
        out.warn(format!("{unread} pages were not read; {message}"));
    }
    Ok(())
}

/// Runs a part of a parser that may panic on damaged files.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| panic_message(panic.as_ref()))
}

fn open(bytes: &[u8]) -> Result<Document, Refusal> {
    let mut document = Document::load_mem(bytes).map_err(|error| match error {
        Error::InvalidPassword | Error::Decryption(_) => Refusal::Encrypted { kind: KIND },
        error => Refusal::malformed(KIND, error),
    })?;
    // Files that may be read but not changed have an empty password.
    if document.is_encrypted() && document.decrypt("").is_err() {
        return Err(Refusal::Encrypted { kind: KIND });
    }
    unify(&mut document);
    Ok(document)
}

/// Fonts of East Asian scripts often state that their text is UTF-16, by one name per script. The
/// simpler of the two readers knows that of one of them.
fn unify(document: &mut Document) {
    for object in document.objects.values_mut() {
        let Object::Dictionary(font) = object else {
            continue;
        };
        let name = font
            .get(b"Encoding")
            .and_then(Object::as_name)
            .unwrap_or_default();
        let name = String::from_utf8_lossy(name);
        let utf16 = name.contains("-UCS2-") || name.contains("-UTF16-");
        if utf16 && name.starts_with("Uni") && !font.has(b"ToUnicode") {
            font.set("Encoding", Object::Name(b"UniGB-UCS2-H".to_vec()));
        }
    }
}

/// The text of a page by the reader that knows about positions, or by the one that knows less.
fn page_text(document: &Document, page: u32) -> Result<String, String> {
    let placed = guarded(|| {
        let mut text = String::new();
        let mut output = PlainTextOutput::new(&mut text);
        output_doc_page(document, &mut output, page)
            .map(|()| text)
            .map_err(|error| error.to_string())
    });
    let failure = match placed {
        Ok(Ok(text)) if !text.trim().is_empty() => return Ok(text),
        Ok(Ok(_)) => None,
        Ok(Err(message)) => Some(message),
        Err(panic) => Some(panic),
    };
    let plain = guarded(|| document.extract_text(&[page]));
    match (plain, failure) {
        (Ok(Ok(text)), None) => Ok(text),
        (Ok(Ok(text)), Some(_)) if !text.trim().is_empty() => Ok(text),
        (_, Some(failure)) => Err(failure),
        // The page is empty to one reader and damaged to the other.
        (_, None) => Ok(String::new()),
    }
}

fn information(document: &Document, out: &mut Writer<'_, '_>) {
    let read = || -> Option<Vec<(&'static str, String)>> {
        let info = document.trailer.get(b"Info").ok()?;
        let (_, info) = document.dereference(info).ok()?;
        let info = info.as_dict().ok()?;
        let get = |key: &'static str| {
            let (_, value) = document.dereference(info.get(key.as_bytes()).ok()?).ok()?;
            Some((key, decode_text_string(value).ok()?))
        };
        Some(
            ["Title", "Author", "Subject", "Keywords"]
                .into_iter()
                .filter_map(get)
                .collect(),
        )
    };
    for (key, value) in guarded(read).ok().flatten().unwrap_or_default() {
        match key {
            "Title" => out.titled(&value),
            key => out.fact(&key.to_lowercase(), &value),
        }
    }
}

/// Entries of the outline: page, headings down to the entry.
fn outline(document: &Document) -> Vec<(u32, Vec<String>)> {
    let Ok(Ok(contents)) = guarded(|| document.get_toc()) else {
        return Vec::new();
    };
    let mut path: Vec<String> = Vec::new();
    let mut entries = Vec::new();
    for entry in contents.toc {
        path.truncate(entry.level.saturating_sub(1));
        path.push(entry.title);
        if let Ok(page) = u32::try_from(entry.page) {
            entries.push((page, path.clone()));
        }
    }
    entries.sort_by_key(|(page, _)| *page);
    entries
}

/// Headings at the start of a page: the first entry on it, or else the last one before.
fn above(outline: &[(u32, Vec<String>)], page: u32) -> &[String] {
    let before = outline.partition_point(|(at, _)| *at < page);
    match outline.get(before) {
        Some((at, path)) if *at == page => path,
        _ => before.checked_sub(1).map_or(&[], |last| &outline[last].1),
    }
}

fn has_pictures(document: &Document) -> bool {
    document.objects.values().any(|object| match object {
        Object::Stream(stream) => {
            let subtype = stream.dict.get(b"Subtype").and_then(Object::as_name);
            subtype.is_ok_and(|subtype| subtype == b"Image")
        }
        _ => false,
    })
}
