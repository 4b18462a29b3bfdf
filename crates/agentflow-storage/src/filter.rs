//! Conditions that every backend evaluates alike: JSON containment, item filters, namespace
//! patterns, page bounds. Pure functions.

use std::cmp::Ordering;

use agentflow_types::{Error, Map, Result, Value};

use crate::page::{MAX_LIMIT, PageQuery};

/// Most labels of a namespace, and most parts of a namespace pattern.
pub const MAX_LABELS: usize = 64;
/// Most bytes of one label or key.
pub const MAX_LABEL_BYTES: usize = 1024;

/// The value as JSON keeps it: typed values become their content, bytes become base64 text, and
/// so on. Records (not checkpoints) are stored in this form.
#[must_use]
pub fn normal(value: &Value) -> Value {
    if is_json(value) {
        value.clone()
    } else {
        Value::from_json(&value.to_json())
    }
}

/// [`normal`] for each entry of a map.
#[must_use]
pub fn normal_map(map: &Map) -> Map {
    map.iter()
        .map(|(key, value)| (key.clone(), normal(value)))
        .collect()
}

fn is_json(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Str(_) => true,
        Value::Float(n) => n.is_finite(),
        Value::List(items) => items.iter().all(is_json),
        Value::Map(map) => map.values().all(is_json),
        Value::Bytes(_) | Value::Pairs(_) | Value::Typed(_) | Value::Ext(..) => false,
    }
}

/// Whether two JSON values are equal as `jsonb` sees them: numbers by their amount (`1` equals
/// `1.0`), maps whatever their order.
#[must_use]
pub fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| equal(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => match (number(left), number(right)) {
            (Some(a), Some(b)) => a.compare(b) == Some(Ordering::Equal),
            _ => left == right,
        },
    }
}

/// Whether `whole` contains `part` as PostgreSQL's `@>` defines it below the top level: a map
/// contains a map if it has every entry; a list contains a list if each of its items is contained
/// in some item, in any order; scalars must be equal.
#[must_use]
pub fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Map(whole), Value::Map(part)) => contains_map(whole, part),
        (Value::List(whole), Value::List(part)) => part.iter().all(|wanted| {
            whole.iter().any(|item| match wanted {
                Value::Map(_) | Value::List(_) => contains(item, wanted),
                scalar => equal(item, scalar),
            })
        }),
        _ => equal(whole, part),
    }
}

/// [`contains`] for two maps; an empty `part` is contained in everything.
#[must_use]
pub fn contains_map(whole: &Map, part: &Map) -> bool {
    part.iter()
        .all(|(key, wanted)| whole.get(key).is_some_and(|found| contains(found, wanted)))
}

/// Whether `whole` has every entry of `part`, each [`equal`].
#[must_use]
pub fn has_entries(whole: &Map, part: &Map) -> bool {
    part.iter()
        .all(|(key, wanted)| whole.get(key).is_some_and(|found| equal(found, wanted)))
}

#[derive(Clone, Copy)]
enum Number {
    Whole(i128),
    Float(f64),
}

impl Number {
    /// Compares exactly: a large integer is not rounded to the float's precision first.
    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a.cmp(&b)),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(&b),
            (Self::Whole(a), Self::Float(b)) => compare_mixed(a, b),
            (Self::Float(a), Self::Whole(b)) => compare_mixed(b, a).map(Ordering::reverse),
        }
    }
}

fn compare_mixed(whole: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    // Integers of values stay within 65 bits, so saturating the float loses no order.
    let floor = float.floor() as i128;
    Some(whole.cmp(&floor).then(if float > float.floor() {
        Ordering::Less
    } else {
        Ordering::Equal
    }))
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Int(n) => Some(Number::Whole((*n).into())),
        Value::UInt(n) => Some(Number::Whole((*n).into())),
        Value::Float(n) => Some(Number::Float(*n)),
        _ => None,
    }
}

