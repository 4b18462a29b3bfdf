//! Databases of a server: addresses, SQL as superuser, one database for each test.

use std::{
    fmt::Write as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use agentflow_types::Result;
use serde::{Deserialize, Serialize};

use super::{ADMIN, ADMIN_PASSWORD, APP, APP_PASSWORD, Version};
use crate::servers::{daemon, find, pgbouncer};

/// Where a server listens and how to get in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Address {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Which PostgreSQL.
    pub version: Version,
}

impl Address {
    /// Runs SQL as superuser in `database`; the rows, columns separated by `|`.
    ///
    /// # Errors
    /// `Failed` with the server's message.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let text = daemon::run(psql(self.port, database)?, sql)?;
        Ok(text.trim_end().to_owned())
    }

    /// URL of `database` for [`APP`], without TLS.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        url(self.port, database, &[("sslmode", "disable")])
    }

    /// URL of `database` for [`APP`] with parameters of one's own.
    #[must_use]
    pub fn url_with(&self, database: &str, parameters: &[(&str, &str)]) -> String {
        url(self.port, database, parameters)
    }

    /// URL of `database` for the superuser, without TLS.
    #[must_use]
    pub fn admin_url(&self, database: &str) -> String {
        let port = self.port;
        format!("postgresql://{ADMIN}:{ADMIN_PASSWORD}@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// A fresh, empty database that [`APP`] owns; it is dropped with the value.
    ///
    /// # Errors
    /// `Failed` with the server's message.
    pub fn create_database(&self) -> Result<Database> {
        self.copy_database("template1")
    }

    /// A fresh copy of a database that nobody is connected to; see [`Address::create_database`].
    pub(super) fn copy_database(&self, template: &str) -> Result<Database> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t_{}_{number}", std::process::id());
        // Process ids come round again; what a killed test left is in nobody's way.
        let sql = format!(
            "DROP DATABASE IF EXISTS {name} WITH (FORCE);
             CREATE DATABASE {name} OWNER {APP} TEMPLATE {template};"
        );
        self.sql("postgres", &sql)?;
        Ok(Database {
            address: self.clone(),
            name,
        })
    }
}

/// URL of a PostgreSQL or PgBouncer on a port of the loopback interface, for [`APP`].
pub(crate) fn url(port: u16, database: &str, parameters: &[(&str, &str)]) -> String {
    let mut url = format!("postgresql://{APP}:{APP_PASSWORD}@127.0.0.1:{port}/{database}");
    for (index, (name, value)) in parameters.iter().enumerate() {
        let mark = if index == 0 { '?' } else { '&' };
        // Paths of temporary files need no escapes.
        write!(url, "{mark}{name}={value}").expect("a string takes all text");
    }
    url
}

fn psql(port: u16, database: &str) -> Result<Command> {
    // Not the one in PATH: Debian's wrapper takes longer than the query.
    let mut command = Command::new(find::debian_postgres()?.join("psql"));
    command
        .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"])
        .args(["--set", "ON_ERROR_STOP=1", "--host", "127.0.0.1"])
        .args(["--username", ADMIN, "--dbname", database, "--port"])
        .arg(port.to_string())
        .env("PGPASSWORD", ADMIN_PASSWORD)
        .env("PGSSLMODE", "disable")
        .env("PGCONNECT_TIMEOUT", "20")
        .env("PGOPTIONS", "-c client_min_messages=warning");
    Ok(command)
}

/// A database of one test.
#[derive(Debug)]
pub struct Database {
    address: Address,
    name: String,
}

impl Database {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its server.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// URL for [`APP`], without TLS.
    #[must_use]
    pub fn url(&self) -> String {
        self.address.url(&self.name)
    }

    /// URL for the superuser, without TLS.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.address.admin_url(&self.name)
    }

    /// URL for [`APP`] through a PgBouncer, without TLS.
    #[must_use]
    pub fn bouncer_url(&self, bouncer: &pgbouncer::Address) -> String {
        bouncer.url(&self.name)
    }

    /// Runs SQL in it as superuser; see [`Address::sql`].
    ///
    /// # Errors
    /// `Failed` with the server's message.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.address.sql(&self.name, sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Ok(mut command) = psql(self.address.port, "postgres") else {
            return;
        };
        // Nobody waits for it: the next test need not, and a database that stays for some
        // reason goes with its server.
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _ = command
            .arg("--command")
            .arg(drop)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
    }
}
