//! Sessions of people in a browser.

use agentflow_auth::{Auth, Login, LoginRequest, Refusal};
use agentflow_types::{Clock, Error, SystemClock};
use axum::{
    Extension, Json as Out,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    access::{Doors, Known, RequestId, cookie, refused, same_origin},
    error::{Failure, Misfit, Reply},
    extract::{Asker, Json},
    listen::Peer,
    mem0::accounts::{self, AccountPatch},
    wire::{
        account::{LoginBody, Me},
        system::Detail,
    },
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(login))
        .routes(routes!(logout))
        .routes(routes!(me, update_me))
}

/// The error of what needs authentication on a server without.
pub(crate) fn off() -> Failure {
    Failure::Domain(Error::invalid("authentication is off on this server"))
}

/// Log in: the answer sets the session's cookie.
#[utoipa::path(post, path = "/auth/login", tag = "auth", request_body = LoginBody,
    responses((status = 200, body = Me, headers(("set-cookie" = String, description = "The session."))),
        (status = 400, body = Detail, description = "Authentication is off."),
        (status = 401, body = Detail, description = "Wrong user, password or key."),
        (status = 429, body = Detail, description = "Too many attempts.")))]
async fn login(
    State(app): State<AppState>,
    peer: Option<Extension<Peer>>,
    Extension(name): Extension<RequestId>,
    request: Request,
) -> Reply {
    let auth = match (&app.auth, app.doors) {
        (Some(auth), Doors::Guarded) => auth.clone(),
        _ => return Err(off()),
    };
    if !same_origin(request.headers(), &app.security) {
        let text = "A session may not be begun from another origin.";
        return Ok(refused(Refusal::Denied(text.into())));
    }
    let Json(body) = Json::<LoginBody>::read(request, &app).await?;
    if let Some(email) = &body.email {
        return sign_in(&auth, email, &body, peer, &name).await;
    }
    let who = match (&body.username, &body.password, &body.api_key) {
        (Some(user), Some(password), None) => LoginRequest::Password {
            tenant: body.tenant.as_deref(),
            user,
            password,
        },
        (None, None, Some(key)) => LoginRequest::Key(key),
        _ => {
            let text = "give either username and password, or email and password, or api_key";
            return Err(Error::unprocessable(text).into());
        }
    };
    let login = Login {
        request: who,
        peer: peer.map(|Extension(Peer(address))| address.ip()),
    };
    let signed = match auth.login(login).await {
        Ok(signed) => signed,
        Err(refusal) => {
            tracing::info!(request_id = &*name.0, "a login was refused");
            return Ok(refused(refusal));
        }
    };
    let scope = &signed.caller.scope;
    auth.record(scope, "auth.login", scope.principal(), &name.0, "ok")
        .await?;
    let left = signed.ends_at.since(SystemClock.now()).as_secs();
    let mut response = Out(Me::from(&signed.caller)).into_response();
    set_cookie(&app, &mut response, signed.token.secret(), left);
    Ok(response)
}

/// Answers with tokens, as Mem0's self-hosted server does.
async fn sign_in(
    auth: &Auth,
    email: &str,
    body: &LoginBody,
    peer: Option<Extension<Peer>>,
    name: &RequestId,
) -> Reply {
    accounts::check_email(email)?;
    let missing = || Misfit::of_body("", "missing field `password`");
    let password = body.password.as_deref().ok_or_else(missing)?;
    let peer = peer.map(|Extension(Peer(address))| address.ip());
    match auth
        .sign_in(body.tenant.as_deref(), email, password, peer)
        .await
    {
        Ok((pair, caller)) => {
            let scope = &caller.scope;
            auth.record(scope, "auth.login", scope.principal(), &name.0, "ok")
                .await?;
            Ok(Out(accounts::shown(&pair)).into_response())
        }
        Err(refusal) => {
            tracing::info!(request_id = &*name.0, "a login was refused");
            Ok(refused(refusal))
        }
    }
}

/// End the session. Without one, nothing happens.
#[utoipa::path(post, path = "/auth/logout", tag = "auth",
    responses((status = 204), (status = 401, body = Detail)))]
async fn logout(State(app): State<AppState>, known: Option<Extension<Known>>) -> Reply {
    if let (Some(auth), Some(Extension(Known(caller)))) = (&app.auth, known) {
        auth.logout(&caller).await?;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&app, &mut response, "", 0);
    Ok(response)
}

/// Who asks, and what it may do.
#[utoipa::path(get, path = "/auth/me", tag = "auth",
    responses((status = 200, body = Me), (status = 401, body = Detail)))]
async fn me(
    State(app): State<AppState>,
    Asker(scope): Asker,
    known: Option<Extension<Known>>,
) -> Reply<Out<Me>> {
    let (Some(auth), Some(Extension(Known(caller)))) = (&app.auth, known) else {
        return Ok(Out(Me::anybody(&scope)));
    };
    let me = Me::from(&*caller);
    Ok(Out(match auth.user_of(&caller).await? {
        Some(user) => me.of_user(user),
        None => me,
    }))
}

/// Change what people call the asker.
#[utoipa::path(patch, path = "/auth/me", tag = "auth", request_body = AccountPatch,
    responses((status = 200, body = serde_json::Value), (status = 401, body = Detail)))]
async fn update_me(
    State(app): State<AppState>,
    known: Option<Extension<Known>>,
    Json(body): Json<AccountPatch>,
) -> Reply<Out<serde_json::Value>> {
    let known = known.map(|Extension(known)| known);
    Ok(Out(accounts::change(&app, known.as_ref(), body).await?))
}

fn set_cookie(app: &AppState, response: &mut Response, token: &str, seconds: u64) {
    let cookie = cookie(token, seconds, app.security.secure);
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
}
