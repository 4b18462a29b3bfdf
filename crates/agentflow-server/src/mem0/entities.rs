//! Users, agents, apps and runs that have memories.

use agentflow_memory::{Service, Which};
use agentflow_storage::memories::{OwnerKind, Owning};
use agentflow_types::{Error, Map, Result, Scope, Value};
use axum::Json as Out;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    memories::{DELETING, PATIENCE},
    place::{Here, Paging, Place},
    read, show,
};
use crate::{
    AppState,
    error::Reply,
    extract::{Json as Body, Params, Text},
};

/// Owners that are looked through for one by its name.
const MAX_OWNERS: u32 = 10_000;
/// Kind of the notes that keep what somebody said about an owner.
const NOTE: &str = "entity";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get_entity, forget))
        .routes(routes!(forget_old))
        .routes(routes!(memories))
        .routes(routes!(create_user))
        .routes(routes!(create_agent))
        .routes(routes!(create_app))
        .routes(routes!(create_run))
        .routes(routes!(stats))
        .routes(routes!(filters))
}

fn shown(owning: &Owning, metadata: Option<Map>) -> Json {
    json!({
        "id": owning.name,
        "name": owning.name,
        "type": owning.kind.as_str(),
        "owner": Json::Null,
        "metadata": Value::map(metadata.unwrap_or_default()).to_json(),
        "total_memories": owning.memories,
        "created_at": owning.created_at.to_string(),
        "updated_at": owning.updated_at.to_string(),
    })
}

async fn note_of(
    memory: &Service,
    scope: &Scope,
    project: &str,
    kind: OwnerKind,
    name: &str,
) -> Result<Option<Map>> {
    let key = format!("{}/{name}", kind.as_str());
    let note = memory.note(scope, project, NOTE, &key).await?;
    Ok(note.map(|note| note.body))
}

/// List users, agents, apps and runs.
#[utoipa::path(get, path = "/v1/entities", tag = "memories",
    params(("page" = Option<u32>, Query, description = "Page, from 1."),
        ("page_size" = Option<u32>, Query, description = "Rows of a page, 1 to 200."),
        ("type" = Option<String>, Query, description = "user, agent, app or run; all if absent.")),
    responses((status = 200, body = Json)))]
async fn list(place: Place, Here(here): Here, params: Params) -> Reply<Out<Json>> {
    // Clients that remove everybody ask once, without a page.
    let paging = Paging::whole(&params)?;
    let kind = params
        .get("type")
        .map(str::parse::<OwnerKind>)
        .transpose()?;
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    let found = memory
        .entities(scope, project, kind, paging.limit(), paging.offset())
        .await?;
    let mut rows = Vec::new();
    for owning in &found.items {
        let note = note_of(memory, scope, project, owning.kind, &owning.name).await?;
        rows.push(shown(owning, note));
    }
    let mut answer = paging.envelope(&here, found.total, rows);
    for kind in OwnerKind::ALL {
        let one = memory.entities(scope, project, Some(kind), 1, 0).await?;
        answer[format!("total_{}s", kind.as_str())] = json!(one.total);
    }
    Ok(Out(answer))
}

/// The owner of this kind and name.
///
/// # Errors
/// `NotFound`.
pub(super) async fn find(place: &Place, kind: OwnerKind, name: &str) -> Result<Owning> {
    let (scope, project) = (&place.scope, &place.project);
    let mut offset = 0;
    loop {
        let page = place
            .memory
            .entities(scope, project, Some(kind), 1_000, offset)
            .await?;
        let many = page.items.len() as u64;
        if let Some(found) = page.items.into_iter().find(|owning| owning.name == name) {
            return Ok(found);
        }
        offset += many;
        if many == 0 || offset >= page.total.min(u64::from(MAX_OWNERS)) {
            return Err(Error::not_found("Entity not found"));
        }
    }
}

/// Get a user, an agent, an app or a run.
#[utoipa::path(get, path = "/v2/entities/{entity_type}/{entity_id}", tag = "memories",
    params(("entity_type" = String, Path, description = "user, agent, app or run."),
        ("entity_id" = String, Path, description = "Its name.")),
    responses((status = 200, body = Vec<Json>)))]
