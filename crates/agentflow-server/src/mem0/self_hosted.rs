//! Memory in the dialect of Mem0's self-hosted server: answers wait for the model, filters name
//! metadata at the top.

use std::time::Duration;

use agentflow_memory::{Add, Edit, Found, Search, Which, filter};
use agentflow_storage::memories::{JobStatus, Memory, OwnerKind};
use agentflow_types::{Error, Map, Permission, Value};
use axum::{
    Extension, Json as Out,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    memories::threshold,
    place::{Place, memory_id},
    read, show,
};
use crate::{
    AppState,
    access::RequestId,
    error::{Failure, Misfit, Reply, detail_of},
    extract::{Json as Body, Params, Text},
    wire::present,
};

/// How long an add waits for the model.
pub(super) const WAIT: Duration = Duration::from_secs(120);
/// Most rows of a list.
const MAX_ROWS: u32 = 1_000;
/// Rows of a list, and hits of a search, if nothing is said about it.
const ROWS: u32 = 20;
/// Said to who names nobody.
const NOBODY: &str = "At least one identifier (user_id, agent_id, run_id) is required.";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(add, list, delete_all))
        .routes(routes!(get_memory, update, delete_memory))
        .routes(routes!(history))
        .routes(routes!(search))
        .routes(routes!(reset))
        .routes(routes!(entities))
        .routes(routes!(delete_entity))
        .routes(routes!(configuration, configure))
        .routes(routes!(providers))
        .routes(routes!(generate_instructions))
        .routes(routes!(agent_rush))
        .routes(routes!(agent_rush_search))
}

/// A memory as this dialect shows it: names only of what there is.
fn shown(memory: &Memory) -> Json {
    let metadata = match memory.metadata.is_empty() {
        true => Json::Null,
        false => Value::map(memory.metadata.clone()).to_json(),
    };
    let mut shown = json!({
        "id": memory.memory_id.text(),
        "memory": memory.text,
        "hash": memory.hash,
        "metadata": metadata,
        "created_at": memory.created_at.to_string(),
        "updated_at": memory.updated_at.to_string(),
    });
    let owners = OwnerKind::ALL
        .into_iter()
        .map(|kind| (kind.field(), memory.owner.get(kind)));
    let others = [
        ("actor_id", memory.actor.as_deref()),
        ("role", memory.role.as_deref()),
        ("attributed_to", memory.role.as_deref()),
        ("expiration_date", memory.expires_on.as_deref()),
    ];
    for (key, value) in owners.chain(others) {
        if let Some(value) = value {
            shown[key] = json!(value);
        }
    }
    shown
}

fn hit(found: &Found, explain: bool) -> Json {
    let mut shown = shown(&found.memory);
    shown["score"] = json!(found.score);
    if explain {
        let details = show::found(found, true);
        shown["score_details"] = details["score_details"].clone();
    }
    shown
}

/// What is to be remembered.
#[derive(Debug, Deserialize, ToSchema)]
struct NewMemory {
    /// List of messages with `role` and `content`.
    #[schema(value_type = Vec<Object>)]
    messages: Value,
    /// Whose it is.
    #[schema(value_type = Option<String>)]
    user_id: Option<Value>,
    /// Whose it is.
    #[schema(value_type = Option<String>)]
    agent_id: Option<Value>,
    /// Whose it is.
    #[schema(value_type = Option<String>)]
    run_id: Option<Value>,
    /// What is kept with it.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// The last day on which it counts.
    expiration_date: Option<String>,
    /// Whether facts are read out of it; true if absent.
    infer: Option<bool>,
    /// `procedural_memory` for how an agent did something.
    memory_type: Option<String>,
    /// What the model is told besides.
    prompt: Option<String>,
}

/// Add memories, and wait for them.
#[utoipa::path(post, path = "/memories", tag = "memories", request_body = NewMemory,
    responses((status = 200, body = Json)))]
