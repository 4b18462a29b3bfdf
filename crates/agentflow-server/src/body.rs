//! Bodies that are written while they are sent.
//!
//! A task writes, the connection reads; a few pieces may wait in between. A reader that leaves
//! them unread for too long is cut off, so neither memory nor the writer's time is unbounded. What
//! is cut off does not end as something complete does: the reader comes back for the rest.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use agentflow_runs::patience::is_passing;
use agentflow_types::{Result, Value};
use axum::body::Body;
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::Interval;

use crate::{
    AppState,
    queue::{Closed, Receiver, Sender, queue},
    state::Limits,
};

/// The reader went away, or did not read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// The writing end of a body.
pub(crate) struct Writer {
    tx: Sender<io::Result<Bytes>>,
    stall: Duration,
    heartbeat: Interval,
    evicted: Arc<AtomicBool>,
}

/// The reading end of a body.
struct Pieces {
    rx: Receiver<io::Result<Bytes>>,
    /// Whether its reader was given up.
    evicted: Arc<AtomicBool>,
}

impl Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = std::task::ready!(Pin::new(&mut self.rx).poll_next(cx));
        // What still waits is not worth sending: the reader asks for it again.
        if self.evicted.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err(io::Error::other("nobody read"))));
        }
        Poll::Ready(piece)
    }
}

/// A body with its writer.
pub(crate) fn pipe(limits: &Limits) -> (Writer, Body) {
    let (tx, rx) = queue(limits.frames, limits.stream_bytes);
    let evicted = Arc::<AtomicBool>::default();
    let mut heartbeat = tokio::time::interval(limits.heartbeat);
    heartbeat.reset();
    let writer = Writer {
        tx,
        stall: limits.stall,
        heartbeat,
        evicted: evicted.clone(),
    };
    (writer, Body::from_stream(Pieces { rx, evicted }))
}

impl Writer {
    /// Writes a piece.
    ///
    /// # Errors
    /// [`Gone`] if nobody reads.
    pub(crate) async fn send(&mut self, bytes: Bytes) -> std::result::Result<(), Gone> {
        self.heartbeat.reset();
        let length = bytes.len();
        match tokio::time::timeout(self.stall, self.tx.send(Ok(bytes), length)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Closed)) => Err(Gone),
            Err(_) => {
                tracing::info!(stall = ?self.stall, "a reader that did not read was cut off");
                self.evicted.store(true, Ordering::Release);
                Err(Gone)
            }
        }
    }

    /// Breaks the body off, so that the reader does not take it for complete.
    pub(crate) async fn abort(self) {
        // Nobody is left to read if this fails.
        let broken = Err(io::Error::other("the server breaks off"));
        let _ = tokio::time::timeout(self.stall, self.tx.send(broken, 0)).await;
    }

    /// Waits until a sign of life is due, or the reader goes away.
    ///
    /// # Errors
    /// [`Gone`].
    pub(crate) async fn beat(&mut self) -> std::result::Result<(), Gone> {
        tokio::select! {
            () = self.tx.closed() => Err(Gone),
            _ = self.heartbeat.tick() => Ok(()),
        }
    }
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything was written.
    Complete,
    /// The reader went away.
    Gone,
    /// The server is stopping, or could not read further for now: broken off, so that the reader
    /// comes back and goes on where it was.
    Broken,
}

/// Writes a JSON value that is not known yet; line ends before it show that somebody is there.
pub(crate) async fn json_later(
    state: &AppState,
    mut writer: Writer,
    value: impl Future<Output = Result<Value>>,
) -> Ending {
    let mut value = std::pin::pin!(value);
    loop {
        tokio::select! {
            value = &mut value => {
                let value = match value {
                    // The run goes on; whoever asks again gets its result.
                    Err(err) if is_passing(&err) => {
                        writer.abort().await;
                        return Ending::Broken;
                    }
                    value => value.unwrap_or_else(|err| error_value(&err)),
                };
                return match writer.send(value.json_text().into()).await {
                    Ok(()) => Ending::Complete,
                    Err(Gone) => Ending::Gone,
                };
            }
            () = state.closing.cancelled() => {
                writer.abort().await;
                return Ending::Broken;
            }
            beat = writer.beat() => {
                let sent = match beat {
                    Ok(()) => writer.send(Bytes::from_static(b"\n")).await,
                    Err(Gone) => Err(Gone),
                };
                if sent.is_err() {
                    return Ending::Gone;
                }
            }
        }
    }
}

/// An error after the status was sent, in the shape of a failed run.
fn error_value(err: &agentflow_types::Error) -> Value {
    let error = Value::object([
        ("error", Value::str(err.class_name())),
        ("message", Value::str(crate::error::detail_of(err))),
    ]);
    Value::object([("__error__", error)])
}
