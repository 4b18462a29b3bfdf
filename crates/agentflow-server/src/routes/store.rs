//! Long-term items.

use agentflow_storage::store::Refresh;
use axum::{Json as Out, extract::State};
use http::StatusCode;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    error::{Failure, Reply},
    extract::{Asker, Json, Params},
    wire::{
        store::{
            Hits, Item, ItemDelete, ItemPut, ItemSearch, Labels, NamespaceSearch, Namespaces,
            check_labels,
        },
        system::Detail,
    },
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(put, get, delete))
        .routes(routes!(search))
        .routes(routes!(namespaces))
}

/// Store an item.
#[utoipa::path(put, path = "/store/items", tag = "store", request_body = ItemPut,
    responses((status = 204), (status = 422, body = Detail)))]
async fn put(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Json(body): Json<ItemPut>,
) -> Reply<StatusCode> {
    check_labels(&body.namespace)?;
    app.service.put_item(&scope, body.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Get an item, or null.
#[utoipa::path(get, path = "/store/items", tag = "store",
    params(("key" = String, Query, description = "Key."),
        ("namespace" = Option<Vec<String>>, Query, description = "Labels, joined with periods or repeated."),
        ("refresh_ttl" = Option<bool>, Query, description = "Whether the time to live is renewed; true if absent.")),
    responses((status = 200, body = Option<Item>)))]
async fn get(
    State(app): State<AppState>,
    Asker(scope): Asker,
    params: Params,
) -> Reply<Out<Option<Item>>> {
    let (namespace, key) = named(&params)?;
    let refresh = match params.get("refresh_ttl") {
        Some(_) if !params.flag("refresh_ttl")? => Refresh::No,
        _ => Refresh::Yes,
    };
    let found = app
        .service
        .get_item(&scope, &namespace, &key, refresh)
        .await?;
    Ok(Out(found.map(Into::into)))
}

/// Remove an item.
#[utoipa::path(delete, path = "/store/items", tag = "store", request_body = ItemDelete,
    responses((status = 204)))]
async fn delete(
    State(app): State<AppState>,
    Asker(scope): Asker,
    params: Params,
    Json(body): Json<ItemDelete>,
) -> Reply<StatusCode> {
    let (namespace, key) = match (body.namespace.map(Labels::into_vec), body.key) {
        (Some(namespace), Some(key)) => (namespace, key),
        (None, Some(key)) => (vec![], key),
        _ => named(&params)?,
    };
    check_labels(&namespace)?;
    app.service.delete_item(&scope, &namespace, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Find items.
#[utoipa::path(post, path = "/store/items/search", tag = "store", request_body = ItemSearch,
    responses((status = 200, body = Hits)))]
async fn search(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Json(body): Json<ItemSearch>,
) -> Reply<Out<Hits>> {
    Ok(Out(app
        .service
        .search_items(&scope, &body.into_domain()?)
        .await?
        .into()))
}

/// List namespaces.
#[utoipa::path(post, path = "/store/namespaces", tag = "store", request_body = NamespaceSearch,
    responses((status = 200, body = Namespaces)))]
async fn namespaces(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Json(body): Json<NamespaceSearch>,
) -> Reply<Out<Namespaces>> {
    let namespaces = app.service.namespaces(&scope, &body.into_domain()?).await?;
    Ok(Out(Namespaces { namespaces }))
}

/// The item that the query names; labels come joined with periods, or one by one.
fn named(params: &Params) -> Result<(Vec<String>, String), Failure> {
    let Some(key) = params.get("key").filter(|key| !key.is_empty()) else {
        let text = "Missing required query parameter: key";
        return Err(Failure::Legacy(StatusCode::BAD_REQUEST, text));
    };
    let namespace: Vec<String> = match params.all("namespace").as_slice() {
        [joined] => joined.split('.').map(str::to_owned).collect(),
        labels => labels.iter().map(|&label| label.to_owned()).collect(),
    };
    check_labels(&namespace)?;
    Ok((namespace, key.to_owned()))
}
