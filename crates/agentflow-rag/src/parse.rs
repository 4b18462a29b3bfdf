//! From bytes to text: which kind a file is, and the reader of that kind.
//!
//! The content decides, the name only helps where content cannot tell: a PDF named `notes.txt` is
//! read as PDF, with a warning. Call this in a worker ([`crate::sandbox`]) for files of strangers:
//! time and memory are not bounded here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use crate::{
    document::Parsed,
    kind::Kind,
    limits::{Limits, Meter, within},
    refusal::{Model, Refusal},
};

mod archive;
pub(crate) mod blocks;
mod compound;
mod delimited;
mod detect;
mod doc;
mod docx;
mod email;
mod epub;
mod html;
mod json;
mod markdown;
mod msg;
mod odf;
mod outline;
mod pdf;
mod ppt;
mod pptx;
mod rtf;
mod sheets;
mod subtitles;
mod text;
mod xml;

use blocks::Writer;

/// What the sender says about a file. Both are hints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// File name.
    pub name: Option<String>,
    /// Media type.
    pub mime: Option<String>,
}

impl Declared {
    /// A file of which the name is known.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            mime: None,
        }
    }

    /// The extension in lower case, without its dot.
    fn extension(&self) -> Option<String> {
        let name = self.name.as_deref()?;
        let file = name.rsplit(['/', '\\']).next()?;
        let (stem, extension) = file.rsplit_once('.')?;
        (!stem.is_empty() || file.len() > 1).then(|| extension.to_ascii_lowercase())
    }

    /// The kind by name, or else by media type.
    fn kind(&self) -> Option<Kind> {
        let by_name = self.extension().and_then(|it| Kind::of_extension(&it));
        by_name.or_else(|| self.mime.as_deref().and_then(Kind::of_mime))
    }

    /// The encoding that the media type names.
    fn charset(&self) -> Option<&str> {
        let parameters = self.mime.as_deref()?.split(';').skip(1);
        parameters
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
            .map(|(_, value)| value.trim().trim_matches('"'))
    }
}

/// Reads a file.
///
/// A panic of a parser is caught. What else a parser can do to a process is not bounded here: time,
/// memory and the depth of its stack. [`crate::Sandbox`] does that.
///
/// # Errors
/// [`Refusal`]: no text, and why.
pub fn parse(bytes: &[u8], declared: &Declared, limits: &Limits) -> Result<Parsed, Refusal> {
    let mut meter = Meter::new(limits, bytes)?;
    catch_unwind(AssertUnwindSafe(|| nested(bytes, declared, &mut meter))).unwrap_or_else(|panic| {
        Err(Refusal::Crashed {
            message: panic_message(panic.as_ref()),
        })
    })
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    blocks::fact(said.unwrap_or("a panic without a message"))
}

/// Reads a file, or one inside a file, on one meter.
fn nested(bytes: &[u8], declared: &Declared, meter: &mut Meter<'_>) -> Result<Parsed, Refusal> {
    within(
        crate::limits::Bound::Depth,
        meter.nesting,
        meter.limits.nesting,
    )?;
    let found = detect::detect(bytes, declared, meter)?;
    let kind = found.kind;
    if kind.needs_model() {
        let model = match kind {
            Kind::Audio => Model::Transcription,
            _ => Model::Vision,
        };
        return Err(Refusal::NeedsModel { kind, model });
    }
    let mut out = Writer::new(meter);
    if let Some(warning) = found.warning {
        out.warn(warning);
    }
    // Libraries panic on files that they did not think of. Nothing of theirs outlives the call.
    let read = catch_unwind(AssertUnwindSafe(|| read(kind, bytes, declared, &mut out)));
    match read {
        Ok(read) => read?,
        Err(panic) => {
            let message = format!("{GAVE_UP}: {}", panic_message(panic.as_ref()));
            return Err(Refusal::malformed(kind, message));
        }
    }
    out.finish(kind)
}

/// How the message of a refusal begins if its reader panicked.
pub const GAVE_UP: &str = "its reader gave up";

fn read(
    kind: Kind,
    bytes: &[u8],
    declared: &Declared,
    out: &mut Writer<'_, '_>,
) -> Result<(), Refusal> {
    match kind {
        Kind::Pdf => pdf::read(bytes, out),
        Kind::Docx => docx::read(bytes, out),
        Kind::Pptx => pptx::read(bytes, out),
        Kind::Xlsx | Kind::Xlsb | Kind::Xls | Kind::Ods => sheets::read(kind, bytes, out),
        Kind::Odt | Kind::Odp => odf::read(kind, bytes, out),
        Kind::Doc => doc::read(bytes, out),
        Kind::Ppt => ppt::read(bytes, out),
        Kind::Msg => msg::read(bytes, out),
        Kind::Epub => epub::read(bytes, out),
        Kind::Email => email::read(bytes, out),
        Kind::Rtf => rtf::read(bytes, out),
        Kind::Image | Kind::Audio => unreachable!("answered before"),
        _ => {
            let markup = match kind {
                Kind::Html => text::Markup::Html,
                Kind::Xml => text::Markup::Xml,
                _ => text::Markup::None,
            };
            let decoded = text::decode(bytes, declared.charset(), markup);
            if text::is_binary(&decoded.text) {
                return Err(Refusal::malformed(kind, "its content is binary data"));
            }
            out.encoding = Some(decoded.encoding.to_owned());
            decoded.warn(out);
            textual(kind, &decoded.text, out)
        }
    }
}

fn textual(kind: Kind, text: &str, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    match kind {
        Kind::Html => html::read(text, out),
        Kind::Markdown => markdown::read(text, out),
        Kind::Csv => delimited::read(text, delimited::sniff(text), out),
        Kind::Tsv => delimited::read(text, b'\t', out),
        Kind::Json => json::read(text, out),
        Kind::JsonLines => json::read_lines(text, out),
        Kind::Rst => outline::rst(text, out),
        Kind::Org => outline::org(text, out),
        Kind::Xml => xml::read(text, out),
        Kind::Srt | Kind::Vtt => subtitles::read(text, out),
        _ => out.paragraph(text),
    }
}
