//! Accounts, keys and the log of requests in the dialect of Mem0's self-hosted server. Users and
//! keys are the server's own; signing in is in [`crate::routes::auth`].

use std::{net::IpAddr, sync::Arc};

use agentflow_auth::{Auth, Caller, NewKey, Pair, Refusal, Registration, UserPatch};
use agentflow_storage::account::{ApiKey, User};
use agentflow_types::{Error, Map, MemoryScope, Scope, Timestamp, Value};
use axum::{
    Extension, Json as Out,
    extract::{Request, State},
    response::IntoResponse,
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    access::{Doors, Known, Made, RequestId, credentials, refused, same_origin},
    error::{Failure, Misfit, Reply},
    extract::{Asker, Json as Body, Params, Text},
    listen::Peer,
    routes::auth::off,
};

/// Entries of the log of requests if nothing is said about it.
const REQUESTS: u32 = 50;
/// Most entries of one answer.
const MAX_REQUESTS: u32 = 200;
/// Most bytes of an address.
const MAX_EMAIL_BYTES: usize = 200;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(setup_status))
        .routes(routes!(register))
        .routes(routes!(refresh))
        .routes(routes!(change_password))
        .routes(routes!(onboarding_complete))
        .routes(routes!(list_keys, create_key))
        .routes(routes!(revoke_key))
        .routes(routes!(requests))
}

/// The accounts of a server that asks who calls.
fn guarded(app: &AppState) -> Result<&Arc<Auth>, Failure> {
    match (&app.auth, app.doors) {
        (Some(auth), Doors::Guarded) => Ok(auth),
        _ => Err(off()),
    }
}

fn address(peer: Option<Extension<Peer>>) -> Option<IpAddr> {
    peer.map(|Extension(Peer(address))| address.ip())
}

/// Checks the form of an address.
///
/// # Errors
/// 422.
pub(crate) fn check_email(email: &str) -> Result<(), Failure> {
    let is_one = email.split_once('@').is_some_and(|(name, host)| {
        let is_plain = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
        is_plain(name) && is_plain(host) && !host.contains('@')
    });
    match is_one && email.len() <= MAX_EMAIL_BYTES {
        true => Ok(()),
        false => Err(Misfit::of_body("email", "value is not a valid email address").into()),
    }
}

/// A pair of tokens as clients get it.
pub(crate) fn shown(pair: &Pair) -> Json {
    json!({
        "access_token": pair.access,
        "refresh_token": pair.refresh,
        "token_type": "bearer",
    })
}

/// A user as clients get it.
pub(crate) fn account(user: &User) -> Json {
    let name = match user.title.is_empty() {
        true => &user.name,
        false => &user.title,
    };
    json!({
        "id": user.user_id.text(),
        "name": name,
        "email": user.name,
        "role": user.role.word(),
        "created_at": user.created_at.to_string(),
    })
}

/// The user that asks.
///
/// # Errors
/// 401 for who is none, 400 on a server without authentication.
pub(crate) async fn user<'a>(
    app: &'a AppState,
    known: Option<&'a Known>,
) -> Result<(&'a Arc<Auth>, &'a Caller, User), Failure> {
    let auth = guarded(app)?;
    let nobody = || Failure::Http(StatusCode::UNAUTHORIZED, "Authentication required.".into());
    let caller = &*known.ok_or_else(nobody)?.0;
    let user = auth.user_of(caller).await?.ok_or_else(nobody)?;
    Ok((auth, caller, user))
}

/// Whether the first account is still to be made.
#[utoipa::path(get, path = "/auth/setup-status", tag = "auth", responses((status = 200, body = Json)))]
async fn setup_status(State(app): State<AppState>) -> Reply<Out<Json>> {
    let needs = match guarded(&app) {
        Ok(auth) => auth.needs_setup().await?,
        Err(_) => false,
    };
    Ok(Out(json!({ "needsSetup": needs })))
}

/// A first account.
#[derive(Deserialize, ToSchema)]
struct NewAccount {
    /// What people call its user.
    name: String,
    /// Its address.
    email: String,
    /// Its password.
    password: String,
}

/// Make the first account, an administrator. Where there are keys already, show one that may make
/// users.
#[utoipa::path(post, path = "/auth/register", tag = "auth", request_body = NewAccount,
    responses((status = 200, body = Json), (status = 403, body = Json, description = "Closed.")))]
