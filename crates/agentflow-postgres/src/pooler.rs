//! Whether a pooler in transaction mode sits between us and the server.
//!
//! Such a pooler lends a connection of the server for one transaction. So a second client, in a
//! transaction of its own, either gets the very process that served the first one, or holds
//! another one, and then the first is served by whatever else is free. Session mode and a direct
//! connection keep one process for each client.

use std::time::Duration;

use agentflow_types::{Error, Result};
use tokio_postgres::{Client, types::Type};

use crate::{connect::Session, error};

/// How long a question may take. In a pool of one connection nobody is served while another one
/// has a transaction.
const PATIENCE: Duration = Duration::from_secs(5);
const PROCESS: &str = "SELECT pg_backend_pid()";

/// What serves a client now.
///
/// # Errors
/// `Busy` if the database does not answer.
pub(crate) async fn process(client: &Client) -> Result<i32> {
    let none: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 0] = [];
    let asked = tokio::time::timeout(PATIENCE, client.query_typed(PROCESS, &none));
    let rows = match asked.await {
        Ok(rows) => rows.map_err(error::from)?,
        Err(_) => return Err(Error::busy("the database does not answer")),
    };
    let row = rows.first();
    let row = row.ok_or_else(|| Error::bug("the database names no process"))?;
    row.try_get(0).map_err(error::from)
}

/// Whether two clients of the same address share connections of the server. `first` is what
/// served the first one a moment ago.
///
/// # Errors
/// `Busy` if the database does not answer.
pub(crate) async fn shares(client: &Client, first: i32, second: &Session) -> Result<bool> {
    second.batch_execute("BEGIN").await.map_err(error::from)?;
    let shared = match process(second).await? {
        same if same == first => true,
        _ => process(client).await? != first,
    };
    second
        .batch_execute("ROLLBACK")
        .await
        .map_err(error::from)?;
    Ok(shared)
}
