//! Exports, summaries, profiles and feedback in the platform's dialect.

use std::time::Duration;

use agentflow_memory::{Export, Feedback, Profile, ProfileSettings, ProfileStatus, Verdict, Which};
use agentflow_storage::{
    memories::{Job, JobStatus, OwnerKind},
    page::PageQuery,
};
use agentflow_types::{Clock, Error, JobId, Map, Result, SystemClock, Value};
use axum::Json as Out;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    place::{Place, memory_id},
    read,
};
use crate::{
    AppState,
    error::{Failure, Reply},
    extract::{Json as Body, Text},
    wire::present,
};

/// How long an answer waits for an export that is under way.
const EXPORTING: Duration = Duration::from_secs(10);
/// Kind of the notes that keep answers for requests that come again.
const REPEATED: &str = "profile-request";
/// Kind of the notes that tell which jobs one request for profiles made.
const REQUESTED: &str = "profile-jobs";
/// Notes of each of both kinds that a project keeps, the newest ones.
const MAX_REQUESTS: u32 = 1_000;
/// How long a request that comes again gets the answer of the first one.
const REPEATED_FOR: Duration = Duration::from_secs(86_400);
/// Most bytes of the key of such a request.
const MAX_KEY_BYTES: usize = 256;
/// Profiles of one sample.
const SAMPLE: std::ops::RangeInclusive<u32> = 1..=10;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create_export))
        .routes(routes!(get_export))
        .routes(routes!(summary))
        .routes(routes!(feedback))
        .routes(routes!(profile))
        .routes(routes!(profile_jobs))
        .routes(routes!(profile_job))
        .routes(routes!(settings, put_settings))
}

/// What is exported.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
struct ExportBody {
    /// JSON Schema of the result, or its text.
    #[schema(value_type = Object)]
    schema: Value,
    /// Which memories.
    #[schema(value_type = Option<Object>)]
    filters: Option<Map>,
    /// What the model is told besides.
    export_instructions: Option<String>,
    /// Id of an export.
    memory_export_id: Option<String>,
    /// Owners may stand beside the filters.
    #[schema(value_type = Option<String>)]
    user_id: Option<Value>,
    /// Owners may stand beside the filters.
    #[schema(value_type = Option<String>)]
    agent_id: Option<Value>,
    /// Owners may stand beside the filters.
    #[schema(value_type = Option<String>)]
    app_id: Option<Value>,
    /// Owners may stand beside the filters.
    #[schema(value_type = Option<String>)]
    run_id: Option<Value>,
}

impl ExportBody {
    /// The filter, with the owners that stand beside it.
    fn filter(&mut self) -> Map {
        let mut filter = self.filters.take().unwrap_or_default();
        let beside = [
            self.user_id.take(),
            self.agent_id.take(),
            self.app_id.take(),
            self.run_id.take(),
        ];
        for (kind, value) in OwnerKind::ALL.into_iter().zip(beside) {
            if let Some(value) = value.filter(|value| !value.is_null()) {
                filter.insert(kind.field().into(), value);
            }
        }
        filter
    }
}

/// Begin an export.
#[utoipa::path(post, path = "/v1/exports", tag = "memories", request_body = ExportBody,
    responses((status = 201, body = Json)))]
async fn create_export(
    place: Place,
    Body(mut body): Body<ExportBody>,
) -> Reply<(StatusCode, Out<Json>)> {
    let schema = match &body.schema {
        Value::Str(text) => serde_json::from_str(text)
            .map_err(|_| Error::invalid("schema must be a JSON Schema, or its text"))?,
        other => other.clone(),
    };
    let export = Export {
        schema,
        filter: body.filter(),
        instructions: body.export_instructions,
    };
    let job = place
        .memory
        .export(&place.scope, &place.project, &export)
        .await?;
    let message = "Memory export request received. The export will be ready in a few seconds.";
    let answer = json!({ "message": message, "id": job.job_id.text() });
    Ok((StatusCode::CREATED, Out(answer)))
}

/// Get the result of an export, by its id or by its filters.
#[utoipa::path(post, path = "/v1/exports/get", tag = "memories", request_body = ExportBody,
    responses((status = 200, body = Json)))]
