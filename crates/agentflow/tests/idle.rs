//! Streams that wait for nothing in particular cost the database one question per second and
//! process, and miss nothing when wake-ups are lost.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::time::{Duration, Instant};

use agentflow_testkit::{
    servers::postgres::{self, Database, Version},
    waiting,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

mod fixture;
use fixture::Fixture;

/// Streams of one process.
const STREAMS: usize = 1000;
/// How long the database is watched.
const WATCH: Duration = Duration::from_secs(6);
/// After this time a connection that rests has told what it did: PostgreSQL's own is ten seconds.
const TOLD: Duration = Duration::from_secs(11);
/// Statements per second that all the streams may add: a question of each would add a thousand, the
/// one question of all adds one, and a busy machine a few that are not the streams'.
const MOST: f64 = 50.0;
/// What takes longer counts as never, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that no wake-up reaches, nor leaves.
async fn deaf(database: &Database) -> Fixture {
    let server = postgres::shared(Version::Debian).unwrap();
    let pooled = database.bouncer_url(&server.bouncer().unwrap());
    Fixture::with(&["--database-url", &pooled, "--listen-url", "off"]).await
}

/// Opens a protocol stream, or the legacy one, and waits until it is answered.
async fn open(port: u16, thread: &str, number: usize) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let body = r#"{"channels":["lifecycle","values"]}"#;
    let request = match number % 2 {
        0 => format!(
            "POST /threads/{thread}/stream/events HTTP/1.1\r\nhost: x\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
        _ => format!("GET /threads/{thread}/stream HTTP/1.1\r\nhost: x\r\n\r\n"),
    };
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = vec![0; 12];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    socket
}

/// Transactions of a database until now, as far as its connections told of them.
fn transactions(database: &Database) -> f64 {
    let sql = format!(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{}'",
        database.name()
    );
    let answer = database.address().sql("postgres", &sql).unwrap();
    answer.parse().unwrap()
}

/// Transactions per second, over a while in which nothing happens.
async fn rate(database: &Database) -> f64 {
    tokio::time::sleep(TOLD).await;
    let (before, started) = (transactions(database), Instant::now());
    tokio::time::sleep(WATCH).await;
    (transactions(database) - before) / started.elapsed().as_secs_f64()
}

/// Reads until the text is there.
async fn read_until(socket: &mut TcpStream, wanted: &str) {
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    let read = async {
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            let count = socket.read(&mut piece).await.unwrap();
            assert!(count > 0, "the stream ended");
            seen.extend_from_slice(&piece[..count]);
        }
    };
    let found = tokio::time::timeout(PATIENCE, read).await;
    found.unwrap_or_else(|_| panic!("no {wanted}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_streams_ask_one_question_and_miss_nothing() {
    let database = fixture::database();
    let (first, second) = tokio::join!(deaf(&database), deaf(&database));
    let without = rate(&database).await;
    let mut threads = Vec::new();
    for _ in 0..STREAMS / 10 {
        threads.push(first.client().thread().await);
    }
    let mut streams = Vec::with_capacity(STREAMS);
    for number in 0..STREAMS {
        streams.push(open(first.port(), &threads[number / 10], number).await);
    }
    let with = rate(&database).await;
    println!("{without:.1} transactions per second without streams, {with:.1} with {STREAMS}");
    assert!(with - without <= MOST, "{without:.1}, then {with:.1}");

    // A run that executes on the other server, of which nobody tells this one.
    let chosen = [0, 1, STREAMS - 2, STREAMS - 1];
    for number in [chosen[0], chosen[2]] {
        let echo = json!({"assistant_id": "echo", "input": {"messages": [
            {"role": "user", "content": "nobody tells of this"}]}});
        let path = format!("/threads/{}/runs/wait", threads[number / 10]);
        waiting::until(PATIENCE, async || {
            second.client().post(&path, &echo).await.is_ok()
        })
        .await
        .unwrap();
    }
    for number in chosen {
        read_until(&mut streams[number], "nobody tells of this").await;
    }
    // And one that is made on the other server while a stream waits for its thread.
    let thread = "0b6d7a1e-4a53-4c08-9d59-7f3f8f0c1c55";
    let mut early = open(first.port(), thread, 0).await;
    let made = json!({"thread_id": thread});
    second.client().post("/threads", &made).await.unwrap();
    let echo = json!({"assistant_id": "echo", "input": {"messages": [
        {"role": "user", "content": "at last"}]}});
    let path = format!("/threads/{thread}/runs/wait");
    second.client().post(&path, &echo).await.unwrap();
    read_until(&mut early, "at last").await;
}
