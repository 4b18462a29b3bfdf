//! What the chaos driver breaks: a primary with its standby, proxies, and two servers.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use agentflow_testkit::{
    faults::Proxy,
    servers::postgres::{self, APP, APP_PASSWORD, Own, Version},
};
use anyhow::{Context, Result};

use crate::drive::{
    Url,
    server::{LEASE_SECONDS, Server, Shared, Store},
};

/// Servers.
pub const SERVERS: usize = 2;
/// Most connections of one server, without the one that listens.
pub const CONNECTIONS: usize = 10;
/// How long a statement may take, in seconds: what is silent for longer is given up.
const STATEMENT_SECONDS: u64 = 2;
/// How long a request waits for a connection, in seconds.
const ACQUIRE_SECONDS: u64 = 5;
/// Lines of a log that are shown when something is wrong.
const SHOWN: usize = 40;

/// Everything that can break.
pub struct Stage {
    primary: Option<Own>,
    standby: Option<Own>,
    /// The database, dropped with its server.
    pub store: Arc<Store>,
    /// For each server its ways to the primary and to the standby.
    pub proxies: Vec<[Proxy; 2]>,
    servers: Vec<Server>,
}

impl Stage {
    /// Starts everything; logs go to files in `folder`.
    pub async fn build(binary: &Path, folder: &Path) -> Result<(Self, Vec<Url>)> {
        let (primary, standby, database) = tokio::task::spawn_blocking(databases).await??;
        let ports = [primary.address().port, standby.address().port];
        let mut stage = Self {
            store: Arc::new(Store::Postgres(Shared::new(
                &database,
                primary.address(),
                Vec::new(),
            ))),
            primary: Some(primary),
            standby: Some(standby),
            proxies: Vec::new(),
            servers: Vec::new(),
        };
        let mut urls = Vec::new();
        for number in 0..SERVERS {
            let ways = [Proxy::start(ports[0]).await?, Proxy::start(ports[1]).await?];
            let (server, url) = Server::new(binary.to_owned(), options(&ways, &database));
            let mut server = server.log(log(folder, number));
            server.start().await?;
            stage.proxies.push(ways);
            stage.servers.push(server);
            urls.push(url);
        }
        Ok((stage, urls))
    }

    /// Kills the primary and starts it again.
    pub async fn restart_primary(&mut self) -> Result<()> {
        let mut primary = self.primary.take().context("there is no primary")?;
        let restarted = tokio::task::spawn_blocking(move || {
            primary.kill()?;
            primary.restart()?;
            anyhow::Ok(primary)
        });
        self.primary = Some(restarted.await??);
        Ok(())
    }

    /// Kills the primary and makes the standby take over.
    pub async fn fail_over(&mut self) -> Result<()> {
        let mut primary = self.primary.take().context("there is no primary")?;
        let standby = self.standby.take().context("there is no standby")?;
        let promoted = tokio::task::spawn_blocking(move || {
            primary.kill()?;
            standby.promote()?;
            anyhow::Ok(standby)
        });
        let standby = promoted.await??;
        if let Store::Postgres(shared) = &*self.store {
            shared.moved(standby.address());
        }
        self.primary = Some(standby);
        Ok(())
    }

    /// Connections of the servers, as the database counts them.
    pub fn connections(&self) -> Result<usize> {
        let Store::Postgres(shared) = &*self.store else {
            return Ok(0);
        };
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity
            WHERE usename = '{APP}' AND backend_type = 'client backend'"
        );
        Ok(shared.sql(&sql)?.parse()?)
    }

    /// Shows the ends of all logs.
    pub fn show_logs(&self, folder: &Path) {
        for number in 0..self.servers.len() {
            show(&format!("server {number}"), &log(folder, number));
        }
        for (name, own) in [("primary", &self.primary), ("standby", &self.standby)] {
            if let Some(own) = own {
                show(name, &own.folder().join("log"));
            }
        }
    }
}

/// Shows the end of a log.
fn show(name: &str, file: &Path) {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    println!("{name}:");
    for line in &lines[lines.len().saturating_sub(SHOWN)..] {
        println!("  {line}");
    }
}

fn log(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("server-{number}.log"))
}

/// A primary with a database, and its standby.
fn databases() -> Result<(Own, Own, String)> {
    let options = postgres::Options::new(Version::Debian)
        .set("max_connections", "100")
        // A standby that lost its primary soon looks again.
        .set("wal_retrieve_retry_interval", "200ms");
    let primary = Own::start(&options)?;
    let name = "chaos";
    primary
        .address()
        .sql("postgres", &format!("CREATE DATABASE {name} OWNER {APP}"))?;
    let standby = primary.standby()?;
    Ok((primary, standby, name.to_owned()))
}

/// How a server reaches whichever of both databases takes writes.
fn options(ways: &[Proxy; 2], database: &str) -> Vec<String> {
    let [first, second] = [ways[0].port(), ways[1].port()];
    let url = format!(
        "postgresql://{APP}:{APP_PASSWORD}@127.0.0.1:{first},127.0.0.1:{second}/{database}\
         ?sslmode=disable&target_session_attrs=read-write"
    );
    let with = |name: &str, value: u64| [name.to_owned(), value.to_string()];
    let mut options = vec!["--database-url".to_owned(), url];
    options.extend(with("--lease-seconds", LEASE_SECONDS));
    options.extend(with("--max-connections", CONNECTIONS as u64));
    options.extend(with("--statement-timeout-seconds", STATEMENT_SECONDS));
    options.extend(with("--acquire-timeout-seconds", ACQUIRE_SECONDS));
    options
}
