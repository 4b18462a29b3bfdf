//! What the connections to Redis tell about themselves.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use agentflow_storage::figures::{Figure, Figures, Reading, Spread};

use crate::Redis;

/// Ends of the ranges in which the time of commands is counted, in seconds.
const TIMES: [f64; 8] = [0.0005, 0.002, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0];

/// What is counted while Redis is used; shared by its connections.
#[derive(Default)]
pub(crate) struct Stats {
    open: AtomicU64,
    connects: AtomicU64,
    refusals: AtomicU64,
    losses: AtomicU64,
    errors: AtomicU64,
    times: [AtomicU64; TIMES.len() + 1],
    took_micros: AtomicU64,
}

impl Stats {
    /// A connection was opened.
    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Relaxed);
        self.connects.fetch_add(1, Relaxed);
    }

    /// A connection could not be opened.
    pub(crate) fn refused(&self) {
        self.refusals.fetch_add(1, Relaxed);
    }

    /// A connection was given up.
    pub(crate) fn lost(&self) {
        self.open.fetch_sub(1, Relaxed);
        self.losses.fetch_add(1, Relaxed);
    }

    /// A command was answered, with an error or not, or was not.
    pub(crate) fn sent(&self, took: Duration, has_failed: bool) {
        let range = TIMES.partition_point(|bound| *bound < took.as_secs_f64());
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.times[range].fetch_add(1, Relaxed);
        self.took_micros.fetch_add(micros, Relaxed);
        self.errors.fetch_add(u64::from(has_failed), Relaxed);
    }

    fn figures(&self) -> Vec<Figure> {
        let open = usize::try_from(self.open.load(Relaxed)).unwrap_or(usize::MAX);
        let spread = Spread {
            bounds: &TIMES,
            counts: self.times.iter().map(|count| count.load(Relaxed)).collect(),
            sum: self.took_micros.load(Relaxed) as f64 / 1e6,
        };
        let totals = [
            (
                "redis_connects_total",
                "Connections to Redis that were opened.",
                &self.connects,
            ),
            (
                "redis_connect_failures_total",
                "Connections to Redis that could not be opened.",
                &self.refusals,
            ),
            (
                "redis_disconnects_total",
                "Connections to Redis that broke or did not answer.",
                &self.losses,
            ),
            (
                "redis_command_errors_total",
                "Commands that Redis refused or did not answer.",
                &self.errors,
            ),
        ];
        let mut all = vec![
            Figure::level(
                "redis_connections",
                "Connections to Redis that commands share; 0 while it is away.",
                open,
            ),
            Figure {
                name: "redis_command_seconds",
                help: "How long Redis took to answer.",
                reading: Reading::Spread(spread),
            },
        ];
        let count = |(name, help, count): (_, _, &AtomicU64)| {
            Figure::count(name, help, count.load(Relaxed))
        };
        all.extend(totals.map(count));
        all
    }
}

impl Figures for Redis {
    fn figures(&self) -> Vec<Figure> {
        self.inner.link.stats().figures()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_says_what_happened() {
        let stats = Stats::default();
        stats.refused();
        stats.opened();
        stats.opened();
        stats.lost();
        stats.sent(Duration::from_millis(1), false);
        stats.sent(Duration::from_secs(60), true);
        let said: Vec<String> = stats
            .figures()
            .into_iter()
            .map(|figure| match figure.reading {
                Reading::Level(n) | Reading::Count(n) => format!("{} {n}", figure.name),
                Reading::Spread(spread) => format!("{} {:?}", figure.name, spread.counts),
            })
            .collect();
        assert_eq!(
            said,
            [
                "redis_connections 1",
                "redis_command_seconds [0, 1, 0, 0, 0, 0, 0, 0, 1]",
                "redis_connects_total 2",
                "redis_connect_failures_total 1",
                "redis_disconnects_total 1",
                "redis_command_errors_total 1",
            ]
        );
    }
}
