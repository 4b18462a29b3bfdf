//! Filters of clients: one grammar, a superset of the dialects that Mem0's clients speak.
//!
//! ```text
//! filter := { (logic | field)* }                      all of them
//! logic  := "AND": [filter…] | "OR": [filter…] | "NOT": filter | [filter…]
//! field  := name: value | [value…] | "*" | { operator: value, … }
//! ```
//!
//! Nothing is merged by key: what stands beside each other must hold together. Who calls adds the
//! project at the root, and the records add the tenant, where no filter reaches.

use agentflow_storage::{
    condition::{Case, Condition, Field, Order},
    memories::OwnerKind,
};
use agentflow_types::{Error, Map, Result, Timestamp, Value};

/// Deepest nesting of a filter.
const MAX_DEPTH: usize = 16;
/// Fields that hold moments.
const MOMENTS: [&str; 3] = ["created_at", "updated_at", "timestamp"];
/// Fields that hold one text or a list of texts.
const TEXTS: [&str; 8] = [
    "user_id",
    "agent_id",
    "app_id",
    "run_id",
    "expiration_date",
    "actor_id",
    "role",
    "hash",
];

/// Reads a filter.
///
/// # Errors
/// `Invalid` for an operator or shape that no dialect has, and for what an index cannot evaluate.
pub fn read(filter: &Map) -> Result<Condition> {
    let condition = all(filter, 0)?;
    condition.check()?;
    Ok(condition)
}

/// Keys that a filter of the platform's dialect may have.
const PLATFORM: [&str; 17] = [
    "AND",
    "OR",
    "NOT",
    "user_id",
    "agent_id",
    "app_id",
    "run_id",
    "created_at",
    "updated_at",
    "timestamp",
    "expiration_date",
    "text",
    "categories",
    "metadata",
    "keywords_search",
    "memory_ids",
    "keywords",
];

/// Checks a filter of the platform's dialect, where metadata is filtered under `metadata` only,
/// and somebody must be named.
///
/// # Errors
/// `Invalid` with the keys that exist, or what is missing.
pub fn check_platform(filter: &Map) -> Result<()> {
    check_keys(filter, 0)?;
    match names_owner(filter) {
        true => Ok(()),
        false => Err(Error::invalid(
            "filters must name at least one of user_id, agent_id, app_id, run_id",
        )),
    }
}

fn check_keys(filter: &Map, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::invalid("the filter is nested too deep").with("limit", MAX_DEPTH));
    }
    for (key, value) in filter {
        if matches!(&**key, "AND" | "OR" | "NOT" | "and" | "or" | "not") {
            let parts = value.as_list().unwrap_or(std::slice::from_ref(value));
            for part in parts.iter().filter_map(Value::as_map) {
                check_keys(part, depth + 1)?;
            }
        } else if !PLATFORM.contains(&name(key)) {
            return Err(Error::invalid(format!(
                "Top-level key must be a logical operator or an allowed field: {PLATFORM:?}"
            ))
            .with("key", key));
        }
    }
    Ok(())
}

/// Whether all that meets a filter has an owner that the filter names, of whatever kind.
#[must_use]
pub fn names_owner(filter: &Map) -> bool {
    let part = |part: &Value| part.as_map().is_some_and(names_owner);
    filter.iter().any(|(key, value)| {
        let mut parts = value.as_list().unwrap_or_default().iter();
        match &**key {
            "AND" | "and" => parts.any(part),
            "OR" | "or" => parts.len() > 0 && parts.all(part),
            _ => OwnerKind::ALL
                .into_iter()
                .any(|kind| gives(key, value, kind)),
        }
    })
}

/// Owners that every match has, because the filter names them (`*` counts) where all must hold, or
/// in each branch of an `OR`. What an owner is not does not count.
#[must_use]
pub fn owners(filter: &Map) -> Vec<OwnerKind> {
    let is_given = |kind: &OwnerKind| filter.iter().any(|(key, value)| gives(key, value, *kind));
    OwnerKind::ALL.into_iter().filter(is_given).collect()
}

/// Whether all that meets this part of a filter has an owner of this kind.
fn gives(key: &str, value: &Value, kind: OwnerKind) -> bool {
    let mut parts = value.as_list().unwrap_or_default().iter();
    let part = |part: &Value| {
        part.as_map()
            .is_some_and(|part| owners(part).contains(&kind))
    };
    match key {
        "AND" | "and" => parts.any(part),
        "OR" | "or" => parts.len() > 0 && parts.all(part),
        "NOT" | "not" => false,
        _ => {
            let is_negative = |map: &Map| map.keys().all(|key| matches!(&**key, "ne" | "nin"));
            name(key) == kind.field() && !value.as_map().is_some_and(is_negative)
        }
    }
}

