//! Assistants: graphs with configuration, versioned.

use agentflow_storage::{
    page::{Page, PageQuery},
    record::{Assistant, AssistantQuery, ThreadQuery},
};
use agentflow_types::{
    AssistantId, Error, Map, Result, Scope, Value,
    graph::{Drawing, GraphSchemas},
};

use super::Service;
use crate::config::assistant_id;

/// Threads deleted per page when an assistant goes with its threads.
const DELETE_PAGE: u32 = 100;

/// What to do when the thing to create exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfExists {
    /// Refuse.
    #[default]
    Raise,
    /// Return what exists.
    DoNothing,
}

/// A new assistant.
#[derive(Clone, Debug, Default)]
pub struct CreateAssistant {
    /// Id; minted if absent.
    pub assistant_id: Option<AssistantId>,
    /// Graph.
    pub graph_id: String,
    /// Name; "Untitled" if absent.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Configuration.
    pub config: Map,
    /// Static context.
    pub context: Map,
    /// Metadata.
    pub metadata: Map,
    /// What to do when the id exists.
    pub if_exists: IfExists,
}

/// Changes of an assistant; absent fields stay.
#[derive(Clone, Debug, Default)]
pub struct PatchAssistant {
    /// Graph.
    pub graph_id: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Configuration, replaced.
    pub config: Option<Map>,
    /// Context, replaced.
    pub context: Option<Map>,
    /// Metadata, merged.
    pub metadata: Option<Map>,
}

fn not_found(id: impl std::fmt::Display) -> Error {
    Error::not_found(format!("Assistant with ID {id} not found"))
}

/// Config and context mirror each other: whichever is given fills the other one.
fn mirror(config: &mut Map, context: &mut Map) -> Result<()> {
    let configurable = config.get("configurable").and_then(Value::as_map).cloned();
    match configurable {
        Some(map) if !map.is_empty() && !context.is_empty() => Err(Error::invalid(
            "Cannot specify both configurable and context. Prefer setting context alone.",
        )),
        Some(map) if !map.is_empty() => {
            *context = map;
            Ok(())
        }
        _ if !context.is_empty() => {
            config.insert("configurable".into(), Value::map(context.clone()));
            Ok(())
        }
        _ => Ok(()),
    }
}

impl Service {
    /// Creates an assistant.
    ///
    /// # Errors
    /// `NotFound` for an unknown graph, `Conflict` if the id exists, `Invalid` if both
    /// `configurable` and context are given.
    pub async fn create_assistant(
        &self,
        scope: &Scope,
        create: CreateAssistant,
    ) -> Result<Assistant> {
        self.host(&create.graph_id)?;
        let id = create.assistant_id.unwrap_or_else(AssistantId::mint);
        if let Some(existing) = self.backend.assistants.get(scope, id).await? {
            return match create.if_exists {
                IfExists::DoNothing => Ok(existing),
                IfExists::Raise => Err(Error::conflict(format!(
                    "Assistant with ID {id} already exists"
                ))),
            };
        }
        let (mut config, mut context) = (create.config, create.context);
        mirror(&mut config, &mut context)?;
        let now = self.now();
        let assistant = Assistant {
            assistant_id: id,
            graph_id: create.graph_id,
            version: 1,
            name: create.name.unwrap_or_else(|| "Untitled".into()),
            description: create.description,
            config,
            context,
            metadata: create.metadata,
            created_at: now,
            updated_at: now,
        };
        self.backend
            .assistants
            .insert(scope, assistant.clone())
            .await?;
        Ok(assistant)
    }

