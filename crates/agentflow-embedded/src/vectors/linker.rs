//! The thread that makes links between vectors, so that storing them need not wait for it.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use agentflow_types::Result;

use super::Index;
use crate::error;

/// Most threads that make links; half of the processors are left to others.
const MOST_THREADS: usize = 8;

/// Tells the thread that there may be work.
#[derive(Default)]
pub(super) struct Bell {
    is_rung: Mutex<bool>,
    rung: Condvar,
    ended: AtomicBool,
}

impl Bell {
    pub(super) fn ring(&self) {
        *self.is_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.rung.notify_one();
    }

    fn wait(&self) {
        let is_rung = self.is_rung.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_rung = self
            .rung
            .wait_while(is_rung, |is_rung| !*is_rung)
            .unwrap_or_else(PoisonError::into_inner);
        *is_rung = false;
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// The thread; it ends when this is dropped, after the point that it is at.
pub(crate) struct Linker {
    index: Arc<Index>,
    thread: Option<JoinHandle<()>>,
}

impl Linker {
    pub(crate) fn start(index: &Arc<Index>) -> Result<Self> {
        let worker = index.clone();
        let thread = std::thread::Builder::new()
            .name("agentflow-linker".into())
            .spawn(move || {
                while !worker.bell.has_ended() {
                    worker.bell.wait();
                    link(&worker);
                }
            })
            .map_err(|err| error::file(&err, "cannot start the linking thread"))?;
        Ok(Self {
            index: index.clone(),
            thread: Some(thread),
        })
    }
}

impl Drop for Linker {
    fn drop(&mut self) {
        self.index.bell.ended.store(true, Ordering::Release);
        self.index.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Makes all links that are missing, unless the end comes before.
pub(super) fn link(index: &Index) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (processors / 2).clamp(1, MOST_THREADS);
    while !index.bell.has_ended() {
        let unlinked = index
            .image
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .unlinked(&index.options);
        let Some(work) = unlinked else { return };
        let stops = || index.bell.has_ended();
        work.graph
            .add_piece(&work.pieces, &work.has, threads, stops);
    }
}