async fn add(place: Place, Body(body): Body<NewMemory>) -> Reply<Response> {
    let owner = read::owner([body.user_id, body.agent_id, None, body.run_id], None)?;
    if owner.is_empty() {
        return Err(Error::invalid(NOBODY).into());
    }
    let procedural = body.memory_type.as_deref() == Some("procedural_memory");
    if body.memory_type.is_some() && !procedural {
        return Err(Error::invalid("memory_type may only be procedural_memory").into());
    }
    let add = Add {
        messages: read::messages(&body.messages)?,
        owner,
        metadata: body.metadata.unwrap_or_default(),
        infer: body.infer.unwrap_or(true),
        procedural,
        custom_instructions: body.prompt,
        expires_on: body.expiration_date,
        ..Add::default()
    };
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    let added = memory.add(scope, project, add).await?;
    if added.job.status.is_over() {
        let results: Vec<Json> = added.memories.iter().map(show::added).collect();
        return Ok(Out(json!({ "results": results })).into_response());
    }
    let id = added.job.job_id;
    let job = memory.wait(scope, project, id, WAIT).await?;
    let upstream = |detail: &str, code: &str| {
        let body = json!({ "detail": detail, "code": code, "request_id": id.text() });
        Ok((StatusCode::BAD_GATEWAY, Out(body)).into_response())
    };
    match job.status {
        JobStatus::Succeeded => {
            let results: Vec<Json> = job.results.iter().map(Value::to_json).collect();
            Ok(Out(json!({ "results": results })).into_response())
        }
        JobStatus::Failed => upstream(&job.error, "provider_unavailable"),
        _ => upstream(
            "the model takes long; the messages are kept",
            "provider_timeout",
        ),
    }
}

/// Owners in a query, as a filter.
fn owners(params: &Params) -> Map {
    let given = OwnerKind::ALL.into_iter().filter_map(|kind| {
        let name = params.get(kind.field()).filter(|name| !name.is_empty())?;
        Some((kind.field().into(), Value::str(name)))
    });
    given.collect()
}

/// List memories of somebody; without a name, of everybody, for administrators.
#[utoipa::path(get, path = "/memories", tag = "memories",
    params(("user_id" = Option<String>, Query, description = "Whose."),
        ("agent_id" = Option<String>, Query, description = "Whose."),
        ("run_id" = Option<String>, Query, description = "Whose."),
        ("top_k" = Option<u32>, Query, description = "Most rows, 0 to 1000; 20 if absent."),
        ("show_expired" = Option<bool>, Query, description = "Whether those that expired count.")),
    responses((status = 200, body = Json)))]
async fn list(place: Place, params: Params) -> Reply<Out<Json>> {
    let filter = owners(&params);
    let is_scoped = !filter.is_empty();
    if !is_scoped && !place.scope.may(Permission::KeysRead) {
        let text = "Admin role required to list all memories.";
        return Err(Failure::Http(StatusCode::FORBIDDEN, text.to_owned()));
    }
    let usual = if is_scoped { ROWS } else { MAX_ROWS };
    let limit = params.number("top_k")?.unwrap_or(usual);
    if limit > MAX_ROWS {
        return Err(Misfit::of_query("top_k", "must be a number from 0 to 1000").into());
    }
    let which = Which {
        filter,
        show_expired: params.flag("show_expired")?,
        ..Which::default()
    };
    let page = agentflow_storage::page::PageQuery {
        limit: limit.max(1),
        ..agentflow_storage::page::PageQuery::default()
    };
    let page = place
        .memory
        .list(&place.scope, &place.project, &which, &page)
        .await?;
    let rows = page.items.iter().take(limit as usize).map(shown);
    let rows: Vec<Json> = rows.collect();
    Ok(Out(json!({ "results": rows })))
}

/// Remove all memories of somebody.
#[utoipa::path(delete, path = "/memories", tag = "memories",
    params(("user_id" = Option<String>, Query, description = "Whose."),
        ("agent_id" = Option<String>, Query, description = "Whose."),
        ("run_id" = Option<String>, Query, description = "Whose.")),
    responses((status = 200, body = Json)))]