    /// The assistant in its selected version.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_assistant(&self, scope: &Scope, id: AssistantId) -> Result<Assistant> {
        self.backend
            .assistants
            .get(scope, id)
            .await?
            .ok_or_else(|| not_found(id))
    }

    /// The assistant that an id or a graph id names.
    ///
    /// # Errors
    /// `Unprocessable` if the text is neither; `NotFound`.
    pub async fn resolve_assistant(&self, scope: &Scope, text: &str) -> Result<Assistant> {
        let id = match assistant_id(text) {
            Some(id) => id,
            None if self.by_graph.contains_key(text) => {
                AssistantId::system_in(scope.tenant(), text)
            }
            None => {
                let known: Vec<String> = self.graphs().into_iter().map(|g| g.graph_id).collect();
                return Err(Error::unprocessable(format!(
                    "Invalid assistant: '{text}'. Must be either:\n- A valid assistant UUID, or\n\
                     - One of the registered graphs: {}",
                    known.join(", ")
                )));
            }
        };
        self.get_assistant(scope, id).await
    }

    /// Stores a new version with the changes and selects it.
    ///
    /// # Errors
    /// `NotFound` for the assistant or a new graph.
    pub async fn update_assistant(
        &self,
        scope: &Scope,
        id: AssistantId,
        patch: PatchAssistant,
    ) -> Result<Assistant> {
        let mut assistant = self.get_assistant(scope, id).await?;
        if let Some(graph_id) = patch.graph_id {
            self.host(&graph_id)?;
            assistant.graph_id = graph_id;
        }
        assistant.name = patch.name.unwrap_or(assistant.name);
        assistant.description = patch.description.or(assistant.description);
        if patch.config.is_some() || patch.context.is_some() {
            let mut config = patch.config.unwrap_or_default();
            let mut context = patch.context.unwrap_or_default();
            mirror(&mut config, &mut context)?;
            (assistant.config, assistant.context) = (config, context);
        }
        for (key, value) in patch.metadata.unwrap_or_default() {
            assistant.metadata.insert(key, value);
        }
        assistant.updated_at = self.now();
        self.backend
            .assistants
            .insert_version(scope, assistant)
            .await
    }

    /// Removes an assistant, with the threads that were made for it if `delete_threads` says so.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_assistant(
        &self,
        scope: &Scope,
        id: AssistantId,
        delete_threads: DeleteThreads,
    ) -> Result<()> {
        if delete_threads == DeleteThreads::Yes {
            let mut metadata = Map::new();
            metadata.insert("assistant_id".into(), Value::str(id.text()));
            let query = ThreadQuery {
                metadata,
                ..ThreadQuery::default()
            };
            loop {
                let page = PageQuery {
                    limit: DELETE_PAGE,
                    ..PageQuery::default()
                };
                let found = self.backend.threads.search(scope, &query, &page).await?;
                if found.items.is_empty() {
                    break;
                }
                for thread in found.items {
                    self.delete_thread(scope, thread.thread_id).await?;
                }
            }
        }
        match self.backend.assistants.delete(scope, id).await? {
            true => Ok(()),
            false => Err(not_found(id)),
        }
    }

    /// One page of assistants.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn search_assistants(
        &self,
        scope: &Scope,
        query: &AssistantQuery,
        page: &PageQuery,
    ) -> Result<Page<Assistant>> {
        self.backend.assistants.search(scope, query, page).await
    }

    /// Versions of an assistant, newest first.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn assistant_versions(
        &self,
        scope: &Scope,
        id: AssistantId,
        metadata: &Map,
        limit: u32,
        offset: u64,
    ) -> Result<Vec<Assistant>> {
        let versions = self
            .backend
            .assistants
            .versions(scope, id, metadata, limit, offset)
            .await?;
        if versions.is_empty() {
            self.get_assistant(scope, id).await?;
        }
        Ok(versions)
    }

    /// Selects a version.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn set_latest(
        &self,
        scope: &Scope,
        id: AssistantId,
        version: i64,
    ) -> Result<Assistant> {
        self.backend
            .assistants
            .select_version(scope, id, version)
            .await
    }

    /// Picture of the assistant's graph.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn drawing(&self, scope: &Scope, assistant: &str, depth: u32) -> Result<Drawing> {
        let assistant = self.resolve_assistant(scope, assistant).await?;
        self.host(&assistant.graph_id)?
            .drawing(&assistant.graph_id, depth)
            .await
    }

    /// JSON Schemas of the assistant's graph, with its id.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn schemas(&self, scope: &Scope, assistant: &str) -> Result<(String, GraphSchemas)> {
        let assistant = self.resolve_assistant(scope, assistant).await?;
        let schemas = self
            .host(&assistant.graph_id)?
            .schemas(&assistant.graph_id)
            .await?;
        Ok((assistant.graph_id, schemas))
    }

    /// Subgraphs of the assistant's graph by namespace.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn subgraphs(
        &self,
        scope: &Scope,
        assistant: &str,
        namespace: Option<&str>,
        recurse: bool,
    ) -> Result<Vec<(String, GraphSchemas)>> {
        let assistant = self.resolve_assistant(scope, assistant).await?;
        let host = self.host(&assistant.graph_id)?;
        host.subgraphs(&assistant.graph_id, namespace, recurse)
            .await
    }
}

/// Whether threads go with their assistant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteThreads {
    /// They do.
    Yes,
    /// They stay.
    No,
}