async fn get_export(place: Place, Body(mut body): Body<ExportBody>) -> Reply<Out<Json>> {
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    let result = match &body.memory_export_id {
        Some(id) => {
            if let Ok(job) = id.parse::<JobId>() {
                let job = memory.wait(scope, project, job, EXPORTING).await;
                let job = job.map_err(|_| Error::not_found("No memory export request found"))?;
                if job.status == JobStatus::Failed {
                    return Err(Error::failed(format!("the export failed: {}", job.error)).into());
                }
            }
            memory.exported(scope, project, Ok(id)).await?
        }
        None => {
            let filter = body.filter();
            if filter.is_empty() {
                let text = "One of the filters: app_id, user_id, agent_id, run_id is required!";
                return Err(Error::invalid(text).into());
            }
            memory.exported(scope, project, Err(&filter)).await?
        }
    };
    Ok(Out(result.to_json()))
}

/// Which memories are summarised.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
struct SummaryBody {
    /// Which memories.
    #[schema(value_type = Option<Object>)]
    filters: Option<Map>,
}

/// Summarise memories.
#[utoipa::path(post, path = "/v1/summary", tag = "memories", request_body = SummaryBody,
    responses((status = 200, body = Json)))]
async fn summary(place: Place, Body(body): Body<SummaryBody>) -> Reply<Out<Json>> {
    let filter = body.filters.unwrap_or_default();
    let text = place
        .memory
        .summary(&place.scope, &place.project, &filter)
        .await?;
    Ok(Out(json!({ "summary": text })))
}

/// What somebody thinks of a memory.
#[derive(Debug, Deserialize, ToSchema)]
struct FeedbackBody {
    /// Which one.
    memory_id: String,
    /// `POSITIVE`, `NEGATIVE`, `VERY_NEGATIVE`; null takes it back.
    feedback: Option<String>,
    /// Why.
    feedback_reason: Option<String>,
}

/// Tell what a memory is worth.
#[utoipa::path(post, path = "/v1/feedback", tag = "memories", request_body = FeedbackBody,
    responses((status = 200, body = Json)))]
async fn feedback(place: Place, Body(body): Body<FeedbackBody>) -> Reply<Out<Json>> {
    let verdict = match body.feedback.as_deref().map(str::to_uppercase).as_deref() {
        None => None,
        Some("POSITIVE") => Some(Verdict::Positive),
        Some("NEGATIVE") => Some(Verdict::Negative),
        Some("VERY_NEGATIVE") => Some(Verdict::VeryNegative),
        Some(_) => {
            let text = "feedback must be POSITIVE, NEGATIVE, VERY_NEGATIVE or null";
            return Err(Error::invalid(text).into());
        }
    };
    let new = Feedback {
        memory_id: memory_id(&body.memory_id)?,
        feedback: verdict,
        reason: body.feedback_reason.clone(),
    };
    let id = place
        .memory
        .feedback(&place.scope, &place.project, &new)
        .await?;
    Ok(Out(json!({
        "id": id, "feedback": verdict, "feedback_reason": body.feedback_reason,
    })))
}

fn word(status: ProfileStatus) -> &'static str {
    match status {
        ProfileStatus::Succeeded => "succeeded",
        ProfileStatus::Pending => "pending",
        ProfileStatus::Failed => "failed",
        ProfileStatus::InsufficientData => "insufficient_data",
    }
}

/// Whether a user has memories.
///
/// # Errors
/// `NotFound` if not.
async fn check_known(place: &Place, user: &str) -> Result<()> {
    let which = Which {
        filter: read::only(OwnerKind::User.field(), Value::str(user)),
        show_expired: true,
        include_merged: true,
        include_sources: true,
        ..Which::default()
    };
    let one = PageQuery {
        limit: 1,
        ..PageQuery::default()
    };
    let (scope, project) = (&place.scope, &place.project);
    let found = place.memory.list(scope, project, &which, &one).await?;
    match found.items.is_empty() {
        true => Err(Error::not_found("User not found")),
        false => Ok(()),
    }
}

/// Get the profile of a user.
#[utoipa::path(get, path = "/v2/entities/user/{entity_id}/profile", tag = "memories",
    params(("entity_id" = String, Path, description = "Name of the user.")),
    responses((status = 200, body = Json)))]
