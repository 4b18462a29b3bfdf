//! What clients send, as the domain takes it.

use std::borrow::Cow;

use agentflow_memory::{Speech, filter};
use agentflow_storage::memories::{Owner, OwnerKind};
use agentflow_types::{Error, Map, Result, Timestamp, Value};

/// Microseconds of the years 1 to 9998, which all texts of moments can say.
const YEARS: std::ops::Range<i64> = -62_135_596_800_000_000..253_370_764_800_000_000;

/// Messages: a text, one message, or a list.
///
/// # Errors
/// `Invalid` for something else.
pub(crate) fn messages(given: &Value) -> Result<Vec<Speech>> {
    match given {
        Value::Str(text) => Ok(vec![Speech {
            role: "user".into(),
            content: text.to_string(),
            name: None,
        }]),
        Value::Map(one) => Ok(vec![message(one)?]),
        Value::List(many) => many
            .iter()
            .map(|one| match one {
                Value::Map(one) => message(one),
                _ => Err(Error::invalid(
                    "each message must be an object with role and content",
                )),
            })
            .collect(),
        Value::Null => Err(Error::invalid("messages must not be empty")),
        _ => Err(Error::invalid(
            "messages must be a text, an object or a list of objects",
        )),
    }
}

fn message(one: &Map) -> Result<Speech> {
    let text = |key: &str| one.get(key).and_then(Value::as_str);
    let role = text("role").unwrap_or("user");
    let content = match one.get("content") {
        None | Some(Value::Null) => String::new(),
        Some(Value::Str(text)) => text.to_string(),
        // Parts: what is text counts, pictures do not.
        Some(Value::List(parts)) => {
            let parts = parts.iter().filter_map(|part| {
                part.as_str()
                    .or_else(|| part.get("text").and_then(Value::as_str))
            });
            parts.collect::<Vec<_>>().join("\n")
        }
        Some(_) => return Err(Error::invalid("the content of a message must be a text")),
    };
    Ok(Speech {
        role: role.to_owned(),
        content,
        name: text("name").map(str::to_owned),
    })
}

/// Who is named beside the filters, or in them where all must hold.
///
/// # Errors
/// `Invalid` if a name is no text.
pub(crate) fn owner(beside: [Option<Value>; 4], filters: Option<&Map>) -> Result<Owner> {
    let mut owner = Owner::default();
    if let Some(filters) = filters {
        owner_in(filters, &mut owner)?;
    }
    for (kind, value) in OwnerKind::ALL.into_iter().zip(beside) {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            owner.set(kind, Some(name(kind, &value)?));
        }
    }
    Ok(owner)
}

