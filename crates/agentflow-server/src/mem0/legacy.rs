//! What older clients of the platform send, and what they may not: removal by query, `/v1` and
//! `/v2` of add, list and search, and accounts for strangers.

use agentflow_memory::{Search, Which};
use agentflow_storage::memories::{JobStatus, OwnerKind};
use agentflow_types::{Error, Map, Value};
use axum::{Json as Out, response::Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    memories::{AddBody, DELETING, PATIENCE, between, threshold},
    place::{Here, Paging, Place},
    read, show,
};
use crate::{
    AppState,
    error::{Failure, Reply, detail},
    extract::{Json as Body, Params},
};

/// Said to who asks for an account.
const NO_ACCOUNTS: &str = "This server gives out no accounts. Ask its administrator for an API \
    key, then: mem0 init --api-key KEY";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_v1, add_v1, delete_all))
        .routes(routes!(search_v1))
        .routes(routes!(list_v2))
        .routes(routes!(search_v2))
        .routes(routes!(email_code))
        .routes(routes!(email_code_verify))
        .routes(routes!(agent_mode))
        .routes(routes!(agent_mode_caller))
}

/// The filter of a query: owners beside it, `filters` and `metadata`.
fn query_filter(params: &Params) -> Result<Map, Failure> {
    let mut filter = match params.get("filters") {
        Some(text) => read::filters_text(text)?,
        None => Map::new(),
    };
    for kind in OwnerKind::ALL {
        if let Some(name) = params.get(kind.field()).filter(|name| !name.is_empty()) {
            let beside = filter.insert(kind.field().into(), Value::str(name));
            if beside.is_some_and(|other| other.as_str() != Some(name)) {
                let text = format!("{} is given twice", kind.field());
                return Err(Error::invalid(text).into());
            }
        }
    }
    if let Some(text) = params.get("metadata").filter(|text| !text.is_empty()) {
        let metadata = read::filters_text(text)?;
        filter.insert("metadata".into(), Value::map(metadata));
    }
    Ok(filter)
}

/// Remove all memories that a query matches; `*` for any owner, all four for everything.
#[utoipa::path(delete, path = "/v1/memories", tag = "memories",
    params(("user_id" = Option<String>, Query, description = "Whose; `*` for anybody's."),
        ("agent_id" = Option<String>, Query, description = "Whose; `*` for anybody's."),
        ("app_id" = Option<String>, Query, description = "Whose; `*` for anybody's."),
        ("run_id" = Option<String>, Query, description = "Whose; `*` for anybody's."),
        ("filters" = Option<String>, Query, description = "A filter as JSON."),
        ("metadata" = Option<String>, Query, description = "Metadata as JSON.")),
    responses((status = 200, body = Json)))]
async fn delete_all(place: Place, params: Params) -> Reply<Out<Json>> {
    let filter = query_filter(&params)?;
    agentflow_memory::filter::check_platform(&filter).map_err(|err| match filter.is_empty() {
        true => {
            Error::invalid("One of the filters: app_id, user_id, agent_id, run_id is required!")
        }
        false => err,
    })?;
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    let job = memory.forget(scope, project, &filter).await?;
    memory.wait(scope, project, job.job_id, PATIENCE).await?;
    Ok(Out(
        json!({ "message": DELETING, "event_id": job.job_id.text() }),
    ))
}

/// Whether an answer is a bare list, as before `output_format` was `v1.1`.
fn bare_or(envelope: bool, results: Vec<Json>) -> Out<Json> {
    match envelope {
        true => Out(json!({ "results": results, "relations": [] })),
        false => Out(Json::Array(results)),
    }
}

/// List memories of somebody.
#[utoipa::path(get, path = "/v1/memories", tag = "memories",
    params(("user_id" = Option<String>, Query, description = "Whose."),
        ("agent_id" = Option<String>, Query, description = "Whose."),
        ("app_id" = Option<String>, Query, description = "Whose."),
        ("run_id" = Option<String>, Query, description = "Whose."),
        ("page" = Option<u32>, Query, description = "Page, from 1: then with an envelope."),
        ("page_size" = Option<u32>, Query, description = "Rows of a page, 1 to 200.")),
    responses((status = 200, body = Json)))]