async fn delete_all(place: Place, params: Params) -> Reply<Out<Json>> {
    let filter = owners(&params);
    if filter.is_empty() {
        return Err(Error::invalid("At least one identifier is required.").into());
    }
    // A star is a name here.
    let exact = filter
        .into_iter()
        .map(|(key, name)| (key, Value::object([("eq", name)])));
    let exact = exact.collect();
    let delete = place
        .memory
        .delete_all(&place.scope, &place.project, &exact);
    delete.await?;
    Ok(Out(json!({ "message": "All relevant memories deleted" })))
}

/// Get a memory, or null.
#[utoipa::path(get, path = "/memories/{memory_id}", tag = "memories",
    params(("memory_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn get_memory(place: Place, Text(id): Text<String>) -> Reply<Out<Json>> {
    let Ok(id) = id.parse() else {
        return Ok(Out(Json::Null));
    };
    match place
        .memory
        .get(&place.scope, &place.project, id, None)
        .await
    {
        Ok(memory) => {
            let mut shown = shown(&memory);
            shown["score"] = Json::Null;
            Ok(Out(shown))
        }
        Err(err) if err.kind() == agentflow_types::ErrorKind::NotFound => Ok(Out(Json::Null)),
        Err(err) => Err(err.into()),
    }
}

/// What changes.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
struct MemoryPatch {
    /// What it says.
    text: Option<String>,
    /// Another name of `text`, of older clients.
    data: Option<String>,
    /// Entries of the metadata that are set.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// The last day on which it counts; null for none.
    #[serde(deserialize_with = "present")]
    expiration_date: Option<Option<String>>,
}

/// Change a memory.
#[utoipa::path(put, path = "/memories/{memory_id}", tag = "memories", request_body = MemoryPatch,
    params(("memory_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn update(
    place: Place,
    Text(id): Text<String>,
    Body(body): Body<MemoryPatch>,
) -> Reply<Out<Json>> {
    let edit = Edit {
        text: body.text.or(body.data),
        metadata: body.metadata,
        happened_at: None,
        expires_on: body.expiration_date,
    };
    if edit == Edit::default() {
        let text = "At least one of text, metadata or expiration_date must be provided";
        return Err(Error::invalid(text).into());
    }
    let id = memory_id(&id)?;
    place
        .memory
        .update(&place.scope, &place.project, id, &edit)
        .await?;
    Ok(Out(json!({ "message": "Memory updated successfully!" })))
}

/// Remove a memory.
#[utoipa::path(delete, path = "/memories/{memory_id}", tag = "memories",
    params(("memory_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn delete_memory(place: Place, Text(id): Text<String>) -> Reply<Out<Json>> {
    let id = memory_id(&id)?;
    place
        .memory
        .delete(&place.scope, &place.project, id, false)
        .await?;
    Ok(Out(json!({ "message": "Memory deleted successfully" })))
}

/// Tell how a memory came to be what it is.
#[utoipa::path(get, path = "/memories/{memory_id}/history", tag = "memories",
    params(("memory_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Vec<Json>)))]
async fn history(place: Place, Text(id): Text<String>) -> Reply<Out<Vec<Json>>> {
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    let Ok(id) = id.parse() else {
        return Ok(Out(vec![]));
    };
    let versions = memory.history(scope, project, id).await?;
    Ok(Out(show::history(memory, scope, project, &versions).await?))
}

/// A question.
#[derive(Debug, Deserialize, ToSchema)]
struct Question {
    /// What is asked.
    query: String,
    /// Which memories: owners, and any key of the metadata.
    #[schema(value_type = Option<Object>)]
    filters: Option<Map>,
    /// Most results, 1 to 1000; 20 if absent.
    top_k: Option<usize>,
    /// Another name of `top_k`, of older clients.
    limit: Option<usize>,
    /// Least score, 0 to 1; 0.1 if absent.
    threshold: Option<f32>,
    /// Whether a reranker judges the results, if there is one.
    rerank: Option<bool>,
    /// Whether scores are explained.
    explain: Option<bool>,
    /// Whether those that expired count.
    show_expired: Option<bool>,
    /// Whose.
    user_id: Option<String>,
    /// Whose.
    agent_id: Option<String>,
    /// Whose.
    run_id: Option<String>,
}

/// Search memories of somebody.
#[utoipa::path(post, path = "/search", tag = "memories", request_body = Question,
    responses((status = 200, body = Json)))]
async fn search(place: Place, Body(body): Body<Question>) -> Reply<Out<Json>> {
    let mut parts: Vec<Value> = Vec::new();
    let beside = [
        ("user_id", body.user_id),
        ("agent_id", body.agent_id),
        ("run_id", body.run_id),
    ];
    for (key, name) in beside {
        parts.extend(name.map(|name| Value::map(read::only(key, Value::str(name)))));
    }
    parts.extend(body.filters.map(Value::map));
    let whole = read::only("AND", Value::list(parts));
    if !filter::names_owner(&whole) {
        return Err(Error::invalid(NOBODY).into());
    }
    let search = Search {
        query: body.query,
        which: Which {
            filter: whole,
            show_expired: body.show_expired.unwrap_or_default(),
            ..Which::default()
        },
        top_k: body.top_k.or(body.limit).unwrap_or(ROWS as usize),
        threshold: threshold(body.threshold)?,
        rerank: body.rerank.unwrap_or_default(),
        ..Search::default()
    };
    let explain = body.explain.unwrap_or_default();
    let found = place
        .memory
        .search(&place.scope, &place.project, &search)
        .await?;
    let results: Vec<Json> = found.iter().map(|one| hit(one, explain)).collect();
    Ok(Out(json!({ "results": results })))
}

/// Remove all memories of the project.
#[utoipa::path(post, path = "/reset", tag = "memories", responses((status = 200, body = Json)))]
async fn reset(place: Place) -> Reply<Out<Json>> {
    let every = OwnerKind::ALL.map(|kind| (kind.field().into(), Value::str("*")));
    place
        .memory
        .delete_all(&place.scope, &place.project, &every.into())
        .await?;
    Ok(Out(json!({ "message": "All memories reset" })))
}

/// List users, agents and runs.
#[utoipa::path(get, path = "/entities", tag = "memories", responses((status = 200, body = Vec<Json>)))]
async fn entities(place: Place) -> Reply<Out<Vec<Json>>> {
    let found = place
        .memory
        .entities(&place.scope, &place.project, None, MAX_ROWS, 0);
    let rows = found.await?.items.into_iter().map(|one| {
        json!({
            "id": one.name, "type": one.kind.as_str(), "total_memories": one.memories,
            "created_at": one.created_at.to_string(), "updated_at": one.updated_at.to_string(),
        })
    });
    Ok(Out(rows.collect()))
}

/// Remove all memories of a user, an agent or a run.
#[utoipa::path(delete, path = "/entities/{entity_type}/{entity_id}", tag = "memories",
    params(("entity_type" = String, Path, description = "user, agent, app or run."),
        ("entity_id" = String, Path, description = "Its name.")),
    responses((status = 200, body = Json)))]
async fn delete_entity(
    place: Place,
    Text((kind, name)): Text<(String, String)>,
) -> Reply<Out<Json>> {
    let kind: OwnerKind = kind
        .parse()
        .map_err(|_| Misfit::of_path("entity_type", "must be user, agent, app or run"))?;
    let exact = Value::object([("eq", Value::str(name))]);
    let filter = read::only(kind.field(), exact);
    place
        .memory
        .delete_all(&place.scope, &place.project, &filter)
        .await?;
    Ok(Out(json!({ "message": "Entity deleted" })))
}

/// Tell the models and settings in use, without secrets.
#[utoipa::path(get, path = "/configure", tag = "memories", responses((status = 200, body = Json)))]
async fn configuration(place: Place) -> Reply<Out<Json>> {
    let settings = place.memory.project(&place.scope, &place.project).await?;
    let used = place.memory.models_used();
    let chat = used
        .chat
        .map(|(provider, model)| json!({ "provider": provider, "config": { "model": model } }));
    let embed = used
        .embed
        .map(|model| json!({ "config": { "model": model } }));
    Ok(Out(json!({
        "version": "v1.1",
        "llm": chat,
        "embedder": embed,
        "custom_instructions": settings.custom_instructions,
    })))
}

/// A change of settings.
#[derive(Debug, Deserialize, ToSchema)]
struct Configuration {
    /// What the model is told besides.
    #[serde(default, deserialize_with = "present")]
    custom_instructions: Option<Option<String>>,
    #[serde(flatten)]
    #[schema(ignore)]
    others: Map,
}

/// Change the instructions; models are chosen in the server's own configuration.
#[utoipa::path(post, path = "/configure", tag = "memories", request_body = Configuration,
    responses((status = 200, body = Json)))]
