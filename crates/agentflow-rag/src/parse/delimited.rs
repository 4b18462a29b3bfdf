//! CSV and its like: a row is a line of the text.

use csv::{ReaderBuilder, StringRecord};

use super::blocks::Writer;
use crate::{kind::Kind, refusal::Refusal};

/// Bytes that are looked at to find the delimiter.
const SAMPLE: usize = 8_192;

/// The delimiter that divides the first lines most evenly.
pub(crate) fn sniff(text: &str) -> u8 {
    let mut end = text.len().min(SAMPLE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let count = |delimiter: u8| {
        let mut reader = reader(delimiter, &text[..end]);
        let widths: Vec<usize> = reader
            .records()
            .take(20)
            .filter_map(Result::ok)
            .map(|record| record.len())
            .collect();
        let first = widths.first().copied().unwrap_or_default();
        let even = widths.iter().filter(|width| **width == first).count();
        // A delimiter that does not occur divides evenly, too.
        (first > 1, even * 20 / widths.len().max(1), first)
    };
    b",;\t|"
        .iter()
        .copied()
        .rev()
        .max_by_key(|delimiter| count(*delimiter))
        .unwrap_or(b',')
}

fn reader(delimiter: u8, text: &str) -> csv::Reader<&[u8]> {
    ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes())
}

pub(crate) fn read(text: &str, delimiter: u8, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut reader = reader(delimiter, text);
    let mut record = StringRecord::new();
    let mut number = 0;
    loop {
        let more = reader.read_record(&mut record);
        if !more.map_err(|error| Refusal::malformed(Kind::Csv, error))? {
            break;
        }
        number += 1;
        out.meter.cells(record.len() as u64)?;
        out.row(number, record.iter())?;
    }
    out.end_rows()
}

#[cfg(test)]
mod tests {
    use super::sniff;

    #[test]
    fn delimiters_are_found() {
        assert_eq!(sniff("a,b\n1,2\n"), b',');
        assert_eq!(sniff("a;b\n1,5;2,5\n"), b';');
        assert_eq!(sniff("a\tb\n1, 2\t3\n"), b'\t');
        assert_eq!(sniff("one column\nof words\n"), b',');
    }
}
