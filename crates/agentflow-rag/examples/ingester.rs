//! Sends documents to a document service in this process, for a test that kills it.
//!
//! `ingester PATH FROM TO`: documents of these numbers, over the SQLite file at the path. Each one
//! that is acknowledged is a line with its number; when all of them are over, the last line is
//! `done`.

#[path = "../tests/samples/mod.rs"]
mod samples;

use std::{io::Write, sync::Arc, time::Duration};

use agentflow_embedded::{Embedded, Options};
use agentflow_types::{Error, ErrorKind, Result, Scope};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Documents that are sent at once.
const SENDERS: u64 = 4;
/// How long one may take.
const LONG: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = || Error::invalid("usage: ingester PATH FROM TO");
    let path = args.next().ok_or_else(usage)?;
    let mut number = || args.next().and_then(|arg| arg.parse().ok());
    let (from, to): (u64, u64) = number().zip(number()).ok_or_else(usage)?;
    let opened = Embedded::open(path, Options::default())?;
    let service = samples::service(opened.backend(), opened.vectors());
    let stop = CancellationToken::new();
    let working = tokio::spawn({
        let (service, stop) = (service.clone(), stop.clone());
        async move { service.run(stop).await }
    });
    let scope = Scope::local();
    let caller = Arc::new(service.caller(&scope, samples::user(), false).await?);
    let mut sending = JoinSet::new();
    for first in 0..SENDERS {
        let (service, caller) = (service.clone(), caller.clone());
        sending.spawn(async move {
            for n in (from + first..to).step_by(SENDERS as usize) {
                let scope = Scope::local();
                match service.create(&scope, &caller, samples::upload(n)).await {
                    // One that was stored when the process before this one was killed.
                    Err(err) if err.kind() == ErrorKind::Conflict => {}
                    sent => {
                        sent?;
                    }
                }
                let line = format!("{n}\n");
                std::io::stdout()
                    .write_all(line.as_bytes())
                    .map_err(|err| Error::failed("nobody reads").source_err(err))?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(sent) = sending.join_next().await {
        sent.map_err(|err| Error::bug("a sender panicked").source_err(err))??;
    }
    for n in 0..to {
        service
            .settled(&scope, &caller, samples::id(n), LONG)
            .await?;
    }
    stop.cancel();
    working
        .await
        .map_err(|err| Error::bug("the work panicked").source_err(err))?;
    println!("done");
    Ok(())
}
