//! Readers that never read, while events flow.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, future::ready, stream};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use super::{Args, Client, PATIENCE, family, held, resident_mb};

/// Receive buffer of a reader, in bytes: small, so that the server feels at once that nobody reads.
const WINDOW: u32 = 4096;
/// Threads that the readers share.
const THREADS: usize = 10;
/// Bytes that each run adds to the state, and so to each of its events.
const STATE_BYTES: usize = 100_000;
/// Runs on each thread.
const RUNS: usize = 20;
/// Pause between two looks at memory.
const LOOK: Duration = Duration::from_millis(200);
/// How long a reader may take in the end for what was sent to it.
const LAST: Duration = Duration::from_secs(20);
/// How many readers are asked at once how they ended.
const LAST_AT_ONCE: usize = 50;
/// How much longer than the server bears them readers may stay.
const GRACE: Duration = Duration::from_secs(20);

/// Opens readers, lets events flow past them, and reports memory and how they ended.
pub async fn case(args: &Args, client: &Client) -> Result<Value> {
    let before = family(args.pid, resident_mb)?;
    let mut threads = Vec::new();
    for _ in 0..THREADS {
        threads.push(client.thread().await?);
    }
    let mut readers = Vec::with_capacity(args.slow);
    for number in 0..args.slow {
        readers.push(open(&args.url, &threads[number % THREADS]).await?);
    }
    let opened = family(args.pid, resident_mb)?;
    let flowing = flow(client.clone(), threads.clone());
    let mut flowing = std::pin::pin!(flowing);
    let deadline = Duration::from_secs(args.stall_seconds) + GRACE;
    let (mut peak, mut flowed) = (opened, false);
    let started = Instant::now();
    let mut quiet_since = None;
    loop {
        tokio::select! {
            done = &mut flowing, if !flowed => {
                done?;
                flowed = true;
                quiet_since = Some(Instant::now());
            }
            () = sleep(LOOK) => {}
        }
        peak = peak.max(family(args.pid, resident_mb)?);
        if quiet_since.is_some_and(|since: Instant| since.elapsed() > deadline) {
            break;
        }
    }
    // Some at once: who was not evicted, because all that it was sent fits into the system's
    // buffers, is only known by waiting.
    let broken = stream::iter(readers)
        .map(is_broken)
        .buffer_unordered(LAST_AT_ONCE);
    let evicted = broken.filter(|broken| ready(*broken)).count().await;
    let resumed = resume(args, &threads[0]).await?;
    Ok(json!({
        "case": "slow", "readers": args.slow, "added_bytes": STATE_BYTES,
        "runs": THREADS * RUNS, "seconds": started.elapsed().as_secs_f64(),
        "before_mb": before, "opened_mb": opened, "peak_mb": peak,
        "after_mb": family(args.pid, resident_mb)?,
        "evicted": evicted, "resumed_events": resumed,
    }))
}

async fn open(url: &str, thread: &str) -> Result<TcpStream> {
    let host = held::host(url)?;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(WINDOW)?;
    let mut stream = socket.connect(host.parse()?).await?;
    let request = held::request(host, thread);
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// Runs whose events carry a large state, on all threads in turn.
async fn flow(client: Client, threads: Vec<String>) -> Result<()> {
    let text = "x".repeat(STATE_BYTES);
    for _ in 0..RUNS {
        for thread in &threads {
            let body = json!({
                "assistant_id": "echo",
                // The same id each time: the state keeps its size.
                "input": {"messages": [{"role": "user", "id": "large", "content": text}]},
            });
            client
                .post(&format!("/threads/{thread}/runs/wait"), &body)
                .await?;
        }
    }
    Ok(())
}

/// Whether what the server sent ended amid the body, so that no reader takes it for complete.
async fn is_broken(mut reader: TcpStream) -> bool {
    let (mut end, mut piece) = (Vec::new(), vec![0; 1 << 16]);
    let reading = async {
        loop {
            match reader.read(&mut piece).await {
                Ok(0) | Err(_) => return !end.ends_with(b"0\r\n\r\n"),
                Ok(count) => {
                    end.extend_from_slice(&piece[..count]);
                    end.drain(..end.len().saturating_sub(8));
                }
            }
        }
    };
    timeout(LAST, reading).await.unwrap_or(false)
}

/// Events that a reader gets who comes back and reads: all states that the thread had, and how its
/// last run ended.
async fn resume(args: &Args, thread: &str) -> Result<usize> {
    let host = held::host(&args.url)?;
    let mut socket = TcpStream::connect(host).await?;
    socket
        .write_all(held::request(host, thread).as_bytes())
        .await?;
    let mut lines = BufReader::new(socket);
    let reading = async {
        let (mut events, mut line) = (0, Vec::new());
        loop {
            line.clear();
            let count = lines.read_until(b'\n', &mut line).await?;
            ensure!(count > 0, "the stream ended early");
            events += usize::from(line.starts_with(b"event: "));
            if contains(&line, b"\"event\":\"completed\"") {
                return Ok(events);
            }
        }
    };
    let all = timeout(PATIENCE, reading).await;
    all.context("the rest does not come")?
}

fn contains(line: &[u8], wanted: &[u8]) -> bool {
    line.windows(wanted.len()).any(|part| part == wanted)
}
