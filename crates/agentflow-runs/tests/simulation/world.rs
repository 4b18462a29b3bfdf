//! Simulated clients and workers on a few threads, one write at a time.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use agentflow_runs::machine::{self, Claimed, Create, Finish, Missing, Progress, Which, Worker};
use agentflow_storage::{
    Backend,
    checkpoint::{Checkpoint, CheckpointOp, CheckpointQuery, Fence},
    event::Event,
    memory::Memory,
    record::{CancelAction, Change, MultitaskStrategy, Run, RunStatus, ThreadRuns, Threads},
};
use agentflow_types::{
    AssistantId, ErrorKind, Map, Result, RunId, Scope, ThreadId, Timestamp, Value,
    graph::Interrupt, value,
};
use uuid::Uuid;

use crate::{faults::Faulty, model::Model};

const MAX_ATTEMPTS: u32 = 3;
const LEASE: Duration = Duration::from_secs(30);
/// Most steps until everything must have ended once faults and clients stop.
const DRAIN_STEPS: usize = 2_000;

/// A worker's idea of a run that it holds; true only as long as its token is.
#[derive(Clone)]
struct Holding {
    thread: ThreadId,
    run: RunId,
    token: i64,
    stop: Option<CancelAction>,
}

/// Everything in one simulation.
pub struct World {
    rng: fastrand::Rng,
    now: Timestamp,
    scope: Scope,
    truth: Backend,
    faulty: Arc<Faulty>,
    model: Model,
    threads: Vec<ThreadId>,
    /// What each worker holds; a crash forgets it.
    workers: Vec<Option<Holding>>,
    /// Workers that were believed dead and still act.
    zombies: Vec<Holding>,
    /// Creations whose outcome their client does not know.
    unsure: Vec<(ThreadId, RunId)>,
    minted: u64,
}

type Outcome = std::result::Result<(), String>;

