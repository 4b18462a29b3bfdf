//! Assistants on the wire.

use agentflow_runs::service::{CreateAssistant, PatchAssistant};
use agentflow_storage::{page::PageQuery, record};
use agentflow_types::{Map, Result, Timestamp, graph::GraphSchemas};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::IfExistsWord;
use crate::page::{self, SortOrder};

/// Columns that assistants may be sorted by.
const COLUMNS: [&str; 5] = [
    "assistant_id",
    "created_at",
    "updated_at",
    "name",
    "graph_id",
];

/// An assistant: a graph with configuration, versioned.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Assistant {
    /// UUID.
    #[schema(value_type = String, format = Uuid)]
    assistant_id: String,
    /// The graph.
    graph_id: String,
    /// `{tags, recursion_limit, configurable}`.
    #[schema(value_type = Object)]
    config: Map,
    /// Static context.
    #[schema(value_type = Object)]
    context: Map,
    /// Metadata.
    #[schema(value_type = Object)]
    metadata: Map,
    /// Name for people.
    name: String,
    /// Creation.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Last change.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Version, from 1.
    version: i64,
    /// Description for people.
    description: Option<String>,
}

impl From<record::Assistant> for Assistant {
    fn from(a: record::Assistant) -> Self {
        Self {
            assistant_id: a.assistant_id.text(),
            graph_id: a.graph_id,
            config: a.config,
            context: a.context,
            metadata: a.metadata,
            name: a.name,
            created_at: a.created_at,
            updated_at: a.updated_at,
            version: a.version,
            description: a.description,
        }
    }
}

/// A new assistant.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct AssistantCreate {
    /// The graph.
    graph_id: String,
    /// UUID; made up if absent.
    assistant_id: Option<String>,
    /// `{tags, recursion_limit, configurable}`.
    #[schema(value_type = Option<Object>)]
    config: Option<Map>,
    /// Static context; not together with `config.configurable`.
    #[schema(value_type = Option<Object>)]
    context: Option<Map>,
    /// Metadata.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// What to do when the id exists.
    if_exists: Option<IfExistsWord>,
    /// Name; "Untitled" if absent.
    name: Option<String>,
    /// Description.
    description: Option<String>,
}

impl AssistantCreate {
    pub(crate) fn into_domain(self) -> Result<CreateAssistant> {
        Ok(CreateAssistant {
            assistant_id: self.assistant_id.map(|id| id.parse()).transpose()?,
            graph_id: self.graph_id,
            name: self.name,
            description: self.description,
            config: self.config.unwrap_or_default(),
            context: self.context.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
            if_exists: self.if_exists.unwrap_or_default().into(),
        })
    }
}

/// Changes of an assistant; they make a new version. Absent fields stay.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct AssistantPatch {
    /// The graph.
    graph_id: Option<String>,
    /// Configuration, replaced.
    #[schema(value_type = Option<Object>)]
    config: Option<Map>,
    /// Context, replaced.
    #[schema(value_type = Option<Object>)]
    context: Option<Map>,
    /// Metadata, merged.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// Name.
    name: Option<String>,
    /// Description.
    description: Option<String>,
}

impl From<AssistantPatch> for PatchAssistant {
    fn from(patch: AssistantPatch) -> Self {
        Self {
            graph_id: patch.graph_id,
            name: patch.name,
            description: patch.description,
            config: patch.config,
            context: patch.context,
            metadata: patch.metadata,
        }
    }
}

/// Which assistants to find; all conditions must hold.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct AssistantSearch {
    /// Metadata must contain this.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// Exact graph id.
    graph_id: Option<String>,
    /// Part of the name, upper and lower case alike.
    name: Option<String>,
    /// Most rows, 1 to 1000; 10 if absent.
    limit: Option<i64>,
    /// Rows to skip.
    offset: Option<i64>,
    /// `assistant_id`, `created_at`, `updated_at`, `name` or `graph_id`.
    sort_by: Option<String>,
    /// Direction.
    sort_order: Option<SortOrder>,
    /// Only these fields.
    pub(crate) select: Option<Vec<String>>,
}

impl AssistantSearch {
    /// The conditions; the rest of the request stays usable.
    pub(crate) fn query(&mut self) -> record::AssistantQuery {
        record::AssistantQuery {
            metadata: self.metadata.take().unwrap_or_default(),
            graph_id: self.graph_id.take(),
            name: self.name.take(),
        }
    }

    pub(crate) fn page(&mut self) -> Result<PageQuery> {
        page::query(
            self.limit,
            self.offset,
            self.sort_by.take(),
            self.sort_order,
            &COLUMNS,
        )
    }
}

/// Which versions to list.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct VersionSearch {
    /// Metadata must contain this.
    #[schema(value_type = Option<Object>)]
    pub(crate) metadata: Option<Map>,
    /// Most rows; 10 if absent.
    pub(crate) limit: Option<i64>,
    /// Rows to skip.
    pub(crate) offset: Option<i64>,
}

/// The version to select.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct VersionChoice {
    /// Its number; may be given in the query instead.
    pub(crate) version: Option<i64>,
}

/// JSON Schemas of a graph.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Schemas {
    /// The graph; absent for subgraphs.
    #[serde(skip_serializing_if = "Option::is_none")]
    graph_id: Option<String>,
    /// What a run takes.
    input_schema: Option<serde_json::Value>,
    /// What a run gives.
    output_schema: Option<serde_json::Value>,
    /// The state.
    state_schema: Option<serde_json::Value>,
    /// `configurable`.
    config_schema: Option<serde_json::Value>,
    /// Static context.
    context_schema: Option<serde_json::Value>,
}

impl Schemas {
    pub(crate) fn new(graph_id: Option<String>, schemas: GraphSchemas) -> Self {
        Self {
            graph_id,
            input_schema: schemas.input_schema,
            output_schema: schemas.output_schema,
            state_schema: schemas.state_schema,
            config_schema: schemas.config_schema,
            context_schema: schemas.context_schema,
        }
    }
}
