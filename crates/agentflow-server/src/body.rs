//! Bodies that are written while they are sent.
//!
//! A task writes, the connection reads; a few pieces may wait in between. A reader that leaves
//! them unread for too long is cut off, so neither memory nor the writer's time is unbounded.

use std::{io, time::Duration};

use agentflow_runs::patience::is_passing;
use agentflow_types::{Result, Value};
use axum::body::Body;
use bytes::Bytes;
use tokio::{sync::mpsc, time::Interval};
use tokio_stream::wrappers::ReceiverStream;

use crate::{AppState, state::Limits};

/// The reader went away, or did not read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// The writing end of a body.
pub(crate) struct Writer {
    tx: mpsc::Sender<io::Result<Bytes>>,
    stall: Duration,
    heartbeat: Interval,
}

/// A body with its writer.
pub(crate) fn pipe(limits: &Limits) -> (Writer, Body) {
    let (tx, rx) = mpsc::channel(limits.frames.max(1));
    let mut heartbeat = tokio::time::interval(limits.heartbeat);
    heartbeat.reset();
    let writer = Writer {
        tx,
        stall: limits.stall,
        heartbeat,
    };
    (writer, Body::from_stream(ReceiverStream::new(rx)))
}

impl Writer {
    /// Writes a piece.
    ///
    /// # Errors
    /// [`Gone`] if nobody reads.
    pub(crate) async fn send(&mut self, bytes: Bytes) -> std::result::Result<(), Gone> {
        self.heartbeat.reset();
        match self.tx.send_timeout(Ok(bytes), self.stall).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Gone),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                tracing::info!(stall = ?self.stall, "a reader that did not read was cut off");
                Err(Gone)
            }
        }
    }

    /// Breaks the body off, so that the reader does not take it for complete.
    pub(crate) async fn abort(self) {
        // Nobody is left to read if this fails.
        let broken = Err(io::Error::other("the server breaks off"));
        let _ = self.tx.send_timeout(broken, self.stall).await;
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
