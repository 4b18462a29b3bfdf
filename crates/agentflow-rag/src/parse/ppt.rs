//! PowerPoint presentations of before 2007: the texts of slides and notes, in the order of the file.
//!
//! Source: Microsoft, [MS-PPT], sections 2.3, 2.4.14 and 2.9.

use super::{
    blocks::Writer,
    compound::{Compound, u16_at, u32_at, utf16, western},
};
use crate::{kind::Kind, refusal::Refusal};

const KIND: Kind = Kind::Ppt;

const SLIDE: u16 = 0x03ee;
const NOTES: u16 = 0x03f0;
const SLIDE_PERSIST: u16 = 0x03f3;
const MASTER: u16 = 0x03f8;
const HANDOUT: u16 = 0x0fc9;
const TEXT_HEADER: u16 = 0x0f9f;
const TEXT_CHARS: u16 = 0x0fa0;
const TEXT_BYTES: u16 = 0x0fa8;
const TEXT_LIST: u16 = 0x0ff0;
/// The token of a user who set a password.
const ENCRYPTED: u32 = 0xf3d1_c4df;

/// A text, and whether it is a title.
type Text = (bool, String);

pub(crate) fn read(bytes: &[u8], out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut file = Compound::open(KIND, bytes)?;
    let user = file.read("/Current User", out.meter)?.unwrap_or_default();
    if u32_at(&user, 12) == Some(ENCRYPTED) {
        return Err(Refusal::Encrypted { kind: KIND });
    }
    let stream = file.need("/PowerPoint Document", out.meter)?;
    let slides = slides(&stream, out)?;
    out.pages = u32::try_from(slides.len()).ok();
    for (number, texts) in (1..).zip(slides) {
        out.place.slide = Some(number);
        out.below(&[]);
        for (title, text) in texts {
            if title {
                out.heading(1, &text)?;
            } else {
                out.lines(&text)?;
            }
        }
    }
    out.place.slide = None;
    Ok(())
}

/// Goes through the records. Those that hold others are entered, so that nothing is nested here.
fn slides(stream: &[u8], out: &Writer<'_, '_>) -> Result<Vec<Vec<Text>>, Refusal> {
    let (mut listed, mut drawn): (Vec<Vec<Text>>, Vec<Vec<Text>>) = (Vec::new(), Vec::new());
    let mut notes = Vec::new();
    let (mut into, mut title) = (Into::Nothing, false);
    let (mut at, mut size) = (0, 0);
    while let (Some(version), Some(kind), Some(length)) = (
        u16_at(stream, at),
        u16_at(stream, at + 2),
        u32_at(stream, at + 4),
    ) {
        let length = length as usize;
        let body = at + 8;
        let end = body.saturating_add(length).min(stream.len());
        let container = version & 0xf == 0xf;
        // Only the list of slides has texts of slides; others are of masters and notes.
        let passed = matches!(kind, MASTER | HANDOUT) || (kind == TEXT_LIST && version >> 4 != 0);
        at = if container && !passed { body } else { end };
        let text = match kind {
            SLIDE => {
                drawn.push(Vec::new());
                into = Into::Drawn;
                continue;
            }
            NOTES => {
                into = Into::Notes;
                continue;
            }
            TEXT_LIST => {
                into = Into::Nothing;
                continue;
            }
            SLIDE_PERSIST => {
                listed.push(Vec::new());
                into = Into::Listed;
                continue;
            }
            TEXT_HEADER => {
                title = matches!(u32_at(stream, body), Some(0 | 6));
                continue;
            }
            TEXT_CHARS => utf16(&stream[body..end]),
            TEXT_BYTES => western(&stream[body..end]),
            _ => continue,
        };
        size += text.len();
        out.meter.pending(size)?;
        // What stands for a number or a date, and is filled in when it is shown.
        if text.trim_matches(['*', '\r', ' ']).is_empty() {
            continue;
        }
        match into {
            Into::Listed => listed
                .last_mut()
                .into_iter()
                .for_each(|it| it.push((title, text.clone()))),
            Into::Drawn => drawn
                .last_mut()
                .into_iter()
                .for_each(|it| it.push((title, text.clone()))),
            Into::Notes => notes.push((false, text)),
            Into::Nothing => {}
        }
    }
    out.meter.pages(listed.len().max(drawn.len()) as u64)?;
    Ok(joined(listed, drawn, notes))
}

/// The texts of each slide: those of the list, then those of drawings. Notes come last.
fn joined(mut listed: Vec<Vec<Text>>, drawn: Vec<Vec<Text>>, notes: Vec<Text>) -> Vec<Vec<Text>> {
    if listed.len() < drawn.len() {
        listed.resize_with(drawn.len(), Vec::new);
    }
    for (slide, drawn) in listed.iter_mut().zip(drawn) {
        slide.extend(drawn);
    }
    if let Some(last) = listed.last_mut() {
        last.extend(notes);
    }
    listed
}

/// Whose texts come.
#[derive(Clone, Copy)]
enum Into {
    Listed,
    Drawn,
    Notes,
    Nothing,
}
