//! What this process measured about runs.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use agentflow_storage::record::Run;
use agentflow_types::{
    Timestamp,
    histogram::{Distribution, Histogram},
};

use crate::machine;

/// Ranges of waits and runs, in seconds: from direct dispatch to a day.
const SECONDS: &[f64] = &[
    0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0,
];

/// Counts runs.
#[derive(Debug)]
pub(crate) struct Meter {
    waited: Histogram,
    /// By status. Guards the map only for one look-up.
    ran: Mutex<BTreeMap<&'static str, Histogram>>,
}

/// What a [`Meter`] counted since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Seconds between the moment at which a run was due and its start here.
    pub waited: Distribution,
    /// Seconds from the start of the last attempt to the end, by status.
    pub ran: Vec<(&'static str, Distribution)>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            waited: Histogram::new(SECONDS),
            ran: Mutex::default(),
        }
    }

    /// A run starts.
    pub(crate) fn started(&self, run: &Run) {
        // Waiting ends with the first attempt; later ones tell of lost workers.
        if let (1, Some(started)) = (run.attempt, machine::started_at(run)) {
            self.waited
                .observe(started.since(run.created_at).as_secs_f64());
        }
    }

    /// A run that `was` executing here ended with this status.
    pub(crate) fn ended(&self, was: &Run, status: &'static str, now: Timestamp) {
        let Some(started) = machine::started_at(was) else {
            return;
        };
        let mut ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
        ran.entry(status)
            .or_insert_with(|| Histogram::new(SECONDS))
            .observe(now.since(started).as_secs_f64());
    }

    pub(crate) fn read(&self) -> Measured {
        let ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
        let ran = ran
            .iter()
            .map(|(status, seconds)| (*status, seconds.read()));
        Measured {
            waited: self.waited.read(),
            ran: ran.collect(),
        }
    }
}
