//! Compound files: the streams of Office's documents before 2007 and of Outlook's messages.

use std::io::{Cursor, Read};

use cfb::CompoundFile;

use crate::{kind::Kind, limits::Meter, refusal::Refusal};

/// Bytes that are read between two looks at the meter.
const STEP: u64 = 64 << 10;

/// A compound file of a document.
pub(crate) struct Compound<'a> {
    file: CompoundFile<Cursor<&'a [u8]>>,
    kind: Kind,
}

impl<'a> Compound<'a> {
    pub fn open(kind: Kind, bytes: &'a [u8]) -> Result<Self, Refusal> {
        let file = CompoundFile::open(Cursor::new(bytes))
            .map_err(|error| Refusal::malformed(kind, error))?;
        Ok(Self { file, kind })
    }

    /// Reads a stream; `None` if there is none of the name.
    pub fn read(&mut self, name: &str, meter: &mut Meter<'_>) -> Result<Option<Vec<u8>>, Refusal> {
        if !self.file.is_stream(name) {
            return Ok(None);
        }
        let damaged =
            |error| Refusal::malformed(self.kind, format!("the stream {name:?}: {error}"));
        let mut stream = self.file.open_stream(name).map_err(damaged)?;
        let mut bytes = Vec::new();
        loop {
            let read = (&mut stream).take(STEP).read_to_end(&mut bytes);
            let read = read.map_err(damaged)?;
            meter.unpack(read as u64)?;
            if read == 0 {
                return Ok(Some(bytes));
            }
        }
    }

    /// Reads a stream that has to be there.
    pub fn need(&mut self, name: &str, meter: &mut Meter<'_>) -> Result<Vec<u8>, Refusal> {
        let kind = self.kind;
        let bytes = self.read(name, meter)?;
        bytes.ok_or_else(|| Refusal::malformed(kind, format!("the stream {name:?} is missing")))
    }

    /// Names of the folders in the root.
    pub fn folders(&self) -> Vec<String> {
        let entries = self.file.read_root_storage().filter(cfb::Entry::is_storage);
        entries.map(|entry| entry.name().to_owned()).collect()
    }
}

/// A number of two bytes, the lower one first.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A number of four bytes, the lowest one first.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Text in UTF-16, the lower byte first.
pub(crate) fn utf16(bytes: &[u8]) -> String {
    encoding_rs::UTF_16LE
        .decode_without_bom_handling(bytes)
        .0
        .into_owned()
}

/// Text in the encoding of Western Europe.
pub(crate) fn western(bytes: &[u8]) -> String {
    encoding_rs::WINDOWS_1252
        .decode_without_bom_handling(bytes)
        .0
        .into_owned()
}
