//! The listener: accepts connections, bounds them, ends them in order.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use agentflow_types::Result;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, Sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{AppState, Limits};

/// Pause after the system refused to accept a connection, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections may take to close after their streams were ended.
const CLOSE: Duration = Duration::from_secs(2);

/// Serves `router` until `stop` fires; then takes no more connections, lets requests finish for
/// [`Limits::drain`], ends the streams that are left, and returns when all connections closed.
///
/// # Errors
/// None at present.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    state: AppState,
    stop: CancellationToken,
) -> Result<()> {
    let limits = state.limits.clone();
    let places = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    loop {
        // A place first: connections beyond the limit wait in the socket's backlog.
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async {
                let place = places.clone().acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (Ok(place), Ok((socket, _))) => {
                let serving = connection(socket, router.clone(), limits.clone(), stop.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            (_, Err(err)) => {
                tracing::warn!(error = %err, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (Err(_), _) => break,
        }
    }
    drop(listener);
    connections.close();
    state.tasks.close();
    if tokio::time::timeout(limits.drain, connections.wait())
        .await
        .is_err()
    {
        state.closing.cancel();
        if tokio::time::timeout(CLOSE, connections.wait())
            .await
            .is_err()
        {
            tracing::info!(open = connections.len(), "connections were left open");
        }
    }
    state.closing.cancel();
    // What feeds streams ends by itself now; waiting bounds it to the same time.
    let _ = tokio::time::timeout(CLOSE, state.tasks.wait()).await;
    Ok(())
}

/// Serves one connection.
async fn connection(
    socket: TcpStream,
    router: Router,
    limits: Arc<Limits>,
    stop: CancellationToken,
) {
    // Frames are small and must not wait for each other.
    if let Err(err) = socket.set_nodelay(true) {
        tracing::debug!(error = %err, "no TCP_NODELAY");
    }
    let io = TokioIo::new(Impatient::new(socket, limits.stall));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout);
    let service = TowerToHyperService::new(router);
    let mut serving = std::pin::pin!(builder.serve_connection(io, service).with_upgrades());
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(err) = ended {
        tracing::debug!(error = %err, "a connection broke");
    }
}

/// A connection whose writes fail when the other side does not read for too long.
struct Impatient<T> {
    inner: T,
    stall: Duration,
    /// Runs while a write waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> Impatient<T> {
    fn new(inner: T, stall: Duration) -> Self {
        Self {
            inner,
            stall,
            timer: None,
        }
    }

    /// Passes a finished write on; lets a waiting one wait until its time is over.
    fn bound<V>(
        &mut self,
        written: Poll<io::Result<V>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<V>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let stall = self.stall;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + stall)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Impatient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Impatient<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.bound(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.bound(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.bound(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.bound(closed, cx)
    }
}
