//! Archives: entries are looked up by exact name and unpacked into memory, counted as they come.
//!
//! Nothing is written to a disk, so names that lead out of a folder lead nowhere. The sizes that
//! an archive states are not believed.

use std::io::{self, Cursor, Read};

use zip::{ZipArchive, result::ZipError};

use super::blocks::Writer;
use crate::{kind::Kind, limits::Meter, refusal::Refusal};

/// Bytes that are unpacked between two looks at the meter.
const STEP: usize = 64 << 10;

/// An archive of a document.
pub(crate) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    kind: Kind,
}

impl<'a> Archive<'a> {
    pub fn open(kind: Kind, bytes: &'a [u8], meter: &Meter<'_>) -> Result<Self, Refusal> {
        let zip = ZipArchive::new(Cursor::new(bytes))
            .map_err(|error| Refusal::malformed(kind, format!("no archive: {error}")))?;
        meter.entries(zip.len() as u64)?;
        Ok(Self { zip, kind })
    }

    /// Names of all entries, as far as they are text.
    pub fn names(&self) -> Vec<String> {
        self.zip
            .file_names()
            .filter_map(Result::ok)
            .map(std::borrow::Cow::into_owned)
            .collect()
    }

    /// Tells of names that would lead out of the folder that an archive is unpacked in.
    pub fn warn(&self, out: &mut Writer<'_, '_>) {
        let leads_out = |name: &String| {
            name.starts_with(['/', '\\']) || name.split(['/', '\\']).any(|part| part == "..")
        };
        if let Some(name) = self.names().iter().find(|name| leads_out(name)) {
            out.warn(format!(
                "the archive's entry {name:?} leads out of it and was passed over"
            ));
        }
    }

    /// Unpacks an entry; `None` if there is none of the name.
    pub fn read(&mut self, name: &str, meter: &mut Meter<'_>) -> Result<Option<Vec<u8>>, Refusal> {
        let mut entry = match self.zip.by_name(name) {
            Ok(entry) => entry,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(error) => return Err(refusal(self.kind, name, &error)),
        };
        let mut bytes = Vec::new();
        loop {
            let before = bytes.len();
            let step = (&mut entry).take(STEP as u64).read_to_end(&mut bytes);
            meter.unpack((bytes.len() - before) as u64)?;
            match step {
                Ok(0) => return Ok(Some(bytes)),
                Ok(_) => {}
                Err(error) => return Err(broken(self.kind, name, &error)),
            }
        }
    }

    /// Unpacks an entry that has to be there.
    pub fn need(&mut self, name: &str, meter: &mut Meter<'_>) -> Result<Vec<u8>, Refusal> {
        let kind = self.kind;
        self.read(name, meter)?
            .ok_or_else(|| Refusal::malformed(kind, format!("the part {name:?} is missing")))
    }

    /// Unpacks an entry as text; `None` if there is none of the name.
    pub fn text(&mut self, name: &str, meter: &mut Meter<'_>) -> Result<Option<String>, Refusal> {
        let bytes = self.read(name, meter)?;
        Ok(bytes.map(|bytes| super::text::decode(&bytes, None, super::text::Markup::Xml).text))
    }

    /// Unpacks an entry as text that has to be there.
    pub fn need_text(&mut self, name: &str, meter: &mut Meter<'_>) -> Result<String, Refusal> {
        let bytes = self.need(name, meter)?;
        Ok(super::text::decode(&bytes, None, super::text::Markup::Xml).text)
    }

    /// Unpacks everything into nowhere, for a reader that unpacks by itself: what it will meet is
    /// within the limits.
    pub fn measure(&mut self, meter: &mut Meter<'_>) -> Result<(), Refusal> {
        let mut buffer = vec![0; STEP];
        for at in 0..self.zip.len() {
            let mut entry = match self.zip.by_index(at) {
                Ok(entry) => entry,
                Err(error) => return Err(refusal(self.kind, "", &error)),
            };
            loop {
                let read = entry.read(&mut buffer);
                let read = read.map_err(|error| broken(self.kind, "", &error))?;
                meter.unpack(read as u64)?;
                if read == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn refusal(kind: Kind, name: &str, error: &ZipError) -> Refusal {
    match error {
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => Refusal::Encrypted { kind },
        error => Refusal::malformed(kind, format!("the part {name:?}: {error}")),
    }
}

fn broken(kind: Kind, name: &str, error: &io::Error) -> Refusal {
    Refusal::malformed(kind, format!("the part {name:?} is damaged: {error}"))
}

/// The part that a relative reference of another part leads to: `../media/a.png` in
/// `ppt/slides/slide1.xml` is `ppt/media/a.png`. What leads out of the archive ends at its root.
pub(crate) fn resolve(base: &str, reference: &str) -> String {
    let folder = match (reference.strip_prefix('/'), base.rsplit_once('/')) {
        (Some(_), _) | (None, None) => "",
        (None, Some((folder, _))) => folder,
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(reference.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn references_stay_inside() {
        assert_eq!(
            resolve("ppt/slides/slide1.xml", "../media/a.png"),
            "ppt/media/a.png"
        );
        assert_eq!(
            resolve("a/b.xml", "/word/document.xml"),
            "word/document.xml"
        );
        assert_eq!(resolve("b.xml", "../../etc/passwd"), "etc/passwd");
    }
}
