//! Threads, decisions about them, and the queue's view of them.

use agentflow_storage::{
    checkpoint::{Fence, Rest, fenced},
    filter, json,
    page::{Page, PageQuery},
    record::{
        Ages, Candidate, Change, Decide, Heartbeat, QUEUE_PRINCIPAL, Run, RunQuery, RunStatus,
        Standing, Thread, ThreadQuery, ThreadRuns, ThreadTtl, Threads,
    },
};
use agentflow_types::{Error, ErrorKind, Result, RunId, Scope, ThreadId, Timestamp};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params, types::Value as Sql};

use crate::{
    Embedded, checkpoints,
    column::{
        self, all, bytes, execute, first, get, id, map, order, some_word, text, time, value, word,
    },
    crons, events, outbox, runs,
};

const COLUMNS: &str = "thread_id, created_at, updated_at, state_updated_at, status, metadata, \
    config, state, interrupts, error, ttl_strategy, ttl_minutes";

fn read(row: &Row<'_>) -> Result<Thread> {
    let ttl = match (
        get::<Option<String>>(row, 10)?,
        get::<Option<f64>>(row, 11)?,
    ) {
        (Some(strategy), Some(ttl_minutes)) => Some(ThreadTtl {
            strategy,
            ttl_minutes,
        }),
        _ => None,
    };
    let interrupts = serde_json::from_slice(bytes(row, 8)?)
        .map_err(|err| Error::corrupt("stored interrupts are not JSON").source_err(err))?;
    Ok(Thread {
        thread_id: id(row, 0)?,
        created_at: time(row, 1)?,
        updated_at: time(row, 2)?,
        state_updated_at: time(row, 3)?,
        status: word(row, 4)?,
        metadata: map(row, 5)?,
        config: map(row, 6)?,
        values: value(row, 7)?,
        interrupts,
        error: value(row, 9)?,
        ttl,
    })
}

fn load(db: &Connection, tenant: &str, id: ThreadId) -> Result<Option<(Thread, u64)>> {
    let sql = format!(
        "SELECT {COLUMNS}, last_seq FROM agentflow_threads WHERE thread_id = ?1 AND tenant = ?2"
    );
    let with_seq = |row: &Row<'_>| Ok((read(row)?, get::<i64>(row, 12)? as u64));
    first(db, &sql, [&id.text(), tenant], with_seq)
}

fn put(db: &Connection, tenant: &str, thread: &Thread) -> Result<()> {
    let sql = "INSERT INTO agentflow_threads (thread_id, tenant, created_at, updated_at,
            state_updated_at, status, metadata, config, state, interrupts, error, ttl_strategy,
            ttl_minutes, expires_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
        ON CONFLICT (thread_id) DO UPDATE SET (created_at, updated_at, state_updated_at, status,
            metadata, config, state, interrupts, error, ttl_strategy, ttl_minutes, expires_at) =
            (excluded.created_at, excluded.updated_at, excluded.state_updated_at,
            excluded.status, excluded.metadata, excluded.config, excluded.state,
            excluded.interrupts, excluded.error, excluded.ttl_strategy, excluded.ttl_minutes,
            excluded.expires_at)
        WHERE tenant = excluded.tenant";
    let interrupts = serde_json::to_string(&thread.interrupts)
        .map_err(|err| Error::bug("interrupts are not JSON").source_err(err))?;
    let values = params![
        thread.thread_id.text(),
        tenant,
        thread.created_at.0,
        thread.updated_at.0,
        thread.state_updated_at.0,
        thread.status.as_str(),
        json::map_text(&thread.metadata)?,
        json::map_text(&thread.config)?,
        json::text(&thread.values)?,
        interrupts,
        json::text(&thread.error)?,
        thread.ttl.as_ref().map(|ttl| &ttl.strategy),
        thread.ttl.as_ref().map(|ttl| ttl.ttl_minutes),
        thread.expires_at().map(|end| end.0),
    ];
    if execute(db, sql, values)? == 0 {
        return Err(Error::conflict("thread already exists").with("thread_id", thread.thread_id));
    }
    Ok(())
}

fn remove(db: &Connection, id: ThreadId) -> Result<()> {
    let id = id.text();
    for sql in [
        "DELETE FROM agentflow_events WHERE thread_id = ?1",
        "DELETE FROM agentflow_runs WHERE thread_id = ?1",
        "DELETE FROM agentflow_threads WHERE thread_id = ?1",
    ] {
        execute(db, sql, [&id])?;
    }
    checkpoints::remove_thread(db, &id)
}

/// One decision while its changes are applied.
struct Applying<'a> {
    db: &'a Connection,
    tenant: &'a str,
    thread: ThreadId,
    /// The last event number; `None` while the tenant has no such thread.
    last_seq: Option<u64>,
    /// Runs whose rows are as they were loaded.
    stored: &'a [Run],
}

