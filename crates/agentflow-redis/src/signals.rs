//! Wake-ups between servers, over one stream that each reads from where it was.
//!
//! A stream, not a channel: a server that was away for a moment hears what was said meanwhile. If
//! that is gone, it is told that it missed some. The way of the database stays open beside it:
//! what Redis does not take is sent there, and what comes from there is heard.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentflow_storage::signal::{Local, Signal, Signals};
use agentflow_types::{Error, Result, ThreadId};
use backon::BackoffBuilder as _;
use redis::{RedisResult, Value, cmd};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    task::JoinSet,
};
use uuid::Uuid;

use crate::{
    Inner,
    connect::Wire,
    error,
    outbox::{Outbox, outbox},
};

/// How long one read waits for news. A connection that is cut off in silence is noticed after
/// this and the response timeout.
const BLOCK: Duration = Duration::from_secs(5);
/// Most messages of one read.
const PAGE: usize = 512;
/// Threads whose newest number is remembered.
const MAX_THREADS: usize = 16_384;
/// Where an empty stream begins.
const START: &str = "0-0";

/// The newest event of threads, as far as it was heard.
#[derive(Default)]
pub(crate) struct Announced {
    /// Held only to look or to set. When it is full, all is forgotten: the database knows.
    newest: Mutex<HashMap<ThreadId, u64>>,
}

impl Announced {
    pub(crate) fn note(&self, thread: ThreadId, seq: u64) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.len() >= MAX_THREADS {
            newest.clear();
        }
        let known = newest.entry(thread).or_default();
        *known = seq.max(*known);
    }

    pub(crate) fn get(&self, thread: ThreadId) -> Option<u64> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.get(&thread).copied()
    }

    pub(crate) fn forget(&self, thread: Option<ThreadId>) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        match thread {
            Some(thread) => drop(newest.remove(&thread)),
            None => newest.clear(),
        }
    }
}

/// The signals of one process.
pub(crate) struct Wakeups {
    ears: Arc<Ears>,
    pub(crate) outbox: Arc<Outbox>,
    /// Dropped, and so stopped, with this.
    _tasks: JoinSet<()>,
}

/// Who is told of what is heard.
struct Ears {
    local: Local,
    announced: Arc<Announced>,
}

impl Ears {
    fn hear(&self, signal: Signal) {
        match signal {
            Signal::Log(thread, seq) => self.announced.note(thread, seq),
            Signal::Missed => self.announced.forget(None),
            Signal::Queue | Signal::Stop(_) | Signal::Ended(_) => {}
        }
        self.local.send(signal);
    }
}

impl Wakeups {
    /// Starts the tasks that tell and hear other processes.
    pub(crate) fn start(
        redis: Arc<Inner>,
        fallback: Arc<dyn Signals>,
        announced: Arc<Announced>,
    ) -> Self {
        let own = Uuid::new_v4();
        let ears = Arc::new(Ears {
            local: Local::default(),
            announced,
        });
        let (outbox, delivery) = outbox(redis.clone(), fallback.clone(), own);
        let mut tasks = JoinSet::new();
        tasks.spawn(delivery.run());
        tasks.spawn(pass_on(fallback.listen(), ears.clone()));
        tasks.spawn(Reader::new(redis, ears.clone(), own).run());
        Self {
            ears,
            outbox: Arc::new(outbox),
            _tasks: tasks,
        }
    }
}

impl Signals for Wakeups {
    fn send(&self, signal: Signal) {
        self.ears.hear(signal);
        self.outbox.signal(signal);
    }

    fn listen(&self) -> Receiver<Signal> {
        self.ears.local.listen()
    }
}

