//! Documents.

use std::time::Duration;

use agentflow_rag::service::{Document, Status};
use agentflow_storage::page::Order;
use agentflow_types::{Map, Value};
use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    desk::{Desk, page, uuid, uuids},
    done,
    form::Form,
    list, one, show,
};
use crate::{
    AppState,
    error::{Failure, Misfit, Reply},
    extract::{Params, Text, body_of, decode},
};

/// How long an upload waits for its work; what is not over then goes on.
const WAIT: Duration = Duration::from_secs(300);
/// Letters of a name that stand as they are in a header.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create, documents))
        .routes(routes!(delete_where))
        .routes(routes!(document, delete))
        .routes(routes!(append_metadata, replace_metadata))
        .routes(routes!(download))
        .routes(routes!(chunks))
        .routes(routes!(collections))
}

/// A body that is read as JSON whatever it is called, because a client calls it nothing.
pub(super) async fn raw<T: serde::de::DeserializeOwned>(
    request: Request,
    app: &AppState,
) -> Result<T, Failure> {
    let (parts, body) = request.into_parts();
    let bytes = body_of(&parts.headers, body, &app.limits).await?;
    decode(&bytes, app.limits.depth)
}

/// Send a document: a file, a text, or chunks. It is acknowledged when it is stored; the answer
/// waits until it can be found.
#[utoipa::path(post, path = "/v3/documents", tag = "documents", request_body(content = Json, content_type = "multipart/form-data"),
    responses((status = 202, body = Json), (status = 409, body = Json, description = "It exists.")))]
async fn create(desk: Desk, mut form: Form) -> Reply {
    let place = form.place.take();
    let upload = form.upload()?;
    let made = desk.documents.create(&desk.scope, &desk.caller, upload);
    let id = made.await?.id();
    drop(place);
    let settled = desk.documents.settled(&desk.scope, &desk.caller, id, WAIT);
    let message = match settled.await?.status() {
        Status::Success => "Document created and ingested successfully.",
        Status::Failed => "Document created; its ingestion failed, see its metadata.",
        _ => "Ingest files task queued successfully.",
    };
    let result = json!({ "message": message, "task_id": null, "document_id": id });
    Ok((StatusCode::ACCEPTED, one(result)).into_response())
}

/// List documents.
#[utoipa::path(get, path = "/v3/documents", tag = "documents", responses((status = 200, body = Json)))]
async fn documents(desk: Desk, params: Params) -> Reply {
    let page = page(&params, "created_at", Order::Descending)?;
    let chosen = (&*uuids(&params, "ids")?, params.flag("owner_only")?);
    let found = desk
        .documents
        .documents(&desk.scope, &desk.caller, chosen, &page);
    let found = found.await?;
    let rows = found.items.iter().map(show::document).collect();
    Ok(list(rows, found.total))
}

/// A document.
#[utoipa::path(get, path = "/v3/documents/{id}", tag = "documents",
    params(("id" = String, Path, description = "Id.")), responses((status = 200, body = Json)))]
async fn document(desk: Desk, Text(id): Text<String>) -> Reply {
    let document = read(&desk, &id).await?;
    Ok(one(show::document(&document)))
}

async fn read(desk: &Desk, id: &str) -> Result<Document, Failure> {
    let id = uuid("id", id)?;
    let found = desk.documents.document(&desk.scope, &desk.caller, id);
    Ok(found.await?)
}

/// Remove a document with all that was made of it.
#[utoipa::path(delete, path = "/v3/documents/{id}", tag = "documents",
    params(("id" = String, Path, description = "Id.")), responses((status = 200, body = Json)))]
async fn delete(desk: Desk, Text(id): Text<String>) -> Reply {
    let id = uuid("id", &id)?;
    desk.documents.delete(&desk.scope, &desk.caller, id).await?;
    Ok(done())
}

/// Remove the documents that meet a filter.
#[utoipa::path(delete, path = "/v3/documents/by-filter", tag = "documents", request_body = Json,
    responses((status = 200, body = Json)))]
async fn delete_where(desk: Desk, State(app): State<AppState>, request: Request) -> Reply {
    let filters: Map = raw(request, &app).await?;
    let gone = desk
        .documents
        .delete_where(&desk.scope, &desk.caller, &filters);
    gone.await?;
    Ok(done())
}

/// Metadata comes as a list of objects, which are one after the other.
fn joined(parts: Vec<Map>) -> Map {
    parts.into_iter().flatten().collect()
}

