//! Load on an agent server: `runs/wait` and `runs/stream` at several numbers of clients.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::StreamExt;
use serde_json::{Value, json};

/// Longest time of one request.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Base URL.
    #[arg(long)]
    url: String,
    /// Assistant.
    #[arg(long, default_value = "echo")]
    assistant: String,
    /// Numbers of clients, one case each.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    clients: Vec<usize>,
    /// Longest time of one case, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Most requests of one case.
    #[arg(long, default_value_t = 5000)]
    requests: usize,
}

#[derive(Clone, Copy)]
enum Kind {
    Wait,
    Stream,
}

/// Times of one request in milliseconds: first byte of an event, and the whole.
struct Timing {
    first: f64,
    whole: f64,
}

async fn request(
    client: &reqwest::Client,
    url: &str,
    kind: Kind,
    assistant: &str,
) -> Result<Timing> {
    let path = match kind {
        Kind::Wait => "runs/wait",
        Kind::Stream => "runs/stream",
    };
    let body = json!({
        "assistant_id": assistant,
        "input": {"messages": [{"role": "user", "content": "hi"}]},
    });
    let started = Instant::now();
    let answer = client
        .post(format!("{url}/{path}"))
        .json(&body)
        .send()
        .await?;
    ensure!(
        answer.status().is_success(),
        "{path} answered {}",
        answer.status()
    );
    let mut bytes = answer.bytes_stream();
    let mut first = None;
    let mut text = Vec::new();
    while let Some(chunk) = bytes.next().await {
        first.get_or_insert_with(|| started.elapsed());
        text.extend_from_slice(&chunk?);
    }
    let whole = started.elapsed();
    let seen = String::from_utf8_lossy(&text);
    ensure!(seen.contains("echo: hi"), "{path} gave no answer: {seen}");
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Timing {
        first: ms(first.unwrap_or(whole)),
        whole: ms(whole),
    })
}

fn percentile(sorted: &[f64], part: f64) -> f64 {
    let index = (part * sorted.len() as f64) as usize;
    sorted
        .get(index.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

async fn case(args: &Args, kind: Kind, clients: usize) -> Result<Value> {
    let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
    // One request outside the measurement opens connections and warms caches.
    request(&client, &args.url, kind, &args.assistant).await?;
    let started = Instant::now();
    let deadline = started + Duration::from_secs_f64(args.seconds);
    let share = args.requests.div_ceil(clients);
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (client, url, assistant) =
                (client.clone(), args.url.clone(), args.assistant.clone());
            tokio::spawn(async move {
                let mut timings = Vec::new();
                while timings.len() < share && Instant::now() < deadline {
                    timings.push(request(&client, &url, kind, &assistant).await?);
                }
                anyhow::Ok(timings)
            })
        })
        .collect();
    let mut timings = Vec::new();
    for task in tasks {
        timings.extend(task.await??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    let sorted = |pick: fn(&Timing) -> f64| {
        let mut times: Vec<f64> = timings.iter().map(pick).collect();
        times.sort_by(f64::total_cmp);
        times
    };
    let (whole, first) = (sorted(|t| t.whole), sorted(|t| t.first));
    let name = match kind {
        Kind::Wait => "wait",
        Kind::Stream => "stream",
    };
    Ok(json!({
        "case": format!("{name}_{clients}"),
        "per_second": timings.len() as f64 / elapsed,
        "p50_ms": percentile(&whole, 0.5),
        "p99_ms": percentile(&whole, 0.99),
        "first_p50_ms": percentile(&first, 0.5),
    }))
}

/// Runs each case once and prints a line for it.
pub async fn run(args: &Args) -> Result<()> {
    for clients in &args.clients {
        for kind in [Kind::Wait, Kind::Stream] {
            println!("{}", case(args, kind, *clients).await?);
        }
    }
    Ok(())
}
