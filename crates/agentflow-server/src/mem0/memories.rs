//! Memories in the platform's dialect: add, search, list, get, change, remove, history, events.

use std::time::Duration;

use agentflow_memory::{Add, Edit, Search, Which};
use agentflow_storage::memories::{JobQuery, JobStatus, OwnerKind};
use agentflow_types::{Error, JobId, Map, MemoryId, Value};
use axum::{Json as Out, extract::State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    place::{Here, Paging, Place, memory_id},
    read, show,
};
use crate::{
    AppState,
    error::{Failure, Reply},
    extract::{Asker, Json as Body, Params, Text},
    wire::present,
};

/// How long an answer about a removal waits for it, so that what comes next sees it done.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// What is said about a removal.
pub(super) const DELETING: &str = "Delete in progress. This may take some time.";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(ping))
        .routes(routes!(add))
        .routes(routes!(search))
        .routes(routes!(list))
        .routes(routes!(get_memory, update, delete_memory))
        .routes(routes!(history))
        .routes(routes!(batch_update, batch_delete))
        .routes(routes!(job))
        .routes(routes!(jobs))
        .routes(routes!(changes))
}

/// Tell whether the key is good, and whose it is.
#[utoipa::path(get, path = "/v1/ping", tag = "memories", responses((status = 200, body = Json)))]
async fn ping(State(app): State<AppState>, Asker(scope): Asker) -> Reply<Out<Json>> {
    app.memory()?;
    let principal = scope.principal();
    Ok(Out(json!({
        "status": "ok",
        "org_id": scope.tenant(),
        "project_id": agentflow_memory::DEFAULT_PROJECT,
        "user_email": principal.contains('@').then_some(principal),
    })))
}

/// What is to be remembered.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct AddBody {
    /// A text, a message, or a list of messages with `role` and `content`.
    #[schema(value_type = Object)]
    messages: Value,
    /// Whose it is.
    #[schema(value_type = Option<String>)]
    user_id: Option<Value>,
    /// Whose it is.
    #[schema(value_type = Option<String>)]
    agent_id: Option<Value>,
    /// Whose it is.
    #[schema(value_type = Option<String>)]
    app_id: Option<Value>,
    /// Whose it is.
    #[schema(value_type = Option<String>)]
    run_id: Option<Value>,
    /// Owners may stand here too.
    #[schema(value_type = Option<Object>)]
    filters: Option<Map>,
    /// What is kept with it.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// Whether facts are read out of it; true if absent.
    infer: Option<bool>,
    /// `procedural_memory` for how an agent did something.
    memory_type: Option<String>,
    /// What the model is told besides.
    custom_instructions: Option<String>,
    /// What it is told besides about facts of the agent.
    agent_custom_instructions: Option<String>,
    /// List of `{name: description}`.
    #[schema(value_type = Option<Vec<Object>>)]
    custom_categories: Option<Value>,
    /// What is to be remembered.
    includes: Option<String>,
    /// What is not.
    excludes: Option<String>,
    /// When it was said: seconds, a date or a time.
    #[schema(value_type = Option<f64>)]
    timestamp: Option<Value>,
    /// Another name of `timestamp`.
    observation_datetime: Option<String>,
    /// Another name of `timestamp`.
    observation_date: Option<String>,
    /// The last day on which it counts.
    expiration_date: Option<String>,
    /// Whether it may not be changed.
    immutable: Option<bool>,
}

impl AddBody {
    pub(super) fn into_domain(self) -> Result<Add, Failure> {
        let procedural = match self.memory_type.as_deref() {
            None | Some("") => false,
            Some("procedural_memory") => true,
            Some(other) => {
                let text = "memory_type may only be procedural_memory";
                return Err(Error::invalid(text).with("found", other).into());
            }
        };
        let told = [&self.observation_datetime, &self.observation_date];
        let told = told
            .into_iter()
            .flatten()
            .next()
            .map(|text| Value::str(text.as_str()));
        let moment = self.timestamp.or(told);
        let beside = [self.user_id, self.agent_id, self.app_id, self.run_id];
        Ok(Add {
            messages: read::messages(&self.messages)?,
            owner: read::owner(beside, self.filters.as_ref())?,
            metadata: self.metadata.unwrap_or_default(),
            infer: self.infer.unwrap_or(true),
            procedural,
            custom_instructions: self.custom_instructions,
            agent_custom_instructions: self.agent_custom_instructions,
            custom_categories: read::categories(self.custom_categories.as_ref())?,
            includes: self.includes,
            excludes: self.excludes,
            happened_at: read::moment("timestamp", moment.as_ref())?,
            expires_on: self.expiration_date,
            immutable: self.immutable.unwrap_or_default(),
        })
    }
}

