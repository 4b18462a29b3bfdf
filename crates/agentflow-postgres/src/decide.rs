//! Decisions about a thread: one transaction of two round trips.
//!
//! The first takes the locks and loads; the second sends every change and the commit. Changes are
//! checked before anything is sent; what only the server can know (whose an id is) is written so
//! that the server itself refuses the statement and with it the whole transaction.
//!
//! Two locks are taken, in this order. An advisory lock on the thread's id keeps other decisions
//! out also while the thread does not exist, so that two servers cannot both create it. The
//! thread's row keeps appends out, which do not take the first one. Both end with the
//! transaction, so a pooler may sit in between.

use std::collections::HashMap;

use agentflow_storage::{
    event::Event,
    filter,
    record::{Change, Decide, Run, Thread, ThreadRuns},
};
use agentflow_types::{Error, Result, RunId, Scope, ThreadId, Value};

use tokio_postgres::error::SqlState;

use crate::{
    Postgres, checkpoints,
    column::{unsigned, value},
    crons, events, outbox, runs,
    statement::{Done, Statement},
    threads::{self, COLUMNS, LOCK_SEED},
};

/// Runs one decision.
///
/// # Errors
/// As [`agentflow_storage::record::Threads::decide`]; `Uncertain` if the answer to the commit was
/// lost.
pub(crate) async fn run(
    db: &Postgres,
    scope: &Scope,
    thread: ThreadId,
    decide: Decide,
) -> Result<()> {
    let _turn = db.turns.turn(thread).await;
    let transaction = db.begin(&load(scope, thread)).await?;
    let planned = Loaded::read(&transaction.first).and_then(|loaded| {
        let changes = decide(loaded.state.as_ref())?;
        Plan::of(scope, thread, &loaded, &changes)
    });
    match planned {
        Ok(statements) if !statements.is_empty() => {
            transaction.commit(&statements).await.map_err(named)
        }
        // Nothing is written, so it does not matter whether the answer arrives.
        nothing => {
            transaction.rollback().await;
            nothing.map(drop)
        }
    }
}

/// Takes the locks and loads the thread, its values and its live runs. Each is a statement of its
/// own, so that it sees what was committed while the one before it waited.
fn load(scope: &Scope, thread: ThreadId) -> Vec<Statement> {
    let tenant = || scope.tenant().to_owned();
    let row = format!(
        "SELECT {COLUMNS}, last_seq FROM agentflow.threads AS t
        WHERE thread_id = $1 AND tenant = $2 FOR UPDATE"
    );
    let values = "SELECT state FROM agentflow.thread_values WHERE thread_id = $1";
    vec![
        lock(thread),
        Statement::new(row).bind(thread.0).bind(tenant()),
        Statement::new(values).bind(thread.0),
        runs::live(scope, thread),
    ]
}

/// Keeps decisions about a thread out until the transaction ends.
pub(crate) fn lock(thread: ThreadId) -> Statement {
    let lock = format!("SELECT pg_advisory_xact_lock(uuid_hash_extended($1, {LOCK_SEED}))");
    Statement::new(lock).bind(thread.0)
}

/// What a decision sees, and the last event number of the thread.
struct Loaded {
    state: Option<ThreadRuns>,
    last_seq: u64,
}

impl Loaded {
    fn read(done: &[Done]) -> Result<Self> {
        let [_, thread, values, live] = done else {
            return Err(Error::bug("a statement has no answer"));
        };
        let Some(row) = thread.rows.first() else {
            return Ok(Self {
                state: None,
                last_seq: 0,
            });
        };
        let values = values.rows.first();
        let values = values.map_or(Ok(Value::Null), |row| value(row, 0))?;
        Ok(Self {
            last_seq: unsigned(row, 11)?,
            state: Some(ThreadRuns {
                thread: threads::read(row, values)?,
                live: live.rows.iter().map(runs::read).collect::<Result<_>>()?,
            }),
        })
    }
}

/// The statements of a decision while its changes are gone through.
struct Plan<'a> {
    scope: &'a Scope,
    thread: ThreadId,
    /// The last event number; `None` while the tenant has no such thread.
    last_seq: Option<u64>,
    /// The values that are stored by then.
    values: Value,
    /// Runs as they are stored by then, of which only what changed is sent.
    known: HashMap<RunId, &'a Run>,
    statements: Vec<Statement>,
}

impl<'a> Plan<'a> {
    /// The statements that apply `changes`, in order.
    ///
    /// # Errors
    /// As [`agentflow_storage::record::Threads::decide`], but for ids that others own.
    fn of(
        scope: &'a Scope,
        thread: ThreadId,
        loaded: &'a Loaded,
        changes: &'a [Change],
    ) -> Result<Vec<Statement>> {
        let state = loaded.state.as_ref();
        let live = state.map(|state| state.live.as_slice()).unwrap_or_default();
        let mut plan = Self {
            scope,
            thread,
            last_seq: state.map(|_| loaded.last_seq),
            values: state.map_or(Value::Null, |state| state.thread.values.clone()),
            known: live.iter().map(|run| (run.run_id, run)).collect(),
            statements: Vec::new(),
        };
        changes.iter().try_for_each(|change| plan.add(change))?;
        Ok(plan.statements)
    }