/// Passes on what comes by the way of the database.
async fn pass_on(mut from: Receiver<Signal>, ears: Arc<Ears>) {
    loop {
        match from.recv().await {
            Ok(signal) => ears.hear(signal),
            Err(RecvError::Lagged(_)) => ears.hear(Signal::Missed),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Reads the stream.
struct Reader {
    redis: Arc<Inner>,
    ears: Arc<Ears>,
    own: Uuid,
    /// Id of the last message that was read; `None` before the first connection.
    last: Option<String>,
}

/// A message: its id and fields.
type Entry = (String, HashMap<String, String>);

impl Reader {
    fn new(redis: Arc<Inner>, ears: Arc<Ears>, own: Uuid) -> Self {
        Self {
            redis,
            ears,
            own,
            last: None,
        }
    }

    /// Reads until stopped; connects again whenever it must.
    async fn run(mut self) {
        let limits = self.redis.link.limits().clone();
        let pauses = backon::ExponentialBuilder::default()
            .with_min_delay(limits.min_pause)
            .with_max_delay(limits.max_pause)
            .without_max_times()
            .with_jitter();
        let mut pause = pauses.build();
        let mut quiet = false;
        loop {
            let mut listening = false;
            let Err(err) = self.read(&mut listening).await;
            if listening {
                (pause, quiet) = (pauses.build(), false);
            }
            // Once per outage: it is no failure, the way of the database is open.
            if !quiet {
                tracing::warn!(error = %err, "Redis does not tell of other servers for now");
            }
            quiet = true;
            tokio::time::sleep(pause.next().unwrap_or(limits.max_pause)).await;
        }
    }

    /// Reads over one connection until that ends; sets `listening` when it begins.
    async fn read(&mut self, listening: &mut bool) -> Result<Infallible> {
        let response = BLOCK + self.redis.link.limits().response_timeout;
        let mut wire = self.redis.link.dedicated(response).await?;
        let mut last = self.position(&mut wire).await?;
        *listening = true;
        loop {
            let mut command = cmd("XREAD");
            command.arg("COUNT").arg(PAGE);
            command.arg("BLOCK").arg(BLOCK.as_millis() as u64);
            command
                .arg("STREAMS")
                .arg(self.redis.keys.signals())
                .arg(&last);
            let entries = streams(wire.run(&command).await)?;
            let is_full = entries.len() == PAGE;
            for (id, fields) in entries {
                self.hear(&fields);
                last = id;
            }
            self.last = Some(last.clone());
            if is_full {
                // So far behind that what comes next may be gone.
                last = self.position(&mut wire).await?;
            }
        }
    }

    /// From where to read. If the last message is gone, so may be what followed it: everybody is
    /// told so, and reading begins at the end.
    async fn position(&mut self, wire: &mut Wire) -> Result<String> {
        let key = self.redis.keys.signals();
        if let Some(last) = &self.last {
            let mut command = cmd("XRANGE");
            command.arg(&key).arg(last).arg(last).arg("COUNT").arg(1);
            if last == START || !entries(wire.run(&command).await)?.is_empty() {
                return Ok(last.clone());
            }
        }
        let mut command = cmd("XREVRANGE");
        command.arg(&key).arg("+").arg("-").arg("COUNT").arg(1);
        let newest = entries(wire.run(&command).await)?.pop();
        let last = newest.map_or_else(|| START.to_owned(), |(id, _)| id);
        self.last = Some(last.clone());
        self.ears.hear(Signal::Missed);
        Ok(last)
    }

    /// Passes on what another process said.
    fn hear(&self, fields: &HashMap<String, String>) {
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        if field("from") == self.own.simple().to_string() {
            return;
        }
        // A newer version may say what this one does not know.
        let signals = field("say").lines().filter_map(|line| line.parse().ok());
        signals.for_each(|signal| self.ears.hear(signal));
    }
}

fn entries(answer: RedisResult<Value>) -> Result<Vec<Entry>> {
    let value = answer.map_err(error::from)?;
    redis::from_redis_value(value).map_err(unexpected)
}

fn streams(answer: RedisResult<Value>) -> Result<Vec<Entry>> {
    let value = answer.map_err(error::from)?;
    let found: Option<Vec<(String, Vec<Entry>)>> =
        redis::from_redis_value(value).map_err(unexpected)?;
    let all = found.unwrap_or_default().into_iter();
    Ok(all.flat_map(|(_, entries)| entries).collect())
}

fn unexpected(err: redis::ParsingError) -> Error {
    Error::bug("Redis answered in an unexpected way").source_err(err)
}