/// The name of a field as records have it: clients in JavaScript write `userId`.
fn name(key: &str) -> &str {
    match key {
        "userId" => "user_id",
        "agentId" => "agent_id",
        "appId" => "app_id",
        "runId" | "session_id" | "sessionId" => "run_id",
        "createdAt" => "created_at",
        "updatedAt" => "updated_at",
        "expirationDate" => "expiration_date",
        "memoryIds" => "memory_ids",
        other => other,
    }
}

fn all(filter: &Map, depth: usize) -> Result<Condition> {
    if depth > MAX_DEPTH {
        return Err(Error::invalid("the filter is nested too deep").with("limit", MAX_DEPTH));
    }
    let parts = filter.iter().map(|(key, value)| match &**key {
        "AND" | "and" => list(key, value, depth).map(Condition::All),
        "OR" | "or" => list(key, value, depth).map(Condition::Any),
        "NOT" | "not" => match value {
            Value::Map(one) => Ok(all(one, depth + 1)?.negated()),
            _ => Ok(Condition::Any(list(key, value, depth)?).negated()),
        },
        key => field(name(key), value),
    });
    parts.collect::<Result<_>>().map(Condition::All)
}

fn list(key: &str, value: &Value, depth: usize) -> Result<Vec<Condition>> {
    let wrong = || Error::invalid(format!("{key} must be a list of filters"));
    let parts = value.as_list().ok_or_else(wrong)?;
    parts
        .iter()
        .map(|part| all(part.as_map().ok_or_else(wrong)?, depth + 1))
        .collect()
}

fn field(name: &str, value: &Value) -> Result<Condition> {
    match name {
        "memory_ids" | "memory_id" => tests("memory_id", &Field::of("memory_id"), value),
        "keywords" | "text" | "keywords_search" => match value {
            Value::Str(words) => Ok(includes(&Field::of("text"), words, Case::Ignored)),
            _ => tests(name, &Field::of("text"), value),
        },
        "categories" => match value {
            Value::Str(_) | Value::List(_) | Value::Map(_) => {
                tests(name, &Field::of("categories"), value)
            }
            _ => Err(Error::invalid("categories are texts")),
        },
        "metadata" => metadata(value),
        _ if MOMENTS.contains(&name) || TEXTS.contains(&name) => {
            tests(name, &Field::of(name), value)
        }
        // The self-hosted dialect filters by any key of the metadata.
        other => tests(other, &Field::within(&["metadata", other]), value),
    }
}

fn metadata(value: &Value) -> Result<Condition> {
    let map = value
        .as_map()
        .ok_or_else(|| Error::invalid("metadata in a filter is an object"))?;
    let parts = map
        .iter()
        .map(|(key, value)| tests(key, &Field::within(&["metadata", key]), value));
    parts.collect::<Result<_>>().map(Condition::All)
}

/// The tests of one field.
fn tests(name: &str, field: &Field, value: &Value) -> Result<Condition> {
    match value {
        Value::Str(star) if &**star == "*" => Ok(Condition::Exists(field.clone())),
        Value::List(items) => Ok(Condition::In(field.clone(), scalars(name, items)?)),
        Value::Map(operators) => {
            let parts = operators
                .iter()
                .map(|(operator, value)| test(name, field, operator, value));
            parts.collect::<Result<_>>().map(Condition::All)
        }
        Value::Null => Ok(Condition::Exists(field.clone()).negated()),
        bare => equals(name, field, bare),
    }
}

