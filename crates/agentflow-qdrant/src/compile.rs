//! Conditions as Qdrant's filters.
//!
//! Not all of a condition can be said in a filter, so there may be two of them: one that finds
//! all points that meet the condition and perhaps more, and one that finds none but such points.
//! A negation swaps them. Where both are the same, the filter is exact.

use agentflow_storage::{
    condition::{Case, Condition, Field, Order},
    vector::{Kind, moment},
};
use agentflow_types::{Timestamp, Value};
use qdrant_client::qdrant::{
    self as q, DatetimeRange, FieldCondition, Filter, HasIdCondition, IsEmptyCondition,
    IsNullCondition, Match, PointId, Range, RepeatedStrings, condition::ConditionOneOf,
    r#match::MatchValue,
};

use crate::{payload::TENANT, shape};

/// Whole numbers below this are the same as floats, in which Qdrant compares.
const EXACT: i64 = 1 << 53;

/// What a filter is made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Term {
    /// Holds always.
    All,
    /// Never holds.
    None,
    /// Holds where this does.
    Some(Box<q::Condition>),
}

/// A condition in Qdrant's words.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Compiled {
    /// Holds wherever the condition does.
    pub(crate) over: Term,
    /// Holds nowhere else; absent if `over` does neither.
    pub(crate) under: Option<Term>,
}

/// Compiles a condition; `kind` tells what an indexed field holds.
pub(crate) fn compile(
    condition: Option<&Condition>,
    kind: &dyn Fn(&Field) -> Option<Kind>,
) -> Compiled {
    condition.map_or(exact(Term::All), |condition| at(condition, kind))
}

fn at(condition: &Condition, kind: &dyn Fn(&Field) -> Option<Kind>) -> Compiled {
    match condition {
        Condition::All(parts) => joined(parts.iter().map(|part| at(part, kind)), and),
        Condition::Any(parts) => joined(parts.iter().map(|part| at(part, kind)), or),
        Condition::Not(part) => {
            let part = at(part, kind);
            match part.under {
                None => exact(not(part.over)),
                Some(under) => Compiled {
                    over: not(under),
                    under: Some(not(part.over)),
                },
            }
        }
        Condition::Equals(field, value) => equals(field, value),
        Condition::In(field, values) => one_of(field, values),
        Condition::Compares(field, order, Value::Str(bound)) => {
            match (kind(field), moment(bound)) {
                (Some(Kind::Moment), Some(at)) => on_path(field, |path| {
                    compares_moment(path, *order, at, bound.len() == 10)
                }),
                // There is no order of texts.
                _ => among_present(field),
            }
        }
        Condition::Compares(field, order, bound) => {
            on_path(field, |path| compares_number(path, *order, bound))
        }
        Condition::Exists(field) => on_path(field, exists),
        Condition::Includes(field, text, Case::Exact) if !text.is_empty() => {
            on_path(field, |path| {
                exact(matches(path, MatchValue::Text(text.clone())))
            })
        }
        Condition::Includes(field, ..) => among_present(field),
    }
}

fn exact(term: Term) -> Compiled {
    Compiled {
        over: term,
        under: None,
    }
}

/// Compiles a leaf about a path; about a field that Qdrant cannot name nothing is known.
fn on_path(field: &Field, about: impl FnOnce(&str) -> Compiled) -> Compiled {
    match shape::path(field) {
        Some(path) => about(&path),
        None => Compiled {
            over: Term::All,
            under: Some(Term::None),
        },
    }
}

/// A leaf of which only this is known: what meets it has the field.
fn among_present(field: &Field) -> Compiled {
    on_path(field, |path| Compiled {
        under: Some(Term::None),
        ..exists(path)
    })
}

fn exists(path: &str) -> Compiled {
    let empty = leaf(ConditionOneOf::IsEmpty(IsEmptyCondition {
        key: path.to_owned(),
    }));
    let null = leaf(ConditionOneOf::IsNull(IsNullCondition {
        key: path.to_owned(),
    }));
    // A list of nulls only is not empty for Qdrant; one with a null is null.
    Compiled {
        over: not(empty.clone()),
        under: Some(not(or(vec![empty, null]))),
    }
}

fn equals(field: &Field, value: &Value) -> Compiled {
    on_path(field, |path| match value {
        Value::Str(text) => exact(matches(path, MatchValue::Keyword(text.to_string()))),
        Value::Bool(b) => exact(matches(path, MatchValue::Boolean(*b))),
        // A match would pass over floats.
        Value::Int(n) => {
            let range = within(
                path,
                Range {
                    gte: Some(*n as f64),
                    lte: Some(*n as f64),
                    ..Range::default()
                },
            );
            Compiled {
                over: range,
                under: (!is_exact(*n)).then(|| matches(path, MatchValue::Integer(*n))),
            }
        }
        _ => exact(Term::None),
    })
}

