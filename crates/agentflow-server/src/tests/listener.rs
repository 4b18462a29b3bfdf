//! The listener: draining, stalled readers, connection limits.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::{SOON, Server};
use crate::Limits;

struct Listening {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<agentflow_types::Result<()>>,
    _server: Server,
}

async fn listen(limits: Limits) -> Listening {
    let server = Server::with(limits).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let (router, state) = (server.router.clone(), server.state.clone());
    let serving = tokio::spawn(crate::serve(listener, router, state, stop.clone()));
    Listening {
        address,
        stop,
        serving,
        _server: server,
    }
}

async fn send(socket: &mut TcpStream, line: &str, body: &str) {
    let text = format!(
        "{line} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    // A server that cut the connection is seen by whoever reads next.
    let _ = socket.write_all(text.as_bytes()).await;
}

/// Reads until `wanted` was seen, or the other side closes.
async fn read_until(socket: &mut TcpStream, wanted: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while wanted.is_empty() || !seen.contains(wanted) {
        let n = tokio::time::timeout(SOON, socket.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        if n == 0 {
            break;
        }
        seen.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    seen
}

const HANGS: &str = r#"{"assistant_id":"agent","input":{"do":[["hang"]]}}"#;

#[tokio::test]
async fn draining_breaks_long_streams_off_and_refuses_new_connections() {
    let limits = Limits {
        drain: Duration::from_millis(50),
        ..Limits::default()
    };
    let up = listen(limits).await;
    let mut socket = TcpStream::connect(up.address).await.unwrap();
    send(&mut socket, "POST /runs/stream", HANGS).await;
    read_until(&mut socket, "metadata").await;
    up.stop.cancel();
    let rest = read_until(&mut socket, "").await;
    // No last, empty chunk: a body that is not complete tells the client to come back.
    assert!(!rest.ends_with("0\r\n\r\n"), "{rest:?}");
    tokio::time::timeout(SOON, up.serving)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(up.address).await.is_err());
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_end() {
    let up = listen(Limits {
        drain: Duration::from_secs(60),
        ..Limits::default()
    })
    .await;
    let mut socket = TcpStream::connect(up.address).await.unwrap();
    send(&mut socket, "GET /ok", "").await;
    read_until(&mut socket, "services").await;
    let before = Instant::now();
    up.stop.cancel();
    tokio::time::timeout(SOON, up.serving)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(before.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_connection_that_never_reads_is_closed() {
    let limits = Limits {
        stall: Duration::from_millis(100),
        ..Limits::default()
    };
    let up = listen(limits).await;
    let mut socket = TcpStream::connect(up.address).await.unwrap();
    // Pipelined answers of some megabytes fill every buffer between the two sides.
    let body = format!(r#"{{"metadata":{{"x":"{}"}}}}"#, "y".repeat(4 << 20));
    let flood = async {
        for _ in 0..16 {
            send(&mut socket, "POST /threads", &body).await;
        }
    };
    // Writing stops once the server does; it must not stop for ever.
    let _ = tokio::time::timeout(Duration::from_secs(2), flood).await;
    let mut sink = vec![0; 1 << 20];
    let end = tokio::time::timeout(SOON, async {
        loop {
            match socket.read(&mut sink).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    });
    end.await.expect("the server closed the connection");
    up.stop.cancel();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let up = listen(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    let mut first = TcpStream::connect(up.address).await.unwrap();
    send(&mut first, "GET /ok", "").await;
    read_until(&mut first, "services").await;
    let mut second = TcpStream::connect(up.address).await.unwrap();
    send(&mut second, "GET /ok", "").await;
    let mut buffer = [0; 16];
    let early = tokio::time::timeout(Duration::from_millis(50), second.read(&mut buffer)).await;
    assert!(early.is_err(), "no answer while the only place is taken");
    drop(first);
    read_until(&mut second, "services").await;
    up.stop.cancel();
}
