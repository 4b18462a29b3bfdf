//! The Redis backend, on plain commands of Redis 7 and Valkey: sessions, counters, a cache,
//! wake-ups between servers, a copy of the newest events, and checkpoints if it is told to keep
//! them.
//!
//! But for checkpoints Redis holds what may be lost. The database stays the record: while Redis is
//! away, runs go on, wake-ups take the way of the database, and events are read from there.
//! Checkpoints ([`Redis::keep_checkpoints`]) are in Redis alone, whose log of commands must be on.

mod address;
mod cache;
mod checkpoints;
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
mod stats;

use std::{sync::Arc, time::Duration};

use agentflow_storage::Backend;
use agentflow_types::{Error, Result};

pub use address::{Address, Host, Kind, Secret};
pub use checkpoints::Keeping;
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

    /// As [`Self::check`], of what checkpoints need beside it.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub async fn check_checkpoints(&self) -> Result<()> {
        let [text, hash, set, _] = self.inner.keys.probe();
        let link = &self.inner.link;
        let names = [text, hash.clone(), set];
        let script = &scripts::PROBE_CHECKPOINTS;
        let _: String = link.script(script, &names, &[], Repeat::Yes).await?;
        let mut all = redis::pipe();
        all.cmd("HMGET").arg(&hash).arg("a");
        all.cmd("HSCAN").arg(&hash).arg(0);
        let _: redis::Value = link.run_all(&all, Repeat::Yes).await?;
        Ok(())
    }

    /// Whether Redis answers at all.
    ///
    /// # Errors
    /// `Busy` if it does not.
    pub async fn ping(&self) -> Result<()> {
        let _: redis::Value = self
            .inner
            .link
            .run(&redis::cmd("PING"), Repeat::Yes)
            .await?;
        Ok(())
    }

    /// What Redis does with its data when it stops, as it says itself; of a cluster, what the
    /// node does that does least.
    ///
    /// # Errors
    /// `Busy` if it cannot be asked.
    pub async fn persistence(&self) -> Result<Persistence> {
        let said = self.info("persistence").await?;
        let kept = |text: &String| match (says(text, "aof_enabled:1"), says(text, "aof_enabled:0"))
        {
            (true, _) => Ok(Persistence::Log),
            (false, true) => Ok(Persistence::Memory),
            (false, false) => Err(Error::bug("Redis does not tell of its persistence")),
        };
        let kept = said.iter().map(kept).collect::<Result<Vec<_>>>()?;
        match kept.contains(&Persistence::Memory) {
            true => Ok(Persistence::Memory),
            false => Ok(Persistence::Log),
        }
    }

    /// What Redis throws away when its memory is full, as it says itself: the name of the policy.
    /// Of a cluster, that of the node that may throw away most.
    ///
    /// # Errors
    /// `Busy` if it cannot be asked.
    pub async fn eviction(&self) -> Result<String> {
        const POLICY: &str = "maxmemory_policy:";
        let said = self.info("memory").await?;
        let policies = said.iter().flat_map(|text| text.lines());
        let policies = policies.filter_map(|line| line.trim().strip_prefix(POLICY));
        let rank = |policy: &&str| match policy.split('-').next() {
            Some("allkeys") => 2,
            Some("volatile") => 1,
            _ => 0,
        };
        let worst = policies.max_by_key(rank);
        let unsaid = || Error::bug("Redis does not tell of its memory");
        worst.map(str::to_owned).ok_or_else(unsaid)
    }

    /// Whether a restart keeps what scripts wrote: Redis 7 reads transactions in its log as the
    /// user `default`, and leaves out those that this user may not do. `None` if we may not ask.
    ///
    /// # Errors
    /// `Busy` if it cannot be asked.
    pub async fn replays_scripts(&self) -> Result<Option<bool>> {
        let mut command = redis::cmd("ACL");
        command.arg("DRYRUN").arg("default");
        let key = self.inner.keys.threads();
        command.arg("HSET").arg(key).arg("a").arg("1");
        let said: Result<String> = self.inner.link.run(&command, Repeat::Yes).await;
        match said {
            Ok(said) => Ok(Some(said == "OK")),
            Err(err) if err.context().iter().any(|(_, text)| text == "rights") => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// What every node says about itself.
    async fn info(&self, section: &str) -> Result<Vec<String>> {
        let mut command = redis::cmd("INFO");
        command.arg(section);
        let said: redis::Value = self.inner.link.run(&command, Repeat::Yes).await?;
        let mut texts = Vec::new();
        gather(said, &mut texts);
        match texts.is_empty() {
            true => Err(Error::bug("Redis tells nothing about itself")),
            false => Ok(texts),
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

/// Whether one of the lines is this one.
fn says(text: &str, words: &str) -> bool {
    text.lines().any(|line| line.trim() == words)
}

/// The texts of an answer, which is one text, or one for each node.
fn gather(value: redis::Value, texts: &mut Vec<String>) {
    match value {
        redis::Value::Map(nodes) => nodes.into_iter().for_each(|(_, said)| gather(said, texts)),
        redis::Value::Array(all) => all.into_iter().for_each(|said| gather(said, texts)),
        other => texts.extend(redis::from_redis_value::<String>(other).ok()),
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
