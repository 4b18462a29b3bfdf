//! Workbooks: the rows of every sheet, cells as they are shown as far as that is known.

use std::io::Cursor;

use calamine::{Data, DataRef, Dimensions, Ods, Reader, Xls, Xlsb, Xlsx};

use super::{archive::Archive, blocks::Writer, xml::facts};
use crate::{kind::Kind, refusal::Refusal};

type Bytes<'a> = Cursor<&'a [u8]>;

pub(crate) fn read(kind: Kind, bytes: &[u8], out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let damaged = |error: &dyn std::fmt::Display| {
        let message = error.to_string();
        if message.to_lowercase().contains("password") {
            return Refusal::Encrypted { kind };
        }
        Refusal::malformed(kind, message)
    };
    if kind != Kind::Xls {
        // The reader unpacks by itself, so everything is measured before.
        let mut archive = Archive::open(kind, bytes, out.meter)?;
        archive.warn(out);
        archive.measure(out.meter)?;
        for part in ["docProps/core.xml", "meta.xml"] {
            if let Some(text) = archive.text(part, out.meter)? {
                facts(kind, &text, out)?;
            }
        }
    }
    let source = Cursor::new(bytes);
    match kind {
        Kind::Xlsx => {
            let mut book: Xlsx<Bytes<'_>> = Xlsx::new(source).map_err(|error| damaged(&error))?;
            for name in sheets(&book.sheet_names(), out) {
                match book.worksheet_cells_reader(&name) {
                    Ok(mut cells) => cells_of(&name, out, || {
                        let cell = cells.next_cell().map_err(|error| damaged(&error))?;
                        Ok(cell.map(|cell| (cell.get_position(), shown_ref(cell.get_value()))))
                    })?,
                    // Charts are sheets too.
                    Err(error) => out.warn(format!("the sheet {name:?} was not read: {error}")),
                }
            }
        }
        Kind::Xlsb => {
            let mut book: Xlsb<Bytes<'_>> = Xlsb::new(source).map_err(|error| damaged(&error))?;
            for name in sheets(&book.sheet_names(), out) {
                match book.worksheet_cells_reader(&name) {
                    Ok(mut cells) => cells_of(&name, out, || {
                        let cell = cells.next_cell().map_err(|error| damaged(&error))?;
                        Ok(cell.map(|cell| (cell.get_position(), shown_ref(cell.get_value()))))
                    })?,
                    Err(error) => out.warn(format!("the sheet {name:?} was not read: {error}")),
                }
            }
        }
        Kind::Xls => {
            let book: Xls<Bytes<'_>> = Xls::new(source).map_err(|error| damaged(&error))?;
            whole(book, out)?;
        }
        _ => {
            let book: Ods<Bytes<'_>> = Ods::new(source).map_err(|error| damaged(&error))?;
            whole(book, out)?;
        }
    }
    out.place.sheet = None;
    Ok(())
}

fn sheets(names: &[String], out: &mut Writer<'_, '_>) -> Vec<String> {
    out.pages = u32::try_from(names.len()).ok();
    names.to_vec()
}

/// Reads cells one by one. They come in rows; their positions are not trusted to be near each other,
/// so that a row has as many cells as were there, and room for gaps up to [`GAP`].
fn cells_of(
    sheet: &str,
    out: &mut Writer<'_, '_>,
    mut next: impl FnMut() -> Result<Option<((u32, u32), String)>, Refusal>,
) -> Result<(), Refusal> {
    out.place.sheet = Some(super::blocks::fact(sheet));
    let (mut row, mut number) = (Vec::new(), 0_u32);
    let mut width = 0_u32;
    while let Some(((at, column), text)) = next()? {
        out.meter.cells(1)?;
        if at != number {
            end_row(&mut row, number, out)?;
            (number, width) = (at, 0);
        }
        for _ in width..column.min(width.saturating_add(GAP)) {
            row.push(String::new());
        }
        width = column.saturating_add(1).max(width);
        row.push(text);
    }
    end_row(&mut row, number, out)?;
    out.end_rows()
}

/// Empty cells that are kept between two that are not.
const GAP: u32 = 16;

fn end_row(row: &mut Vec<String>, number: u32, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let written = out.row(number.saturating_add(1), row.iter().map(String::as_str));
    row.clear();
    written
}

/// Reads sheets that their reader holds whole.
fn whole<'a, B>(mut book: B, out: &mut Writer<'_, '_>) -> Result<(), Refusal>
where
    B: Reader<Bytes<'a>>,
    B::Error: std::fmt::Display,
{
    for name in sheets(&book.sheet_names(), out) {
        let range = match book.worksheet_range(&name) {
            Ok(range) => range,
            Err(error) => {
                out.warn(format!("the sheet {name:?} was not read: {error}"));
                continue;
            }
        };
        let start = range.start().unwrap_or_default();
        let size = Dimensions::new(start, range.end().unwrap_or_default()).len();
        out.meter.cells(size)?;
        out.place.sheet = Some(super::blocks::fact(&name));
        for (number, row) in (start.0.saturating_add(1)..).zip(range.rows()) {
            // Columns that are empty in all rows are not in the range.
            let empty = std::iter::repeat_n(String::new(), start.1.min(GAP) as usize);
            let cells: Vec<String> = empty.chain(row.iter().map(shown)).collect();
            out.row(number, cells.iter().map(String::as_str))?;
        }
        out.end_rows()?;
    }
    Ok(())
}

fn shown(cell: &Data) -> String {
    match cell {
        Data::Float(number) => float(*number),
        Data::DateTime(at) => date(at).unwrap_or_else(|| float(at.as_f64())),
        Data::DateTimeIso(at) => at.replacen('T', " ", 1),
        Data::Empty => String::new(),
        other => other.to_string(),
    }
}

fn shown_ref(cell: &DataRef<'_>) -> String {
    match cell {
        DataRef::SharedString(text) => (*text).to_owned(),
        other => shown(&Data::from(other.clone())),
    }
}

/// Without the noise of binary fractions: programs show 15 digits at most.
fn float(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return format!("{number:.0}");
    }
    let rounded: f64 = format!("{number:.14e}").parse().unwrap_or(number);
    rounded.to_string()
}

fn date(at: &calamine::ExcelDateTime) -> Option<String> {
    if at.is_duration() {
        return None;
    }
    let (year, month, day, hour, minute, second, _) = at.to_ymd_hms_milli();
    let date = format!("{year:04}-{month:02}-{day:02}");
    if (hour, minute, second) == (0, 0, 0) {
        return Some(date);
    }
    Some(format!("{date} {hour:02}:{minute:02}:{second:02}"))
}

#[cfg(test)]
mod tests {
    use super::float;

    #[test]
    fn numbers_are_shown_as_people_wrote_them() {
        assert_eq!(float(0.1 + 0.2), "0.3");
        assert_eq!(float(1_200.0), "1200");
        assert_eq!(float(-2.5), "-2.5");
    }
}