async fn list_v1(place: Place, Here(here): Here, params: Params) -> Reply<Out<Json>> {
    let filter = query_filter(&params)?;
    let paging = Paging::read(&params, (None, params.number("limit")?))?;
    let text = |name: &str| params.get(name).map(str::to_owned);
    let mut more = between(text("start_date"), text("end_date"));
    more.extend(text("keywords").map(|words| read::only("keywords", Value::str(words))));
    let which = Which {
        filter: read::platform_filter(Some(filter), more)?,
        categories: params.words("categories"),
        ..Which::default()
    };
    let query = paging.query();
    let list = place
        .memory
        .list(&place.scope, &place.project, &which, &query);
    let page = list.await?;
    let rows: Vec<Json> = page.items.iter().map(show::memory).collect();
    if params.get("page").is_some() || params.get("page_size").is_some() {
        return Ok(Out(paging.envelope(&here, page.total, rows)));
    }
    Ok(bare_or(params.get("output_format") == Some("v1.1"), rows))
}

/// An add as older clients send it.
#[derive(Debug, Default, Deserialize, ToSchema)]
struct OldAdd {
    /// `v1.0` for a bare list, `v1.1` for an envelope.
    output_format: Option<String>,
    /// Whether the answer does not wait; true if absent.
    async_mode: Option<bool>,
    #[serde(flatten)]
    body: AddBody,
}

/// Add memories, as older clients do.
#[utoipa::path(post, path = "/v1/memories", tag = "memories", request_body = OldAdd,
    responses((status = 200, body = Json)))]
async fn add_v1(place: Place, Body(body): Body<OldAdd>) -> Reply<Out<Json>> {
    let envelope = body.output_format.as_deref() != Some("v1.0");
    let waits = body.async_mode == Some(false);
    let add = body.body.into_domain()?;
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    let added = memory.add(scope, project, add).await?;
    let mut job = added.job;
    if waits && !job.status.is_over() {
        job = memory
            .wait(scope, project, job.job_id, super::self_hosted::WAIT)
            .await?;
    }
    if !job.status.is_over() {
        let pending = json!({
            "event_id": job.job_id.text(), "status": job.status.as_str(),
            "message": "Memories are read out of the messages in the background",
        });
        return Ok(bare_or(envelope, vec![pending]));
    }
    if job.status == JobStatus::Failed && job.results.is_empty() {
        return Err(Error::failed(job.error).into());
    }
    Ok(bare_or(
        envelope,
        job.results.iter().map(Value::to_json).collect(),
    ))
}

/// A question as older clients send it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
struct OldSearch {
    /// What is asked.
    query: String,
    /// Which memories.
    #[schema(value_type = Option<Object>)]
    filters: Option<Map>,
    /// Whose.
    #[schema(value_type = Option<String>)]
    user_id: Option<Value>,
    /// Whose.
    #[schema(value_type = Option<String>)]
    agent_id: Option<Value>,
    /// Whose.
    #[schema(value_type = Option<String>)]
    app_id: Option<Value>,
    /// Whose.
    #[schema(value_type = Option<String>)]
    run_id: Option<Value>,
    /// Most results; 10 if absent.
    top_k: Option<usize>,
    /// Another name of `top_k`.
    limit: Option<usize>,
    /// Least score.
    threshold: Option<f32>,
    /// Whether a reranker judges the results.
    rerank: Option<bool>,
    /// Fields of the results.
    fields: Option<Vec<String>>,
    /// With one of these categories.
    categories: Option<Vec<String>>,
    /// `v1.0` for a bare list, `v1.1` for an envelope.
    output_format: Option<String>,
}

