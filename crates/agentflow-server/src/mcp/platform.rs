//! Tools of the platform: runs, threads, long-term items.

use std::time::Duration;

use agentflow_runs::{
    config::{CreateRun, RunThread},
    machine::Which,
};
use agentflow_storage::{
    page::PageQuery,
    record::{Run, RunStatus, ThreadQuery, ThreadStatus},
    store::{ItemQuery, PutItem, Refresh},
};
use agentflow_types::{Error, Map, Permission, Result, RunId, ThreadId, Value};
use futures_util::future::BoxFuture;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::{Caller, attended, schema_of};
use crate::{
    page,
    wire::{self, run::cancel_action, state::ThreadState, store::Hits, thread::Thread},
};

/// How long `runs_wait` waits if nothing is said, in seconds.
const WAIT_SECONDS: f64 = 60.0;

/// Whether a tool only reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    Writes,
}

pub(super) type Body = for<'a> fn(&'a Caller, JsonObject) -> BoxFuture<'a, Result<Value>>;

/// A tool of the platform.
pub(super) struct PlatformTool {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) effect: Effect,
    /// What a caller must be permitted.
    pub(super) permission: Permission,
    pub(super) schema: fn() -> Json,
    pub(super) body: Body,
}

static TOOLS: [PlatformTool; 9] = [
    PlatformTool {
        name: "runs_start",
        description: "Starts a run of an assistant in the background, on a thread that stays. \
            With `resume` it answers the question that the thread waits for.",
        effect: Effect::Writes,
        permission: Permission::RunsWrite,
        schema: || {
            schema(
                json!({
                    "assistant_id": text("Assistant id or graph id."),
                    "input": { "description": "Input of the graph.", "type": "object" },
                    "thread_id": text("Thread id (UUID); made if it does not exist. A new thread if absent."),
                    "resume": { "description": "Answer to the question that the thread waits for." },
                    "metadata": { "description": "Metadata of the run.", "type": "object" },
                }),
                &["assistant_id"],
            )
        },
        body: |caller, args| Box::pin(runs_start(caller, args)),
    },
    PlatformTool {
        name: "runs_wait",
        description: "Waits for the end of a run and gives its result; `__interrupt__` in it is a \
            question, `__error__` a failure. Gives the status alone if the run goes on.",
        effect: Effect::Reads,
        permission: Permission::RunsRead,
        schema: || {
            schema(
                json!({
                    "thread_id": text("Thread id."),
                    "run_id": text("Run id."),
                    "timeout_seconds": { "type": "number", "exclusiveMinimum": 0,
                        "description": "Longest wait; 60 if absent." },
                }),
                &["thread_id", "run_id"],
            )
        },
        body: |caller, args| Box::pin(runs_wait(caller, args)),
    },
    PlatformTool {
        name: "runs_get",
        description: "Gives the status of a run.",
        effect: Effect::Reads,
        permission: Permission::RunsRead,
        schema: || schema(run_place(), &["thread_id", "run_id"]),
        body: |caller, args| Box::pin(runs_get(caller, args)),
    },
    PlatformTool {
        name: "runs_cancel",
        description: "Stops a run that waits or executes.",
        effect: Effect::Writes,
        permission: Permission::RunsWrite,
        schema: || {
            let mut properties = run_place();
            properties["action"] = json!({ "enum": ["interrupt", "rollback"],
                "description": "`interrupt` (default) keeps what it did, `rollback` removes it." });
            schema(properties, &["thread_id", "run_id"])
        },
        body: |caller, args| Box::pin(runs_cancel(caller, args)),
    },
    PlatformTool {
        name: "threads_state",
        description: "Gives the state of a thread: values, next nodes, unanswered questions.",
        effect: Effect::Reads,
        permission: Permission::ThreadsRead,
        schema: || schema(json!({ "thread_id": text("Thread id.") }), &["thread_id"]),
        body: |caller, args| Box::pin(threads_state(caller, args)),
    },
    PlatformTool {
        name: "threads_search",
        description: "Lists threads, newest first.",
        effect: Effect::Reads,
        permission: Permission::ThreadsRead,
        schema: || {
            let mut properties = paging();
            properties["metadata"] = json!({ "type": "object",
                "description": "Only threads whose metadata contains this." });
            properties["status"] = json!({ "enum": ["idle", "busy", "interrupted", "error"],
                "description": "Only threads of this status." });
            schema(properties, &[])
        },
        body: |caller, args| Box::pin(threads_search(caller, args)),
    },
    PlatformTool {
        name: "store_search",
        description: "Lists long-term items below a namespace, newest first.",
        effect: Effect::Reads,
        permission: Permission::StoreRead,
        schema: || {
            let mut properties = paging();
            properties["namespace_prefix"] = labels("Leading labels of the namespace.");
            properties["filter"] = json!({ "type": "object",
                "description": "Fields of the value, or comparisons: $eq, $ne, $gt, $gte, $lt, $lte." });
            schema(properties, &[])
        },
        body: |caller, args| Box::pin(store_search(caller, args)),
    },
    PlatformTool {
        name: "store_get",
        description: "Gives a long-term item, or null.",
        effect: Effect::Reads,
        permission: Permission::StoreRead,
        schema: || {
            schema(
                json!({ "namespace": labels("Labels, outermost first."), "key": text("Key.") }),
                &["namespace", "key"],
            )
        },
        body: |caller, args| Box::pin(store_get(caller, args)),
    },
    PlatformTool {
        name: "store_put",
        description: "Stores a long-term item, or replaces it.",
        effect: Effect::Writes,
        permission: Permission::StoreWrite,
        schema: || {
            schema(
                json!({
                    "namespace": labels("Labels, outermost first."),
                    "key": text("Key."),
                    "value": { "type": "object", "description": "The value." },
                    "ttl": { "type": "number", "description": "Minutes to live; for ever if absent." },
                }),
                &["namespace", "key", "value"],
            )
        },
        body: |caller, args| Box::pin(store_put(caller, args)),
    },
];

