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

/// Microseconds by slot.
#[derive(Default)]
pub(super) struct Moments {
    first: Vec<i64>,
    /// Those after the first of a list.
    more: BTreeMap<u32, Vec<i64>>,
}

impl Moments {
    pub(super) fn put(&mut self, slot: u32, value: &Value) {
        let Some(moment) = value.as_str().and_then(moment) else {
            return;
        };
        let index = slot as usize;
        if self.first.len() <= index {
            self.first.resize(index + 1, NONE);
        }
        if self.first[index] == NONE {
            self.first[index] = moment.0;
        } else {
            self.more.entry(slot).or_default().push(moment.0);
        }
    }

    pub(super) fn remove(&mut self, slot: u32) {
        if let Some(moment) = self.first.get_mut(slot as usize) {
            *moment = NONE;
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
                // The order of the texts, which is that of time.
                let start = first_where(|text| text >= bound);
                let end = first_where(|text| text > bound);
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
        let wanted = wanted.iter().filter_map(|value| moment(value.as_str()?));
        let mut wanted: Vec<i64> = wanted.map(|moment| moment.0).collect();
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
        let value = |at| Value::str(Timestamp(at).to_string());
        counts
            .into_iter()
            .map(|(at, count)| (value(at), count))
            .collect()
    }
}

/// The first moment whose text is so, from which on all are.
fn first_where(is_so: impl Fn(&str) -> bool) -> i64 {
    let (mut from, mut to) = (FIRST, LAST + 1);
    while from < to {
        let middle = from + (to - from) / 2;
        if is_so(&Timestamp(middle).to_string()) {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    from
}
