//! One suite of cases per port; every backend runs all of them.
//!
//! A backend's tests say, for each suite,
//!
//! ```text
//! agentflow_storage::checkpoint_conformance!(open);
//! ```
//!
//! where `open` is an async function without arguments that returns a [`Fresh`] backend over an
//! empty database. The macro makes one test per case, so cases run in parallel; the calling crate
//! needs `tokio` with its macros. A backend cannot leave out a case.

pub mod accounts;
pub mod assistants;
pub mod audit;
pub mod cache;
pub mod checkpoints;
pub mod counters;
pub mod crons;
pub mod documents;
pub mod events;
pub mod memories;
pub mod outbox;
pub mod sample;
pub mod sessions;
pub mod signals;
pub mod store;
pub mod threads;
pub mod vectors;

use std::{any::Any, fmt::Debug};

use agentflow_types::{ErrorKind, Result};

use crate::Backend;

/// A backend over an empty database of its own.
pub struct Fresh<B = Backend> {
    /// The backend.
    pub backend: B,
    /// What must live as long, for example a temporary folder.
    pub keep: Box<dyn Any + Send>,
}

impl<B> From<B> for Fresh<B> {
    fn from(backend: B) -> Self {
        Self {
            backend,
            keep: Box::new(()),
        }
    }
}

/// Asserts that a call was refused with an error of this kind.
#[track_caller]
pub fn refused<T: Debug>(result: Result<T>, kind: ErrorKind) {
    match result {
        Ok(value) => panic!("expected {kind:?}, got {value:?}"),
        Err(err) => assert_eq!(err.kind(), kind, "{err:?}"),
    }
}

/// Names the cases of a suite, once: makes its list and the macro that instantiates it.
macro_rules! suite {
    (($d:tt) $(#[$doc:meta])* $name:ident: $($case:ident,)*) => {
        /// Names of the cases.
        pub const CASES: &[&str] = &[$(stringify!($case)),*];

        $(#[$doc])*
        #[macro_export]
        macro_rules! $name {
            ($d open:path) => {
                mod $name {
                    #[allow(unused_imports)]
                    use super::*;
                    $(
                        #[tokio::test]
                        async fn $case() {
                            let fresh = $d open().await;
                            let outcome = $crate::conformance::case!($name, $case)(fresh.backend);
                            if let Err(err) = outcome.await {
                                panic!("{err:?}");
                            }
                        }
                    )*
                }
            };
        }
    };
}
use suite;

/// The function of a case; the suites' macros expand to it.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_case {
    (checkpoint_conformance, $case:ident) => {
        $crate::conformance::checkpoints::$case
    };
    (assistant_conformance, $case:ident) => {
        $crate::conformance::assistants::$case
    };
    (thread_conformance, $case:ident) => {
        $crate::conformance::threads::$case
    };
    (event_conformance, $case:ident) => {
        $crate::conformance::events::$case
    };
    (store_conformance, $case:ident) => {
        $crate::conformance::store::$case
    };
    (cron_conformance, $case:ident) => {
        $crate::conformance::crons::$case
    };
    (outbox_conformance, $case:ident) => {
        $crate::conformance::outbox::$case
    };
    (account_conformance, $case:ident) => {
        $crate::conformance::accounts::$case
    };
    (audit_conformance, $case:ident) => {
        $crate::conformance::audit::$case
    };
    (signal_conformance, $case:ident) => {
        $crate::conformance::signals::$case
    };
    (session_conformance, $case:ident) => {
        $crate::conformance::sessions::$case
    };
    (counter_conformance, $case:ident) => {
        $crate::conformance::counters::$case
    };
    (cache_conformance, $case:ident) => {
        $crate::conformance::cache::$case
    };
    (memory_conformance, $case:ident) => {
        $crate::conformance::memories::$case
    };
    (document_conformance, $case:ident) => {
        $crate::conformance::documents::$case
    };
    (vector_conformance, $case:ident) => {
        $crate::conformance::vectors::$case
    };
}
#[doc(hidden)]
pub use __conformance_case as case;

/// Instantiates every suite of a database; an index of vectors has one of its own,
/// [`vector_conformance`](crate::vector_conformance).
#[macro_export]
macro_rules! backend_conformance {
    ($open:path) => {
        $crate::checkpoint_conformance!($open);
        $crate::assistant_conformance!($open);
        $crate::thread_conformance!($open);
        $crate::event_conformance!($open);
        $crate::store_conformance!($open);
        $crate::cron_conformance!($open);
        $crate::outbox_conformance!($open);
        $crate::signal_conformance!($open);
        $crate::account_conformance!($open);
        $crate::audit_conformance!($open);
        $crate::session_conformance!($open);
        $crate::counter_conformance!($open);
        $crate::cache_conformance!($open);
        $crate::memory_conformance!($open);
        $crate::document_conformance!($open);
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A case that is written but not listed would run nowhere.
    #[test]
    fn every_case_is_listed() {
        let suites: [(&[&str], &[&str]); 16] = [
            (
                checkpoints::CASES,
                &[
                    include_str!("conformance/checkpoints/deltas.rs"),
                    include_str!("conformance/checkpoints/threads.rs"),
                    include_str!("conformance/checkpoints/values.rs"),
                    include_str!("conformance/checkpoints/writes.rs"),
                ],
            ),
            (
                threads::CASES,
                &[
                    include_str!("conformance/threads/decisions.rs"),
                    include_str!("conformance/threads/queue.rs"),
                    include_str!("conformance/threads/removal.rs"),
                    include_str!("conformance/threads/searches.rs"),
                ],
            ),
            (
                assistants::CASES,
                &[include_str!("conformance/assistants.rs")],
            ),
            (events::CASES, &[include_str!("conformance/events.rs")]),
            (store::CASES, &[include_str!("conformance/store.rs")]),
            (crons::CASES, &[include_str!("conformance/crons.rs")]),
            (outbox::CASES, &[include_str!("conformance/outbox.rs")]),
            (accounts::CASES, &[include_str!("conformance/accounts.rs")]),
            (audit::CASES, &[include_str!("conformance/audit.rs")]),
            (signals::CASES, &[include_str!("conformance/signals.rs")]),
            (sessions::CASES, &[include_str!("conformance/sessions.rs")]),
            (counters::CASES, &[include_str!("conformance/counters.rs")]),
            (cache::CASES, &[include_str!("conformance/cache.rs")]),
            (
                memories::CASES,
                &[
                    include_str!("conformance/memories.rs"),
                    include_str!("conformance/memories/conditions.rs"),
                    include_str!("conformance/memories/work.rs"),
                ],
            ),
            (
                documents::CASES,
                &[
                    include_str!("conformance/documents.rs"),
                    include_str!("conformance/documents/blobs.rs"),
                    include_str!("conformance/documents/lists.rs"),
                ],
            ),
            (
                vectors::CASES,
                &[
                    include_str!("conformance/vectors/collections.rs"),
                    include_str!("conformance/vectors/pages.rs"),
                    include_str!("conformance/vectors/points.rs"),
                    include_str!("conformance/vectors/searches.rs"),
                ],
            ),
        ];
        for (listed, sources) in suites {
            let mut listed = listed.to_vec();
            let mut written: Vec<&str> = sources
                .iter()
                .flat_map(|source| source.lines())
                .filter_map(|line| line.strip_prefix("pub async fn "))
                .filter_map(|line| line.split('(').next())
                .collect();
            listed.sort_unstable();
            written.sort_unstable();
            assert_eq!(listed, written);
        }
    }
}
