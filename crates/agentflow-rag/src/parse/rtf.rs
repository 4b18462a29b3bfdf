//! Rich Text Format: a text of groups and control words, read without recursion.

use encoding_rs::{Encoding, WINDOWS_1252};

use super::{
    blocks::{CELL, Writer},
    docx::named_level,
};
use crate::refusal::Refusal;

/// Destinations whose text is not the document's.
const PASSED: [&str; 27] = [
    "fonttbl",
    "colortbl",
    "listtext",
    "listtable",
    "listoverridetable",
    "rsidtbl",
    "generator",
    "pict",
    "object",
    "header",
    "headerl",
    "headerr",
    "headerf",
    "footer",
    "footerl",
    "footerr",
    "footerf",
    "themedata",
    "colorschememapping",
    "datastore",
    "latentstyles",
    "xmlnstbl",
    "fldinst",
    "pntext",
    "pntxta",
    "pntxtb",
    "filetbl",
];

/// What a group inherits from the one around it.
#[derive(Clone)]
struct State {
    into: Target,
    /// Bytes of a replacement that follow a Unicode character.
    replacement: usize,
    level: Option<u8>,
    encoding: &'static Encoding,
}

/// Where text goes.
#[derive(Clone, Copy, PartialEq)]
enum Target {
    Text,
    Title,
    Author,
    /// The name of a style.
    Style,
    Nowhere,
}

pub(crate) fn read(bytes: &[u8], out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut reader = Rtf {
        bytes,
        at: 0,
        stack: Vec::new(),
        state: State {
            into: Target::Text,
            replacement: 1,
            level: None,
            encoding: WINDOWS_1252,
        },
        pending: Vec::new(),
        high: None,
        skip: 0,
        star: false,
        line: String::new(),
        title: String::new(),
        author: String::new(),
        default_encoding: WINDOWS_1252,
        fonts: Vec::new(),
        font: None,
        styles: Vec::new(),
        style: None,
        style_name: String::new(),
        row_open: false,
        rows: String::new(),
    };
    reader.run(out)?;
    out.titled(&reader.title);
    out.fact("author", &reader.author);
    Ok(())
}

struct Rtf<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<State>,
    state: State,
    /// Bytes in the encoding of the text, not decoded yet: a character may be two of them.
    pending: Vec<u8>,
    /// First half of a pair of UTF-16.
    high: Option<u16>,
    skip: usize,
    /// The next control word's destination may be passed over.
    star: bool,
    line: String,
    title: String,
    author: String,
    default_encoding: &'static Encoding,
    /// Encodings of fonts, by number.
    fonts: Vec<(i32, &'static Encoding)>,
    /// The font that the font table describes just now.
    font: Option<i32>,
    /// Levels of the styles of headings, by number.
    styles: Vec<(i32, u8)>,
    /// The style that the table of styles describes just now.
    style: Option<i32>,
    style_name: String,
    row_open: bool,
    rows: String,
}

