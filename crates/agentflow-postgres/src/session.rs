//! Sending statements: alone, or as one transaction, each time in as few round trips as can be.
//!
//! Statements are typed and unnamed, and settings last for one transaction, so nothing stays on
//! a connection that a pooler between us and the server would mix up.
//!
//! What was only read, or not yet committed, is tried once more over another connection if the
//! first one broke. What may have been committed is not: it is `Uncertain`.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::Poll,
    time::{Duration, Instant},
};

use agentflow_storage::page::{Page, PageQuery};
use agentflow_types::{Error, Result};
use futures_util::{
    TryStreamExt as _,
    future::{MaybeDone, maybe_done},
    pin_mut,
};
use tokio::time;
use tokio_postgres::{Client, Row};

use crate::{
    Limits, Postgres, column, error,
    pool::{Lease, Pool},
    statement::{Done, Statement},
};

/// What begins a transaction: each statement sees what was committed before it (the locks of a
/// decision rely on that), and the server ends what we forgot.
pub(crate) fn begin(limits: &Limits) -> String {
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {}; \
        SET LOCAL idle_in_transaction_session_timeout = {}",
        limits.statement_timeout.as_millis(),
        limits.transaction_timeout.as_millis()
    )
}

type Sent<T> = std::result::Result<T, tokio_postgres::Error>;

/// What became of one part.
type Answer = std::result::Result<Done, Failed>;

/// Why a part failed.
struct Failed {
    err: tokio_postgres::Error,
    /// Whether it came in place of the first thing that the server says about the part.
    at_once: bool,
}

/// What becomes of the work if its answer does not come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// Nothing: it changes nothing yet.
    Harmless,
    /// It may be done.
    Uncertain,
}

/// One statement.
async fn one(client: &Client, statement: &Statement) -> Answer {
    let begun = client.query_typed_raw(statement.sql(), statement.values());
    let rows = begun.await.map_err(|err| Failed { err, at_once: true })?;
    pin_mut!(rows);
    let later = |err| Failed {
        err,
        at_once: false,
    };
    let mut done = Vec::new();
    while let Some(row) = rows.as_mut().try_next().await.map_err(later)? {
        done.push(row);
    }
    Ok(Done {
        rows: done,
        count: rows.rows_affected().unwrap_or_default(),
    })
}

