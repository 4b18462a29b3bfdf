//! Word documents of before 2007: the text of all pieces. Which paragraphs are headings is told by
//! tables that are not read.
//!
//! Source: Microsoft, [MS-DOC], sections 2.4.1 and 2.5.

use super::{
    blocks::{Writer, join_cells},
    compound::{Compound, u16_at, u32_at, utf16, western},
};
use crate::{kind::Kind, refusal::Refusal};

const KIND: Kind = Kind::Doc;
/// Where the header says how the file is stored.
const FLAGS: usize = 0x0a;
const ENCRYPTED: u16 = 0x0100;
const TABLE_1: u16 = 0x0200;
/// Where the header has the place of the list of pieces, and its length.
const CLX: usize = 0x01a2;
/// Bit of a piece's place that says that its text has one byte per character.
const NARROW: u32 = 1 << 30;

pub(crate) fn read(bytes: &[u8], out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut file = Compound::open(KIND, bytes)?;
    let main = file.need("/WordDocument", out.meter)?;
    let damaged = || Refusal::malformed(KIND, "its header is damaged");
    let flags = u16_at(&main, FLAGS).ok_or_else(damaged)?;
    if flags & ENCRYPTED != 0 {
        return Err(Refusal::Encrypted { kind: KIND });
    }
    let table = if flags & TABLE_1 == 0 {
        "/0Table"
    } else {
        "/1Table"
    };
    let table = file.need(table, out.meter)?;
    let start = u32_at(&main, CLX).ok_or_else(damaged)? as usize;
    let length = u32_at(&main, CLX + 4).ok_or_else(damaged)? as usize;
    let clx = start
        .checked_add(length)
        .and_then(|end| table.get(start..end));
    let text = text(&main, clx.ok_or_else(damaged)?, out).ok_or_else(damaged)??;
    write(&text, out)
}

/// The text of all pieces: of the document, then of notes, headers and the like.
fn text(main: &[u8], clx: &[u8], out: &Writer<'_, '_>) -> Option<Result<String, Refusal>> {
    let mut at = 0;
    // Properties of text stand before the list.
    while clx.get(at) == Some(&1) {
        at += 3 + usize::from(u16_at(clx, at + 1)?);
    }
    if clx.get(at) != Some(&2) {
        return None;
    }
    let length = u32_at(clx, at + 1)? as usize;
    let list = clx.get(at + 5..)?.get(..length)?;
    // Places of characters, one more than pieces, then a record of eight bytes for each piece.
    let pieces = length.checked_sub(4)? / 12;
    let mut text = String::new();
    for piece in 0..pieces {
        let first = u32_at(list, piece * 4)?;
        let count = u32_at(list, piece * 4 + 4)?.checked_sub(first)? as usize;
        let place = u32_at(list, (pieces + 1) * 4 + piece * 8 + 2)?;
        let place_bytes = (place & !NARROW) as usize;
        if place & NARROW == 0 {
            text.push_str(&utf16(
                main.get(place_bytes..)?.get(..count.checked_mul(2)?)?,
            ));
        } else {
            text.push_str(&western(main.get(place_bytes / 2..)?.get(..count)?));
        }
        if let Err(refusal) = out.meter.pending(text.len()) {
            return Some(Err(refusal));
        }
    }
    Some(Ok(text))
}

fn write(text: &str, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut line = String::new();
    let (mut row, mut rows): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    // For each field that is open: whether this is its code, not its result.
    let mut fields: Vec<bool> = Vec::new();
    for c in text.chars() {
        match c {
            '\u{13}' => {
                out.meter.depth(fields.len() as u64 + 1)?;
                fields.push(true);
            }
            '\u{14}' => {
                if let Some(code) = fields.last_mut() {
                    *code = false;
                }
            }
            '\u{15}' => {
                fields.pop();
            }
            _ if fields.contains(&true) => {}
            // Behind each cell, and once more behind the last of a row.
            '\u{7}' if line.is_empty() && !row.is_empty() => {
                out.meter.cells(row.len() as u64)?;
                rows.push(join_cells(row.iter().map(String::as_str)));
                row.clear();
            }
            '\u{7}' => row.push(std::mem::take(&mut line)),
            '\r' | '\u{c}' if !row.is_empty() => line.push(' '),
            '\r' | '\u{c}' => {
                table(&mut rows, out)?;
                out.paragraph(&line)?;
                line.clear();
            }
            '\u{b}' => line.push('\n'),
            '\u{1e}' => line.push('-'),
            c => line.push(c),
        }
    }
    table(&mut rows, out)?;
    out.paragraph(&line)
}

fn table(rows: &mut Vec<String>, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    rows.retain(|row| !row.is_empty());
    let written = out.paragraph(&rows.join("\n"));
    rows.clear();
    written
}
