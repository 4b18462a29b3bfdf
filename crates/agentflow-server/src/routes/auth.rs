//! Sessions of people in a browser.

use agentflow_auth::{Login, LoginRequest, Refusal};
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
    error::{Failure, Reply},
    extract::{Asker, Json},
    listen::Peer,
    wire::{
        account::{LoginBody, Me},
        system::Detail,
    },
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(login))
        .routes(routes!(logout))
        .routes(routes!(me))
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
    let who = match (&body.username, &body.password, &body.api_key) {
        (Some(user), Some(password), None) => LoginRequest::Password {
            tenant: body.tenant.as_deref(),
            user,
            password,
        },
        (None, None, Some(key)) => LoginRequest::Key(key),
        _ => {
            let text = "give either username and password, or api_key";
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
async fn me(Asker(scope): Asker, known: Option<Extension<Known>>) -> Out<Me> {
    Out(match known {
        Some(Extension(Known(caller))) => Me::from(&*caller),
        None => Me::anybody(&scope),
    })
}

fn set_cookie(app: &AppState, response: &mut Response, token: &str, seconds: u64) {
    let cookie = cookie(token, seconds, app.security.secure);
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
}
