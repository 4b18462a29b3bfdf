//! Streams of events: a subscription, an encoder, and a body between them.

use agentflow_runs::{config::Kwargs, machine::Which, patience::is_passing, service::Subscription};
use agentflow_storage::{
    event::Event,
    record::{CancelAction, Run},
};
use agentflow_types::{Result, RunId, Scope, ThreadId};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, header};

use crate::{
    AppState,
    body::{Ending, Gone, Writer},
    error::detail_of,
    legacy::{self, Mode, RunFacts, parse_modes},
    sse::{Frame, HEARTBEAT, bytes_of},
    wire::run::OnDisconnect,
};

/// Turns events of the log into bytes of one stream.
pub(crate) trait Encode: Send {
    /// The bytes of an event; none if the stream is not about it.
    fn encode(&mut self, event: &Event) -> impl Future<Output = Result<Bytes>> + Send;

    /// What a reader is told when the log cannot be read further.
    fn failed(&self, err: &agentflow_types::Error) -> Frame {
        let data = serde_json::json!({ "error": err.class_name(), "message": detail_of(err) });
        Frame::new("error", data.to_string())
    }
}

/// Writes a subscription to a body until one of both ends.
pub(crate) async fn pump(
    state: &AppState,
    mut events: Subscription,
    mut encoder: impl Encode,
    mut writer: Writer,
) -> Ending {
    loop {
        let next = tokio::select! {
            biased;
            () = state.closing.cancelled() => {
                writer.abort().await;
                return Ending::Broken;
            }
            next = events.next() => next,
            beat = writer.beat() => {
                let sent = match beat {
                    Ok(()) => writer.send(Bytes::from_static(HEARTBEAT)).await,
                    Err(Gone) => Err(Gone),
                };
                match sent {
                    Ok(()) => continue,
                    Err(Gone) => return Ending::Gone,
                }
            }
        };
        let encoded = match next {
            Ok(Some(event)) => encoder.encode(&event).await,
            Ok(None) => return Ending::Complete,
            // An event that says so would end the run for the client.
            Err(err) if is_passing(&err) => {
                tracing::warn!(error = %err, "a stream was broken off");
                writer.abort().await;
                return Ending::Broken;
            }
            Err(err) => Err(err),
        };
        let (bytes, last) = match encoded {
            Ok(bytes) => (bytes, false),
            Err(err) => (bytes_of(&[encoder.failed(&err)]), true),
        };
        if !bytes.is_empty() && writer.send(bytes).await.is_err() {
            return Ending::Gone;
        }
        if last {
            return Ending::Complete;
        }
    }
}

/// The answer of an event stream.
pub(crate) fn response(body: Body) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream; charset=utf-8"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    (headers, body).into_response()
}

/// What an encoder must know about a run.
///
/// # Errors
/// `Corrupt` if the run's arguments cannot be read.
pub(crate) fn facts(run: &Run) -> Result<RunFacts> {
    let kwargs = Kwargs::of(run)?;
    // Words of a newer version are no reason to refuse the others.
    let known = |word: &String| parse_modes(std::slice::from_ref(word)).ok();
    Ok(RunFacts {
        run_id: run.run_id.text(),
        graph_id: kwargs.graph_id,
        input: kwargs.input.to_json(),
        modes: kwargs
            .stream_mode
            .iter()
            .filter_map(known)
            .flatten()
            .collect(),
        resumable: kwargs.resumable,
    })
}

/// One run, as its creator or a joining client reads it.
pub(crate) struct RunStream {
    encoder: legacy::Encoder,
    filter: Vec<Mode>,
    /// Events up to this number only warm the encoder up.
    after: u64,
}

impl RunStream {
    pub(crate) fn new(facts: RunFacts, filter: Vec<Mode>, after: u64) -> Self {
        Self {
            encoder: legacy::Encoder::new(facts),
            filter,
            after,
        }
    }
}

impl Encode for RunStream {
    async fn encode(&mut self, event: &Event) -> Result<Bytes> {
        let mut frames = self.encoder.encode(event);
        if event.seq <= self.after {
            return Ok(Bytes::new());
        }
        frames.retain(|frame| legacy::passes(frame, &self.filter));
        Ok(bytes_of(&frames))
    }
}

/// Whom a stream belongs to, for what happens when its reader goes away.
pub(crate) struct Reader {
    pub(crate) scope: Scope,
    pub(crate) thread: ThreadId,
    pub(crate) run: RunId,
    pub(crate) on_disconnect: OnDisconnect,
}

impl Reader {
    /// The reader of a run.
    pub(crate) fn of(scope: Scope, run: &Run, on_disconnect: OnDisconnect) -> Self {
        Self {
            scope,
            thread: run.thread_id,
            run: run.run_id,
            on_disconnect,
        }
    }

    /// Stops the run if its reader went away and wanted that.
    pub(crate) async fn ended(self, state: &AppState, ending: Ending) {
        if ending != Ending::Gone || self.on_disconnect != OnDisconnect::Cancel {
            return;
        }
        let which = Which::Ids(vec![self.run]);
        let action = CancelAction::Interrupt;
        let stopped = state
            .service
            .cancel_runs(&self.scope, self.thread, which, action)
            .await;
        if let Err(err) = stopped {
            // Most often the run was over already.
            tracing::debug!(run_id = %self.run, error = %err, "a left run was not stopped");
        }
    }
}