async fn describe(desk: &Desk, id: &str, (parts, replaces): (Vec<Map>, bool)) -> Reply {
    let id = uuid("id", id)?;
    let all = (joined(parts), replaces);
    let changed = desk.documents.describe(&desk.scope, &desk.caller, id, all);
    Ok(one(show::document(&changed.await?)))
}

/// Add to what is said about a document.
#[utoipa::path(patch, path = "/v3/documents/{id}/metadata", tag = "documents", request_body = Vec<Json>,
    params(("id" = String, Path, description = "Id.")), responses((status = 200, body = Json)))]
async fn append_metadata(
    desk: Desk,
    Text(id): Text<String>,
    State(app): State<AppState>,
    request: Request,
) -> Reply {
    let parts = raw(request, &app).await?;
    describe(&desk, &id, (parts, false)).await
}

/// Replace what is said about a document.
#[utoipa::path(put, path = "/v3/documents/{id}/metadata", tag = "documents", request_body = Vec<Json>,
    params(("id" = String, Path, description = "Id.")), responses((status = 200, body = Json)))]
async fn replace_metadata(
    desk: Desk,
    Text(id): Text<String>,
    State(app): State<AppState>,
    request: Request,
) -> Reply {
    let parts = raw(request, &app).await?;
    describe(&desk, &id, (parts, true)).await
}

/// The bytes that were sent.
#[utoipa::path(get, path = "/v3/documents/{id}/download", tag = "documents",
    params(("id" = String, Path, description = "Id.")), responses((status = 200, body = Vec<u8>)))]
async fn download(desk: Desk, Text(id): Text<String>) -> Reply {
    let document = read(&desk, &id).await?;
    let bytes = desk
        .documents
        .download(&desk.scope, &desk.caller, document.id())
        .await?;
    let name = match (document.file_name(), document.title()) {
        (Some(name), _) => name.to_owned(),
        (None, title) => format!("{}.{}", title.unwrap_or("document"), document.kind()),
    };
    let name = utf8_percent_encode(&name, NAME);
    let mut response: Response = bytes.into_response();
    let headers = response.headers_mut();
    // Never shown as a page of this origin, whatever it is.
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    let place = format!("attachment; filename*=UTF-8''{name}");
    if let Ok(place) = HeaderValue::from_str(&place) {
        headers.insert(header::CONTENT_DISPOSITION, place);
    }
    Ok(response)
}

/// The chunks of a document, in the order of its text.
#[utoipa::path(get, path = "/v3/documents/{id}/chunks", tag = "documents",
    params(("id" = String, Path, description = "Id.")), responses((status = 200, body = Json)))]
async fn chunks(desk: Desk, Text(id): Text<String>, params: Params) -> Reply {
    let page = page(&params, "position", Order::Ascending)?;
    let id = uuid("id", &id)?;
    let found = desk
        .documents
        .chunks_of(&desk.scope, &desk.caller, id, &page);
    let found = found.await?;
    let rows = found.items.iter().map(|(chunk, of)| show::chunk(chunk, of));
    Ok(list(rows.collect(), found.total))
}

/// The collections that a document is in, of those that the asker belongs to.
#[utoipa::path(get, path = "/v3/documents/{id}/collections", tag = "documents",
    params(("id" = String, Path, description = "Id.")), responses((status = 200, body = Json)))]
async fn collections(desk: Desk, Text(id): Text<String>, params: Params) -> Reply {
    let page = page(&params, "created_at", Order::Ascending)?;
    let document = read(&desk, &id).await?;
    if document.collections().is_empty() {
        return Ok(list(vec![], 0));
    }
    let chosen = (document.collections(), false);
    let found = desk
        .documents
        .collections(&desk.scope, &desk.caller, chosen, &page);
    let found = found.await?;
    let rows = found.items.iter().map(show::collection).collect();
    Ok(list(rows, found.total))
}

/// A filter of a parameter, as JSON.
pub(super) fn filter(params: &Params, name: &str) -> Result<Map, Failure> {
    let Some(text) = params.get(name).filter(|text| !text.is_empty()) else {
        return Ok(Map::new());
    };
    let read: Result<Value, _> = serde_json::from_str(text);
    let map = read.ok().and_then(|value| value.as_map().cloned());
    map.ok_or_else(|| Misfit::of_query(name, "is no JSON object").into())
}
