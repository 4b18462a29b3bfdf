//! Framing of server-sent events, byte for byte as LangGraph's server writes them.

use bytes::Bytes;

/// A sign of life on a silent stream.
pub const HEARTBEAT: &[u8] = b": heartbeat\r\n\r\n";

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Name of the event.
    pub event: String,
    /// JSON text on one line.
    pub data: String,
    /// Where a client may resume after it.
    pub id: Option<u64>,
}

impl Frame {
    /// A frame without an id.
    pub fn new(event: impl Into<String>, data: impl Into<String>) -> Self {
        Self {
            event: event.into(),
            data: data.into(),
            id: None,
        }
    }

    /// Appends `event: …\r\ndata: …\r\n[id: …\r\n]\r\n`.
    ///
    /// Line ends inside the event name become spaces, so that a graph cannot forge frames; JSON
    /// text has none.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: ");
        out.extend(
            self.event
                .bytes()
                .map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }),
        );
        for line in self.data.split(['\r', '\n']) {
            out.extend_from_slice(b"\r\ndata: ");
            out.extend_from_slice(line.as_bytes());
        }
        if let Some(id) = self.id {
            out.extend_from_slice(b"\r\nid: ");
            out.extend_from_slice(id.to_string().as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// The bytes of several frames.
#[must_use]
pub fn bytes_of(frames: &[Frame]) -> Bytes {
    let mut out = Vec::with_capacity(frames.iter().map(|f| f.data.len() + 64).sum());
    for frame in frames {
        frame.write(&mut out);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_documented_bytes() {
        let frame = Frame {
            id: Some(7),
            ..Frame::new("values", r#"{"a":1}"#)
        };
        let plain = Frame::new("updates|sub:1", "{}");
        assert_eq!(
            bytes_of(&[frame, plain]),
            &b"event: values\r\ndata: {\"a\":1}\r\nid: 7\r\n\r\n\
               event: updates|sub:1\r\ndata: {}\r\n\r\n"[..]
        );
    }

    #[test]
    fn names_cannot_forge_frames() {
        let frame = Frame::new("a\r\n\r\nevent: b", "{}");
        assert_eq!(
            bytes_of(&[frame]),
            &b"event: a    event: b\r\ndata: {}\r\n\r\n"[..]
        );
    }
}
