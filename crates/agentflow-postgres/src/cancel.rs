//! Asking a server to stop a statement.
//!
//! The request goes over a connection of its own, to the very address of the one that works. A
//! pooler forgets the request if that connection ends before it was passed on, so the end is left
//! to the other side.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_postgres::{
    CancelToken, NoTls,
    tls::{ChannelBinding, TlsConnect, TlsStream},
};

use crate::{
    dsn::{Host, Place},
    error,
    tls::{Connector, Handshake, Stream},
};

/// Bytes that are read at once of what nobody wants to know.
const IGNORED_BYTES: usize = 64;

/// Sends the request and waits until the other side has taken it.
///
/// # Errors
/// What was in the way, for the log: whether the statement stops is seen at its own connection.
pub(crate) async fn ask(token: CancelToken, host: &Host, tls: &Connector) -> Result<(), String> {
    let said = |err: tokio_postgres::Error| error::causes(&err);
    let broke = |err: io::Error| err.to_string();
    match &host.place {
        Place::Socket(path) => {
            let path = path.join(format!(".s.PGSQL.{}", host.port));
            let socket = UnixStream::connect(path).await.map_err(broke)?;
            token
                .cancel_query_raw(Patient(socket), NoTls)
                .await
                .map_err(said)
        }
        Place::Tcp(name, address) => {
            let socket = match address {
                Some(address) => TcpStream::connect((*address, host.port)).await,
                None => TcpStream::connect((name.as_str(), host.port)).await,
            };
            let socket = socket.map_err(broke)?;
            let handshake = tls.handshake(name).map_err(|err| err.to_string())?;
            let handshake = PatientHandshake(handshake);
            token
                .cancel_query_raw(Patient(socket), handshake)
                .await
                .map_err(said)
        }
    }
}

/// A connection whose shutdown waits until the other side ends it.
struct Patient<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut bytes = [0; IGNORED_BYTES];
            let mut into = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut self.0).poll_read(cx, &mut into));
            // However it ended, it did.
            if read.is_err() || into.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Patient<Stream<S>> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// A handshake whose connection is patient above TLS too.
struct PatientHandshake(Handshake);

impl<S> TlsConnect<S> for PatientHandshake
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Patient<Stream<S>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Patient<Stream<S>>>>;

    fn connect(self, stream: S) -> Self::Future {
        self.0
            .connect(stream)
            .map(|stream| stream.map(Patient))
            .boxed()
    }
}
