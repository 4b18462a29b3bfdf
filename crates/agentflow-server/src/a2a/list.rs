//! `ListTasks`.

use agentflow_storage::record::{Run, RunQuery};
use agentflow_types::ThreadId;
use serde_json::{Value as Json, json};

use super::{
    Caller,
    input::history_of,
    method::Dialect,
    rpc::Refusal,
    task::{self, Artifacts, Extent},
    wire::{Pen, State},
};

/// Newest runs that are looked at.
const LOOKED_AT: u32 = 1000;
/// Tasks of a page if nothing is said, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 100;

/// One page of the assistant's tasks, newest first.
pub(super) async fn page(
    caller: &Caller,
    params: &Json,
    dialect: Dialect,
) -> Result<Json, Refusal> {
    let Wanted {
        context,
        state: wanted,
        size,
        start,
    } = Wanted::read(params)?;
    let artifacts = match params.get("includeArtifacts").and_then(Json::as_bool) {
        Some(true) => Artifacts::Wanted,
        _ => Artifacts::Unwanted,
    };
    let extent = Extent {
        history: history_of(params),
        artifacts,
    };
    let ids = tasks(caller, context).await?;
    let mut found = Vec::new();
    for id in &ids {
        let runs = task::find(caller, id).await?;
        let task = task::load(caller, &runs, extent).await?;
        if wanted.is_none_or(|state| state == task.state) {
            found.push(Pen::of(&task, dialect).task(&task));
        }
        // Without a condition the number is known without loading the rest.
        if wanted.is_none() && found.len() >= start + size {
            break;
        }
    }
    let total = if wanted.is_none() {
        ids.len()
    } else {
        found.len()
    };
    let page: Vec<Json> = found.into_iter().skip(start).take(size).collect();
    let next = start + page.len();
    let token = if next < total {
        next.to_string()
    } else {
        String::new()
    };
    Ok(json!({
        "pageSize": page.len(), "tasks": page, "totalSize": total, "nextPageToken": token,
    }))
}

/// Which tasks are asked for.
struct Wanted {
    context: Option<ThreadId>,
    state: Option<State>,
    /// Most tasks.
    size: usize,
    /// Tasks to skip.
    start: usize,
}

impl Wanted {
    /// # Errors
    /// If a parameter is not what it should be.
    fn read(params: &Json) -> Result<Self, Refusal> {
        let text = |key: &str| {
            let found = params.get(key).and_then(Json::as_str);
            found.filter(|text| !text.is_empty())
        };
        let context = text("contextId").map(str::parse).transpose();
        let state = match text("status") {
            None | Some("TASK_STATE_UNSPECIFIED") => None,
            Some(word) => {
                Some(State::parse(word).ok_or_else(|| Refusal::params("status is not a state"))?)
            }
        };
        let size = params.get("pageSize").and_then(Json::as_u64);
        let size = size.filter(|size| *size > 0).map_or(PAGE, |size| {
            usize::try_from(size).unwrap_or(MAX_PAGE).min(MAX_PAGE)
        });
        let start = text("pageToken").map_or(Ok(0), str::parse);
        Ok(Self {
            context: context.map_err(|_| Refusal::params("contextId is not a UUID"))?,
            state,
            size,
            start: start.map_err(|_| Refusal::params("pageToken is not one of ours"))?,
        })
    }
}

/// Ids of tasks, newest first.
async fn tasks(caller: &Caller, context: Option<ThreadId>) -> Result<Vec<String>, Refusal> {
    let service = &caller.app.service;
    let assistant = service
        .resolve_assistant(&caller.scope, &caller.assistant)
        .await?;
    let query = RunQuery {
        thread_id: context,
        limit: LOOKED_AT,
        ..RunQuery::default()
    };
    let runs = service.list_runs(&caller.scope, &query).await?;
    let is_first = |run: &&Run| {
        run.assistant_id == assistant.assistant_id
            && task::task_of(run) == Some(run.run_id.text().as_str())
    };
    Ok(runs
        .iter()
        .filter(is_first)
        .map(|run| run.run_id.text())
        .collect())
}