async fn configure(place: Place, Body(body): Body<Configuration>) -> Reply<Out<Json>> {
    if let Some(key) = body.others.keys().find(|key| &***key != "version") {
        let text = format!(
            "{key} cannot be changed while the server runs: set the section [memory] of \
            agentflow.toml and restart it"
        );
        return Err(Error::invalid(text).into());
    }
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    if let Some(text) = body.custom_instructions {
        let mut settings = memory.project(scope, project).await?;
        settings.custom_instructions = text;
        memory.put_project(scope, project, &settings).await?;
    }
    Ok(Out(json!({ "message": "Configuration set successfully" })))
}

/// Tell the kinds of providers.
#[utoipa::path(get, path = "/configure/providers", tag = "memories",
    responses((status = 200, body = Json)))]
async fn providers() -> Out<Json> {
    let embedder = ["openai", "ollama", "local"];
    Out(json!({ "llm": ["openai", "anthropic", "ollama"], "embedder": embedder }))
}

/// What a server is to be used for.
#[derive(Debug, Deserialize, ToSchema)]
struct UseCase {
    /// In a few words.
    use_case: String,
}

/// Let the chat model write instructions for a use, and something to try them with.
#[utoipa::path(post, path = "/generate-instructions", tag = "memories", request_body = UseCase,
    responses((status = 200, body = Json), (status = 502, body = Json, description = "No model.")))]
