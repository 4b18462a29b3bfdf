//! The state of the service, and who asks.

use std::sync::OnceLock;

use agentflow_storage::page::{Order, PageQuery};
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{desk::Desk, one};
use crate::{AppState, error::Reply};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(me))
        .routes(routes!(description))
}

/// Whether the service answers.
#[utoipa::path(get, path = "/v3/health", tag = "system", responses((status = 200, body = Json)))]
async fn health() -> Response {
    one(json!({ "message": "ok" }))
}

/// Whoever asks.
#[utoipa::path(get, path = "/v3/users/me", tag = "users", responses((status = 200, body = Json)))]
async fn me(desk: Desk) -> Reply {
    let page = PageQuery {
        limit: 1,
        sort_by: "created_at".into(),
        order: Order::Ascending,
        ..PageQuery::default()
    };
    let own = desk
        .documents
        .documents(&desk.scope, &desk.caller, (&[], true), &page);
    let files = own.await?.total;
    let is_address = desk.name.contains('@');
    let email = match is_address {
        true => desk.name.clone(),
        // Keys have no address, and clients read one.
        false => format!("{}@key.invalid", desk.name.replace(' ', "-")),
    };
    Ok(one(json!({
        "id": desk.caller.user,
        "email": email,
        "is_active": true,
        "is_superuser": desk.caller.is_superuser,
        "is_verified": true,
        "collection_ids": desk.caller.collections,
        "graph_ids": desk.caller.collections,
        "document_ids": [],
        "limits_overrides": null,
        "metadata": null,
        "name": desk.name,
        "bio": null,
        "profile_picture": null,
        "num_files": files,
        "account_type": "password",
        "hashed_password": null,
    })))
}

/// This description.
#[utoipa::path(get, path = "/openapi_spec", tag = "system", responses((status = 200, body = Json)))]
async fn description() -> Response {
    static TEXT: OnceLock<Json> = OnceLock::new();
    let text = TEXT.get_or_init(|| {
        let document = super::documented().split_for_parts().1;
        serde_json::to_value(&document).unwrap_or_default()
    });
    axum::Json(text).into_response()
}
