//! What nodes ask of long-term memory; the program around them answers.

use agentflow_graph::NodeContext;
use agentflow_types::{Map, Result, Value};
use async_trait::async_trait;

/// Owners of memories: the field (`user_id`, `agent_id`, `app_id`, `run_id`) and the name.
pub type OwnerNames = Vec<(&'static str, String)>;

/// What is looked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recall {
    /// What is asked; of a long one the beginning counts.
    pub query: String,
    /// Whose memories; all must be met.
    pub owners: OwnerNames,
    /// Further conditions, as Mem0's filters.
    pub filters: Map,
    /// Only with one of these categories; empty for all.
    pub categories: Vec<String>,
    /// Most memories; 10 if absent.
    pub top_k: Option<usize>,
    /// Least score; 0.1 if absent.
    pub threshold: Option<f64>,
    /// Whether the reranker judges them, if there is one.
    pub rerank: bool,
}

/// A memory that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Recalled {
    /// Its id.
    pub id: String,
    /// What it says.
    pub memory: String,
    /// From 0 to 1.
    pub score: f64,
}

/// What is added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remember {
    /// What was said, in order.
    pub messages: Vec<Said>,
    /// Whose it is.
    pub owners: OwnerNames,
    /// Whether facts are read out of it; otherwise it is kept as it was said.
    pub infer: bool,
    /// What is kept with it.
    pub metadata: Map,
    /// Categories, and what belongs there; empty for those of the project.
    pub categories: Vec<(String, String)>,
    /// Tells several adds of one task apart; a repeated task adds each of them once.
    pub part: String,
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// `user`, `assistant` or `system`.
    pub role: &'static str,
    /// What.
    pub content: String,
}

/// What came of an add.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// Id of the work in the background.
    pub event_id: String,
    /// `PENDING` or `SUCCEEDED`, as Mem0 says it.
    pub status: String,
    /// What is stored already, as Mem0 shows it.
    pub results: Vec<Value>,
}

/// Long-term memory, in the name of whoever a run belongs to: it reads and adds what the run's
/// creator may, by the rights and the limit that the [scope](NodeContext::scope) of the run has.
#[async_trait]
pub trait Memories: Send + Sync {
    /// Memories of the run's tenant that answer a question, best first.
    ///
    /// # Errors
    /// `Invalid` for what cannot be asked, `Denied` if the run's principal may not read.
    async fn recall(&self, context: &NodeContext, recall: Recall) -> Result<Vec<Recalled>>;

    /// Adds to the memories of the run's tenant, once for each part of a task: whatever is
    /// retried, and if the server dies meanwhile. A task that asks something after it added goes
    /// on in another run and adds again; ask in a node of its own.
    ///
    /// # Errors
    /// `Invalid` for what cannot be added, `Denied` if the run's principal may not write.
    async fn remember(&self, context: &NodeContext, remember: Remember) -> Result<Remembered>;
}