async fn old_search(place: &Place, body: OldSearch, usual: f32) -> Reply<Out<Json>> {
    let beside = [body.user_id, body.agent_id, body.app_id, body.run_id];
    let beside = OwnerKind::ALL.into_iter().zip(beside);
    let beside = beside.filter_map(|(kind, value)| {
        Some(read::only(
            kind.field(),
            value.filter(|value| !value.is_null())?,
        ))
    });
    let mut parts: Vec<Map> = beside.collect();
    parts.extend(body.filters);
    let whole = read::only(
        "AND",
        Value::list(parts.into_iter().map(Value::map).collect()),
    );
    let search = Search {
        query: body.query,
        which: Which {
            filter: read::platform_filter(Some(whole), [])?,
            categories: body.categories.unwrap_or_default(),
            ..Which::default()
        },
        top_k: body.top_k.or(body.limit).unwrap_or(10),
        threshold: body
            .threshold
            .map_or(Ok(usual), |given| threshold(Some(given)))?,
        rerank: body.rerank.unwrap_or_default(),
        ..Search::default()
    };
    let found = place
        .memory
        .search(&place.scope, &place.project, &search)
        .await?;
    let fields = body.fields.unwrap_or_default();
    let rows = found
        .iter()
        .map(|one| show::select(show::found(one, false), &fields));
    let envelope = body.output_format.as_deref() == Some("v1.1");
    Ok(bare_or(envelope, rows.collect()))
}

/// Search memories, as clients of the first version do.
#[utoipa::path(post, path = "/v1/memories/search", tag = "memories", request_body = OldSearch,
    responses((status = 200, body = Json)))]
async fn search_v1(place: Place, Body(body): Body<OldSearch>) -> Reply<Out<Json>> {
    old_search(&place, body, 0.1).await
}

/// Search memories, as clients of the second version do.
#[utoipa::path(post, path = "/v2/memories/search", tag = "memories", request_body = OldSearch,
    responses((status = 200, body = Json)))]
async fn search_v2(place: Place, Body(body): Body<OldSearch>) -> Reply<Out<Json>> {
    old_search(&place, body, 0.3).await
}

/// A list as older clients ask for it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
struct OldList {
    /// Which memories.
    #[schema(value_type = Option<Object>)]
    filters: Option<Map>,
    /// Page, from 1.
    page: Option<u32>,
    /// Rows of a page, 1 to 200.
    page_size: Option<u32>,
    /// Fields of the results.
    fields: Option<Vec<String>>,
}

/// List memories, as clients of the second version do.
#[utoipa::path(post, path = "/v2/memories", tag = "memories", request_body = OldList,
    params(("page" = Option<u32>, Query, description = "Page, from 1: then with an envelope."),
        ("page_size" = Option<u32>, Query, description = "Rows of a page, 1 to 200.")),
    responses((status = 200, body = Json)))]
async fn list_v2(
    place: Place,
    Here(here): Here,
    params: Params,
    Body(body): Body<OldList>,
) -> Reply<Out<Json>> {
    let paged = params.get("page").is_some() || body.page.is_some();
    let paging = Paging::read(&params, (body.page, body.page_size))?;
    let which = Which {
        filter: read::platform_filter(body.filters, [])?,
        ..Which::default()
    };
    let query = paging.query();
    let list = place
        .memory
        .list(&place.scope, &place.project, &which, &query);
    let page = list.await?;
    let fields = body.fields.unwrap_or_default();
    let rows = page
        .items
        .iter()
        .map(|one| show::select(show::memory(one), &fields));
    let rows: Vec<Json> = rows.collect();
    Ok(match paged {
        true => Out(paging.envelope(&here, page.total, rows)),
        false => Out(Json::Array(rows)),
    })
}

/// Refuse an account.
#[utoipa::path(post, path = "/api/v1/auth/email_code", tag = "memories",
    responses((status = 403, body = Json)))]
async fn email_code() -> Response {
    detail(StatusCode::FORBIDDEN, NO_ACCOUNTS)
}

/// Refuse an account.
#[utoipa::path(post, path = "/api/v1/auth/email_code/verify", tag = "memories",
    responses((status = 403, body = Json)))]
async fn email_code_verify() -> Response {
    detail(StatusCode::FORBIDDEN, NO_ACCOUNTS)
}

/// Refuse an account for an agent.
#[utoipa::path(post, path = "/api/v1/auth/agent_mode", tag = "memories",
    responses((status = 403, body = Json)))]
async fn agent_mode() -> Response {
    detail(StatusCode::FORBIDDEN, NO_ACCOUNTS)
}

/// Refuse to name an agent's account.
#[utoipa::path(patch, path = "/api/v1/auth/agent_mode/caller", tag = "memories",
    responses((status = 403, body = Json)))]
async fn agent_mode_caller() -> Response {
    detail(StatusCode::FORBIDDEN, NO_ACCOUNTS)
}