async fn profile(place: Place, Text(user): Text<String>) -> Reply<Out<Json>> {
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    let settings = memory.profile_settings(scope, project).await?;
    let found = memory.profile(scope, project, &user).await?;
    if found.is_none() {
        check_known(&place, &user).await?;
    }
    let status = match (&found, settings.enabled) {
        (_, false) => "not_enabled",
        (Some(found), true) => word(found.status),
        (None, true) => "insufficient_data",
    };
    let found: Profile = found.unwrap_or_default();
    Ok(Out(json!({
        "profile": found.profile.to_json(),
        "status": status,
        "entity_type": "user",
        "entity_id": user,
        "updated_at": found.updated_at.map(|at| at.to_string()),
        "generation_count": found.generation_count,
    })))
}

/// Whose profiles are made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
struct ProfileJobBody {
    /// `trigger` for one user, `sample` for some.
    operation: String,
    /// `user`.
    entity_type: Option<String>,
    /// Name of the user.
    entity_id: Option<String>,
    /// Users of a sample, 1 to 10.
    limit: Option<u32>,
}

/// The users whom a request is about.
///
/// # Errors
/// `Invalid` if it names none.
async fn chosen(place: &Place, body: &ProfileJobBody) -> Result<Vec<String>> {
    let kind = body.entity_type.as_deref();
    if kind.is_some_and(|kind| kind != "user") {
        return Err(Error::invalid("entity_type must be user"));
    }
    match (body.operation.as_str(), &body.entity_id) {
        ("trigger", Some(user)) => {
            check_known(place, user).await?;
            Ok(vec![user.clone()])
        }
        ("trigger", None) => Err(Error::invalid("entity_id is required")),
        ("sample", _) => {
            let limit = body.limit.unwrap_or(5);
            if !SAMPLE.contains(&limit) {
                return Err(Error::invalid("limit must be between 1 and 10"));
            }
            let (scope, project) = (&place.scope, &place.project);
            let kind = Some(OwnerKind::User);
            let found = place.memory.entities(scope, project, kind, limit, 0);
            Ok(found.await?.items.into_iter().map(|one| one.name).collect())
        }
        _ => Err(Error::invalid("operation must be trigger or sample")),
    }
}

/// Begin to describe users.
#[utoipa::path(post, path = "/v2/profiles/jobs", tag = "memories", request_body = ProfileJobBody,
    responses((status = 200, body = Json)))]
async fn profile_jobs(
    place: Place,
    headers: HeaderMap,
    Body(body): Body<ProfileJobBody>,
) -> Reply<Out<Json>> {
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    let key = headers
        .get("idempotency-key")
        .and_then(|key| key.to_str().ok());
    let key = key.filter(|key| (1..=MAX_KEY_BYTES).contains(&key.len()));
    if let Some(key) = key
        && let Some(note) = memory.note(scope, project, REPEATED, key).await?
        && SystemClock.now().since(note.updated_at) < REPEATED_FOR
    {
        let mut answer = Value::map(note.body).to_json();
        answer["replayed"] = json!(true);
        return Ok(Out(answer));
    }
    let users = chosen(&place, &body).await?;
    let mut jobs = Vec::new();
    for user in &users {
        let job = memory.describe(scope, project, user).await?;
        jobs.push(Value::str(job.job_id.text()));
    }
    let Some(id) = jobs.first().and_then(Value::as_str).map(str::to_owned) else {
        return Err(Error::invalid("no user has memories yet").into());
    };
    let request = [
        ("operation".into(), Value::str(body.operation.as_str())),
        ("jobs".into(), Value::list(jobs)),
    ];
    let put = memory.put_note(scope, project, REQUESTED, &id, request.into());
    put.await?;
    memory
        .keep_newest(scope, project, REQUESTED, MAX_REQUESTS)
        .await?;
    let answer = json!({
        "job_id": id,
        "status": "pending",
        "status_url": format!("/v2/profiles/jobs/{id}/"),
        "operation": body.operation,
        "entity_type": "user",
        "entity_count_reserved": users.len(),
        "event_id": id,
        "replayed": false,
        "sampled": users.len(),
        "entity_ids": users,
    });
    if let (Some(key), Some(body)) = (key, Value::from_json(&answer).as_map().cloned()) {
        memory.put_note(scope, project, REPEATED, key, body).await?;
        memory
            .keep_newest(scope, project, REPEATED, MAX_REQUESTS)
            .await?;
    }
    Ok(Out(answer))
}

