//! Wake-ups between the servers that share a database.
//!
//! A signal reaches the listeners of its own process at once. For the others it waits in a set,
//! in which equal signals are one, until the task that sends them is free: one statement through
//! the pool for all that gathered meanwhile. Hearing needs `LISTEN`, which is a matter of the
//! session and does not pass a pooler, so it has a direct connection of its own; without one,
//! only the own process is told, and others notice when they look by themselves.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentflow_storage::signal::{LAG, Local, Signal, Signals};
use agentflow_types::{Error, Result};
use backon::BackoffBuilder as _;
use futures_util::{Stream, StreamExt as _};
use indexmap::IndexMap;
use tokio::{
    sync::{Notify, broadcast, watch},
    task::JoinSet,
};
use tokio_postgres::{AsyncMessage, Client};
use uuid::Uuid;

use crate::{Direct, Pool, error, pooler, statement::Statement};

/// The channel; also in [`LISTEN`] and [`NOTIFY`].
const LISTEN: &str = "LISTEN agentflow";
const NOTIFY: &str = "SELECT pg_notify('agentflow', signal) FROM unnest($1::text[]) AS signal";
/// How often the listening connection is asked whether it lives. One that is cut off in silence
/// is noticed after this and [`PING_TIMEOUT`].
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long it may take to begin listening.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest and longest pause before another try to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// Whether wake-ups of other processes arrive. Without them a process looks by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// Nobody wants them.
    Off,
    /// The connection is not there yet, or lost.
    Away,
    /// They do.
    On,
    /// They cannot: the address is a pooler's.
    Pooled,
}

/// The signals of one process.
pub(crate) struct Wakeups {
    local: Arc<Local>,
    hearing: Arc<watch::Sender<Hearing>>,
    /// What other processes are still to be told; `None` if nobody listens.
    outbox: Option<Arc<Outbox>>,
    /// Dropped, and so stopped, with this.
    _tasks: JoinSet<()>,
}

/// Signals on their way to other processes.
#[derive(Default)]
struct Outbox {
    /// At most [`LAG`], by where to look; held only to put one in or to take all out. More are
    /// dropped: listeners that lag so far must look everywhere anyway.
    waiting: Mutex<IndexMap<Signal, Signal>>,
    filled: Notify,
}

impl Outbox {
    fn put(&self, signal: Signal) {
        // A log that grew twice is looked at once, up to its newest number.
        let place = match signal {
            Signal::Log(thread, _) => Signal::Log(thread, 0),
            other => other,
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_room = waiting.len() < LAG;
        match (waiting.get_mut(&place), signal) {
            (Some(Signal::Log(_, seq)), Signal::Log(_, newer)) => *seq = newer.max(*seq),
            (None, _) if is_room => {
                waiting.insert(place, signal);
            }
            _ => {}
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// Waits until there is something, and takes all of it.
    async fn take(&self) -> Vec<Signal> {
        loop {
            let all = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *waiting)
            };
            if !all.is_empty() {
                return all.into_values().collect();
            }
            self.filled.notified().await;
        }
    }
}

impl Wakeups {
    /// Starts the tasks that tell and hear other processes; without a direct connection only
    /// this process is told.
    pub(crate) fn start(pool: Pool, direct: Option<Direct>) -> Self {
        let local = Arc::<Local>::default();
        let mut tasks = JoinSet::new();
        let hearing = Arc::new(watch::Sender::new(Hearing::Off));
        let outbox = direct.map(|direct| {
            let (own, outbox) = (Uuid::new_v4(), Arc::<Outbox>::default());
            hearing.send_replace(Hearing::Away);
            let hears = Ear {
                direct,
                local: local.clone(),
                own,
                hearing: hearing.clone(),
            };
            let told = outbox.clone();
            tasks.spawn(async move {
                // Who cannot hear does not speak either, as with nobody to listen.
                tokio::select! {
                    () = hears.hear() => {}
                    () = tell(pool, told, own) => {}
                }
            });
            outbox
        });
        Self {
            local,
            hearing,
            outbox,
            _tasks: tasks,
        }
    }

    /// Whether those of other processes arrive.
    pub(crate) fn hearing(&self) -> Hearing {
        *self.hearing.borrow()
    }
}

impl Signals for Wakeups {
    fn send(&self, signal: Signal) {
        self.local.send(signal);
        if let Some(outbox) = &self.outbox
            && self.hearing() != Hearing::Pooled
        {
            outbox.put(signal);
        }
    }

