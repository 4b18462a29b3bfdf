//! Which points have which value of a field, and what that says about a condition.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::{BitAnd, BitOr},
};

use agentflow_storage::{
    condition::{Condition, Field},
    filter,
    vector::Kind,
};
use agentflow_types::{Map, Str, Value};
use roaring::RoaringBitmap;

use super::moments::Moments;

/// A value that may be asked for. Numbers of one amount have different keys: values are counted
/// by what they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Bool(bool),
    Int(i64),
    UInt(u64),
    /// The bits.
    Float(u64),
    Text(Str),
}

impl Key {
    fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Bool(is) => Self::Bool(*is),
            Value::Int(n) => Self::Int(*n),
            Value::UInt(n) => Self::UInt(*n),
            // Nothing below zero is zero too.
            Value::Float(n) => Self::Float((n + 0.0).to_bits()),
            Value::Str(text) => Self::Text(text.clone()),
            _ => return None,
        })
    }

    fn value(&self) -> Value {
        match self {
            Self::Bool(is) => Value::Bool(*is),
            Self::Int(n) => Value::Int(*n),
            Self::UInt(n) => Value::UInt(*n),
            Self::Float(bits) => Value::Float(f64::from_bits(*bits)),
            Self::Text(text) => Value::Str(text.clone()),
        }
    }
}

/// The values of a field.
pub(super) struct Values {
    kind: Option<Kind>,
    has: Has,
    /// Slots with something there that is not null.
    present: RoaringBitmap,
}

enum Has {
    Keys(HashMap<Key, RoaringBitmap>),
    Moments(Moments),
}

impl Values {
    /// `kind`: what the field holds if it is indexed.
    pub(super) fn new(kind: Option<Kind>) -> Self {
        Self {
            kind,
            has: match kind {
                Some(Kind::Moment) => Has::Moments(Moments::default()),
                _ => Has::Keys(HashMap::new()),
            },
            present: RoaringBitmap::new(),
        }
    }

    /// Without points.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.kind)
    }

    pub(super) fn put(&mut self, slot: u32, value: Option<&Value>) {
        for item in items(value) {
            self.present.insert(slot);
            match &mut self.has {
                Has::Moments(moments) => moments.put(slot, item),
                Has::Keys(keys) => {
                    if let Some(key) = Key::of(item) {
                        keys.entry(key).or_default().insert(slot);
                    }
                }
            }
        }
    }

    /// Removes a point with the value that it was put with.
    pub(super) fn remove(&mut self, slot: u32, value: Option<&Value>) {
        self.present.remove(slot);
        let keys = match &mut self.has {
            Has::Moments(moments) => return moments.remove(slot),
            Has::Keys(keys) => keys,
        };
        for key in items(value).into_iter().filter_map(Key::of) {
            if let Some(slots) = keys.get_mut(&key) {
                slots.remove(slot);
                if slots.is_empty() {
                    keys.remove(&key);
                }
            }
        }
    }

    /// Slots for which this leaf holds; `None` if the values do not tell.
    fn meeting(&self, leaf: &Condition) -> Option<RoaringBitmap> {
        let keys = match (leaf, &self.has) {
            (Condition::Exists(_), _) => return Some(self.present.clone()),
            (_, Has::Moments(moments)) => return moments.meeting(leaf),
            (_, Has::Keys(keys)) => keys,
        };
        match leaf {
            Condition::Equals(_, wanted) => Some(equal(keys, std::slice::from_ref(wanted))),
            Condition::In(_, wanted) => Some(equal(keys, wanted)),
            Condition::Compares(_, order, bound) => Some(testing(
                keys,
                &Condition::Compares(alone(), *order, bound.clone()),
            )),
            Condition::Includes(_, text, case) => Some(testing(
                keys,
                &Condition::Includes(alone(), text.clone(), *case),
            )),
            _ => None,
        }
    }

    /// Values of the field's kind, but floats, and how many of these slots have each.
    pub(super) fn counts(&self, slots: &RoaringBitmap) -> Vec<(Value, u64)> {
        let keys = match &self.has {
            Has::Moments(moments) => return moments.counts(slots),
            Has::Keys(keys) => keys,
        };
        let countable = |key: &Key| matches!(key, Key::Bool(_) | Key::Int(_) | Key::Text(_));
        keys.iter()
            .filter(|(key, _)| countable(key))
            .map(|(key, having)| (key.value(), having.intersection_len(slots)))
            .filter(|(value, count)| *count > 0 && self.kind.is_none_or(|kind| kind.fits(value)))
            .collect()
    }
}

/// Where a value is that is looked at by itself.
fn alone() -> Field {
    Field::of("value")
}

fn equal(keys: &HashMap<Key, RoaringBitmap>, wanted: &[Value]) -> RoaringBitmap {
    let wanted: HashSet<Key> = wanted.iter().flat_map(equal_keys).collect();
    let found = wanted.iter().filter_map(|key| keys.get(key));
    found.fold(RoaringBitmap::new(), |all, slots| all | slots)
}

