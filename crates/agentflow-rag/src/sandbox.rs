//! Parsing in worker processes.
//!
//! A worker is this program once more, started with an argument that makes it call [`worker_main`].
//! It limits itself before it reads a byte: address space, processor time, no new files, no
//! processes, no privileges. It has no environment and no connection but its three pipes. Whatever a
//! file does to it, the file is refused with a reason, the worker is replaced, and nobody else
//! notices.
//!
//! Frames are a length (four bytes, little endian) and JSON. The parent sends [`Limits`] once, then
//! for each document a request and its bytes; the worker answers each.

use std::{
    path::Path,
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{io::AsyncReadExt, sync::Semaphore, time::timeout};

use crate::{
    document::Parsed,
    limits::{Bound, Limits, within},
    parse::Declared,
    refusal::Refusal,
};

mod frame;
mod process;
mod worker;

pub use worker::worker_main;

use process::Process;

/// Documents after which a worker is replaced, so that what a parser leaks does not add up.
const DOCUMENTS: u32 = 200;
/// Time for a worker to start.
const START: Duration = Duration::from_secs(20);

/// How many workers there are, and who may wait for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Worker processes at once.
    pub processes: usize,
    /// Documents that wait for one; more are [`Refusal::Busy`].
    pub waiting: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            processes: 2,
            waiting: 1_000,
        }
    }
}

/// A few worker processes. They start when they are needed and are reused.
#[derive(Debug)]
pub struct Sandbox {
    command: Command,
    limits: Limits,
    size: Size,
    slots: Semaphore,
    waiting: AtomicUsize,
    /// Workers that wait for a document. Guards nothing else; never held across an await.
    idle: Mutex<Vec<Process>>,
}

impl Sandbox {
    /// A sandbox whose workers are started by `command`: its program and arguments, nothing else.
    pub fn new(command: Command, limits: Limits, size: Size) -> Self {
        Self {
            command,
            limits,
            size,
            slots: Semaphore::new(size.processes.max(1)),
            waiting: AtomicUsize::new(0),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// What a document may take here.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Reads a document, as [`crate::parse()`] does.
    ///
    /// Cancelling ends the worker.
    ///
    /// # Errors
    /// [`Refusal`]. Of those that come of the sandbox itself, `Busy` and `Unavailable` do not blame
    /// the document.
    pub async fn parse(&self, bytes: &[u8], declared: &Declared) -> Result<Parsed, Refusal> {
        within(Bound::BytesIn, bytes.len() as u64, self.limits.bytes_in)?;
        let place = Place::take(&self.waiting, self.size.processes + self.size.waiting)?;
        let slot = self.slots.acquire().await;
        let _slot = slot.map_err(|_| unavailable("the sandbox is closed"))?;
        let answer = match self.idle_one() {
            Some(process) => match self.ask(process, bytes, declared).await {
                // It may have ended before it saw the document, or because of what documents
                // before left behind: only a fresh worker is believed.
                Err(Refusal::Crashed { .. } | Refusal::OutOfMemory { .. }) => {
                    self.ask(self.start().await?, bytes, declared).await
                }
                answer => answer,
            },
            None => self.ask(self.start().await?, bytes, declared).await,
        };
        drop(place);
        answer
    }

    async fn ask(
        &self,
        mut process: Process,
        bytes: &[u8],
        declared: &Declared,
    ) -> Result<Parsed, Refusal> {
        let asked = timeout(self.limits.time, process.ask(bytes, declared, &self.limits)).await;
        match asked {
            Err(_) => {
                process.kill().await;
                Err(Refusal::Timeout {
                    allowed: self.limits.time,
                })
            }
            Ok(Err(broken)) => Err(process.autopsy(&broken, &self.limits).await),
            Ok(Ok(answer)) => {
                // After a panic, a worker ends by itself.
                let panicked = matches!(answer, Err(Refusal::Crashed { .. }));
                if !panicked && process.documents < DOCUMENTS {
                    self.idle_now().push(process);
                }
                answer
            }
        }
    }

    /// Reads a document out of a file. One that is too large is refused without reading it.
    ///
    /// # Errors
    /// As [`Sandbox::parse`]; `Unavailable` if the file cannot be read.
    pub async fn parse_file(&self, path: &Path, declared: &Declared) -> Result<Parsed, Refusal> {
        let broken = |error: std::io::Error| unavailable(format!("{}: {error}", path.display()));
        let file = tokio::fs::File::open(path).await.map_err(broken)?;
        let size = file.metadata().await.map_err(broken)?.len();
        within(Bound::BytesIn, size, self.limits.bytes_in)?;
        let mut bytes = Vec::new();
        // The file may grow meanwhile.
        let mut file = file.take(self.limits.bytes_in.saturating_add(1));
        file.read_to_end(&mut bytes).await.map_err(broken)?;
        self.parse(&bytes, declared).await
    }

    /// Ids of the workers that wait for a document.
    pub fn idle_workers(&self) -> Vec<u32> {
        self.idle_now().iter().filter_map(Process::id).collect()
    }

    fn idle_now(&self) -> std::sync::MutexGuard<'_, Vec<Process>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker that is there. One that ended meanwhile must not be blamed on the next document.
    fn idle_one(&self) -> Option<Process> {
        let mut idle = self.idle_now();
        while let Some(mut process) = idle.pop() {
            if process.lives() {
                return Some(process);
            }
        }
        None
    }

    async fn start(&self) -> Result<Process, Refusal> {
        let started = timeout(START, Process::start(&self.command, &self.limits)).await;
        match started {
            Ok(Ok(process)) => Ok(process),
            Ok(Err(error)) => Err(unavailable(format!("the parser did not start: {error}"))),
            Err(_) => Err(unavailable("the parser did not start in time")),
        }
    }
}

fn unavailable(message: impl Into<String>) -> Refusal {
    Refusal::Unavailable {
        message: message.into(),
    }
}

/// A place in the queue, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(count: &'a AtomicUsize, most: usize) -> Result<Self, Refusal> {
        if count.fetch_add(1, Ordering::Relaxed) >= most {
            count.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Busy);
        }
        Ok(Self(count))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
