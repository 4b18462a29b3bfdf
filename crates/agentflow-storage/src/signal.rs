//! Wake-ups between the processes that share a database.
//!
//! A signal carries no data: it says where to look. It may be lost, doubled or late; whoever waits
//! for one also looks by itself from time to time.

use agentflow_types::ThreadId;
use tokio::sync::broadcast;

/// Signals that a listener may lag behind before it learns only that it missed some.
pub const LAG: usize = 1024;

/// Where something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// There may be a run to claim.
    Queue,
    /// A thread's log grew, or one of its runs changed.
    Thread(ThreadId),
}

/// Sends and hears wake-ups.
pub trait Signals: Send + Sync {
    /// Tells every listener, in this process and in others. Returns at once; equal signals sent
    /// shortly after one another may arrive as one.
    fn send(&self, signal: Signal);

    /// Hears what is sent from now on. A listener that lagged must look everywhere.
    fn listen(&self) -> broadcast::Receiver<Signal>;
}

/// Signals within one process.
#[derive(Debug)]
pub struct Local(broadcast::Sender<Signal>);

impl Default for Local {
    fn default() -> Self {
        Self(broadcast::channel(LAG).0)
    }
}

impl Signals for Local {
    fn send(&self, signal: Signal) {
        // Nobody listening is fine.
        let _ = self.0.send(signal);
    }

    fn listen(&self) -> broadcast::Receiver<Signal> {
        self.0.subscribe()
    }
}