/// Asks about each value by itself.
fn testing(keys: &HashMap<Key, RoaringBitmap>, leaf: &Condition) -> RoaringBitmap {
    let mut payload = Map::new();
    let mut found = RoaringBitmap::new();
    for (key, slots) in keys {
        payload.insert("value".into(), key.value());
        if leaf.holds(&payload) {
            found |= slots;
        }
    }
    found
}

/// Values that are equal to this one.
fn equal_keys(wanted: &Value) -> Vec<Key> {
    let mut keys: Vec<Key> = Key::of(wanted).into_iter().collect();
    if let Value::Int(n) = wanted {
        let float = Value::Float(*n as f64);
        if filter::equal(&float, wanted) {
            keys.extend(Key::of(&float));
        }
    }
    keys
}

/// What conditions look at: the value, or the items of a list; not null.
fn items(value: Option<&Value>) -> Vec<&Value> {
    let items = match value {
        Some(Value::List(items)) => items.iter().collect(),
        other => other.into_iter().collect::<Vec<_>>(),
    };
    items.into_iter().filter(|item| !item.is_null()).collect()
}

/// Points among which are all that meet a condition.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// `None` if all points are among them.
    pub(super) slots: Option<RoaringBitmap>,
    /// Whether they all meet it.
    pub(super) is_exact: bool,
}

impl Chosen {
    const ALL: Self = Self {
        slots: None,
        is_exact: true,
    };
    const UNKNOWN: Self = Self {
        slots: None,
        is_exact: false,
    };

    fn exactly(slots: RoaringBitmap) -> Self {
        Self {
            slots: Some(slots),
            is_exact: true,
        }
    }
}

/// What the values say about a condition; `all` are the points that there are.
pub(super) fn choose(
    condition: Option<&Condition>,
    all: &RoaringBitmap,
    fields: &BTreeMap<Field, Values>,
) -> Chosen {
    let Some(condition) = condition else {
        return Chosen::ALL;
    };
    match condition {
        Condition::All(parts) => parts.iter().fold(Chosen::ALL, |chosen, part| {
            let part = choose(Some(part), all, fields);
            Chosen {
                is_exact: chosen.is_exact && part.is_exact,
                slots: both(chosen.slots, part.slots, BitAnd::bitand),
            }
        }),
        Condition::Any(parts) => {
            let none = Chosen::exactly(RoaringBitmap::new());
            parts.iter().fold(none, |chosen, part| {
                let part = choose(Some(part), all, fields);
                Chosen {
                    is_exact: chosen.is_exact && part.is_exact,
                    slots: match (chosen.slots, part.slots) {
                        (Some(a), Some(b)) => Some(a.bitor(b)),
                        _ => None,
                    },
                }
            })
        }
        Condition::Not(part) => match choose(Some(part), all, fields) {
            Chosen {
                slots,
                is_exact: true,
            } => Chosen::exactly(slots.map_or_else(RoaringBitmap::new, |slots| all - slots)),
            _ => Chosen::UNKNOWN,
        },
        leaf => {
            let values = field(leaf).and_then(|field| fields.get(field));
            let meeting = values.and_then(|values| values.meeting(leaf));
            meeting.map_or(Chosen::UNKNOWN, Chosen::exactly)
        }
    }
}

fn both<T>(a: Option<T>, b: Option<T>, join: impl FnOnce(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(join(a, b)),
        (a, b) => a.or(b),
    }
}

