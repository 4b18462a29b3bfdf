//! A thousand connections that never read, while large events flow past them: memory stays within
//! what the configuration says, each of them is cut off so that it may come back for the rest, and
//! nobody else notices.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

mod fixture;
use fixture::{CHANNELS, Client, Event, Fixture};

/// Connections that never read.
const READERS: usize = 1000;
/// Threads that they listen to.
const THREADS: usize = 10;
/// Runs on each.
const RUNS: usize = 12;
/// Bytes of the message of a run; events hold it and all answers, 250 KB in the end.
const MESSAGE_BYTES: usize = 20_000;
/// Receive buffer of a connection: what the system would take lies beyond the server's limits.
const WINDOW: u32 = 4096;
/// How long the server bears them.
const STALL: Duration = Duration::from_secs(4);
/// Bytes that may wait for each.
const BUFFER_BYTES: usize = 32 << 10;
/// Bytes that the server may take for each: what waits, a page of the log, what the HTTP library
/// holds, a frame under way. Without the limits it would be several megabytes.
const MOST_BYTES: usize = 320 << 10;
/// What takes longer counts as never, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn server(dir: &tempfile::TempDir) -> Fixture {
    let file = dir.path().join("agentflow.toml");
    let text = format!(
        "[server]\nstall_seconds = {}\nstream_buffer_bytes = {BUFFER_BYTES}\n\
         send_buffer_bytes = {BUFFER_BYTES}\n\
         [runs]\nlive_event_bytes = 4194304\n[storage]\npath = {:?}\n",
        STALL.as_secs(),
        dir.path().join("data"),
    );
    std::fs::write(&file, text).unwrap();
    let data = dir.path().join("data");
    let (file, data) = (file.to_str().unwrap(), data.to_str().unwrap());
    Fixture::with(&["--config", file, "--data", data]).await
}

/// Opens a stream and never reads from it: every other one a protocol stream, else a legacy one.
async fn open(port: u16, thread: &str, number: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(WINDOW).unwrap();
    let address = ([127, 0, 0, 1], port).into();
    let mut stream = socket.connect(address).await.unwrap();
    let body = json!({"channels": CHANNELS}).to_string();
    let request = match number / THREADS % 2 {
        0 => format!(
            "POST /threads/{thread}/stream/events HTTP/1.1\r\nhost: x\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
        _ => {
            format!("GET /threads/{thread}/stream HTTP/1.1\r\nhost: x\r\nlast-event-id: -1\r\n\r\n")
        }
    };
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

fn resident_bytes(server: &Fixture) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kilobytes.trim().parse::<usize>().unwrap() * 1024
}

/// Runs on every thread in turn; returns the longest of them.
async fn flow(client: Client, threads: Vec<String>) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..RUNS {
        for thread in &threads {
            let started = Instant::now();
            let text = "x".repeat(MESSAGE_BYTES);
            // The same id each time: the state keeps its size.
            let body = json!({"assistant_id": "echo", "input": {"messages": [
                {"role": "user", "id": "large", "content": text}]}});
            client.wait(thread, &body).await.unwrap();
            longest = longest.max(started.elapsed());
        }
    }
    longest
}

/// What a connection got, and whether it was cut off amid the body.
async fn rest(mut stream: TcpStream) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    let read = read.expect("a connection that was not read is cut off");
    let is_broken = read.is_err() || !all.ends_with(b"0\r\n\r\n");
    (all, is_broken)
}

/// The whole events in a chunked answer, which may end anywhere.
fn events(answer: &[u8]) -> Vec<Event> {
    let text = String::from_utf8_lossy(answer).into_owned();
    let (_, mut rest) = text.split_once("\r\n\r\n").unwrap();
    let mut body = String::new();
    while let Some((length, more)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        let Some(chunk) = more.get(..length) else {
            body.push_str(more);
            break;
        };
        body.push_str(chunk);
        rest = more.get(length + 2..).unwrap_or_default();
    }
    let mut frames: Vec<&str> = body.split("\r\n\r\n").collect();
    frames.pop();
    let parsed = frames.into_iter().filter_map(fixture::parse);
    parsed.filter(|event| event.id > 0).collect()
}

/// Whether an event is the end of this run.
fn ends(run: &str) -> impl Fn(&Event) -> bool {
    let id = format!("synth:{run}:lc||completed");
    move |event: &Event| event.name == "lifecycle" && event.data.contains(&id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_never_read_cost_little_and_may_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir).await;
    let client = server.client();
    let mut threads = Vec::new();
    for _ in 0..THREADS {
        threads.push(client.thread().await);
    }
    let mut readers = Vec::with_capacity(READERS);
    for number in 0..READERS {
        readers.push(open(server.port(), &threads[number % THREADS], number).await);
    }
    let opened = resident_bytes(&server);
    let flowing = AtomicBool::new(true);
    let watching = async {
        let mut peak = opened;
        while flowing.load(SeqCst) {
            peak = peak.max(resident_bytes(&server));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        peak
    };
    let working = async {
        let longest = flow(client.clone(), threads.clone()).await;
        tokio::time::sleep(STALL * 2).await;
        flowing.store(false, SeqCst);
        longest
    };
    let (peak, longest) = tokio::join!(watching, working);
    let taken = (peak - opened) / READERS;
    println!(
        "{} MB with {READERS} readers, {} MB at most: {} KB for each; the longest run took {longest:?}",
        opened >> 20,
        peak >> 20,
        taken >> 10,
    );
    assert!(taken < MOST_BYTES, "{taken} bytes for each reader");
    assert!(longest < PATIENCE / 2, "{longest:?}");

    let mut broken = 0;
    let mut got = Vec::new();
    // All at once: what is left comes through their small windows slowly.
    let rests = readers.into_iter().map(|reader| tokio::spawn(rest(reader)));
    for (number, rest) in join_all(rests).await.into_iter().enumerate() {
        let (all, is_broken) = rest.unwrap();
        broken += usize::from(is_broken);
        if number < THREADS {
            got.push(all);
        }
    }
    assert_eq!(
        broken, READERS,
        "each is cut off, and none takes what it has for complete"
    );
    for (thread, all) in threads.iter().zip(got) {
        let runs = client
            .get(&format!("/threads/{thread}/runs?limit=100"))
            .await;
        let newest = runs[0]["run_id"].as_str().unwrap();
        assert_eq!(runs.as_array().map(Vec::len), Some(RUNS));
        let seen = events(&all);
        let before = seen.len();
        let (resumed, _) = client.follow(thread, seen, ends(newest)).await.unwrap();
        let (whole, _) = client.follow(thread, vec![], ends(newest)).await.unwrap();
        assert!(before < whole.len(), "it was never slow");
        // Who comes new is not told of the starts and ends of earlier runs.
        let of_states = |events: &[Event]| -> Vec<(u64, String)> {
            let states = events.iter().filter(|event| event.name != "lifecycle");
            states.map(|event| (event.id, event.data.clone())).collect()
        };
        assert!(
            of_states(&resumed) == of_states(&whole),
            "something is missing or repeated"
        );
    }
}
