//! Organizations, projects and members in the platform's dialect. An organization is a tenant.

use agentflow_memory::{DEFAULT_PROJECT, Project};
use agentflow_types::{Error, Result, Scope, Value};
use axum::{Json as Out, extract::State};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::read;
use crate::{
    AppState,
    error::{Failure, Reply},
    extract::{Asker, Json as Body, Params, Text},
    wire::present,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(organizations))
        .routes(routes!(organization))
        .routes(routes!(organization_members))
        .routes(routes!(projects, create_project))
        .routes(routes!(project, update_project, delete_project))
        .routes(routes!(members, add_member, update_member, delete_member))
}

/// Checks that an organization is the caller's own.
///
/// # Errors
/// `NotFound`.
fn own(scope: &Scope, organization: &str) -> Result<()> {
    match organization == scope.tenant() {
        true => Ok(()),
        false => Err(Error::not_found("Organization not found")),
    }
}

fn organization_shown(scope: &Scope) -> Json {
    json!({ "org_id": scope.tenant(), "id": scope.tenant(), "name": scope.tenant(),
        "description": "" })
}

/// List the organizations that the key belongs to.
#[utoipa::path(get, path = "/api/v1/orgs/organizations", tag = "memories",
    responses((status = 200, body = Vec<Json>)))]
async fn organizations(Asker(scope): Asker) -> Out<Vec<Json>> {
    Out(vec![organization_shown(&scope)])
}

