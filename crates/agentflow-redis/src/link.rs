//! The connection that commands share, opened again when it breaks.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use agentflow_types::{Error, Result};
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, cmd};

use crate::{
    Access, Limits,
    connect::{self, Wire},
    error,
    scripts::Script,
    stats::Stats,
};

/// Whether a command may be sent again when its answer was lost.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Sending it twice does what sending it once does.
    Yes,
    /// It would count twice.
    No,
}

pub(crate) struct Link {
    access: Access,
    limits: Limits,
    stats: Arc<Stats>,
    /// Held while a connection is opened, so that one caller opens it and the others wait.
    opening: tokio::sync::Mutex<()>,
    /// Held only to look or to set.
    state: Mutex<State>,
}

struct State {
    /// The connection with its number.
    wire: Option<(u64, Wire)>,
    opened: u64,
    pauses: ExponentialBackoff,
    /// No connection is tried before, and why the last one failed.
    closed: Option<(Instant, String)>,
}

fn pauses(limits: &Limits) -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(limits.min_pause)
        .with_max_delay(limits.max_pause)
        .without_max_times()
        .with_jitter()
}

impl Link {
    pub(crate) fn new(access: Access, limits: Limits) -> Self {
        Self {
            state: Mutex::new(State {
                wire: None,
                opened: 0,
                pauses: pauses(&limits).build(),
                closed: None,
            }),
            access,
            limits,
            stats: Arc::default(),
            opening: tokio::sync::Mutex::default(),
        }
    }

    /// Another connection to the same server, whose commands may take `response` each.
    pub(crate) fn another(&self, response: Duration) -> Self {
        let limits = Limits {
            response_timeout: response,
            ..self.limits.clone()
        };
        Self {
            stats: self.stats.clone(),
            ..Self::new(self.access.clone(), limits)
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while the state is held")
    }

    /// What this connection and those made from it were seen to do.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// A connection of the caller's own, whose commands may take `response` each.
    pub(crate) async fn dedicated(&self, response: Duration) -> Result<Wire> {
        connect::open(&self.access, &self.limits, response).await
    }

    /// Limits of connections.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The connection; opens one if there is none and it is time to try.
    async fn wire(&self) -> Result<(u64, Wire)> {
        if let Some(found) = self.ready()? {
            return Ok(found);
        }
        let _opening = self.opening.lock().await;
        if let Some(found) = self.ready()? {
            return Ok(found);
        }
        let opened = connect::open(&self.access, &self.limits, self.limits.response_timeout).await;
        let mut state = self.state();
        match opened {
            Ok(wire) => {
                state.opened += 1;
                state.pauses = pauses(&self.limits).build();
                state.closed = None;
                self.stats.opened();
                let found = (state.opened, wire);
                state.wire = Some(found.clone());
                Ok(found)
            }
            Err(err) => {
                self.stats.refused();
                let pause = state.pauses.next().unwrap_or(self.limits.max_pause);
                state.closed = Some((Instant::now() + pause, err.to_string()));
                Err(err)
            }
        }
    }

    /// The connection if there is one.
    ///
    /// # Errors
    /// `Busy` if there is none and it is not yet time to try.
    fn ready(&self) -> Result<Option<(u64, Wire)>> {
        let state = self.state();
        if let Some(found) = &state.wire {
            return Ok(Some(found.clone()));
        }
        match &state.closed {
            Some((until, why)) if Instant::now() < *until => {
                Err(Error::busy("Redis is not available").with("last_failure", why))
            }
            _ => Ok(None),
        }
    }

    /// Gives up a connection, unless another one has taken its place.
    fn give_up(&self, number: u64) {
        let mut state = self.state();
        if state
            .wire
            .as_ref()
            .is_some_and(|(found, _)| *found == number)
        {
            state.wire = None;
            self.stats.lost();
        }
    }

    /// Sends a request over the connection; once more over a new one if that was lost and it may
    /// be repeated.
    async fn send(&self, request: &Request<'_>, repeat: Repeat) -> Result<Value> {
        let (number, mut wire) = self.wire().await?;
        let err = match self.timed(request, &mut wire).await {
            Ok(done) => return Ok(done),
            Err(err) => err,
        };
        if !error::is_lost(&err) {
            return Err(named(err, repeat));
        }
        self.give_up(number);
        if repeat == Repeat::No {
            return Err(named(err, repeat));
        }
        let (number, mut wire) = self.wire().await?;
        let done = self.timed(request, &mut wire).await;
        if done.as_ref().is_err_and(error::is_lost) {
            self.give_up(number);
        }
        done.map_err(|err| named(err, repeat))
    }

    async fn timed(&self, request: &Request<'_>, wire: &mut Wire) -> RedisResult<Value> {
        let begun = Instant::now();
        let done = request.send(wire).await;
        self.stats.sent(begun.elapsed(), done.is_err());
        done
    }

    /// Runs a command.
    ///
    /// # Errors
    /// `Busy` if Redis is not available; `Uncertain` instead if the answer was lost of what may
    /// not be repeated.
    pub(crate) async fn run<T: FromRedisValue>(&self, command: &Cmd, repeat: Repeat) -> Result<T> {
        read(self.send(&Request::One(command), repeat).await?)
    }

    /// Runs commands whose keys are together.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) async fn run_all<T: FromRedisValue>(
        &self,
        all: &Pipeline,
        repeat: Repeat,
    ) -> Result<T> {
        read(self.send(&Request::All(all), repeat).await?)
    }

    /// Runs a script over its keys, in one round trip once the server knows it.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        values: &[&[u8]],
        repeat: Repeat,
    ) -> Result<T> {
        let request = Request::Script {
            script,
            keys,
            values,
        };
        read(self.send(&request, repeat).await?)
    }
}

/// What is sent.
enum Request<'a> {
    One(&'a Cmd),
    All(&'a Pipeline),
    Script {
        script: &'a Script,
        keys: &'a [String],
        values: &'a [&'a [u8]],
    },
}

impl Request<'_> {
    async fn send(&self, wire: &mut Wire) -> RedisResult<Value> {
        let (script, keys, values) = match *self {
            Self::One(command) => return wire.run(command).await,
            Self::All(all) => return wire.run_all(all).await,
            Self::Script {
                script,
                keys,
                values,
            } => (script, keys, values),
        };
        let command = |verb, script: &str| {
            let mut command = cmd(verb);
            command.arg(script).arg(keys.len()).arg(keys).arg(values);
            command
        };
        match wire.run(&command("EVALSHA", script.hash())).await {
            Err(err) if is_unknown(&err) => wire.run(&command("EVAL", script.text())).await,
            done => done,
        }
    }
}

fn read<T: FromRedisValue>(value: Value) -> Result<T> {
    redis::from_redis_value(value)
        .map_err(|err| Error::bug("Redis answered in an unexpected way").source_err(err))
}

fn is_unknown(err: &RedisError) -> bool {
    err.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript)
}

fn named(err: RedisError, repeat: Repeat) -> Error {
    match repeat {
        Repeat::Yes => error::from(err),
        Repeat::No => error::sent(err),
    }
}