impl Applying<'_> {
    fn apply(&mut self, change: &Change) -> Result<()> {
        let (db, thread) = (self.db, self.thread);
        match change {
            Change::PutThread(row) if row.thread_id != thread => Err(elsewhere()),
            Change::PutThread(row) => {
                put(db, self.tenant, row)?;
                self.last_seq.get_or_insert(0);
                Ok(())
            }
            Change::PutRun(run) | Change::InsertRun(run) if run.thread_id != thread => {
                Err(elsewhere())
            }
            Change::PutRun(_) | Change::InsertRun(_) if self.last_seq.is_none() => {
                Err(Error::bug("a run needs its thread"))
            }
            Change::InsertRun(run) => runs::insert(db, self.tenant, run),
            Change::AdvanceCron {
                cron_id,
                expected,
                next,
            } => match crons::advance_of(db, self.tenant, *cron_id, *expected, *next)? {
                true => Ok(()),
                false => Err(Error::conflict("the firing is past").with("cron_id", cron_id)),
            },
            Change::PutRun(run) => {
                let is_stored = |known: &Run| runs::asks_the_same(known, run);
                match self.stored.iter().any(is_stored) {
                    true => runs::update(db, run),
                    false => runs::put(db, self.tenant, run),
                }
            }
            Change::Append(events) => {
                let last = self.last_seq.ok_or_else(|| {
                    Error::not_found("thread not found").with("thread_id", thread)
                })?;
                self.last_seq = Some(events::append(db, thread, last, events)?);
                Ok(())
            }
            Change::Post(letter) => outbox::post(db, self.tenant, letter),
            _ if self.last_seq.is_none() => Ok(()),
            Change::DeleteRun(run) => {
                self.stored = &[];
                runs::remove(db, thread, *run)
            }
            Change::RollbackRun(run) => {
                self.stored = &[];
                runs::remove(db, thread, *run)?;
                checkpoints::rollback(db, thread, *run)
            }
            Change::DeleteThread => {
                self.last_seq = None;
                self.stored = &[];
                remove(db, thread)
            }
        }
    }
}

fn elsewhere() -> Error {
    Error::bug("a decision names another thread")
}

fn decide_in(db: &Connection, tenant: &str, thread: ThreadId, decide: Decide) -> Result<()> {
    let loaded = load(db, tenant, thread)?;
    let last_seq = loaded.as_ref().map(|(_, last)| *last);
    let state = match loaded {
        None => None,
        Some((row, _)) => Some(ThreadRuns {
            thread: row,
            live: runs::live(db, thread)?,
        }),
    };
    let changes = decide(state.as_ref())?;
    let mut applying = Applying {
        db,
        tenant,
        thread,
        last_seq,
        stored: state.as_ref().map_or(&[], |state| &state.live),
    };
    changes.iter().try_for_each(|change| applying.apply(change))
}

/// Removes threads of their tenants that have no live run.
fn remove_resting(db: &Connection, threads: &[Candidate]) -> Result<()> {
    const RESTS: &str = "SELECT 1 FROM agentflow_threads AS t
        WHERE thread_id = ?1 AND tenant = ?2 AND NOT EXISTS (SELECT 1 FROM agentflow_runs AS r
            WHERE r.thread_id = t.thread_id AND r.status IN ('pending', 'running'))";
    for Candidate { scope, thread_id } in threads {
        let params = [&thread_id.text(), scope.tenant()];
        if first(db, RESTS, params, |_| Ok(()))?.is_some() {
            remove(db, *thread_id)?;
        }
    }
    Ok(())
}

fn conditions(tenant: &str, query: &ThreadQuery) -> Result<(String, Vec<Sql>)> {
    let mut sql = "tenant = ?".to_owned();
    let mut values: Vec<Sql> = vec![tenant.to_owned().into()];
    if !query.ids.is_empty() {
        sql.push_str(" AND thread_id IN (SELECT value FROM json_each(?))");
        let ids: Vec<String> = query.ids.iter().map(ThreadId::text).collect();
        values.push(serde_json::Value::from(ids).to_string().into());
    }
    if let Some(status) = query.status {
        sql.push_str(" AND status = ?");
        values.push(status.as_str().to_owned().into());
    }
    if !query.metadata.is_empty() {
        sql.push_str(" AND agentflow_contains(metadata, ?)");
        values.push(json::map_text(&query.metadata)?.into());
    }
    if !query.values.is_empty() {
        sql.push_str(" AND agentflow_contains(state, ?)");
        values.push(json::map_text(&query.values)?.into());
    }
    Ok((sql, values))
}

fn candidate(row: &Row<'_>) -> Result<Candidate> {
    // Work found in the queue is done in the tenant's name, not a person's.
    Ok(Candidate {
        scope: Scope::new(text(row, 0)?, QUEUE_PRINCIPAL),
        thread_id: id(row, 1)?,
    })
}