/// Add memories.
#[utoipa::path(post, path = "/v3/memories/add", tag = "memories", request_body = AddBody,
    responses((status = 200, body = Json)))]
async fn add(place: Place, Body(body): Body<AddBody>) -> Reply<Out<Json>> {
    let add = body.into_domain()?;
    let added = place.memory.add(&place.scope, &place.project, add).await?;
    let event_id = added.job.job_id.text();
    Ok(Out(match added.job.status {
        JobStatus::Succeeded => json!({
            "message": "Memories stored successfully",
            "status": "SUCCEEDED",
            "event_id": event_id,
            "note": added.job.error,
            "results": added.memories.iter().map(show::added).collect::<Vec<_>>(),
        }),
        status => json!({
            "message": "Memories are read out of the messages in the background",
            "status": status.as_str(),
            "event_id": event_id,
        }),
    }))
}

/// A question.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct SearchBody {
    /// What is asked.
    query: String,
    /// Which memories; names a user, an agent, an app or a run.
    #[schema(value_type = Option<Object>)]
    filters: Option<Map>,
    /// Most results, 1 to 1000; 10 if absent.
    top_k: Option<usize>,
    /// Another name of `top_k`.
    limit: Option<usize>,
    /// Least score, 0 to 1; 0.1 if absent.
    threshold: Option<f32>,
    /// Whether a reranker judges the results, if there is one.
    rerank: Option<bool>,
    /// Whether only words count.
    keyword_search: Option<bool>,
    /// Fields of the results; all if absent.
    fields: Option<Vec<String>>,
    /// With one of these categories.
    categories: Option<Vec<String>>,
    /// With these values in the metadata.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// Whether those that expired count.
    show_expired: Option<bool>,
    /// What "last week" counts from.
    #[schema(value_type = Option<String>)]
    reference_date: Option<Value>,
    /// Whether those that others replaced do not count.
    latest_only: Option<bool>,
    /// Whether those that were folded into others count.
    include_merged: Option<bool>,
    /// Whether scores are explained, and near misses told.
    explain: Option<bool>,
    /// As it was at this moment.
    #[schema(value_type = Option<String>)]
    as_of: Option<Value>,
    #[serde(flatten)]
    #[schema(ignore)]
    others: Map,
}

impl SearchBody {
    /// The question in the dialect of the version 3: owners only in the filters.
    pub(super) fn into_domain(self) -> Result<(Search, Vec<String>), Failure> {
        if let Some(kind) = owners_beside(&self.others) {
            let text = format!(
                "Top-level {} is not allowed: put it into filters, as {{\"{0}\": \"…\"}}",
                kind.field()
            );
            return Err(Error::invalid(text).into());
        }
        let metadata = self
            .metadata
            .map(|metadata| read::only("metadata", Value::map(metadata)));
        let search = Search {
            query: self.query,
            which: Which {
                filter: read::platform_filter(self.filters, metadata)?,
                categories: self.categories.unwrap_or_default(),
                show_expired: self.show_expired.unwrap_or_default(),
                latest_only: self.latest_only.unwrap_or_default(),
                include_merged: self.include_merged.unwrap_or_default(),
                include_sources: false,
                as_of: read::moment("as_of", self.as_of.as_ref())?,
            },
            top_k: self.top_k.or(self.limit).unwrap_or(10),
            threshold: threshold(self.threshold)?,
            rerank: self.rerank.unwrap_or_default(),
            keyword: self.keyword_search.unwrap_or_default(),
            explain: self.explain.unwrap_or_default(),
            reference: read::moment("reference_date", self.reference_date.as_ref())?,
        };
        Ok((search, self.fields.unwrap_or_default()))
    }
}

/// # Errors
/// 400 outside of 0 to 1.
pub(super) fn threshold(given: Option<f32>) -> Result<f32, Failure> {
    match given {
        None => Ok(0.1),
        Some(given) if (0.0..=1.0).contains(&given) => Ok(given),
        Some(_) => Err(Error::invalid("threshold must be between 0 and 1").into()),
    }
}

