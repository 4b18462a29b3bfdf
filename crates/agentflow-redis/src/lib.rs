//! The Redis backend, on plain commands of Redis 7 and Valkey: sessions, counters, a cache,
//! wake-ups between servers, and a copy of the newest events.
//!
//! Redis holds what may be lost. The database stays the record: while Redis is away, runs go on,
//! wake-ups take the way of the database, and events are read from there.

mod address;
mod cache;
mod connect;
mod counters;
mod error;
mod keys;
mod link;
mod mirror;
mod outbox;
mod refusal;
mod scripts;
mod sessions;
mod signals;

use std::{sync::Arc, time::Duration};

use agentflow_storage::Backend;
use agentflow_types::{Error, Result};

pub use address::{Address, Host, Kind, Secret};
pub use connect::{Access, Limits, Source};

use crate::{
    keys::Keys,
    link::{Link, Repeat},
};

/// Prefix of all keys unless the configuration says otherwise.
pub const PREFIX: &str = "agentflow";

/// How Redis is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// How it is reached.
    pub access: Access,
    /// What every key begins with.
    pub prefix: String,
    /// How long things may take.
    pub limits: Limits,
}

impl Options {
    /// The defaults for an address.
    pub fn new(access: Access) -> Self {
        Self {
            access,
            prefix: PREFIX.into(),
            limits: Limits::default(),
        }
    }
}

/// An open connection to Redis. Clones share it.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    keys: Keys,
}

impl Redis {
    /// Checks the options; connects when something is asked.
    ///
    /// # Errors
    /// `Invalid` if the prefix is wrong.
    pub fn new(options: Options) -> Result<Self> {
        // TLS needs a provider for the whole process; if there is one already it stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            inner: Arc::new(Inner {
                keys: Keys::new(&options.prefix)?,
                link: Link::new(options.access, options.limits),
            }),
        })
    }

    /// As [`Self::new`], and [`Self::check`].
    ///
    /// # Errors
    /// As those.
    pub async fn open(options: Options) -> Result<Self> {
        let redis = Self::new(options)?;
        redis.check().await?;
        Ok(redis)
    }

    /// Connects if there is no connection, and uses each kind of command once.
    ///
    /// # Errors
    /// `Busy` if there is no connection or a right is missing; the fact `check` then tells which
    /// check failed. `Invalid` if the address or a file is wrong.
    pub async fn check(&self) -> Result<()> {
        let [text, hash, set, stream] = self.inner.keys.probe();
        let names = [text, hash, set];
        let script = &scripts::PROBE;
        let _: String = self
            .inner
            .link
            .script(script, &names, &[], Repeat::Yes)
            .await?;
        let mut all = redis::pipe();
        all.cmd("XADD").arg(&stream).arg("*").arg("a").arg("1");
        all.cmd("XRANGE")
            .arg(&stream)
            .arg("-")
            .arg("+")
            .arg("COUNT")
            .arg(1);
        all.cmd("XREVRANGE")
            .arg(&stream)
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1);
        all.cmd("DEL").arg(&stream);
        let _: redis::Value = self.inner.link.run_all(&all, Repeat::Yes).await?;
        Ok(())
    }

    /// What Redis does with its data when it stops, as it says itself.
    ///
    /// # Errors
    /// `Busy` if it cannot be asked.
    pub async fn persistence(&self) -> Result<Persistence> {
        let mut command = redis::cmd("INFO");
        command.arg("persistence");
        let said: String = self.inner.link.run(&command, Repeat::Yes).await?;
        let says = |words: &str| said.lines().any(|line| line.trim() == words);
        match (says("aof_enabled:1"), says("aof_enabled:0")) {
            (true, _) => Ok(Persistence::Log),
            (false, true) => Ok(Persistence::Memory),
            (false, false) => Err(Error::bug("Redis does not tell of its persistence")),
        }
    }

    /// Puts what may be lost into Redis: sessions, counters and the cache, wake-ups, and a copy of
    /// the newest events. Starts tasks, which end with the signals of the backend.
    #[must_use]
    pub fn over(&self, backend: Backend) -> Backend {
        let this = Arc::new(self.clone());
        let backend = mirror::over(self.inner.clone(), backend);
        Backend {
            sessions: this.clone(),
            counters: this.clone(),
            cache: this,
            ..backend
        }
    }
}

/// What is left of the data after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// All but the last moments: commands are logged (AOF).
    Log,
    /// Nothing, or an old snapshot.
    Memory,
}

/// A time to live in milliseconds as Redis takes it: at least one, at most a hundred years.
fn ttl_ms(span: Duration) -> u64 {
    const LONGEST: u128 = 100 * 366 * 24 * 3600 * 1000;
    let ms = span.as_micros().div_ceil(1000).clamp(1, LONGEST);
    u64::try_from(ms).unwrap_or(1)
}
