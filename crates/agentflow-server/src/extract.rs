//! Extractors: scope, ids in paths, JSON bodies, query parameters, passed-on headers.

use std::str::FromStr;

use agentflow_types::{Error, Map, Scope, Str, Value};
use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, request::Parts};
use serde::de::DeserializeOwned;

use crate::{
    AppState, Limits,
    error::{Failure, Misfit},
};

/// Request headers that are passed on to a run, at most.
const MAX_HEADERS: usize = 64;
/// Headers that are never passed on: they carry secrets.
const SECRET_HEADERS: [&str; 4] = ["x-api-key", "x-tenant-id", "x-service-key", "x-csrf-token"];

/// Who asks, as [`crate::access::guard`] found. Without authentication everybody is the local
/// principal.
pub(crate) struct Asker(pub(crate) Scope);

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let scope = parts.extensions.get::<Scope>().cloned();
        scope
            .map(Self)
            .ok_or_else(|| Failure::Domain(Error::bug("a handler runs behind no guard")))
    }
}

/// The only id in the path.
pub(crate) struct Id<T>(pub(crate) T);

impl<S: Send + Sync, T: FromStr<Err = Error>> FromRequestParts<S> for Id<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Ok(Self(path::<String, S>(parts, state).await?.parse()?))
    }
}

/// Two ids in the path.
pub(crate) struct Ids<A, B>(pub(crate) A, pub(crate) B);

impl<S, A, B> FromRequestParts<S> for Ids<A, B>
where
    S: Send + Sync,
    A: FromStr<Err = Error>,
    B: FromStr<Err = Error>,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let (a, b) = path::<(String, String), S>(parts, state).await?;
        Ok(Self(a.parse()?, b.parse()?))
    }
}

/// A path parameter as text.
pub(crate) struct Text<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Text<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        path(parts, state).await.map(Self)
    }
}

async fn path<T, S>(parts: &mut Parts, state: &S) -> Result<T, Failure>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    let Path(found) = Path::<T>::from_request_parts(parts, state)
        .await
        .map_err(|err| Failure::Http(StatusCode::UNPROCESSABLE_ENTITY, err.body_text()))?;
    Ok(found)
}

/// A JSON body. An empty one counts as `{}`.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Failure> {
        Self::read(request, state).await
    }
}

impl<T: DeserializeOwned> Json<T> {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// 413, 408, 400 or 422.
    pub(crate) async fn read(request: Request, state: &AppState) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let bytes = body_of(&parts.headers, body, &state.limits).await?;
        decode(&bytes, state.limits.depth).map(Self)
    }
}

/// Reads a body within the limits.
///
/// # Errors
/// 413 if it is too large, 408 if it does not arrive in time, 400 if the connection breaks.
pub(crate) async fn body_of(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
) -> Result<Bytes, Failure> {
    let too_large = || {
        let text = format!("request body is larger than {} bytes", limits.body_bytes);
        Failure::Http(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    if content_length(headers).is_some_and(|n| n > limits.body_bytes) {
        return Err(too_large());
    }
    let read = axum::body::to_bytes(body, limits.body_bytes);
    let bytes = match tokio::time::timeout(limits.body_timeout, read).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(err)) if is_length_limit(&err) => return Err(too_large()),
        Ok(Err(err)) => {
            return Err(Failure::Http(
                StatusCode::BAD_REQUEST,
                format!("broken body: {err}"),
            ));
        }
        Err(_) => {
            let text = "the request body did not arrive in time".to_owned();
            return Err(Failure::Http(StatusCode::REQUEST_TIMEOUT, text));
        }
    };
    Ok(bytes)
}

/// Checks how deep JSON text is nested, before it is parsed.
///
/// # Errors
/// 422.
pub(crate) fn check_nesting(bytes: &[u8], depth: usize) -> Result<(), Failure> {
    match nesting(bytes) > depth {
        true => Err(Failure::Http(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("request body is nested deeper than {depth} levels"),
        )),
        false => Ok(()),
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn is_length_limit(err: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(err);
    while let Some(err) = cause {
        if err.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = err.source();
    }
    false
}

/// Decodes a JSON body.
///
/// # Errors
/// 422 for what is not JSON, is nested too deeply, or has a wrong type somewhere; the text names
/// the place.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], depth: usize) -> Result<T, Failure> {
    let invalid = || Misfit::of_body("", "Invalid JSON in request body");
    let bytes = if bytes.iter().all(u8::is_ascii_whitespace) {
        b"{}"
    } else {
        bytes
    };
    check_nesting(bytes, depth)?;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let decoded = serde_path_to_error::deserialize(&mut reader).map_err(|err| {
        let path = err.path().to_string();
        let cause = err.into_inner();
        match cause.classify() {
            serde_json::error::Category::Data => {
                // The position in the text says nothing to somebody who sent a data structure.
                let text = cause.to_string();
                let text = text
                    .rsplit_once(" at line ")
                    .map_or(&*text, |(before, _)| before);
                Misfit::of_body(&path, text)
            }
            _ => invalid(),
        }
    })?;
    reader.end().map_err(|_| invalid())?;
    Ok(decoded)
}

/// How deep lists and objects of JSON text are nested, without parsing it.
fn nesting(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for byte in bytes {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'[' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Query parameters in order; names may repeat.
pub(crate) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|err| Failure::Http(StatusCode::UNPROCESSABLE_ENTITY, err.body_text()))?;
        Ok(Self(pairs))
    }
}

