//! A queue between who writes a stream and who reads it, bounded by pieces and by bytes.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Nobody reads any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// The writing end. Clones share the room.
pub(crate) struct Sender<T> {
    tx: mpsc::Sender<(T, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    /// All the room there is, in bytes.
    most: u32,
}

/// The reading end.
pub(crate) struct Receiver<T>(mpsc::Receiver<(T, OwnedSemaphorePermit)>);

/// A queue of at most `pieces`, and of `bytes` unless a single piece is larger.
pub(crate) fn queue<T>(pieces: usize, bytes: usize) -> (Sender<T>, Receiver<T>) {
    let (tx, rx) = mpsc::channel(pieces.max(1));
    let most = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
    let room = Arc::new(Semaphore::new(most as usize));
    (Sender { tx, room, most }, Receiver(rx))
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            tx: self.tx.clone(),
            room: self.room.clone(),
            most: self.most,
        }
    }
}

impl<T> Sender<T> {
    /// Puts a piece of so many bytes in; waits for room.
    ///
    /// # Errors
    /// [`Closed`].
    pub(crate) async fn send(&self, piece: T, bytes: usize) -> Result<(), Closed> {
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.most);
        let room = self.room.clone().acquire_many_owned(wanted);
        let place = tokio::select! {
            place = room => place.map_err(|_| Closed)?,
            () = self.tx.closed() => return Err(Closed),
        };
        self.tx.send((piece, place)).await.map_err(|_| Closed)
    }

    /// Waits until nobody reads any more.
    pub(crate) async fn closed(&self) {
        self.tx.closed().await;
    }
}

impl<T> Receiver<T> {
    /// The next piece; `None` when nobody writes any more.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        self.0.recv().await.map(|(piece, _)| piece)
    }
}

impl<T> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(cx).map(|got| got.map(|(piece, _)| piece))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn fits(tx: &Sender<u8>, bytes: usize) -> bool {
        let sent = tokio::time::timeout(Duration::from_secs(1), tx.send(0, bytes)).await;
        sent == Ok(Ok(()))
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_and_bytes_are_bounded() {
        let (tx, mut rx) = queue(3, 100);
        assert!(fits(&tx, 60).await && fits(&tx, 40).await);
        assert!(!fits(&tx, 1).await);
        rx.recv().await.unwrap();
        assert!(fits(&tx, 60).await);
        rx.recv().await.unwrap();
        assert!(fits(&tx, 0).await && fits(&tx, 0).await);
        assert!(!fits(&tx, 0).await, "three pieces are all");
        while tokio::time::timeout(Duration::from_secs(1), rx.recv())
            .await
            .is_ok()
        {}
        assert!(fits(&tx, 1_000_000).await, "one piece may be larger");
        assert!(!fits(&tx, 1).await);
        drop(rx);
        assert_eq!(tx.send(0, 1).await, Err(Closed));
    }
}