pub(super) fn text(description: &str) -> Json {
    json!({ "type": "string", "description": description })
}

fn labels(description: &str) -> Json {
    json!({ "type": "array", "items": { "type": "string" }, "description": description })
}

fn run_place() -> Json {
    json!({ "thread_id": text("Thread id."), "run_id": text("Run id.") })
}

fn paging() -> Json {
    json!({
        "limit": { "type": "integer", "minimum": 1, "maximum": 1000, "description": "Most rows; 10 if absent." },
        "offset": { "type": "integer", "minimum": 0, "description": "Rows to skip." },
    })
}

pub(super) fn schema(properties: Json, required: &[&str]) -> Json {
    json!({ "type": "object", "properties": properties, "required": required,
        "additionalProperties": false })
}

/// All of them.
pub(super) fn tools() -> impl Iterator<Item = &'static PlatformTool> {
    TOOLS.iter().chain(super::memories::TOOLS)
}

/// The one of a name.
pub(super) fn find(name: &str) -> Option<&'static PlatformTool> {
    tools().find(|tool| tool.name == name)
}

impl PlatformTool {
    /// As clients see it.
    pub(super) fn described(&self) -> Tool {
        let reads = self.effect == Effect::Reads;
        let hints = ToolAnnotations::new().read_only(reads).open_world(false);
        Tool::new(self.name, self.description, schema_of((self.schema)())).with_annotations(hints)
    }

    /// Runs it.
    ///
    /// # Errors
    /// `Denied` to callers without the permission; `Unprocessable` for arguments that do not fit; otherwise as the operation.
    pub(super) async fn call(
        &self,
        caller: &Caller,
        args: JsonObject,
        gone: &CancellationToken,
    ) -> Result<Value> {
        permitted(caller, self.permission)?;
        let work = (self.body)(caller, args);
        attended(work, gone, caller.app.limits.tool_call).await?
    }
}

