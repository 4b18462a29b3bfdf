//! Tools of long-term memory, under the names that Mem0's own MCP server gives them.

use agentflow_memory::{Add, DEFAULT_PROJECT, Edit, Search, Service, Speech, Which};
use agentflow_storage::{
    memories::{JobQuery, Owner, OwnerKind},
    page::PageQuery,
};
use agentflow_types::{Error, JobId, Map, MemoryId, Permission, Result, Value};
use rmcp::model::JsonObject;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{
    Caller,
    platform::{Effect, PlatformTool, read, schema, text},
};
use crate::mem0::{self, read as given};

/// Rows of a list if nothing is said about it.
const ROWS: u32 = 50;
/// Most rows of a list.
const MAX_ROWS: u32 = 200;

fn owners() -> Json {
    json!({
        "user_id": text("Whose; yourself if nobody is named."),
        "agent_id": text("Agent whose memory it is."),
        "app_id": text("App whose memory it is."),
        "run_id": text("Run whose memory it is."),
    })
}

fn filters(more: Json) -> Json {
    let mut properties = more;
    properties["filters"] = json!({ "type": "object", "description":
        "Which memories, for example {\"AND\": [{\"user_id\": \"ada\"}, {\"categories\": \
        {\"in\": [\"food\"]}}]}; your own if absent." });
    properties
}

fn one() -> Json {
    schema(
        json!({ "memory_id": text("Id of the memory.") }),
        &["memory_id"],
    )
}

/// All of them.
pub(super) static TOOLS: &[PlatformTool] = &[
    PlatformTool {
        name: "add_memory",
        description: "Remembers something about a user, an agent, an app or a run: a text, or \
            messages of a conversation.",
        effect: Effect::Writes,
        permission: Permission::MemoriesWrite,
        schema: || {
            let mut properties = owners();
            properties["text"] = text("What is to be remembered.");
            properties["messages"] = json!({ "type": "array", "items": { "type": "object" },
                "description": "Messages with role and content, in place of text." });
            properties["metadata"] = json!({ "type": "object", "description": "Kept with it." });
            properties["infer"] = json!({ "type": "boolean", "description":
                "Whether facts are read out of it (default), or it is kept as it is." });
            schema(properties, &[])
        },
        body: |caller, args| Box::pin(add(caller, args)),
    },
    PlatformTool {
        name: "search_memories",
        description: "Finds memories that answer a question.",
        effect: Effect::Reads,
        permission: Permission::MemoriesRead,
        schema: || {
            let mut properties = filters(json!({}));
            properties["query"] = text("What is asked.");
            properties["limit"] = json!({ "type": "integer", "minimum": 1, "maximum": 1000,
                "description": "Most results; 10 if absent." });
            schema(properties, &["query"])
        },
        body: |caller, args| Box::pin(search(caller, args)),
    },
    PlatformTool {
        name: "get_memories",
        description: "Lists memories, the newest first.",
        effect: Effect::Reads,
        permission: Permission::MemoriesRead,
        schema: || schema(filters(paging()), &[]),
        body: |caller, args| Box::pin(list(caller, args)),
    },
    PlatformTool {
        name: "get_memory",
        description: "Gives a memory.",
        effect: Effect::Reads,
        permission: Permission::MemoriesRead,
        schema: one,
        body: |caller, args| Box::pin(get(caller, args)),
    },
    PlatformTool {
        name: "update_memory",
        description: "Changes what a memory says.",
        effect: Effect::Writes,
        permission: Permission::MemoriesWrite,
        schema: || {
            let properties = json!({ "memory_id": text("Id of the memory."),
                "text": text("What it says from now on.") });
            schema(properties, &["memory_id", "text"])
        },
        body: |caller, args| Box::pin(update(caller, args)),
    },
    PlatformTool {
        name: "delete_memory",
        description: "Removes a memory.",
        effect: Effect::Writes,
        permission: Permission::MemoriesWrite,
        schema: one,
        body: |caller, args| Box::pin(delete(caller, args)),
    },
    PlatformTool {
        name: "delete_all_memories",
        description: "Removes all memories of a user, an agent, an app or a run. Somebody must \
            be named.",
        effect: Effect::Writes,
        permission: Permission::MemoriesWrite,
        schema: || schema(owners(), &[]),
        body: |caller, args| Box::pin(forget(caller, args)),
    },
    PlatformTool {
        name: "delete_entities",
        description: "Removes a user, an agent, an app or a run with all memories. Somebody must \
            be named.",
        effect: Effect::Writes,
        permission: Permission::MemoriesWrite,
        schema: || schema(owners(), &[]),
        body: |caller, args| Box::pin(forget(caller, args)),
    },
    PlatformTool {
        name: "list_entities",
        description: "Lists users, agents, apps and runs that have memories.",
        effect: Effect::Reads,
        permission: Permission::MemoriesRead,
        schema: || schema(paging(), &[]),
        body: |caller, args| Box::pin(entities(caller, args)),
    },
    PlatformTool {
        name: "list_events",
        description: "Lists the work on memories, the newest first.",
        effect: Effect::Reads,
        permission: Permission::MemoriesRead,
        schema: || schema(paging(), &[]),
        body: |caller, args| Box::pin(events(caller, args)),
    },
    PlatformTool {
        name: "get_event_status",
        description: "Tells how the work on an added memory goes on.",
        effect: Effect::Reads,
        permission: Permission::MemoriesRead,
        schema: || {
            schema(
                json!({ "event_id": text("Id of the event.") }),
                &["event_id"],
            )
        },
        body: |caller, args| Box::pin(event(caller, args)),
    },
];

