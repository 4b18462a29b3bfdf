//! Moments by slot: a column, because most points have one of their own.

use std::collections::BTreeMap;

use agentflow_storage::{
    condition::{Condition, Order},
    vector::moment,
};
use agentflow_types::{Timestamp, Value};
use roaring::RoaringBitmap;

/// No moment.
const NONE: i64 = i64::MIN;
/// The first moment that can be written with a year of four digits.
const FIRST: i64 = -62_167_219_200_000_000;
/// The last moment that can be written.
const LAST: i64 = 253_402_207_200_000_000;
/// Characters of a day, such as `2026-05-08`.
const DAY: usize = 10;

/// The place of a text in the order of texts: twice its microseconds, and one more if it is no
/// day, because a day comes before its first moment.
fn place(text: &str) -> Option<i64> {
    let at = moment(text)?;
    Some(2 * at.0 + i64::from(text.len() != DAY))
}

/// The text at a place; between a moment and the next that of the moment, if no day begins there.
fn text_at(place: i64) -> String {
    let text = Timestamp(place.div_euclid(2)).to_string();
    match place.rem_euclid(2) == 0 && text.ends_with("T00:00:00.000000+00:00") {
        true => text.get(..DAY).unwrap_or_default().to_owned(),
        false => text,
    }
}

/// Places of moments by slot.
#[derive(Default)]
pub(super) struct Moments {
    first: Vec<i64>,
    /// Those after the first of a list.
    more: BTreeMap<u32, Vec<i64>>,
}

impl Moments {
    pub(super) fn put(&mut self, slot: u32, value: &Value) {
        let Some(at) = value.as_str().and_then(place) else {
            return;
        };
        let index = slot as usize;
        if self.first.len() <= index {
            self.first.resize(index + 1, NONE);
        }
        if self.first[index] == NONE {
            self.first[index] = at;
        } else {
            self.more.entry(slot).or_default().push(at);
        }
    }

    pub(super) fn remove(&mut self, slot: u32) {
        if let Some(at) = self.first.get_mut(slot as usize) {
            *at = NONE;
        }
        self.more.remove(&slot);
    }

    /// Slots for which this leaf holds; `None` if moments do not tell.
    pub(super) fn meeting(&self, leaf: &Condition) -> Option<RoaringBitmap> {
        match leaf {
            Condition::Equals(_, wanted) => Some(self.equal(std::slice::from_ref(wanted))),
            Condition::In(_, wanted) => Some(self.equal(wanted)),
            Condition::Compares(_, order, bound) => {
                let Some(bound) = bound.as_str() else {
                    return Some(RoaringBitmap::new());
                };
                if self.first.is_empty() {
                    return Some(RoaringBitmap::new());
                }
                // The order of the texts, which is that of time.
                let (start, end) = match place(bound) {
                    Some(at) => (at, at + 1),
                    None => (
                        first_where(|text| text >= bound),
                        first_where(|text| text > bound),
                    ),
                };
                Some(match order {
                    Order::Less => self.testing(|at| at < start),
                    Order::LessOrEqual => self.testing(|at| at < end),
                    Order::Greater => self.testing(|at| at >= end),
                    Order::GreaterOrEqual => self.testing(|at| at >= start),
                })
            }
            _ => None,
        }
    }

    fn equal(&self, wanted: &[Value]) -> RoaringBitmap {
        let wanted = wanted.iter().filter_map(|value| place(value.as_str()?));
        let mut wanted: Vec<i64> = wanted.collect();
        wanted.sort_unstable();
        self.testing(|at| wanted.binary_search(&at).is_ok())
    }

    fn testing(&self, holds: impl Fn(i64) -> bool) -> RoaringBitmap {
        let mut found = RoaringBitmap::new();
        for (slot, at) in (0..).zip(&self.first) {
            if *at != NONE && holds(*at) {
                found.insert(slot);
            }
        }
        let more = self.more.iter();
        found.extend(
            more.filter(|(_, all)| all.iter().any(|at| holds(*at)))
                .map(|(slot, _)| *slot),
        );
        found
    }

    /// How many of these slots have each.
    pub(super) fn counts(&self, slots: &RoaringBitmap) -> Vec<(Value, u64)> {
        let mut counts: BTreeMap<i64, u64> = BTreeMap::new();
        for slot in slots {
            let first = self.first.get(slot as usize).filter(|at| **at != NONE);
            let more = self.more.get(&slot).into_iter().flatten();
            let mut all: Vec<i64> = first.into_iter().chain(more).copied().collect();
            all.sort_unstable();
            all.dedup();
            for at in all {
                *counts.entry(at).or_default() += 1;
            }
        }
        let value = |at| Value::str(text_at(at));
        counts
            .into_iter()
            .map(|(at, count)| (value(at), count))
            .collect()
    }
}

/// The first place whose text is so, from which on all are.
fn first_where(is_so: impl Fn(&str) -> bool) -> i64 {
    let (mut from, mut to) = (2 * FIRST, 2 * LAST + 2);
    while from < to {
        let middle = from + (to - from) / 2;
        if is_so(&text_at(middle)) {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    from
}