fn field(leaf: &Condition) -> Option<&Field> {
    match leaf {
        Condition::Equals(field, _)
        | Condition::In(field, _)
        | Condition::Compares(field, ..)
        | Condition::Exists(field)
        | Condition::Includes(field, ..) => Some(field),
        Condition::All(_) | Condition::Any(_) | Condition::Not(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use agentflow_storage::condition::{Case, Order};
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-2_i64..3).prop_map(Value::Int),
            Just(Value::UInt(u64::MAX)),
            Just(Value::Int(i64::MAX)),
            (-2_i32..3).prop_map(|n| Value::Float(f64::from(n) / 2.0)),
            Just(Value::Float(-0.0)),
            Just(Value::Float(i64::MAX as f64)),
            prop_oneof!["a", "ab", "B", ""].prop_map(|text| Value::str(text.as_str())),
            Just(Value::map(Map::new())),
        ];
        let list = prop::collection::vec(scalar.clone(), 0..3).prop_map(Value::list);
        prop_oneof![4 => scalar, 1 => list]
    }

    fn leaf() -> impl Strategy<Value = Condition> {
        let field = prop_oneof![Just(Field::of("a")), Just(Field::of("b"))];
        let wanted = prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            (-2_i64..3).prop_map(Value::Int),
            Just(Value::Int(i64::MAX)),
            prop_oneof!["a", "ab", "B"].prop_map(|text| Value::str(text.as_str())),
        ];
        let bound = prop_oneof![
            Just(Value::Int(0)),
            Just(Value::Float(0.5)),
            Just(Value::str("a"))
        ];
        let order = prop_oneof![
            Just(Order::Less),
            Just(Order::LessOrEqual),
            Just(Order::Greater),
            Just(Order::GreaterOrEqual)
        ];
        let case = prop_oneof![Just(Case::Exact), Just(Case::Ignored)];
        prop_oneof![
            (field.clone(), wanted.clone()).prop_map(|(f, v)| Condition::Equals(f, v)),
            (field.clone(), prop::collection::vec(wanted, 0..3))
                .prop_map(|(f, v)| Condition::In(f, v)),
            (field.clone(), order, bound).prop_map(|(f, o, v)| Condition::Compares(f, o, v)),
            field.clone().prop_map(Condition::Exists),
            (field, case).prop_map(|(f, case)| Condition::Includes(f, "b".into(), case)),
        ]
    }

    fn condition() -> impl Strategy<Value = Condition> {
        leaf().prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(Condition::negated),
                prop::collection::vec(inner.clone(), 0..3).prop_map(Condition::All),
                prop::collection::vec(inner, 0..3).prop_map(Condition::Any),
            ]
        })
    }

    proptest! {
        /// With field `a` indexed, and `b` or not, nothing that meets a condition is left out, and
        /// what is said to be exact is.
        #[test]
        fn values_choose_what_conditions_do(
            payloads in prop::collection::vec((value(), value()), 1..12),
            condition in condition(),
            is_b_indexed: bool,
            removed in 0_u32..12,
        ) {
            let mut fields = BTreeMap::from([(Field::of("a"), Values::new(Some(Kind::Text)))]);
            if is_b_indexed {
                fields.insert(Field::of("b"), Values::new(Some(Kind::Number)));
            }
            let mut all = RoaringBitmap::new();
            let mut wanted = RoaringBitmap::new();
            for (slot, (a, b)) in (0..).zip(payloads) {
                let payload: Map = [("a".into(), a), ("b".into(), b)].into_iter().collect();
                for (field, values) in &mut fields {
                    values.put(slot, field.find(&payload));
                    if slot == removed {
                        values.remove(slot, field.find(&payload));
                    }
                }
                if slot != removed {
                    all.insert(slot);
                    if condition.holds(&payload) {
                        wanted.insert(slot);
                    }
                }
            }
            let chosen = choose(Some(&condition), &all, &fields);
            let slots = chosen.slots.clone().unwrap_or_else(|| all.clone());
            prop_assert!(slots.is_subset(&all));
            prop_assert!(wanted.is_subset(&slots), "{chosen:?} lacks some of {wanted:?}");
            if chosen.is_exact || is_b_indexed {
                prop_assert_eq!(slots, wanted);
            }
        }
    }

    fn moment() -> impl Strategy<Value = Value> {
        let moments = [
            "0000-01-01T00:00:00.000000+00:00",
            "2025-12-31T23:59:59.999999+00:00",
            "2026-01-01T00:00:00.000000+00:00",
            "2026-01-01",
            "2026-05-08T10:00:00.000001+00:00",
            "9999-12-30T22:00:00.000000+00:00",
        ];
        prop::sample::select(moments.to_vec()).prop_map(Value::str)
    }

    proptest! {
        /// Moments are compared as texts are, also with what is no moment.
        #[test]
        fn moments_choose_what_conditions_do(
            payloads in prop::collection::vec(prop::collection::vec(moment(), 0..3), 1..8),
            bound in prop_oneof![
                4 => moment(),
                1 => prop::sample::select(vec!["", "2026", "2026-01-01", "2026-05-08T10:00:00Z", "x"])
                    .prop_map(Value::str),
                1 => Just(Value::Int(7)),
            ],
            which in 0..6,
        ) {
            let field = Field::of("at");
            let mut fields = BTreeMap::from([(field.clone(), Values::new(Some(Kind::Moment)))]);
            let leaf = match which {
                0 => Condition::Equals(field.clone(), bound),
                1 => Condition::In(field.clone(), vec![bound, Value::Bool(true)]),
                2 => Condition::Compares(field.clone(), Order::Less, bound),
                3 => Condition::Compares(field.clone(), Order::LessOrEqual, bound),
                4 => Condition::Compares(field.clone(), Order::Greater, bound),
                _ => Condition::Compares(field.clone(), Order::GreaterOrEqual, bound),
            };
            let mut wanted = RoaringBitmap::new();
            for (slot, moments) in (0..).zip(payloads) {
                let payload: Map = [("at".into(), Value::list(moments))].into_iter().collect();
                fields.get_mut(&field).unwrap().put(slot, field.find(&payload));
                if leaf.holds(&payload) {
                    wanted.insert(slot);
                }
            }
            let chosen = choose(Some(&leaf), &RoaringBitmap::new(), &fields);
            prop_assert!(chosen.is_exact);
            prop_assert_eq!(chosen.slots, Some(wanted));
        }
    }
}
