//! Assistants.

use agentflow_runs::service::DeleteThreads;
use agentflow_types::{AssistantId, Error};
use axum::{
    Extension, Json as Out,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    access::Made,
    error::Reply,
    extract::{Asker, Id, Json, Params, Text},
    page,
    wire::{
        assistant::{
            Assistant, AssistantCreate, AssistantPatch, AssistantSearch, Schemas, VersionChoice,
            VersionSearch,
        },
        system::Detail,
    },
};

/// Levels of subgraphs that `xray=true` draws in place.
const XRAY_ALL: u32 = 16;

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(search))
        .routes(routes!(count))
        .routes(routes!(get, patch, delete))
        .routes(routes!(graph))
        .routes(routes!(schemas))
        .routes(routes!(subgraphs))
        .routes(routes!(subgraphs_in))
        .routes(routes!(versions))
        .routes(routes!(set_latest))
}

/// Create an assistant.
#[utoipa::path(post, path = "/assistants", tag = "assistants", request_body = AssistantCreate,
    responses((status = 200, body = Assistant), (status = 404, body = Detail, description = "Unknown graph."),
        (status = 409, body = Detail, description = "The id exists.")))]
async fn create(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Json(body): Json<AssistantCreate>,
) -> Reply<(Extension<Made>, Out<Assistant>)> {
    let created = app
        .service
        .create_assistant(&scope, body.into_domain()?)
        .await?;
    let made = Made(created.assistant_id.text());
    Ok((Extension(made), Out(created.into())))
}

/// Find assistants.
#[utoipa::path(post, path = "/assistants/search", tag = "assistants", request_body = AssistantSearch,
    responses((status = 200, body = Vec<Assistant>, headers(
        ("x-pagination-total" = u64, description = "Rows that match."),
        ("x-pagination-next" = Option<u64>, description = "Offset of the next page.")))))]
async fn search(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Json(mut body): Json<AssistantSearch>,
) -> Reply {
    let (query, page) = (body.query(), body.page()?);
    let found = app.service.search_assistants(&scope, &query, &page).await?;
    let fields = body.select.as_deref();
    Ok(page::reply(found, &page, |row| {
        page::select(Assistant::from(row), fields)
    })?)
}

/// Count assistants.
#[utoipa::path(post, path = "/assistants/count", tag = "assistants", request_body = AssistantSearch,
    responses((status = 200, body = u64)))]
async fn count(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Json(mut body): Json<AssistantSearch>,
) -> Reply<Out<u64>> {
    let page = agentflow_storage::page::PageQuery {
        limit: 1,
        ..Default::default()
    };
    let found = app
        .service
        .search_assistants(&scope, &body.query(), &page)
        .await?;
    Ok(Out(found.total))
}

/// Get an assistant by id or graph id.
#[utoipa::path(get, path = "/assistants/{assistant_id}", tag = "assistants",
    params(("assistant_id" = String, Path, description = "Assistant id or graph id.")),
    responses((status = 200, body = Assistant), (status = 404, body = Detail)))]
async fn get(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text(id): Text<String>,
) -> Reply<Out<Assistant>> {
    Ok(Out(app
        .service
        .resolve_assistant(&scope, &id)
        .await?
        .into()))
}

/// Change an assistant; makes a new version.
#[utoipa::path(patch, path = "/assistants/{assistant_id}", tag = "assistants",
    params(("assistant_id" = String, Path, description = "Assistant id.")), request_body = AssistantPatch,
    responses((status = 200, body = Assistant), (status = 404, body = Detail)))]
async fn patch(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<AssistantId>,
    Json(body): Json<AssistantPatch>,
) -> Reply<Out<Assistant>> {
    Ok(Out(app
        .service
        .update_assistant(&scope, id, body.into())
        .await?
        .into()))
}

/// Remove an assistant.
#[utoipa::path(delete, path = "/assistants/{assistant_id}", tag = "assistants",
    params(("assistant_id" = String, Path, description = "Assistant id."),
        ("delete_threads" = Option<bool>, Query, description = "Whether its threads go too.")),
    responses((status = 204), (status = 404, body = Detail)))]
async fn delete(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<AssistantId>,
    params: Params,
) -> Reply<StatusCode> {
    let threads = match params.flag("delete_threads")? {
        true => DeleteThreads::Yes,
        false => DeleteThreads::No,
    };
    app.service.delete_assistant(&scope, id, threads).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Picture of an assistant's graph.
#[utoipa::path(get, path = "/assistants/{assistant_id}/graph", tag = "assistants",
    params(("assistant_id" = String, Path, description = "Assistant id or graph id."),
        ("xray" = Option<String>, Query, description = "true, or levels of subgraphs drawn in place.")),
    responses((status = 200, body = Object), (status = 404, body = Detail)))]
