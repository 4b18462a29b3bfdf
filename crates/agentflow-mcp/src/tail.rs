//! The last words of a program, for the report that it did not start.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes that are kept.
const KEPT: usize = 2048;
/// Bytes that are read at once, and shown as one line of the log.
const CHUNK: usize = 1024;

/// The end of what a program wrote to its standard error.
#[derive(Clone, Default)]
pub(crate) struct Tail(
    /// Guards the bytes; held for one copy.
    Arc<Mutex<Vec<u8>>>,
);

impl Tail {
    /// Reads until the program closes its end.
    pub(crate) async fn read(self, server: String, mut stream: impl AsyncRead + Unpin) {
        let mut chunk = vec![0; CHUNK];
        while let Ok(n @ 1..) = stream.read(&mut chunk).await {
            let text = String::from_utf8_lossy(&chunk[..n]);
            tracing::debug!(server, "mcp server: {}", text.trim_end());
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&chunk[..n]);
            let surplus = kept.len().saturating_sub(KEPT);
            kept.drain(..surplus);
        }
    }

    /// What was kept.
    pub(crate) fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).trim().to_owned()
    }
}
