//! Tables, and how older files become current ones.

mod accounts;
mod documents;
mod memories;
mod vectors;

use agentflow_types::{Error, Result};
use rusqlite::{Connection, OptionalExtension};

use crate::error;

/// LangGraph's checkpoint tables, as its SQLite saver 3.1 creates them.
const CHECKPOINT_TABLES: &str = "
    CREATE TABLE IF NOT EXISTS checkpoints (
        thread_id TEXT NOT NULL,
        checkpoint_ns TEXT NOT NULL DEFAULT '',
        checkpoint_id TEXT NOT NULL,
        parent_checkpoint_id TEXT,
        type TEXT,
        checkpoint BLOB,
        metadata BLOB,
        PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id)
    );
    CREATE TABLE IF NOT EXISTS writes (
        thread_id TEXT NOT NULL,
        checkpoint_ns TEXT NOT NULL DEFAULT '',
        checkpoint_id TEXT NOT NULL,
        task_id TEXT NOT NULL,
        task_path TEXT NOT NULL DEFAULT '',
        idx INTEGER NOT NULL,
        channel TEXT NOT NULL,
        type TEXT,
        value BLOB,
        PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
    );";

/// Savers before 3.1 had no such column.
const ADD_TASK_PATH: &str = "ALTER TABLE writes ADD COLUMN task_path TEXT NOT NULL DEFAULT ''";

/// The migrations of LangGraph's `SqliteStore`, by number; it records them in `store_migrations`.
const STORE_MIGRATIONS: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS store (
        prefix text NOT NULL,
        key text NOT NULL,
        value text NOT NULL,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        PRIMARY KEY (prefix, key)
    );",
    "CREATE INDEX IF NOT EXISTS store_prefix_idx ON store (prefix);",
    "ALTER TABLE store ADD COLUMN expires_at TIMESTAMP;",
    "ALTER TABLE store ADD COLUMN ttl_minutes REAL;",
    "CREATE INDEX IF NOT EXISTS idx_store_expires_at ON store (expires_at)
        WHERE expires_at IS NOT NULL;",
];

