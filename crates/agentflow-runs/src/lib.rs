//! Assistants, threads, runs: queue, leases, multitask strategies, event log, crons.

pub mod host;