/// Get an organization.
#[utoipa::path(get, path = "/api/v1/orgs/organizations/{org_id}", tag = "memories",
    params(("org_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn organization(Asker(scope): Asker, Text(org): Text<String>) -> Reply<Out<Json>> {
    own(&scope, &org)?;
    Ok(Out(organization_shown(&scope)))
}

/// List the members of an organization: those of its default project.
#[utoipa::path(get, path = "/api/v1/orgs/organizations/{org_id}/members", tag = "memories",
    params(("org_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn organization_members(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text(org): Text<String>,
) -> Reply<Out<Json>> {
    own(&scope, &org)?;
    members_shown(&app, &scope, DEFAULT_PROJECT).await
}

async fn project_shown(app: &AppState, scope: &Scope, id: &str) -> Reply<Json> {
    let memory = app.memory()?;
    let settings = memory.project(scope, id).await?;
    let members = memory.members(scope, id).await?;
    let members = members
        .iter()
        .map(|(email, role)| json!({ "username": email, "role": role }));
    let categories = settings.custom_categories.iter();
    let categories: Vec<Json> = categories
        .map(|(name, what)| json!({ name: what }))
        .collect();
    let name = match settings.name.is_empty() {
        true => id,
        false => &settings.name,
    };
    let mut shown = match Value::map(settings.others.clone()).to_json() {
        Json::Object(map) => Json::Object(map),
        _ => json!({}),
    };
    let more = json!({
        "project_id": id,
        "id": id,
        "name": name,
        "description": settings.description,
        "custom_instructions": settings.custom_instructions,
        "agent_custom_instructions": settings.agent_custom_instructions,
        "custom_categories": if categories.is_empty() { Json::Null } else { json!(categories) },
        "multilingual": settings.multilingual,
        "decay": settings.decay,
        "members": members.collect::<Vec<_>>(),
    });
    if let (Json::Object(shown), Json::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    Ok(shown)
}

/// List the projects of an organization.
#[utoipa::path(get, path = "/api/v1/orgs/organizations/{org_id}/projects", tag = "memories",
    params(("org_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Vec<Json>)))]
async fn projects(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text(org): Text<String>,
) -> Reply<Out<Vec<Json>>> {
    own(&scope, &org)?;
    let mut shown = Vec::new();
    for id in app.memory()?.projects(&scope).await? {
        shown.push(project_shown(&app, &scope, &id).await?);
    }
    Ok(Out(shown))
}

/// A new project.
#[derive(Debug, Deserialize, ToSchema)]
struct NewProject {
    /// Name, for people.
    name: String,
    /// What it is for.
    description: Option<String>,
}

/// Make a project.
#[utoipa::path(post, path = "/api/v1/orgs/organizations/{org_id}/projects", tag = "memories",
    request_body = NewProject,
    params(("org_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn create_project(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text(org): Text<String>,
    Body(body): Body<NewProject>,
) -> Reply<Out<Json>> {
    own(&scope, &org)?;
    let description = body.description.unwrap_or_default();
    let create = app.memory()?;
    let id = create
        .create_project(&scope, &body.name, &description)
        .await?;
    Ok(Out(
        json!({ "message": "Project created successfully", "project_id": id }),
    ))
}

/// Checks that a project exists in the caller's own organization.
async fn check(app: &AppState, scope: &Scope, org: &str, project: &str) -> Result<(), Failure> {
    own(scope, org)?;
    Ok(app.memory()?.check_project(scope, project).await?)
}

/// Get a project with its settings.
#[utoipa::path(get, path = "/api/v1/orgs/organizations/{org_id}/projects/{project_id}",
    tag = "memories",
    params(("org_id" = String, Path, description = "Id."),
        ("project_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn project(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text((org, id)): Text<(String, String)>,
) -> Reply<Out<Json>> {
    check(&app, &scope, &org, &id).await?;
    Ok(Out(project_shown(&app, &scope, &id).await?))
}

/// Changes of a project; what is absent stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
struct ProjectPatch {
    /// Name, for people.
    name: Option<String>,
    /// What it is for.
    description: Option<String>,
    /// What the model is told besides.
    #[serde(deserialize_with = "present")]
    custom_instructions: Option<Option<String>>,
    /// What it is told besides about facts of agents.
    #[serde(deserialize_with = "present")]
    agent_custom_instructions: Option<Option<String>>,
    /// List of `{name: description}`.
    #[schema(value_type = Option<Vec<Object>>)]
    custom_categories: Option<Value>,
    /// Whether facts stay in the language in which they were said.
    multilingual: Option<bool>,
    /// Whether what was used lately comes first.
    decay: Option<bool>,
    /// Kept for clients.
    #[schema(value_type = Option<Object>)]
    memory_depth: Option<Value>,
    /// Kept for clients.
    #[schema(value_type = Option<Object>)]
    usecase_setting: Option<Value>,
    /// Kept for clients; there is no graph to enable.
    enable_graph: Option<bool>,
    /// Kept for clients.
    version: Option<String>,
}

impl ProjectPatch {
    fn apply(self, settings: &mut Project) -> Result<()> {
        if let Some(given) = &self.custom_categories {
            settings.custom_categories = read::categories(Some(given))?;
        }
        let set = |slot: &mut String, new: Option<String>| {
            if let Some(new) = new {
                *slot = new;
            }
        };
        set(&mut settings.name, self.name);
        set(&mut settings.description, self.description);
        if let Some(text) = self.custom_instructions {
            settings.custom_instructions = text;
        }
        if let Some(text) = self.agent_custom_instructions {
            settings.agent_custom_instructions = text;
        }
        settings.multilingual = self.multilingual.unwrap_or(settings.multilingual);
        settings.decay = self.decay.unwrap_or(settings.decay);
        let kept = [
            ("memory_depth", self.memory_depth),
            ("usecase_setting", self.usecase_setting),
            ("enable_graph", self.enable_graph.map(Value::Bool)),
            ("version", self.version.map(Value::str)),
        ];
        for (key, value) in kept {
            if let Some(value) = value {
                settings.others.insert(key.into(), value);
            }
        }
        Ok(())
    }
}

/// Change a project.
#[utoipa::path(patch, path = "/api/v1/orgs/organizations/{org_id}/projects/{project_id}",
    tag = "memories", request_body = ProjectPatch,
    params(("org_id" = String, Path, description = "Id."),
        ("project_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn update_project(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text((org, id)): Text<(String, String)>,
    Body(body): Body<ProjectPatch>,
) -> Reply<Out<Json>> {
    check(&app, &scope, &org, &id).await?;
    let memory = app.memory()?;
    let mut settings = memory.project(&scope, &id).await?;
    body.apply(&mut settings)?;
    memory.put_project(&scope, &id, &settings).await?;
    Ok(Out(json!({ "message": "Project updated successfully" })))
}

/// Remove a project with its memories; the default one is emptied.
#[utoipa::path(delete, path = "/api/v1/orgs/organizations/{org_id}/projects/{project_id}",
    tag = "memories",
    params(("org_id" = String, Path, description = "Id."),
        ("project_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn delete_project(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text((org, id)): Text<(String, String)>,
) -> Reply<Out<Json>> {
    check(&app, &scope, &org, &id).await?;
    app.memory()?.delete_project(&scope, &id).await?;
    Ok(Out(json!({ "message": "Project deleted successfully" })))
}

async fn members_shown(app: &AppState, scope: &Scope, project: &str) -> Reply<Out<Json>> {
    let members = app.memory()?.members(scope, project).await?;
    let shown = members
        .iter()
        .map(|(email, role)| json!({ "username": email, "email": email, "role": role }));
    Ok(Out(json!({ "members": shown.collect::<Vec<_>>() })))
}

/// List the members of a project.
#[utoipa::path(get, path = "/api/v1/orgs/organizations/{org_id}/projects/{project_id}/members",
    tag = "memories",
    params(("org_id" = String, Path, description = "Id."),
        ("project_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn members(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text((org, id)): Text<(String, String)>,
) -> Reply<Out<Json>> {
    check(&app, &scope, &org, &id).await?;
    members_shown(&app, &scope, &id).await
}

/// A member.
#[derive(Debug, Deserialize, ToSchema)]
struct Member {
    /// Address.
    email: String,
    /// `READER` or `OWNER`.
    role: String,
}

/// Put somebody on the list of members.
#[utoipa::path(post, path = "/api/v1/orgs/organizations/{org_id}/projects/{project_id}/members",
    tag = "memories", request_body = Member,
    params(("org_id" = String, Path, description = "Id."),
        ("project_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn add_member(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text((org, id)): Text<(String, String)>,
    Body(body): Body<Member>,
) -> Reply<Out<Json>> {
    check(&app, &scope, &org, &id).await?;
    let put = app.memory()?;
    put.put_member(&scope, &id, &body.email, Some(&body.role))
        .await?;
    Ok(Out(
        json!({ "message": "User added to the project successfully." }),
    ))
}

/// Change the role of a member.
#[utoipa::path(put, path = "/api/v1/orgs/organizations/{org_id}/projects/{project_id}/members",
    tag = "memories", request_body = Member,
    params(("org_id" = String, Path, description = "Id."),
        ("project_id" = String, Path, description = "Id.")),
    responses((status = 200, body = Json)))]
async fn update_member(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text((org, id)): Text<(String, String)>,
    Body(body): Body<Member>,
) -> Reply<Out<Json>> {
    check(&app, &scope, &org, &id).await?;
    let memory = app.memory()?;
    let known = memory.members(&scope, &id).await?;
    if !known.iter().any(|(email, _)| *email == body.email) {
        return Err(Error::not_found("Member not found").into());
    }
    memory
        .put_member(&scope, &id, &body.email, Some(&body.role))
        .await?;
    Ok(Out(json!({ "message": "User role updated successfully." })))
}

/// Take somebody off the list of members.
#[utoipa::path(delete, path = "/api/v1/orgs/organizations/{org_id}/projects/{project_id}/members",
    tag = "memories",
    params(("org_id" = String, Path, description = "Id."),
        ("project_id" = String, Path, description = "Id."),
        ("email" = String, Query, description = "Address.")),
    responses((status = 200, body = Json)))]
async fn delete_member(
    State(app): State<AppState>,
    Asker(scope): Asker,
    params: Params,
    Text((org, id)): Text<(String, String)>,
) -> Reply<Out<Json>> {
    check(&app, &scope, &org, &id).await?;
    let email = params.get("email").unwrap_or_default();
    app.memory()?.put_member(&scope, &id, email, None).await?;
    Ok(Out(
        json!({ "message": "User removed from the project successfully." }),
    ))
}