/// An owner that stands beside the filters.
fn owners_beside(others: &Map) -> Option<OwnerKind> {
    let is_given = |kind: &OwnerKind| others.get(kind.field()).is_some_and(|v| !v.is_null());
    OwnerKind::ALL.into_iter().find(is_given)
}

/// Search memories.
#[utoipa::path(post, path = "/v3/memories/search", tag = "memories", request_body = SearchBody,
    responses((status = 200, body = Json)))]
async fn search(place: Place, Body(body): Body<SearchBody>) -> Reply<Out<Json>> {
    let (search, fields) = body.into_domain()?;
    let found = place
        .memory
        .search(&place.scope, &place.project, &search)
        .await?;
    let (hits, missed): (Vec<_>, Vec<_>) = found.iter().partition(|one| one.missed.is_none());
    let shown = |all: Vec<&agentflow_memory::Found>| -> Vec<Json> {
        let all = all.into_iter();
        all.map(|one| show::select(show::found(one, search.explain), &fields))
            .collect()
    };
    let mut answer = json!({ "results": shown(hits) });
    if search.explain {
        answer["missed"] = json!(shown(missed));
    }
    Ok(Out(answer))
}

/// Which memories are listed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct ListBody {
    /// Which memories; names a user, an agent, an app or a run.
    #[schema(value_type = Option<Object>)]
    filters: Option<Map>,
    /// Page, from 1.
    page: Option<u32>,
    /// Rows of a page, 1 to 200.
    page_size: Option<u32>,
    /// Fields of the results; all if absent.
    fields: Option<Vec<String>>,
    /// With one of these categories.
    categories: Option<Vec<String>>,
    /// With these words in them.
    keywords: Option<String>,
    /// Created on this day or later.
    start_date: Option<String>,
    /// Created on this day or earlier.
    end_date: Option<String>,
    /// Whether those that expired count.
    show_expired: Option<bool>,
    /// Whether those that others replaced do not count.
    latest_only: Option<bool>,
    /// Whether those that were folded into others count.
    include_merged: Option<bool>,
    /// As it was at this moment.
    #[schema(value_type = Option<String>)]
    as_of: Option<Value>,
    #[serde(flatten)]
    #[schema(ignore)]
    others: Map,
}

/// Tests of the time of creation; a day as the end is meant to its end.
pub(super) fn between(start: Option<String>, end: Option<String>) -> Vec<Map> {
    let test = |operator: &str, text: String| {
        let test = Value::object([(operator, Value::str(text))]);
        read::only("created_at", test)
    };
    let end = end.map(|end| match end.len() {
        10 => format!("{end}T23:59:59.999999Z"),
        _ => end,
    });
    let start = start.map(|start| test("gte", start));
    start
        .into_iter()
        .chain(end.map(|end| test("lte", end)))
        .collect()
}

/// List memories, the newest first.
#[utoipa::path(post, path = "/v3/memories", tag = "memories", request_body = ListBody,
    params(("page" = Option<u32>, Query, description = "Page, from 1."),
        ("page_size" = Option<u32>, Query, description = "Rows of a page, 1 to 200.")),
    responses((status = 200, body = Json)))]
async fn list(
    place: Place,
    Here(here): Here,
    params: Params,
    Body(body): Body<ListBody>,
) -> Reply<Out<Json>> {
    if let Some(kind) = owners_beside(&body.others) {
        let text = format!(
            "Top-level {} is not allowed: put it into filters",
            kind.field()
        );
        return Err(Error::invalid(text).into());
    }
    let paging = Paging::read(&params, (body.page, body.page_size))?;
    let mut more = between(body.start_date, body.end_date);
    more.extend(
        body.keywords
            .map(|words| read::only("keywords", Value::str(words))),
    );
    let which = Which {
        filter: read::platform_filter(body.filters, more)?,
        categories: body.categories.unwrap_or_default(),
        show_expired: body.show_expired.unwrap_or_default(),
        latest_only: body.latest_only.unwrap_or_default(),
        include_merged: body.include_merged.unwrap_or_default(),
        include_sources: false,
        as_of: read::moment("as_of", body.as_of.as_ref())?,
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
    Ok(Out(paging.envelope(&here, page.total, rows.collect())))
}

/// Get a memory, as it was at a moment if one is named.
#[utoipa::path(get, path = "/v1/memories/{memory_id}", tag = "memories",
    params(("memory_id" = String, Path, description = "Id."),
        ("as_of" = Option<String>, Query, description = "As it was at this moment.")),
    responses((status = 200, body = Json)))]
