//! What is made of many memories: exports, summaries, profiles of users. A chat model writes
//! them; without one they are the memories themselves, and say so.

use agentflow_models::chat::ChatRequest;
use agentflow_storage::memories::{Job, JobStatus, Memory, Note, NoteQuery};
use agentflow_types::{
    Error, Map, MemoryId, Result, Scope, Timestamp, Value, from_value, message, to_value, value,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Service, Which,
    change::check_owned,
    derived::{EXPORTS, MADE_OF, MAX_EXPORTS, PROFILES},
    jobs::{EXPORT, PROFILE},
};

/// Most memories that one text is made of, the newest first.
const MAX_MEMORIES: u32 = 500;
/// Most characters of them.
const MAX_CHARS: usize = 100_000;
/// Most tokens of an answer.
const MAX_TOKENS: u64 = 8_000;
/// Most bytes of the schema of an export.
const MAX_SCHEMA_BYTES: usize = 64 << 10;
/// Most bytes of what somebody says memories are for.
const MAX_USE_BYTES: usize = 4 << 10;
/// Memories that a profile needs.
const LEAST_FOR_PROFILE: usize = 3;

/// What an export is to be like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Export {
    /// JSON Schema of the result.
    pub schema: Value,
    /// Which memories.
    pub filter: Map,
    /// What the model is told besides.
    pub instructions: Option<String>,
}

/// How a profile is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileStatus {
    /// There is one.
    Succeeded,
    /// It is being made.
    #[default]
    Pending,
    /// It could not be made.
    Failed,
    /// There are too few memories.
    InsufficientData,
}

/// A description of a user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// The text, or an object as the settings' schema says.
    pub profile: Value,
    /// How it is.
    pub status: ProfileStatus,
    /// How often one was made.
    pub generation_count: u64,
    /// When the last one was made.
    pub updated_at: Option<Timestamp>,
    /// The memories that it was made of.
    pub memory_ids: Vec<MemoryId>,
}

/// How profiles are made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProfileSettings {
    /// Whether they are made.
    pub enabled: bool,
    /// JSON Schema of a profile; `None` for plain text.
    pub schema: Option<Value>,
    /// What the model is told besides.
    pub custom_instructions: Option<String>,
}

impl Service {
    /// Begins an export; its id is the job's.
    ///
    /// # Errors
    /// `Invalid` for a filter that names no owner, or a schema that is no object.
    pub async fn export(&self, scope: &Scope, project: &str, export: &Export) -> Result<Job> {
        check_owned(&export.filter)?;
        if export.schema.as_map().is_none() || export.schema.json_text().len() > MAX_SCHEMA_BYTES {
            return Err(Error::invalid(
                "schema must be a JSON Schema of up to 64 KiB",
            ));
        }
        let payload = [("export".into(), to_value(export)?)].into();
        let job = self.new_job(project, EXPORT, format!("{project}/exports"), payload);
        self.post(scope, job).await
    }

    /// The result of an export: of this id, or the newest one with this filter.
    ///
    /// # Errors
    /// `NotFound` if there is none that is ready.
    pub async fn exported(
        &self,
        scope: &Scope,
        project: &str,
        key: std::result::Result<&str, &Map>,
    ) -> Result<Value> {
        let none = || Error::not_found("No memory export request found");
        let note = match key {
            Ok(id) => self.note(scope, project, EXPORTS, id).await?,
            Err(filter) => {
                let query = NoteQuery {
                    project: project.to_owned(),
                    kind: EXPORTS.into(),
                    limit: MAX_EXPORTS,
                    offset: 0,
                };
                let mut found = self.notes(scope, &query).await?.items;
                found
                    .retain(|note| note.body.get("filter").and_then(Value::as_map) == Some(filter));
                found.pop()
            }
        };
        let body = note.ok_or_else(none)?.body;
        body.get("result").cloned().ok_or_else(none)
    }

    pub(super) async fn do_export(&self, scope: &Scope, job: &Job) -> Result<()> {
        let export: Export = from_value(job.payload.get("export").unwrap_or(&Value::Null))?;
        let memories = self.newest_by(scope, &job.project, &export.filter).await?;
        let result = match &self.inner.models.chat {
            None => {
                let texts = memories
                    .iter()
                    .map(|memory| Value::str(memory.text.as_str()));
                Value::object([("memories", Value::list(texts.collect()))])
            }
            Some(_) => {
                let more = export.instructions.as_deref().unwrap_or_default();
                let rules = format!(
                    "Fill the given schema from the memories below, and from nothing else. Leave \
                    out what they do not say. {more}"
                );
                let text = self.write(&rules, &memories, Some(&export.schema)).await?;
                object(&text)?
            }
        };
        let ids = memories
            .iter()
            .map(|memory| Value::str(memory.memory_id.text()));
        let body = [
            ("filter", Value::map(export.filter)),
            ("result", result),
            (MADE_OF, Value::list(ids.collect())),
        ];
        let body = body.map(|(key, value)| (key.into(), value)).into();
        let id = job.job_id.text();
        let put = self.put_note(scope, &job.project, EXPORTS, &id, body);
        if self.drop_if_stale(scope, &put.await?).await? {
            return Err(Error::busy(
                "memories were removed while they were exported",
            ));
        }
        self.keep_newest(scope, &job.project, EXPORTS, MAX_EXPORTS)
            .await?;
        let result = Value::object([("memory_export_id", Value::str(id))]);
        self.finish(scope, job, vec![result]).await
    }

