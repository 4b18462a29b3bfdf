//! Who decides next about a thread, within this process.
//!
//! Decisions about one thread wait for one another in the database, each on a connection of the
//! pool, so that one busy thread could take them all. Here they wait before they take one.

use agentflow_types::ThreadId;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Lanes that threads are spread over by their ids; two threads in one lane wait for each other,
/// which costs time only.
const LANES: usize = 1024;

/// The lanes.
pub(crate) struct Turns(Vec<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..LANES).map(|_| Semaphore::new(1)).collect())
    }
}

impl Turns {
    /// Waits until no other decision of this process is under way in the thread's lane, in the
    /// order of the calls; the turn lasts until the permit is dropped.
    pub(crate) async fn turn(&self, thread: ThreadId) -> SemaphorePermit<'_> {
        let (high, low) = thread.0.as_u64_pair();
        let lane = ((high ^ low) % LANES as u64) as usize;
        self.0[lane]
            .acquire()
            .await
            .expect("the lanes are never closed")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_turn_lasts_until_it_is_dropped() {
        let (turns, thread) = (Turns::default(), ThreadId::mint());
        let first = turns.turn(thread).now_or_never().expect("nobody is before");
        assert!(turns.turn(thread).now_or_never().is_none());
        drop(first);
        assert!(turns.turn(thread).now_or_never().is_some());
    }
}
