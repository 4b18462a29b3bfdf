//! Bringing the tables up to date: LangGraph's own, and those of the schema `agentflow`.
//!
//! LangGraph's tables are made by the same numbered steps as in Python, and the same tables tell
//! which steps are done, so either side may come first, and may find the other half way.
//!
//! Several servers may start at once. One takes a lock that ends with its transaction, on a
//! connection that does nothing else, and works on a second one; the others try again until it is
//! done. Nobody waits for the lock inside the database: a statement that waits holds a snapshot,
//! and creating an index without blocking writers would wait for it in turn.

use std::time::Duration;

use agentflow_types::{Error, Result};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{
    connect::{Opener, Session},
    error, records,
};

/// The lock; an arbitrary number.
const LOCK: &str = "SELECT pg_try_advisory_xact_lock(5187302664911207)";
/// How long another server's migration is waited for, and the pause between two looks.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(200);

/// The steps of `langgraph-checkpoint-postgres` 3.2.0.
const CHECKPOINTS: [&str; 10] = [
    "CREATE TABLE IF NOT EXISTS checkpoint_migrations (v INTEGER PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS checkpoints (
        thread_id TEXT NOT NULL,
        checkpoint_ns TEXT NOT NULL DEFAULT '',
        checkpoint_id TEXT NOT NULL,
        parent_checkpoint_id TEXT,
        type TEXT,
        checkpoint JSONB NOT NULL,
        metadata JSONB NOT NULL DEFAULT '{}',
        PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id)
    )",
    "CREATE TABLE IF NOT EXISTS checkpoint_blobs (
        thread_id TEXT NOT NULL,
        checkpoint_ns TEXT NOT NULL DEFAULT '',
        channel TEXT NOT NULL,
        version TEXT NOT NULL,
        type TEXT NOT NULL,
        blob BYTEA,
        PRIMARY KEY (thread_id, checkpoint_ns, channel, version)
    )",
    "CREATE TABLE IF NOT EXISTS checkpoint_writes (
        thread_id TEXT NOT NULL,
        checkpoint_ns TEXT NOT NULL DEFAULT '',
        checkpoint_id TEXT NOT NULL,
        task_id TEXT NOT NULL,
        idx INTEGER NOT NULL,
        channel TEXT NOT NULL,
        type TEXT,
        blob BYTEA NOT NULL,
        PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
    )",
    "ALTER TABLE checkpoint_blobs ALTER COLUMN blob DROP NOT NULL",
    "SELECT 1",
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS checkpoints_thread_id_idx ON checkpoints(thread_id)",
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS checkpoint_blobs_thread_id_idx
        ON checkpoint_blobs(thread_id)",
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS checkpoint_writes_thread_id_idx
        ON checkpoint_writes(thread_id)",
    "ALTER TABLE checkpoint_writes ADD COLUMN IF NOT EXISTS task_path TEXT NOT NULL DEFAULT ''",
];

/// The steps of the store in the same package. The tables for vectors are not among them: Python
/// makes those only for a store with an index, in lists of their own.
const STORE: [&str; 4] = [
    "CREATE TABLE IF NOT EXISTS store (
        prefix text NOT NULL,
        key text NOT NULL,
        value jsonb NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
        PRIMARY KEY (prefix, key)
    )",
    "CREATE INDEX CONCURRENTLY IF NOT EXISTS store_prefix_idx
        ON store USING btree (prefix text_pattern_ops)",
    "ALTER TABLE store ADD COLUMN IF NOT EXISTS expires_at TIMESTAMP WITH TIME ZONE,
        ADD COLUMN IF NOT EXISTS ttl_minutes INT",
    "CREATE INDEX IF NOT EXISTS idx_store_expires_at ON store (expires_at)
        WHERE expires_at IS NOT NULL",
];

/// What makes an index without blocking writers; not possible within a transaction.
const CONCURRENTLY: &str = "CREATE INDEX CONCURRENTLY IF NOT EXISTS ";