fn one_of(field: &Field, values: &[Value]) -> Compiled {
    let texts = values.iter().filter_map(Value::as_str).map(str::to_owned);
    let strings: Vec<String> = texts.collect();
    let others = values.iter().filter(|value| value.as_str().is_none());
    let mut parts: Vec<Compiled> = others.map(|value| equals(field, value)).collect();
    if !strings.is_empty() {
        parts.push(on_path(field, |path| {
            let strings = RepeatedStrings { strings };
            exact(matches(path, MatchValue::Keywords(strings)))
        }));
    }
    joined(parts.into_iter(), or)
}

fn compares_number(path: &str, order: Order, bound: &Value) -> Compiled {
    let Some(at) = bound.as_f64() else {
        return exact(Term::None);
    };
    let (inclusive, strict) = match order {
        Order::Less | Order::LessOrEqual => (Order::LessOrEqual, Order::Less),
        Order::Greater | Order::GreaterOrEqual => (Order::GreaterOrEqual, Order::Greater),
    };
    // Beyond this, numbers that differ may be one float.
    if at.abs() >= EXACT as f64 {
        return Compiled {
            over: within(path, range(inclusive, at)),
            under: Some(within(path, range(strict, at))),
        };
    }
    exact(within(path, range(order, at)))
}

fn range(order: Order, at: f64) -> Range {
    let mut range = Range::default();
    match order {
        Order::Less => range.lt = Some(at),
        Order::LessOrEqual => range.lte = Some(at),
        Order::Greater => range.gt = Some(at),
        Order::GreaterOrEqual => range.gte = Some(at),
    }
    range
}

/// Compares moments, which are in the field as such or as days. As text a day comes before its
/// first moment, as time both are the same.
fn compares_moment(path: &str, order: Order, at: Timestamp, is_day: bool) -> Compiled {
    let term = |order| {
        leaf(ConditionOneOf::Field(FieldCondition {
            key: path.to_owned(),
            datetime_range: Some(moments(order, at)),
            ..FieldCondition::default()
        }))
    };
    let midnight = at.micros().rem_euclid(86_400_000_000) == 0;
    match (order, is_day) {
        (Order::LessOrEqual | Order::Greater, true)
        | (Order::Less | Order::GreaterOrEqual, false)
            if midnight =>
        {
            let (over, under) = match order {
                Order::Less | Order::LessOrEqual => (Order::LessOrEqual, Order::Less),
                Order::Greater | Order::GreaterOrEqual => (Order::GreaterOrEqual, Order::Greater),
            };
            Compiled {
                over: term(over),
                under: Some(term(under)),
            }
        }
        _ => exact(term(order)),
    }
}

fn moments(order: Order, at: Timestamp) -> DatetimeRange {
    let micros = at.micros();
    let nanos = micros.rem_euclid(1_000_000) * 1_000;
    let at = Some(q::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        // Below a thousand million.
        nanos: nanos as i32,
    });
    let mut range = DatetimeRange::default();
    match order {
        Order::Less => range.lt = at,
        Order::LessOrEqual => range.lte = at,
        Order::Greater => range.gt = at,
        Order::GreaterOrEqual => range.gte = at,
    }
    range
}

fn is_exact(n: i64) -> bool {
    (-EXACT + 1..EXACT).contains(&n)
}

fn matches(path: &str, wanted: MatchValue) -> Term {
    leaf(ConditionOneOf::Field(FieldCondition {
        key: path.to_owned(),
        r#match: Some(Match {
            match_value: Some(wanted),
        }),
        ..FieldCondition::default()
    }))
}

fn within(path: &str, range: Range) -> Term {
    leaf(ConditionOneOf::Field(FieldCondition {
        key: path.to_owned(),
        range: Some(range),
        ..FieldCondition::default()
    }))
}

fn one(condition: ConditionOneOf) -> q::Condition {
    q::Condition {
        condition_one_of: Some(condition),
    }
}

fn some(condition: q::Condition) -> Term {
    Term::Some(Box::new(condition))
}

fn leaf(condition: ConditionOneOf) -> Term {
    some(one(condition))
}

fn nested(filter: Filter) -> Term {
    leaf(ConditionOneOf::Filter(filter))
}

fn joined(parts: impl Iterator<Item = Compiled>, join: fn(Vec<Term>) -> Term) -> Compiled {
    let parts: Vec<Compiled> = parts.collect();
    let is_exact = parts.iter().all(|part| part.under.is_none());
    let under = (!is_exact).then(|| {
        let parts = parts.iter();
        join(
            parts
                .map(|part| part.under.as_ref().unwrap_or(&part.over).clone())
                .collect(),
        )
    });
    Compiled {
        over: join(parts.into_iter().map(|part| part.over).collect()),
        under,
    }
}

