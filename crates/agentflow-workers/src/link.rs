//! One connection to a worker: requests of ours, and the frames that leave.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use agentflow_types::{Error, Result, Value};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use crate::frame;

/// Frames that may wait to be written; beyond it senders wait.
const OUTWARDS: usize = 256;

/// The answer that will come.
pub(crate) type Answer = oneshot::Receiver<Result<Value>>;

/// Our half of a connection.
pub(crate) struct Link {
    out: mpsc::Sender<Vec<u8>>,
    /// Guards who waits for answers; never held across an await.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Result<Value>>>>,
    next_id: AtomicU64,
    limit: usize,
    /// Fires when the connection is over, or is to be.
    closed: CancellationToken,
}

impl Link {
    /// A connection whose frames are written to `stream`; bodies hold at most `limit` bytes.
    pub(crate) fn open(stream: Box<dyn AsyncWrite + Send + Unpin>, limit: usize) -> Self {
        let (out, frames) = mpsc::channel(OUTWARDS);
        let closed = CancellationToken::new();
        let over = closed.clone();
        tokio::spawn(async move {
            tokio::select! {
                // Who reads notices that nothing can be written any more.
                _ = write_all(stream, frames) => {}
                () = over.cancelled() => {}
            }
            over.cancel();
        });
        Self {
            out,
            waiting: Mutex::default(),
            next_id: AtomicU64::new(1),
            limit,
            closed,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Value>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for the next request.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Largest body, in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Fires when the connection is over.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Ends the connection; who waits for an answer gets none.
    pub(crate) fn close(&self) {
        self.closed.cancel();
        self.waiting().clear();
    }

    async fn send(&self, frame: Vec<u8>) -> Result<()> {
        let gone = || Error::busy("the worker is gone");
        tokio::select! {
            sent = self.out.send(frame) => sent.map_err(|_| gone()),
            () = self.closed.cancelled() => Err(gone()),
        }
    }

    /// Sends a request under a number of [`Link::next_id`].
    ///
    /// # Errors
    /// `Invalid` if it is too large, `Busy` if the connection is over.
    pub(crate) async fn request(&self, id: u64, method: &str, params: Value) -> Result<Answer> {
        let frame = frame::request(id, method, params, self.limit)?;
        let (tx, rx) = oneshot::channel();
        self.waiting().insert(id, tx);
        if self.closed.is_cancelled() {
            // Whoever closed it may have looked before we came.
            self.waiting().remove(&id);
        }
        match self.send(frame).await {
            Ok(()) => Ok(rx),
            Err(err) => {
                self.waiting().remove(&id);
                Err(err)
            }
        }
    }

    /// Sends a notification; one that cannot be sent is lost.
    pub(crate) async fn notify(&self, method: &str, params: Value) {
        if let Ok(frame) = frame::notice(method, params, self.limit) {
            // The connection is over, as who reads it says.
            let _ = self.send(frame).await;
        }
    }

    /// Answers a request of the worker.
    pub(crate) async fn answer(&self, id: u64, result: Result<Value>) {
        let frame = frame::answer(id, result, self.limit)
            .or_else(|err| frame::answer(id, Err(err), self.limit));
        if let Ok(frame) = frame {
            // As above.
            let _ = self.send(frame).await;
        }
    }

    /// Takes in an answer; one that nobody waits for is dropped.
    pub(crate) fn answered(&self, id: u64, result: Result<Value>) {
        if let Some(waiting) = self.waiting().remove(&id) {
            // Whoever stopped waiting does not mind.
            let _ = waiting.send(result);
        }
    }
}

/// Writes frames as they come, whatever is ready at once in one go.
async fn write_all(
    stream: Box<dyn AsyncWrite + Send + Unpin>,
    mut frames: mpsc::Receiver<Vec<u8>>,
) -> std::io::Result<()> {
    let mut stream = tokio::io::BufWriter::with_capacity(1 << 16, stream);
    while let Some(frame) = frames.recv().await {
        stream.write_all(&frame).await?;
        while let Ok(frame) = frames.try_recv() {
            stream.write_all(&frame).await?;
        }
        stream.flush().await?;
    }
    Ok(())
}