    fn listen(&self) -> broadcast::Receiver<Signal> {
        self.local.listen()
    }
}

/// Tells other processes what gathers in the outbox, until stopped.
async fn tell(pool: Pool, outbox: Arc<Outbox>, sender: Uuid) {
    loop {
        let signals = outbox.take().await;
        let payloads: Vec<String> = signals
            .into_iter()
            .map(|signal| encode(sender, signal))
            .collect();
        // A signal may be lost; who waits for it looks by itself after a while.
        if let Err(err) = pool.read(&Statement::new(NOTIFY).bind(payloads)).await {
            tracing::debug!(error = %err, "other servers could not be told of a change");
        }
    }
}

/// Hears what other processes tell.
struct Ear {
    direct: Direct,
    local: Arc<Local>,
    own: Uuid,
    hearing: Arc<watch::Sender<Hearing>>,
}

/// Why a connection hears no more.
enum Deaf {
    /// It ended, or could not be made.
    Ended(Error),
    /// Nothing would ever arrive over it.
    Pooled,
}

impl From<Error> for Deaf {
    fn from(err: Error) -> Self {
        Self::Ended(err)
    }
}

impl Ear {
    /// Hears until stopped; connects again whenever it must. Ends if it cannot hear.
    async fn hear(self) {
        let pauses = backon::ExponentialBuilder::default()
            .with_min_delay(BACKOFF.0)
            .with_max_delay(BACKOFF.1)
            .without_max_times()
            .with_jitter();
        let mut pause = pauses.build();
        let mut quiet = false;
        loop {
            let Err(why) = self.once().await;
            let err = match why {
                Deaf::Ended(err) => err,
                Deaf::Pooled => {
                    self.hearing.send_replace(Hearing::Pooled);
                    tracing::warn!(
                        "changes made by other servers are noticed late: the address of the \
                         database is a pooler's in transaction mode. Set storage.listen_url to an \
                         address past it, or to \"off\""
                    );
                    return;
                }
            };
            if self.hearing.send_replace(Hearing::Away) == Hearing::On {
                (pause, quiet) = (pauses.build(), false);
            }
            // Once per outage: it is no failure, everybody looks by themselves meanwhile.
            if !quiet {
                tracing::warn!(error = %err, "changes made by other servers are noticed late for now");
            }
            quiet = true;
            tokio::time::sleep(pause.next().unwrap_or(BACKOFF.1)).await;
        }
    }

    /// Hears over one connection until it ends.
    async fn once(&self) -> Result<Infallible, Deaf> {
        let (client, messages) = self.direct.connect().await?;
        // Whichever ends first ends the connection; the messages must be polled for the client's
        // answers to arrive.
        tokio::select! {
            ended = pass_on(messages, &self.local, self.own) => ended.map_err(Deaf::Ended),
            ended = self.keep(&client) => ended,
        }
    }

    /// Listens, and notices when the connection is dead, or is none of its own.
    async fn keep(&self, client: &Client) -> Result<Infallible, Deaf> {
        let process = pooler::process(client).await?;
        // Before it listens: the pooler would go on listening for nobody.
        let second = self.direct.0.client().await?;
        if pooler::shares(client, process, &second).await? {
            return Err(Deaf::Pooled);
        }
        drop(second);
        answer(client.batch_execute(LISTEN)).await?;
        self.hearing.send_replace(Hearing::On);
        // What was said before is lost, and a new run is what nobody should wait long for.
        self.local.send(Signal::Queue);
        loop {
            tokio::time::sleep(PING_EVERY).await;
            if pooler::process(client).await? != process {
                return Err(Deaf::Pooled);
            }
        }
    }
}

/// Passes what arrives to the listeners of this process, but for what it said itself.
async fn pass_on(
    mut messages: impl Stream<Item = Result<AsyncMessage>> + Unpin,
    local: &Local,
    own: Uuid,
) -> Result<Infallible> {
    while let Some(message) = messages.next().await {
        if let AsyncMessage::Notification(said) = message?
            && let Some((sender, signal)) = decode(said.payload())
            && sender != own
        {
            local.send(signal);
        }
    }
    Err(Error::busy("the database closed the connection"))
}

async fn answer(
    asked: impl Future<Output = std::result::Result<(), tokio_postgres::Error>>,
) -> Result<()> {
    match tokio::time::timeout(PING_TIMEOUT, asked).await {
        Ok(answer) => answer.map_err(error::from),
        Err(_) => Err(Error::busy("the database does not answer")
            .with("timeout_seconds", PING_TIMEOUT.as_secs())),
    }
}

/// A signal as other processes hear it: who says it, and where to look.
fn encode(sender: Uuid, signal: Signal) -> String {
    format!("{} {signal}", sender.simple())
}

/// The sender and the signal; `None` for what a newer version may say.
fn decode(payload: &str) -> Option<(Uuid, Signal)> {
    let (sender, signal) = payload.split_once(' ')?;
    Some((Uuid::parse_str(sender).ok()?, signal.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use agentflow_types::ThreadId;

    use super::*;

    #[test]
    fn a_signal_is_heard_as_it_was_said() {
        let (own, thread) = (Uuid::new_v4(), ThreadId::mint());
        for signal in [Signal::Queue, Signal::Log(thread, 7)] {
            assert_eq!(decode(&encode(own, signal)), Some((own, signal)));
        }
        assert_eq!(decode("something newer"), None);
        assert_eq!(decode(""), None);
    }

    #[tokio::test]
    async fn equal_signals_gather_and_too_many_are_dropped() {
        let outbox = Outbox::default();
        for _ in 0..3 {
            outbox.put(Signal::Queue);
        }
        let thread = ThreadId::mint();
        for seq in [1, 3, 2] {
            outbox.put(Signal::Log(thread, seq));
        }
        let all = [Signal::Queue, Signal::Log(thread, 3)];
        assert_eq!(outbox.take().await, all);
        for _ in 0..2 * LAG {
            outbox.put(Signal::Log(ThreadId::mint(), 1));
        }
        assert_eq!(outbox.take().await.len(), LAG);
    }
}