/// # Errors
/// `Denied` to a caller without the permission.
pub(super) fn permitted(caller: &Caller, permission: Permission) -> Result<()> {
    match caller.scope.may(permission) {
        true => Ok(()),
        false => Err(Error::denied(format!("Missing permission: {permission}"))),
    }
}

/// Reads arguments; the error names the place.
pub(super) fn read<T: DeserializeOwned>(args: JsonObject) -> Result<T> {
    serde_path_to_error::deserialize(Json::Object(args)).map_err(|err| {
        let path = err.path().to_string();
        let what = err.into_inner();
        Error::unprocessable(match path.as_str() {
            "." => format!("the arguments do not fit: {what}"),
            path => format!("the arguments do not fit: {path}: {what}"),
        })
    })
}

fn value(encoded: impl Serialize) -> Result<Value> {
    agentflow_types::to_value(&encoded)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunsStart {
    assistant_id: String,
    #[serde(default)]
    input: Value,
    thread_id: Option<String>,
    #[serde(default)]
    resume: Value,
    metadata: Option<Map>,
}

async fn runs_start(caller: &Caller, args: JsonObject) -> Result<Value> {
    let args: RunsStart = read(args)?;
    let thread = match args.thread_id {
        Some(id) => RunThread::CreateIfMissing(id.parse()?),
        None => RunThread::Kept,
    };
    let mut create = CreateRun::new(&args.assistant_id, thread);
    create.input = args.input;
    create.metadata = args.metadata.unwrap_or_default();
    create.headers = caller.headers.clone();
    if !args.resume.is_null() {
        create.command = Value::object([("resume", args.resume)]);
    }
    let run = caller.app.service.create_run(&caller.scope, create).await?;
    Ok(brief(&run))
}

fn brief(run: &Run) -> Value {
    Value::object([
        ("thread_id", Value::from(run.thread_id.text())),
        ("run_id", Value::from(run.run_id.text())),
        ("status", Value::str(run.status.as_str())),
    ])
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunPlace {
    thread_id: String,
    run_id: String,
    timeout_seconds: Option<f64>,
    action: Option<String>,
}

impl RunPlace {
    fn ids(&self) -> Result<(ThreadId, RunId)> {
        Ok((self.thread_id.parse()?, self.run_id.parse()?))
    }
}

async fn runs_wait(caller: &Caller, args: JsonObject) -> Result<Value> {
    let args: RunPlace = read(args)?;
    let (thread, id) = args.ids()?;
    let seconds = args.timeout_seconds.unwrap_or(WAIT_SECONDS);
    let longest = Duration::try_from_secs_f64(seconds)
        .map_err(|_| Error::unprocessable("timeout_seconds: must be zero or more"))?;
    let service = &caller.app.service;
    service.get_run(&caller.scope, Some(thread), id).await?;
    let joined = service.join(&caller.scope, Some(thread), id);
    let result = match tokio::time::timeout(longest, joined).await {
        Ok(result) => Some(result?),
        Err(_) => None,
    };
    let run = service.get_run(&caller.scope, Some(thread), id).await?;
    let mut told = brief(&run).as_map().cloned().unwrap_or_default();
    if let Some(result) = result {
        told.insert("result".into(), result);
    }
    Ok(Value::map(told))
}

async fn runs_get(caller: &Caller, args: JsonObject) -> Result<Value> {
    let (thread, id) = read::<RunPlace>(args)?.ids()?;
    let service = &caller.app.service;
    let run = service.get_run(&caller.scope, Some(thread), id).await?;
    let told = value(wire::run::Run::from(run))?;
    // What the run was started with may be large, and is known to whoever started it.
    let mut told = told.as_map().cloned().unwrap_or_default();
    told.shift_remove("kwargs");
    Ok(Value::map(told))
}

async fn runs_cancel(caller: &Caller, args: JsonObject) -> Result<Value> {
    let args: RunPlace = read(args)?;
    let (thread, id) = args.ids()?;
    let action = cancel_action(args.action.as_deref())?;
    let service = &caller.app.service;
    service
        .cancel_runs(&caller.scope, thread, Which::Ids(vec![id]), action)
        .await?;
    service.wait_end(&caller.scope, thread, id).await?;
    Ok(Value::object([
        ("thread_id", Value::from(thread.text())),
        ("run_id", Value::from(id.text())),
        ("status", Value::str(RunStatus::Interrupted.as_str())),
    ]))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ThreadPlace {
    thread_id: String,
}

async fn threads_state(caller: &Caller, args: JsonObject) -> Result<Value> {
    let id: ThreadId = read::<ThreadPlace>(args)?.thread_id.parse()?;
    let service = &caller.app.service;
    let state = service.state(&caller.scope, id, None, false).await?;
    value(ThreadState::from(state))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ThreadsSearch {
    metadata: Option<Map>,
    status: Option<ThreadStatus>,
    limit: Option<i64>,
    offset: Option<i64>,
}

async fn threads_search(caller: &Caller, args: JsonObject) -> Result<Value> {
    let args: ThreadsSearch = read(args)?;
    let query = ThreadQuery {
        metadata: args.metadata.unwrap_or_default(),
        status: args.status,
        ..ThreadQuery::default()
    };
    let page = PageQuery {
        limit: page::limit(args.limit, page::DEFAULT_LIMIT)?,
        offset: page::offset(args.offset)?,
        ..PageQuery::default()
    };
    let service = &caller.app.service;
    let found = service.search_threads(&caller.scope, &query, &page).await?;
    let total = found.total;
    let threads: Vec<Thread> = found.items.into_iter().map(Thread::from).collect();
    Ok(Value::object([
        ("threads", value(threads)?),
        (
            "total",
            Value::Int(i64::try_from(total).unwrap_or(i64::MAX)),
        ),
    ]))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreSearch {
    #[serde(default)]
    namespace_prefix: Vec<String>,
    filter: Option<Map>,
    limit: Option<i64>,
    offset: Option<i64>,
}

async fn store_search(caller: &Caller, args: JsonObject) -> Result<Value> {
    let args: StoreSearch = read(args)?;
    let query = ItemQuery {
        namespace_prefix: args.namespace_prefix,
        filter: args.filter.unwrap_or_default(),
        limit: page::limit(args.limit, page::DEFAULT_LIMIT)?,
        offset: page::offset(args.offset)?,
        refresh: Refresh::Yes,
    };
    let service = &caller.app.service;
    let found = service.search_items(&caller.scope, &query).await?;
    value(Hits::from(found))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreGet {
    namespace: Vec<String>,
    key: String,
}

async fn store_get(caller: &Caller, args: JsonObject) -> Result<Value> {
    let args: StoreGet = read(args)?;
    let service = &caller.app.service;
    let found = service
        .get_item(&caller.scope, &args.namespace, &args.key, Refresh::Yes)
        .await?;
    let item = found.map(wire::store::Item::from);
    Ok(Value::object([("item", value(item)?)]))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StorePut {
    namespace: Vec<String>,
    key: String,
    value: Map,
    ttl: Option<f64>,
}

async fn store_put(caller: &Caller, args: JsonObject) -> Result<Value> {
    let args: StorePut = read(args)?;
    let item = PutItem {
        namespace: args.namespace.clone(),
        key: args.key.clone(),
        value: args.value,
        ttl_minutes: args.ttl,
    };
    caller.app.service.put_item(&caller.scope, item).await?;
    let labels = args.namespace.into_iter().map(Value::from).collect();
    Ok(Value::object([
        ("namespace", Value::list(labels)),
        ("key", Value::from(args.key)),
    ]))
}
