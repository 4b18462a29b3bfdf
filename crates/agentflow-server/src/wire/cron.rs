//! Crons on the wire.

use agentflow_runs::service::{CreateCron, PatchCron};
use agentflow_storage::{
    cron::{self, CronQuery},
    page::PageQuery,
};
use agentflow_types::{Map, Result, Str, ThreadId, Timestamp, Value};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{OneOrMany, present, run::OnCompletion};
use crate::page::{self, SortOrder};

/// Columns that crons may be sorted by.
const COLUMNS: [&str; 7] = [
    "cron_id",
    "assistant_id",
    "thread_id",
    "next_run_date",
    "end_time",
    "created_at",
    "updated_at",
];

/// A cron.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Cron {
    /// UUID.
    #[schema(value_type = String, format = Uuid)]
    cron_id: String,
    /// Assistant that runs.
    #[schema(value_type = String, format = Uuid)]
    assistant_id: String,
    /// Thread of all runs; null for a new one each time.
    thread_id: Option<String>,
    /// Who made it.
    user_id: String,
    /// No firing after this.
    #[schema(value_type = Option<String>, format = DateTime)]
    end_time: Option<Timestamp>,
    /// Cron expression.
    schedule: String,
    /// IANA zone.
    timezone: Option<String>,
    /// What its runs are made with.
    #[schema(value_type = Object)]
    payload: Map,
    /// Next firing.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_run_date: Option<Timestamp>,
    /// Metadata.
    #[schema(value_type = Object)]
    metadata: Map,
    /// `delete` or `keep`.
    on_run_completed: Option<String>,
    /// Whether it fires.
    enabled: bool,
    /// Creation.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Last change.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<cron::Cron> for Cron {
    fn from(c: cron::Cron) -> Self {
        Self {
            cron_id: c.cron_id.text(),
            assistant_id: c.assistant_id.text(),
            thread_id: c.thread_id.map(|id| id.text()),
            user_id: c.user_id.unwrap_or_default(),
            end_time: c.end_time,
            schedule: c.schedule,
            timezone: c.timezone,
            payload: c.payload,
            next_run_date: c.next_run_date,
            metadata: c.metadata,
            on_run_completed: c.on_run_completed,
            enabled: c.enabled,
            created_at: c.created_at,
            updated_at: c.updated_at,
        }
    }
}

/// What the runs of a cron are made with.
#[derive(Debug, Default, Deserialize, ToSchema)]
struct Payload {
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    input: Value,
    #[schema(value_type = Option<Object>)]
    config: Option<Map>,
    #[schema(value_type = Option<Object>)]
    context: Option<Map>,
    webhook: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    interrupt_before: Value,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    interrupt_after: Value,
    stream_mode: Option<OneOrMany>,
    stream_subgraphs: Option<bool>,
    stream_resumable: Option<bool>,
    durability: Option<String>,
    multitask_strategy: Option<String>,
}

impl Payload {
    /// The entries that were given.
    fn into_map(self) -> Map {
        let modes = self
            .stream_mode
            .map(|modes| Value::list(modes.into_vec().into_iter().map(Value::from).collect()));
        let map = |map: Option<Map>| map.map(Value::map);
        let entries = [
            ("input", Some(self.input)),
            ("config", map(self.config)),
            ("context", map(self.context)),
            ("webhook", self.webhook.map(Value::from)),
            ("interrupt_before", Some(self.interrupt_before)),
            ("interrupt_after", Some(self.interrupt_after)),
            ("stream_mode", modes),
            ("stream_subgraphs", self.stream_subgraphs.map(Value::from)),
            ("stream_resumable", self.stream_resumable.map(Value::from)),
            ("durability", self.durability.map(Value::from)),
            (
                "multitask_strategy",
                self.multitask_strategy.map(Value::from),
            ),
        ];
        entries
            .into_iter()
            .filter_map(|(key, value)| Some((Str::from(key), value?)))
            .filter(|(_, value)| !value.is_null())
            .collect()
    }
}

fn word(on: OnCompletion) -> String {
    match on {
        OnCompletion::Delete => "delete".into(),
        OnCompletion::Keep => "keep".into(),
    }
}

/// A new cron.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CronCreate {
    /// Cron expression.
    schedule: String,
    /// Assistant id or graph id.
    assistant_id: String,
    /// IANA zone; UTC if absent.
    timezone: Option<String>,
    /// No firing after this.
    #[schema(value_type = Option<String>, format = DateTime)]
    end_time: Option<Timestamp>,
    /// Metadata.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// What happens to the thread of a run; only without a thread.
    on_run_completed: Option<OnCompletion>,
    /// Whether it fires; true if absent.
    enabled: Option<bool>,
    /// The rest makes up the runs.
    #[serde(flatten)]
    payload: Payload,
}

impl CronCreate {
    pub(crate) fn into_domain(self, thread_id: Option<ThreadId>) -> CreateCron {
        let on_end = self.on_run_completed.unwrap_or_default();
        CreateCron {
            assistant: self.assistant_id,
            thread_id,
            schedule: self.schedule,
            timezone: self.timezone,
            end_time: self.end_time,
            on_run_completed: thread_id.is_none().then(|| word(on_end)),
            payload: self.payload.into_map(),
            metadata: self.metadata.unwrap_or_default(),
            enabled: self.enabled.unwrap_or(true),
        }
    }
}

/// Changes of a cron; absent fields stay.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CronPatch {
    /// Cron expression.
    schedule: Option<String>,
    /// IANA zone.
    timezone: Option<String>,
    /// End; null clears it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, format = DateTime)]
    end_time: Option<Option<Timestamp>>,
    /// Metadata, merged.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// What happens to the thread of a run.
    on_run_completed: Option<OnCompletion>,
    /// Whether it fires.
    enabled: Option<bool>,
    /// The rest replaces parts of what makes up the runs.
    #[serde(flatten)]
    payload: Payload,
}

impl From<CronPatch> for PatchCron {
    fn from(patch: CronPatch) -> Self {
        Self {
            schedule: patch.schedule,
            timezone: patch.timezone,
            end_time: patch.end_time,
            on_run_completed: patch.on_run_completed.map(word),
            payload: patch.payload.into_map(),
            metadata: patch.metadata,
            enabled: patch.enabled,
        }
    }
}

/// Which crons to find; all conditions must hold.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CronSearch {
    /// Only of this assistant.
    assistant_id: Option<String>,
    /// Only of this thread.
    thread_id: Option<String>,
    /// Only enabled or disabled ones.
    enabled: Option<bool>,
    /// Metadata must contain this.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// Most rows, 1 to 1000; 10 if absent.
    limit: Option<i64>,
    /// Rows to skip.
    offset: Option<i64>,
    /// A column.
    sort_by: Option<String>,
    /// Direction.
    sort_order: Option<SortOrder>,
    /// Only these fields.
    pub(crate) select: Option<Vec<String>>,
}

impl CronSearch {
    /// The conditions; the rest of the request stays usable.
    pub(crate) fn query(&mut self) -> Result<CronQuery> {
        Ok(CronQuery {
            assistant_id: self.assistant_id.take().map(|id| id.parse()).transpose()?,
            thread_id: self.thread_id.take().map(|id| id.parse()).transpose()?,
            enabled: self.enabled,
            metadata: self.metadata.take().unwrap_or_default(),
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
