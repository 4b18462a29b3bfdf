//! The cache.
//!
//! Plain commands cannot forget all entries of a namespace at once, so each namespace has a mark,
//! a random text, and an entry counts while the marks of all namespaces that it is in are those
//! with which it was put. Forgetting a namespace removes its mark.

use std::time::Duration;

use agentflow_storage::cache::{Cache, CacheKey, check_value};
use agentflow_types::{Result, Timestamp};
use async_trait::async_trait;
use redis::cmd;

use crate::{Redis, link::Repeat, scripts, ttl_ms};

/// How long an entry lives at most, and a mark after the last entry was put.
const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

#[async_trait]
impl Cache for Redis {
    async fn get(&self, key: &CacheKey, now: Timestamp) -> Result<Option<Vec<u8>>> {
        key.check()?;
        let names = self.inner.keys.cached(key);
        let now = now.0.to_string();
        let script = &scripts::GET_CACHED;
        let values = [now.as_bytes()];
        let found = self.inner.link.script(script, &names, &values, Repeat::Yes);
        found.await
    }

    async fn put(
        &self,
        key: &CacheKey,
        value: Vec<u8>,
        ttl: Option<Duration>,
        now: Timestamp,
    ) -> Result<()> {
        key.check()?;
        check_value(&value)?;
        let names = self.inner.keys.cached(key);
        // Known before anything is marked by it, so that clearing all finds it.
        let outermost = self.inner.keys.mark(key.namespace.get(..1).unwrap_or(&[]));
        let mut command = cmd("SADD");
        command.arg(self.inner.keys.marks()).arg(outermost);
        let _: u64 = self.inner.link.run(&command, Repeat::Yes).await?;
        let until = ttl.map_or(String::new(), |ttl| now.plus(ttl).0.to_string());
        let lives = ttl_ms(ttl.unwrap_or(MAX_TTL).min(MAX_TTL)).to_string();
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let marks_live = ttl_ms(MAX_TTL).to_string();
        let values = [
            value.as_slice(),
            until.as_bytes(),
            lives.as_bytes(),
            mark.as_bytes(),
            marks_live.as_bytes(),
        ];
        let script = &scripts::PUT_CACHED;
        let put = self.inner.link.script(script, &names, &values, Repeat::Yes);
        put.await
    }

    async fn delete(&self, key: &CacheKey) -> Result<()> {
        key.check()?;
        let mut command = cmd("DEL");
        command.arg(&self.inner.keys.cached(key)[0]);
        let _: u64 = self.inner.link.run(&command, Repeat::Yes).await?;
        Ok(())
    }

    async fn clear(&self, namespace: &[String]) -> Result<()> {
        let marks: Vec<String> = match namespace.is_empty() {
            false => vec![self.inner.keys.mark(namespace)],
            true => {
                let mut command = cmd("SMEMBERS");
                command.arg(self.inner.keys.marks());
                self.inner.link.run(&command, Repeat::Yes).await?
            }
        };
        for mark in marks {
            let mut command = cmd("DEL");
            command.arg(mark);
            let _: u64 = self.inner.link.run(&command, Repeat::Yes).await?;
        }
        Ok(())
    }

    async fn sweep(&self, _: Timestamp, _: u32) -> Result<u64> {
        Ok(0)
    }
}