/// Get how a description of users goes on.
#[utoipa::path(get, path = "/v2/profiles/jobs/{job_id}", tag = "memories",
    params(("job_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn profile_job(place: Place, Text(id): Text<String>) -> Reply<Out<Json>> {
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    let note = memory.note(scope, project, REQUESTED, &id).await?;
    let request = note.ok_or_else(|| Error::not_found("Job not found"))?.body;
    let ids = request.get("jobs").and_then(Value::as_list);
    let ids = ids.unwrap_or_default().iter();
    let mut progress = Progress::default();
    for id in ids.filter_map(|id| id.as_str()?.parse::<JobId>().ok()) {
        progress.count(&memory.event(scope, project, id).await?);
    }
    let operation = request.get("operation").and_then(Value::as_str);
    Ok(Out(json!({ "job": {
        "id": id, "job_id": id, "operation": operation, "entity_type": "user",
        "status": progress.status(), "total": progress.total, "completed": progress.completed(),
        "succeeded": progress.succeeded, "failed": progress.failed, "skipped": progress.skipped,
        "enumeration_complete": true,
    } })))
}

/// How far the profiles of one request are.
#[derive(Debug, Default)]
struct Progress {
    total: u32,
    running: u32,
    succeeded: u32,
    failed: u32,
    /// Users with too few memories.
    skipped: u32,
}

impl Progress {
    fn count(&mut self, job: &Job) {
        self.total += 1;
        let made = job.results.first().and_then(Value::as_map);
        let made = made.and_then(|made| made.get("status")?.as_str());
        match job.status {
            JobStatus::Pending => {}
            JobStatus::Running => self.running += 1,
            JobStatus::Failed => self.failed += 1,
            JobStatus::Succeeded if made == Some(word(ProfileStatus::InsufficientData)) => {
                self.skipped += 1;
            }
            JobStatus::Succeeded => self.succeeded += 1,
        }
    }

    const fn completed(&self) -> u32 {
        self.succeeded + self.failed + self.skipped
    }

    const fn status(&self) -> &'static str {
        match (self.completed() == self.total, self.failed) {
            (true, 0) => "succeeded",
            (true, _) => "failed",
            (false, _) if self.completed() + self.running == 0 => "pending",
            (false, _) => "running",
        }
    }
}

fn settings_shown(settings: &ProfileSettings) -> Json {
    json!({
        "enabled": settings.enabled,
        "capabilities": { "user": true },
        "entities": { "user": {
            "schema": settings.schema.as_ref().map(Value::to_json),
            "custom_instructions": settings.custom_instructions,
        } },
    })
}

/// Get how profiles are made.
#[utoipa::path(get, path = "/v2/profiles/settings", tag = "memories",
    responses((status = 200, body = Json)))]
async fn settings(place: Place) -> Reply<Out<Json>> {
    let settings = place
        .memory
        .profile_settings(&place.scope, &place.project)
        .await?;
    Ok(Out(settings_shown(&settings)))
}

/// Changes of how profiles are made; null clears.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SettingsBody {
    /// Whether they are made.
    enabled: Option<bool>,
    /// Settings by kind.
    entities: Option<EntitySettings>,
}

/// Settings by kind.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EntitySettings {
    /// Of profiles of users.
    user: Option<UserSettings>,
}

/// Settings of profiles of users.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserSettings {
    /// JSON Schema of a profile.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Object>)]
    schema: Option<Option<Value>>,
    /// What the model is told besides.
    #[serde(default, deserialize_with = "present")]
    custom_instructions: Option<Option<String>>,
}

/// Set how profiles are made.
#[utoipa::path(post, path = "/v2/profiles/settings", tag = "memories", request_body = SettingsBody,
    responses((status = 200, body = Json)))]
async fn put_settings(place: Place, Body(body): Body<SettingsBody>) -> Reply<Out<Json>> {
    let (scope, project, memory) = (&place.scope, &place.project, &place.memory);
    let mut settings = memory.profile_settings(scope, project).await?;
    settings.enabled = body.enabled.unwrap_or(settings.enabled);
    let user = body
        .entities
        .and_then(|entities| entities.user)
        .unwrap_or_default();
    if let Some(schema) = user.schema {
        if schema
            .as_ref()
            .is_some_and(|schema| schema.as_map().is_none())
        {
            return Err(Error::invalid("schema must be a JSON Schema, or null").into());
        }
        settings.schema = schema;
    }
    if let Some(text) = user.custom_instructions {
        settings.custom_instructions = text;
    }
    memory
        .put_profile_settings(scope, project, &settings)
        .await?;
    Ok::<_, Failure>(Out(settings_shown(&settings)))
}
