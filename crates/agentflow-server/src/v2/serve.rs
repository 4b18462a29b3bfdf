//! Feeding a protocol subscription from the log.

use std::time::Duration;

use agentflow_runs::{
    config::Kwargs,
    patience::is_passing,
    service::{Subscription, Topic},
};
use agentflow_storage::event::Event;
use agentflow_types::{Clock, ErrorKind, Map, Result, RunId, Scope, SystemClock, ThreadId, Value};
use bytes::Bytes;

use super::{Encoder, Filter, ProtocolEvent, RunFacts, SPREAD};
use crate::{
    AppState,
    body::{Ending, Gone, Writer},
    error::detail_of,
    sse::{Frame, HEARTBEAT, bytes_of},
    stream::{Encode, pump},
};

/// Head start of a run's own events before watchers learn that it asks for input.
///
/// LangGraph's clients watch `lifecycle` and `input` on one connection and read everything else
/// on another, which they open after the run was started; what they see first on the former ends
/// the latter. A run that asks within milliseconds would therefore seem to have said nothing.
/// Measured with the Python client: 3 of 55 of its own tests fail without a head start. The
/// JavaScript client ends nothing by what its watcher sees, and does not wait.
const HEAD_START: Duration = Duration::from_millis(250);

/// A protocol stream's state.
pub(super) struct Stream {
    app: AppState,
    scope: Scope,
    filter: Filter,
    encoder: Encoder,
    current: Option<(RunId, RunFacts)>,
    /// Whether an event was seen.
    begun: bool,
    watching: Watching,
    /// Number and run of the last event there was when a new reader came.
    newest: Option<(u64, RunId)>,
}

/// How a client takes what it sees on a connection that only watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watching {
    /// As the end of what it reads elsewhere.
    Ends,
    /// As news.
    Informs,
}

impl Watching {
    /// Tells clients apart by the name that they give themselves.
    pub(crate) fn of(headers: &Map) -> Self {
        let agent = headers.get("user-agent").and_then(Value::as_str);
        let agent = agent.unwrap_or_default().to_ascii_lowercase();
        match agent.starts_with("langgraph-sdk-py") || agent.starts_with("python") {
            true => Self::Ends,
            false => Self::Informs,
        }
    }
}

/// What a client is told, once, when events after its position are no longer kept.
///
/// `first`: number of the first event that the log still has.
pub(super) fn gap(since: Option<u64>, first: u64) -> Option<String> {
    let last = since.filter(|since| *since > 0)? / SPREAD;
    (first > last + 1).then(|| {
        let text = "events after this position are no longer kept; reload the thread's state";
        stream_error("resume_gap", text)
    })
}

/// An error that answers no command.
fn stream_error(code: &str, message: &str) -> String {
    serde_json::json!({ "type": "error", "id": null, "error": code, "message": message })
        .to_string()
}

fn failure(err: &agentflow_types::Error) -> Frame {
    Frame::new("error", stream_error("unknown_error", &detail_of(err)))
}

impl Stream {
    /// A stream of what `events` will bring.
    ///
    /// # Errors
    /// Errors of the backend.
    pub(super) async fn new(
        app: &AppState,
        scope: &Scope,
        filter: Filter,
        watching: Watching,
        events: &Subscription,
    ) -> Result<Self> {
        let newest = match filter.since {
            None | Some(0) => events.newest().await?,
            Some(_) => None,
        };
        Ok(Self {
            app: app.clone(),
            scope: scope.clone(),
            filter,
            encoder: Encoder::new(),
            current: None,
            begun: false,
            watching,
            newest: newest.map(|event| (event.seq, event.run_id)),
        })
    }

    /// Whether an event belongs to a run that another one had followed when this reader came.
    ///
    /// Starts, ends and questions of such runs are no news: clients would take the end of an old
    /// run for the end of the present one, and ask again what was answered long ago.
    fn is_past(&self, event: &Event) -> bool {
        self.newest
            .is_some_and(|(seq, run)| event.seq <= seq && event.run_id != run)
    }

    /// What is to be told before this event: that others are missing, or nothing.
    pub(super) fn gap_before(&mut self, event: &Event) -> Option<String> {
        let is_first = !std::mem::replace(&mut self.begun, true);
        is_first
            .then(|| gap(self.filter.since, event.seq))
            .flatten()
    }

