//! Documents as the configuration wants them: the service, its processes that read files, its
//! listener.

use std::{net::SocketAddr, process::Command, process::ExitCode, sync::Arc};

use agentflow_models::Registry;
use agentflow_rag::{
    Limits, Sandbox, Service,
    sandbox::{Size, worker_main},
    service::Drift,
};
use agentflow_server::AppState;
use agentflow_types::{Clock, Error, Result, SystemClock};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    app::{self, Keep},
    config::Config,
    database::{self, Database},
    memory, models,
};

/// Makes this program a process that reads files. It is started by this program alone.
const READER: &str = "read-files-of-strangers";
/// Files that wait for a process; more are tried again later.
const WAITING: usize = 1_000;

/// Reads files, if this process was started for that: then it does nothing else. The program must
/// call it first thing in `main`, before there are threads.
#[must_use]
pub fn reader() -> Option<ExitCode> {
    (std::env::args().nth(1).as_deref() == Some(READER)).then(worker_main)
}

/// The document service; `None` if the configuration wants none.
///
/// # Errors
/// `Invalid` for a model that does not exist, `NotFound` if a file of a local one is missing.
pub(crate) fn open(
    config: &Config,
    database: &Database,
    registry: Option<&Arc<Registry>>,
) -> Result<Option<Service>> {
    let section = &config.documents;
    if !section.enabled {
        return Ok(None);
    }
    let program = std::env::current_exe()
        .map_err(|err| Error::failed("this program does not find itself").source_err(err))?;
    let mut command = Command::new(program);
    command.arg(READER);
    let limits = Limits {
        bytes_in: section.upload_limit_bytes as u64,
        ..Limits::default()
    };
    let size = Size {
        processes: section.readers.get(),
        waiting: WAITING,
    };
    let spec = match section.embedding.as_str() {
        "" => &config.memory.embedding,
        spec => spec,
    };
    let embed = memory::embedder(config, registry, spec)?;
    let about = (Arc::new(SystemClock) as Arc<dyn Clock>, section.language()?);
    Ok(Some(Service::new(
        database.backend.clone(),
        database.vectors.clone(),
        embed,
        Arc::new(Sandbox::new(command, limits, size)),
        about,
    )))
}

/// Compares the index of documents with the records, and repairs it unless it is only a check.
///
/// # Errors
/// `Busy` if a server uses the embedded database; `Invalid` if documents are off.
pub(crate) async fn reconcile(config: &Config, check: bool) -> Result<Drift> {
    let found = models::from_config(&config.models).await?;
    let database = database::open(config, Keep::OnDisk).await?;
    let service = open(config, &database, Some(&found.registry))?;
    let service = service.ok_or_else(|| Error::invalid("documents.enabled is false"))?;
    match check {
        true => service.check().await,
        false => service.reconcile().await,
    }
}

/// Documents that are being served.
#[derive(Default)]
pub(crate) struct Serving {
    address: Option<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
}

impl Serving {
    /// Serves documents on a port of their own, and works on them in the background.
    ///
    /// # Errors
    /// `Conflict` if an explicitly chosen port is in use.
    pub(crate) fn start(
        config: &Config,
        state: &AppState,
        documents: Option<Service>,
        stop: &CancellationToken,
    ) -> Result<Self> {
        let Some(documents) = documents else {
            return Ok(Self::default());
        };
        let wanted = match (config.server.port, config.documents_port_is_explicit) {
            // Who takes any port for one listener takes any for the other.
            (0, false) => 0,
            _ => config.documents.port,
        };
        let is_explicit = config.documents_port_is_explicit;
        let (listener, address, _) = app::bind(config, wanted, is_explicit)?;
        let state = state.clone().with_documents(documents.clone());
        let router = agentflow_server::document_router(state.clone());
        let working = tokio::spawn({
            let stop = stop.clone();
            async move { documents.run(stop).await }
        });
        let stop = stop.clone();
        let listening = tokio::spawn(async move {
            let served = agentflow_server::serve(listener, router, state, stop).await;
            if let Err(err) = served {
                tracing::error!(error = %err, "documents are not served any more");
            }
        });
        Ok(Self {
            address: Some(address),
            tasks: vec![working, listening],
        })
    }

    /// Base URL, if documents are served.
    pub(crate) fn url(&self, scheme: &str) -> Option<String> {
        self.address.map(|address| format!("{scheme}://{address}"))
    }

    /// Waits for everything to end.
    ///
    /// # Errors
    /// `Bug` if a task panicked.
    pub(crate) async fn ended(self) -> Result<()> {
        for task in self.tasks {
            task.await
                .map_err(|err| Error::bug("the document service panicked").source_err(err))?;
        }
        Ok(())
    }
}
