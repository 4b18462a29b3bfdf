//! Conditions over payloads: one tree, which every index evaluates alike.
//!
//! Wire dialects are compiled into it. The scope of a call is no part of it: who stores a payload
//! adds the tenant at the root, where no condition reaches.

use std::{cmp::Ordering, fmt};

use agentflow_types::{Error, Map, Result, Str, Value};

use crate::filter;

/// Deepest nesting of conditions.
pub const MAX_DEPTH: usize = 32;
/// Most leaves of a condition.
pub const MAX_LEAVES: usize = 1024;
/// Most values of one [`Condition::In`].
pub const MAX_VALUES: usize = 10_000;

/// Where a value is in a payload: keys, outermost first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Field(Vec<Str>);

impl Field {
    /// A field of the payload itself.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(vec![key.into()])
    }

    /// A field of a map within the payload.
    #[must_use]
    pub fn within(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Str::from(*key)).collect())
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[Str] {
        &self.0
    }

    /// The value, if the payload has one there.
    #[must_use]
    pub fn find<'a>(&self, payload: &'a Map) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter()
            .try_fold(payload.get(first)?, |value, key| value.get(key))
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// Which way a value lies from a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Below it.
    Less,
    /// Below or at it.
    LessOrEqual,
    /// Above it.
    Greater,
    /// Above or at it.
    GreaterOrEqual,
}

impl Order {
    fn allows(self, found: Ordering) -> bool {
        match self {
            Self::Less => found.is_lt(),
            Self::LessOrEqual => found.is_le(),
            Self::Greater => found.is_gt(),
            Self::GreaterOrEqual => found.is_ge(),
        }
    }
}

/// Whether capitals count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// They do.
    Exact,
    /// They do not.
    Ignored,
}

/// What must hold of a payload.
///
/// A field that holds a list meets a leaf if one of the list's items does. A field that is absent
/// or null meets no leaf, so its negation does.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// All of them; none holds always.
    All(Vec<Condition>),
    /// One of them at least; none never holds.
    Any(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// A text, a whole number or a boolean that is equal to it.
    Equals(Field, Value),
    /// Equal to one of them.
    In(Field, Vec<Value>),
    /// A number beside a number, or a text beside a text by code points: moments are compared as
    /// text, which is right if all are written in one way.
    Compares(Field, Order, Value),
    /// The field is there and not null; an empty list counts as absent.
    Exists(Field),
    /// A text that holds this one.
    Includes(Field, String, Case),
}

impl Condition {
    /// Not this.
    #[must_use]
    pub fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// Whether the payload meets it.
    #[must_use]
    pub fn holds(&self, payload: &Map) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(payload)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(payload)),
            Self::Not(part) => !part.holds(payload),
            Self::Equals(field, wanted) => some(field, payload, |v| filter::equal(v, wanted)),
            Self::In(field, wanted) => some(field, payload, |found| {
                wanted.iter().any(|one| filter::equal(found, one))
            }),
            Self::Compares(field, order, bound) => some(field, payload, |found| {
                filter::compare(found, bound).is_some_and(|found| order.allows(found))
            }),
            Self::Exists(field) => some(field, payload, |_| true),
            Self::Includes(field, text, case) => some(field, payload, |found| {
                found.as_str().is_some_and(|found| match case {
                    Case::Exact => found.contains(text.as_str()),
                    Case::Ignored => found.to_lowercase().contains(&text.to_lowercase()),
                })
            }),
        }
    }

    /// Checks that an index can evaluate it.
    ///
    /// # Errors
    /// `Invalid` if it is too deep or too large, or a leaf is about a value that has no order or
    /// equality in an index: a float, a list, a map, null.
    pub fn check(&self) -> Result<()> {
        let mut leaves = 0;
        self.check_at(0, &mut leaves)
    }

    fn check_at(&self, depth: usize, leaves: &mut usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::invalid("the filter is nested too deep").with("limit", MAX_DEPTH));
        }
        let parts: &[Self] = match self {
            Self::All(parts) | Self::Any(parts) => parts,
            Self::Not(part) => std::slice::from_ref(part),
            leaf => {
                *leaves += 1;
                return match *leaves > MAX_LEAVES {
                    true => Err(Error::invalid("the filter has too many conditions")
                        .with("limit", MAX_LEAVES)),
                    false => leaf.check_leaf(),
                };
            }
        };
        parts
            .iter()
            .try_for_each(|part| part.check_at(depth + 1, leaves))
    }

    fn check_leaf(&self) -> Result<()> {
        let bad = |field: &Field, what: &str| {
            Err(Error::invalid(format!("a filter cannot {what}")).with("field", field))
        };
        match self {
            Self::Equals(field, value) if !is_exact(value) => {
                bad(field, "ask for equality with this kind of value")
            }
            Self::In(field, values) if !values.iter().all(is_exact) => {
                bad(field, "ask for equality with this kind of value")
            }
            Self::In(field, values) if values.len() > MAX_VALUES => {
                bad(field, "name that many values")
            }
            Self::Compares(field, _, bound) if !has_order(bound) => {
                bad(field, "compare with this kind of value")
            }
            _ => Ok(()),
        }
    }
}

