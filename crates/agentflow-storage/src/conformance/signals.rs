//! Cases for wake-ups.

use std::time::Duration;

use agentflow_types::{Error, Result};

use super::{
    sample::{run_id, thread_id},
    suite,
};
use crate::{
    Backend,
    signal::{Signal, Signals},
};

suite! { ($)
    /// Runs every case for wake-ups.
    signal_conformance:
    every_listener_hears_a_signal,
    a_listener_hears_all_places,
}

/// How long a wake-up may take; what takes longer counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two tries: one signal may be lost while a listener connects.
const RETRY: Duration = Duration::from_millis(50);

/// Sends `signal` until each of the listeners has heard it.
async fn heard(
    signals: &dyn Signals,
    signal: Signal,
    listeners: &mut [tokio::sync::broadcast::Receiver<Signal>],
) -> Result<()> {
    let all = async {
        for listener in listeners {
            loop {
                signals.send(signal);
                match tokio::time::timeout(RETRY, listener.recv()).await {
                    Ok(Ok(found)) if found == signal => break,
                    Ok(Ok(_)) | Err(_) => {}
                    Ok(Err(err)) => return Err(Error::bug("a listener ended").source_err(err)),
                }
            }
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, all)
        .await
        .map_err(|_| Error::busy("a signal was not heard"))?
}

/// Two listeners both hear it.
pub async fn every_listener_hears_a_signal(backend: Backend) -> Result<()> {
    let signals = backend.signals;
    let mut listeners = [signals.listen(), signals.listen()];
    heard(&*signals, Signal::Queue, &mut listeners).await
}

/// Places are told apart.
pub async fn a_listener_hears_all_places(backend: Backend) -> Result<()> {
    let signals = backend.signals;
    let mut listener = [signals.listen()];
    for signal in [
        Signal::Log(thread_id(1), 1),
        Signal::Queue,
        Signal::Stop(run_id(1)),
        Signal::Ended(run_id(1)),
        Signal::Log(thread_id(1), 2),
        Signal::Log(thread_id(2), 2),
    ] {
        heard(&*signals, signal, &mut listener).await?;
    }
    Ok(())
}