impl Params {
    /// No parameters.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// The last value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a parameter; `name[]` counts as `name`.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(key, _)| key.strip_suffix("[]").unwrap_or(key) == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// All values of a parameter, each split at commas.
    pub(crate) fn words(&self, name: &str) -> Vec<String> {
        let words = self.all(name).into_iter().flat_map(|text| text.split(','));
        words
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// A yes-or-no parameter; absent means no.
    ///
    /// # Errors
    /// 422 for another word.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None | Some("" | "false" | "0" | "no") => Ok(false),
            Some("true" | "1" | "yes") => Ok(true),
            Some(other) => Err(wrong(name, other, "true or false")),
        }
    }

    /// A number parameter.
    ///
    /// # Errors
    /// 422 if it is not a number.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| wrong(name, text, "a number")),
        }
    }
}

fn wrong(name: &str, found: &str, wanted: &str) -> Failure {
    Misfit::of_query(name, &format!("expected {wanted}, found {found:?}")).into()
}

/// The request headers that a graph may read: `x-…` and the user agent, secrets left out.
pub(crate) struct Passed(pub(crate) Map);

impl<S: Sync> FromRequestParts<S> for Passed {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let passed = parts.headers.iter().filter_map(|(name, value)| {
            let name = name.as_str();
            let wanted = name.starts_with("x-") || name == "user-agent";
            let value = value.to_str().ok()?;
            (wanted && !SECRET_HEADERS.contains(&name))
                .then(|| (Str::from(name), Value::str(value)))
        });
        Ok(Self(passed.take(MAX_HEADERS).collect()))
    }
}

/// Whether a client asked for an answer without a body.
pub(crate) fn wants_minimal(headers: &HeaderMap) -> bool {
    headers.get_all("prefer").iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|text| text.split(',').any(|p| p.trim() == "return=minimal"))
    })
}

/// The last event that a client saw: `None` without the header, zero for `-1`, `0` and what is
/// not one of our numbers.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get("last-event-id")?.to_str().ok()?;
    Some(text.trim().parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> String {
        #[derive(Debug, serde::Deserialize)]
        struct Sample {
            #[expect(dead_code, reason = "only the types matter")]
            limit: Option<u32>,
            #[expect(dead_code, reason = "only the types matter")]
            nested: Option<Vec<std::collections::BTreeMap<String, bool>>>,
        }
        match decode::<Sample>(body.as_bytes(), 5) {
            Ok(_) => "accepted".into(),
            Err(Failure::Misfit(misfit)) => format!("422 {}", misfit.sentence()),
            Err(Failure::Http(status, text)) => format!("{} {text}", status.as_u16()),
            Err(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn bodies_are_refused_with_the_place_of_the_mistake() {
        for (body, want) in [
            ("", "accepted"),
            (" ", "accepted"),
            ("{}", "accepted"),
            ("{", "422 Invalid JSON in request body"),
            ("{} x", "422 Invalid JSON in request body"),
            ("\u{1}", "422 Invalid JSON in request body"),
            (
                r#"{"limit":"x"}"#,
                "422 limit: invalid type: string \"x\", expected u32",
            ),
            (
                r#"{"nested":[{"a":1}]}"#,
                "422 nested[0].a: invalid type: integer `1`, expected a boolean",
            ),
            (
                "[[[[[[]]]]]]",
                "422 request body is nested deeper than 5 levels",
            ),
            (r#"{"other":"[[[[[[[["}"#, "accepted"),
            (r#"{"other":"\"[[[[[[[["}"#, "accepted"),
        ] {
            assert_eq!(refusal(body), want, "{body}");
        }
    }
}