async fn register(
    State(app): State<AppState>,
    peer: Option<Extension<Peer>>,
    Extension(name): Extension<RequestId>,
    request: Request,
) -> Reply {
    let auth = guarded(&app)?.clone();
    if !same_origin(request.headers(), &app.security) {
        let text = "An account may not be made from another origin.";
        return Ok(refused(Refusal::Denied(text.into())));
    }
    let asker = match credentials::of(request.headers(), request.method(), &app.security) {
        Ok(None) => None,
        Ok(Some(shown)) => match auth.authenticate(shown).await {
            Ok(caller) => Some(caller),
            Err(refusal) => return Ok(refused(refusal)),
        },
        Err(refusal) => return Ok(refused(refusal)),
    };
    let Body(body) = Body::<NewAccount>::read(request, &app).await?;
    check_email(&body.email)?;
    let new = Registration {
        title: body.name,
        email: body.email,
        password: body.password,
    };
    match auth.register(asker.as_ref(), new, address(peer)).await {
        Ok((pair, caller)) => {
            let scope = &caller.scope;
            let target = scope.principal();
            auth.record(scope, "users.create", target, &name.0, "ok")
                .await?;
            Ok(Out(shown(&pair)).into_response())
        }
        Err(refusal) => Ok(refused(refusal)),
    }
}

/// What gets the next pair of tokens.
#[derive(Deserialize, ToSchema)]
struct Refresh {
    /// The token.
    refresh_token: String,
}

/// Get the next pair of tokens; each is good once.
#[utoipa::path(post, path = "/auth/refresh", tag = "auth", request_body = Refresh,
    responses((status = 200, body = Json), (status = 401, body = Json)))]
async fn refresh(
    State(app): State<AppState>,
    peer: Option<Extension<Peer>>,
    Body(body): Body<Refresh>,
) -> Reply {
    let auth = guarded(&app)?;
    match auth.refresh(&body.refresh_token, address(peer)).await {
        Ok(pair) => Ok(Out(shown(&pair)).into_response()),
        Err(refusal) => Ok(refused(refusal)),
    }
}

/// Changes of the asker's own account.
#[derive(Deserialize, ToSchema)]
pub(crate) struct AccountPatch {
    /// What people call the user.
    name: Option<String>,
    /// Its address, which cannot change.
    email: Option<String>,
}

/// Changes the asker's own account.
///
/// # Errors
/// 400 for another address: it is the name under which the user signs in and owns things.
pub(crate) async fn change(
    app: &AppState,
    known: Option<&Known>,
    patch: AccountPatch,
) -> Reply<Json> {
    let (auth, caller, before) = user(app, known).await?;
    if patch.email.is_some_and(|email| email != before.name) {
        return Err(Error::invalid("the address of an account cannot change").into());
    }
    let name = patch.name.map(|name| name.trim().to_owned());
    let patch = UserPatch {
        title: name.filter(|name| !name.is_empty()),
        ..UserPatch::default()
    };
    let changed = auth.update_user(&caller.scope, before.user_id, patch);
    Ok(account(&changed.await?))
}

/// A new password.
#[derive(Deserialize, ToSchema)]
struct NewPassword {
    /// The one that is known.
    current_password: String,
    /// The one from now on.
    new_password: String,
}

/// Change the asker's own password; its sessions and tokens end.
#[utoipa::path(post, path = "/auth/change-password", tag = "auth", request_body = NewPassword,
    responses((status = 200, body = Json), (status = 401, body = Json)))]
async fn change_password(
    State(app): State<AppState>,
    known: Option<Extension<Known>>,
    peer: Option<Extension<Peer>>,
    Body(body): Body<NewPassword>,
) -> Reply {
    let known = known.map(|Extension(known)| known);
    let (auth, caller, _) = user(&app, known.as_ref()).await?;
    let changed = auth.change_password(
        caller,
        &body.current_password,
        body.new_password,
        address(peer),
    );
    match changed.await {
        Ok(()) => Ok(Out(json!({ "message": "Password updated." })).into_response()),
        Err(Refusal::Unknown(text)) => {
            Err(Failure::Http(StatusCode::UNAUTHORIZED, text.to_owned()))
        }
        Err(refusal) => Ok(refused(refusal)),
    }
}

/// What somebody wants to do with the server.
#[derive(Deserialize, ToSchema)]
struct Onboarding {
    /// In a few words. It is sent nowhere and not kept.
    #[expect(dead_code, reason = "clients must send it")]
    use_case: String,
}

/// Tell that setting up is done. Nothing is kept of it.
#[utoipa::path(post, path = "/auth/onboarding-complete", tag = "auth",
    request_body = Onboarding, responses((status = 200, body = Json)))]
