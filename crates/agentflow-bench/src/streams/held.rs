//! A stream that stays open, on a plain socket: ten thousand of them must cost the generator
//! little.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
};

/// What an event begins with; heartbeats are comments.
const EVENT: &[u8] = b"event: ";
/// Bytes read at once.
const PIECE: usize = 2048;

/// An open stream of a thread's events.
pub struct Held {
    /// The thread.
    pub thread: String,
    state: Arc<State>,
    reader: JoinHandle<()>,
}

struct State {
    open: AtomicBool,
    /// When the first event after the last arming came.
    first: watch::Sender<Option<Instant>>,
    /// Where a piece ended within an event's beginning.
    rest: Mutex<Vec<u8>>,
}

/// The bytes of a request for a stream of a thread's events.
pub fn request(host: &str, thread: &str) -> String {
    let body = r#"{"channels":["lifecycle","values","messages","input"]}"#;
    format!(
        "POST /threads/{thread}/stream/events HTTP/1.1\r\nhost: {host}\r\n\
         content-type: application/json\r\naccept: text/event-stream\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Host and port of a base URL.
pub fn host(url: &str) -> Result<&str> {
    url.strip_prefix("http://").context("not an http URL")
}

impl Held {
    /// Opens a stream; returns when the server began to answer.
    pub async fn open(url: &str, thread: String) -> Result<Arc<Self>> {
        let host = host(url)?;
        let mut socket = TcpStream::connect(host).await?;
        socket.write_all(request(host, &thread).as_bytes()).await?;
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            ensure!(socket.read_buf(&mut head).await? > 0, "no answer");
        }
        ensure!(head.starts_with(b"HTTP/1.1 200"), "no stream");
        let state = Arc::new(State {
            open: AtomicBool::new(true),
            first: watch::Sender::new(None),
            rest: Mutex::default(),
        });
        let reader = tokio::spawn(read(socket, state.clone()));
        Ok(Arc::new(Self {
            thread,
            state,
            reader,
        }))
    }

    /// Whether the server has not ended it.
    pub fn is_open(&self) -> bool {
        self.state.open.load(Relaxed)
    }

    /// Forgets what came so far.
    pub fn arm(&self) {
        self.state.first.send_replace(None);
    }

    /// Milliseconds from `since` to the first event that came since the last arming.
    pub async fn first(&self, since: Instant) -> Result<f64> {
        let mut first = self.state.first.subscribe();
        let at = *first.wait_for(Option::is_some).await?;
        let at = at.context("no event")?;
        Ok(at.duration_since(since).as_secs_f64() * 1e3)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(mut socket: TcpStream, state: Arc<State>) {
    let mut piece = [0; PIECE];
    while let Ok(count) = socket.read(&mut piece).await {
        if count == 0 {
            break;
        }
        state.saw(&piece[..count]);
    }
    state.open.store(false, Relaxed);
}

impl State {
    fn saw(&self, piece: &[u8]) {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        rest.extend_from_slice(piece);
        if rest.windows(EVENT.len()).any(|part| part == EVENT) {
            self.first.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert_with(Instant::now);
                is_first
            });
        }
        let gone = rest.len().saturating_sub(EVENT.len() - 1);
        rest.drain(..gone);
    }
}
