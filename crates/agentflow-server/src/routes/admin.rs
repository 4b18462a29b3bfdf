//! Keys, users, tenants, and the log of changes.

use std::sync::Arc;

use agentflow_auth::Auth;
use agentflow_storage::{audit::AuditQuery, page::PageQuery};
use agentflow_types::{Error, KeyId, Timestamp, UserId};
use axum::{
    Json as Out,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::auth::off;
use crate::{
    AppState,
    access::Made,
    error::{Failure, Reply},
    extract::{Asker, Id, Json, Params, Text},
    page::{self, SortOrder},
    wire::{
        account::{
            AuditEntry, Key, KeyCreate, KeyCreated, Tenant, TenantCreate, TenantUpdate, User,
            UserCreate, UserUpdate,
        },
        system::Detail,
    },
};

/// Columns that keys and users may be sorted by.
const COLUMNS: [&str; 2] = ["name", "created_at"];
/// Columns that tenants may be sorted by.
const TENANT_COLUMNS: [&str; 2] = ["tenant", "created_at"];

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_keys, create_key))
        .routes(routes!(get_key, revoke_key))
        .routes(routes!(list_users, create_user))
        .routes(routes!(get_user, update_user, delete_user))
        .routes(routes!(audit))
        .routes(routes!(list_tenants, create_tenant))
        .routes(routes!(update_tenant))
}

fn auth(app: &AppState) -> Result<&Arc<Auth>, Failure> {
    app.auth.as_ref().ok_or_else(off)
}

/// Page and order from query parameters.
fn paged(params: &Params, columns: &[&str]) -> Result<PageQuery, Failure> {
    let order = match params.get("sort_order") {
        None | Some("desc") => SortOrder::Desc,
        Some("asc") => SortOrder::Asc,
        Some(other) => {
            let text = format!("sort_order: {other:?} is neither asc nor desc");
            return Err(Error::unprocessable(text).into());
        }
    };
    Ok(page::query(
        params.number("limit")?,
        params.number("offset")?,
        params.get("sort_by").map(str::to_owned),
        Some(order),
        columns,
    )?)
}

/// An answer that tells the log what was made.
fn made(id: String, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    response.extensions_mut().insert(Made(id));
    response
}

/// Keys of the tenant, without their secrets.
#[utoipa::path(get, path = "/admin/keys", tag = "admin",
    params(("limit" = Option<u32>, Query, description = "Most keys; 10 if absent."),
        ("offset" = Option<u64>, Query, description = "Keys to skip."),
        ("sort_by" = Option<String>, Query, description = "`created_at` (default) or `name`."),
        ("sort_order" = Option<String>, Query, description = "`desc` (default) or `asc`.")),
    responses((status = 200, body = Vec<Key>), (status = 403, body = Detail)))]
async fn list_keys(State(app): State<AppState>, Asker(scope): Asker, params: Params) -> Reply {
    let page = paged(&params, &COLUMNS)?;
    let found = auth(&app)?.keys(&scope, &page).await?;
    Ok(page::reply(found, &page, |key| Ok(Key::from(key)))?)
}

/// Make a key. It is shown this once.
#[utoipa::path(post, path = "/admin/keys", tag = "admin", request_body = KeyCreate,
    responses((status = 200, body = KeyCreated), (status = 403, body = Detail),
        (status = 422, body = Detail)))]
async fn create_key(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Json(body): Json<KeyCreate>,
) -> Reply {
    let key = auth(&app)?.create_key(&scope, body.into_domain()?).await?;
    Ok(made(key.key.key_id.text(), Out(KeyCreated::from(key))))
}

/// Get a key, without its secret.
#[utoipa::path(get, path = "/admin/keys/{key_id}", tag = "admin",
    params(("key_id" = String, Path, description = "Key id.")),
    responses((status = 200, body = Key), (status = 404, body = Detail)))]
async fn get_key(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<KeyId>,
) -> Reply<Out<Key>> {
    Ok(Out(auth(&app)?.key(&scope, id).await?.into()))
}

/// Revoke a key. It stays in the list.
#[utoipa::path(delete, path = "/admin/keys/{key_id}", tag = "admin",
    params(("key_id" = String, Path, description = "Key id.")),
    responses((status = 204), (status = 403, body = Detail), (status = 404, body = Detail)))]
async fn revoke_key(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<KeyId>,
) -> Reply<StatusCode> {
    auth(&app)?.revoke_key(&scope, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Users of the tenant.
#[utoipa::path(get, path = "/admin/users", tag = "admin",
    params(("limit" = Option<u32>, Query, description = "Most users; 10 if absent."),
        ("offset" = Option<u64>, Query, description = "Users to skip."),
        ("sort_by" = Option<String>, Query, description = "`created_at` (default) or `name`."),
        ("sort_order" = Option<String>, Query, description = "`desc` (default) or `asc`.")),
    responses((status = 200, body = Vec<User>), (status = 403, body = Detail)))]
async fn list_users(State(app): State<AppState>, Asker(scope): Asker, params: Params) -> Reply {
    let page = paged(&params, &COLUMNS)?;
    let found = auth(&app)?.users(&scope, &page).await?;
    Ok(page::reply(found, &page, |user| Ok(User::from(user)))?)
}

/// Make a user.
#[utoipa::path(post, path = "/admin/users", tag = "admin", request_body = UserCreate,
    responses((status = 200, body = User), (status = 403, body = Detail),
        (status = 409, body = Detail, description = "The name is taken."),
        (status = 422, body = Detail)))]
