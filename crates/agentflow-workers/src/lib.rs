//! Graphs in other processes: existing LangGraph projects, served as they are.
//!
//! A project's `langgraph.json` names graphs written in Python. [`Workers`] starts processes that
//! load them, and is a [`GraphHost`](agentflow_runs::host::GraphHost): runs, states and pictures
//! go to a process, which stores checkpoints and items through us. The protocol is described in
//! `docs/worker-protocol.md`.

mod check;
mod fault;
mod frame;
mod host;
mod items;
mod link;
mod listen;
mod package;
mod peer;
mod pool;
mod process;
mod project;
mod python;
mod remote;
mod saver;
mod session;
#[cfg(test)]
mod tests;
mod watch;
mod wire;

use std::{path::PathBuf, sync::Arc};

use agentflow_runs::host::GraphInfo;
use agentflow_storage::{checkpoint::Checkpoints, store::Store};
use agentflow_types::Result;

pub use check::{Finding, Verdict, check};
pub use frame::MAX_BODY_BYTES;
pub use listen::Remote;
pub use pool::{PoolConfig, START_ERROR};
pub use process::Launch;
pub use project::{FILE_NAME, GraphEntry, Project};
pub use python::{install, interpreter};

use listen::{Door, RemoteDoor};
use peer::Welcome;
use pool::Pool;

/// What workers reach through us.
#[derive(Clone)]
pub struct Services {
    /// Checkpoints.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// Long-term items.
    pub store: Arc<dyn Store>,
}

/// Whether processes are replaced when a file of the project changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    /// They are not.
    #[default]
    Never,
    /// They are.
    OnChange,
}

/// What to serve, and how.
#[derive(Clone, Debug)]
pub struct WorkersConfig {
    /// The project.
    pub project: Project,
    /// The interpreter.
    pub python: PathBuf,
    /// Most private memory of a process in bytes; `None` for no limit.
    pub memory_bytes: Option<u64>,
    /// The processes.
    pub pool: PoolConfig,
    /// Whether they follow changes.
    pub reload: Reload,
    /// Where workers of other machines connect; `None` for nowhere.
    pub remote: Option<Remote>,
}

/// The graphs of one project, in processes of their own.
pub struct Workers {
    graphs: Vec<GraphInfo>,
    services: Services,
    pool: Arc<Pool>,
}

/// Processes of a pool, for health and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Processes that were started since the beginning.
    pub started: usize,
    /// Processes that are ready.
    pub ready: usize,
}

impl Workers {
    /// Starts the processes in the background; requests wait until one is ready.
    ///
    /// # Errors
    /// `Busy` if the socket or the package cannot be written.
    pub fn open(config: WorkersConfig, services: Services) -> Result<Arc<Self>> {
        let door = Door::open()?;
        let remote = config.remote.map(RemoteDoor::open).transpose()?;
        let package = door.folder().join("package");
        package::write(&package)?;
        let launch = Launch {
            command: vec![config.python.display().to_string()],
            package: Some(package),
            memory_bytes: config.memory_bytes,
        };
        let project = config.project;
        let graphs: Vec<GraphInfo> = project
            .graphs
            .iter()
            .map(|graph| GraphInfo {
                graph_id: graph.id.clone(),
                name: graph.id.clone(),
                description: graph.description.clone(),
            })
            .collect();
        let welcome = Welcome {
            graphs: graphs.iter().map(|graph| graph.graph_id.clone()).collect(),
            store: project.store(),
            ping: config.pool.ping,
            max_frame_bytes: config.pool.max_frame_bytes,
        };
        let file = project.file.clone();
        let pool = Pool::open(
            config.pool,
            launch,
            file,
            welcome,
            services.clone(),
            (door, remote),
        );
        if config.reload == Reload::OnChange {
            pool.tasks
                .spawn(follow(pool.clone(), project.folder().to_owned()));
        }
        Ok(Arc::new(Self {
            graphs,
            services,
            pool,
        }))
    }

    /// Processes that were started, and that are ready.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let (started, ready) = self.pool.counts();
        Figures { started, ready }
    }

    /// Where workers of other machines connect; `None` for nowhere.
    #[must_use]
    pub fn remote_address(&self) -> Option<std::net::SocketAddr> {
        self.pool.remote_address()
    }

    /// Replaces all processes; old ones finish what they work on.
    pub fn reload(&self) {
        self.pool.reload();
    }

    /// Ends all processes; what they work on may go on for the time of the drain.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// What the next ready worker loaded: for each graph the error, or `None`; and notes about
    /// what is not supported.
    ///
    /// # Errors
    /// If no worker can be started.
    pub(crate) async fn loaded(
        &self,
    ) -> Result<(Vec<(String, Option<agentflow_types::Error>)>, Vec<String>)> {
        let lease = self.pool.pick(pool::Need::Answer).await?;
        let loaded = lease.peer.ready().await?;
        let graphs = self.graphs.iter().map(|graph| {
            let error = lease.peer.check_graph(&graph.graph_id).err();
            (graph.graph_id.clone(), error)
        });
        Ok((graphs.collect(), loaded.notes.clone()))
    }
}

/// Has the processes replaced when a file of the project changed and rests again.
async fn follow(pool: Arc<Pool>, folder: PathBuf) {
    let look = || {
        let folder = folder.clone();
        tokio::task::spawn_blocking(move || watch::look(&folder))
    };
    let mut known = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(watch::EVERY) => {}
            () = pool.stop.cancelled() => return,
        }
        let Ok(seen) = look().await else { return };
        match &known {
            None => known = Some((seen, false)),
            Some((before, _)) if *before != seen => known = Some((seen, true)),
            Some((_, true)) => {
                tracing::warn!("the project changed; its workers are replaced");
                pool.reload();
                known = Some((seen, false));
            }
            Some(_) => {}
        }
    }
}
