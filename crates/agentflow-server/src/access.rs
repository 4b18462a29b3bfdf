//! The doors of the API: who is let through to which route.

mod admission;
pub(crate) mod credentials;
mod requests;
mod rules;
mod session;

use std::{sync::Arc, time::Duration};

use agentflow_auth::{Auth, Caller, Limited, Means, Refusal};
use agentflow_types::Scope;
use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;

pub(crate) use admission::Admit;
pub(crate) use credentials::same_origin;
use requests::Begun;
pub(crate) use requests::Requests;
use rules::{Door, Rule, find, methods};
pub use session::Secure;
pub(crate) use session::cookie;

use crate::{
    AppState,
    error::{Failure, detail},
};

/// Name of a request, for logs and for the log of changes.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Most bytes of a name that a client gives its request.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Most bytes of the body of a refused request that are read.
const MAX_UNREAD_BYTES: usize = 64 << 10;
/// How long they are waited for.
const UNREAD_FOR: Duration = Duration::from_secs(1);

/// Whether callers must show credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doors {
    /// Everybody who reaches the server is let in as the local principal.
    #[default]
    Open,
    /// Only who is known, to what is permitted.
    Guarded,
}

/// A request's name.
#[derive(Clone)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

/// The id of what a request made, which its path does not tell. Handlers put it into the
/// response for the log of changes.
#[derive(Clone)]
pub(crate) struct Made(pub(crate) String);

/// The caller of a guarded request.
#[derive(Clone)]
pub(crate) struct Known(pub(crate) Arc<Caller>);

/// Gives each request a name, its own if it has a good one, and tells it in the answer.
pub(crate) async fn name_request(mut request: Request, next: Next) -> Response {
    let own = request.headers().get(REQUEST_ID);
    let own = own.and_then(|value| value.to_str().ok()).filter(|text| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic())
    });
    let id: Arc<str> = match own {
        Some(text) => text.into(),
        None => uuid::Uuid::now_v7().to_string().into(),
    };
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().entry(REQUEST_ID).or_insert(value);
    }
    response
}

/// Lets a request through if its route's rule allows.
pub(crate) async fn guard(
    State(app): State<AppState>,
    path: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(path) = path else {
        return next.run(request).await;
    };
    let method = match request.method() {
        &Method::HEAD => Method::GET,
        other => other.clone(),
    };
    let Some(rule) = find(&method, path.as_str()) else {
        return without_rule(&method, path.as_str());
    };
    let logged = rule.action.map(|action| Change {
        action,
        target: target(path.as_str(), request.uri().path()),
        request_id: name_of(&request),
    });
    let begun = rule
        .is_about_memories()
        .then(|| Begun::new(request.method(), request.uri().path()));
    let scope = match app.doors {
        Doors::Open => Scope::local(),
        Doors::Guarded if rule.door == Door::Open => return next.run(request).await,
        Doors::Guarded => match admit(&app, rule, request.headers(), request.method()).await {
            Ok(caller) => {
                let scope = caller.scope.clone();
                request.extensions_mut().insert(Known(Arc::new(caller)));
                scope
            }
            Err((response, scope)) => {
                if let (Some(change), Some(scope), Some(auth)) = (&logged, &scope, &app.auth)
                    && response.status() == StatusCode::FORBIDDEN
                {
                    change.record(auth, scope, "denied").await;
                }
                return after_body(request.into_body(), response).await;
            }
        },
    };
    let place = match rule.streams {
        true => app.stream_place(&scope),
        false => Ok(None),
    };
    let place = match place {
        Ok(place) => place,
        Err(limited) => return too_much(&limited),
    };
    request.extensions_mut().insert(scope.clone());
    let means = means_of(&request);
    let response = next.run(request).await;
    if let Some(begun) = begun {
        app.requests
            .note(begun, &scope, means.as_ref(), response.status());
    }
    if let (Some(change), Some(auth)) = (logged, &app.auth) {
        // A reference to a response cannot be held while something is waited for.
        let (status, made) = (response.status(), response.extensions().get().cloned());
        change.concluded(auth, &scope, status, made).await;
    }
    match place {
        Some(place) => response.map(|body| held(body, place)),
        None => response,
    }
}

/// How the sender of a guarded request was let in.
fn means_of(request: &Request) -> Option<Means> {
    let known = request.extensions().get::<Known>();
    known.map(|known| known.0.means.clone())
}