async fn get_memory(place: Place, params: Params, Text(id): Text<String>) -> Reply<Out<Json>> {
    let at = params.get("as_of").map(Value::str);
    let at = read::moment("as_of", at.as_ref())?;
    let get = place
        .memory
        .get(&place.scope, &place.project, memory_id(&id)?, at);
    Ok(Out(show::memory(&get.await?)))
}

/// What changes.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub(super) struct UpdateBody {
    /// What it says.
    text: Option<String>,
    /// Another name of `text`.
    memory: Option<String>,
    /// Entries of the metadata that are set.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// When it was said: seconds, a date or a time.
    #[schema(value_type = Option<f64>)]
    timestamp: Option<Value>,
    /// The last day on which it counts; null for none.
    #[serde(deserialize_with = "present")]
    expiration_date: Option<Option<String>>,
}

impl UpdateBody {
    pub(super) fn into_domain(self) -> Result<Edit, Failure> {
        let edit = Edit {
            text: self.text.or(self.memory),
            metadata: self.metadata,
            happened_at: read::moment("timestamp", self.timestamp.as_ref())?,
            expires_on: self.expiration_date,
        };
        match edit == Edit::default() {
            true => Err(Error::invalid(
                "At least one of text, metadata, timestamp, or expiration_date must be provided",
            )
            .into()),
            false => Ok(edit),
        }
    }
}

/// Change a memory.
#[utoipa::path(put, path = "/v1/memories/{memory_id}", tag = "memories", request_body = UpdateBody,
    params(("memory_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn update(
    place: Place,
    Text(id): Text<String>,
    Body(body): Body<UpdateBody>,
) -> Reply<Out<Json>> {
    let (id, edit) = (memory_id(&id)?, body.into_domain()?);
    let update = place.memory.update(&place.scope, &place.project, id, &edit);
    Ok(Out(show::memory(&update.await?)))
}

/// Remove a memory.
#[utoipa::path(delete, path = "/v1/memories/{memory_id}", tag = "memories",
    params(("memory_id" = String, Path, description = "Id."),
        ("delete_linked" = Option<bool>, Query, description = "What it replaced, too.")),
    responses((status = 200, body = Json)))]
async fn delete_memory(place: Place, params: Params, Text(id): Text<String>) -> Reply<Out<Json>> {
    let (id, linked) = (memory_id(&id)?, params.flag("delete_linked")?);
    let delete = place
        .memory
        .delete(&place.scope, &place.project, id, linked);
    let deleted = delete.await?;
    let mut answer = json!({ "message": "Memory deleted successfully!" });
    if linked {
        answer["cascade_count"] = json!(deleted.memories.saturating_sub(1));
    }
    Ok(Out(answer))
}

/// Tell how a memory came to be what it is.
#[utoipa::path(get, path = "/v1/memories/{memory_id}/history", tag = "memories",
    params(("memory_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Vec<Json>)))]
async fn history(place: Place, Text(id): Text<String>) -> Reply<Out<Vec<Json>>> {
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    let versions = memory.history(scope, project, memory_id(&id)?).await?;
    if versions.is_empty() {
        return Err(Error::not_found("Memory not found!").into());
    }
    Ok(Out(show::history(memory, scope, project, &versions).await?))
}

/// Changes of several memories.
#[derive(Debug, Deserialize, ToSchema)]
struct BatchUpdate {
    /// Up to 1000.
    memories: Vec<BatchEdit>,
}

/// A change of one of several memories.
#[derive(Debug, Deserialize, ToSchema)]
struct BatchEdit {
    /// Which one.
    memory_id: String,
    #[serde(flatten)]
    edit: UpdateBody,
}

/// Change several memories, all or none.
#[utoipa::path(put, path = "/v1/batch", tag = "memories", request_body = BatchUpdate,
    responses((status = 200, body = Json)))]
