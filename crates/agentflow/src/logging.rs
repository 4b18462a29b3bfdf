//! Logs: text on a terminal, JSON otherwise, always on stderr.

use std::io::IsTerminal;

use agentflow_types::{Error, Result};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::config::{Log, LogFormat};

/// Whether stderr may carry colour: a terminal, and `NO_COLOR` is unset or empty.
#[must_use]
pub fn colour() -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !no_color
}

/// Starts logging for the process. `RUST_LOG` wins over the configured level.
///
/// # Errors
/// `Invalid` if the level is not a filter.
pub fn start(log: &Log) -> Result<()> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| log.level.clone());
    let filter = EnvFilter::try_new(&filter).map_err(|err| {
        Error::invalid("log.level is not a log filter")
            .with("level", filter)
            .source_err(err)
    })?;
    let json = match log.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process (tests, embedding programs) keeps the first subscriber.
    let _ = if json {
        registry
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(std::io::stderr),
            )
            .try_init()
    } else {
        registry
            .with(
                fmt::layer()
                    .with_ansi(colour())
                    .with_writer(std::io::stderr),
            )
            .try_init()
    };
    Ok(())
}