fn and(parts: Vec<Term>) -> Term {
    let mut must = Vec::new();
    for part in parts {
        match part {
            Term::All => {}
            Term::None => return Term::None,
            Term::Some(condition) => must.push(*condition),
        }
    }
    match must.len() {
        0 => Term::All,
        1 => some(must.remove(0)),
        _ => nested(Filter {
            must,
            ..Filter::default()
        }),
    }
}

/// An empty filter holds always in Qdrant, so one without alternatives is never built.
fn or(parts: Vec<Term>) -> Term {
    let mut should = Vec::new();
    for part in parts {
        match part {
            Term::All => return Term::All,
            Term::None => {}
            Term::Some(condition) => should.push(*condition),
        }
    }
    match should.len() {
        0 => Term::None,
        1 => some(should.remove(0)),
        _ => nested(Filter {
            should,
            ..Filter::default()
        }),
    }
}

fn not(term: Term) -> Term {
    match term {
        Term::All => Term::None,
        Term::None => Term::All,
        Term::Some(condition) => nested(Filter {
            must_not: vec![*condition],
            ..Filter::default()
        }),
    }
}

/// The filter of a tenant; `None` if nothing can meet it.
pub(crate) fn scoped(tenant: &str, term: Term) -> Option<Filter> {
    let mut must = vec![is_tenant(tenant)];
    match term {
        Term::None => return None,
        Term::All => {}
        Term::Some(condition) => must.push(*condition),
    }
    Some(Filter {
        must,
        ..Filter::default()
    })
}

/// The filter of points of a tenant by id.
pub(crate) fn by_id(tenant: &str, ids: Vec<PointId>) -> Filter {
    let ids = one(ConditionOneOf::HasId(HasIdCondition { has_id: ids }));
    Filter {
        must: vec![is_tenant(tenant), ids],
        ..Filter::default()
    }
}

/// The filter of points of a tenant that are not newer than this.
pub(crate) fn not_newer(tenant: &str, version: u64) -> Filter {
    let older = one(ConditionOneOf::Field(FieldCondition {
        key: crate::payload::VERSION.to_owned(),
        range: Some(range(Order::LessOrEqual, version as f64)),
        ..FieldCondition::default()
    }));
    Filter {
        must: vec![is_tenant(tenant), older],
        ..Filter::default()
    }
}

fn is_tenant(tenant: &str) -> q::Condition {
    one(ConditionOneOf::Field(FieldCondition {
        key: TENANT.to_owned(),
        r#match: Some(Match {
            match_value: Some(MatchValue::Keyword(tenant.to_owned())),
        }),
        ..FieldCondition::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_exact(condition: &Condition) -> bool {
        let kind = |field: &Field| (*field == Field::of("at")).then_some(Kind::Moment);
        compile(Some(condition), &kind).under.is_none()
    }

    #[test]
    fn the_usual_conditions_are_exact() {
        let (f, at) = (Field::of("f"), Field::of("at"));
        for condition in [
            Condition::Equals(f.clone(), "a".into()),
            Condition::Equals(f.clone(), Value::Int(7)),
            Condition::In(f.clone(), vec!["a".into(), Value::Bool(true)]).negated(),
            Condition::Compares(f.clone(), Order::Less, Value::Float(0.5)),
            Condition::Compares(at.clone(), Order::Less, "2026-05-08".into()).negated(),
            Condition::Compares(
                at.clone(),
                Order::Greater,
                "2026-05-08T00:00:00.000000+00:00".into(),
            ),
            Condition::Includes(f.clone(), "x".into(), Case::Exact),
            Condition::Any(vec![]),
            Condition::All(vec![]).negated(),
        ] {
            assert!(is_exact(&condition), "{condition:?}");
        }
        for condition in [
            Condition::Exists(f.clone()),
            Condition::Equals(f.clone(), Value::Int(i64::MAX)),
            Condition::Compares(f.clone(), Order::Less, "a".into()),
            Condition::Compares(at, Order::LessOrEqual, "2026-05-08".into()),
            Condition::Includes(f, "x".into(), Case::Ignored),
            Condition::Exists(Field::of("\"")),
        ] {
            assert!(!is_exact(&condition), "{condition:?}");
            assert!(!is_exact(&Condition::All(vec![condition]).negated()));
        }
    }

    #[test]
    fn what_never_holds_asks_nothing() {
        let none = Condition::All(vec![
            Condition::Equals(Field::of("f"), "a".into()),
            Condition::Any(vec![]),
        ]);
        let compiled = compile(Some(&none), &|_| None);
        assert_eq!(compiled.over, Term::None);
        assert_eq!(scoped("t", compiled.over), None);
    }
}
