//! How often which values occurred.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts values by ranges. Threads may observe at once.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than `bounds`, for values above all.
    counts: Box<[AtomicU64]>,
    /// Millionths, because there is no atomic float.
    sum_micros: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Upper ends of the ranges, rising; a value that is equal belongs below.
    pub bounds: &'static [f64],
    /// Values in each range, and last those above all.
    pub counts: Vec<u64>,
    /// All values together.
    pub sum: f64,
}

impl Histogram {
    /// An empty one; `bounds` rise.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_micros: AtomicU64::new(0),
        }
    }

    /// Counts a value; less than nothing counts as nothing.
    pub fn observe(&self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        // The cast saturates.
        self.sum_micros
            .fetch_add((value.max(0.0) * 1e6) as u64, Ordering::Relaxed);
    }

    /// What was counted so far. Values that are observed meanwhile may be in the sum only.
    #[must_use]
    pub fn read(&self) -> Distribution {
        let counts = self.counts.iter().map(|n| n.load(Ordering::Relaxed));
        Distribution {
            bounds: self.bounds,
            counts: counts.collect(),
            sum: self.sum_micros.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_in_their_range() {
        let histogram = Histogram::new(&[0.5, 1.0]);
        for value in [0.0, 0.5, 0.75, 1.0, 1.5, 100.0, -1.0] {
            histogram.observe(value);
        }
        let want = Distribution {
            bounds: &[0.5, 1.0],
            counts: vec![3, 2, 2],
            sum: 103.75,
        };
        assert_eq!(histogram.read(), want);
    }
}
