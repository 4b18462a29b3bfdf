//! Redis beside the database, if the configuration names one.

use agentflow_redis::{Access, Address, Options, Redis, Source};
use agentflow_storage::Backend;
use agentflow_types::{Error, ErrorKind, Result};

use crate::{
    config::{Config, Profile},
    database::file,
};

/// Checks that pass by themselves when the server is there again.
const PASSING: [&str; 2] = ["network", "server ready"];

/// Puts Redis beside the backend, if there is one.
///
/// A server that is away does not keep us from starting: the database does what it would do. One
/// that refuses us, or that we refuse, does.
///
/// # Errors
/// `Invalid` if the configuration is wrong, or forbids this address; `Busy` with the check that
/// failed.
pub(crate) async fn beside(config: &Config, backend: Backend) -> Result<Backend> {
    if !config.redis.is_set() {
        return Ok(backend);
    }
    let options = options(config)?;
    let address = options.access.address()?;
    if config.profile == Profile::Production {
        demand(&address)?;
    }
    let redis = Redis::new(options)?;
    match redis.check().await {
        Ok(()) => tracing::info!(address = %address, "Redis is used"),
        Err(err) if is_passing(&err) => {
            tracing::warn!(error = %err, address = %address, "Redis is away; the database stands in");
        }
        Err(err) => return Err(err),
    }
    Ok(redis.over(backend))
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