async fn get_entity(
    place: Place,
    Text((kind, name)): Text<(String, String)>,
) -> Reply<Out<Vec<Json>>> {
    let kind: OwnerKind = kind.parse()?;
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    let note = note_of(memory, scope, project, kind, &name).await?;
    match find(&place, kind, &name).await {
        Ok(owning) => Ok(Out(vec![shown(&owning, note)])),
        Err(_) if note.is_some() => Ok(Out(vec![json!({
            "id": name, "name": name, "type": kind.as_str(), "total_memories": 0,
            "metadata": Value::map(note.unwrap_or_default()).to_json(),
        })])),
        Err(err) => Err(err.into()),
    }
}

/// Removes an owner's memories; the answer.
pub(super) async fn removed(place: &Place, kind: &str, name: &str) -> Reply<Out<Json>> {
    let kind: OwnerKind = kind.parse()?;
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    let filter = read::only(kind.field(), Value::str(name));
    let job = memory.forget(scope, project, &filter).await?;
    memory
        .delete_note(scope, project, NOTE, &format!("{}/{name}", kind.as_str()))
        .await?;
    memory.wait(scope, project, job.job_id, PATIENCE).await?;
    Ok(Out(
        json!({ "message": DELETING, "event_id": job.job_id.text() }),
    ))
}

/// Remove all memories of a user, an agent, an app or a run.
#[utoipa::path(delete, path = "/v2/entities/{entity_type}/{entity_id}", tag = "memories",
    params(("entity_type" = String, Path, description = "user, agent, app or run."),
        ("entity_id" = String, Path, description = "Its name.")),
    responses((status = 200, body = Json)))]
async fn forget(place: Place, Text((kind, name)): Text<(String, String)>) -> Reply<Out<Json>> {
    removed(&place, &kind, &name).await
}

/// Remove all memories of a user, an agent, an app or a run, as older clients ask for it.
#[utoipa::path(delete, path = "/v1/entities/{entity_type}/{entity_id}", tag = "memories",
    params(("entity_type" = String, Path, description = "user, agent, app or run."),
        ("entity_id" = String, Path, description = "Its name.")),
    responses((status = 200, body = Json)))]
async fn forget_old(place: Place, Text((kind, name)): Text<(String, String)>) -> Reply<Out<Json>> {
    removed(&place, &kind, &name).await
}

/// List memories of a user, an agent, an app or a run.
#[utoipa::path(get, path = "/v1/memories/{entity_type}/{entity_id}", tag = "memories",
    params(("entity_type" = String, Path, description = "user, agent, app or run."),
        ("entity_id" = String, Path, description = "Its name."),
        ("page" = Option<u32>, Query, description = "Page, from 1.")),
    responses((status = 200, body = Json)))]
async fn memories(
    place: Place,
    Here(here): Here,
    params: Params,
    Text((kind, name)): Text<(String, String)>,
) -> Reply<Out<Json>> {
    let kind: OwnerKind = kind.parse()?;
    let paging = Paging::read(&params, (None, None))?;
    let which = Which {
        filter: read::only(kind.field(), Value::str(name)),
        ..Which::default()
    };
    let query = paging.query();
    let list = place
        .memory
        .list(&place.scope, &place.project, &which, &query);
    let page = list.await?;
    let rows = page.items.iter().map(show::memory).collect();
    Ok(Out(paging.envelope(&here, page.total, rows)))
}

/// An owner before it has memories.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
struct NewEntity {
    /// Name of the user.
    user_id: Option<String>,
    /// Name of the agent.
    agent_id: Option<String>,
    /// Name of the app.
    app_id: Option<String>,
    /// Name of the run.
    run_id: Option<String>,
    /// What people call it.
    name: Option<String>,
    /// What is kept with it.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
}

