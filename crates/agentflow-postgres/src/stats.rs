//! How busy the pool is, and has been.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use agentflow_storage::figures::{Figure, Figures, Reading, Spread};

use crate::{Hearing, Postgres};

/// How busy the pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Most connections that there may be.
    pub max_size: usize,
    /// Connections that there are.
    pub size: usize,
    /// Those in use.
    pub in_use: usize,
    /// Callers that wait for one at the moment.
    pub waiting: usize,
    /// Callers that ever had to wait.
    pub waits: u64,
    /// How long they waited, together.
    pub waited: Duration,
    /// Callers that waited in vain.
    pub timeouts: u64,
    /// Connections that were closed because their user was cancelled or ran out of time.
    pub discarded: u64,
    /// Connections that were opened.
    pub connects: u64,
    /// Connections that were closed, or broke.
    pub disconnects: u64,
    /// Statements that took too long and were stopped.
    pub statement_timeouts: u64,
    /// Statements that took longer than [`crate::Limits::slow_statement`].
    pub slow_statements: u64,
}

/// Ends of the ranges in which waits are counted, in seconds.
const WAITS: [f64; 8] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 10.0];

/// What is counted while the pool is used.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) waiting: AtomicU64,
    waits: [AtomicU64; WAITS.len() + 1],
    waited_micros: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) discarded: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) disconnects: AtomicU64,
    pub(crate) statement_timeouts: AtomicU64,
    pub(crate) slow_statements: AtomicU64,
}

impl Counters {
    /// Counts a wait that is over.
    pub(crate) fn waited(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let range = WAITS.partition_point(|bound| *bound < seconds);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.waits[range].fetch_add(1, Relaxed);
        self.waited_micros.fetch_add(micros, Relaxed);
    }

    /// What was counted, beside what the pool itself knows.
    pub(crate) fn stats(&self, max_size: usize, size: usize, in_use: usize) -> Stats {
        let waits = self.waits.iter().map(|count| count.load(Relaxed));
        Stats {
            max_size,
            size,
            in_use,
            waiting: usize::try_from(self.waiting.load(Relaxed)).unwrap_or(usize::MAX),
            waits: waits.sum(),
            waited: Duration::from_micros(self.waited_micros.load(Relaxed)),
            timeouts: self.timeouts.load(Relaxed),
            discarded: self.discarded.load(Relaxed),
            connects: self.connects.load(Relaxed),
            disconnects: self.disconnects.load(Relaxed),
            statement_timeouts: self.statement_timeouts.load(Relaxed),
            slow_statements: self.slow_statements.load(Relaxed),
        }
    }

    fn wait_spread(&self) -> Spread {
        Spread {
            bounds: &WAITS,
            counts: self.waits.iter().map(|count| count.load(Relaxed)).collect(),
            sum: self.waited_micros.load(Relaxed) as f64 / 1e6,
        }
    }
}

impl Figures for Postgres {
    fn figures(&self) -> Vec<Figure> {
        let stats = self.stats();
        let listening = Figure::level(
            "database_listening",
            "1 if wake-ups of other servers arrive, else 0: they are looked for.",
            usize::from(self.hearing() == Hearing::On),
        );
        let waits = Figure {
            name: "database_wait_seconds",
            help: "How long callers waited for a connection that had to wait.",
            reading: Reading::Spread(self.pool.counters().wait_spread()),
        };
        let mut all = vec![listening, waits];
        all.extend(stats.levels());
        all.extend(stats.totals());
        all
    }
}

impl Stats {
    fn levels(&self) -> [Figure; 5] {
        let idle = self.size.saturating_sub(self.in_use);
        [
            (
                "database_connections_max",
                "Most connections to the database.",
                self.max_size,
            ),
            (
                "database_connections",
                "Connections to the database.",
                self.size,
            ),
            (
                "database_connections_in_use",
                "Connections that somebody uses.",
                self.in_use,
            ),
            (
                "database_connections_idle",
                "Connections that nobody uses.",
                idle,
            ),
            (
                "database_waiting",
                "Callers that wait for a connection.",
                self.waiting,
            ),
        ]
        .map(|(name, help, value)| Figure::level(name, help, value))
    }

    fn totals(&self) -> [Figure; 6] {
        [
            (
                "database_wait_timeouts_total",
                "Callers that waited for a connection in vain.",
                self.timeouts,
            ),
            (
                "database_connects_total",
                "Connections that were opened.",
                self.connects,
            ),
            (
                "database_disconnects_total",
                "Connections that were closed or broke.",
                self.disconnects,
            ),
            (
                "database_discards_total",
                "Connections that were closed because their user was cancelled or out of time.",
                self.discarded,
            ),
            (
                "database_statement_timeouts_total",
                "Statements that took too long and were stopped.",
                self.statement_timeouts,
            ),
            (
                "database_slow_statements_total",
                "Statements that took longer than storage.slow_statement_milliseconds.",
                self.slow_statements,
            ),
        ]
        .map(|(name, help, value)| Figure::count(name, help, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_in_the_range_that_ends_at_or_above_it() {
        let counters = Counters::default();
        for micros in [0, 1000, 1001, 600_000, 60_000_000] {
            counters.waited(Duration::from_micros(micros));
        }
        let spread = counters.wait_spread();
        assert_eq!(spread.counts, [2, 1, 0, 0, 0, 1, 0, 0, 1]);
        assert_eq!(spread.counts.len(), spread.bounds.len() + 1);
        assert!((spread.sum - 60.602_001).abs() < 1e-9);
        assert_eq!(counters.stats(0, 0, 0).waits, 5);
    }
}