async fn graph(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text(id): Text<String>,
    params: Params,
) -> Reply {
    let depth = match params.get("xray") {
        Some(text) if text.parse::<u32>().is_ok() => params.number::<u32>("xray")?.unwrap_or(0),
        _ if params.flag("xray")? => XRAY_ALL,
        _ => 0,
    };
    let drawing = app
        .service
        .drawing(&scope, &id, depth.min(XRAY_ALL))
        .await?;
    Ok(Out(drawing).into_response())
}

/// JSON Schemas of an assistant's graph.
#[utoipa::path(get, path = "/assistants/{assistant_id}/schemas", tag = "assistants",
    params(("assistant_id" = String, Path, description = "Assistant id or graph id.")),
    responses((status = 200, body = Schemas), (status = 404, body = Detail)))]
async fn schemas(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text(id): Text<String>,
) -> Reply<Out<Schemas>> {
    let (graph_id, schemas) = app.service.schemas(&scope, &id).await?;
    Ok(Out(Schemas::new(Some(graph_id), schemas)))
}

/// Subgraphs of an assistant's graph.
#[utoipa::path(get, path = "/assistants/{assistant_id}/subgraphs", tag = "assistants",
    params(("assistant_id" = String, Path, description = "Assistant id or graph id."),
        ("recurse" = Option<bool>, Query, description = "Whether subgraphs of subgraphs are listed."),
        ("namespace" = Option<String>, Query, description = "Only this one.")),
    responses((status = 200, body = Object, description = "JSON Schemas by namespace."), (status = 404, body = Detail)))]
async fn subgraphs(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text(id): Text<String>,
    params: Params,
) -> Reply {
    list_subgraphs(
        &app,
        &scope,
        &id,
        params.get("namespace"),
        params.flag("recurse")?,
    )
    .await
}

/// One subgraph of an assistant's graph.
#[utoipa::path(get, path = "/assistants/{assistant_id}/subgraphs/{namespace}", tag = "assistants",
    params(("assistant_id" = String, Path, description = "Assistant id or graph id."),
        ("namespace" = String, Path, description = "Node names joined with |."),
        ("recurse" = Option<bool>, Query, description = "Whether subgraphs of subgraphs are listed.")),
    responses((status = 200, body = Object), (status = 404, body = Detail)))]
async fn subgraphs_in(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text((id, namespace)): Text<(String, String)>,
    params: Params,
) -> Reply {
    list_subgraphs(&app, &scope, &id, Some(&namespace), params.flag("recurse")?).await
}

async fn list_subgraphs(
    app: &AppState,
    scope: &agentflow_types::Scope,
    id: &str,
    namespace: Option<&str>,
    recurse: bool,
) -> Reply<Response> {
    let found = app.service.subgraphs(scope, id, namespace, recurse).await?;
    let by_namespace: indexmap::IndexMap<String, Schemas> = found
        .into_iter()
        .map(|(ns, schemas)| (ns, Schemas::new(None, schemas)))
        .collect();
    Ok(Out(by_namespace).into_response())
}

/// Versions of an assistant, newest first.
#[utoipa::path(post, path = "/assistants/{assistant_id}/versions", tag = "assistants",
    params(("assistant_id" = String, Path, description = "Assistant id.")), request_body = VersionSearch,
    responses((status = 200, body = Vec<Assistant>), (status = 404, body = Detail)))]
async fn versions(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<AssistantId>,
    Json(body): Json<VersionSearch>,
) -> Reply<Out<Vec<Assistant>>> {
    let metadata = body.metadata.unwrap_or_default();
    let limit = page::limit(body.limit, page::DEFAULT_LIMIT)?;
    let offset = page::offset(body.offset)?;
    let found = app
        .service
        .assistant_versions(&scope, id, &metadata, limit, offset)
        .await?;
    Ok(Out(found.into_iter().map(Into::into).collect()))
}

/// Select a version of an assistant.
#[utoipa::path(post, path = "/assistants/{assistant_id}/latest", tag = "assistants",
    params(("assistant_id" = String, Path, description = "Assistant id."),
        ("version" = Option<i64>, Query, description = "The version, if the body does not name it.")),
    request_body = VersionChoice,
    responses((status = 200, body = Assistant), (status = 404, body = Detail)))]
async fn set_latest(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<AssistantId>,
    params: Params,
    Json(body): Json<VersionChoice>,
) -> Reply<Out<Assistant>> {
    let version = body.version.or(params.number("version")?);
    let version = version.ok_or_else(|| Error::unprocessable("version: missing"))?;
    Ok(Out(app
        .service
        .set_latest(&scope, id, version)
        .await?
        .into()))
}