/// Our own tables; the position plus one is the version. Never change one that was released.
///
/// Ids are lowercase hyphenated text, times are microseconds since 1970 UTC, maps are JSON text.
const MIGRATIONS: [&str; 9] = [
    "
    CREATE TABLE agentflow_assistants (
        assistant_id TEXT PRIMARY KEY NOT NULL,
        tenant TEXT NOT NULL,
        version INTEGER NOT NULL,
        graph_id TEXT NOT NULL,
        name TEXT NOT NULL,
        description TEXT,
        config TEXT NOT NULL,
        context TEXT NOT NULL,
        metadata TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX agentflow_assistants_created
        ON agentflow_assistants (tenant, created_at, assistant_id);
    CREATE INDEX agentflow_assistants_graph ON agentflow_assistants (tenant, graph_id);

    CREATE TABLE agentflow_assistant_versions (
        assistant_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        graph_id TEXT NOT NULL,
        name TEXT NOT NULL,
        description TEXT,
        config TEXT NOT NULL,
        context TEXT NOT NULL,
        metadata TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (assistant_id, version)
    ) WITHOUT ROWID;

    CREATE TABLE agentflow_threads (
        thread_id TEXT PRIMARY KEY NOT NULL,
        tenant TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        state_updated_at INTEGER NOT NULL,
        status TEXT NOT NULL,
        metadata TEXT NOT NULL,
        config TEXT NOT NULL,
        state TEXT NOT NULL,
        interrupts TEXT NOT NULL,
        error TEXT NOT NULL,
        ttl_strategy TEXT,
        ttl_minutes REAL,
        expires_at INTEGER,
        last_seq INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX agentflow_threads_created ON agentflow_threads (tenant, created_at, thread_id);
    CREATE INDEX agentflow_threads_updated ON agentflow_threads (tenant, updated_at, thread_id);
    CREATE INDEX agentflow_threads_status ON agentflow_threads (tenant, status, thread_id);
    CREATE INDEX agentflow_threads_expires ON agentflow_threads (expires_at)
        WHERE expires_at IS NOT NULL;

    CREATE TABLE agentflow_runs (
        run_id TEXT PRIMARY KEY NOT NULL,
        thread_id TEXT NOT NULL,
        tenant TEXT NOT NULL,
        assistant_id TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        status TEXT NOT NULL,
        metadata TEXT NOT NULL,
        kwargs TEXT NOT NULL,
        multitask_strategy TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        cancel TEXT,
        lease_worker TEXT,
        lease_token INTEGER,
        lease_expires_at INTEGER,
        error TEXT NOT NULL,
        temporary_thread INTEGER NOT NULL
    );
    CREATE INDEX agentflow_runs_thread ON agentflow_runs (thread_id, created_at, run_id);
    CREATE INDEX agentflow_runs_tenant ON agentflow_runs (tenant, created_at, run_id);
    CREATE INDEX agentflow_runs_status ON agentflow_runs (status, updated_at);
    CREATE INDEX agentflow_runs_live ON agentflow_runs (thread_id, created_at, run_id)
        WHERE status IN ('pending', 'running');

    CREATE TABLE agentflow_events (
        thread_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        run_id TEXT NOT NULL,
        at INTEGER NOT NULL,
        kind TEXT NOT NULL,
        ns TEXT NOT NULL,
        data TEXT NOT NULL,
        PRIMARY KEY (thread_id, seq)
    ) WITHOUT ROWID;
    CREATE INDEX agentflow_events_run ON agentflow_events (run_id, seq);

    CREATE TABLE agentflow_crons (
        cron_id TEXT PRIMARY KEY NOT NULL,
        tenant TEXT NOT NULL,
        principal TEXT NOT NULL,
        assistant_id TEXT NOT NULL,
        thread_id TEXT,
        on_run_completed TEXT,
        end_time INTEGER,
        schedule TEXT NOT NULL,
        timezone TEXT,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        user_id TEXT,
        payload TEXT NOT NULL,
        next_run_date INTEGER,
        metadata TEXT NOT NULL,
        enabled INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX agentflow_crons_created ON agentflow_crons (tenant, created_at, cron_id);
    CREATE INDEX agentflow_crons_due ON agentflow_crons (next_run_date)
        WHERE enabled AND next_run_date IS NOT NULL;
",
    "
    CREATE TABLE agentflow_sessions (
        key TEXT PRIMARY KEY NOT NULL,
        tenant TEXT NOT NULL,
        principal TEXT NOT NULL,
        data TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        used_at INTEGER NOT NULL,
        idle_micros INTEGER NOT NULL,
        ends_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX agentflow_sessions_principal ON agentflow_sessions (tenant, principal);
    CREATE INDEX agentflow_sessions_expires ON agentflow_sessions (expires_at);

    CREATE TABLE agentflow_buckets (
        key TEXT PRIMARY KEY NOT NULL,
        full_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX agentflow_buckets_full ON agentflow_buckets (full_at);

    CREATE TABLE agentflow_quotas (
        key TEXT PRIMARY KEY NOT NULL,
        spent INTEGER NOT NULL,
        until INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX agentflow_quotas_until ON agentflow_quotas (until);

    CREATE TABLE agentflow_cache (
        namespace BLOB NOT NULL,
        key BLOB NOT NULL,
        value BLOB NOT NULL,
        expires_at INTEGER,
        PRIMARY KEY (namespace, key)
    );
    CREATE INDEX agentflow_cache_expires ON agentflow_cache (expires_at)
        WHERE expires_at IS NOT NULL;
",
    "
    CREATE TABLE agentflow_outbox (
        letter_id TEXT PRIMARY KEY NOT NULL,
        tenant TEXT NOT NULL,
        topic TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        due_at INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        dead INTEGER NOT NULL,
        error TEXT NOT NULL,
        body TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX agentflow_outbox_due ON agentflow_outbox (topic, due_at, letter_id)
        WHERE NOT dead;
    CREATE INDEX agentflow_outbox_dead ON agentflow_outbox (tenant, topic, due_at, letter_id)
        WHERE dead;
",
    accounts::TABLES,
    memories::TABLES,
    vectors::TABLES,
    accounts::MORE,
    documents::TABLES,
    // What the runs of a cron may do.
    "ALTER TABLE agentflow_crons ADD COLUMN rights TEXT NOT NULL DEFAULT '';",
];

/// Creates and updates all tables, in one transaction.
///
/// # Errors
/// `Corrupt` if the file was written by a newer version.
pub(crate) fn migrate(db: &Connection) -> Result<()> {
    db.execute_batch("BEGIN IMMEDIATE").map_err(error::from)?;
    let result = checkpoint_tables(db)
        .and_then(|()| store_tables(db))
        .map_err(error::from)
        .and_then(|()| own_tables(db));
    let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = db.execute_batch(end).map_err(error::from);
    result.and(ended)
}

fn checkpoint_tables(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(CHECKPOINT_TABLES)?;
    let columns = "SELECT 1 FROM pragma_table_info('writes') WHERE name = 'task_path'";
    if db.query_row(columns, [], |_| Ok(())).optional()?.is_none() {
        db.execute_batch(ADD_TASK_PATH)?;
    }
    Ok(())
}

fn store_tables(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch("CREATE TABLE IF NOT EXISTS store_migrations (v INTEGER PRIMARY KEY)")?;
    let done: Option<i64> =
        db.query_row("SELECT max(v) FROM store_migrations", [], |row| row.get(0))?;
    for (number, sql) in (0_i64..).zip(STORE_MIGRATIONS) {
        if done.is_none_or(|done| number > done) {
            db.execute_batch(sql)?;
            db.execute("INSERT INTO store_migrations (v) VALUES (?1)", [number])?;
        }
    }
    Ok(())
}

/// The version of our own tables that this program writes.
pub(crate) const NEWEST: usize = MIGRATIONS.len();

/// The version of our own tables; 0 if there are none.
pub(crate) fn version(db: &Connection) -> Result<usize> {
    let table = "SELECT 1 FROM sqlite_master WHERE name = 'agentflow_schema'";
    let is_there = db.query_row(table, [], |_| Ok(())).optional();
    if is_there.map_err(error::from)?.is_none() {
        return Ok(0);
    }
    let done: Option<i64> = db
        .query_row("SELECT max(version) FROM agentflow_schema", [], |row| {
            row.get(0)
        })
        .map_err(error::from)?;
    Ok(usize::try_from(done.unwrap_or(0)).unwrap_or(usize::MAX))
}

/// # Errors
/// `Corrupt` for a version that only a newer program knows.
pub(crate) fn known(version: usize) -> Result<()> {
    if version <= NEWEST {
        return Ok(());
    }
    Err(
        Error::corrupt("the database was written by a newer agentflow")
            .with("schema", version)
            .with("newest_known", NEWEST),
    )
}

fn own_tables(db: &Connection) -> Result<()> {
    db.execute_batch("CREATE TABLE IF NOT EXISTS agentflow_schema (version INTEGER PRIMARY KEY)")
        .map_err(error::from)?;
    let done = version(db)?;
    known(done)?;
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(done) {
        db.execute_batch(sql).map_err(error::from)?;
        db.execute(
            "INSERT INTO agentflow_schema (version) VALUES (?1)",
            [index as i64 + 1],
        )
        .map_err(error::from)?;
    }
    Ok(())
}
