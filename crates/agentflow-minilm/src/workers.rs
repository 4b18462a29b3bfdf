//! Work on the blocking pool: so much at a time, and so much waiting.

use std::sync::Arc;

use agentflow_types::{Error, Result};
use tokio::sync::Semaphore;

/// Most calls that wait for their turn, unless told otherwise.
const WAITING: usize = 1_024;

/// How many threads compute, and how many calls may wait for them.
#[derive(Clone, Debug)]
pub struct Workers {
    /// Threads that compute.
    running: Arc<Semaphore>,
    /// Calls that were let in, computing or waiting.
    admitted: Arc<Semaphore>,
    threads: usize,
}

impl Workers {
    /// `threads` of them (at least one), and room for 1,024 calls.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self::with_room(threads, WAITING)
    }

    /// `threads` of them (at least one), and room for `calls`.
    #[must_use]
    pub fn with_room(threads: usize, calls: usize) -> Self {
        let threads = threads.max(1);
        Self {
            running: Arc::new(Semaphore::new(threads)),
            admitted: Arc::new(Semaphore::new(calls)),
            threads,
        }
    }

    /// How many pieces of one call may compute at a time.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Lets a call in; it leaves when the guard is dropped.
    ///
    /// # Errors
    /// `Busy` if too many are in.
    pub(crate) fn admit(&self) -> Result<tokio::sync::OwnedSemaphorePermit> {
        self.admitted
            .clone()
            .try_acquire_owned()
            .map_err(|_| Error::busy("too many calls wait for the local model"))
    }

    /// Runs `work` on the blocking pool in its turn. Turns go by the order of asking, so a long
    /// call of many pieces does not keep out a short one. Dropping the future leaves a piece that
    /// has begun to end by itself.
    ///
    /// # Errors
    /// As `work`; `Bug` if it panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let closed = |_| Error::bug("the local model was closed");
        let turn = self.running.clone().acquire_owned().await.map_err(closed)?;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await
            .unwrap_or_else(|error| Err(Error::bug("the local model failed").source_err(error)))
    }
}

impl Default for Workers {
    /// Half of the cores: the other half serves requests.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(cores.div_ceil(2))
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::ErrorKind;

    use super::*;

    #[tokio::test]
    async fn calls_beyond_the_room_are_refused() {
        let workers = Workers::with_room(1, 1);
        let inside = workers.admit().unwrap();
        assert_eq!(workers.admit().unwrap_err().kind(), ErrorKind::Busy);
        drop(inside);
        assert!(workers.admit().is_ok());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_gives_the_turn_back() {
        let workers = Workers::new(1);
        let panics = workers.run(|| -> Result<()> { panic!("as the test wants it") });
        assert_eq!(panics.await.unwrap_err().kind(), ErrorKind::Bug);
        assert_eq!(workers.run(|| Ok(7)).await.unwrap(), 7);
    }
}