    /// A summary of memories; without a chat model, their texts.
    ///
    /// # Errors
    /// `Invalid` for a filter that names no owner.
    pub async fn summary(&self, scope: &Scope, project: &str, by: &Map) -> Result<String> {
        check_owned(by)?;
        let memories = self.newest_by(scope, project, by).await?;
        if memories.is_empty() || self.inner.models.chat.is_none() {
            let texts: Vec<&str> = memories.iter().map(|memory| memory.text.as_str()).collect();
            return Ok(texts.join("\n"));
        }
        let rules =
            "Summarise these memories in a few sentences. Say nothing that they do not say.";
        self.write(rules, &memories, None).await
    }

    /// How profiles are made.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn profile_settings(&self, scope: &Scope, project: &str) -> Result<ProfileSettings> {
        match self
            .note(scope, project, "profile-settings", "user")
            .await?
        {
            Some(note) => from_value(&Value::map(note.body)),
            None => Ok(ProfileSettings {
                enabled: true,
                ..ProfileSettings::default()
            }),
        }
    }

    /// Sets how profiles are made.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn put_profile_settings(
        &self,
        scope: &Scope,
        project: &str,
        settings: &ProfileSettings,
    ) -> Result<()> {
        let body = to_value(settings)?.as_map().cloned().unwrap_or_default();
        let put = self.put_note(scope, project, "profile-settings", "user", body);
        put.await.map(drop)
    }

    /// The profile of a user; `None` if none was ever asked for.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn profile(
        &self,
        scope: &Scope,
        project: &str,
        user: &str,
    ) -> Result<Option<Profile>> {
        let note = self.note(scope, project, PROFILES, user).await?;
        note.map(|note| from_value(&Value::map(note.body)))
            .transpose()
    }

    /// Begins to describe a user.
    ///
    /// # Errors
    /// `Invalid` if profiles are off.
    pub async fn describe(&self, scope: &Scope, project: &str, user: &str) -> Result<Job> {
        if !self.profile_settings(scope, project).await?.enabled {
            return Err(Error::invalid("profiles are not enabled for this project"));
        }
        if self.profile(scope, project, user).await?.is_none() {
            let empty = Profile::default();
            self.put_profile(scope, project, user, &empty).await?;
        }
        let payload = [("user_id".into(), Value::str(user))].into();
        let job = self.new_job(project, PROFILE, format!("{project}/profiles"), payload);
        self.post(scope, job).await
    }

    async fn put_profile(
        &self,
        scope: &Scope,
        project: &str,
        user: &str,
        profile: &Profile,
    ) -> Result<Note> {
        let body = to_value(profile)?.as_map().cloned().unwrap_or_default();
        self.put_note(scope, project, PROFILES, user, body).await
    }

    pub(super) async fn do_profile(&self, scope: &Scope, job: &Job) -> Result<()> {
        let user = job.payload.get("user_id").and_then(Value::as_str);
        let user = user.unwrap_or_default();
        let filter: Map = [("user_id".into(), Value::str(user))].into();
        let memories = self.newest_by(scope, &job.project, &filter).await?;
        let settings = self.profile_settings(scope, &job.project).await?;
        let old = self.profile(scope, &job.project, user).await?;
        let mut profile = old.unwrap_or_default();
        profile.status = ProfileStatus::InsufficientData;
        if memories.len() >= LEAST_FOR_PROFILE {
            profile.profile = self.described(&memories, &settings).await?;
            profile.status = ProfileStatus::Succeeded;
            profile.generation_count += 1;
            profile.memory_ids = memories.iter().map(|memory| memory.memory_id).collect();
        }
        profile.updated_at = Some(self.now());
        let put = self.put_profile(scope, &job.project, user, &profile);
        if self.drop_if_stale(scope, &put.await?).await? {
            return Err(Error::busy(
                "memories were removed while a user was described",
            ));
        }
        let result = Value::object([
            ("entity_id", Value::str(user)),
            ("status", to_value(&profile.status)?),
        ]);
        self.finish(scope, job, vec![result]).await
    }

    async fn described(&self, memories: &[Memory], settings: &ProfileSettings) -> Result<Value> {
        if self.inner.models.chat.is_none() {
            let texts: Vec<&str> = memories.iter().map(|memory| memory.text.as_str()).collect();
            return Ok(Value::str(texts.join("\n")));
        }
        let more = settings.custom_instructions.as_deref().unwrap_or_default();
        let rules = format!(
            "Describe the user whom these memories are about, so that an assistant can serve \
            well: who it is, what it likes, what it is doing. Say nothing that they do not say. {more}"
        );
        let text = self
            .write(&rules, memories, settings.schema.as_ref())
            .await?;
        match settings.schema {
            Some(_) => object(&text),
            None => Ok(Value::str(text)),
        }
    }

    /// The newest memories that count.
    async fn newest_by(&self, scope: &Scope, project: &str, by: &Map) -> Result<Vec<Memory>> {
        let which = Which {
            filter: by.clone(),
            latest_only: true,
            ..Which::default()
        };
        self.newest(scope, project, &which, MAX_MEMORIES).await
    }

    async fn write(
        &self,
        rules: &str,
        memories: &[Memory],
        schema: Option<&Value>,
    ) -> Result<String> {
        let Some((chat, model)) = &self.inner.models.chat else {
            return Err(Error::bug("nobody is there to write"));
        };
        let mut text = String::new();
        for memory in memories {
            if text.len() > MAX_CHARS {
                break;
            }
            let day = memory.happened_at.to_string();
            let day = day.get(..10).unwrap_or_default();
            text.push_str(&format!("{day}: {}\n", json!(memory.text)));
        }
        let request = ChatRequest {
            model: model.clone(),
            messages: vec![message::system(rules.to_owned()), message::human(text)],
            response_schema: schema.map(|schema| ("result".into(), schema.clone())),
            temperature: Some(0.0),
            max_tokens: Some(MAX_TOKENS),
            ..ChatRequest::default()
        };
        let answer = chat.complete(request, CancellationToken::new()).await?;
        Ok(answer.text)
    }

    /// Instructions for what facts are read out of conversations, for somebody's use of memories,
    /// and a sentence to try them with; a chat model writes both.
    ///
    /// # Errors
    /// `Invalid` for a use that is no short text; `Busy` without a chat model.
    pub async fn instructions(&self, use_case: &str) -> Result<(String, String)> {
        if use_case.trim().is_empty() || use_case.len() > MAX_USE_BYTES {
            return Err(Error::invalid("use_case must be a text of up to 4 KiB"));
        }
        let Some((chat, model)) = &self.inner.models.chat else {
            return Err(Error::busy("no chat model is configured"));
        };
        let rules = "Somebody sets up a memory for conversations and says what it is for. Answer \
            with a JSON object. `custom_instructions`: a short paragraph that tells which facts \
            and preferences are worth remembering for this use. `test_message`: one sentence that \
            somebody would really say there.";
        let text = value!({ "type": "string" });
        let schema = value!({
            "type": "object",
            "properties": { "custom_instructions": text, "test_message": text },
            "required": ["custom_instructions", "test_message"],
        });
        let request = ChatRequest {
            model: model.clone(),
            messages: vec![message::system(rules), message::human(use_case)],
            response_schema: Some(("instructions".into(), schema)),
            temperature: Some(0.0),
            max_tokens: Some(MAX_TOKENS),
            ..ChatRequest::default()
        };
        let answer = chat.complete(request, CancellationToken::new()).await?;
        let answer = object(&answer.text)?;
        let field = |name: &str| {
            let found = answer.as_map().and_then(|map| map.get(name)?.as_str());
            found.map(str::to_owned)
        };
        let both = field("custom_instructions").zip(field("test_message"));
        both.ok_or_else(|| Error::failed("the model's answer lacks what was asked for"))
    }

    /// Tells that a profile could not be made.
    pub(super) async fn gave_up(&self, scope: &Scope, job: &Job) -> Result<()> {
        if job.kind != PROFILE || job.status == JobStatus::Succeeded {
            return Ok(());
        }
        let user = job.payload.get("user_id").and_then(Value::as_str);
        let user = user.unwrap_or_default();
        let old = self.profile(scope, &job.project, user).await?;
        let failed = Profile {
            status: ProfileStatus::Failed,
            ..old.unwrap_or_default()
        };
        self.put_profile(scope, &job.project, user, &failed)
            .await
            .map(drop)
    }
}

/// The object in an answer; models like to put words or fences around it.
fn object(text: &str) -> Result<Value> {
    let wrong = || Error::failed("the model's answer holds no JSON object");
    let begin = text.find('{').ok_or_else(wrong)?;
    let end = text.rfind('}').ok_or_else(wrong)?;
    let json = text.get(begin..=end).ok_or_else(wrong)?;
    serde_json::from_str(json).map_err(|err| wrong().source_err(err))
}
