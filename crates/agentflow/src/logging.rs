//! Logs: text on a terminal, JSON otherwise, always on stderr. Traces, if they are configured.

use std::io::IsTerminal;

use agentflow_types::{Error, Result};
use tracing::Level;
use tracing_subscriber::{EnvFilter, Layer as _, filter::Targets, fmt, prelude::*};

use crate::{
    config::{Log, LogFormat, Traces},
    traces::Exporting,
};

/// Whether stderr may carry colour: a terminal, and `NO_COLOR` is unset or empty.
#[must_use]
pub fn colour() -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !no_color
}

/// Starts logging for the process, and traces. `RUST_LOG` wins over the configured level. What is
/// returned sends the last traces when it is dropped.
///
/// # Errors
/// `Invalid` if the level is not a filter, or as [`Exporting::start`].
pub fn start(log: &Log, traces: &Traces) -> Result<Option<Exporting>> {
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
    let lines = match json {
        true => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .with_filter(filter)
            .boxed(),
        false => fmt::layer()
            .with_ansi(colour())
            .with_writer(std::io::stderr)
            .with_filter(filter)
            .boxed(),
    };
    let exporting = Exporting::start(traces)?;
    let spans = exporting.as_ref().map(|exporting| {
        // Of our own crates only; events become part of their span.
        let ours = Targets::new().with_target("agentflow", Level::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(exporting.tracer())
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(ours)
    });
    // A second start in one process (tests, embedding programs) keeps the first subscriber.
    let _ = tracing_subscriber::registry()
        .with(lines)
        .with(spans)
        .try_init();
    Ok(exporting)
}
