//! Adding memories.

use agentflow_storage::{
    filter::normal_map,
    memories::{Change, Event, Job, JobStatus, Kind, Memory, Owner, OwnerKind, State},
};
use agentflow_types::{
    Error, ErrorKind, JobId, Map, MemoryId, Result, Scope, Timestamp, Value, from_value, to_value,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Service, hash};
use crate::text::entities;

/// Most messages of one add.
const MAX_MESSAGES: usize = 1_000;
/// Most bytes of the texts of one add.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Most bytes of an owner's name.
const MAX_NAME_BYTES: usize = 256;
/// Marks a turn that is kept as a source only: it is in no list.
pub(crate) const SOURCE: &str = "source";
/// Namespace in which ids of jobs are derived from keys.
const KEYS: Uuid = Uuid::from_u128(0x5f0d_6c2e_9a41_4b7b_8d53_e1c0_7a26_94f1);
/// Kind of the jobs.
pub(super) const ADD: &str = "ADD";
/// What the job says when there is no chat model.
const NO_MODEL: &str = "no chat model is configured: the messages themselves are stored";

/// Something that was said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Speech {
    /// `user`, `assistant` or `system`.
    pub role: String,
    /// What.
    pub content: String,
    /// Name of who said it.
    pub name: Option<String>,
}

/// What is to be remembered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Add {
    /// What was said, in order.
    pub messages: Vec<Speech>,
    /// Whose it is; somebody at least.
    pub owner: Owner,
    /// What the caller keeps with it.
    pub metadata: Map,
    /// Whether facts are read out of it; otherwise it is kept as it was said.
    pub infer: bool,
    /// Whether it tells how an agent did something.
    pub procedural: bool,
    /// What the model is told besides.
    pub custom_instructions: Option<String>,
    /// What it is told besides about facts of the agent.
    pub agent_custom_instructions: Option<String>,
    /// Names of categories, and what belongs there; empty for those of the project.
    pub custom_categories: Vec<(String, String)>,
    /// What is to be remembered.
    pub includes: Option<String>,
    /// What is not.
    pub excludes: Option<String>,
    /// When it was said; now if nothing is said about it.
    pub happened_at: Option<Timestamp>,
    /// The last day on which it counts, as `YYYY-MM-DD`.
    pub expires_on: Option<String>,
    /// Whether it may not be changed.
    pub immutable: bool,
}

/// What came of an add.
#[derive(Clone, Debug, PartialEq)]
pub struct Added {
    /// The job; over already if nothing was read out of it.
    pub job: Job,
    /// Memories that are stored already.
    pub memories: Vec<Memory>,
}

/// Checks an expiration.
///
/// # Errors
/// `Invalid` if it is no day.
pub(super) fn check_day(day: &str) -> Result<()> {
    match day.parse::<jiff::civil::Date>() {
        Ok(_) if day.len() == 10 => Ok(()),
        _ => Err(Error::invalid("expiration_date must be a date as YYYY-MM-DD").with("found", day)),
    }
}

impl Add {
    fn check(&self) -> Result<()> {
        if self.messages.is_empty() {
            return Err(Error::invalid("messages must not be empty"));
        }
        let bytes: usize = self.messages.iter().map(|one| one.content.len()).sum();
        if self.messages.len() > MAX_MESSAGES || bytes > MAX_BYTES {
            return Err(Error::invalid("there is too much to add at once")
                .with("most_messages", MAX_MESSAGES)
                .with("most_bytes", MAX_BYTES));
        }
        if self.owner.is_empty() {
            return Err(Error::invalid(
                "At least one of the filters: user_id, agent_id, app_id, run_id is required!",
            ));
        }
        for kind in OwnerKind::ALL {
            let name = self.owner.get(kind);
            if name.is_some_and(|name| name.trim().is_empty() || name.len() > MAX_NAME_BYTES) {
                return Err(Error::invalid(format!(
                    "{} is empty or longer than {MAX_NAME_BYTES} bytes",
                    kind.field()
                )));
            }
        }
        if self.procedural && self.owner.agent_id.is_none() {
            return Err(Error::invalid("a procedural memory needs an agent_id"));
        }
        self.expires_on.as_deref().map_or(Ok(()), check_day)
    }

    /// The request, as the job keeps it.
    pub(super) fn of_job(job: &Job) -> Result<Self> {
        let request = job.payload.get("request").unwrap_or(&Value::Null);
        from_value(request)
    }
}

impl Service {
    /// Stores what was said, and lets facts be read out of it in the background.
    ///
    /// Without inference, and without a chat model, the turns are the memories, and the job is
    /// over when this returns.
    ///
    /// # Errors
    /// `Invalid` if there is nothing to add, or it belongs to nobody.
    pub async fn add(&self, scope: &Scope, project: &str, add: Add) -> Result<Added> {
        self.add_as(scope, project, add, JobId::mint()).await
    }

