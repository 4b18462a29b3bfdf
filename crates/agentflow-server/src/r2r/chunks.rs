//! Chunks.

use agentflow_storage::page::Order;
use agentflow_types::Map;
use serde::Deserialize;
use serde_json::Value as Json;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    desk::{Desk, page, uuid},
    documents::filter,
    done, list, one,
    retrieval::{Asked, found},
    show,
};
use crate::{
    AppState,
    error::{Misfit, Reply},
    extract::{Json as Body, Params, Text},
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(search))
        .routes(routes!(chunks))
        .routes(routes!(chunk, update, delete))
}

/// List chunks.
#[utoipa::path(get, path = "/v3/chunks", tag = "chunks", responses((status = 200, body = Json)))]
async fn chunks(desk: Desk, params: Params) -> Reply {
    let page = page(&params, "created_at", Order::Descending)?;
    let filters = filter(&params, "metadata_filter")?;
    let found = desk
        .documents
        .chunks(&desk.scope, &desk.caller, &filters, &page);
    let found = found.await?;
    let rows = found.items.iter().map(|(chunk, of)| show::chunk(chunk, of));
    Ok(list(rows.collect(), found.total))
}

/// Search chunks.
#[utoipa::path(post, path = "/v3/chunks/search", tag = "chunks", request_body = Asked,
    responses((status = 200, body = Json)))]
async fn search(desk: Desk, Body(asked): Body<Asked>) -> Reply {
    Ok(one(Json::Array(found(&desk, asked).await?)))
}

/// A chunk.
#[utoipa::path(get, path = "/v3/chunks/{id}", tag = "chunks",
    params(("id" = String, Path, description = "Id.")), responses((status = 200, body = Json)))]
async fn chunk(desk: Desk, Text(id): Text<String>) -> Reply {
    let id = uuid("id", &id)?;
    let (chunk, of) = desk.documents.chunk(&desk.scope, &desk.caller, id).await?;
    Ok(one(show::chunk(&chunk, &of)))
}

/// A change of a chunk.
#[derive(Deserialize, ToSchema)]
struct ChunkPatch {
    /// The chunk, as the path names it.
    id: String,
    /// What it says from now on.
    text: String,
    /// What is said about it besides.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
}

/// Change a chunk.
#[utoipa::path(post, path = "/v3/chunks/{id}", tag = "chunks", request_body = ChunkPatch,
    params(("id" = String, Path, description = "Id.")), responses((status = 200, body = Json)))]
async fn update(desk: Desk, Text(id): Text<String>, Body(patch): Body<ChunkPatch>) -> Reply {
    let id = uuid("id", &id)?;
    if uuid("id", &patch.id)? != id {
        return Err(Misfit::of_body("id", "is another one than that of the path").into());
    }
    let text = (patch.text.as_str(), patch.metadata);
    let changed = desk
        .documents
        .update_chunk(&desk.scope, &desk.caller, id, text);
    let (chunk, of) = changed.await?;
    Ok(one(show::chunk(&chunk, &of)))
}

/// Remove a chunk; its document stays.
#[utoipa::path(delete, path = "/v3/chunks/{id}", tag = "chunks",
    params(("id" = String, Path, description = "Id.")), responses((status = 200, body = Json)))]
async fn delete(desk: Desk, Text(id): Text<String>) -> Reply {
    let id = uuid("id", &id)?;
    desk.documents
        .delete_chunk(&desk.scope, &desk.caller, id)
        .await?;
    Ok(done())
}