/// Order of two values of one kind (numbers by amount, text by code points); `None` for others.
#[must_use]
pub fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => number(left)?.compare(number(right)?),
    }
}

/// Checks the operators of an item filter.
///
/// # Errors
/// `Invalid` if a condition names an operator other than `$eq`, `$ne`, `$gt`, `$gte`, `$lt`,
/// `$lte`.
pub fn check_item_filter(filter: &Map) -> Result<()> {
    for condition in filter.values() {
        for operator in operators(condition).into_iter().flat_map(Map::keys) {
            if !matches!(&**operator, "$eq" | "$ne" | "$gt" | "$gte" | "$lt" | "$lte") {
                return Err(Error::invalid("unknown filter operator").with("operator", operator));
            }
        }
    }
    Ok(())
}

/// The operators of a condition, if it is a map in which some key starts with `$`.
fn operators(condition: &Value) -> Option<&Map> {
    match condition {
        Value::Map(map) if map.keys().any(|key| key.starts_with('$')) => Some(map),
        _ => None,
    }
}

/// Whether an item's value meets every condition of a filter. A field that is absent counts as
/// null. Order operators hold only between values of one kind.
#[must_use]
pub fn item_matches(value: &Map, filter: &Map) -> bool {
    filter.iter().all(|(field, condition)| {
        let found = value.get(field).unwrap_or(&Value::Null);
        match operators(condition) {
            None => equal(found, condition),
            Some(map) => map
                .iter()
                .all(|(operator, wanted)| holds(found, operator, wanted)),
        }
    })
}

fn holds(found: &Value, operator: &str, wanted: &Value) -> bool {
    match operator {
        "$eq" => equal(found, wanted),
        "$ne" => !equal(found, wanted),
        "$gt" => compare(found, wanted) == Some(Ordering::Greater),
        "$gte" => compare(found, wanted).is_some_and(Ordering::is_ge),
        "$lt" => compare(found, wanted) == Some(Ordering::Less),
        "$lte" => compare(found, wanted).is_some_and(Ordering::is_le),
        _ => false,
    }
}

/// Whether a namespace starts with `prefix` and ends with `suffix`; `*` matches any one label.
#[must_use]
pub fn namespace_matches(namespace: &[String], prefix: &[String], suffix: &[String]) -> bool {
    let same = |(label, pattern): (&String, &String)| pattern == "*" || label == pattern;
    prefix.len() <= namespace.len()
        && suffix.len() <= namespace.len()
        && namespace.iter().zip(prefix).all(same)
        && namespace.iter().rev().zip(suffix.iter().rev()).all(same)
}

/// Checks the labels of an item's namespace.
///
/// # Errors
/// `Invalid` if there is no label, a label is empty, holds a dot or is too long.
pub fn check_namespace(namespace: &[String]) -> Result<()> {
    if namespace.is_empty() {
        return Err(Error::invalid("a namespace needs at least one label"));
    }
    check_labels(namespace)
}

/// Checks the labels of a namespace prefix or pattern, which may be empty.
///
/// # Errors
/// `Invalid` if a label is empty, holds a dot or is too long, or there are too many.
pub fn check_labels(labels: &[String]) -> Result<()> {
    if labels.len() > MAX_LABELS {
        return Err(Error::invalid("too many namespace labels").with("limit", MAX_LABELS));
    }
    for label in labels {
        if label.is_empty() || label.contains('.') || label.contains('\0') {
            return Err(Error::invalid("a namespace label is empty or holds a dot")
                .with("label", format!("{label:?}")));
        }
        if label.len() > MAX_LABEL_BYTES {
            return Err(Error::invalid("a namespace label is too long")
                .with("limit_bytes", MAX_LABEL_BYTES));
        }
    }
    Ok(())
}