async fn onboarding_complete(body: Body<Onboarding>) -> Out<Json> {
    drop(body);
    Out(json!({ "message": "Onboarding completed." }))
}

fn key_shown(key: &ApiKey) -> Json {
    let memories = key.memories.as_ref();
    json!({
        "id": key.key_id.text(),
        "label": key.name,
        "key_prefix": key.prefix,
        "created_at": key.created_at.to_string(),
        "last_used_at": key.last_used_at.map(|at: Timestamp| at.to_string()),
        "role": key.role.word(),
        "memory_scope": memories.map(|limit| Value::map(limit.as_map().clone()).to_json()),
    })
}

fn keys(app: &AppState) -> Result<&Arc<Auth>, Failure> {
    app.auth.as_ref().ok_or_else(off)
}

/// List the keys that the asker made and that are not revoked, the newest first.
#[utoipa::path(get, path = "/api-keys", tag = "auth", responses((status = 200, body = Vec<Json>)))]
async fn list_keys(State(app): State<AppState>, Asker(scope): Asker) -> Reply<Out<Vec<Json>>> {
    let found = keys(&app)?.keys_made(&scope).await?;
    Ok(Out(found.iter().map(key_shown).collect()))
}

/// A new key.
#[derive(Deserialize, ToSchema)]
struct NewApiKey {
    /// What people call it.
    label: String,
    /// `viewer`, `user` (if absent), `admin` or `operator`.
    role: Option<String>,
    /// The memories that it is limited to, for example `{"user_id": "alice"}`; all if absent.
    #[schema(value_type = Option<Object>)]
    memory_scope: Option<Map>,
}

impl NewApiKey {
    fn into_domain(self, scope: &Scope) -> Result<NewKey, Error> {
        let memories = self.memory_scope.as_ref().map(MemoryScope::new);
        Ok(NewKey {
            name: self.label,
            principal: Some(scope.principal().to_owned()),
            role: self.role.as_deref().unwrap_or("user").parse()?,
            scopes: None,
            memories: memories.transpose()?,
            expires_at: None,
            tenant: None,
        })
    }
}

/// Make a key. It is shown this once.
#[utoipa::path(post, path = "/api-keys", tag = "auth", request_body = NewApiKey,
    responses((status = 201, body = Json)))]
async fn create_key(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Body(body): Body<NewApiKey>,
) -> Reply {
    let made = keys(&app)?
        .create_key(&scope, body.into_domain(&scope)?)
        .await?;
    let mut shown = key_shown(&made.key);
    shown["key"] = json!(made.secret);
    let mut response = (StatusCode::CREATED, Out(shown)).into_response();
    response
        .extensions_mut()
        .insert(Made(made.key.key_id.text()));
    Ok(response)
}

/// Revoke a key that the asker made.
#[utoipa::path(delete, path = "/api-keys/{key_id}", tag = "auth",
    params(("key_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json), (status = 404, body = Json)))]
async fn revoke_key(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text(id): Text<String>,
) -> Reply<Out<Json>> {
    keys(&app)?.revoke_made(&scope, &id).await?;
    Ok(Out(json!({ "message": "API key revoked." })))
}

/// List requests about memories that were made of this server, the newest first.
#[utoipa::path(get, path = "/requests", tag = "auth",
    params(("limit" = Option<u32>, Query, description = "Most entries, 1 to 200; 50 if absent."),
        ("offset" = Option<u64>, Query, description = "Entries to skip.")),
    responses((status = 200, body = Vec<Json>)))]
async fn requests(
    State(app): State<AppState>,
    Asker(scope): Asker,
    params: Params,
) -> Reply<Out<Vec<Json>>> {
    let limit = params.number("limit")?.unwrap_or(REQUESTS);
    if !(1..=MAX_REQUESTS).contains(&limit) {
        let text = format!("must be a number from 1 to {MAX_REQUESTS}");
        return Err(Misfit::of_query("limit", &text).into());
    }
    let offset = params.number::<usize>("offset")?.unwrap_or(0);
    let found = app.requests.page(scope.tenant(), limit as usize, offset);
    let rows = found.iter().map(|one| {
        json!({
            "id": one.id.to_string(),
            "method": one.method.as_str(),
            "path": one.path,
            "status_code": one.status,
            "latency_ms": (one.latency.as_secs_f64() * 100_000.0).round() / 100.0,
            "auth_type": one.means,
            "principal": one.principal,
            "created_at": one.at.to_string(),
        })
    });
    Ok(Out(rows.collect()))
}
