//! Runs on the wire.

use agentflow_runs::config::{CreateRun, RunThread, shown};
use agentflow_storage::record::{self, CancelAction, MultitaskStrategy};
use agentflow_types::{
    Error, Map, Result, ThreadId, Timestamp, Value,
    graph::{CheckpointRef, Durability},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{OneOrMany, state::CheckpointChoice};
use crate::legacy::{Mode, graph_modes, parse_modes};

/// Most runs of one batch.
pub(crate) const MAX_BATCH: usize = 1000;

/// A run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Run {
    /// UUID.
    #[schema(value_type = String, format = Uuid)]
    run_id: String,
    /// Its thread.
    #[schema(value_type = String, format = Uuid)]
    thread_id: String,
    /// Its assistant.
    #[schema(value_type = String, format = Uuid)]
    assistant_id: String,
    /// Metadata.
    #[schema(value_type = Object)]
    metadata: Map,
    /// `pending`, `running`, `success`, `error`, `timeout` or `interrupted`.
    status: &'static str,
    /// What it was started with.
    #[schema(value_type = Object)]
    kwargs: Map,
    /// What it did on a busy thread.
    #[schema(value_type = String)]
    multitask_strategy: MultitaskStrategy,
    /// When it may start.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Last change.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<record::Run> for Run {
    fn from(run: record::Run) -> Self {
        Self {
            run_id: run.run_id.text(),
            thread_id: run.thread_id.text(),
            assistant_id: run.assistant_id.text(),
            metadata: run.metadata,
            status: run.status.as_str(),
            kwargs: shown(run.kwargs),
            multitask_strategy: run.multitask_strategy,
            created_at: run.created_at,
            updated_at: run.updated_at,
        }
    }
}

/// What to do with a run when its reader goes away.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnDisconnect {
    /// Stop it.
    Cancel,
    /// Let it go on.
    #[default]
    Continue,
}

/// What to do when the thread does not exist.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IfNotExists {
    /// Answer 404.
    #[default]
    Reject,
    /// Make it.
    Create,
}

/// What happens to the thread of a stateless run.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnCompletion {
    /// It goes when the run ends.
    #[default]
    Delete,
    /// It stays.
    Keep,
}

/// A new run.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RunCreate {
    /// Assistant id or graph id.
    assistant_id: String,
    /// Checkpoint to go on from.
    checkpoint: Option<CheckpointChoice>,
    /// Older form of `checkpoint`.
    checkpoint_id: Option<String>,
    /// Input of the graph.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    input: Value,
    /// `{update, resume, goto}`; wins over `input`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    command: Value,
    /// Metadata.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// `{tags, recursion_limit, configurable}`.
    #[schema(value_type = Option<Object>)]
    config: Option<Map>,
    /// Static context.
    #[schema(value_type = Option<Object>)]
    context: Option<Map>,
    /// Where to report the end.
    webhook: Option<String>,
    /// Nodes to stop before: `"*"` or a list.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    interrupt_before: Value,
    /// Nodes to stop after: `"*"` or a list.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    interrupt_after: Value,
    /// One or several of `values`, `messages`, `messages-tuple`, `updates`, `events`, `tasks`,
    /// `checkpoints`, `debug`, `custom`; `values` if absent.
    stream_mode: Option<OneOrMany>,
    /// Whether subgraphs report too.
    stream_subgraphs: Option<bool>,
    /// Whether frames carry ids, so that a client can resume.
    stream_resumable: Option<bool>,
    /// What to do on a busy thread: `enqueue` (default), `reject`, `interrupt`, `rollback`.
    #[schema(value_type = Option<String>)]
    multitask_strategy: Option<MultitaskStrategy>,
    /// What to do when the thread does not exist.
    if_not_exists: Option<IfNotExists>,
    /// Delay before the run may start.
    after_seconds: Option<f64>,
    /// Older form of `durability`: true is `async`, false is `exit`.
    checkpoint_during: Option<bool>,
    /// When checkpoints are written: `async` (default), `sync`, `exit`.
    #[schema(value_type = Option<String>)]
    durability: Option<Durability>,
    /// What to do when the reader goes away.
    on_disconnect: Option<OnDisconnect>,
    /// What happens to the thread of a stateless run.
    on_completion: Option<OnCompletion>,
}

impl RunCreate {
    /// What to do when the reader goes away.
    pub(crate) fn on_disconnect(&self) -> OnDisconnect {
        self.on_disconnect.unwrap_or_default()
    }