impl Rtf<'_> {
    fn run(&mut self, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'{' => {
                    self.flush();
                    out.meter.depth(self.stack.len() as u64 + 1)?;
                    self.stack.push(self.state.clone());
                    self.skip = 0;
                }
                b'}' => {
                    self.flush();
                    if self.state.into == Target::Style {
                        self.end_style();
                    }
                    self.skip = 0;
                    match self.stack.pop() {
                        Some(outer) => self.state = outer,
                        None => break,
                    }
                    if self.stack.is_empty() {
                        break;
                    }
                }
                b'\\' => self.control(out)?,
                b'\r' | b'\n' | 0 => {}
                byte => self.byte(byte),
            }
            out.meter
                .pending(self.line.len() + self.pending.len() + self.rows.len())?;
        }
        if !self.stack.is_empty() {
            out.warn("the file ends in the middle of a group");
        }
        self.end_paragraph(out)?;
        self.end_rows(out)
    }

    fn byte(&mut self, byte: u8) {
        if self.skip > 0 {
            self.skip -= 1;
        } else if self.state.into != Target::Nowhere {
            self.pending.push(byte);
        }
    }

    /// Decodes the bytes that wait.
    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.pending);
        let (text, _) = self.state.encoding.decode_without_bom_handling(&bytes);
        self.push(&text);
    }

    fn push(&mut self, text: &str) {
        match self.state.into {
            Target::Text => self.line.push_str(text),
            Target::Title => self.title.push_str(text),
            Target::Author => self.author.push_str(text),
            Target::Style => self.style_name.push_str(text),
            Target::Nowhere => {}
        }
    }

    fn text(&mut self, text: &str) {
        self.flush();
        self.push(text);
    }

    fn control(&mut self, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        let Some(&first) = self.bytes.get(self.at) else {
            return Ok(());
        };
        if !first.is_ascii_alphabetic() {
            self.at += 1;
            match first {
                b'\'' => {
                    let hex = self.bytes.get(self.at..self.at + 2);
                    self.at = (self.at + 2).min(self.bytes.len());
                    let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
                    if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                        self.byte(byte);
                    }
                }
                b'*' => self.star = true,
                b'~' => self.text("\u{a0}"),
                b'_' => self.text("-"),
                b'\r' | b'\n' => self.end_paragraph(out)?,
                b'{' | b'}' | b'\\' => self.byte(first),
                _ => {}
            }
            return Ok(());
        }
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_alphabetic) {
            self.at += 1;
        }
        let word = String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned();
        let value = self.value();
        if self.bytes.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        let star = std::mem::take(&mut self.star);
        self.word(&word, value, star, out)
    }

    /// The number behind a control word.
    fn value(&mut self) -> Option<i32> {
        let start = self.at;
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        std::str::from_utf8(&self.bytes[start..self.at])
            .ok()?
            .parse()
            .ok()
    }

    fn word(
        &mut self,
        word: &str,
        value: Option<i32>,
        star: bool,
        out: &mut Writer<'_, '_>,
    ) -> Result<(), Refusal> {
        match word {
            "par" | "sect" | "page" => self.end_paragraph(out)?,
            "line" => self.text("\n"),
            "tab" => self.text("\t"),
            "emdash" => self.text("—"),
            "endash" => self.text("–"),
            "lquote" => self.text("‘"),
            "rquote" => self.text("’"),
            "ldblquote" => self.text("“"),
            "rdblquote" => self.text("”"),
            "bullet" => self.text("•"),
            "u" => self.unicode(value.unwrap_or_default()),
            "uc" => self.state.replacement = usize::try_from(value.unwrap_or(1)).unwrap_or(1),
            "bin" => {
                let size = usize::try_from(value.unwrap_or_default()).unwrap_or_default();
                self.at = self.at.saturating_add(size).min(self.bytes.len());
            }
            "pard" => self.state.level = None,
            "outlinelevel" => {
                let level = value.and_then(|value| u8::try_from(value).ok());
                self.state.level = level.filter(|level| *level < 9).map(|level| level + 1);
            }
            "cell" => {
                self.text(CELL);
                self.row_open = true;
            }
            "row" => self.end_row(),
            "title" if self.state.into == Target::Nowhere => self.state.into = Target::Title,
            "author" if self.state.into == Target::Nowhere => self.state.into = Target::Author,
            "stylesheet" => self.state.into = Target::Style,
            "s" if self.state.into == Target::Style => self.style = value,
            "s" => {
                let style = self
                    .styles
                    .iter()
                    .find(|(number, _)| Some(*number) == value);
                self.state.level = style.map(|(_, level)| *level);
            }
            "info" => self.state.into = Target::Nowhere,
            "fonttbl" => self.state.into = Target::Nowhere,
            word if star || PASSED.contains(&word) => {
                self.flush();
                self.state.into = Target::Nowhere;
            }
            word => self.encoding(word, value),
        }
        Ok(())
    }

    /// Ends the description of a style, of which the name tells what it is.
    fn end_style(&mut self) {
        let name = std::mem::take(&mut self.style_name);
        let level = named_level(name.trim().trim_end_matches(';'));
        if let (Some(style), Some(level)) = (self.style.take(), level) {
            self.styles.push((style, level));
        }
    }

    /// Control words that say in which encoding bytes are.
    fn encoding(&mut self, word: &str, value: Option<i32>) {
        match (word, value) {
            ("ansicpg", Some(page)) => {
                if let Some(encoding) = code_page(page) {
                    self.default_encoding = encoding;
                    self.state.encoding = encoding;
                }
            }
            ("mac", _) => {
                self.default_encoding = encoding_rs::MACINTOSH;
                self.state.encoding = encoding_rs::MACINTOSH;
            }
            // In the table of fonts, the font that is described; in the text, the one to use.
            ("f", Some(font)) if self.state.into == Target::Nowhere => self.font = Some(font),
            ("fcharset", Some(set)) => {
                if let (Some(font), Some(encoding)) = (self.font, charset(set)) {
                    self.fonts.push((font, encoding));
                }
            }
            ("f", Some(font)) => {
                self.flush();
                let known = self.fonts.iter().rev().find(|(number, _)| *number == font);
                self.state.encoding = known.map_or(self.default_encoding, |(_, it)| *it);
            }
            _ => {}
        }
    }

    /// A unit of UTF-16, and a replacement behind it for programs that know none.
    fn unicode(&mut self, value: i32) {
        self.flush();
        let unit = value.rem_euclid(0x1_0000) as u16;
        match (self.high.take(), unit) {
            (_, 0xd800..=0xdbff) => self.high = Some(unit),
            (Some(high), _) => {
                let pair = String::from_utf16_lossy(&[high, unit]);
                self.push(&pair);
            }
            (None, _) => {
                let one = String::from_utf16_lossy(&[unit]);
                self.push(&one);
            }
        }
        self.skip = self.state.replacement;
    }

    fn end_row(&mut self) {
        self.flush();
        let line = std::mem::take(&mut self.line);
        let row = super::blocks::one_line(line.trim_end_matches([' ', '|']));
        if !row.is_empty() {
            if !self.rows.is_empty() {
                self.rows.push('\n');
            }
            self.rows.push_str(&row);
        }
        self.row_open = false;
    }

    fn end_rows(&mut self, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        let rows = std::mem::take(&mut self.rows);
        out.paragraph(&rows)
    }

    fn end_paragraph(&mut self, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
        self.flush();
        if self.state.into != Target::Text {
            return Ok(());
        }
        if self.row_open {
            self.line.push(' ');
            return Ok(());
        }
        self.end_rows(out)?;
        let line = std::mem::take(&mut self.line);
        match self.state.level {
            Some(level) => out.heading(level, &line),
            None => out.paragraph(&line),
        }
    }
}

fn code_page(page: i32) -> Option<&'static Encoding> {
    let label = match page {
        437 | 850 => return Some(WINDOWS_1252),
        932 => "shift_jis".to_owned(),
        936 => "gbk".to_owned(),
        949 => "euc-kr".to_owned(),
        950 => "big5".to_owned(),
        10_000 => "macintosh".to_owned(),
        65_001 => "utf-8".to_owned(),
        page => format!("windows-{page}"),
    };
    Encoding::for_label(label.as_bytes())
}

fn charset(set: i32) -> Option<&'static Encoding> {
    code_page(match set {
        77 => 10_000,
        128 => 932,
        129 => 949,
        134 => 936,
        136 => 950,
        161 => 1253,
        162 => 1254,
        163 => 1258,
        177 => 1255,
        178 => 1256,
        186 => 1257,
        204 => 1251,
        222 => 874,
        238 => 1250,
        _ => return None,
    })
}
