//! Assistants as tools.
//!
//! The tool of a graph's own assistant has the graph's id for a name; others have the assistant's
//! name, with what tools may not have in their names replaced, and a part of its id where the name
//! is taken. Every assistant can also be called by its id.

use std::collections::{HashMap, HashSet};

use agentflow_runs::{
    config::{CreateRun, RunThread},
    machine::Which,
};
use agentflow_storage::{
    page::{Order, PageQuery},
    record::{Assistant, AssistantQuery, CancelAction, Run},
};
use agentflow_types::{AssistantId, Error, ErrorKind, Result, Value};
use rmcp::model::{JsonObject, Tool};
use tokio_util::sync::CancellationToken;

use super::{Caller, attended, platform, schema_of};

/// Most assistants that are listed; further ones can be called by their ids.
const MAX_LISTED: u32 = 1000;
/// Longest name of a tool.
const NAME_CHARS: usize = 64;
/// Characters of an id that tell tools of one name apart.
const ID_CHARS: usize = 8;

/// The tools of all assistants, oldest first.
pub(super) async fn tools(caller: &Caller) -> Result<Vec<Tool>> {
    let mut schemas = HashMap::new();
    let mut tools = Vec::new();
    for (name, assistant) in named(caller).await? {
        let known = schemas.get(&assistant.graph_id).cloned();
        let schema = match known {
            Some(schema) => schema,
            None => {
                let id = assistant.assistant_id.text();
                match caller.app.service.schemas(&caller.scope, &id).await {
                    Ok((_, found)) => schema_of(found.input_schema.unwrap_or_default()),
                    // The graph is no longer served; the others still are.
                    Err(err) if err.kind() == ErrorKind::NotFound => continue,
                    Err(err) => return Err(err),
                }
            }
        };
        schemas.insert(assistant.graph_id.clone(), schema.clone());
        let description = assistant
            .description
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| format!("Runs the assistant {}.", assistant.name));
        tools.push(Tool::new(name, description, schema).with_title(assistant.name));
    }
    Ok(tools)
}

/// The assistant whose tool has this name.
pub(super) async fn find(caller: &Caller, name: &str) -> Result<Option<AssistantId>> {
    match caller
        .app
        .service
        .resolve_assistant(&caller.scope, name)
        .await
    {
        Ok(assistant) => return Ok(Some(assistant.assistant_id)),
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::Unprocessable) => {}
        Err(err) => return Err(err),
    }
    let named = named(caller).await?.into_iter();
    let mut found = named.filter(|(one, _)| one == name);
    Ok(found.next().map(|(_, assistant)| assistant.assistant_id))
}

/// The assistants with the names of their tools.
async fn named(caller: &Caller) -> Result<Vec<(String, Assistant)>> {
    let page = PageQuery {
        limit: MAX_LISTED,
        order: Order::Ascending,
        ..PageQuery::default()
    };
    let service = &caller.app.service;
    let found = service
        .search_assistants(&caller.scope, &AssistantQuery::default(), &page)
        .await?;
    if found.total > u64::from(MAX_LISTED) {
        tracing::info!(
            listed = MAX_LISTED,
            total = found.total,
            "not all assistants are listed"
        );
    }
    let graphs: HashSet<String> = service.graphs().into_iter().map(|g| g.graph_id).collect();
    let mut taken: HashSet<String> = platform::tools().map(|tool| tool.name.to_owned()).collect();
    // Names of graphs belong to the graphs, whether their assistants were made first or not.
    taken.extend(graphs);
    let name = |assistant: Assistant| {
        let is_system = assistant.assistant_id == AssistantId::system(&assistant.graph_id);
        let name = match is_system {
            true => assistant.graph_id.clone(),
            false => free_name(&assistant, &taken),
        };
        taken.insert(name.clone());
        (name, assistant)
    };
    Ok(found.items.into_iter().map(name).collect())
}

fn free_name(assistant: &Assistant, taken: &HashSet<String>) -> String {
    let plain = tool_name(&assistant.name);
    if !plain.is_empty() && !taken.contains(&plain) {
        return plain;
    }
    let id = assistant.assistant_id.text();
    let short: String = plain.chars().take(NAME_CHARS - ID_CHARS - 1).collect();
    let with_part = format!("{short}_{}", &id[..ID_CHARS]);
    match taken.contains(&with_part) {
        true => id,
        false => with_part,
    }
}

/// Text as the name of a tool.
fn tool_name(text: &str) -> String {
    let allowed = |c: char| match c {
        c if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') => c,
        _ => '_',
    };
    text.trim().chars().map(allowed).take(NAME_CHARS).collect()
}

/// Runs an assistant on a thread of its own and waits for its result. The run is stopped when
/// nobody waits any more.
pub(super) async fn call(
    caller: &Caller,
    id: &AssistantId,
    args: JsonObject,
    gone: &CancellationToken,
) -> Result<Value> {
    let service = &caller.app.service;
    let mut create = CreateRun::new(&id.text(), RunThread::Temporary);
    create.input = Value::from_json(&serde_json::Value::Object(args));
    create.headers = caller.headers.clone();
    let run = service.create_run(&caller.scope, create).await?;
    let joined = service.join(&caller.scope, Some(run.thread_id), run.run_id);
    match attended(joined, gone, caller.app.limits.tool_call).await {
        Ok(result) => unless_failed(result?),
        Err(left) => {
            stop(caller, &run).await;
            Err(left.into())
        }
    }
}

async fn stop(caller: &Caller, run: &Run) {
    let which = Which::Ids(vec![run.run_id]);
    let action = CancelAction::Interrupt;
    let service = &caller.app.service;
    let stopped = service
        .cancel_runs(&caller.scope, run.thread_id, which, action)
        .await;
    if let Err(err) = stopped {
        // Most often the run was over already.
        tracing::debug!(run_id = %run.run_id, error = %err, "a left run was not stopped");
    }
}

/// The values, or the run's error as one of the tool.
fn unless_failed(result: Value) -> Result<Value> {
    let Some(error) = result.get("__error__") else {
        return Ok(result);
    };
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    Err(Error::failed(format!(
        "{}: {}",
        text("error"),
        text("message")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_what_tools_may_have() {
        assert_eq!(tool_name("  My Echo! "), "My_Echo_");
        assert_eq!(tool_name("Grüße"), "Gr__e");
        assert_eq!(tool_name(&"x".repeat(80)).len(), NAME_CHARS);
    }
}
