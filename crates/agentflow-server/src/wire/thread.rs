//! Threads on the wire.

use agentflow_runs::{
    config::parse_command,
    host::Superstep,
    service::{CreateThread, PatchThread},
};
use agentflow_storage::{
    checkpoint::{
        Prune,
        usage::{Amount, Usage},
    },
    page::PageQuery,
    record::{self, ThreadQuery, ThreadStatus, ThreadTtl},
};
use agentflow_types::{Error, Map, Result, ThreadId, Timestamp, Value, graph::Interrupt};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::IfExistsWord;
use crate::page::{self, SortOrder};

/// Columns that threads may be sorted by.
const COLUMNS: [&str; 5] = [
    "thread_id",
    "status",
    "created_at",
    "updated_at",
    "state_updated_at",
];
/// Most threads that one request may prune.
const MAX_PRUNE: usize = 1000;

/// A thread.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Thread {
    /// UUID.
    #[schema(value_type = String, format = Uuid)]
    thread_id: String,
    /// Creation.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Last change.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Last change of the state.
    #[schema(value_type = String, format = DateTime)]
    state_updated_at: Timestamp,
    /// Metadata; `graph_id` and `assistant_id` of the last run among it.
    #[schema(value_type = Object)]
    metadata: Map,
    /// `idle`, `busy`, `interrupted` or `error`.
    status: &'static str,
    /// `{configurable}` that runs inherit.
    #[schema(value_type = Object)]
    config: Map,
    /// Output of the graph; null before the first run.
    #[schema(value_type = Option<Object>)]
    values: Value,
    /// The last run's error, if it failed.
    #[schema(value_type = Option<Object>)]
    error: Value,
    /// Unanswered interrupts by task id.
    #[schema(value_type = Object)]
    interrupts: IndexMap<String, Vec<Interrupt>>,
    /// Time to live, when asked for with `include=ttl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    ttl: Option<serde_json::Value>,
}

impl From<record::Thread> for Thread {
    fn from(t: record::Thread) -> Self {
        let mut config = t.config;
        config
            .entry("configurable".into())
            .or_insert_with(|| Value::map(Map::new()));
        Self {
            thread_id: t.thread_id.text(),
            created_at: t.created_at,
            updated_at: t.updated_at,
            state_updated_at: t.state_updated_at,
            metadata: t.metadata,
            status: t.status.as_str(),
            config,
            values: t.values,
            error: t.error,
            interrupts: t.interrupts,
            ttl: None,
        }
    }
}

impl Thread {
    /// The thread with its time to live.
    pub(crate) fn with_ttl(thread: record::Thread) -> Self {
        let ttl = thread.ttl.as_ref().map(|ttl| {
            serde_json::json!({
                "strategy": ttl.strategy,
                "ttl_minutes": ttl.ttl_minutes,
                "expires_at": thread.expires_at(),
            })
        });
        Self {
            ttl,
            ..thread.into()
        }
    }
}

/// Time to live: minutes, or a strategy with minutes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Ttl {
    /// Minutes until the thread is deleted.
    Minutes(f64),
    /// With a strategy.
    Full {
        /// `delete` or `keep_latest`.
        strategy: Option<TtlStrategy>,
        /// Minutes since the last change.
        ttl: f64,
    },
}

/// What happens at the end of the time to live.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TtlStrategy {
    /// The thread goes.
    #[default]
    Delete,
    /// All but the newest checkpoints go.
    KeepLatest,
}

impl Ttl {
    fn into_domain(self) -> Result<ThreadTtl> {
        let (strategy, minutes) = match self {
            Self::Minutes(minutes) => (TtlStrategy::Delete, minutes),
            Self::Full { strategy, ttl } => (strategy.unwrap_or_default(), ttl),
        };
        if !minutes.is_finite() || minutes < 0.0 {
            return Err(Error::unprocessable("ttl: minutes must be zero or more"));
        }
        let strategy = match strategy {
            TtlStrategy::Delete => "delete",
            TtlStrategy::KeepLatest => "keep_latest",
        };
        Ok(ThreadTtl {
            strategy: strategy.into(),
            ttl_minutes: minutes,
        })
    }
}

/// Updates that are applied together.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SuperstepBody {
    /// The updates.
    updates: Vec<UpdateBody>,
}

/// One update of a superstep.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct UpdateBody {
    /// New values.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    values: Value,
    /// `{update, resume, goto}`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    command: Value,
    /// Node that is said to have written them.
    as_node: Option<String>,
}

/// A new thread.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ThreadCreate {
    /// UUID; made up if absent.
    thread_id: Option<String>,
    /// Metadata.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// What to do when the id exists.
    if_exists: Option<IfExistsWord>,
    /// Time to live.
    ttl: Option<Ttl>,
    /// Updates that make up the state; need `metadata.graph_id` or `graph_id`.
    supersteps: Option<Vec<SuperstepBody>>,
    /// Graph of the supersteps.
    graph_id: Option<String>,
}

impl ThreadCreate {
    pub(crate) fn into_domain(self) -> Result<CreateThread> {
        let metadata = self.metadata.unwrap_or_default();
        let supersteps: Vec<Superstep> = self
            .supersteps
            .unwrap_or_default()
            .into_iter()
            .map(|step| {
                let updates = step.updates.into_iter();
                updates
                    .map(|u| Ok((u.values, parse_command(&u.command)?, u.as_node)))
                    .collect()
            })
            .collect::<Result<_>>()?;
        let named = metadata
            .get("graph_id")
            .and_then(Value::as_str)
            .map(str::to_owned);
        Ok(CreateThread {
            thread_id: self.thread_id.map(|id| id.parse()).transpose()?,
            metadata,
            if_exists: self.if_exists.unwrap_or_default().into(),
            ttl: self.ttl.map(Ttl::into_domain).transpose()?,
            graph_id: self.graph_id.or(named).filter(|_| !supersteps.is_empty()),
            supersteps,
        })
    }
}