async fn batch_update(place: Place, Body(body): Body<BatchUpdate>) -> Reply<Out<Json>> {
    let edits = body.memories.into_iter().map(|one| {
        let id = memory_id(&one.memory_id)?;
        Ok((id, one.edit.into_domain()?))
    });
    let edits: Vec<(MemoryId, Edit)> = edits.collect::<Result<_, Failure>>()?;
    let update = place
        .memory
        .update_batch(&place.scope, &place.project, &edits);
    let many = update.await?;
    Ok(Out(
        json!({ "message": format!("Successfully updated {many} memories") }),
    ))
}

/// Several memories.
#[derive(Debug, Deserialize, ToSchema)]
struct BatchDelete {
    /// Up to 1000.
    #[schema(value_type = Vec<Object>)]
    memories: Vec<Value>,
}

/// Remove several memories, all or none.
#[utoipa::path(delete, path = "/v1/batch", tag = "memories", request_body = BatchDelete,
    responses((status = 200, body = Json)))]
async fn batch_delete(place: Place, Body(body): Body<BatchDelete>) -> Reply<Out<Json>> {
    let ids = body.memories.iter().map(|one| {
        let id = one
            .as_str()
            .or_else(|| one.get("memory_id").and_then(Value::as_str));
        memory_id(id.unwrap_or_default())
    });
    let ids: Vec<MemoryId> = ids.collect::<Result<_, Failure>>()?;
    let delete = place
        .memory
        .delete_batch(&place.scope, &place.project, &ids);
    let many = delete.await?;
    Ok(Out(
        json!({ "message": format!("Successfully deleted {many} memories") }),
    ))
}

/// Get a job.
#[utoipa::path(get, path = "/v1/event/{event_id}", tag = "memories",
    params(("event_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn job(place: Place, Text(id): Text<String>) -> Reply<Out<Json>> {
    let id: JobId = id.parse().map_err(|_| {
        let text = "event_id should be a valid UUID";
        Failure::Http(StatusCode::BAD_REQUEST, text.to_owned())
    })?;
    let job = place.memory.event(&place.scope, &place.project, id).await?;
    Ok(Out(show::job(&job)))
}

/// List jobs, the newest first.
#[utoipa::path(get, path = "/v1/events", tag = "memories",
    params(("page" = Option<u32>, Query, description = "Page, from 1."),
        ("page_size" = Option<u32>, Query, description = "Rows of a page, 1 to 200."),
        ("status" = Option<String>, Query, description = "Only those with this status."),
        ("event_type" = Option<String>, Query, description = "Only those of this kind.")),
    responses((status = 200, body = Json)))]
async fn jobs(place: Place, Here(here): Here, params: Params) -> Reply<Out<Json>> {
    let paging = Paging::read(&params, (None, None))?;
    let status = params.get("status").map(|word| {
        use JobStatus::{Failed, Pending, Running, Succeeded};
        let all = [Pending, Running, Succeeded, Failed];
        let found = all
            .into_iter()
            .find(|status| status.as_str() == word.to_uppercase());
        found.ok_or_else(|| Error::invalid("status must be PENDING, RUNNING, SUCCEEDED or FAILED"))
    });
    let query = JobQuery {
        project: place.project.clone(),
        kind: params.get("event_type").map(str::to_uppercase),
        status: status.transpose()?,
        limit: paging.limit(),
        offset: paging.offset(),
    };
    let page = place.memory.events(&place.scope, &query).await?;
    let rows = page.items.iter().map(show::job).collect();
    Ok(Out(paging.envelope(&here, page.total, rows)))
}

/// List changes of all memories, the last one first.
#[utoipa::path(get, path = "/v1/memories/events", tag = "memories",
    params(("page" = Option<u32>, Query, description = "Page, from 1."),
        ("page_size" = Option<u32>, Query, description = "Rows of a page, 1 to 200.")),
    responses((status = 200, body = Json)))]
async fn changes(place: Place, Here(here): Here, params: Params) -> Reply<Out<Json>> {
    let limit = params.number("limit")?;
    let paging = Paging::read(&params, (None, limit))?;
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    let page = memory
        .changes(scope, project, paging.limit(), paging.offset())
        .await?;
    let rows = show::history(memory, scope, project, &page.items).await?;
    Ok(Out(paging.envelope(&here, page.total, rows)))
}
