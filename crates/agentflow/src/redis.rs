//! Redis beside the database, if the configuration names one.

use std::time::Duration;

use agentflow_redis::{Access, Address, Keeping, Options, Persistence, Redis, Source};
use agentflow_server::{Part, Wellness};
use agentflow_storage::{Backend, msgpack::typed::Codec};
use agentflow_types::{Error, ErrorKind, Result};
use async_trait::async_trait;

use crate::{
    config::{Checkpointer, Config, Profile},
    database::file,
};

/// How long `/health` waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Checks that pass by themselves when the server is there again.
const PASSING: [&str; 2] = ["network", "server ready"];

/// Redis beside a database.
pub(crate) struct Beside {
    /// What it does is in here.
    pub(crate) backend: Backend,
    /// The connection, and what depends on it; `None` if the configuration names none.
    pub(crate) redis: Option<Health>,
}

/// Puts Redis beside the backend, if there is one.
///
/// A server that is away does not keep us from starting, unless it has the checkpoints: the
/// database does what it would do. One that refuses us, or that we refuse, does.
///
/// # Errors
/// `Invalid` if the configuration is wrong, or forbids this server; `Busy` with the check that
/// failed.
pub(crate) async fn beside(config: &Config, backend: Backend, codec: Codec) -> Result<Beside> {
    let checkpointer = config.storage.checkpointer;
    if !config.redis.is_set() {
        return match checkpointer {
            Checkpointer::Database => Ok(Beside {
                backend,
                redis: None,
            }),
            Checkpointer::Redis => Err(Error::invalid(
                "storage.checkpointer is \"redis\", but there is none: set redis.url",
            )),
        };
    }
    let options = options(config)?;
    let address = options.access.address()?;
    if config.profile == Profile::Production {
        demand(&address)?;
    }
    let redis = Redis::new(options)?;
    match redis.check().await {
        Ok(()) => tracing::info!(address = %address, "Redis is used"),
        Err(err) if is_passing(&err) && checkpointer == Checkpointer::Database => {
            tracing::warn!(error = %err, address = %address, "Redis is away; the database stands in");
        }
        Err(err) => return Err(err),
    }
    let backend = match checkpointer {
        Checkpointer::Database => backend,
        Checkpointer::Redis => {
            redis.check_checkpoints().await?;
            is_kept(config, &redis).await?;
            let seconds = config.storage.checkpoint_ttl_seconds;
            let keeping = Keeping {
                codec,
                ttl: (seconds > 0).then(|| Duration::from_secs(seconds)),
            };
            redis.keep_checkpoints(backend, keeping)
        }
    };
    Ok(Beside {
        backend: redis.over(backend),
        redis: Some(Health {
            redis,
            checkpointer,
        }),
    })
}

/// Whether checkpoints outlive a restart of Redis, and a full memory; if not, production refuses
/// and others are warned.
async fn is_kept(config: &Config, redis: &Redis) -> Result<()> {
    let mut wrong = Vec::new();
    if redis.persistence().await? == Persistence::Memory {
        wrong.push(
            "Redis has the checkpoints and loses them when it restarts: set `appendonly yes`",
        );
    }
    if redis.replays_scripts().await? == Some(false) {
        wrong.push(
            "Redis has the checkpoints and loses them when it restarts: the user default may do \
             nothing, and Redis reads its log of commands as this user; write `user default off ~* \
             &* +@all`",
        );
    }
    let policy = redis.eviction().await?;
    let throws_away = match config.storage.checkpoint_ttl_seconds {
        // Keys without a time to live are thrown away by no other policy.
        0 => policy.starts_with("allkeys"),
        _ => policy != "noeviction",
    };
    if throws_away {
        wrong.push(
            "Redis has the checkpoints and throws them away when its memory is full: set \
             `maxmemory-policy` to noeviction, or, without storage.checkpoint_ttl_seconds, to one \
             of volatile-…",
        );
    }
    for text in wrong {
        if config.profile == Profile::Production {
            return Err(Error::invalid(text).with("policy", &policy));
        }
        tracing::warn!("{text}");
    }
    Ok(())
}

/// Tells `/health` about Redis.
pub(crate) struct Health {
    pub(crate) redis: Redis,
    checkpointer: Checkpointer,
}

impl Health {
    /// Whether runs cannot go on without it.
    pub(crate) fn is_checkpointer(&self) -> bool {
        self.checkpointer == Checkpointer::Redis
    }

    async fn ask(&self) -> Result<Wellness> {
        self.redis.ping().await?;
        if !self.is_checkpointer() {
            return Ok(Wellness::Ok("it answers".into()));
        }
        Ok(match self.redis.persistence().await? {
            Persistence::Log => Wellness::Ok("it answers and keeps checkpoints".into()),
            Persistence::Memory => {
                Wellness::Degraded("it would lose the checkpoints in a restart".into())
            }
        })
    }
}

#[async_trait]
impl Part for Health {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn wellness(&self) -> Wellness {
        let why = match tokio::time::timeout(PATIENCE, self.ask()).await {
            Ok(Ok(wellness)) => return wellness,
            Ok(Err(err)) => {
                tracing::debug!(error = %err, "Redis is not well");
                "it is away"
            }
            Err(_) => "no answer in time",
        };
        match self.checkpointer {
            Checkpointer::Database => Wellness::Degraded(format!("{why}; the database stands in")),
            Checkpointer::Redis => Wellness::Failed(format!("{why}, with the checkpoints")),
        }
    }
}

fn options(config: &Config) -> Result<Options> {
    let section = &config.redis;
    let source = match section.url.is_empty() {
        true => Source::File(section.url_file.clone()),
        false => section.url.parse::<Address>()?.into(),
    };
    let access = Access {
        source,
        username: (!section.username.is_empty()).then(|| section.username.clone()),
        password_file: file(&section.password_file),
        ca_file: file(&section.ca_file),
        cert_file: file(&section.cert_file),
        key_file: file(&section.key_file),
    };
    Ok(Options {
        prefix: section.prefix.clone(),
        ..Options::new(access)
    })
}

/// What production asks of an address.
fn demand(address: &Address) -> Result<()> {
    if !address.is_tls {
        return Err(Error::invalid(
            "in production the connection to Redis must use TLS: begin redis.url with rediss://, \
             and set redis.ca_file to its authority",
        ));
    }
    let has_user = address
        .user
        .as_deref()
        .is_some_and(|user| user != "default");
    if !has_user || address.password.is_none() {
        return Err(Error::invalid(
            "in production Redis must be used as an ACL user with a password: set redis.username \
             and redis.password_file",
        ));
    }
    Ok(())
}

fn is_passing(err: &Error) -> bool {
    let check = err.context().iter().find(|(name, _)| *name == "check");
    err.kind() == ErrorKind::Busy
        && check.is_some_and(|(_, check)| PASSING.contains(&check.as_str()))
}