    /// The protocol events of an event of the log that pass the filter.
    pub(super) async fn take(&mut self, event: &Event) -> Vec<ProtocolEvent> {
        if self
            .current
            .as_ref()
            .is_none_or(|(run, _)| *run != event.run_id)
        {
            let facts = run_facts(&self.app, &self.scope, event.run_id).await;
            self.current = Some((event.run_id, facts));
        }
        let Some((_, facts)) = &self.current else {
            return vec![];
        };
        let mut told = self.encoder.encode(event, facts);
        told.retain(|event| self.filter.matches(event));
        if self.is_past(event) {
            told.retain(|told| !is_about_the_run(told));
        }
        let waits = self.watching == Watching::Ends && self.filter.only_watches();
        if waits && told.iter().any(|told| told.method == "input.requested") {
            let age = SystemClock.now().since(event.at);
            tokio::time::sleep(HEAD_START.saturating_sub(age)).await;
        }
        told
    }
}

/// Whether an event tells a start, an end, a question or an answer of the run itself.
fn is_about_the_run(told: &ProtocolEvent) -> bool {
    match told.method {
        "lifecycle" => told.params.namespace.is_empty(),
        method => method.starts_with("input."),
    }
}

impl Encode for Stream {
    async fn encode(&mut self, event: &Event) -> Result<Bytes> {
        let mut frames = Vec::new();
        frames.extend(self.gap_before(event).map(|gap| Frame::new("error", gap)));
        frames.extend(self.take(event).await.into_iter().map(|event| {
            let data = serde_json::to_string(&event).unwrap_or_default();
            Frame {
                id: Some(event.seq),
                ..Frame::new(event.method, data)
            }
        }));
        Ok(bytes_of(&frames))
    }

    fn failed(&self, err: &agentflow_types::Error) -> Frame {
        failure(err)
    }
}

/// What the log does not say about a run; nothing for a run that is gone.
async fn run_facts(app: &AppState, scope: &Scope, run: RunId) -> RunFacts {
    let run = app.service.get_run(scope, None, run).await;
    let Ok(kwargs) = run.and_then(|run| Kwargs::of(&run)) else {
        return RunFacts::default();
    };
    let resume = kwargs.command.get("resume").and_then(Value::as_map);
    let answers = resume.into_iter().flat_map(|map| map.keys());
    let answers = answers
        .filter(|key| is_interrupt_id(key))
        .map(|key| key.to_string())
        .collect();
    RunFacts {
        graph_id: kwargs.graph_id,
        answers,
    }
}

/// Whether a key of a resume map is the id of an interrupt: 32 hexadecimal digits.
fn is_interrupt_id(key: &str) -> bool {
    key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A thread's events with what turns them into protocol events; a thread that does not exist yet
/// is waited for.
///
/// # Errors
/// Errors of the backend.
async fn open(
    app: &AppState,
    scope: &Scope,
    thread: ThreadId,
    filter: Filter,
    watching: Watching,
) -> Result<(Subscription, Stream)> {
    let events = subscribe(app, scope, thread).await?;
    let stream = Stream::new(app, scope, filter, watching, &events).await?;
    Ok((events, stream))
}

/// Listens to a thread; one that does not exist yet is waited for.
///
/// # Errors
/// Errors of the backend.
pub(super) async fn subscribe(
    app: &AppState,
    scope: &Scope,
    thread: ThreadId,
) -> Result<Subscription> {
    let mut started = app.started.subscribe();
    let mut coming = None;
    loop {
        started.mark_unchanged();
        match app
            .service
            .subscribe(scope, thread, Topic::Thread, Some(0))
            .await
        {
            Err(err) if err.kind() == ErrorKind::NotFound => {}
            other => return other,
        }
        let coming = coming.get_or_insert_with(|| app.service.coming(thread));
        tokio::select! {
            // Commands of this process.
            _ = started.changed() => {}
            () = coming.there() => {}
        }
    }
}

/// Writes a protocol stream as server-sent events.
pub(crate) async fn sse(
    app: &AppState,
    scope: &Scope,
    thread: ThreadId,
    filter: Filter,
    watching: Watching,
    mut writer: Writer,
) -> Ending {
    let mut waiting = std::pin::pin!(open(app, scope, thread, filter, watching));
    let (events, stream) = loop {
        tokio::select! {
            found = &mut waiting => match found {
                Ok(opened) => break opened,
                Err(err) if is_passing(&err) => {
                    writer.abort().await;
                    return Ending::Broken;
                }
                Err(err) => {
                    let sent = writer.send(bytes_of(&[failure(&err)])).await;
                    return sent.map_or(Ending::Gone, |()| Ending::Complete);
                }
            },
            () = app.closing.cancelled() => {
                writer.abort().await;
                return Ending::Broken;
            }
            beat = writer.beat() => {
                let sent = match beat {
                    Ok(()) => writer.send(Bytes::from_static(HEARTBEAT)).await,
                    Err(Gone) => Err(Gone),
                };
                if sent.is_err() {
                    return Ending::Gone;
                }
            }
        }
    };
    pump(app, events, stream, writer).await
}
