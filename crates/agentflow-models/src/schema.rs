//! JSON Schemas of structured answers. Pure.

use serde_json::Value as Json;

/// Deepest schema that is looked through.
const DEPTH: usize = 32;

/// Whether a schema satisfies the rules for strict output, which OpenAI and Anthropic share:
/// every object closed, every property required. Others are refused when sent as strict.
pub(crate) fn is_strict(schema: &Json) -> bool {
    strict_to(schema, DEPTH)
}

/// As [`is_strict`], to a depth.
fn strict_to(schema: &Json, depth: usize) -> bool {
    if depth == 0 {
        return false;
    }
    match schema {
        Json::Array(items) => items.iter().all(|item| strict_to(item, depth - 1)),
        Json::Object(map) => {
            let closed = match map.get("properties").and_then(Json::as_object) {
                Some(properties) => {
                    let required = map.get("required").and_then(Json::as_array);
                    map.get("additionalProperties") == Some(&Json::Bool(false))
                        && properties.keys().all(|key| {
                            required.is_some_and(|names| names.iter().any(|name| name == key))
                        })
                }
                None => map.get("type").and_then(Json::as_str) != Some("object"),
            };
            closed && map.values().all(|value| strict_to(value, depth - 1))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_closed_schemas_are_strict() {
        for (schema, want) in [
            (
                json!({"type": "object", "properties": {"a": {"type": "string"}},
                "required": ["a"], "additionalProperties": false}),
                true,
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string"}},
                "additionalProperties": false}),
                false,
            ),
            (
                json!({"type": "object", "properties": {}, "required": []}),
                false,
            ),
            (json!({"type": "array", "items": {"type": "object"}}), false),
            (json!({"type": "string"}), true),
        ] {
            assert_eq!(is_strict(&schema), want, "{schema}");
        }
    }
}