fn test(name: &str, field: &Field, operator: &str, value: &Value) -> Result<Condition> {
    let order = |order| {
        Ok(Condition::Compares(
            field.clone(),
            order,
            scalar(name, value)?,
        ))
    };
    let items = || {
        let items = value.as_list();
        let items = items.ok_or_else(|| Error::invalid(format!("{operator} takes a list")))?;
        Ok(Condition::In(field.clone(), scalars(name, items)?))
    };
    let text = || {
        let text = value.as_str();
        text.ok_or_else(|| Error::invalid(format!("{operator} takes a text")))
    };
    match operator.trim_start_matches('$') {
        "eq" => equals(name, field, value),
        "ne" => Ok(equals(name, field, value)?.negated()),
        "gt" => order(Order::Greater),
        "gte" => order(Order::GreaterOrEqual),
        "lt" => order(Order::Less),
        "lte" => order(Order::LessOrEqual),
        "in" => items(),
        "nin" => Ok(items()?.negated()),
        // Categories are found whatever their capitals.
        "contains" if name == "categories" => Ok(includes(field, text()?, Case::Ignored)),
        "contains" => Ok(includes(field, text()?, Case::Exact)),
        "icontains" => Ok(includes(field, text()?, Case::Ignored)),
        _ => Err(Error::invalid(format!(
            "unknown filter operator `{operator}` for `{name}`; known are eq, ne, gt, gte, lt, \
            lte, in, nin, contains, icontains"
        ))),
    }
}

fn includes(field: &Field, text: &str, case: Case) -> Condition {
    Condition::Includes(field.clone(), text.to_owned(), case)
}

fn equals(name: &str, field: &Field, value: &Value) -> Result<Condition> {
    if value.is_null() {
        return Ok(Condition::Exists(field.clone()).negated());
    }
    // An index has no equality for floats; a number between two bounds is the same.
    if let Value::Float(_) = value {
        let bound = |order| Condition::Compares(field.clone(), order, value.clone());
        let both = vec![bound(Order::LessOrEqual), bound(Order::GreaterOrEqual)];
        return Ok(Condition::All(both));
    }
    // A day equals every moment in it.
    if MOMENTS.contains(&name)
        && let Some(day) = value.as_str().filter(|text| text.len() == 10)
    {
        let bound =
            |order, text: String| Condition::Compares(field.clone(), order, Value::str(text));
        return Ok(Condition::All(vec![
            bound(Order::GreaterOrEqual, scalar_text(day)?),
            bound(Order::LessOrEqual, format!("{day}T23:59:59.999999+00:00")),
        ]));
    }
    Ok(Condition::Equals(field.clone(), scalar(name, value)?))
}

fn scalars(name: &str, items: &[Value]) -> Result<Vec<Value>> {
    items.iter().map(|item| scalar(name, item)).collect()
}

/// A value as payloads have it.
fn scalar(name: &str, value: &Value) -> Result<Value> {
    if MOMENTS.contains(&name) {
        return match value {
            Value::Str(text) => Ok(Value::str(scalar_text(text)?)),
            Value::Int(_) | Value::Float(_) => {
                let seconds = value.as_f64().unwrap_or_default();
                Ok(Value::str(Timestamp((seconds * 1e6) as i64).to_string()))
            }
            _ => Err(Error::invalid(format!(
                "{name} is a date, a time or seconds"
            ))),
        };
    }
    match value {
        Value::Str(_) | Value::Int(_) | Value::Float(_) | Value::Bool(_) => Ok(value.clone()),
        _ => Err(Error::invalid(format!(
            "this is no value to compare `{name}` with"
        ))),
    }
}

/// A moment in the one form that compares as text.
fn scalar_text(text: &str) -> Result<String> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00"),
        _ => text.to_owned(),
    };
    let moment: Timestamp = whole
        .parse()
        .map_err(|_| Error::invalid("not a date or an ISO 8601 time").with("text", text))?;
    Ok(moment.to_string())
}

#[cfg(test)]
mod tests_of_filters {
    use agentflow_types::value;

    use super::*;

    fn holds(filter: Value, payload: Value) -> bool {
        let condition = read(filter.as_map().unwrap()).unwrap();
        condition.holds(payload.as_map().unwrap())
    }

    #[test]
    fn nothing_is_merged_by_key() {
        let filter = value!({"user_id": "alice", "AND": [{"user_id": "victim"}]});
        for user in ["alice", "victim"] {
            assert!(!holds(filter.clone(), value!({"user_id": user})));
        }
        let filter = value!({"AND": [{"categories": "a"}, {"categories": "b"}]});
        assert!(!holds(filter.clone(), value!({"categories": ["b"]})));
        assert!(holds(filter, value!({"categories": ["b", "a"]})));
        let filter = value!({"AND": [{"user_id": "a"}], "OR": [{"run_id": "x"}, {"run_id": "y"}]});
        assert!(!holds(
            filter.clone(),
            value!({"user_id": "a", "run_id": "z"})
        ));
        assert!(holds(filter, value!({"user_id": "a", "run_id": "y"})));
    }

