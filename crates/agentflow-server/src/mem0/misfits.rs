//! What does not fit, as Mem0's self-hosted server tells it: a list of places with what is wrong
//! there. What was sent is not repeated, for it may be a password.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value as Json, json};

use super::MAX_ERROR_BYTES;
use crate::error::Misfit;

/// Rewrites 422.
pub(super) async fn listed(response: Response) -> Response {
    if response.status() != StatusCode::UNPROCESSABLE_ENTITY {
        return response;
    }
    let misfit = match response.extensions().get::<Misfit>().cloned() {
        Some(misfit) => misfit,
        None => {
            let body = http_body_util::Limited::new(response.into_body(), MAX_ERROR_BYTES);
            let bytes = body.collect().await.map(|body| body.to_bytes());
            let json = serde_json::from_slice::<Json>(&bytes.unwrap_or_default()).ok();
            let text = json.as_ref().and_then(|json| json.get("detail")?.as_str());
            Misfit::of_body("", text.unwrap_or_default())
        }
    };
    let body = json!({ "detail": [shown(&misfit)] });
    (StatusCode::UNPROCESSABLE_ENTITY, axum::Json(body)).into_response()
}

fn shown(misfit: &Misfit) -> Json {
    let (kind, text, field) = read(&misfit.text);
    let mut loc = vec![json!(misfit.part)];
    loc.extend(steps(&misfit.path));
    loc.extend(field.map(|name| json!(name)));
    json!({ "type": kind, "loc": loc, "msg": text })
}

/// `messages[0].content` as the steps that lead there.
fn steps(path: &str) -> Vec<Json> {
    let parts = path.split(['.', '[']).filter(|part| !part.is_empty());
    parts
        .map(|part| match part.strip_suffix(']') {
            Some(place) => place
                .parse::<u64>()
                .map_or_else(|_| json!(part), |n| json!(n)),
            None => json!(part),
        })
        .collect()
}

/// The kind of a misfit, its text, and the field that is missing.
fn read(text: &str) -> (&'static str, String, Option<&str>) {
    if let Some(rest) = text.strip_prefix("missing field `") {
        let field = rest.trim_end_matches('`');
        return ("missing", "Field required".into(), Some(field));
    }
    if text.starts_with("Invalid JSON") {
        return ("json_invalid", "JSON decode error".into(), None);
    }
    let wanted = text
        .rsplit_once("expected ")
        .map_or("", |(_, wanted)| wanted);
    let known = [
        ("a string", "string_type", "Input should be a valid string"),
        ("a boolean", "bool_type", "Input should be a valid boolean"),
        ("a sequence", "list_type", "Input should be a valid list"),
        ("a map", "dict_type", "Input should be a valid dictionary"),
        ("u32", "int_type", "Input should be a valid integer"),
        ("usize", "int_type", "Input should be a valid integer"),
        ("a number", "int_type", "Input should be a valid integer"),
        ("f32", "float_type", "Input should be a valid number"),
    ];
    let found = known.iter().find(|(word, ..)| wanted.starts_with(word));
    match found {
        Some((_, kind, told)) => (kind, (*told).to_owned(), None),
        None => ("value_error", text.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_misfit_has_its_place_and_kind() {
        for (misfit, want) in [
            (
                Misfit::of_body(".", "missing field `query`"),
                json!({ "type": "missing", "loc": ["body", "query"], "msg": "Field required" }),
            ),
            (
                Misfit::of_body(
                    "messages[0].content",
                    "invalid type: integer `1`, expected a string",
                ),
                json!({ "type": "string_type", "loc": ["body", "messages", 0, "content"],
                    "msg": "Input should be a valid string" }),
            ),
            (
                Misfit::of_body("", "Invalid JSON in request body"),
                json!({ "type": "json_invalid", "loc": ["body"], "msg": "JSON decode error" }),
            ),
            (
                Misfit::of_query("limit", "expected a number, found \"x\""),
                json!({ "type": "int_type", "loc": ["query", "limit"],
                    "msg": "Input should be a valid integer" }),
            ),
            (
                Misfit::of_body("", "name: must be 1 to 200 bytes"),
                json!({ "type": "value_error", "loc": ["body"],
                    "msg": "name: must be 1 to 200 bytes" }),
            ),
        ] {
            assert_eq!(shown(&misfit), want);
        }
    }
}