/// One numbered list of steps and where it is noted which are done.
struct List {
    name: &'static str,
    /// The table with the numbers of steps that are done.
    table: &'static str,
    /// What makes that table.
    create: &'static str,
    /// Its column.
    column: &'static str,
    /// The number of the first step.
    first: i64,
    steps: &'static [&'static str],
    /// Whether a database with more steps than these can be used: Python only ever adds.
    open_ended: bool,
}

const LISTS: [List; 3] = [
    List {
        name: "checkpoints",
        table: "checkpoint_migrations",
        create: CHECKPOINTS[0],
        column: "v",
        first: 0,
        steps: &CHECKPOINTS,
        open_ended: true,
    },
    List {
        name: "store",
        table: "store_migrations",
        create: "CREATE TABLE IF NOT EXISTS store_migrations (v INTEGER PRIMARY KEY)",
        column: "v",
        first: 0,
        steps: &STORE,
        open_ended: true,
    },
    List {
        name: "agentflow",
        table: "agentflow.migrations",
        create: "CREATE SCHEMA IF NOT EXISTS agentflow;
            CREATE TABLE IF NOT EXISTS agentflow.migrations (
                version INTEGER PRIMARY KEY,
                applied_at timestamptz NOT NULL DEFAULT now()
            )",
        column: "version",
        first: 1,
        steps: &records::MIGRATIONS,
        open_ended: false,
    },
];

/// A step that is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The list that it is from: `checkpoints`, `store` or `agentflow`.
    pub list: &'static str,
    /// Its number in the list.
    pub version: i64,
    /// What it does.
    pub sql: &'static str,
}

/// The steps that are to be done, in order.
///
/// # Errors
/// `Busy` if the database cannot be reached; `Corrupt` if a newer version wrote its tables.
pub(crate) async fn plan(opener: &Opener) -> Result<Vec<Pending>> {
    let client = opener.client().await?;
    Ok(planned(&client).await?.into_iter().map(shown).collect())
}

/// Refuses a database in which something is to be done.
///
/// # Errors
/// `Invalid` if so; else as [`plan`].
pub(crate) async fn check(opener: &Opener) -> Result<()> {
    let pending = plan(opener).await?;
    match pending.first() {
        None => Ok(()),
        Some(first) => Err(
            Error::invalid("the database lacks tables, run agentflow migrate")
                .with("list", first.list)
                .with("version", first.version)
                .with("pending", pending.len()),
        ),
    }
}

/// Does what is to be done. Needs no right to create anything if that is nothing.
///
/// # Errors
/// As [`plan`]; `Bug` if the user may not create tables; `Busy` if another server is at it for
/// longer than [`PATIENCE`].
pub(crate) async fn apply(opener: &Opener) -> Result<Vec<Pending>> {
    let client = opener.client().await?;
    if planned(&client).await?.is_empty() {
        return Ok(Vec::new());
    }
    let _lock = lock(opener).await?;
    let steps = planned(&client).await?;
    for step in &steps {
        step.apply(&client).await?;
    }
    Ok(steps.into_iter().map(shown).collect())
}

