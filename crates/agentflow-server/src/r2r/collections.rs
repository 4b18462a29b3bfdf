//! Collections.

use agentflow_storage::page::{Order, PageQuery};
use agentflow_types::Error;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    desk::{Desk, page, uuid, uuids},
    done, list, one, show,
};
use crate::{
    AppState,
    error::Reply,
    extract::{Json as Body, Params, Text},
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create, collections))
        .routes(routes!(by_name))
        .routes(routes!(collection, update, delete))
        .routes(routes!(documents))
        .routes(routes!(add_document, remove_document))
        .routes(routes!(add_user, remove_user))
}

/// A collection to be made.
#[derive(Deserialize, ToSchema)]
struct NewCollection {
    /// Its name, unique among those of its owner.
    name: String,
    /// What it is about.
    description: Option<String>,
}

/// Make a collection.
#[utoipa::path(post, path = "/v3/collections", tag = "collections", request_body = NewCollection,
    responses((status = 200, body = Json)))]
async fn create(desk: Desk, Body(new): Body<NewCollection>) -> Reply {
    let (name, description) = (new.name.as_str(), new.description.as_deref());
    let made = desk
        .documents
        .create_collection(&desk.scope, &desk.caller, name, description);
    Ok(one(show::collection(&made.await?)))
}

/// List collections.
#[utoipa::path(get, path = "/v3/collections", tag = "collections", responses((status = 200, body = Json)))]
async fn collections(desk: Desk, params: Params) -> Reply {
    let page = page(&params, "created_at", Order::Descending)?;
    let chosen = (&*uuids(&params, "ids")?, params.flag("owner_only")?);
    let found = desk
        .documents
        .collections(&desk.scope, &desk.caller, chosen, &page);
    let found = found.await?;
    let rows = found.items.iter().map(show::collection).collect();
    Ok(list(rows, found.total))
}

/// The asker's collection of a name.
#[utoipa::path(get, path = "/v3/collections/name/{name}", tag = "collections",
    params(("name" = String, Path, description = "Name.")), responses((status = 200, body = Json)))]
async fn by_name(desk: Desk, Text(name): Text<String>, params: Params) -> Reply {
    let owner = match params.get("owner_id") {
        None => desk.caller.user,
        Some(text) => uuid("owner_id", text)?,
    };
    let found = desk
        .documents
        .collection_named(&desk.scope, &desk.caller, owner, &name);
    Ok(one(show::collection(&found.await?)))
}

/// A collection.
#[utoipa::path(get, path = "/v3/collections/{id}", tag = "collections",
    params(("id" = String, Path, description = "Id.")), responses((status = 200, body = Json)))]
async fn collection(desk: Desk, Text(id): Text<String>) -> Reply {
    let id = uuid("id", &id)?;
    let found = desk.documents.collection(&desk.scope, &desk.caller, id);
    Ok(one(show::collection(&found.await?)))
}

/// A change of a collection.
#[derive(Deserialize, ToSchema)]
struct CollectionPatch {
    /// Its name.
    name: Option<String>,
    /// What it is about.
    description: Option<String>,
    /// Whether a model is to write the description.
    #[serde(default)]
    generate_description: bool,
}

/// Change a collection.
#[utoipa::path(post, path = "/v3/collections/{id}", tag = "collections", request_body = CollectionPatch,
    params(("id" = String, Path, description = "Id.")), responses((status = 200, body = Json)))]
async fn update(desk: Desk, Text(id): Text<String>, Body(patch): Body<CollectionPatch>) -> Reply {
    if patch.generate_description {
        let text = "generate_description is not available: give a description";
        return Err(Error::invalid(text).into());
    }
    let id = uuid("id", &id)?;
    let change = (patch.name.as_deref(), patch.description.as_deref());
    let changed = desk
        .documents
        .update_collection(&desk.scope, &desk.caller, id, change);
    Ok(one(show::collection(&changed.await?)))
}

/// Remove a collection; its documents stay.
#[utoipa::path(delete, path = "/v3/collections/{id}", tag = "collections",
    params(("id" = String, Path, description = "Id.")), responses((status = 200, body = Json)))]
async fn delete(desk: Desk, Text(id): Text<String>) -> Reply {
    let id = uuid("id", &id)?;
    desk.documents
        .delete_collection(&desk.scope, &desk.caller, id)
        .await?;
    Ok(done())
}

/// The documents of a collection.
#[utoipa::path(get, path = "/v3/collections/{id}/documents", tag = "collections",
    params(("id" = String, Path, description = "Id.")), responses((status = 200, body = Json)))]
async fn documents(desk: Desk, Text(id): Text<String>, params: Params) -> Reply {
    let page: PageQuery = page(&params, "created_at", Order::Descending)?;
    let id = uuid("id", &id)?;
    let found = desk
        .documents
        .documents_of(&desk.scope, &desk.caller, id, &page);
    let found = found.await?;
    let rows = found.items.iter().map(show::document).collect();
    Ok(list(rows, found.total))
}

/// Put a document into a collection.
#[utoipa::path(post, path = "/v3/collections/{id}/documents/{document_id}", tag = "collections",
    params(("id" = String, Path, description = "Id."), ("document_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn add_document(desk: Desk, Text((id, document)): Text<(String, String)>) -> Reply {
    let both = (uuid("id", &id)?, uuid("document_id", &document)?);
    desk.documents
        .place(&desk.scope, &desk.caller, both, true)
        .await?;
    Ok(one(
        json!({ "message": "Document added to the collection." }),
    ))
}

/// Take a document out of a collection.
#[utoipa::path(delete, path = "/v3/collections/{id}/documents/{document_id}", tag = "collections",
    params(("id" = String, Path, description = "Id."), ("document_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn remove_document(desk: Desk, Text((id, document)): Text<(String, String)>) -> Reply {
    let both = (uuid("id", &id)?, uuid("document_id", &document)?);
    desk.documents
        .place(&desk.scope, &desk.caller, both, false)
        .await?;
    Ok(done())
}

/// Let a user into a collection.
#[utoipa::path(post, path = "/v3/collections/{id}/users/{user_id}", tag = "collections",
    params(("id" = String, Path, description = "Id."), ("user_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn add_user(desk: Desk, Text((id, user)): Text<(String, String)>) -> Reply {
    let (id, user) = (uuid("id", &id)?, uuid("user_id", &user)?);
    desk.documents
        .add_member(&desk.scope, &desk.caller, id, user)
        .await?;
    Ok(done())
}

/// Show a user out of a collection.
#[utoipa::path(delete, path = "/v3/collections/{id}/users/{user_id}", tag = "collections",
    params(("id" = String, Path, description = "Id."), ("user_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn remove_user(desk: Desk, Text((id, user)): Text<(String, String)>) -> Reply {
    let (id, user) = (uuid("id", &id)?, uuid("user_id", &user)?);
    desk.documents
        .remove_member(&desk.scope, &desk.caller, id, user)
        .await?;
    Ok(done())
}
