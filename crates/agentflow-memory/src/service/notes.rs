//! Settings, and small records around memories.

use agentflow_storage::{
    memories::{Change, Event, Memory, Note, NoteQuery},
    outbox::Letter,
    page::Page,
};
use agentflow_types::{Error, LetterId, Map, Result, Scope, Value, from_value, to_value};
use serde::{Deserialize, Serialize};

use super::{Service, projects::MAX_WEBHOOKS, was_late};

/// Topic of letters that are delivered by calling a URL.
const WEBHOOK: &str = "webhook";
/// Kind and key of the settings of a project.
const SETTINGS: (&str, &str) = ("project", "settings");

/// Settings of a project.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Project {
    /// Name, for people.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What the model is told besides.
    pub custom_instructions: Option<String>,
    /// What it is told besides about facts of agents.
    pub agent_custom_instructions: Option<String>,
    /// Names of categories, and what belongs there.
    pub custom_categories: Vec<(String, String)>,
    /// Whether facts stay in the language in which they were said.
    pub multilingual: bool,
    /// Whether what was used lately comes first.
    pub decay: bool,
    /// Further settings that clients keep here.
    pub others: Map,
}

impl Service {
    /// Settings of a project; the defaults if there are none.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn project(&self, scope: &Scope, project: &str) -> Result<Project> {
        let (kind, key) = SETTINGS;
        match self.note(scope, project, kind, key).await? {
            None => Ok(Project::default()),
            Some(note) => from_value(&Value::map(note.body)),
        }
    }

    /// Stores settings of a project.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn put_project(&self, scope: &Scope, project: &str, new: &Project) -> Result<()> {
        let (kind, key) = SETTINGS;
        let body = to_value(new)?.as_map().cloned().unwrap_or_default();
        let put = self.put_note(scope, project, kind, key, body).await;
        self.inner.wanting.forget(scope, project);
        put.map(drop)
    }

    /// A note: a webhook, an export, feedback, a profile, whatever a surface keeps.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn note(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        key: &str,
    ) -> Result<Option<Note>> {
        self.backend()
            .memories
            .note(scope, project, kind, key)
            .await
    }

    /// One page of notes, the oldest first.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn notes(&self, scope: &Scope, query: &NoteQuery) -> Result<Page<Note>> {
        self.backend().memories.notes(scope, query).await
    }

    /// Stores a note in place of the one with that key, and returns it.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn put_note(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        key: &str,
        body: Map,
    ) -> Result<Note> {
        self.write_note(scope, [project, kind, key], Some(body))
            .await
    }

    /// Removes a note; false if there is none.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn delete_note(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        key: &str,
    ) -> Result<bool> {
        if self.note(scope, project, kind, key).await?.is_none() {
            return Ok(false);
        }
        let gone = self.write_note(scope, [project, kind, key], None).await;
        gone.map(|_| true)
    }

    async fn write_note(
        &self,
        scope: &Scope,
        [project, kind, key]: [&str; 3],
        body: Option<Map>,
    ) -> Result<Note> {
        let now = self.now();
        // One that was removed has versions that cannot be read: the next free one is looked for.
        let mut version = 0;
        for tries in 0.. {
            let old = self.note(scope, project, kind, key).await?;
            version = old.as_ref().map_or(version, |old| old.version) + 1;
            let note = Note {
                project: project.to_owned(),
                kind: kind.to_owned(),
                key: key.to_owned(),
                version,
                created_at: old.as_ref().map_or(now, |old| old.created_at),
                updated_at: now,
                is_deleted: body.is_none(),
                // Of what is removed nothing is left to read.
                body: body.clone().unwrap_or_default(),
            };
            let change = Change::PutNote(Box::new(note.clone()));
            match self.backend().memories.apply(scope, vec![change]).await {
                Err(err) if was_late(&err, tries) => {}
                Err(err) => return Err(err),
                Ok(()) => return Ok(note),
            }
        }
        Err(Error::bug("decisions end"))
    }

    /// Letters to the webhooks of a project about versions of its memories. A webhook is a note
    /// of the kind `webhook` with `url` and `event_types`.
    pub(super) async fn told(&self, scope: &Scope, memories: &[Memory]) -> Result<Vec<Change>> {
        let Some(first) = memories.first() else {
            return Ok(vec![]);
        };
        let query = NoteQuery {
            project: first.project.clone(),
            kind: WEBHOOK.into(),
            limit: MAX_WEBHOOKS,
            offset: 0,
        };
        let webhooks = self.backend().memories.notes(scope, &query).await?.items;
        let mut letters = Vec::new();
        for webhook in &webhooks {
            let Some(url) = webhook.body.get("url").and_then(Value::as_str) else {
                continue;
            };
            let is_source = |memory: &&Memory| memory.extra.contains_key(super::add::SOURCE);
            for memory in memories.iter().filter(|memory| !is_source(memory)) {
                if wants(webhook, word(memory)) {
                    letters.push(self.call(url, super::add::result(memory)));
                }
                if !memory.categories.is_empty()
                    && memory.event == Event::Add
                    && wants(webhook, "memory_categorize")
                {
                    letters.push(self.call(url, categorized(memory)));
                }
            }
        }
        Ok(letters)
    }

    fn call(&self, url: &str, details: Value) -> Change {
        let body = Value::object([("event_details", details)]);
        Change::Post(Box::new(Letter {
            letter_id: LetterId::mint(),
            topic: WEBHOOK.into(),
            created_at: self.now(),
            body: Value::object([("url", Value::str(url)), ("body", body)]),
        }))
    }
}

fn word(memory: &Memory) -> &'static str {
    match memory.event {
        Event::Add => "memory_add",
        Event::Update => "memory_update",
        Event::Delete => "memory_delete",
    }
}

fn categorized(memory: &Memory) -> Value {
    let names = memory.categories.iter();
    let names = names.map(|name| Value::str(name.as_str()));
    Value::object([
        ("event", Value::str("CATEGORIZE")),
        ("memory_id", Value::str(memory.memory_id.text())),
        ("categories", Value::list(names.collect())),
    ])
}

/// Whether a webhook asks for such events.
fn wants(webhook: &Note, word: &str) -> bool {
    let wanted = webhook.body.get("event_types").and_then(Value::as_list);
    let wanted = wanted.unwrap_or_default().iter();
    wanted
        .filter_map(Value::as_str)
        .any(|one| one == word || one.replace(':', "_") == word)
}
