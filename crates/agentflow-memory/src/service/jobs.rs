//! Jobs: making them, waiting for them, and what each kind does.

use std::time::Duration;

use agentflow_storage::memories::{Change, Job, JobStatus, Owner, OwnerKind};
use agentflow_types::{Error, JobId, Map, Result, Scope, Value};

use super::{
    Service,
    add::{ADD, lane},
    change::check_owned,
};

/// Kind of jobs that remove what a filter matches.
const DELETE: &str = "DELETE_ALL";
/// Kind of jobs that export.
pub(super) const EXPORT: &str = "EXPORT";
/// Kind of jobs that describe a user.
pub(super) const PROFILE: &str = "PROFILE";
/// How often a waiter looks by itself: another server may do the job.
const LOOK: Duration = Duration::from_millis(200);

impl Service {
    /// A job that waits.
    pub(super) fn new_job(&self, project: &str, kind: &str, lane: String, payload: Map) -> Job {
        let now = self.now();
        Job {
            job_id: JobId::mint(),
            project: project.to_owned(),
            kind: kind.to_owned(),
            lane,
            status: JobStatus::Pending,
            payload,
            results: vec![],
            error: String::new(),
            attempt: 0,
            due_at: now,
            created_at: now,
            updated_at: now,
            started_at: None,
            completed_at: None,
        }
    }

    /// Stores a job, and wakes who does it.
    pub(super) async fn post(&self, scope: &Scope, job: Job) -> Result<Job> {
        let change = Change::InsertJob(Box::new(job.clone()));
        self.backend().memories.apply(scope, vec![change]).await?;
        self.inner.jobs.notify_one();
        Ok(job)
    }

    /// Removes in the background what [`Service::delete_all`] would, after what was added for the
    /// same owner before.
    ///
    /// # Errors
    /// As [`Service::delete_all`].
    pub async fn forget(&self, scope: &Scope, project: &str, by: &Map) -> Result<Job> {
        check_owned(by)?;
        let mut owner = Owner::default();
        for kind in OwnerKind::ALL {
            let name = by.get(kind.field()).and_then(Value::as_str);
            owner.set(kind, name.map(str::to_owned));
        }
        let payload = [("filter".into(), Value::map(by.clone()))].into();
        let job = self.new_job(project, DELETE, lane(project, &owner), payload);
        self.post(scope, job).await
    }

    /// The job when it is over, or as it is after `most`.
    ///
    /// # Errors
    /// `NotFound` without it.
    pub async fn wait(
        &self,
        scope: &Scope,
        project: &str,
        id: JobId,
        most: Duration,
    ) -> Result<Job> {
        let until = tokio::time::Instant::now() + most;
        loop {
            let ended = self.inner.ended.notified();
            let job = self.event(scope, project, id).await?;
            let now = tokio::time::Instant::now();
            if job.status.is_over() || now >= until {
                return Ok(job);
            }
            tokio::select! {
                () = ended => {}
                () = tokio::time::sleep(LOOK.min(until - now)) => {}
            }
        }
    }

    /// Does a job, and stores its end with what it changed.
    pub(super) async fn perform(&self, scope: &Scope, job: &Job) -> Result<()> {
        match job.kind.as_str() {
            ADD => self.infer(scope, job).await,
            DELETE => {
                let filter = job.payload.get("filter").and_then(Value::as_map);
                let filter = filter.cloned().unwrap_or_default();
                let deleted = self.delete_all(scope, &job.project, &filter).await?;
                let many = Value::Int(i64::try_from(deleted.memories).unwrap_or(i64::MAX));
                let result = Value::object([("deleted", many)]);
                self.finish(scope, job, vec![result]).await
            }
            EXPORT => self.do_export(scope, job).await,
            PROFILE => self.do_profile(scope, job).await,
            other => Err(Error::invalid("this kind of job is unknown").with("kind", other)),
        }
    }

    pub(super) async fn finish(&self, scope: &Scope, job: &Job, results: Vec<Value>) -> Result<()> {
        let done = Job {
            results,
            error: String::new(),
            ..job.clone()
        };
        let change = self.end(done, JobStatus::Succeeded);
        self.backend().memories.apply(scope, vec![change]).await
    }
}