async fn made(place: &Place, kind: OwnerKind, body: NewEntity) -> Reply<(StatusCode, Out<Json>)> {
    let id = match kind {
        OwnerKind::User => body.user_id,
        OwnerKind::Agent => body.agent_id,
        OwnerKind::App => body.app_id,
        OwnerKind::Run => body.run_id,
    };
    let wrong = || Error::invalid(format!("{} is required", kind.field()));
    let id = id
        .filter(|id| !id.trim().is_empty() && id.len() <= 256)
        .ok_or_else(wrong)?;
    let mut metadata = body.metadata.unwrap_or_default();
    if let Some(name) = body.name {
        metadata.entry("name".into()).or_insert(Value::str(name));
    }
    let key = format!("{}/{id}", kind.as_str());
    let shown = Value::map(metadata.clone()).to_json();
    let put = place
        .memory
        .put_note(&place.scope, &place.project, NOTE, &key, metadata);
    let note = put.await?;
    let mut answer = json!({
        "id": id, "name": id, "type": kind.as_str(), "metadata": shown,
        "created_at": note.created_at.to_string(), "updated_at": note.updated_at.to_string(),
    });
    answer[kind.field()] = json!(id);
    Ok((StatusCode::CREATED, Out(answer)))
}

/// Make a user known.
#[utoipa::path(post, path = "/v1/users", tag = "memories", request_body = NewEntity,
    responses((status = 201, body = Json)))]
async fn create_user(place: Place, Body(body): Body<NewEntity>) -> Reply<(StatusCode, Out<Json>)> {
    made(&place, OwnerKind::User, body).await
}

/// Make an agent known.
#[utoipa::path(post, path = "/v1/agents", tag = "memories", request_body = NewEntity,
    responses((status = 201, body = Json)))]
async fn create_agent(place: Place, Body(body): Body<NewEntity>) -> Reply<(StatusCode, Out<Json>)> {
    made(&place, OwnerKind::Agent, body).await
}

/// Make an app known.
#[utoipa::path(post, path = "/v1/apps", tag = "memories", request_body = NewEntity,
    responses((status = 201, body = Json)))]
async fn create_app(place: Place, Body(body): Body<NewEntity>) -> Reply<(StatusCode, Out<Json>)> {
    made(&place, OwnerKind::App, body).await
}

/// Make a run known.
#[utoipa::path(post, path = "/v1/runs", tag = "memories", request_body = NewEntity,
    responses((status = 201, body = Json)))]
async fn create_run(place: Place, Body(body): Body<NewEntity>) -> Reply<(StatusCode, Out<Json>)> {
    made(&place, OwnerKind::Run, body).await
}

/// Count memories and owners.
#[utoipa::path(get, path = "/v1/stats", tag = "memories", responses((status = 200, body = Json)))]
async fn stats(place: Place) -> Reply<Out<Json>> {
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    let mut query = Paging::read(&Params::none(), (None, Some(1)))?.query();
    query.limit = 1;
    let all = memory
        .list(scope, project, &Which::default(), &query)
        .await?;
    let mut answer = json!({ "total_memories": all.total });
    for kind in OwnerKind::ALL {
        let one = memory.entities(scope, project, Some(kind), 1, 0).await?;
        answer[format!("total_{}s", kind.as_str())] = json!(one.total);
    }
    Ok(Out(answer))
}

/// Tell what memories can be filtered by.
#[utoipa::path(get, path = "/v1/entities/filters", tag = "memories",
    responses((status = 200, body = Json)))]
async fn filters(place: Place) -> Reply<Out<Json>> {
    let settings = place.memory.project(&place.scope, &place.project).await?;
    let names = settings.custom_categories.iter().map(|(name, _)| name);
    let owner = json!(["eq", "ne", "in", "*"]);
    let moment = json!(["gt", "gte", "lt", "lte"]);
    Ok(Out(json!({
        "user_id": owner, "agent_id": owner, "app_id": owner, "run_id": owner,
        "created_at": moment, "updated_at": moment, "timestamp": moment,
        "categories": ["in", "contains"], "metadata": ["eq", "ne", "contains"],
        "keywords": ["contains", "icontains"], "memory_ids": ["in"],
        "known_categories": names.collect::<Vec<_>>(),
    })))
}