fn is_exact(value: &Value) -> bool {
    matches!(value, Value::Str(_) | Value::Int(_) | Value::Bool(_))
}

fn has_order(value: &Value) -> bool {
    match value {
        Value::Str(_) | Value::Int(_) => true,
        Value::Float(n) => n.is_finite(),
        _ => false,
    }
}

/// Whether the value at the field, or an item of the list there, meets the test.
fn some(field: &Field, payload: &Map, meets: impl Fn(&Value) -> bool) -> bool {
    match field.find(payload) {
        None | Some(Value::Null) => false,
        Some(Value::List(items)) => items.iter().any(|item| !item.is_null() && meets(item)),
        Some(value) => meets(value),
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    fn check(condition: &Condition, payload: &Value, wanted: bool) {
        condition.check().unwrap();
        let payload = payload.as_map().unwrap();
        assert_eq!(
            condition.holds(payload),
            wanted,
            "{condition:?}: {payload:?}"
        );
    }

    fn field() -> Field {
        Field::of("f")
    }

    #[test]
    fn leaves_hold_for_a_value_and_for_an_item_of_a_list() {
        let is_a = Condition::Equals(field(), "a".into());
        check(&is_a, &value!({"f": "a"}), true);
        check(&is_a, &value!({"f": "A"}), false);
        check(&is_a, &value!({"f": ["b", "a"]}), true);
        check(&is_a, &value!({"f": []}), false);
        check(&is_a, &value!({"f": {"a": "a"}}), false);
        let one_of = Condition::In(field(), vec![Value::Int(1), "a".into()]);
        check(&one_of, &value!({"f": 1}), true);
        check(&one_of, &value!({"f": 1.0}), true);
        check(&one_of, &value!({"f": "1"}), false);
        check(&Condition::In(field(), vec![]), &value!({"f": 1}), false);
    }

    #[test]
    fn order_is_between_values_of_one_kind() {
        let late = Condition::Compares(field(), Order::GreaterOrEqual, "2026-05".into());
        check(&late, &value!({"f": "2026-05-01T00:00:00Z"}), true);
        check(&late, &value!({"f": "2026-04-30"}), false);
        check(&late, &value!({"f": 2027}), false);
        let few = Condition::Compares(field(), Order::Less, Value::Float(1.5));
        check(&few, &value!({"f": 1}), true);
        check(&few, &value!({"f": 1.5}), false);
        check(&few, &value!({"f": [9, 1]}), true);
    }

    #[test]
    fn what_is_absent_meets_nothing_but_a_negation() {
        let is_a = Condition::Equals(field(), "a".into());
        for payload in [value!({}), value!({"f": null}), value!({"f": []})] {
            check(&is_a, &payload, false);
            check(&is_a.clone().negated(), &payload, true);
            check(&Condition::Exists(field()), &payload, false);
        }
        check(&Condition::Exists(field()), &value!({"f": false}), true);
        check(&Condition::All(vec![]), &value!({}), true);
        check(&Condition::Any(vec![]), &value!({}), false);
    }

    #[test]
    fn texts_are_looked_into() {
        let exact = Condition::Includes(field(), "Straße".into(), Case::Exact);
        check(&exact, &value!({"f": "die Straße"}), true);
        check(&exact, &value!({"f": "die straße"}), false);
        let any = Condition::Includes(field(), "ÄPFEL".into(), Case::Ignored);
        check(&any, &value!({"f": "zwei äpfel"}), true);
        check(&any, &value!({"f": 3}), false);
    }

    #[test]
    fn a_field_may_be_in_a_map() {
        let inner = Condition::Equals(Field::within(&["m", "a.b"]), Value::Bool(true));
        check(&inner, &value!({"m": {"a.b": true}}), true);
        check(&inner, &value!({"m": {"a": {"b": true}}}), false);
        check(&inner, &value!({"m": 1}), false);
    }

    #[test]
    fn what_no_index_can_evaluate_is_refused() {
        let deep = (0..=MAX_DEPTH).fold(Condition::All(vec![]), |inner, _| inner.negated());
        let wide = Condition::Any(vec![Condition::Exists(field()); MAX_LEAVES + 1]);
        for bad in [
            deep,
            wide,
            Condition::Equals(field(), Value::Null),
            Condition::Equals(field(), Value::Float(0.1)),
            Condition::In(field(), vec![Value::list(vec![])]),
            Condition::Compares(field(), Order::Less, Value::Bool(true)),
            Condition::Compares(field(), Order::Less, Value::Float(f64::NAN)),
        ] {
            let err = bad.check().unwrap_err();
            assert_eq!(err.kind(), agentflow_types::ErrorKind::Invalid);
        }
    }
}