    /// As [`Service::add`], once for each `key` of a project: repeated, nothing is stored, and the
    /// job is the one of the first time, without memories. The job and its turns are one
    /// transaction, so that a key is taken if and only if what came with it is stored.
    ///
    /// # Errors
    /// As [`Service::add`].
    pub async fn add_once(
        &self,
        scope: &Scope,
        project: &str,
        key: &str,
        add: Add,
    ) -> Result<Added> {
        let id = job_of_key(scope, project, key);
        let known = |job| Added {
            job,
            memories: vec![],
        };
        if let Some(job) = self.backend().memories.job(scope, id).await? {
            return Ok(known(job));
        }
        match self.add_as(scope, project, add, id).await {
            // Somebody else was faster, or this is about something else.
            Err(err) if err.kind() == ErrorKind::Conflict => {
                let job = self.backend().memories.job(scope, id).await?;
                job.map(known).ok_or(err)
            }
            added => added,
        }
    }

    async fn add_as(&self, scope: &Scope, project: &str, add: Add, id: JobId) -> Result<Added> {
        add.check()?;
        let infers = add.infer && self.inner.models.chat.is_some();
        let mut turns = self.turns(project, &add, infers);
        if turns.is_empty() {
            return Err(Error::invalid("messages hold no text"));
        }
        self.chain(scope, &mut turns).await?;
        let mut job = Job {
            job_id: id,
            ..self.job_of(project, &add, &turns)?
        };
        let mut changes: Vec<Change> = turns
            .iter()
            .map(|turn| Change::Put(Box::new(turn.clone())))
            .collect();
        if !infers {
            let now = self.now();
            job.status = JobStatus::Succeeded;
            (job.started_at, job.completed_at) = (Some(now), Some(now));
            job.results = turns.iter().map(result).collect();
            if add.infer {
                job.error = NO_MODEL.into();
            }
            changes.extend(self.told(scope, &turns).await?);
        }
        changes.push(Change::InsertJob(Box::new(job.clone())));
        self.commit(scope, changes).await?;
        self.inner.jobs.notify_one();
        let memories = if infers { vec![] } else { turns };
        Ok(Added { job, memories })
    }

    /// The turns as memories; those of facts are sources.
    fn turns(&self, project: &str, add: &Add, is_source: bool) -> Vec<Memory> {
        let spoken = add.messages.iter().filter(|one| {
            // Instructions to a model are nothing that was said.
            one.role != "system" && !one.content.trim().is_empty()
        });
        let turn = |one: &Speech| {
            let mut memory = self.fresh(project, add, Kind::Turn, one.content.clone());
            memory.role = Some(one.role.clone());
            memory.actor = one.name.clone();
            if is_source {
                memory.extra.insert(SOURCE.into(), Value::Bool(true));
            }
            memory
        };
        spoken.map(turn).collect()
    }

    /// A new memory of an add.
    pub(super) fn fresh(&self, project: &str, add: &Add, kind: Kind, text: String) -> Memory {
        let now = self.now();
        let found = entities(&text, self.inner.usual);
        Memory {
            memory_id: MemoryId::mint(),
            version: 1,
            project: project.to_owned(),
            kind,
            event: Event::Add,
            owner: add.owner.clone(),
            hash: hash(&text),
            text,
            metadata: normal_map(&add.metadata),
            categories: vec![],
            entities: found.into_iter().map(|entity| entity.key).collect(),
            role: None,
            actor: None,
            sources: vec![],
            linked: vec![],
            state: State::Active,
            replaced_by: None,
            immutable: add.immutable,
            happened_at: add.happened_at.unwrap_or(now),
            expires_on: add.expires_on.clone(),
            // What was said long ago is listed where it belongs; versions tell when it came.
            created_at: add.happened_at.unwrap_or(now),
            updated_at: now,
            extra: Map::new(),
        }
    }

    fn job_of(&self, project: &str, add: &Add, turns: &[Memory]) -> Result<Job> {
        let ids = turns.iter().map(|turn| Value::str(turn.memory_id.text()));
        let payload = [
            ("request", to_value(add)?),
            ("turns", Value::list(ids.collect())),
        ];
        let payload = payload.map(|(key, value)| (key.into(), value)).into();
        Ok(self.new_job(project, ADD, lane(project, &add.owner), payload))
    }
}

/// The id of the job of a key; each tenant and project has its own.
fn job_of_key(scope: &Scope, project: &str, key: &str) -> JobId {
    let name = format!("{}\0{project}\0{key}", scope.tenant());
    JobId(Uuid::new_v5(&KEYS, name.as_bytes()))
}

/// Jobs of one user, or of whom else it is, follow each other.
pub(super) fn lane(project: &str, owner: &Owner) -> String {
    let mut owners = OwnerKind::ALL.into_iter();
    let first = owners.find_map(|kind| Some((kind, owner.get(kind)?)));
    first.map_or_else(
        || project.to_owned(),
        |(kind, name)| format!("{project}/{}/{name}", kind.as_str()),
    )
}

/// A memory among the results of a job.
pub(super) fn result(memory: &Memory) -> Value {
    let event = match memory.event {
        Event::Add => "ADD",
        Event::Update => "UPDATE",
        Event::Delete => "DELETE",
    };
    let text = || Value::str(memory.text.as_str());
    let fields = [
        ("id", Value::str(memory.memory_id.text())),
        ("memory", text()),
        ("event", Value::str(event)),
        ("data", Value::object([("memory", text())])),
    ];
    let owners = OwnerKind::ALL.into_iter().filter_map(|kind| {
        let name = memory.owner.get(kind)?;
        Some((kind.field(), Value::str(name)))
    });
    let all = fields.into_iter().chain(owners);
    Value::map(all.map(|(key, value)| (key.into(), value)).collect())
}
