//! Load on an agent server: `runs/wait` and `runs/stream` at several numbers of clients.
//!
//! One thread and one connection per client, without a pool, so that the generator takes little
//! of the CPU that it shares with the server; it says how much.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::LocalSet};

use crate::cpu;

/// Longest time of one request.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Connections that a client tries for one request: a server may close an idle one.
const TRIES: usize = 3;

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
    /// Process of the server, to say how much CPU it takes.
    #[arg(long)]
    pid: Option<u32>,
}

#[derive(Clone, Copy)]
enum Kind {
    Wait,
    Stream,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Stream => "stream",
        }
    }
}

/// Times of one request in milliseconds: first byte of an event, and the whole.
struct Timing {
    first: f64,
    whole: f64,
}

/// What every request of a case sends.
#[derive(Clone)]
struct Target {
    address: String,
    path: String,
    body: Bytes,
}

/// A client with its connection.
struct Client {
    target: Target,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// The connection; a new one if there is none, or the server closed it.
    async fn sender(&mut self) -> Result<&mut SendRequest<Full<Bytes>>> {
        let is_open = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !is_open {
            let socket = TcpStream::connect(&self.target.address).await?;
            socket.set_nodelay(true)?;
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
            // How it ended shows in the requests.
            tokio::task::spawn_local(connection);
            self.sender = Some(sender);
        }
        self.sender.as_mut().context("no connection")
    }

    async fn request(&mut self) -> Result<Timing> {
        let mut failure = None;
        for _ in 0..TRIES {
            let request = Request::post(&self.target.path)
                .header(header::HOST, &self.target.address)
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(self.target.body.clone()))?;
            let started = Instant::now();
            match self.sender().await?.try_send_request(request).await {
                Ok(answer) => return read(answer, started).await,
                Err(mut err) => {
                    self.sender = None;
                    let was_sent = err.take_message().is_none();
                    let err = err.into_error();
                    if was_sent {
                        return Err(err.into());
                    }
                    // The server closed the connection meanwhile.
                    failure = Some(err);
                }
            }
        }
        Err(failure.map_or_else(|| anyhow::anyhow!("no try"), Into::into))
    }
}

async fn read(answer: hyper::Response<hyper::body::Incoming>, started: Instant) -> Result<Timing> {
    let status = answer.status();
    let mut body = answer.into_body();
    let mut first = None;
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            first.get_or_insert_with(|| started.elapsed());
            text.extend_from_slice(&data);
        }
    }
    let whole = started.elapsed();
    let seen = String::from_utf8_lossy(&text);
    ensure!(status.is_success(), "the server answered {status}: {seen}");
    ensure!(seen.contains("echo: hi"), "no answer: {seen}");
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

impl Args {
    fn client(&self, kind: Kind) -> Result<Client> {
        let body = json!({
            "assistant_id": self.assistant,
            "input": {"messages": [{"role": "user", "content": "hi"}]},
        });
        let address = self.url.strip_prefix("http://").context("an http:// url")?;
        Ok(Client {
            target: Target {
                address: address.trim_end_matches('/').to_owned(),
                path: format!("/runs/{}", kind.name()),
                body: body.to_string().into(),
            },
            sender: None,
        })
    }

    /// Requests of one client until the case is over.
    async fn requests(&self, kind: Kind, share: usize, deadline: Instant) -> Result<Vec<Timing>> {
        let mut client = self.client(kind)?;
        let mut timings = Vec::new();
        while timings.len() < share && Instant::now() < deadline {
            let request = tokio::time::timeout(TIMEOUT, client.request());
            timings.push(request.await.context("no answer in time")??);
        }
        Ok(timings)
    }

    async fn case(&self, kind: Kind, clients: usize) -> Result<Value> {
        // One request outside the measurement warms caches.
        self.client(kind)?.request().await?;
        let (own, server) = (
            cpu::seconds(None)?,
            self.pid.map(server_seconds).transpose()?,
        );
        let started = Instant::now();
        let deadline = started + Duration::from_secs_f64(self.seconds);
        let share = self.requests.div_ceil(clients);
        let all = (0..clients).map(|_| self.requests(kind, share, deadline));
        let parts = futures_util::future::try_join_all(all).await?;
        let elapsed = started.elapsed().as_secs_f64();
        let timings: Vec<Timing> = parts.into_iter().flatten().collect();
        let each = |seconds: f64| seconds * 1e6 / timings.len() as f64;
        let own = each(cpu::seconds(None)? - own);
        let server = match (self.pid, server) {
            (Some(pid), Some(before)) => json!(each(server_seconds(pid)? - before)),
            _ => Value::Null,
        };
        let sorted = |pick: fn(&Timing) -> f64| {
            let mut times: Vec<f64> = timings.iter().map(pick).collect();
            times.sort_by(f64::total_cmp);
            times
        };
        let (whole, first) = (sorted(|t| t.whole), sorted(|t| t.first));
        Ok(json!({
            "case": format!("{}_{clients}", kind.name()),
            "per_second": timings.len() as f64 / elapsed,
            "p50_ms": percentile(&whole, 0.5),
            "p99_ms": percentile(&whole, 0.99),
            "first_p50_ms": percentile(&first, 0.5),
            "server_cpu_us": server,
            "generator_cpu_us": own,
        }))
    }
}

fn server_seconds(pid: u32) -> Result<f64> {
    cpu::seconds(Some(pid))
}

/// Runs each case once and prints a line for it.
pub fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        for clients in &args.clients {
            for kind in [Kind::Wait, Kind::Stream] {
                println!("{}", args.case(kind, *clients).await?);
            }
        }
        Ok(())
    })
}