/// What is sent in one go.
enum Part<'a> {
    Statement(&'a Statement),
    /// SQL without values, of which only success matters.
    Text(&'a str),
    /// The end of a transaction.
    Commit,
}

async fn part(client: &Client, part: &Part<'_>) -> Answer {
    let sql = match part {
        Part::Statement(statement) => return one(client, statement).await,
        Part::Text(sql) => sql,
        Part::Commit => "COMMIT",
    };
    match client.batch_execute(sql).await {
        Ok(()) => Ok(Done {
            rows: Vec::new(),
            count: 0,
        }),
        Err(err) => {
            // A commit says nothing before it is done.
            let at_once = !matches!(part, Part::Commit);
            Err(Failed { err, at_once })
        }
    }
}

/// Sends all parts in their order without waiting in between, and waits for all answers.
async fn pipeline(client: &Client, parts: &[Part<'_>]) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(parts.len());
    for next in parts {
        // A part whose values cannot be encoded never reaches the server, which would commit the
        // others.
        let kept_back =
            |answer: &Pin<Box<MaybeDone<_>>>| matches!(**answer, MaybeDone::Done(Err(_)));
        let next = match next {
            Part::Commit if answers.iter().any(kept_back) => &Part::Text("ROLLBACK"),
            next => next,
        };
        let mut answer = Box::pin(maybe_done(part(client, next)));
        // It is sent when it is first polled.
        poll_fn(|cx| {
            let _ = answer.as_mut().poll(cx);
            Poll::Ready(())
        })
        .await;
        answers.push(answer);
    }
    for answer in &mut answers {
        answer.await;
    }
    answers
        .iter_mut()
        .map(|answer| {
            let answer = answer.as_mut().take_output();
            answer.expect("every answer is there and taken once")
        })
        .collect()
}

impl Pool {
    /// Runs a statement that may be run twice: one that changes nothing.
    pub(crate) async fn read(&self, statement: &Statement) -> Result<Vec<Row>> {
        let parts = [Part::Statement(statement)];
        let mut done = self.repeatable(&parts).await?;
        Ok(done.remove(0).rows)
    }

    /// Runs parts that may be run twice, in one round trip.
    async fn repeatable(&self, parts: &[Part<'_>]) -> Result<Vec<Done>> {
        let (lease, answers) = self.harmless(parts).await?;
        finish(lease, &answers);
        answers.map_err(error::from)
    }

    /// Sends what may be lost; if the connection broke, once more over another one.
    async fn harmless(&self, parts: &[Part<'_>]) -> Result<(Lease, Sent<Vec<Done>>)> {
        let mut again = true;
        loop {
            let lease = self.get().await?;
            let answers = self.send(&lease, parts, Loss::Harmless).await?;
            match all(answers) {
                Err(err) if again && error::lost(&err) => again = false,
                answers => return Ok((lease, answers)),
            }
        }
    }

    /// Sends parts that are committed. Only if the server had ended the connection before it saw
    /// the first of them they are sent once more, over another one.
    async fn final_parts(&self, parts: &[Part<'_>]) -> Result<Vec<Done>> {
        let lease = self.get().await?;
        let answers = self.send(&lease, parts, Loss::Uncertain).await?;
        if !unseen(&answers) {
            return committed(lease, answers);
        }
        drop(lease);
        let lease = self.get().await?;
        let answers = self.send(&lease, parts, Loss::Uncertain).await?;
        committed(lease, answers)
    }

    /// Sends parts and waits for their answers as long as a statement may take. After that the
    /// server is asked to stop, and has a moment to say so.
    async fn send(&self, lease: &Lease, parts: &[Part<'_>], loss: Loss) -> Result<Vec<Answer>> {
        let Limits {
            mut statement_timeout,
            cancel_grace,
            ..
        } = self.limits;
        if matches!(parts, [Part::Text(_), ..] | [.., Part::Commit]) {
            // In a transaction the server knows the limit and stops by itself, which leaves the
            // connection good.
            statement_timeout += cancel_grace;
        }
        let started = Instant::now();
        let work = pipeline(lease.client(), parts);
        pin_mut!(work);
        let mut answered = time::timeout(statement_timeout, work.as_mut()).await;
        if answered.is_err() {
            lease.cancel().await;
            answered = time::timeout(cancel_grace, work).await;
        }
        let broke = |answer: &Answer| {
            answer
                .as_ref()
                .is_err_and(|failed| error::lost(&failed.err))
        };
        if answered
            .as_ref()
            .map_or(true, |answers| answers.iter().any(broke))
        {
            self.broke();
        }
        self.note(parts, started.elapsed(), answered.as_deref().ok());
        if let Ok(answers) = answered {
            return Ok(answers);
        }
        let err = match loss {
            Loss::Harmless => Error::busy("the database did not answer in time"),
            Loss::Uncertain => Error::uncertain("the database did not answer a commit in time"),
        };
        Err(err.with("timeout_ms", statement_timeout.as_millis()))
    }

    /// Counts what was stopped, and counts and logs what was slow. No answers: it was stopped by
    /// us, and did not say so in time.
    fn note(&self, parts: &[Part<'_>], time: Duration, answers: Option<&[Answer]>) {
        let stopped = |answer: &Answer| {
            let failed = answer.as_ref().err();
            failed.is_some_and(|failed| error::cancelled(&failed.err))
        };
        if answers.is_none_or(|answers| answers.iter().any(stopped)) {
            self.counters().statement_timeouts.fetch_add(1, Relaxed);
        }
        if time >= self.limits.slow_statement {
            self.counters().slow_statements.fetch_add(1, Relaxed);
            tracing::warn!(
                time_ms = time.as_millis(),
                limit_ms = self.limits.slow_statement.as_millis(),
                sql = shown(parts),
                "the database took long"
            );
        }
    }
}

/// Characters of statements in the log.
const SHOWN: usize = 400;

/// Statements for the log, on one line and without values.
fn shown(parts: &[Part<'_>]) -> String {
    let statements = parts.iter().filter_map(|part| match part {
        Part::Statement(statement) => Some(statement.sql()),
        Part::Text(_) | Part::Commit => None,
    });
    let words = statements.flat_map(|sql| sql.split_whitespace().chain([";"]));
    let mut text = String::new();
    for word in words {
        if text.len() + word.len() > SHOWN {
            text.push_str(" …");
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

impl Postgres {
    /// Runs a statement that changes nothing.
    ///
    /// # Errors
    /// `Busy` if the database cannot be reached or is too slow.
    pub(crate) async fn read(&self, statement: &Statement) -> Result<Vec<Row>> {
        self.pool.read(statement).await
    }

    /// Runs a statement as a transaction of its own.
    ///
    /// # Errors
    /// `Uncertain` if it was sent and its answer was lost.
    pub(crate) async fn write(&self, statement: &Statement) -> Result<Done> {
        let parts = [Part::Statement(statement)];
        let mut done = self.pool.final_parts(&parts).await?;
        Ok(done.remove(0))
    }

    /// Runs statements as one transaction, in one round trip.
    ///
    /// # Errors
    /// What the first statement that failed says; then nothing is stored. `Uncertain` if the
    /// answer was lost.
    pub(crate) async fn atomic(&self, statements: Vec<Statement>) -> Result<Vec<Done>> {
        let mut parts = vec![Part::Text(&self.begin)];
        parts.extend(statements.iter().map(Part::Statement));
        parts.push(Part::Commit);
        let mut done = self.pool.final_parts(&parts).await?;
        done.pop();
        done.remove(0);
        Ok(done)
    }

    /// Begins a transaction with statements, in one round trip.
    ///
    /// # Errors
    /// What the first statement that failed says.
    pub(crate) async fn begin(&self, statements: &[Statement]) -> Result<Transaction<'_>> {
        let mut parts = vec![Part::Text(&self.begin)];
        parts.extend(statements.iter().map(Part::Statement));
        let (lease, answers) = self.pool.harmless(&parts).await?;
        let transaction = |first| Transaction {
            pool: &self.pool,
            lease,
            first,
        };
        match answers {
            Ok(mut done) => {
                done.remove(0);
                Ok(transaction(done))
            }
            Err(err) => {
                transaction(Vec::new()).rollback().await;
                Err(error::from(err))
            }
        }
    }

    /// One page of what `from` (`FROM … WHERE …`) selects, and how many there are in all.
    pub(crate) async fn page<T>(
        &self,
        from: &Statement,
        columns: &str,
        order: &str,
        page: &PageQuery,
        read: fn(&Row) -> Result<T>,
    ) -> Result<Page<T>> {
        let rows = from.within(&format!("SELECT {columns} "), order);
        let count = from.within("SELECT count(*) ", "");
        // One transaction, because a pooler may change the server after each; see
        // [`Transaction::rollback`].
        let parts = [
            Part::Text(&self.begin),
            Part::Statement(&rows),
            Part::Statement(&count),
            Part::Commit,
        ];
        let done = self.pool.repeatable(&parts).await?;
        let items: Vec<T> = done[1].rows.iter().map(read).collect::<Result<_>>()?;
        let counted = done[2].rows.first();
        let total = counted.map_or(Ok(0), |row| column::unsigned(row, 0))?;
        // Rows may have come between the two statements.
        let seen = match items.len() as u64 {
            0 => 0,
            some => page.offset + some,
        };
        Ok(Page {
            total: total.max(seen),
            items,
        })
    }
}

/// The answers of a transaction that ends with its commit.
fn committed(lease: Lease, answers: Vec<Answer>) -> Result<Vec<Done>> {
    let named = if unseen(&answers) {
        error::from
    } else {
        error::sent
    };
    let answers = all(answers);
    finish(lease, &answers);
    answers.map_err(named)
}

/// All answers, or the first failure.
fn all(answers: Vec<Answer>) -> Sent<Vec<Done>> {
    let answers = answers.into_iter();
    answers
        .map(|answer| answer.map_err(|failed| failed.err))
        .collect()
}

/// Whether the server had ended the connection before it saw the first part. It answers in order,
/// so if it says so in place of the first answer it has done nothing of what follows.
fn unseen(answers: &[Answer]) -> bool {
    let first = answers.first().and_then(|answer| answer.as_ref().err());
    first.is_some_and(|failed| failed.at_once && error::ended(&failed.err))
}

/// Gives a connection back. One to a server that takes no writes any more is closed, so that the
/// next one may go to another server of the address.
fn finish<T>(lease: Lease, answer: &Sent<T>) {
    if !answer.as_ref().is_err_and(error::read_only) {
        lease.done();
    }
}

/// A transaction that has begun. Dropped without an end, it closes its connection, and the server
/// undoes it.
pub(crate) struct Transaction<'a> {
    pool: &'a Pool,
    lease: Lease,
    /// What the statements that it began with returned.
    pub(crate) first: Vec<Done>,
}

impl Transaction<'_> {
    /// Runs statements and commits, in one round trip.
    ///
    /// # Errors
    /// As [`Postgres::atomic`].
    pub(crate) async fn commit(self, statements: &[Statement]) -> Result<()> {
        let mut parts: Vec<Part<'_>> = statements.iter().map(Part::Statement).collect();
        parts.push(Part::Commit);
        let answers = self.pool.send(&self.lease, &parts, Loss::Uncertain).await?;
        committed(self.lease, answers).map(drop)
    }

    /// Undoes it, and gives the connection back when the server said so. Nothing may be sent behind
    /// the end of a transaction before that: a pooler then gives the server to another client, and
    /// what it passed on already of a message of ours mixes with what that one sends.
    pub(crate) async fn rollback(self) {
        let undone = self.lease.client().batch_execute("ROLLBACK");
        let undone = time::timeout(self.pool.limits.cancel_grace, undone).await;
        if matches!(undone, Ok(Ok(()))) {
            self.lease.done();
        }
    }
}