/// Checks the bounds of a page and that its sort column is one of `columns`.
///
/// # Errors
/// `Invalid` if not.
pub fn check_page(page: &PageQuery, columns: &[&str]) -> Result<()> {
    if !columns.contains(&page.sort_by.as_str()) {
        return Err(Error::invalid("unknown sort column").with("column", &page.sort_by));
    }
    if page.limit == 0 || page.limit > MAX_LIMIT {
        return Err(Error::invalid("page limit out of range")
            .with("limit", page.limit)
            .with("max", MAX_LIMIT));
    }
    Ok(())
}

/// Sort columns of [`crate::record::Assistants::search`].
pub const ASSISTANT_COLUMNS: &[&str] = &[
    "assistant_id",
    "created_at",
    "updated_at",
    "name",
    "graph_id",
];
/// Sort columns of [`crate::record::Threads::search`].
pub const THREAD_COLUMNS: &[&str] = &[
    "thread_id",
    "status",
    "created_at",
    "updated_at",
    "state_updated_at",
];
/// Sort columns of [`crate::account::Tenants::search`].
pub const TENANT_COLUMNS: &[&str] = &["tenant", "created_at"];
/// Sort columns of [`crate::account::Users::search`] and [`crate::account::Keys::search`].
pub const ACCOUNT_COLUMNS: &[&str] = &["name", "created_at"];
/// Sort columns of [`crate::cron::Crons::search`].
pub const CRON_COLUMNS: &[&str] = &[
    "cron_id",
    "assistant_id",
    "thread_id",
    "next_run_date",
    "end_time",
    "created_at",
    "updated_at",
];

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    #[track_caller]
    fn check(whole: Value, part: Value, expected: bool) {
        assert_eq!(contains(&whole, &part), expected, "{whole} @> {part}");
    }

    #[test]
    fn containment_is_the_one_of_jsonb() {
        check(value!({"a": 1, "b": 2}), value!({"a": 1}), true);
        check(
            value!({"a": {"b": {"c": 1, "d": 2}}}),
            value!({"a": {"b": {"c": 1}}}),
            true,
        );
        check(value!({"a": [1, 2, 3]}), value!({"a": [3, 1, 1]}), true);
        check(value!({"a": [1, 2, [1, 3]]}), value!({"a": [1, 3]}), false);
        check(value!({"a": [[1, 2, 3]]}), value!({"a": [[2]]}), true);
        check(value!({"a": ["b"]}), value!({"a": "b"}), false);
        check(value!({"a": 1}), value!({"a": 1.0}), true);
        check(value!({"a": 1}), value!({"a": true}), false);
        check(value!({"a": null}), value!({"b": null}), false);
        check(
            value!({"a": [{"x": 1, "y": 2}]}),
            value!({"a": [{"x": 1}]}),
            true,
        );
        check(value!({"a": []}), value!({"a": {}}), false);
        check(value!([1]), value!([]), true);
    }

    #[test]
    fn large_integers_are_not_rounded() {
        assert!(!equal(
            &value!(9007199254740993_i64),
            &value!(9007199254740992.0)
        ));
        assert!(equal(
            &value!(9007199254740992_i64),
            &value!(9007199254740992.0)
        ));
        assert_eq!(compare(&value!(2), &value!(2.5)), Some(Ordering::Less));
        assert_eq!(compare(&value!(-2), &value!(-2.5)), Some(Ordering::Greater));
        assert_eq!(
            compare(&value!(u64::MAX), &value!(1e300)),
            Some(Ordering::Less)
        );
    }

    #[test]
    fn stars_match_one_label() {
        let ns = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        assert!(namespace_matches(&ns("a.b.c"), &ns("a.*"), &ns("c")));
        assert!(!namespace_matches(&ns("a"), &ns("a.*"), &[]));
        assert!(!namespace_matches(&ns("ab"), &ns("a"), &[]));
        assert!(namespace_matches(&ns("a.b"), &[], &ns("*.b")));
    }
}
