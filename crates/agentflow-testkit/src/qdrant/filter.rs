//! Filters, evaluated as Qdrant does for a field without an index.

use qdrant_client::qdrant::{
    Condition, DatetimeRange, FieldCondition, Filter, Match, PointId, Range, Timestamp,
    condition::ConditionOneOf, r#match::MatchValue,
};
use serde_json::{Map, Value};
use tonic::Status;
use uuid::Uuid;

use super::{path::Path, wire};

/// Deepest nesting of filters.
const MAX_DEPTH: usize = 64;

/// A filter that was understood.
#[derive(Clone, Debug, Default)]
pub(super) struct Read {
    must: Vec<Part>,
    should: Vec<Part>,
    must_not: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Filter(Read),
    Ids(Vec<Uuid>),
    Empty(Path),
    Null(Path),
    Field(Path, Test),
}

#[derive(Clone, Debug)]
enum Test {
    Match(MatchValue),
    Range(Range),
    Moments(DatetimeRange),
}

impl Read {
    /// Reads a filter; none holds for all.
    pub(super) fn of(filter: Option<&Filter>) -> Result<Self, Status> {
        filter.map_or_else(|| Ok(Self::default()), |filter| Self::at(filter, 0))
    }

    fn at(filter: &Filter, depth: usize) -> Result<Self, Status> {
        if depth > MAX_DEPTH {
            return Err(Status::invalid_argument("filter is nested too deep"));
        }
        if filter.min_should.is_some() {
            return Err(Status::unimplemented("min_should"));
        }
        let parts = |conditions: &[Condition]| {
            let parts = conditions.iter().map(|one| part(one, depth));
            parts.collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            must: parts(&filter.must)?,
            should: parts(&filter.should)?,
            must_not: parts(&filter.must_not)?,
        })
    }

    /// Whether a point meets it.
    pub(super) fn holds(&self, id: Uuid, payload: &Map<String, Value>) -> bool {
        let meets = |part: &Part| part.holds(id, payload);
        self.must.iter().all(meets)
            && (self.should.is_empty() || self.should.iter().any(meets))
            && !self.must_not.iter().any(meets)
    }
}

fn part(condition: &Condition, depth: usize) -> Result<Part, Status> {
    let one = condition.condition_one_of.as_ref();
    match one.ok_or_else(|| Status::invalid_argument("Malformed Condition type"))? {
        ConditionOneOf::Filter(inner) => Ok(Part::Filter(Read::at(inner, depth + 1)?)),
        ConditionOneOf::HasId(ids) => {
            let ids = ids.has_id.iter().map(|id| wire::uuid(Some(id)));
            Ok(Part::Ids(ids.collect::<Result<_, _>>()?))
        }
        ConditionOneOf::IsEmpty(empty) => Ok(Part::Empty(Path::read(&empty.key)?)),
        ConditionOneOf::IsNull(null) => Ok(Part::Null(Path::read(&null.key)?)),
        ConditionOneOf::Field(field) => leaf(field),
        ConditionOneOf::Nested(_) | ConditionOneOf::HasVector(_) | ConditionOneOf::Slice(_) => {
            Err(Status::unimplemented("this kind of condition"))
        }
    }
}

fn leaf(field: &FieldCondition) -> Result<Part, Status> {
    let tests = [
        field.r#match.as_ref().map(matched),
        field.range.map(|range| Ok(Test::Range(range))),
        field.datetime_range.map(|range| Ok(Test::Moments(range))),
    ];
    let mut tests = tests.into_iter().flatten();
    let malformed = || {
        Status::invalid_argument("Validation error: At least one field condition must be specified")
    };
    let test = tests.next().ok_or_else(malformed)??;
    match tests.next() {
        Some(_) => Err(Status::unimplemented("several tests in one condition")),
        None => Ok(Part::Field(Path::read(&field.key)?, test)),
    }
}

fn matched(wanted: &Match) -> Result<Test, Status> {
    use MatchValue::{Boolean, Integer, Integers, Keyword, Keywords, Text};
    match &wanted.match_value {
        Some(value @ (Keyword(_) | Integer(_) | Boolean(_) | Text(_) | Keywords(_))) => {
            Ok(Test::Match(value.clone()))
        }
        Some(value @ Integers(_)) => Ok(Test::Match(value.clone())),
        Some(_) => Err(Status::unimplemented("this kind of match")),
        None => Err(Status::invalid_argument("Malformed Match condition")),
    }
}

impl Part {
    fn holds(&self, id: Uuid, payload: &Map<String, Value>) -> bool {
        match self {
            Self::Filter(inner) => inner.holds(id, payload),
            Self::Ids(ids) => ids.contains(&id),
            Self::Empty(path) => path.values(payload).into_iter().all(|value| match value {
                Value::Null => true,
                Value::Array(items) => items.is_empty(),
                _ => false,
            }),
            // An array with a null in it is null when the field itself is asked.
            Self::Null(path) => path.values(payload).into_iter().any(|value| match value {
                Value::Null => true,
                Value::Array(items) => items.iter().any(Value::is_null),
                _ => false,
            }),
            Self::Field(path, test) => {
                let mut values = path.values(payload).into_iter();
                values.any(|value| match value {
                    Value::Array(items) => items.iter().any(|item| test.meets(item)),
                    one => test.meets(one),
                })
            }
        }
    }
}

impl Test {
    fn meets(&self, value: &Value) -> bool {
        match self {
            Self::Match(wanted) => matches_value(value, wanted),
            Self::Range(range) => value.as_f64().is_some_and(|n| {
                range.lt.is_none_or(|bound| n < bound)
                    && range.lte.is_none_or(|bound| n <= bound)
                    && range.gt.is_none_or(|bound| n > bound)
                    && range.gte.is_none_or(|bound| n >= bound)
            }),
            Self::Moments(range) => value.as_str().and_then(micros).is_some_and(|at| {
                let bound =
                    |bound: Timestamp| bound.seconds * 1_000_000 + i64::from(bound.nanos) / 1000;
                range.lt.is_none_or(|b| at < bound(b))
                    && range.lte.is_none_or(|b| at <= bound(b))
                    && range.gt.is_none_or(|b| at > bound(b))
                    && range.gte.is_none_or(|b| at >= bound(b))
            }),
        }
    }
}

fn matches_value(value: &Value, wanted: &MatchValue) -> bool {
    match wanted {
        MatchValue::Keyword(text) => value.as_str() == Some(text),
        MatchValue::Keywords(texts) => {
            let found = value.as_str();
            found.is_some_and(|found| texts.strings.iter().any(|text| text == found))
        }
        MatchValue::Text(text) => value.as_str().is_some_and(|found| found.contains(text)),
        MatchValue::Integer(n) => value.as_i64() == Some(*n),
        MatchValue::Integers(all) => value.as_i64().is_some_and(|n| all.integers.contains(&n)),
        MatchValue::Boolean(b) => value.as_bool() == Some(*b),
        _ => false,
    }
}

/// Microseconds since the epoch of a text with a date, and perhaps a time.
fn micros(text: &str) -> Option<i64> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    let moment: agentflow_types::Timestamp = whole.parse().ok()?;
    Some(moment.micros())
}

/// The filter that holds for these ids.
pub(super) fn of_ids(ids: &[PointId]) -> Result<Read, Status> {
    let ids = ids.iter().map(|id| wire::uuid(Some(id)));
    Ok(Read {
        must: vec![Part::Ids(ids.collect::<Result<_, _>>()?)],
        ..Read::default()
    })
}