fn paging() -> Json {
    json!({
        "page": { "type": "integer", "minimum": 1, "description": "Page, from 1." },
        "page_size": { "type": "integer", "minimum": 1, "maximum": MAX_ROWS,
            "description": "Rows of a page; 50 if absent." },
    })
}

/// The service of the server.
fn service(caller: &Caller) -> Result<Service> {
    let memory = caller.app.memory.clone();
    memory.ok_or_else(|| Error::busy("this server keeps no memories"))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Args {
    text: Option<String>,
    query: Option<String>,
    messages: Option<Value>,
    user_id: Option<Value>,
    agent_id: Option<Value>,
    app_id: Option<Value>,
    run_id: Option<Value>,
    metadata: Option<Map>,
    infer: Option<bool>,
    enable_graph: Option<bool>,
    filters: Option<Map>,
    limit: Option<usize>,
    page: Option<u32>,
    page_size: Option<u32>,
    memory_id: Option<String>,
    event_id: Option<String>,
}

impl Args {
    fn memory_id(&self) -> Result<MemoryId> {
        let id = self.memory_id.as_deref().unwrap_or_default();
        id.parse()
            .map_err(|_| Error::invalid("memory_id should be a valid UUID"))
    }

    /// The filter; one's own memories without one.
    fn filter(&mut self, caller: &Caller) -> Map {
        let own = || owned(&oneself(caller));
        let filter = self.filters.take().filter(|filter| !filter.is_empty());
        let filter = filter.unwrap_or_else(own);
        match agentflow_memory::filter::names_owner(&filter) {
            true => filter,
            false => given::only(
                "AND",
                Value::list(vec![Value::map(own()), Value::map(filter)]),
            ),
        }
    }

    fn rows(&self) -> Result<(u32, u64)> {
        let size = self.page_size.unwrap_or(ROWS);
        let page = self.page.unwrap_or(1);
        match (1..=MAX_ROWS).contains(&size) && page >= 1 {
            true => Ok((size, u64::from(page - 1) * u64::from(size))),
            false => Err(Error::invalid("page counts from 1, page_size is 1 to 200")),
        }
    }
}

/// Whose memories are meant if nobody is named: those that the caller is limited to, or its own.
fn oneself(caller: &Caller) -> Owner {
    let mut owner = Owner::default();
    for kind in OwnerKind::ALL {
        let limit = caller.scope.memories();
        let name = limit.and_then(|limit| limit.owner(kind.field()));
        owner.set(kind, name.map(str::to_owned));
    }
    if owner.is_empty() {
        owner.user_id = Some(caller.scope.principal().to_owned());
    }
    owner
}

/// The filter of exactly these owners.
fn owned(owner: &Owner) -> Map {
    let named = OwnerKind::ALL.into_iter().filter_map(|kind| {
        let exact = Value::object([("eq", Value::str(owner.get(kind)?))]);
        Some((kind.field().into(), exact))
    });
    named.collect()
}

fn told(json: &Json) -> Value {
    Value::from_json(json)
}

async fn add(caller: &Caller, args: JsonObject) -> Result<Value> {
    let args: Args = read(args)?;
    let messages = match (&args.messages, args.text) {
        (Some(messages), _) => given::messages(messages)?,
        (None, Some(text)) => vec![Speech {
            role: "user".into(),
            content: text,
            name: None,
        }],
        (None, None) => return Err(Error::invalid("give text or messages")),
    };
    let _ = args.enable_graph;
    let mut owner = given::owner(
        [args.user_id, args.agent_id, args.app_id, args.run_id],
        None,
    )?;
    if owner.is_empty() {
        owner = oneself(caller);
    }
    let add = Add {
        messages,
        owner,
        metadata: args.metadata.unwrap_or_default(),
        infer: args.infer.unwrap_or(true),
        ..Add::default()
    };
    let added = service(caller)?
        .add(&caller.scope, DEFAULT_PROJECT, add)
        .await?;
    let results: Vec<Json> = added.memories.iter().map(mem0::added).collect();
    Ok(told(&json!({
        "event_id": added.job.job_id.text(),
        "status": added.job.status.as_str(),
        "results": results,
    })))
}

async fn search(caller: &Caller, args: JsonObject) -> Result<Value> {
    let mut args: Args = read(args)?;
    let search = Search {
        which: Which {
            filter: args.filter(caller),
            ..Which::default()
        },
        query: args.query.unwrap_or_default(),
        top_k: args.limit.unwrap_or(10),
        ..Search::default()
    };
    let found = service(caller)?
        .search(&caller.scope, DEFAULT_PROJECT, &search)
        .await?;
    let results: Vec<Json> = found.iter().map(|one| mem0::found(one, false)).collect();
    Ok(told(&json!({ "results": results })))
}

async fn list(caller: &Caller, args: JsonObject) -> Result<Value> {
    let mut args: Args = read(args)?;
    let (limit, offset) = args.rows()?;
    let which = Which {
        filter: args.filter(caller),
        ..Which::default()
    };
    let page = PageQuery {
        limit,
        offset,
        ..PageQuery::default()
    };
    let page = service(caller)?
        .list(&caller.scope, DEFAULT_PROJECT, &which, &page)
        .await?;
    let results: Vec<Json> = page.items.iter().map(mem0::memory).collect();
    Ok(told(&json!({ "count": page.total, "results": results })))
}

async fn get(caller: &Caller, args: JsonObject) -> Result<Value> {
    let id = read::<Args>(args)?.memory_id()?;
    let memory = service(caller)?
        .get(&caller.scope, DEFAULT_PROJECT, id, None)
        .await?;
    Ok(told(&mem0::memory(&memory)))
}

async fn update(caller: &Caller, args: JsonObject) -> Result<Value> {
    let args: Args = read(args)?;
    let id = args.memory_id()?;
    let edit = Edit {
        text: args.text,
        ..Edit::default()
    };
    let memory = service(caller)?
        .update(&caller.scope, DEFAULT_PROJECT, id, &edit)
        .await?;
    Ok(told(&mem0::memory(&memory)))
}

async fn delete(caller: &Caller, args: JsonObject) -> Result<Value> {
    let id = read::<Args>(args)?.memory_id()?;
    service(caller)?
        .delete(&caller.scope, DEFAULT_PROJECT, id, false)
        .await?;
    Ok(told(&json!({ "message": "Memory deleted successfully!" })))
}

async fn forget(caller: &Caller, args: JsonObject) -> Result<Value> {
    let args: Args = read(args)?;
    let owner = given::owner(
        [args.user_id, args.agent_id, args.app_id, args.run_id],
        None,
    )?;
    let filter = owned(&owner);
    let service = service(caller)?;
    let deleted = service
        .delete_all(&caller.scope, DEFAULT_PROJECT, &filter)
        .await?;
    Ok(told(
        &json!({ "message": "Memories deleted successfully!", "deleted": deleted.memories }),
    ))
}

async fn entities(caller: &Caller, args: JsonObject) -> Result<Value> {
    let (limit, offset) = read::<Args>(args)?.rows()?;
    let service = service(caller)?;
    let page = service
        .entities(&caller.scope, DEFAULT_PROJECT, None, limit, offset)
        .await?;
    let rows = page.items.iter().map(|one| {
        json!({ "type": one.kind.as_str(), "name": one.name, "total_memories": one.memories })
    });
    let rows: Vec<Json> = rows.collect();
    Ok(told(&json!({ "count": page.total, "results": rows })))
}

async fn events(caller: &Caller, args: JsonObject) -> Result<Value> {
    let (limit, offset) = read::<Args>(args)?.rows()?;
    let query = JobQuery {
        project: DEFAULT_PROJECT.to_owned(),
        limit,
        offset,
        ..JobQuery::default()
    };
    let page = service(caller)?.events(&caller.scope, &query).await?;
    let rows: Vec<Json> = page.items.iter().map(mem0::job).collect();
    Ok(told(&json!({ "count": page.total, "results": rows })))
}

async fn event(caller: &Caller, args: JsonObject) -> Result<Value> {
    let args: Args = read(args)?;
    let id: JobId = args
        .event_id
        .as_deref()
        .unwrap_or_default()
        .parse()
        .map_err(|_| Error::invalid("event_id should be a valid UUID"))?;
    let job = service(caller)?
        .event(&caller.scope, DEFAULT_PROJECT, id)
        .await?;
    Ok(told(&mem0::job(&job)))
}
