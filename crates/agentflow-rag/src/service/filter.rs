//! Filters of clients, in R2R's grammar.
//!
//! ```text
//! filter := { ("$and" | "$or": [filter…]) | field: value | field: { operator: value, … }, … }
//! ```
//!
//! A name that is no column is a place in the metadata; dots lead into it. What stands beside each
//! other must hold together. Who calls adds what the user may see, where no filter reaches.

use agentflow_storage::condition::{Case, Condition, Field, Order};
use agentflow_types::{Error, Map, Result, Value};

/// Deepest nesting of a filter.
const MAX_DEPTH: usize = 16;
/// What SQL means by any text.
const ANY: char = '%';

/// What a filter is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Documents in the records.
    Documents,
    /// Chunks in the records.
    Chunks,
    /// Chunks in the index, which shows their documents, too.
    Index,
}

impl Of {
    fn field(self, name: &str) -> Result<Field> {
        let column = match (self, name) {
            (Self::Documents, "id" | "document_id") => "id",
            (Self::Index, "document_id") => "document_id",
            (Self::Chunks, "document_id") => "parent_id",
            (Self::Index | Self::Chunks, "id" | "chunk_id") => "id",
            (Self::Documents | Self::Index, "collection_id" | "collection_ids") => "collection_ids",
            (Self::Documents | Self::Index, "type" | "document_type") => "type",
            (Self::Documents, "status" | "ingestion_status") => "status",
            (Self::Documents, "title") => "title",
            (_, "owner_id" | "created_at" | "updated_at") => name,
            (_, "text") => {
                return Err(Error::invalid(
                    "a filter cannot look into texts: use full-text search for that",
                ));
            }
            _ => return within(name),
        };
        Ok(Field::of(column))
    }
}

/// A place in the metadata.
fn within(name: &str) -> Result<Field> {
    let path = name.strip_prefix("metadata.").unwrap_or(name);
    let keys: Vec<&str> = ["metadata"].into_iter().chain(path.split('.')).collect();
    match keys.iter().any(|key| key.is_empty()) || name.starts_with('$') {
        true => Err(Error::invalid("a filter names no such field").with("field", name)),
        false => Ok(Field::within(&keys)),
    }
}

/// Reads a filter.
///
/// # Errors
/// `Invalid` for an operator or a shape that the grammar does not have, and for what an index
/// cannot evaluate.
pub(super) fn read(filter: &Map, of: Of) -> Result<Condition> {
    let condition = all(filter, of, 0)?;
    condition.check()?;
    Ok(condition)
}

fn all(filter: &Map, of: Of, depth: usize) -> Result<Condition> {
    if depth > MAX_DEPTH {
        return Err(Error::invalid("the filter is nested too deep").with("limit", MAX_DEPTH));
    }
    let mut parts = Vec::with_capacity(filter.len());
    for (name, value) in filter {
        parts.push(match &**name {
            "$and" => Condition::All(list(name, value, of, depth)?),
            "$or" => Condition::Any(list(name, value, of, depth)?),
            name => one(name, value, of)?,
        });
    }
    Ok(match parts.len() {
        1 => parts.remove(0),
        _ => Condition::All(parts),
    })
}

fn list(name: &str, value: &Value, of: Of, depth: usize) -> Result<Vec<Condition>> {
    let wrong = || Error::invalid(format!("{name} takes a list of filters"));
    let parts = value.as_list().ok_or_else(wrong)?;
    parts
        .iter()
        .map(|part| all(part.as_map().ok_or_else(wrong)?, of, depth + 1))
        .collect()
}

fn one(name: &str, value: &Value, of: Of) -> Result<Condition> {
    let field = of.field(name)?;
    let Some(operators) = value.as_map() else {
        // One of several collections is meant by the shorthand, one value by any other name.
        return Ok(match value.as_list() {
            Some(values) => Condition::In(field, values.to_vec()),
            None => equals(&field, value),
        });
    };
    let parts = operators
        .iter()
        .map(|(operator, value)| operate(&field, operator, value));
    let mut parts = parts.collect::<Result<Vec<_>>>()?;
    match parts.len() {
        0 => Err(Error::invalid("a field without an operator").with("field", name)),
        1 => Ok(parts.remove(0)),
        _ => Ok(Condition::All(parts)),
    }
}

fn operate(field: &Field, operator: &str, value: &Value) -> Result<Condition> {
    let ordered = |order| Ok(Condition::Compares(field.clone(), order, value.clone()));
    let values = || {
        let wrong = || Error::invalid(format!("{operator} takes a list")).with("field", field);
        value.as_list().map(<[Value]>::to_vec).ok_or_else(wrong)
    };
    match operator {
        "$eq" => Ok(equals(field, value)),
        "$ne" | "$neq" => Ok(equals(field, value).negated()),
        "$lt" => ordered(Order::Less),
        "$lte" => ordered(Order::LessOrEqual),
        "$gt" => ordered(Order::Greater),
        "$gte" => ordered(Order::GreaterOrEqual),
        "$in" | "$overlap" => Ok(Condition::In(field.clone(), values()?)),
        "$nin" => Ok(Condition::In(field.clone(), values()?).negated()),
        "$like" => like(field, value, Case::Exact),
        "$ilike" => like(field, value, Case::Ignored),
        "$contains" | "$array_contains" => Ok(Condition::All(match value.as_list() {
            Some(values) => values.iter().map(|one| equals(field, one)).collect(),
            None => vec![equals(field, value)],
        })),
        "$json_contains" => Ok(contains(field, value)),
        _ => Err(Error::invalid(format!(
            "no operator {operator}; there are $eq, $ne, $lt, $lte, $gt, $gte, $in, $nin, $like, \
            $ilike, $overlap, $contains, $json_contains, $and, $or"
        ))
        .with("field", field)),
    }
}

