//! Projects of a tenant, and what belongs to them besides memories: webhooks, members, feedback.

use agentflow_storage::{
    memories::{Note, NoteQuery, OwnerKind},
    page::Page,
};
use agentflow_types::{
    Error, JobId, Map, MemoryId, Result, Scope, Timestamp, Value, from_value, to_value,
};
use serde::{Deserialize, Serialize};

use super::{Project, Service};
use crate::fence::unlimited;

/// The project that every tenant has.
pub const DEFAULT_PROJECT: &str = "default";
/// Where the projects of a tenant are listed.
const PROJECTS: &str = "projects";
/// Most projects of a tenant.
const MAX_PROJECTS: u32 = 1_000;
/// Most members of a project.
const MAX_MEMBERS: u32 = 1_000;
/// Most webhooks of a project.
pub(super) const MAX_WEBHOOKS: u32 = 100;
/// Most bytes of a name.
const MAX_NAME_BYTES: usize = 256;

/// A call that tells of changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// Id.
    pub webhook_id: String,
    /// Its project.
    pub project: String,
    /// Name, for people.
    pub name: String,
    /// Where.
    pub url: String,
    /// Which: `memory_add`, `memory_update`, `memory_delete`, `memory_categorize`.
    pub event_types: Vec<String>,
    /// Creation.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

/// Changes of a webhook; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WebhookPatch {
    /// Name.
    pub name: Option<String>,
    /// Where.
    pub url: Option<String>,
    /// Which.
    pub event_types: Option<Vec<String>>,
}

/// What somebody thinks of a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// Right and useful.
    Positive,
    /// Wrong or useless.
    Negative,
    /// Very much so.
    VeryNegative,
}

/// Feedback on a memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// Which one.
    pub memory_id: MemoryId,
    /// The verdict; `None` takes it back.
    pub feedback: Option<Verdict>,
    /// Why.
    pub reason: Option<String>,
}

fn check_name(name: &str) -> Result<()> {
    match name.trim().is_empty() || name.len() > MAX_NAME_BYTES {
        true => Err(Error::invalid("a name has 1 to 256 bytes")),
        false => Ok(()),
    }
}

impl Service {
    /// Makes a project; its id.
    ///
    /// # Errors
    /// `Invalid` without a name, `Limited` if there are too many.
    pub async fn create_project(
        &self,
        scope: &Scope,
        name: &str,
        description: &str,
    ) -> Result<String> {
        unlimited(scope)?;
        check_name(name)?;
        let many = self.all_notes(scope, "", PROJECTS, 1).await?.total;
        if many >= u64::from(MAX_PROJECTS) {
            return Err(Error::limited("there are too many projects").with("limit", MAX_PROJECTS));
        }
        // Any random id will do.
        let id = format!("proj-{}", JobId::mint().text());
        let settings = Project {
            name: name.to_owned(),
            description: description.to_owned(),
            ..Project::default()
        };
        self.put_project(scope, &id, &settings).await?;
        self.put_note(scope, "", PROJECTS, &id, Map::new()).await?;
        Ok(id)
    }