#[async_trait]
impl Threads for Embedded {
    async fn get(&self, scope: &Scope, id: ThreadId) -> Result<Option<Thread>> {
        let tenant = scope.tenant().to_owned();
        self.read_short(move |db| Ok(load(db, &tenant, id)?.map(|(thread, _)| thread)))
            .await
    }

    async fn decide(&self, scope: &Scope, id: ThreadId, decide: Decide) -> Result<()> {
        let tenant = scope.tenant().to_owned();
        self.write(move |db| decide_in(db, &tenant, id, decide))
            .await
    }

    async fn remove_resting(&self, threads: &[Candidate]) -> Result<()> {
        let threads = threads.to_vec();
        self.write(move |db| remove_resting(db, &threads)).await
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &ThreadQuery,
        page: &PageQuery,
    ) -> Result<Page<Thread>> {
        filter::check_page(page, filter::THREAD_COLUMNS)?;
        let (conditions, values) = conditions(scope.tenant(), query)?;
        let order = order(page, "thread_id");
        self.read(move |db| {
            let from = format!("FROM agentflow_threads WHERE {conditions}");
            column::page(db, COLUMNS, &from, &order, &values, read)
        })
        .await
    }

    async fn run(&self, scope: &Scope, id: RunId) -> Result<Option<Run>> {
        let tenant = scope.tenant().to_owned();
        self.read_short(move |db| runs::load(db, &tenant, id)).await
    }

    async fn runs(&self, scope: &Scope, query: &RunQuery) -> Result<Vec<Run>> {
        let (tenant, query) = (scope.tenant().to_owned(), query.clone());
        self.read(move |db| runs::search(db, &tenant, &query)).await
    }

    async fn candidates(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        // Only live runs are looked at, by their own index.
        const SQL: &str = "SELECT min(tenant), thread_id,
                max(status = 'running') AS running,
                min(CASE WHEN status = 'pending' AND created_at <= ?1 THEN created_at END)
                    AS pending_since,
                min(CASE WHEN status = 'running' AND coalesce(lease_expires_at, created_at) < ?1
                    THEN coalesce(lease_expires_at, created_at) END) AS expired_since
            FROM agentflow_runs WHERE status IN ('pending', 'running') GROUP BY thread_id
            HAVING iif(running, expired_since, pending_since) IS NOT NULL
            ORDER BY iif(running, expired_since, pending_since), thread_id LIMIT ?2";
        self.read(move |db| all(db, SQL, params![now.0, limit], candidate))
            .await
    }

    async fn heartbeat(&self, run_id: RunId, token: i64, until: Timestamp) -> Result<Heartbeat> {
        self.write(move |db| {
            let sql = "UPDATE agentflow_runs SET lease_expires_at = ?3
                WHERE run_id = ?1 AND status = 'running' AND lease_token = ?2 RETURNING cancel";
            let values = params![run_id.text(), token, until.0];
            let beat = first(db, sql, values, |row| {
                Ok(Heartbeat {
                    cancel: some_word(row, 0)?,
                })
            })?;
            beat.ok_or_else(|| fenced(Fence { run_id, token }))
        })
        .await
    }

    async fn rests(&self, rest: Rest) -> Result<bool> {
        self.read_short(move |db| checkpoints::rests(db, rest))
            .await
    }

    async fn holds(&self, fence: Fence) -> Result<bool> {
        self.read_short(move |db| match checkpoints::check_fence(db, Some(fence)) {
            Ok(()) => Ok(true),
            Err(err) if err.kind() == ErrorKind::Conflict => Ok(false),
            Err(err) => Err(err),
        })
        .await
    }

    async fn standing(&self, threads: &[ThreadId], runs: &[RunId]) -> Result<Standing> {
        const LIVE: &str = "SELECT run_id FROM agentflow_runs
            WHERE run_id = ?1 AND status IN ('pending', 'running')";
        let (threads, runs) = (threads.to_vec(), runs.to_vec());
        self.read(move |db| {
            let mut standing = Standing::default();
            for thread in threads {
                let seq = events::last_seq(db, thread)?;
                standing.logs.extend(seq.map(|seq| (thread, seq)));
            }
            for run in runs {
                let live: Option<RunId> = first(db, LIVE, [run.text()], |row| id(row, 0))?;
                standing.live.extend(live);
            }
            Ok(standing)
        })
        .await
    }

    async fn ages(&self) -> Result<Ages> {
        self.read(runs::ages).await
    }

    async fn counts(&self) -> Result<Vec<(RunStatus, u64)>> {
        self.read(runs::counts).await
    }

    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        self.read(move |db| {
            let sql = "SELECT tenant, thread_id FROM agentflow_threads
                WHERE expires_at IS NOT NULL AND expires_at < ?1
                ORDER BY expires_at, thread_id LIMIT ?2";
            all(db, sql, params![now.0, limit], candidate)
        })
        .await
    }
}
