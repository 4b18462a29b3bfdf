//! JSON: one line per value, with the path to it. No tree is built.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::blocks::{Writer, one_line};
use crate::{kind::Kind, limits::within, refusal::Refusal};

/// Bytes of lines after which a block ends.
const BLOCK: usize = 1_500;

pub(crate) fn read(text: &str, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut lines = Lines::new(out);
    value(text, &mut lines).or_else(|failure| match failure {
        Failure::Refused(refusal) => Err(refusal),
        // Several values, a line each, are often named so too.
        Failure::Syntax(error) => {
            let first = text.trim_start().lines().next().unwrap_or_default();
            if serde_json::from_str::<serde::de::IgnoredAny>(first).is_ok()
                && text.trim().lines().count() > 1
            {
                lines.forget();
                return read_lines(text, lines.out);
            }
            Err(Refusal::malformed(Kind::Json, error))
        }
    })?;
    Ok(())
}

pub(crate) fn read_lines(text: &str, out: &mut Writer<'_, '_>) -> Result<(), Refusal> {
    let mut bad = 0_u32;
    let mut good = 0_u32;
    for (number, line) in (1_u32..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let mut lines = Lines::new(out);
        lines.joint = "; ";
        match value(line, &mut lines) {
            Ok(()) => good += 1,
            Err(Failure::Refused(refusal)) => return Err(refusal),
            Err(Failure::Syntax(_)) => {
                lines.forget();
                bad += 1;
                continue;
            }
        }
        let row = std::mem::take(&mut lines.block);
        out.row(number, std::iter::once(row.as_str()))?;
    }
    out.end_rows()?;
    if good == 0 && bad > 0 {
        return Err(Refusal::malformed(Kind::JsonLines, "no line of it is JSON"));
    }
    if bad > 0 {
        out.warn(format!("lines that are no JSON were passed over: {bad}"));
    }
    Ok(())
}

enum Failure {
    Syntax(serde_json::Error),
    Refused(Refusal),
}

fn value(text: &str, lines: &mut Lines<'_, '_, '_>) -> Result<(), Failure> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    // Our own limit is below the stack's; the library's own is above ours or refuses before.
    let parsed = Walk(lines).deserialize(&mut deserializer);
    let parsed = parsed.and_then(|()| deserializer.end());
    if let Some(refusal) = lines.refusal.take() {
        return Err(Failure::Refused(refusal));
    }
    match parsed {
        Ok(()) if lines.joint == "\n" => lines.flush().map_err(Failure::Refused),
        Ok(()) => Ok(()),
        Err(error) if error.to_string().contains("recursion limit") => {
            let limit = lines.out.meter.limits.depth.min(LIBRARY_DEPTH);
            let refusal = within(crate::limits::Bound::Depth, limit + 1, limit);
            Err(Failure::Refused(
                refusal.expect_err("one more than allowed"),
            ))
        }
        Err(error) => Err(Failure::Syntax(error)),
    }
}

/// Depth at which the library refuses.
const LIBRARY_DEPTH: u64 = 127;

/// Lines of a value that is read.
struct Lines<'o, 'm, 'l> {
    out: &'o mut Writer<'m, 'l>,
    path: String,
    depth: u64,
    block: String,
    joint: &'static str,
    refusal: Option<Refusal>,
}

impl<'o, 'm, 'l> Lines<'o, 'm, 'l> {
    fn new(out: &'o mut Writer<'m, 'l>) -> Self {
        Self {
            out,
            path: String::new(),
            depth: 0,
            block: String::new(),
            joint: "\n",
            refusal: None,
        }
    }

    fn forget(&mut self) {
        self.block.clear();
        self.path.clear();
    }

    fn line<E: serde::de::Error>(&mut self, value: &str) -> Result<(), E> {
        let value = one_line(value);
        if value.is_empty() {
            return Ok(());
        }
        if !self.block.is_empty() {
            self.block.push_str(self.joint);
        }
        if !self.path.is_empty() {
            self.block.push_str(&self.path);
            self.block.push_str(": ");
        }
        self.block.push_str(&value);
        let bounded = self.out.meter.pending(self.block.len());
        let written = match self.joint {
            "\n" if self.block.len() >= BLOCK => bounded.and_then(|()| self.flush()),
            _ => bounded,
        };
        self.keep(written)
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        let block = std::mem::take(&mut self.block);
        self.out.paragraph(&block)
    }

    /// Ends the walk with a refusal, which serde's errors cannot carry.
    fn keep<E: serde::de::Error>(&mut self, result: Result<(), Refusal>) -> Result<(), E> {
        result.map_err(|refusal| {
            self.refusal = Some(refusal);
            E::custom("refused")
        })
    }

    fn enter<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        let result = self.out.meter.depth(self.depth);
        self.keep(result)
    }
}

/// Visits a value and writes its lines.
struct Walk<'w, 'o, 'm, 'l>(&'w mut Lines<'o, 'm, 'l>);

impl<'de> DeserializeSeed<'de> for Walk<'_, '_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.0.line(if value { "true" } else { "false" })
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.0.line(&value.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.0.line(&value.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.0.line(&value.to_string())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.0.line(value)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.enter()?;
        while items.next_element_seed(Walk(self.0))?.is_some() {}
        self.0.depth -= 1;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.0.enter()?;
        while let Some(key) = entries.next_key::<std::borrow::Cow<'_, str>>()? {
            let before = self.0.path.len();
            if before > 0 {
                self.0.path.push('.');
            }
            let key = one_line(&key);
            self.0.path.push_str(&key);
            let bounded = self.0.out.meter.pending(self.0.path.len());
            self.0.keep(bounded)?;
            entries.next_value_seed(Walk(self.0))?;
            self.0.path.truncate(before);
        }
        self.0.depth -= 1;
        Ok(())
    }
}