    #[test]
    fn both_dialects_are_read() {
        let mine = value!({"user_id": "a", "metadata": {"n": 3, "f": 1.5, "t": "Abc"},
            "categories": ["food"], "text": "Likes Tea",
            "created_at": "2026-05-08T10:00:00.000000+00:00"});
        for (filter, wanted) in [
            (value!({"user_id": "*"}), true),
            (value!({"run_id": "*"}), false),
            (value!({"run_id": {"ne": "x"}}), true),
            (value!({"userId": {"in": ["a", "b"]}}), true),
            (value!({"NOT": {"user_id": "a"}}), false),
            (value!({"NOT": [{"user_id": "b"}, {"user_id": "c"}]}), true),
            (value!({"metadata": {"n": 3}}), true),
            (value!({"metadata": {"n": {"ne": 3}}}), false),
            (value!({"n": {"gte": 2, "lt": 3}}), false),
            (value!({"f": 1.5}), true),
            (value!({"t": {"contains": "bc"}}), true),
            (value!({"t": {"icontains": "ABC"}}), true),
            (value!({"t": {"nin": ["x"]}}), true),
            (value!({"categories": {"in": ["food", "x"]}}), true),
            (value!({"categories": {"contains": "FOO"}}), true),
            (value!({"keywords": {"icontains": "tea"}}), true),
            (value!({"keywords": {"contains": "tea"}}), false),
            (
                value!({"created_at": {"gte": "2026-05-08", "lt": "2026-05-09"}}),
                true,
            ),
            (value!({"created_at": "2026-05-08"}), true),
            (
                value!({"created_at": {"gt": "2026-05-08T10:00:00Z"}}),
                false,
            ),
            (value!({}), true),
        ] {
            assert_eq!(holds(filter.clone(), mine.clone()), wanted, "{filter}");
        }
    }

    #[test]
    fn what_no_dialect_has_is_refused() {
        for wrong in [
            value!({"user_id": {"like": "a"}}),
            value!({"AND": {"user_id": "a"}}),
            value!({"OR": ["a"]}),
            value!({"created_at": {"gt": "soon"}}),
            value!({"metadata": "x"}),
            value!({"user_id": {"in": "a"}}),
            value!({"categories": 1}),
        ] {
            assert!(read(wrong.as_map().unwrap()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_platform_knows_its_keys_and_wants_an_owner() {
        for (filter, wanted) in [
            (value!({"user_id": "a"}), ""),
            (value!({"userId": "a", "metadata": {"x": 1}}), ""),
            (value!({"OR": [{"user_id": "a"}, {"agent_id": "b"}]}), ""),
            (
                value!({"OR": [{"user_id": "a"}, {"categories": {"in": ["b"]}}]}),
                "must name",
            ),
            (value!({"NOT": [{"user_id": "a"}]}), "must name"),
            (value!({}), "must name"),
            (value!({"user_id": "a", "colour": "red"}), "allowed field"),
            (
                value!({"AND": [{"user_id": "a"}, {"colour": "red"}]}),
                "allowed field",
            ),
        ] {
            let checked = check_platform(filter.as_map().unwrap());
            let text = checked.err().map(|err| err.to_string()).unwrap_or_default();
            assert_eq!(text.is_empty(), wanted.is_empty(), "{filter}: {text}");
            assert!(text.contains(wanted), "{filter}: {text}");
        }
    }

    #[test]
    fn owners_that_every_match_has_are_seen() {
        use OwnerKind::{Agent, Run, User};
        for (filter, wanted) in [
            (
                value!({"AND": [{"user_id": "a"}, {"OR": [{"runId": "x"}]}]}),
                vec![User, Run],
            ),
            (
                value!({"user_id": "*", "agent_id": {"in": ["a", "b"]}}),
                vec![User, Agent],
            ),
            (
                value!({"OR": [{"user_id": "a"}, {"agent_id": "b"}]}),
                vec![],
            ),
            (
                value!({"OR": [{"user_id": "a"}, {"user_id": "b", "run_id": "x"}]}),
                vec![User],
            ),
            (value!({"OR": []}), vec![]),
            (value!({"NOT": {"user_id": "a"}}), vec![]),
            (value!({"user_id": {"ne": "a"}}), vec![]),
            (value!({"metadata": {"user_id": "x"}}), vec![]),
        ] {
            let mut found = owners(filter.as_map().unwrap());
            found.sort_unstable();
            assert_eq!(found, wanted, "{filter:?}");
        }
    }
}