/// A refusal, after the rest of its request was read: a connection that ends amid a body takes the
/// client's next request along. If there is more to read, the client is told to begin another one.
async fn after_body(body: Body, mut response: Response) -> Response {
    let rest = http_body_util::Limited::new(body, MAX_UNREAD_BYTES).collect();
    if !matches!(tokio::time::timeout(UNREAD_FOR, rest).await, Ok(Ok(_))) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// The answer to a verb that a route does not have. A route that somebody forgot to give a rule
/// is shut the same way.
fn without_rule(method: &Method, path: &str) -> Response {
    let allowed = methods(path);
    if allowed.is_empty() {
        tracing::error!(%method, path, "a route without a rule is shut");
        return detail(StatusCode::FORBIDDEN, "This route is shut.");
    }
    let mut response = detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    if let Ok(allowed) = HeaderValue::from_str(&allowed.join(",")) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// A body that holds something until it is gone.
fn held<T: Send + 'static>(body: Body, thing: T) -> Body {
    Body::new(body.map_frame(move |frame| {
        let _held = &thing;
        frame
    }))
}

/// Who asks, if it may; else the answer, and who it was if that is known.
async fn admit(
    app: &AppState,
    rule: &Rule,
    headers: &HeaderMap,
    method: &Method,
) -> Result<Caller, (Response, Option<Scope>)> {
    let Some(auth) = &app.auth else {
        return Err((detail(StatusCode::FORBIDDEN, "This route is shut."), None));
    };
    let shown = credentials::of(headers, method, &app.security)
        .map_err(|refusal| (refused(refusal), None))?
        .ok_or_else(|| (refused(Refusal::Unknown(credentials::MISSING)), None))?;
    let caller = auth.authenticate(shown).await;
    let caller = caller.map_err(|refusal| (refused(refusal), None))?;
    let known = || Some(caller.scope.clone());
    match auth.meter(&caller).await {
        Ok(Ok(())) => {}
        Ok(Err(limited)) => return Err((too_much(&limited), known())),
        Err(err) => return Err((Failure::Domain(err).into_response(), known())),
    }
    if let Door::Needs(permission) = rule.door
        && !caller.scope.may(permission)
    {
        let text = format!("Missing permission: {permission}");
        return Err((detail(StatusCode::FORBIDDEN, &text), known()));
    }
    match app.service.welcome(&caller.scope).await {
        Ok(()) => Ok(caller),
        Err(err) => Err((Failure::Domain(err).into_response(), known())),
    }
}

/// The answer to who is not let in.
pub(crate) fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Unknown(text) => {
            let mut response = detail(StatusCode::UNAUTHORIZED, text);
            let challenge = HeaderValue::from_static("Bearer realm=\"agentflow\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
            response
        }
        Refusal::Denied(text) => detail(StatusCode::FORBIDDEN, &text),
        Refusal::Later(retry_after, text) => too_much(&Limited { text, retry_after }),
        Refusal::Failed(err) => Failure::Domain(err).into_response(),
    }
}

/// The answer to who asks for too much.
pub(crate) fn too_much(limited: &Limited) -> Response {
    let mut response = detail(StatusCode::TOO_MANY_REQUESTS, &limited.text);
    let seconds = limited.retry_after.as_secs_f64().ceil().max(1.0) as u64;
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The name of a request.
pub(crate) fn name_of(request: &Request) -> Arc<str> {
    let id = request.extensions().get::<RequestId>();
    id.map_or_else(|| "".into(), |id| id.0.clone())
}

/// A header as text.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The ids in a path, as its route names them.
fn target(route: &str, path: &str) -> String {
    let parts = route.split('/').zip(path.split('/'));
    let ids: Vec<&str> = parts
        .filter(|(name, _)| name.starts_with('{'))
        .map(|(_, id)| id)
        .collect();
    ids.join("/")
}

/// A change that is to be logged.
struct Change {
    action: &'static str,
    target: String,
    request_id: Arc<str>,
}

impl Change {
    async fn concluded(&self, auth: &Auth, scope: &Scope, status: StatusCode, made: Option<Made>) {
        let outcome = match status {
            status if status.is_success() => "ok".to_owned(),
            StatusCode::FORBIDDEN => "denied".to_owned(),
            status => format!("failed {}", status.as_u16()),
        };
        let target = made.as_ref().map_or(&self.target, |made| &made.0);
        self.write(auth, scope, target, &outcome).await;
    }

    async fn record(&self, auth: &Auth, scope: &Scope, outcome: &str) {
        self.write(auth, scope, &self.target, outcome).await;
    }

    async fn write(&self, auth: &Auth, scope: &Scope, target: &str, outcome: &str) {
        let id = &self.request_id;
        if let Err(err) = auth.record(scope, self.action, target, id, outcome).await {
            // The change is made; that nobody wrote it down is for the operator.
            tracing::error!(action = self.action, target, error = %err, "a change was not logged");
        }
    }
}
