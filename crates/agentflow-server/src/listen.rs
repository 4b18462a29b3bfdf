//! The listener: accepts connections, bounds them, ends them in order.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use agentflow_types::Result;
use axum::Router;
use hyper::{Request, body::Incoming, server::conn::http1};
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
use tower::ServiceBuilder;

use crate::{AppState, Limits, Tls};

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Pause after the system refused to accept a connection, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that the HTTP library needs for headers at least.
const MIN_HEADER_BYTES: usize = 8192;
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
            (Ok(place), Ok((socket, peer))) => {
                let parts = Parts {
                    router: router.clone(),
                    limits: limits.clone(),
                    stop: stop.clone(),
                    peer: Peer(peer),
                };
                let serving = accepted_over(socket, state.tls.clone(), parts);
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

/// What a connection is served with.
struct Parts {
    router: Router,
    limits: Arc<Limits>,
    stop: CancellationToken,
    peer: Peer,
}

/// Serves one connection, after the handshake if there is TLS.
async fn accepted_over(socket: TcpStream, tls: Option<Arc<Tls>>, parts: Parts) {
    // Frames are small and must not wait for each other.
    if let Err(err) = socket.set_nodelay(true) {
        tracing::debug!(error = %err, "no TCP_NODELAY");
    }
    let Some(tls) = tls else {
        return connection(socket, parts).await;
    };
    let handshake = tls.acceptor().accept(socket);
    match tokio::time::timeout(parts.limits.header_timeout, handshake).await {
        Ok(Ok(socket)) => connection(socket, parts).await,
        Ok(Err(err)) => tracing::debug!(error = %err, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Serves one connection.
async fn connection(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, parts: Parts) {
    let Parts {
        router,
        limits,
        stop,
        peer,
    } = parts;
    let io = TokioIo::new(Impatient::new(socket, limits.stall));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes.max(MIN_HEADER_BYTES));
    let service = ServiceBuilder::new()
        .map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            request
        })
        .service(router);
    let service = TowerToHyperService::new(service);
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
