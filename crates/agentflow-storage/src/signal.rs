//! Wake-ups between the processes that share a database.
//!
//! A signal carries no data: it says where to look. It may be lost, doubled or late; whoever waits
//! for one also looks by itself from time to time.

use std::{fmt, str::FromStr};

use agentflow_types::{Error, Result, RunId, ThreadId};
use tokio::sync::broadcast;

/// Signals that a listener may lag behind before it learns only that it missed some.
pub const LAG: usize = 1024;

/// Where something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// There may be a run to claim.
    Queue,
    /// A thread's log grew up to this number.
    Log(ThreadId, u64),
    /// A running run is to be stopped.
    Stop(RunId),
    /// A run is over.
    Ended(RunId),
    /// Signals may have been lost: look everywhere.
    Missed,
}

/// As it travels between processes.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue => f.write_str("queue"),
            Self::Log(thread, seq) => write!(f, "log {thread} {seq}"),
            Self::Stop(run) => write!(f, "stop {run}"),
            Self::Ended(run) => write!(f, "ended {run}"),
            Self::Missed => f.write_str("missed"),
        }
    }
}

impl FromStr for Signal {
    type Err = Error;

    /// # Errors
    /// `Invalid` for what a newer version may say; whoever hears it may ignore it.
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::invalid("unknown signal").with("signal", text);
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "queue" => Ok(Self::Queue),
            "log" => {
                let (thread, seq) = rest.split_once(' ').ok_or_else(unknown)?;
                Ok(Self::Log(
                    thread.parse()?,
                    seq.parse().map_err(|_| unknown())?,
                ))
            }
            "stop" => Ok(Self::Stop(rest.parse()?)),
            "ended" => Ok(Self::Ended(rest.parse()?)),
            "missed" => Ok(Self::Missed),
            _ => Err(unknown()),
        }
    }
}

/// Sends and hears wake-ups.
pub trait Signals: Send + Sync {
    /// Tells every listener, in this process and in others. Returns at once; equal signals sent
    /// shortly after one another may arrive as one.
    fn send(&self, signal: Signal);

    /// Hears what is sent from now on. A listener that lagged, or hears [`Signal::Missed`], must
    /// look everywhere.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_as_it_was_written() {
        let (thread, run) = (ThreadId::mint(), RunId::mint());
        for signal in [
            Signal::Queue,
            Signal::Log(thread, u64::MAX),
            Signal::Stop(run),
            Signal::Ended(run),
            Signal::Missed,
        ] {
            assert_eq!(signal.to_string().parse::<Signal>().unwrap(), signal);
        }
        for text in ["", "newer", "log", "log x 1", "stop", "ended 1"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }
}