fn equals(field: &Field, value: &Value) -> Condition {
    match value {
        Value::Null => Condition::Exists(field.clone()).negated(),
        // Indexes know no equality of fractions.
        Value::Float(_) => Condition::All(vec![
            Condition::Compares(field.clone(), Order::GreaterOrEqual, value.clone()),
            Condition::Compares(field.clone(), Order::LessOrEqual, value.clone()),
        ]),
        other => Condition::Equals(field.clone(), other.clone()),
    }
}

/// A map contains another one if it has all of its entries.
fn contains(field: &Field, value: &Value) -> Condition {
    match value {
        Value::Map(map) => Condition::All(
            map.iter()
                .map(|(key, value)| {
                    let keys = field.keys().iter().map(|key| &**key).chain([&**key]);
                    contains(&Field::within(&keys.collect::<Vec<_>>()), value)
                })
                .collect(),
        ),
        Value::List(values) => {
            Condition::All(values.iter().map(|one| contains(field, one)).collect())
        }
        other => equals(field, other),
    }
}

/// Patterns of SQL as far as an index can: `text`, `text%`, `%text%`.
fn like(field: &Field, value: &Value, case: Case) -> Result<Condition> {
    let wrong = || {
        Error::invalid("a pattern is `%text%`, `text%` (with $like) or a whole text")
            .with("field", field)
    };
    let pattern = value.as_str().ok_or_else(wrong)?;
    let inner = pattern.trim_matches(ANY);
    if inner.contains([ANY, '_', '\\']) || inner.is_empty() {
        return Err(wrong());
    }
    match (pattern.starts_with(ANY), pattern.ends_with(ANY), case) {
        (true, true, _) => Ok(Condition::Includes(field.clone(), inner.into(), case)),
        (false, false, Case::Exact) => Ok(equals(field, value)),
        (false, true, Case::Exact) => Ok(Condition::All(vec![
            Condition::Compares(field.clone(), Order::GreaterOrEqual, inner.into()),
            Condition::Compares(
                field.clone(),
                Order::Less,
                Value::str(format!("{inner}{}", char::MAX)),
            ),
        ])),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    fn meets(filter: &Value, payload: &Value) -> bool {
        let condition = read(filter.as_map().unwrap(), Of::Index).unwrap();
        condition.holds(payload.as_map().unwrap())
    }

    #[test]
    fn operators_mean_what_they_mean_to_the_peer() {
        let chunk = value!({"document_id": "d", "collection_ids": ["c1", "c2"], "type": "pdf",
            "metadata": {"year": 2024, "share": 0.5, "tags": ["a", "b"], "name": "Report 7",
                "deep": {"x": true, "y": [1, 2]}}});
        for (filter, wanted) in [
            (value!({"document_id": "d"}), true),
            (value!({"document_id": {"$ne": "d"}}), false),
            (value!({"collection_ids": {"$overlap": ["c2", "c9"]}}), true),
            (value!({"collection_id": {"$eq": "c3"}}), false),
            (value!({"year": {"$gte": 2024, "$lt": 2025}}), true),
            (value!({"metadata.year": {"$in": []}}), false),
            (value!({"share": {"$eq": 0.5}}), true),
            (value!({"tags": {"$contains": ["a", "b"]}}), true),
            (value!({"tags": {"$contains": ["a", "z"]}}), false),
            (value!({"tags": {"$nin": ["z"]}}), true),
            (value!({"name": {"$like": "Report%"}}), true),
            (value!({"name": {"$like": "report%"}}), false),
            (value!({"name": {"$ilike": "%PORT%"}}), true),
            (value!({"deep.x": true}), true),
            (
                value!({"deep": {"$json_contains": {"x": true, "y": [2]}}}),
                true,
            ),
            (value!({"deep": {"$json_contains": {"x": false}}}), false),
            (value!({"absent": null}), true),
            (value!({"year": null}), false),
            (
                value!({"$or": [{"year": 1}, {"$and": [{"type": "pdf"}, {"tags": "a"}]}]}),
                true,
            ),
            (value!({}), true),
        ] {
            assert_eq!(meets(&filter, &chunk), wanted, "{filter:?}");
        }
    }

    #[test]
    fn what_is_no_filter_is_told() {
        for filter in [
            value!({"year": {"$near": 1}}),
            value!({"year": {}}),
            value!({"$or": {"a": 1}}),
            value!({"$not": [{"a": 1}]}),
            value!({"a..b": 1}),
            value!({"text": {"$like": "%x%"}}),
            value!({"name": {"$like": "a_c"}}),
            value!({"name": {"$ilike": "a%"}}),
            value!({"year": {"$in": 3}}),
            value!({"year": {"$lt": [1]}}),
        ] {
            let err = read(filter.as_map().unwrap(), Of::Index).unwrap_err();
            assert_eq!(
                err.kind(),
                agentflow_types::ErrorKind::Invalid,
                "{filter:?}"
            );
        }
        let deep = (0..20).fold(value!({"a": 1}), |inner, _| value!({"$and": [inner]}));
        assert!(read(deep.as_map().unwrap(), Of::Index).is_err());
    }
}
