//! Files that were read, and places in them.

use std::sync::OnceLock;

/// Most bytes of one file.
pub const MAX_FILE_BYTES: usize = 16 << 20;

/// A file with its text.
#[derive(Debug)]
pub struct SourceFile {
    /// The path as it was asked for.
    pub name: String,
    /// The text in UTF-8, without a byte-order mark.
    pub text: String,
    lines: OnceLock<Vec<u32>>,
}

impl SourceFile {
    /// Line and column of a byte, both from 1. The column counts characters.
    pub fn line_column(&self, byte: u32) -> (usize, usize) {
        let lines = self.lines.get_or_init(|| {
            let breaks = self.text.bytes().enumerate();
            let after = breaks
                .filter(|(_, byte)| *byte == b'\n')
                .map(|(at, _)| at as u32 + 1);
            std::iter::once(0).chain(after).collect()
        });
        let line = lines.partition_point(|start| *start <= byte).max(1);
        let start = lines[line - 1] as usize;
        let end = (byte as usize).min(self.text.len());
        let column = match self.text.get(start..end) {
            Some(before) => before.chars().count(),
            None => end.saturating_sub(start),
        };
        (line, column + 1)
    }
}

/// A place in one of the [`Sources`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Which file, see [`Sources::file`].
    pub file: u32,
    /// First byte.
    pub start: u32,
    /// Byte after the last.
    pub end: u32,
}

impl Span {
    /// From the start of this place to the end of another in the same file.
    pub fn to(self, other: Self) -> Self {
        if self.file != other.file || other.end < self.start {
            return self;
        }
        Self {
            end: other.end,
            ..self
        }
    }
}

/// Every file of one load.
#[derive(Debug, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
}

impl Sources {
    /// Takes a file in and gives its number.
    pub fn add(&mut self, name: impl Into<String>, text: String) -> u32 {
        self.files.push(SourceFile {
            name: name.into(),
            text,
            lines: OnceLock::new(),
        });
        (self.files.len() - 1) as u32
    }

    /// The file of a [`Span`].
    pub fn file(&self, file: u32) -> Option<&SourceFile> {
        self.files.get(file as usize)
    }

    /// All files in the order in which they were read.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// The text of a place as it is written.
    pub fn text(&self, span: Span) -> Option<&str> {
        let file = self.file(span.file)?;
        file.text.get(span.start as usize..span.end as usize)
    }

    /// `file:line:column` of a place.
    pub fn locate(&self, span: Span) -> String {
        match self.file(span.file) {
            Some(file) => {
                let (line, column) = file.line_column(span.start);
                format!("{}:{line}:{column}", file.name)
            }
            None => "?".to_owned(),
        }
    }
}

/// Reads bytes as text: UTF-8, or UTF-16 with a byte-order mark, as YAML 1.2 allows.
///
/// # Errors
/// What is wrong with the bytes, and the offset of the first wrong one.
pub(crate) fn decode(bytes: &[u8]) -> Result<String, (String, usize)> {
    if bytes.len() > MAX_FILE_BYTES {
        let message = format!("the file has more than {MAX_FILE_BYTES} bytes");
        return Err((message, 0));
    }
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes)?,
        [0xef, 0xbb, 0xbf, rest @ ..] => narrow(rest)?,
        _ => narrow(bytes)?,
    };
    match text.char_indices().find(|(_, c)| !printable(*c)) {
        Some((at, c)) => {
            let code = u32::from(c);
            Err((
                format!("the control character U+{code:04X} is not allowed"),
                at,
            ))
        }
        None => Ok(text),
    }
}

fn narrow(bytes: &[u8]) -> Result<String, (String, usize)> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(("the file is not UTF-8 text".to_owned(), error.valid_up_to())),
    }
}

fn wide(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, (String, usize)> {
    let pairs = bytes.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(("the file ends within a UTF-16 character".to_owned(), 0));
    }
    let units = pairs.map(|pair| unit([pair[0], pair[1]]));
    let text: Result<String, _> = char::decode_utf16(units).collect();
    text.map_err(|_| ("the file is not UTF-16 text".to_owned(), 0))
}

/// Whether YAML allows this character in a file.
fn printable(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}'
        | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one() {
        let mut sources = Sources::default();
        let file = sources.add("a", "ab\nçd\n".to_owned());
        let at = |byte| sources.file(file).map(|f| f.line_column(byte));
        assert_eq!(at(0), Some((1, 1)));
        assert_eq!(at(3), Some((2, 1)));
        assert_eq!(at(5), Some((2, 2)));
        assert_eq!(at(999), Some((3, 1)));
    }

    #[test]
    fn text_may_be_utf8_or_utf16() {
        assert_eq!(decode(b"\xef\xbb\xbfa: b").as_deref(), Ok("a: b"));
        assert_eq!(decode(b"\xff\xfea\0:\0").as_deref(), Ok("a:"));
        assert_eq!(decode(b"\xfe\xff\0a\0:").as_deref(), Ok("a:"));
        assert!(decode(b"a: \xff").is_err());
        assert!(decode(b"\xff\xfea").is_err());
        assert!(decode(b"a: \x01").is_err());
    }
}
