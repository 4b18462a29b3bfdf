//! Folding the write-ahead log into the database, beside the writer.
//!
//! SQLite would fold inside some unlucky commit and make everybody wait for the disk. Here a
//! thread folds most of the log through a connection of its own while writes go on; then it holds
//! the writer for the little that came meanwhile, after which the next write begins the log anew.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    thread::JoinHandle,
};

use agentflow_types::Result;
use rusqlite::{Connection, hooks::Wal};

use crate::error;

/// Pages in the log from which on it is folded, four times SQLite's own number: 16 MB. Pages that
/// are written again and again are folded once, so a longer log is less work and fewer flushes of
/// the disk; readers pay with a longer index, a start after a crash by reading the log.
const LONG: i32 = 4000;

/// A folding thread.
pub(crate) struct Folder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Pages in the log after the last commit.
    pages: AtomicI32,
    order: Mutex<Order>,
    bell: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Wait,
    Fold,
    End,
}

impl Folder {
    /// Counts the pages that `writer` writes and starts the thread, which folds through
    /// `connection` and ends when the `Folder` is dropped. Each time it held the writer it calls
    /// `released`.
    pub(crate) fn start(
        connection: Connection,
        writer: &Arc<Mutex<Connection>>,
        released: impl Fn() + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            pages: AtomicI32::new(0),
            order: Mutex::new(Order::Wait),
            bell: Condvar::new(),
        });
        let counter = shared.clone();
        let count = move |_: &mut Wal, pages| {
            counter.pages.store(pages, Ordering::Release);
            Ok(())
        };
        {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            // This replaces SQLite's own folding.
            writer.wal_hook(Some(count)).map_err(error::from)?;
        }
        let (worker, writer) = (shared.clone(), writer.clone());
        let thread = std::thread::Builder::new()
            .name("agentflow-folder".into())
            .spawn(move || worker.work(&connection, &writer, released))
            .map_err(|err| error::file(&err, "cannot start the folding thread"))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Starts folding if the log is long.
    pub(crate) fn look(&self) {
        if self.shared.pages.load(Ordering::Acquire) > LONG {
            // Asked once per length: the next commit says how long the log is then.
            self.shared.pages.store(0, Ordering::Release);
            self.shared.give(Order::Fold);
        }
    }
}

#[cfg(test)]
impl Folder {
    /// Pages in the log after the last commit; 0 once folding was asked for.
    pub(crate) fn pages(&self) -> i32 {
        self.shared.pages.load(Ordering::Acquire)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.shared.give(Order::End);
        let thread = self.thread.take();
        // The last handle of the database may be dropped anywhere.
        if let Some(thread) = thread.filter(|t| t.thread().id() != std::thread::current().id()) {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn give(&self, order: Order) {
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = order;
        self.bell.notify_one();
    }

    fn next(&self) -> Order {
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let mut order = self
            .bell
            .wait_while(order, |order| *order == Order::Wait)
            .unwrap_or_else(PoisonError::into_inner);
        let next = *order;
        if next == Order::Fold {
            *order = Order::Wait;
        }
        next
    }

    fn work(&self, connection: &Connection, writer: &Mutex<Connection>, released: impl Fn()) {
        while self.next() == Order::Fold {
            fold(connection);
            fold(&writer.lock().unwrap_or_else(PoisonError::into_inner));
            released();
        }
    }
}

/// Folds what no reader needs any more.
fn fold(db: &Connection) {
    // If it fails the log stays complete, and grows until a later try succeeds; should the disk be
    // the reason, the next commit says so.
    let _ = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
}