    /// Ids of the projects, the default one first.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn projects(&self, scope: &Scope) -> Result<Vec<String>> {
        let notes = self.all_notes(scope, "", PROJECTS, MAX_PROJECTS).await?;
        let made = notes.items.into_iter().map(|note| note.key);
        Ok(std::iter::once(DEFAULT_PROJECT.to_owned())
            .chain(made)
            .collect())
    }

    /// Checks that a project exists.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn check_project(&self, scope: &Scope, project: &str) -> Result<()> {
        let exists =
            project == DEFAULT_PROJECT || self.note(scope, "", PROJECTS, project).await?.is_some();
        match exists {
            true => Ok(()),
            false => Err(Error::not_found("Project not found").with("project_id", project)),
        }
    }

    /// Removes the memories and the settings of a project, and the project unless it is the
    /// default one.
    ///
    /// # Errors
    /// `NotFound` without it.
    pub async fn delete_project(&self, scope: &Scope, project: &str) -> Result<()> {
        unlimited(scope)?;
        self.check_project(scope, project).await?;
        let every = OwnerKind::ALL.map(|kind| (kind.field().into(), Value::str("*")));
        self.delete_all(scope, project, &every.into()).await?;
        for kind in [
            "webhook",
            "member",
            "export",
            "feedback",
            "profile",
            "profile-settings",
        ] {
            for note in self
                .all_notes(scope, project, kind, MAX_PROJECTS)
                .await?
                .items
            {
                self.delete_note(scope, project, kind, &note.key).await?;
            }
        }
        self.delete_note(scope, project, "project", "settings")
            .await?;
        self.delete_note(scope, "", PROJECTS, project).await?;
        Ok(())
    }

    async fn all_notes(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        limit: u32,
    ) -> Result<Page<Note>> {
        let query = NoteQuery {
            project: project.to_owned(),
            kind: kind.to_owned(),
            limit,
            offset: 0,
        };
        self.notes(scope, &query).await
    }

    /// The webhooks of a project, the oldest first.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn webhooks(&self, scope: &Scope, project: &str) -> Result<Vec<Webhook>> {
        unlimited(scope)?;
        let notes = self
            .all_notes(scope, project, "webhook", MAX_WEBHOOKS)
            .await?;
        Ok(notes.items.into_iter().map(webhook).collect())
    }

    /// Makes a webhook. Whether its URL may be called is for the caller to check.
    ///
    /// # Errors
    /// `Limited` if there are too many.
    pub async fn create_webhook(
        &self,
        scope: &Scope,
        project: &str,
        new: WebhookPatch,
    ) -> Result<Webhook> {
        unlimited(scope)?;
        if self.webhooks(scope, project).await?.len() >= MAX_WEBHOOKS as usize {
            return Err(Error::limited("there are too many webhooks").with("limit", MAX_WEBHOOKS));
        }
        let id = JobId::mint().text();
        // Where it is found by its id alone.
        let place = [("project".into(), Value::str(project))].into();
        self.put_note(scope, "", "webhooks", &id, place).await?;
        let body = webhook_body(&new);
        let note = self.put_note(scope, project, "webhook", &id, body).await?;
        Ok(webhook(note))
    }

    /// Changes a webhook.
    ///
    /// # Errors
    /// `NotFound` without it.
    pub async fn update_webhook(&self, scope: &Scope, id: &str, patch: WebhookPatch) -> Result<()> {
        unlimited(scope)?;
        let (project, old) = self.find_webhook(scope, id).await?;
        let old = webhook(old);
        let body = webhook_body(&WebhookPatch {
            name: patch.name.or(Some(old.name)),
            url: patch.url.or(Some(old.url)),
            event_types: patch.event_types.or(Some(old.event_types)),
        });
        let put = self.put_note(scope, &project, "webhook", id, body);
        put.await.map(drop)
    }

    /// Removes a webhook.
    ///
    /// # Errors
    /// `NotFound` without it.
    pub async fn delete_webhook(&self, scope: &Scope, id: &str) -> Result<()> {
        unlimited(scope)?;
        let (project, _) = self.find_webhook(scope, id).await?;
        self.delete_note(scope, &project, "webhook", id).await?;
        self.delete_note(scope, "", "webhooks", id).await.map(drop)
    }

    async fn find_webhook(&self, scope: &Scope, id: &str) -> Result<(String, Note)> {
        let none = || Error::not_found("Webhook not found");
        let place = self
            .note(scope, "", "webhooks", id)
            .await?
            .ok_or_else(none)?;
        let project = place.body.get("project").and_then(Value::as_str);
        let project = project.ok_or_else(none)?.to_owned();
        let note = self.note(scope, &project, "webhook", id).await?;
        Ok((project, note.ok_or_else(none)?))
    }

    /// Members of a project with their roles. They are a list for people: what somebody may do is
    /// said by its key.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn members(&self, scope: &Scope, project: &str) -> Result<Vec<(String, String)>> {
        unlimited(scope)?;
        let notes = self
            .all_notes(scope, project, "member", MAX_MEMBERS)
            .await?;
        let member = |note: Note| {
            let role = note.body.get("role").and_then(Value::as_str);
            let role = role.unwrap_or("READER").to_owned();
            (note.key, role)
        };
        Ok(notes.items.into_iter().map(member).collect())
    }

    /// Puts somebody on the list of members, or changes the role; `None` removes it.
    ///
    /// # Errors
    /// `Invalid` for another role than `READER` and `OWNER`, `NotFound` if nobody is removed.
    pub async fn put_member(
        &self,
        scope: &Scope,
        project: &str,
        email: &str,
        role: Option<&str>,
    ) -> Result<()> {
        unlimited(scope)?;
        check_name(email)?;
        match role {
            Some(role @ ("READER" | "OWNER")) => {
                let body = [("role".into(), Value::str(role))].into();
                let put = self.put_note(scope, project, "member", email, body);
                put.await.map(drop)
            }
            Some(_) => Err(Error::invalid("role must be READER or OWNER")),
            None => match self.delete_note(scope, project, "member", email).await? {
                true => Ok(()),
                false => Err(Error::not_found("Member not found")),
            },
        }
    }

    /// Stores what somebody thinks of a memory; the id of the feedback.
    ///
    /// # Errors
    /// `NotFound` without the memory.
    pub async fn feedback(&self, scope: &Scope, project: &str, new: &Feedback) -> Result<String> {
        self.memory(scope, project, new.memory_id).await?;
        let key = new.memory_id.text();
        let body = to_value(new)?.as_map().cloned().unwrap_or_default();
        self.put_note(scope, project, "feedback", &key, body)
            .await?;
        Ok(key)
    }

    /// Feedback on a memory.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn feedback_on(
        &self,
        scope: &Scope,
        project: &str,
        id: MemoryId,
    ) -> Result<Option<Feedback>> {
        let note = self.note(scope, project, "feedback", &id.text()).await?;
        note.map(|note| from_value(&Value::map(note.body)))
            .transpose()
    }
}

fn webhook_body(new: &WebhookPatch) -> Map {
    let text = |text: &Option<String>| Value::str(text.as_deref().unwrap_or_default());
    let types = new.event_types.iter().flatten();
    let types = types.map(|word| Value::str(word.as_str())).collect();
    [
        ("name", text(&new.name)),
        ("url", text(&new.url)),
        ("event_types", Value::list(types)),
    ]
    .map(|(key, value)| (key.into(), value))
    .into()
}

fn webhook(note: Note) -> Webhook {
    let text = |key: &str| note.body.get(key).and_then(Value::as_str);
    let [name, url] = ["name", "url"].map(|key| text(key).unwrap_or_default().to_owned());
    let types = note.body.get("event_types").and_then(Value::as_list);
    let types = types.unwrap_or_default().iter();
    let event_types = types.filter_map(Value::as_str).map(str::to_owned).collect();
    Webhook {
        webhook_id: note.key,
        project: note.project,
        name,
        url,
        event_types,
        created_at: note.created_at,
        updated_at: note.updated_at,
    }
}
