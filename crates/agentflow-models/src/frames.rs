//! Cutting a body into frames: server-sent events or lines of JSON.

use bytes::{Bytes, BytesMut};
use eventsource_stream::{EventStream, EventStreamError};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};

use crate::transport::Failure;

/// Most bytes of one line. Larger than any frame seen in practice; bounds the time that the
/// event parser spends on rescanning an unfinished line.
pub(crate) const LINE_BYTES: usize = 4 << 20;

/// How frames are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events.
    Events,
    /// One JSON document per line.
    Lines,
}

/// One frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Event name; `message` if the server gave none, empty for lines.
    pub event: String,
    /// Payload.
    pub data: String,
}

/// Pieces of a body.
pub(crate) type Body = BoxStream<'static, Result<Bytes, Failure>>;

/// Frames of a body.
pub(crate) type Frames = BoxStream<'static, Result<Frame, Failure>>;

/// Cuts `body` into frames, wherever its pieces begin and end.
///
/// Ends with the first failure: what follows it could not be trusted.
pub(crate) fn frames(body: Body, framing: Framing) -> Frames {
    let frames = match framing {
        Framing::Events => events(body),
        Framing::Lines => lines(body),
    };
    stream::unfold(Some(frames), |frames| async move {
        let mut frames = frames?;
        let frame = frames.next().await?;
        let rest = frame.is_ok().then_some(frames);
        Some((frame, rest))
    })
    .boxed()
}

fn events(body: Body) -> Frames {
    EventStream::new(short_lines(body))
        .map(|event| match event {
            Ok(event) => Ok(Frame {
                event: event.event,
                data: event.data,
            }),
            Err(EventStreamError::Transport(failure)) => Err(failure),
            Err(EventStreamError::Utf8(error)) => {
                Err(Failure::malformed("the answer is not UTF-8", error))
            }
            Err(EventStreamError::Parser(error)) => {
                Err(Failure::malformed("the event stream cannot be read", error))
            }
        })
        .boxed()
}

/// Passes pieces on until a line grows beyond [`LINE_BYTES`].
fn short_lines(body: Body) -> Body {
    body.scan(0usize, |line_bytes, piece| {
        let piece = piece.and_then(|piece| {
            *line_bytes = match piece.iter().rposition(|byte| *byte == b'\n') {
                Some(at) => piece.len() - at - 1,
                None => *line_bytes + piece.len(),
            };
            if *line_bytes > LINE_BYTES {
                Err(Failure::line_too_long())
            } else {
                Ok(piece)
            }
        });
        std::future::ready(Some(piece))
    })
    .boxed()
}

/// State of the line cutter: the body, what is left of its pieces, and how much of that is
/// known to hold no line end.
struct Cutter {
    body: Body,
    rest: BytesMut,
    scanned: usize,
}

impl Cutter {
    /// The next line that is not blank; at the end of the body what is left counts as one.
    async fn line(&mut self) -> Option<Result<Frame, Failure>> {
        loop {
            if let Some(at) = self.rest[self.scanned..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let line = self.rest.split_to(self.scanned + at + 1);
                self.scanned = 0;
                match text(&line) {
                    Some(frame) => return Some(frame),
                    None => continue,
                }
            }
            self.scanned = self.rest.len();
            if self.rest.len() > LINE_BYTES {
                return Some(Err(Failure::line_too_long()));
            }
            match self.body.next().await {
                Some(Ok(piece)) => self.rest.extend_from_slice(&piece),
                Some(Err(failure)) => return Some(Err(failure)),
                None => {
                    let line = self.rest.split();
                    self.scanned = 0;
                    return text(&line);
                }
            }
        }
    }
}

fn text(line: &[u8]) -> Option<Result<Frame, Failure>> {
    match std::str::from_utf8(line) {
        Ok(text) if text.trim().is_empty() => None,
        Ok(text) => Some(Ok(Frame {
            event: String::new(),
            data: text.trim().to_owned(),
        })),
        Err(error) => Some(Err(Failure::malformed("the answer is not UTF-8", error))),
    }
}

fn lines(body: Body) -> Frames {
    let cutter = Cutter {
        body,
        rest: BytesMut::new(),
        scanned: 0,
    };
    stream::unfold(cutter, |mut cutter| async move {
        cutter.line().await.map(|frame| (frame, cutter))
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Frames of `bytes` cut into pieces at `cuts`.
    fn read(bytes: &[u8], cuts: &[usize], framing: Framing) -> Vec<String> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts
            .windows(2)
            .map(|pair| Ok(Bytes::copy_from_slice(&bytes[pair[0]..pair[1]])))
            .collect();
        let frames = frames(stream::iter(pieces).boxed(), framing);
        futures_util::FutureExt::now_or_never(frames.collect::<Vec<_>>())
            .expect("the body is complete")
            .into_iter()
            .map(|frame| match frame {
                Ok(frame) => frame.data,
                Err(failure) => format!("error: {}", failure.error),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn events_do_not_depend_on_piece_boundaries(
            texts in prop::collection::vec("[a-zäß€😀 {}\":]{1,20}", 1..8),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
            end in prop::sample::select(vec!["\n", "\r\n"]),
        ) {
            let mut body = format!(": ping{end}{end}");
            for text in &texts {
                body.push_str(&format!("event: x{end}data: .{text}{end}{end}"));
            }
            let want: Vec<String> = texts.iter().map(|text| format!(".{text}")).collect();
            prop_assert_eq!(read(body.as_bytes(), &cuts, Framing::Events), want);
        }

        #[test]
        fn lines_do_not_depend_on_piece_boundaries(
            texts in prop::collection::vec("[a-zäß€😀{}\":]{1,20}", 1..8),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
            end in prop::sample::select(vec!["\n", "\r\n", "\n\n"]),
        ) {
            // The last line has no end: some servers close without one.
            let body = texts.join(end);
            prop_assert_eq!(read(body.as_bytes(), &cuts, Framing::Lines), texts);
        }

        #[test]
        fn any_bytes_end_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(any::<usize>(), 0..5),
        ) {
            // A reader stops at the first error, so only what comes before it counts.
            let frames = frames(
                stream::iter(vec![Ok(Bytes::copy_from_slice(&bytes))]).boxed(),
                Framing::Events,
            );
            let first = futures_util::FutureExt::now_or_never(frames.take(1).collect::<Vec<_>>());
            prop_assert!(first.is_some());
            prop_assert!(read(&bytes, &cuts, Framing::Lines).len() <= bytes.len());
        }
    }

    #[test]
    fn an_endless_line_is_an_error() {
        let long = vec![b'a'; LINE_BYTES + 2];
        for framing in [Framing::Events, Framing::Lines] {
            let got = read(&long, &[LINE_BYTES / 2], framing);
            assert!(
                got[0].starts_with("error: a line of the answer is too long"),
                "{got:?}"
            );
        }
    }
}