/// Changes of a thread.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ThreadPatch {
    /// Metadata, merged.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// Time to live.
    ttl: Option<Ttl>,
}

impl ThreadPatch {
    pub(crate) fn into_domain(self) -> Result<PatchThread> {
        Ok(PatchThread {
            metadata: self.metadata,
            ttl: self.ttl.map(Ttl::into_domain).transpose()?,
        })
    }
}

/// Which threads to find; all conditions must hold.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ThreadSearch {
    /// Only these.
    ids: Option<Vec<String>>,
    /// Metadata must contain this.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// Values must contain this.
    #[schema(value_type = Option<Object>)]
    values: Option<Map>,
    /// `idle`, `busy`, `interrupted` or `error`.
    #[schema(value_type = Option<String>)]
    status: Option<ThreadStatus>,
    /// Most rows, 1 to 1000; 10 if absent.
    limit: Option<i64>,
    /// Rows to skip.
    offset: Option<i64>,
    /// `thread_id`, `status`, `created_at`, `updated_at` or `state_updated_at`.
    sort_by: Option<String>,
    /// Direction.
    sort_order: Option<SortOrder>,
    /// Only these fields.
    pub(crate) select: Option<Vec<String>>,
    /// Parts of threads by alias, for example `{"last": "values.messages[-1]"}`.
    #[schema(value_type = Option<Object>)]
    pub(crate) extract: Option<IndexMap<String, String>>,
}

impl ThreadSearch {
    /// The conditions; the rest of the request stays usable.
    pub(crate) fn query(&mut self) -> Result<ThreadQuery> {
        let ids = self.ids.take().unwrap_or_default();
        Ok(ThreadQuery {
            ids: ids
                .iter()
                .map(|id| id.parse())
                .collect::<Result<Vec<ThreadId>>>()?,
            metadata: self.metadata.take().unwrap_or_default(),
            values: self.values.take().unwrap_or_default(),
            status: self.status,
        })
    }

    pub(crate) fn page(&mut self) -> Result<PageQuery> {
        page::query(
            self.limit,
            self.offset,
            self.sort_by.take(),
            self.sort_order,
            &COLUMNS,
        )
    }
}

/// Threads to prune.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ThreadPrune {
    /// The threads; unknown ones are passed over.
    thread_ids: Vec<String>,
    /// What to do with them.
    strategy: Option<TtlStrategy>,
}

impl ThreadPrune {
    pub(crate) fn into_domain(self) -> Result<(Vec<ThreadId>, Prune)> {
        if self.thread_ids.len() > MAX_PRUNE {
            let text = format!("thread_ids: at most {MAX_PRUNE} are allowed");
            return Err(Error::unprocessable(text));
        }
        let ids = self
            .thread_ids
            .iter()
            .map(|id| id.parse())
            .collect::<Result<_>>()?;
        Ok((
            ids,
            match self.strategy.unwrap_or_default() {
                TtlStrategy::Delete => Prune::Delete,
                TtlStrategy::KeepLatest => Prune::KeepLatest,
            },
        ))
    }
}

/// What the checkpoints of a thread take.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StorageUse {
    /// UUID.
    #[schema(value_type = String, format = Uuid)]
    thread_id: String,
    /// All together.
    total_bytes: u64,
    /// Checkpoints with their metadata, without the values of channels.
    checkpoints: Measure,
    /// Stored values of channels.
    channel_values: ChannelValues,
    /// Writes of tasks.
    pending_writes: Measure,
}

/// A number of things and their size together.
#[derive(Debug, Serialize, ToSchema)]
struct Measure {
    /// How many.
    count: u64,
    /// How large, in bytes.
    bytes: u64,
}

/// Stored values of channels.
#[derive(Debug, Serialize, ToSchema)]
struct ChannelValues {
    /// How many.
    count: u64,
    /// How large, in bytes.
    bytes: u64,
    /// The same by channel.
    #[schema(value_type = Object)]
    by_channel: IndexMap<String, Versions>,
}

/// Stored values of one channel.
#[derive(Debug, Serialize, ToSchema)]
struct Versions {
    /// How many.
    versions: u64,
    /// How large, in bytes.
    bytes: u64,
}

impl From<Amount> for Measure {
    fn from(amount: Amount) -> Self {
        Self {
            count: amount.count,
            bytes: amount.bytes,
        }
    }
}

impl StorageUse {
    pub(crate) fn of(id: ThreadId, usage: &Usage) -> Self {
        let channels = usage.channels.iter();
        Self {
            thread_id: id.text(),
            total_bytes: usage.bytes(),
            checkpoints: usage.checkpoints.into(),
            channel_values: ChannelValues {
                count: usage.values().count,
                bytes: usage.values().bytes,
                by_channel: channels
                    .map(|(name, amount)| {
                        let (versions, bytes) = (amount.count, amount.bytes);
                        (name.clone(), Versions { versions, bytes })
                    })
                    .collect(),
            },
            pending_writes: usage.writes.into(),
        }
    }
}
