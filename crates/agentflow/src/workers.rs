//! Graphs in Python: from the configuration to processes, and the commands about them.

use std::{path::Path, sync::Arc, time::Duration};

use agentflow_graph::Runtime;
use agentflow_server::{Tls, TlsFiles};
use agentflow_types::{Error, Result};
use agentflow_workers::{
    Finding, PoolConfig, Project, Reload, Remote, Services, Verdict, Workers, WorkersConfig,
};

use crate::config::WorkersSection;

/// Starts the processes of a project, over the storage of a runtime.
///
/// # Errors
/// `Bug` if the runtime has no storage; `Busy` if the socket cannot be made.
pub fn open(section: &WorkersSection, project: Project, runtime: &Runtime) -> Result<Arc<Workers>> {
    let (Some(checkpoints), Some(store)) = (runtime.saver.clone(), runtime.store.clone()) else {
        return Err(Error::bug("workers need storage"));
    };
    let python = agentflow_workers::interpreter(&project, &section.python);
    let memory = (section.memory_mib > 0).then_some(section.memory_mib << 20);
    let config = WorkersConfig {
        python,
        project,
        memory_bytes: memory,
        pool: PoolConfig {
            processes: section.local_processes(),
            concurrency: section.concurrency,
            start_timeout: Duration::from_secs(section.start_timeout_seconds),
            stall: Duration::from_secs(section.stall_seconds),
            cancel_grace: Duration::from_secs(section.cancel_grace_seconds),
            ..PoolConfig::default()
        },
        reload: match section.reload {
            true => Reload::OnChange,
            false => Reload::Never,
        },
        remote: remote(section)?,
    };
    Workers::open(config, Services { checkpoints, store })
}

/// The listener for workers of other machines.
fn remote(section: &WorkersSection) -> Result<Option<Remote>> {
    if section.listen.is_empty() {
        return Ok(None);
    }
    let tls = Tls::load(TlsFiles {
        cert: section.cert_file.clone(),
        key: section.key_file.clone(),
        client_ca: Some(section.client_ca_file.clone()),
    })?;
    Ok(Some(Remote {
        address: section.address()?,
        acceptor: Arc::new(move || tls.acceptor()),
    }))
}

/// Installs what a project needs into its virtual environment.
///
/// # Errors
/// `Failed` with the command that failed; `NotFound` without a project.
pub fn install(section: &WorkersSection) -> Result<()> {
    if !section.is_set() {
        return Err(Error::not_found(
            "there is no langgraph.json to install for",
        ));
    }
    agentflow_workers::install(&Project::read(&section.project)?).map(drop)
}

/// Checks a project: the report, and whether nothing in it fails.
///
/// # Errors
/// `NotFound` or `Invalid` if there is no project that can be read.
pub async fn import(path: &Path, python: &str) -> Result<(String, bool)> {
    let project = Project::read(path)?;
    let findings = agentflow_workers::check(&project, python).await?;
    let fine = findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Fails);
    let mut lines: Vec<String> = findings.iter().map(line).collect();
    lines.push(String::new());
    lines.push(match fine {
        true => "next: agentflow dev, in the folder of langgraph.json".into(),
        false
            if findings
                .iter()
                .any(|finding| finding.verdict == Verdict::Works) =>
        {
            "what works can be served already: agentflow dev, in the folder of langgraph.json"
                .into()
        }
        false => "nothing of it can be served yet".into(),
    });
    Ok((lines.join("\n"), fine))
}

fn line(finding: &Finding) -> String {
    let told = finding.told.trim().replace('\n', "\n         ");
    format!(
        "{:<8} {}: {told}",
        finding.verdict.as_str(),
        finding.subject
    )
}
