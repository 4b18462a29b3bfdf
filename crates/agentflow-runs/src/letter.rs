//! Telling whoever asked for it that a run ended.

use agentflow_storage::{
    outbox::Letter,
    record::{Change, Run},
};
use agentflow_types::{LetterId, Map, Str, Timestamp, Value};

use crate::config::shown;

/// Topic of letters that are delivered by calling a URL.
pub const WEBHOOK: &str = "webhook";

/// A call that is to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// Where.
    pub url: String,
    /// What is said: the run, with `values` and `error`.
    pub body: Map,
}

impl Call {
    /// The call of a letter; `None` if the letter is none of ours.
    #[must_use]
    pub fn of(letter: &Letter) -> Option<Self> {
        Some(Self {
            url: letter.body.get("url")?.as_str()?.to_owned(),
            body: letter.body.get("body")?.as_map()?.clone(),
        })
    }
}

/// The letter about the end of a run, if its creator wants one.
///
/// `started`: when the attempt that ended began; `None` for a run that never had a worker.
/// `values`: what those who wait for the run get. A run ends once, so its id serves as the
/// letter's.
#[must_use]
pub fn of_end(
    run: &Run,
    started: Option<Timestamp>,
    values: Value,
    now: Timestamp,
) -> Option<Change> {
    let url = run.kwargs.get("webhook")?.as_str()?;
    let time = |at: Timestamp| Value::str(at.to_string());
    let entries = [
        ("run_id", Value::str(run.run_id.text())),
        ("thread_id", Value::str(run.thread_id.text())),
        ("assistant_id", Value::str(run.assistant_id.text())),
        ("metadata", Value::map(run.metadata.clone())),
        ("status", Value::str(run.status.as_str())),
        ("kwargs", Value::map(shown(run.kwargs.clone()))),
        (
            "multitask_strategy",
            agentflow_types::to_value(&run.multitask_strategy).unwrap_or_default(),
        ),
        ("created_at", time(run.created_at)),
        ("updated_at", time(run.updated_at)),
        ("run_started_at", started.map(time).unwrap_or_default()),
        ("run_ended_at", time(now)),
        ("values", values),
        ("error", run.error.clone()),
    ];
    let body: Map = entries.map(|(key, value)| (Str::from(key), value)).into();
    Some(Change::Post(Box::new(Letter {
        letter_id: LetterId(run.run_id.0),
        topic: WEBHOOK.into(),
        created_at: now,
        body: Value::object([("url", Value::str(url)), ("body", Value::map(body))]),
    })))
}
