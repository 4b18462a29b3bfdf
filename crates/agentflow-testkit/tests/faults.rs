//! What clients see through the fault proxy.

use std::{io, time::Duration};

use agentflow_testkit::{
    faults::{Fault, Proxy, Schedule},
    waiting,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

const DEADLINE: Duration = Duration::from_secs(10);

/// Longer than an answer takes on a busy machine, if there is one.
const SILENCE: Duration = Duration::from_millis(300);

/// A server that answers each byte with `mark`; returns its port.
async fn marker(mark: u8) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    if stream.write_all(&vec![mark; count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

async fn connect(proxy: &Proxy) -> io::Result<TcpStream> {
    TcpStream::connect(("127.0.0.1", proxy.port())).await
}

/// Sends a byte and waits for its answer.
async fn ask(stream: &mut TcpStream) -> io::Result<u8> {
    stream.write_all(b"?").await?;
    timeout(DEADLINE, stream.read_u8()).await?
}

#[tokio::test]
async fn bytes_pass_and_are_counted() {
    let proxy = Proxy::start(marker(b'a').await).await.unwrap();
    let mut stream = connect(&proxy).await.unwrap();
    assert_eq!(ask(&mut stream).await.unwrap(), b'a');
    let counts = proxy.counts();
    assert_eq!((counts.accepted, counts.open), (1, 1));
    assert_eq!((counts.bytes_up, counts.bytes_down), (1, 1));
    drop(stream);
    let closed = async || proxy.counts().open == 0;
    waiting::until(DEADLINE, closed).await.unwrap();
}

#[tokio::test]
async fn latency_counts_in_both_directions() {
    let proxy = Proxy::start(marker(b'a').await).await.unwrap();
    let mut stream = connect(&proxy).await.unwrap();
    proxy.latency(Duration::from_millis(40));
    let started = Instant::now();
    ask(&mut stream).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn bandwidth_is_a_limit() {
    let proxy = Proxy::start(marker(b'a').await).await.unwrap();
    let mut stream = connect(&proxy).await.unwrap();
    proxy.bandwidth(10_000);
    let started = Instant::now();
    stream.write_all(&[0; 2_000]).await.unwrap();
    stream.read_exact(&mut [0; 2_000]).await.unwrap();
    // The last slice of 500 bytes is answered before its time is over.
    assert!(started.elapsed() >= Duration::from_millis(140));
}

#[tokio::test]
async fn a_stall_ends_without_loss() {
    let proxy = Proxy::start(marker(b'a').await).await.unwrap();
    let mut stream = connect(&proxy).await.unwrap();
    proxy.stall();
    stream.write_all(b"?").await.unwrap();
    timeout(SILENCE, stream.read_u8()).await.unwrap_err();
    proxy.heal().await;
    assert_eq!(stream.read_u8().await.unwrap(), b'a');
}

#[tokio::test]
async fn cut_and_reset_look_different() {
    let proxy = Proxy::start(marker(b'a').await).await.unwrap();
    let mut stream = connect(&proxy).await.unwrap();
    ask(&mut stream).await.unwrap();
    proxy.cut();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    let mut stream = connect(&proxy).await.unwrap();
    ask(&mut stream).await.unwrap();
    proxy.reset();
    let error = stream.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(proxy.counts().faulted, 2);
}

#[tokio::test]
async fn a_half_open_connection_is_silent_and_new_ones_work() {
    let proxy = Proxy::start(marker(b'a').await).await.unwrap();
    let mut stream = connect(&proxy).await.unwrap();
    ask(&mut stream).await.unwrap();
    proxy.half_open();
    stream.write_all(b"?").await.unwrap();
    timeout(SILENCE, stream.read_u8()).await.unwrap_err();
    let mut other = connect(&proxy).await.unwrap();
    assert_eq!(ask(&mut other).await.unwrap(), b'a');
    // A client that gives up is not kept.
    drop((stream, other));
    let closed = async || proxy.counts().open == 0;
    waiting::until(DEADLINE, closed).await.unwrap();
}

#[tokio::test]
async fn a_closed_port_refuses_and_opens_again() {
    let proxy = Proxy::start(marker(b'a').await).await.unwrap();
    proxy.refuse().await;
    let error = connect(&proxy).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    proxy.heal().await;
    let mut stream = connect(&proxy).await.unwrap();
    assert_eq!(ask(&mut stream).await.unwrap(), b'a');
}

#[tokio::test]
async fn new_connections_go_to_the_new_target() {
    let proxy = Proxy::start(marker(b'a').await).await.unwrap();
    let mut old = connect(&proxy).await.unwrap();
    assert_eq!(ask(&mut old).await.unwrap(), b'a');
    proxy.switch(marker(b'b').await);
    let mut new = connect(&proxy).await.unwrap();
    assert_eq!(ask(&mut new).await.unwrap(), b'b');
    assert_eq!(ask(&mut old).await.unwrap(), b'a');
}

#[tokio::test]
async fn a_thousand_faults_leave_a_working_proxy() {
    let proxy = Proxy::start(marker(b'a').await).await.unwrap();
    let mut schedule = Schedule::new(7);
    schedule.most_lasting = Duration::from_millis(2);
    schedule.most_pause = Duration::from_millis(2);
    let faults = proxy.run(schedule.take(1_000));
    let clients = async {
        let mut answered = 0;
        loop {
            let Ok(mut stream) = connect(&proxy).await else {
                tokio::task::yield_now().await;
                continue;
            };
            while let Ok(Ok(_)) = timeout(Duration::from_millis(50), ask(&mut stream)).await {
                answered += 1;
                if answered % 100 == 0 {
                    break;
                }
            }
        }
    };
    let count = tokio::select! {
        count = faults => count,
        () = clients => unreachable!("clients go on for ever"),
    };
    assert_eq!(count, 1_000);
    let mut stream = connect(&proxy).await.unwrap();
    assert_eq!(ask(&mut stream).await.unwrap(), b'a');
    drop(stream);
    let closed = async || proxy.counts().open == 0;
    waiting::until(DEADLINE, closed).await.unwrap();
    let drawn = Schedule::new(7).take(1_000);
    let silent = drawn.filter(|step| step.fault == Fault::HalfOpen).count();
    println!("{silent} half-open, {:?}", proxy.counts());
    assert!(proxy.counts().faulted > 0);
}
