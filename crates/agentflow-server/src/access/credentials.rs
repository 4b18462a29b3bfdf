//! What a request shows.

use agentflow_auth::{Credentials, Refusal};
use http::{HeaderMap, HeaderName, Method, Uri, header};

use super::{session, text};
use crate::state::Security;

/// What a request without credentials is told.
pub(crate) const MISSING: &str =
    "Missing credentials: send x-api-key, or Authorization: Bearer with a key or a token.";
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");

/// The credentials of a request. `Authorization` counts before `x-api-key`, which LangGraph's
/// clients also send with a key of another service that they found in the environment.
///
/// # Errors
/// [`Refusal::Denied`] for a session that a page of a foreign origin uses.
pub(crate) fn of<'a>(
    headers: &'a HeaderMap,
    method: &Method,
    security: &Security,
) -> Result<Option<Credentials<'a>>, Refusal> {
    let authorization = text(headers, &header::AUTHORIZATION).and_then(bearer);
    if let Some(shown) = authorization {
        return Ok(Some(Credentials::Bearer(shown)));
    }
    if let Some(key) = text(headers, &API_KEY) {
        return Ok(Some(Credentials::Key(key.trim())));
    }
    let Some(token) = session::token(headers) else {
        return Ok(None);
    };
    if !same_origin(headers, security) {
        let text = "A session may not be used from another origin.";
        return Err(Refusal::Denied(text.into()));
    }
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS];
    Ok(Some(Credentials::Session {
        token,
        csrf: text(headers, &CSRF),
        changes: !safe.contains(method),
    }))
}

/// The token of `Bearer …` or `Token …`.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, rest) = value.trim().split_once(' ')?;
    let known = ["bearer", "token"];
    known
        .contains(&scheme.to_ascii_lowercase().as_str())
        .then(|| rest.trim())
        .filter(|token| !token.is_empty())
}

/// Whether a request comes from a page of this server, of an allowed origin, or of no page.
pub(crate) fn same_origin(headers: &HeaderMap, security: &Security) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    if security.cors.origins.iter().any(|known| known == origin) {
        return true;
    }
    let from = origin.parse::<Uri>().ok();
    let from = from.as_ref().and_then(Uri::authority);
    let to = text(headers, &header::HOST);
    from.is_some_and(|from| to.is_some_and(|to| from.as_str().eq_ignore_ascii_case(to)))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn shown(headers: &[(&str, &str)]) -> String {
        let mut request = Request::builder().method("POST");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        match of(request.headers(), &Method::POST, &Security::default()) {
            Ok(Some(Credentials::Key(text))) => format!("key {text}"),
            Ok(Some(Credentials::Bearer(text))) => format!("bearer {text}"),
            Ok(Some(Credentials::Session {
                token,
                csrf,
                changes,
            })) => {
                format!("session {token} {csrf:?} {changes}")
            }
            Ok(None) => "nothing".into(),
            Err(_) => "refused".into(),
        }
    }

    #[test]
    fn credentials_are_found_where_clients_put_them() {
        let cookie = ("cookie", "a=b; agentflow_session=tok; c=d");
        for (headers, want) in [
            (vec![], "nothing"),
            (vec![("x-api-key", "af_1")], "key af_1"),
            (vec![("authorization", "Bearer af_1")], "bearer af_1"),
            (vec![("authorization", "bearer  x.y.z ")], "bearer x.y.z"),
            (vec![("authorization", "Token af_1")], "bearer af_1"),
            (
                vec![("authorization", "Bearer a"), ("x-api-key", "b")],
                "bearer a",
            ),
            (
                vec![("authorization", "Basic dTpw"), ("x-api-key", "b")],
                "key b",
            ),
            (vec![("authorization", "Bearer")], "nothing"),
            (vec![cookie], "session tok None true"),
            (
                vec![
                    cookie,
                    ("x-csrf-token", "c"),
                    ("host", "h:1"),
                    ("origin", "http://h:1"),
                ],
                "session tok Some(\"c\") true",
            ),
            (
                vec![cookie, ("host", "h:1"), ("origin", "http://evil")],
                "refused",
            ),
            (vec![cookie, ("host", "h:1"), ("origin", "null")], "refused"),
            (
                vec![cookie, ("host", "h:1"), ("origin", "http://h:1.evil")],
                "refused",
            ),
        ] {
            assert_eq!(shown(&headers), want, "{headers:?}");
        }
    }
}