/// A connection whose transaction holds the lock; it ends with the connection.
async fn lock(opener: &Opener) -> Result<Session> {
    let session = opener.client().await?;
    let patience = tokio::time::Instant::now() + PATIENCE;
    loop {
        run(&session, "BEGIN").await?;
        if truth(&session, LOCK).await? {
            return Ok(session);
        }
        run(&session, "ROLLBACK").await?;
        if tokio::time::Instant::now() > patience {
            return Err(
                Error::busy("another server is changing the tables for long")
                    .with("waited_seconds", PATIENCE.as_secs()),
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A step and its list.
struct Step {
    list: &'static List,
    version: i64,
    sql: &'static str,
}

fn shown(step: Step) -> Pending {
    Pending {
        list: step.list.name,
        version: step.version,
        sql: step.sql,
    }
}

async fn planned(client: &Client) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for list in &LISTS {
        let done = list.done(client).await?;
        let newest = list.first + list.steps.len() as i64 - 1;
        if done.is_some_and(|done| done > newest) {
            if !list.open_ended {
                return Err(
                    Error::corrupt("the database was written by a newer agentflow")
                        .with("schema", done.unwrap_or_default())
                        .with("newest_known", newest),
                );
            }
            tracing::warn!(
                list = list.name,
                found = done,
                known = newest,
                "the tables are of a newer LangGraph than the newest known one"
            );
        }
        let numbered = (list.first..).zip(list.steps);
        let open = numbered.filter(|(version, _)| done.is_none_or(|done| *version > done));
        steps.extend(open.map(|(version, sql)| Step { list, version, sql }));
    }
    Ok(steps)
}

impl List {
    /// The number of the last step that is done.
    async fn done(&self, client: &Client) -> Result<Option<i64>> {
        let exists = format!("SELECT to_regclass('{}') IS NOT NULL", self.table);
        if !truth(client, &exists).await? {
            return Ok(None);
        }
        let newest = format!("SELECT max({}) FROM {}", self.column, self.table);
        let found = ask(client, &newest).await?;
        Ok(found.and_then(|text| text.parse().ok()))
    }

    /// SQL that notes that a step is done. Python, or another server without the lock, may have
    /// done it at the same time.
    fn note(&self, version: i64) -> String {
        let Self { table, column, .. } = self;
        format!("INSERT INTO {table} ({column}) VALUES ({version}) ON CONFLICT DO NOTHING")
    }
}

impl Step {
    /// Does the step and notes it, in one transaction where that is possible.
    async fn apply(&self, client: &Client) -> Result<()> {
        tracing::info!(
            list = self.list.name,
            version = self.version,
            "changing tables"
        );
        let note = self.list.note(self.version);
        let create = match self.version == self.list.first {
            true => self.list.create,
            false => "SELECT",
        };
        let Some(index) = Index::of(self.sql) else {
            let sql = self.sql;
            let all = format!("BEGIN; {create}; {sql}; {note}; COMMIT");
            return run(client, &all).await.map_err(|err| self.failed(err));
        };
        index.create(client).await.map_err(|err| self.failed(err))?;
        run(client, &note).await
    }

    fn failed(&self, err: Error) -> Error {
        err.with("list", self.list.name)
            .with("version", self.version)
    }
}

/// An index that is made without blocking writers.
struct Index {
    name: &'static str,
    sql: &'static str,
}

impl Index {
    fn of(sql: &'static str) -> Option<Self> {
        let rest = sql.strip_prefix(CONCURRENTLY)?;
        let name = rest.split_whitespace().next()?;
        Some(Self { name, sql })
    }

    async fn create(&self, client: &Client) -> Result<()> {
        // One that was given up half way exists, but is of no use.
        let broken = format!(
            "SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('{}')
                AND NOT indisvalid)",
            self.name
        );
        if truth(client, &broken).await? {
            run(
                client,
                &format!("DROP INDEX CONCURRENTLY IF EXISTS {}", self.name),
            )
            .await?;
        }
        run(client, self.sql).await
    }
}

/// Runs SQL that returns nothing of interest; gives up a transaction that it leaves open.
async fn run(client: &Client, sql: &str) -> Result<()> {
    let result = client.batch_execute(sql).await;
    if result.is_err() {
        // Fails if there is no transaction, or no connection, and then it is not needed.
        let _ = client.batch_execute("ROLLBACK").await;
    }
    result.map_err(error::from)
}

/// The only value of the only row, as text.
async fn ask(client: &Client, sql: &str) -> Result<Option<String>> {
    let messages = client.simple_query(sql).await.map_err(error::from)?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(row.map(str::to_owned))
}

async fn truth(client: &Client, sql: &str) -> Result<bool> {
    Ok(ask(client, sql).await?.as_deref() == Some("t"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_recognised() {
        let names: Vec<&str> = CHECKPOINTS
            .iter()
            .chain(&STORE)
            .filter_map(|sql| Index::of(sql).map(|index| index.name))
            .collect();
        assert_eq!(
            names,
            [
                "checkpoints_thread_id_idx",
                "checkpoint_blobs_thread_id_idx",
                "checkpoint_writes_thread_id_idx",
                "store_prefix_idx"
            ]
        );
    }
}