fn owner_in(filters: &Map, owner: &mut Owner) -> Result<()> {
    for (key, value) in filters {
        let kind = OwnerKind::ALL.into_iter().find(|kind| {
            let camel = kind.field().replace("_id", "Id");
            &**key == kind.field() || **key == *camel
        });
        match (kind, &**key) {
            (Some(kind), _) if !value.is_null() => owner.set(kind, Some(name(kind, value)?)),
            (None, "AND" | "and") => {
                for part in value.as_list().unwrap_or_default() {
                    if let Some(part) = part.as_map() {
                        owner_in(part, owner)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn name(kind: OwnerKind, value: &Value) -> Result<String> {
    match value {
        Value::Str(name) => Ok(name.to_string()),
        Value::Int(number) => Ok(number.to_string()),
        _ => Err(Error::invalid(format!("{} must be a text", kind.field()))),
    }
}

/// Categories: `[{name: what}]` or `{name: what}`.
///
/// # Errors
/// `Invalid` for something else.
pub(super) fn categories(given: Option<&Value>) -> Result<Vec<(String, String)>> {
    let wrong = || Error::invalid("custom_categories must be a list of {name: description}");
    let pairs = |map: &Map| -> Result<Vec<(String, String)>> {
        map.iter()
            .map(|(name, what)| {
                let what = what.as_str().ok_or_else(wrong)?;
                Ok((name.to_string(), what.to_owned()))
            })
            .collect()
    };
    match given {
        None | Some(Value::Null) => Ok(vec![]),
        Some(Value::Map(map)) => pairs(map),
        Some(Value::List(list)) => {
            let all = list
                .iter()
                .map(|one| pairs(one.as_map().ok_or_else(wrong)?));
            Ok(all.collect::<Result<Vec<_>>>()?.concat())
        }
        Some(_) => Err(wrong()),
    }
}

/// A moment: seconds, a date, or a time of ISO 8601.
///
/// # Errors
/// `Invalid` for something else.
pub(super) fn moment(name: &str, given: Option<&Value>) -> Result<Option<Timestamp>> {
    let found = any_moment(name, given)?;
    match found.is_some_and(|at| !YEARS.contains(&at.0)) {
        true => Err(Error::invalid(format!(
            "{name} must be in the years 1 to 9998"
        ))),
        false => Ok(found),
    }
}

fn any_moment(name: &str, given: Option<&Value>) -> Result<Option<Timestamp>> {
    let wrong = || {
        Error::invalid(format!(
            "{name} must be seconds, a date or an ISO 8601 time"
        ))
    };
    match given {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Int(seconds)) => {
            let micros = seconds.checked_mul(1_000_000).ok_or_else(wrong)?;
            Ok(Some(Timestamp(micros)))
        }
        Some(Value::Float(seconds)) if seconds.is_finite() && seconds.abs() < 1e12 => {
            Ok(Some(Timestamp((seconds * 1e6) as i64)))
        }
        Some(Value::Str(text)) => {
            let whole = match text.len() {
                10 if !text.bytes().all(|byte| byte.is_ascii_digit()) => {
                    Cow::Owned(format!("{text}T00:00:00Z"))
                }
                _ => Cow::Borrowed(&**text),
            };
            if let Ok(seconds) = whole.parse::<f64>() {
                return any_moment(name, Some(&Value::Float(seconds)));
            }
            whole.parse().map(Some).map_err(|_| wrong())
        }
        Some(_) => Err(wrong()),
    }
}

/// The filter of a read: what the client filters by, and metadata beside it.
///
/// # Errors
/// `Invalid` for a filter that the platform's dialect does not have.
pub(super) fn platform_filter(
    filters: Option<Map>,
    more: impl IntoIterator<Item = Map>,
) -> Result<Map> {
    let filters = filters.unwrap_or_default();
    filter::check_platform(&filters)?;
    let parts: Vec<Value> = std::iter::once(filters)
        .chain(more)
        .map(Value::map)
        .collect();
    Ok([("AND".into(), Value::list(parts))].into())
}

/// A filter of one test.
pub(crate) fn only(key: &str, value: Value) -> Map {
    [(key.into(), value)].into()
}

/// Filters in a query: JSON, or what Python prints for a dictionary.
///
/// # Errors
/// `Invalid` if it is neither.
pub(super) fn filters_text(text: &str) -> Result<Map> {
    let wrong = || Error::invalid("filters must be a JSON object").with("found", text);
    let json = match serde_json::from_str::<Value>(text) {
        Ok(json) => json,
        Err(_) => {
            let json = python_as_json(text).ok_or_else(wrong)?;
            serde_json::from_str(&json).map_err(|_| wrong())?
        }
    };
    json.as_map().cloned().ok_or_else(wrong)
}

/// What Python prints, as JSON text: quotes, and the words for yes, no and nothing. What comes
/// out is parsed as JSON, so a mistake here is an error, never another filter.
fn python_as_json(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\'' | '"' => {
                let mut inner = String::new();
                loop {
                    match rest.next()? {
                        '\\' => inner.push(match rest.next()? {
                            'n' => '\n',
                            't' => '\t',
                            'r' => '\r',
                            same @ ('\\' | '\'' | '"') => same,
                            _ => return None,
                        }),
                        end if end == c => break,
                        other => inner.push(other),
                    }
                }
                out.push_str(&Value::str(inner).json_text());
            }
            c if c.is_ascii_alphabetic() => {
                let mut word = String::from(c);
                while let Some(more) = rest.next_if(char::is_ascii_alphabetic) {
                    word.push(more);
                }
                out.push_str(match word.as_str() {
                    "True" => "true",
                    "False" => "false",
                    "None" => "null",
                    _ => return None,
                });
            }
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    #[test]
    fn filters_are_read_from_json_and_from_what_python_prints() {
        for (text, want) in [
            (r#"{"user_id":"a"}"#, value!({"user_id": "a"})),
            ("{'user_id': 'a'}", value!({"user_id": "a"})),
            (
                r#"{'user_id': "o'neil", 'AND': [{'run_id': None}, {'x': True}]}"#,
                value!({"user_id": "o'neil", "AND": [{"run_id": null}, {"x": true}]}),
            ),
            (r"{'user_id': 'a\'b\\c'}", value!({"user_id": "a'b\\c"})),
        ] {
            let found = filters_text(text).unwrap();
            assert_eq!(Value::map(found), want, "{text}");
        }
        for wrong in ["", "x", "[]", "{'a': b}", "{'a", "{user_id: 'a'}", "'a'"] {
            assert!(filters_text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn moments_come_in_many_forms() {
        let day = Timestamp(1_767_225_600_000_000);
        for given in [
            value!(1_767_225_600),
            value!(1_767_225_600.0),
            value!("1767225600"),
            value!("2026-01-01"),
            value!("2026-01-01T00:00:00Z"),
            value!("2026-01-01T01:00:00+01:00"),
        ] {
            assert_eq!(moment("t", Some(&given)).unwrap(), Some(day), "{given}");
        }
        assert_eq!(moment("t", None).unwrap(), None);
        for wrong in [
            value!("soon"),
            value!(true),
            value!(1e300),
            value!(9e11),
            value!(i64::MAX),
            value!([]),
        ] {
            assert!(moment("t", Some(&wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn owners_are_named_beside_the_filters_or_in_them() {
        let none = || [None, None, None, None];
        let filters = value!({"userId": "a", "AND": [{"run_id": 7}], "OR": [{"agent_id": "no"}]});
        let found = owner(none(), filters.as_map()).unwrap();
        assert_eq!(found.user_id.as_deref(), Some("a"));
        assert_eq!(found.run_id.as_deref(), Some("7"));
        assert_eq!(found.agent_id, None);
        let beside = [Some(value!("b")), None, None, None];
        let found = owner(beside, filters.as_map()).unwrap();
        assert_eq!(found.user_id.as_deref(), Some("b"));
        assert!(owner([Some(value!([])), None, None, None], None).is_err());
    }
}