async fn create_user(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Json(body): Json<UserCreate>,
) -> Reply {
    let user = auth(&app)?.create_user(&scope, body.into_domain()?).await?;
    Ok(made(user.user_id.text(), Out(User::from(user))))
}

/// Get a user.
#[utoipa::path(get, path = "/admin/users/{user_id}", tag = "admin",
    params(("user_id" = String, Path, description = "User id.")),
    responses((status = 200, body = User), (status = 404, body = Detail)))]
async fn get_user(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<UserId>,
) -> Reply<Out<User>> {
    Ok(Out(auth(&app)?.user(&scope, id).await?.into()))
}

/// Change a user's password, role or state.
#[utoipa::path(patch, path = "/admin/users/{user_id}", tag = "admin",
    params(("user_id" = String, Path, description = "User id.")), request_body = UserUpdate,
    responses((status = 200, body = User), (status = 403, body = Detail), (status = 404, body = Detail)))]
async fn update_user(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<UserId>,
    Json(body): Json<UserUpdate>,
) -> Reply<Out<User>> {
    let patch = body.into_domain()?;
    Ok(Out(auth(&app)?
        .update_user(&scope, id, patch)
        .await?
        .into()))
}

/// Remove a user; its sessions end.
#[utoipa::path(delete, path = "/admin/users/{user_id}", tag = "admin",
    params(("user_id" = String, Path, description = "User id.")),
    responses((status = 204), (status = 403, body = Detail), (status = 404, body = Detail)))]
async fn delete_user(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<UserId>,
) -> Reply<StatusCode> {
    auth(&app)?.delete_user(&scope, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The log of changes of the tenant, newest first.
#[utoipa::path(get, path = "/admin/audit", tag = "admin",
    params(("limit" = Option<u32>, Query, description = "Most entries; 10 if absent."),
        ("offset" = Option<u64>, Query, description = "Entries to skip."),
        ("principal" = Option<String>, Query, description = "Only by this principal."),
        ("action" = Option<String>, Query, description = "Only of this action, for example `keys.create`."),
        ("target" = Option<String>, Query, description = "Only about this id."),
        ("since" = Option<String>, Query, description = "Only at or after this time."),
        ("until" = Option<String>, Query, description = "Only before this time.")),
    responses((status = 200, body = Vec<AuditEntry>), (status = 403, body = Detail)))]
async fn audit(State(app): State<AppState>, Asker(scope): Asker, params: Params) -> Reply {
    let text = |name: &str| params.get(name).map(str::to_owned);
    let page = PageQuery {
        limit: page::limit(params.number("limit")?, page::DEFAULT_LIMIT)?,
        offset: page::offset(params.number("offset")?)?,
        ..PageQuery::default()
    };
    let query = AuditQuery {
        principal: text("principal"),
        action: text("action"),
        target: text("target"),
        since: time(&params, "since")?,
        until: time(&params, "until")?,
        limit: page.limit,
        offset: page.offset,
    };
    let found = auth(&app)?.audit(&scope, &query).await?;
    Ok(page::reply(found, &page, |entry| {
        Ok(AuditEntry::from(entry))
    })?)
}

fn time(params: &Params, name: &str) -> Result<Option<Timestamp>, Failure> {
    let Some(text) = params.get(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let time = text.parse().map(Some);
    time.map_err(|_| Error::unprocessable(format!("{name}: {text:?} is not a time")).into())
}

/// All tenants.
#[utoipa::path(get, path = "/admin/tenants", tag = "admin",
    params(("limit" = Option<u32>, Query, description = "Most tenants; 10 if absent."),
        ("offset" = Option<u64>, Query, description = "Tenants to skip."),
        ("sort_by" = Option<String>, Query, description = "`created_at` (default) or `tenant`."),
        ("sort_order" = Option<String>, Query, description = "`desc` (default) or `asc`.")),
    responses((status = 200, body = Vec<Tenant>), (status = 403, body = Detail)))]
async fn list_tenants(State(app): State<AppState>, params: Params) -> Reply {
    let page = paged(&params, &TENANT_COLUMNS)?;
    let found = auth(&app)?.tenants(&page).await?;
    Ok(page::reply(found, &page, |tenant| {
        Ok(Tenant::from(tenant))
    })?)
}

/// Make a tenant.
#[utoipa::path(post, path = "/admin/tenants", tag = "admin", request_body = TenantCreate,
    responses((status = 200, body = Tenant), (status = 403, body = Detail),
        (status = 409, body = Detail, description = "It exists."), (status = 422, body = Detail)))]
async fn create_tenant(State(app): State<AppState>, Json(body): Json<TenantCreate>) -> Reply {
    let name = body.tenant.clone();
    let tenant = auth(&app)?.create_tenant(body.tenant, body.title).await?;
    Ok(made(name, Out(Tenant::from(tenant))))
}

/// Change a tenant. Who belongs to one that is shut is let in no more.
#[utoipa::path(patch, path = "/admin/tenants/{tenant}", tag = "admin",
    params(("tenant" = String, Path, description = "Name.")), request_body = TenantUpdate,
    responses((status = 200, body = Tenant), (status = 403, body = Detail), (status = 404, body = Detail)))]
async fn update_tenant(
    State(app): State<AppState>,
    Text(name): Text<String>,
    Json(body): Json<TenantUpdate>,
) -> Reply<Out<Tenant>> {
    let auth = auth(&app)?;
    Ok(Out(auth
        .update_tenant(&name, body.title, body.enabled)
        .await?
        .into()))
}