    fn add(&mut self, change: &'a Change) -> Result<()> {
        match change {
            Change::PutThread(row) => self.put_thread(row),
            Change::PutRun(run) => self.put_run(run),
            Change::InsertRun(run) => self.insert_run(run),
            Change::AdvanceCron {
                cron_id,
                expected,
                next,
            } => {
                let advance = crons::must_advance(self.scope, *cron_id, *expected, *next);
                self.statements.push(advance);
                Ok(())
            }
            Change::Append(events) => self.append(events),
            Change::Post(letter) => {
                self.statements.push(outbox::post(self.scope, letter)?);
                Ok(())
            }
            _ if self.last_seq.is_none() => Ok(()),
            Change::DeleteRun(run) => {
                self.delete_run(*run);
                Ok(())
            }
            Change::RollbackRun(run) => {
                self.delete_run(*run);
                let run = run.text();
                self.statements
                    .extend(checkpoints::rollback(&self.thread.text(), &run));
                Ok(())
            }
            Change::DeleteThread => {
                self.last_seq = None;
                self.values = Value::Null;
                self.known.clear();
                self.statements.extend(threads::remove(self.thread));
                self.statements
                    .extend(checkpoints::remove_thread(&self.thread.text()));
                Ok(())
            }
        }
    }

    fn put_thread(&mut self, row: &Thread) -> Result<()> {
        if row.thread_id != self.thread {
            return Err(elsewhere());
        }
        self.statements.push(threads::put(self.scope, row)?);
        let values = filter::normal(&row.values);
        if values != self.values {
            self.statements
                .push(threads::put_values(self.thread, &values)?);
            self.values = values;
        }
        self.last_seq.get_or_insert(0);
        Ok(())
    }

    fn put_run(&mut self, run: &'a Run) -> Result<()> {
        if run.thread_id != self.thread {
            return Err(elsewhere());
        }
        if self.last_seq.is_none() {
            return Err(Error::bug("a run needs its thread"));
        }
        let same = self
            .known
            .insert(run.run_id, run)
            .is_some_and(|known| known.kwargs == run.kwargs && known.metadata == run.metadata);
        self.statements.push(if same {
            runs::touch(run)?
        } else {
            runs::put(self.scope, run)?
        });
        Ok(())
    }

    fn insert_run(&mut self, run: &'a Run) -> Result<()> {
        if run.thread_id != self.thread {
            return Err(elsewhere());
        }
        if self.last_seq.is_none() {
            return Err(Error::bug("a run needs its thread"));
        }
        self.known.insert(run.run_id, run);
        self.statements.push(runs::insert(self.scope, run)?);
        Ok(())
    }

    fn append(&mut self, list: &[Event]) -> Result<()> {
        const ADD: &str =
            "INSERT INTO agentflow.events (thread_id, seq, run_id, at, kind, ns, data)
            SELECT $1::uuid, e.* FROM unnest($2::bigint[], $3::uuid[], $4::timestamptz[],
                $5::text[], $6::text[], $7::text[]) AS e";
        const COUNT: &str = "UPDATE agentflow.threads SET last_seq = $2 WHERE thread_id = $1";
        let Some(last) = self.last_seq else {
            return Err(Error::not_found("thread not found").with("thread_id", self.thread));
        };
        let newest = events::continued(last, list)?;
        if newest > last {
            let add = Statement::new(ADD).bind(self.thread.0);
            let count = Statement::new(COUNT)
                .bind(self.thread.0)
                .bind(crate::column::count(newest));
            self.statements.extend([events::bind(add, list)?, count]);
            self.last_seq = Some(newest);
        }
        Ok(())
    }

    fn delete_run(&mut self, run: RunId) {
        self.known.remove(&run);
        self.statements.extend(runs::remove(self.thread, run));
    }
}

fn elsewhere() -> Error {
    Error::bug("a decision names another thread")
}

/// Names what the server was made to refuse: a null where an id belongs to somebody else, a run
/// that exists, a division by the number of crons that were moved.
fn named(err: Error) -> Error {
    use std::error::Error as _;

    let cause = err.source().and_then(<dyn std::error::Error>::downcast_ref);
    let refused: Option<&tokio_postgres::error::DbError> =
        cause.and_then(tokio_postgres::Error::as_db_error);
    let Some(refused) = refused else { return err };
    let place = (refused.code(), refused.table(), refused.column());
    match place {
        (&SqlState::NOT_NULL_VIOLATION, Some("threads"), Some("tenant")) => {
            Error::conflict("thread already exists")
        }
        (&SqlState::NOT_NULL_VIOLATION, Some("runs"), Some("thread_id"))
        | (&SqlState::UNIQUE_VIOLATION, Some("runs"), _) => Error::conflict("run id is taken"),
        (&SqlState::DIVISION_BY_ZERO, ..) => Error::conflict("the firing is past"),
        _ => err,
    }
}
