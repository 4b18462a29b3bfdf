//! Webhooks of projects in the platform's dialect.

use agentflow_memory::{Webhook, WebhookPatch};
use agentflow_types::{Error, Result};
use axum::{Json as Out, extract::State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    error::Reply,
    extract::{Asker, Json as Body, Text},
};

/// What a webhook may be told of.
const EVENTS: [&str; 4] = [
    "memory_add",
    "memory_update",
    "memory_delete",
    "memory_categorize",
];
/// How events of the platform begin that never happen here: an add is one job, and told of by the
/// memories that it makes.
const NEVER: &str = "ingest_job_";

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(update, delete_webhook))
}

fn shown(hook: &Webhook) -> Json {
    json!({
        "webhook_id": hook.webhook_id,
        "id": hook.webhook_id,
        "name": hook.name,
        "url": hook.url,
        "event_types": hook.event_types,
        "owner": Json::Null,
        "is_active": true,
        "project": hook.project,
        "created_at": hook.created_at.to_string(),
        "updated_at": hook.updated_at.to_string(),
    })
}

/// A webhook, or changes of one.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
struct WebhookBody {
    /// Name, for people.
    name: Option<String>,
    /// Where.
    url: Option<String>,
    /// Which events.
    event_types: Option<Vec<String>>,
}

impl WebhookBody {
    fn into_domain(self, app: &AppState) -> Result<WebhookPatch> {
        for word in self.event_types.iter().flatten() {
            let name = word.replace(':', "_");
            if name.starts_with(NEVER) {
                let text = format!(
                    "event_types: {word:?} never happens on this server: ask for memory_add, \
                    and for the state of a job at /v1/event/{{event_id}}/"
                );
                return Err(Error::invalid(text));
            }
            if !EVENTS.contains(&name.as_str()) {
                let text = format!("event_types: {word:?} is none of {}", EVENTS.join(", "));
                return Err(Error::invalid(text));
            }
        }
        if let Some(url) = &self.url {
            app.service.check_webhook(Some(url))?;
        }
        Ok(WebhookPatch {
            name: self.name,
            url: self.url,
            event_types: self.event_types,
        })
    }
}

/// List the webhooks of a project.
#[utoipa::path(get, path = "/api/v1/webhooks/projects/{project_id}", tag = "memories",
    params(("project_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Vec<Json>)))]
async fn list(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text(project): Text<String>,
) -> Reply<Out<Vec<Json>>> {
    let memory = app.memory()?;
    memory.check_project(&scope, &project).await?;
    let hooks = memory.webhooks(&scope, &project).await?;
    Ok(Out(hooks.iter().map(shown).collect()))
}

/// Make a webhook.
#[utoipa::path(post, path = "/api/v1/webhooks/projects/{project_id}", tag = "memories",
    request_body = WebhookBody,
    params(("project_id" = String, Path, description = "Id.")),
    responses((status = 201, body = Json)))]
async fn create(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text(project): Text<String>,
    Body(body): Body<WebhookBody>,
) -> Reply<(StatusCode, Out<Json>)> {
    let memory = app.memory()?;
    memory.check_project(&scope, &project).await?;
    let new = body.into_domain(&app)?;
    if new.url.is_none() || new.event_types.as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::invalid("a webhook needs url and event_types").into());
    }
    let hook = memory.create_webhook(&scope, &project, new).await?;
    Ok((StatusCode::CREATED, Out(shown(&hook))))
}

/// Change a webhook.
#[utoipa::path(put, path = "/api/v1/webhooks/{webhook_id}", tag = "memories",
    request_body = WebhookBody,
    params(("webhook_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn update(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text(id): Text<String>,
    Body(body): Body<WebhookBody>,
) -> Reply<Out<Json>> {
    let patch = body.into_domain(&app)?;
    app.memory()?.update_webhook(&scope, &id, patch).await?;
    Ok(Out(json!({ "message": "Webhook updated successfully" })))
}

/// Remove a webhook.
#[utoipa::path(delete, path = "/api/v1/webhooks/{webhook_id}", tag = "memories",
    params(("webhook_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn delete_webhook(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text(id): Text<String>,
) -> Reply<Out<Json>> {
    app.memory()?.delete_webhook(&scope, &id).await?;
    Ok(Out(json!({ "message": "Webhook deleted successfully" })))
}