async fn generate_instructions(
    place: Place,
    Extension(name): Extension<RequestId>,
    Body(body): Body<UseCase>,
) -> Reply<Response> {
    match place.memory.instructions(&body.use_case).await {
        Ok((instructions, example)) => {
            let body = json!({ "custom_instructions": instructions, "test_message": example });
            Ok(Out(body).into_response())
        }
        Err(err) if err.kind() == agentflow_types::ErrorKind::Invalid => Err(err.into()),
        Err(err) => {
            tracing::warn!(error = %err, "no instructions were written");
            let body = json!({
                "detail": detail_of(&err), "code": "provider_unavailable",
                "request_id": &*name.0,
            });
            Ok((StatusCode::BAD_GATEWAY, Out(body)).into_response())
        }
    }
}

/// A game of the hosted platform, which is not here.
#[utoipa::path(post, path = "/v1/agent-rush/memories", tag = "memories",
    responses((status = 404, body = Json)))]
async fn agent_rush() -> Response {
    no_game()
}

/// A game of the hosted platform, which is not here.
#[utoipa::path(post, path = "/v1/agent-rush/memories/search", tag = "memories",
    responses((status = 404, body = Json)))]
async fn agent_rush_search() -> Response {
    no_game()
}

/// The command line reads a code in an object.
fn no_game() -> Response {
    let text = "This server has no AgentRush.";
    let error = json!({ "code": "agentrush_not_provisioned", "message": text });
    let body = json!({ "error": error, "detail": text });
    (StatusCode::NOT_FOUND, Out(body)).into_response()
}