impl World {
    /// A world that `seed` decides.
    pub fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let truth = Memory::open();
        let scope = Scope::local();
        let rate = [0, 20, 100, 300][rng.usize(..4)];
        let threads = (0..rng.u128(1..=2))
            .map(|n| ThreadId(Uuid::from_u128(n + 1)))
            .collect();
        Self {
            faulty: Faulty::new(truth.clone(), rng.u64(..), rate),
            model: Model::new(truth.clone(), scope.clone(), MAX_ATTEMPTS),
            workers: vec![None; rng.usize(1..=3)],
            now: Timestamp(1_700_000_000_000_000),
            rng,
            scope,
            truth,
            threads,
            zombies: vec![],
            unsure: vec![],
            minted: 0,
        }
    }

    /// Lets the world run and checks it after each step.
    pub async fn play(&mut self) -> Outcome {
        for _ in 0..self.rng.usize(30..90) {
            self.step().await?;
            self.check().await?;
        }
        self.faulty.heal();
        self.drain().await?;
        self.model.check_end().await
    }

    async fn check(&mut self) -> Outcome {
        for thread in self.threads.clone() {
            self.model.check(thread, self.now).await?;
        }
        Ok(())
    }

    async fn step(&mut self) -> Outcome {
        // No two writes of one machine fall into the same microsecond.
        self.now = self
            .now
            .plus(Duration::from_micros(self.rng.u64(1..2_000_000)));
        match self.rng.u32(..100) {
            0..18 => self.create().await,
            18..26 => self.cancel().await,
            26..28 => self.now = self.now.plus(LEASE),
            28..33 if !self.zombies.is_empty() => {
                let zombie = self.zombies[self.rng.usize(..self.zombies.len())].clone();
                self.work(zombie).await?;
            }
            33..36 => self.retry_creation().await,
            _ => {
                let worker = self.rng.usize(..self.workers.len());
                match self.workers[worker].take() {
                    None => self.claim(worker).await,
                    Some(holding) => {
                        self.workers[worker] = self.work(holding).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Decides through the faulty port and brings the decision's result out.
    async fn decide<T: Send + 'static>(
        &self,
        thread: ThreadId,
        decide: impl FnOnce(Option<&ThreadRuns>) -> Result<(Vec<Change>, T)> + Send + 'static,
    ) -> Result<T> {
        let slot = Arc::new(Mutex::new(None));
        let filled = slot.clone();
        let decide = Box::new(move |found: Option<&ThreadRuns>| {
            let (changes, result) = decide(found)?;
            *filled.lock().expect("nobody panics while it is held") = Some(result);
            Ok(changes)
        });
        self.faulty.decide(&self.scope, thread, decide).await?;
        let result = slot.lock().expect("nobody panics while it is held").take();
        Ok(result.expect("a decision that succeeded left its result"))
    }

    fn thread(&mut self) -> ThreadId {
        self.threads[self.rng.usize(..self.threads.len())]
    }

    async fn create(&mut self) {
        self.minted += 1;
        let thread = self.thread();
        // Ids of clients need not grow.
        let run = RunId(Uuid::from_u128(
            u128::from(self.rng.u64(..)) << 64 | u128::from(self.minted),
        ));
        self.create_as(thread, run).await;
    }

    /// A client that does not know whether its run exists looks, then asks again.
    async fn retry_creation(&mut self) {
        let Some((thread, run)) = self.unsure.pop() else {
            return;
        };
        match self
            .faulty
            .run(&self.scope, run)
            .await
            .expect("reads do not fail")
        {
            Some(_) => self.model.acknowledge(run),
            None => self.create_as(thread, run).await,
        }
    }

    async fn create_as(&mut self, thread: ThreadId, run_id: RunId) {
        let strategy = match self.rng.u32(..10) {
            0 => MultitaskStrategy::Reject,
            1..3 => MultitaskStrategy::Interrupt,
            3..5 => MultitaskStrategy::Rollback,
            _ => MultitaskStrategy::Enqueue,
        };
        let delay = if self.rng.u32(..5) == 0 {
            self.rng.u64(..60)
        } else {
            0
        };
        let missing = match self.rng.u32(..4) {
            0 => Missing::Reject,
            _ => Missing::Create(Box::new(machine::new_thread(thread, Map::new(), self.now))),
        };
        let free = self.workers.iter().position(Option::is_none);
        let claimant = free.filter(|_| self.rng.bool());
        let create = Create {
            run: new_run(thread, run_id, strategy, self.now, delay),
            graph_id: "graph".into(),
            missing,
            claim: claimant.map(worker_named),
            firing: None,
        };
        if strategy == MultitaskStrategy::Rollback {
            self.model.allow_removal(thread).await;
        }
        let now = self.now;
        match self
            .decide(thread, move |found| machine::create(found, create, now))
            .await
        {
            Ok(created) => {
                self.model.acknowledge(run_id);
                if let (Some(worker), Some(lease)) = (claimant, created.run.lease) {
                    let token = lease.token;
                    self.workers[worker] = Some(Holding {
                        thread,
                        run: run_id,
                        token,
                        stop: None,
                    });
                }
                self.tell(&created.stopping);
            }
            Err(err) if err.kind() == ErrorKind::Uncertain => self.unsure.push((thread, run_id)),
            Err(_) => {}
        }
    }

    /// Workers of this process learn of a stop at once, sometimes.
    fn tell(&mut self, stopping: &[(RunId, CancelAction)]) {
        for (run, action) in stopping {
            for holding in self.workers.iter_mut().flatten() {
                if holding.run == *run && self.rng.bool() {
                    holding.stop = Some(*action);
                }
            }
        }
    }

    async fn cancel(&mut self) {
        let thread = self.thread();
        let action = if self.rng.bool() {
            CancelAction::Rollback
        } else {
            CancelAction::Interrupt
        };
        let which = match self.rng.u32(..4) {
            0 => Which::All,
            1 => Which::Status(RunStatus::Pending),
            2 => Which::Status(RunStatus::Running),
            _ => {
                let held = self
                    .workers
                    .iter()
                    .flatten()
                    .map(|holding| holding.run)
                    .collect();
                Which::Ids(held)
            }
        };
        if action == CancelAction::Rollback {
            self.model.allow_removal(thread).await;
        }
        let now = self.now;
        let done = self.decide(thread, move |found| {
            machine::cancel(found, &which, action, now)
        });
        if let Ok(cancelled) = done.await {
            self.tell(&cancelled.stopping);
        }
    }

    async fn claim(&mut self, worker: usize) {
        let found = self
            .faulty
            .candidates(self.now, 4)
            .await
            .expect("reads do not fail");
        // What a worker found may be old by the time it claims.
        let thread = match (found.first(), self.rng.u32(..5)) {
            (_, 0) => self.thread(),
            (Some(candidate), _) => candidate.thread_id,
            (None, _) => return,
        };
        let mut claimed = self.try_claim(thread, worker, None).await;
        if let Ok(Claimed {
            lost: Some(run), ..
        }) = claimed
        {
            let newest = self.newest(run).await;
            let progress = Progress {
                run_id: run,
                newest,
            };
            claimed = self.try_claim(thread, worker, Some(progress)).await;
        }
        if let Ok(Claimed { run: Some(run), .. }) = claimed {
            let token = run.lease.expect("a claimed run has a lease").token;
            self.workers[worker] = Some(Holding {
                thread,
                run: run.run_id,
                token,
                stop: None,
            });
        }
    }

    async fn try_claim(
        &self,
        thread: ThreadId,
        worker: usize,
        progress: Option<Progress>,
    ) -> Result<Claimed> {
        let (now, name) = (self.now, worker_named(worker));
        let claimed = self.decide(thread, move |found| {
            let Some(found) = found else {
                return Ok((vec![], Claimed::default()));
            };
            Ok(machine::claim(found, &name, MAX_ATTEMPTS, progress, now))
        });
        claimed.await
    }

    /// When a run made its newest checkpoint.
    async fn newest(&self, run: RunId) -> Option<Timestamp> {
        let metadata = value!({"run_id": run.text()});
        let query = CheckpointQuery {
            metadata: metadata.as_map().cloned().unwrap_or_default(),
            limit: Some(1),
            ..CheckpointQuery::default()
        };
        let found = self.truth.checkpoints.list(&query).await;
        let newest = found.expect("reads do not fail").into_iter().next()?;
        newest.checkpoint.ts.parse().ok()
    }

    /// One write of somebody who believes to hold a run; returns what they believe afterwards.
    async fn work(&mut self, mut holding: Holding) -> std::result::Result<Option<Holding>, String> {
        let holds = self.model.token(holding.run).await == Some(holding.token);
        let fence = Fence {
            run_id: holding.run,
            token: holding.token,
        };
        let done = match self.rng.u32(..100) {
            0..8 => {
                // The worker dies; what it had on the wire may still arrive.
                if self.rng.bool() {
                    self.zombies.push(holding);
                }
                return Ok(None);
            }
            8..12 => {
                let (run, token, now) = (holding.run, holding.token, self.now);
                self.decide(holding.thread, move |found| {
                    machine::release(found, run, token, now)
                })
                .await
                .map(|_| None)
            }
            12..40 => {
                let until = self.now.plus(LEASE);
                self.faulty
                    .heartbeat(holding.run, holding.token, until)
                    .await
                    .map(|beat| {
                        holding.stop = beat.cancel;
                        Some(holding.clone())
                    })
            }
            40..60 => {
                let event = self.event(&holding, 1, "values", "{}").await;
                let appended = self.faulty.append(holding.thread, vec![event], fence).await;
                appended.map(|()| Some(holding.clone()))
            }
            60..70 => {
                let put = checkpoint(&holding, self.now);
                self.faulty
                    .commit(vec![put], fence)
                    .await
                    .map(|()| Some(holding.clone()))
            }
            _ => self.finish(&holding).await.map(|()| None),
        };
        match done {
            Ok(_) if !holds => Err("a fenced writer was let in".into()),
            Ok(next) => Ok(next),
            Err(err) => match err.kind() {
                ErrorKind::Conflict | ErrorKind::NotFound if holds => {
                    Err(format!("the holder of a lease was refused: {err}"))
                }
                ErrorKind::Conflict | ErrorKind::NotFound => Ok(None),
                ErrorKind::Busy | ErrorKind::Uncertain => Ok(Some(holding)),
                _ => Err(format!("an error nobody expects: {err:?}")),
            },
        }
    }

    async fn event(&mut self, holding: &Holding, ahead: u64, kind: &str, data: &str) -> Event {
        let last = self
            .truth
            .events
            .last_seq(holding.thread)
            .await
            .expect("reads do not fail");
        let mark = self.rng.u64(..);
        Event {
            seq: last + ahead,
            run_id: holding.run,
            at: self.now,
            kind: kind.into(),
            ns: vec![],
            data: format!("[{mark},{data}]").into(),
        }
    }

    async fn finish(&mut self, holding: &Holding) -> Result<()> {
        let status = match (holding.stop, self.rng.u32(..10)) {
            (Some(_), _) => RunStatus::Interrupted,
            (None, 0..2) => RunStatus::Error,
            (None, 2) => RunStatus::Timeout,
            (None, _) => RunStatus::Success,
        };
        let mut finish = Finish {
            result: Value::Null,
            run_id: holding.run,
            token: holding.token,
            status,
            error: match status {
                RunStatus::Error | RunStatus::Timeout => value!({"error": "E", "message": "m"}),
                _ => Value::Null,
            },
            values: self.rng.bool().then(|| value!({"n": 1})),
            interrupts: Default::default(),
            has_next: false,
        };
        if self.rng.u32(..4) == 0 {
            let asked = Interrupt {
                value: value!(1),
                id: "i".into(),
                response_schema: None,
            };
            finish.interrupts.insert("task".into(), vec![asked]);
            finish.has_next = true;
        }
        let events = vec![
            self.event(holding, 1, "values", "{}").await,
            self.event(holding, 2, "end", &format!("\"{}\"", status.as_str()))
                .await,
        ];
        let now = self.now;
        let finished = self.decide(holding.thread, move |found| {
            machine::finish(found, finish, events, now)
        });
        finished.await.map(drop)
    }

    /// Faults and clients have stopped: everything must come to its end.
    async fn drain(&mut self) -> Outcome {
        self.workers.fill(None);
        for _ in 0..DRAIN_STEPS {
            self.now = self.now.plus(LEASE + Duration::from_secs(40));
            self.claim(0).await;
            if let Some(holding) = self.workers[0].take() {
                let finished = self.finish(&holding).await;
                finished.map_err(|err| format!("the drain was refused: {err:?}"))?;
            } else if self
                .truth
                .threads
                .counts()
                .await
                .expect("reads do not fail")
                .iter()
                .all(|(status, _)| status.is_terminal())
            {
                return self.check().await;
            }
            self.check().await?;
        }
        Err("work is left that no worker is offered".into())
    }
}

fn worker_named(index: usize) -> Worker {
    Worker {
        id: format!("worker-{index}"),
        lease: LEASE,
    }
}

fn new_run(
    thread_id: ThreadId,
    run_id: RunId,
    multitask_strategy: MultitaskStrategy,
    now: Timestamp,
    delay_s: u64,
) -> Run {
    Run {
        run_id,
        thread_id,
        assistant_id: AssistantId::system("graph"),
        created_at: now.plus(Duration::from_secs(delay_s)),
        updated_at: now,
        status: RunStatus::Pending,
        metadata: Map::new(),
        kwargs: Map::new(),
        multitask_strategy,
        attempt: 0,
        cancel: None,
        lease: None,
        error: Value::Null,
        temporary_thread: false,
    }
}

fn checkpoint(holding: &Holding, now: Timestamp) -> CheckpointOp {
    let metadata = value!({"run_id": holding.run.text()})
        .as_map()
        .cloned()
        .unwrap_or_default();
    CheckpointOp::Put {
        thread_id: holding.thread.text(),
        checkpoint_ns: String::new(),
        parent_id: None,
        checkpoint: Checkpoint {
            v: 4,
            id: format!("{:020}", now.micros()),
            ts: now.to_string(),
            ..Checkpoint::default()
        },
        metadata,
        new_versions: vec![],
    }
}