    /// The thread of a run on `id`.
    pub(crate) fn on_thread(&self, id: ThreadId) -> RunThread {
        match self.if_not_exists.unwrap_or_default() {
            IfNotExists::Reject => RunThread::Existing(id),
            IfNotExists::Create => RunThread::CreateIfMissing(id),
        }
    }

    /// The thread of a stateless run.
    pub(crate) fn stateless(&self) -> RunThread {
        match self.on_completion.unwrap_or_default() {
            OnCompletion::Delete => RunThread::Temporary,
            OnCompletion::Keep => RunThread::Kept,
        }
    }

    pub(crate) fn into_domain(self, thread: RunThread, headers: Map) -> Result<CreateRun> {
        let modes = match self.stream_mode.map(OneOrMany::into_vec) {
            Some(words) if !words.is_empty() => parse_modes(&words)?,
            _ => vec![Mode::Values],
        };
        let config = self.config.unwrap_or_default();
        check_config(&config)?;
        let checkpoint = checkpoint_of(self.checkpoint, self.checkpoint_id, &config);
        let durability = self
            .durability
            .or(self.checkpoint_during.map(|during| match during {
                true => Durability::Async,
                false => Durability::Exit,
            }));
        let mut run = CreateRun::new(&self.assistant_id, thread);
        run.input = self.input;
        run.command = self.command;
        run.config = config;
        run.context = self.context.unwrap_or_default();
        run.metadata = self.metadata.unwrap_or_default();
        run.checkpoint = checkpoint;
        run.interrupt_before = self.interrupt_before;
        run.interrupt_after = self.interrupt_after;
        run.stream_mode = modes.iter().map(|mode| mode.as_str().to_owned()).collect();
        run.modes = graph_modes(&modes);
        run.subgraphs = self.stream_subgraphs.unwrap_or(false);
        run.resumable = self.stream_resumable.unwrap_or(false);
        run.multitask = self.multitask_strategy.unwrap_or_default();
        run.after_seconds = self.after_seconds;
        run.durability = durability.unwrap_or_default();
        run.webhook = self.webhook;
        run.headers = headers;
        Ok(run)
    }
}

/// Checks the parts of a configuration that the server itself reads.
pub(crate) fn check_config(config: &Map) -> Result<()> {
    let given = |key: &str| config.get(key).filter(|value| !value.is_null());
    if given("configurable").is_some_and(|value| value.as_map().is_none()) {
        return Err(Error::unprocessable(
            "config.configurable: must be an object",
        ));
    }
    if given("recursion_limit").is_some_and(|n| n.as_i64().is_none_or(|n| n < 1)) {
        return Err(Error::unprocessable(
            "config.recursion_limit: must be a positive integer",
        ));
    }
    if given("tags").is_some_and(|tags| {
        tags.as_list()
            .is_none_or(|tags| tags.iter().any(|tag| tag.as_str().is_none()))
    }) {
        return Err(Error::unprocessable("config.tags: must be a list of texts"));
    }
    Ok(())
}

/// The checkpoint that a request names, in one of three ways.
pub(crate) fn checkpoint_of(
    choice: Option<CheckpointChoice>,
    id: Option<String>,
    config: &Map,
) -> Option<CheckpointRef> {
    let configurable = config.get("configurable");
    let named = |key: &str| {
        configurable
            .and_then(|c| c.get(key))
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let mut at: CheckpointRef = choice.map(Into::into).unwrap_or_default();
    at.checkpoint_id = at.checkpoint_id.or(id);
    if at.checkpoint_id.is_none() {
        at.checkpoint_id = named("checkpoint_id");
        if at.checkpoint_ns.is_empty() {
            at.checkpoint_ns = named("checkpoint_ns").unwrap_or_default();
        }
    }
    at.checkpoint_id.is_some().then_some(at)
}

/// Runs to stop.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RunsCancel {
    /// All runs of this status.
    pub(crate) status: Option<CancelStatus>,
    /// Thread of the runs.
    pub(crate) thread_id: Option<String>,
    /// The runs.
    pub(crate) run_ids: Option<Vec<String>>,
}

/// Which runs to stop, by status.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CancelStatus {
    /// Those that wait.
    Pending,
    /// Those that execute.
    Running,
    /// Both.
    All,
}

/// Reads `interrupt` or `rollback`; absent means `interrupt`.
///
/// # Errors
/// `Unprocessable` for another word.
pub(crate) fn cancel_action(word: Option<&str>) -> Result<CancelAction> {
    match word {
        None | Some("interrupt") => Ok(CancelAction::Interrupt),
        Some("rollback") => Ok(CancelAction::Rollback),
        Some(other) => Err(Error::unprocessable(format!(
            "action: {other:?} is not one of interrupt, rollback"
        ))),
    }
}
