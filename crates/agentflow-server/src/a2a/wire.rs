//! Tasks, messages and updates as JSON of both dialects.

use agentflow_types::Timestamp;
use serde_json::{Map, Value as Json, json};

use super::method::Dialect;

/// State of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Submitted,
    Working,
    InputRequired,
    Completed,
    Failed,
    Canceled,
}

/// Words of the states in 0.3 and 1.0.
const STATES: [(State, &str, &str); 6] = [
    (State::Submitted, "submitted", "TASK_STATE_SUBMITTED"),
    (State::Working, "working", "TASK_STATE_WORKING"),
    (
        State::InputRequired,
        "input-required",
        "TASK_STATE_INPUT_REQUIRED",
    ),
    (State::Completed, "completed", "TASK_STATE_COMPLETED"),
    (State::Failed, "failed", "TASK_STATE_FAILED"),
    (State::Canceled, "canceled", "TASK_STATE_CANCELED"),
];

impl State {
    pub(super) fn word(self, dialect: Dialect) -> &'static str {
        let known = STATES.iter().find(|(state, ..)| *state == self);
        match (known, dialect) {
            (Some((_, word, _)), Dialect::V03) | (Some((_, _, word)), Dialect::V1) => word,
            (None, _) => "unknown",
        }
    }

    /// The state that a word of either dialect means.
    pub(super) fn parse(word: &str) -> Option<Self> {
        let known = STATES
            .iter()
            .find(|(_, old, new)| *old == word || *new == word);
        known.map(|(state, ..)| *state)
    }

    pub(super) fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    User,
    Agent,
}

/// A part of a message or an artifact.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    Data(Json),
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) role: Role,
    pub(super) parts: Vec<Part>,
}

/// Something that a task made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Artifact {
    pub(super) id: String,
    pub(super) name: &'static str,
    pub(super) description: String,
    pub(super) parts: Vec<Part>,
}

/// A task.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) context: String,
    pub(super) state: State,
    pub(super) at: Timestamp,
    /// Why it failed, or what it asks.
    pub(super) says: Option<Message>,
    pub(super) history: Vec<Message>,
    pub(super) artifacts: Vec<Artifact>,
}

/// Whether an artifact replaces what was sent of it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// It does; more may follow.
    First,
    /// It is added.
    More,
    /// It does, and that is all.
    Whole,
}

/// Writes for one task in one dialect.
#[derive(Clone, Debug)]
pub(super) struct Pen {
    pub(super) dialect: Dialect,
    pub(super) task: String,
    pub(super) context: String,
}

impl Pen {
    pub(super) fn of(task: &Task, dialect: Dialect) -> Self {
        Self {
            dialect,
            task: task.id.clone(),
            context: task.context.clone(),
        }
    }

    fn part(&self, part: &Part) -> Json {
        match (part, self.dialect) {
            (Part::Text(text), Dialect::V03) => json!({ "kind": "text", "text": text }),
            (Part::Text(text), Dialect::V1) => json!({ "text": text }),
            (Part::Data(data), Dialect::V03) => json!({ "kind": "data", "data": as_object(data) }),
            (Part::Data(data), Dialect::V1) => json!({ "data": data }),
        }
    }

    fn parts(&self, parts: &[Part]) -> Json {
        parts.iter().map(|part| self.part(part)).collect()
    }

    fn message(&self, message: &Message) -> Json {
        let role = match (message.role, self.dialect) {
            (Role::User, Dialect::V03) => "user",
            (Role::Agent, Dialect::V03) => "agent",
            (Role::User, Dialect::V1) => "ROLE_USER",
            (Role::Agent, Dialect::V1) => "ROLE_AGENT",
        };
        self.kind(
            "message",
            json!({
                "messageId": message.id, "role": role, "parts": self.parts(&message.parts),
                "taskId": self.task, "contextId": self.context,
            }),
        )
    }

    fn artifact(&self, artifact: &Artifact) -> Json {
        json!({
            "artifactId": artifact.id, "name": artifact.name,
            "description": artifact.description, "parts": self.parts(&artifact.parts),
        })
    }

    fn status(&self, state: State, at: Timestamp, says: Option<&Message>) -> Json {
        let mut status = json!({ "state": state.word(self.dialect), "timestamp": at });
        if let Some(message) = says {
            status["message"] = self.message(message);
        }
        status
    }

    /// Adds the `kind` that 0.3 tells objects apart by.
    fn kind(&self, kind: &str, mut object: Json) -> Json {
        if self.dialect == Dialect::V03 {
            object["kind"] = json!(kind);
        }
        object
    }

    /// The object alone in 0.3; under the name of its kind in 1.0.
    fn wrapped(&self, name: &str, object: Json) -> Json {
        match self.dialect {
            Dialect::V03 => object,
            Dialect::V1 => Json::Object(Map::from_iter([(name.to_owned(), object)])),
        }
    }

    /// A task.
    pub(super) fn task(&self, task: &Task) -> Json {
        let artifacts: Json = task
            .artifacts
            .iter()
            .map(|one| self.artifact(one))
            .collect();
        let history: Json = task.history.iter().map(|one| self.message(one)).collect();
        self.kind(
            "task",
            json!({
                "id": task.id, "contextId": task.context,
                "status": self.status(task.state, task.at, task.says.as_ref()),
                "artifacts": artifacts, "history": history,
            }),
        )
    }

    /// A task as the result of a message, and as the first event of a stream.
    pub(super) fn task_result(&self, task: &Task) -> Json {
        self.wrapped("task", self.task(task))
    }

    /// A change of the status.
    pub(super) fn status_update(
        &self,
        state: State,
        at: Timestamp,
        says: Option<&Message>,
    ) -> Json {
        let mut update = json!({
            "taskId": self.task, "contextId": self.context,
            "status": self.status(state, at, says),
        });
        if self.dialect == Dialect::V03 {
            // A stream ends with a question as well.
            update["final"] = json!(state.is_terminal() || state == State::InputRequired);
        }
        self.wrapped("statusUpdate", self.kind("status-update", update))
    }

    /// An artifact, or a piece of one.
    pub(super) fn artifact_update(&self, artifact: &Artifact, piece: Piece) -> Json {
        let update = json!({
            "taskId": self.task, "contextId": self.context, "artifact": self.artifact(artifact),
            "append": piece == Piece::More, "lastChunk": piece == Piece::Whole,
        });
        self.wrapped("artifactUpdate", self.kind("artifact-update", update))
    }
}

/// Data parts of 0.3 are objects.
fn as_object(data: &Json) -> Json {
    match data {
        Json::Object(_) => data.clone(),
        other => json!({ "value": other }),
    }
}
