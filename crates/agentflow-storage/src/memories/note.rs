//! Small records around memories: settings, webhooks, exports, feedback, profiles.

use agentflow_types::{Map, Timestamp};
use serde::{Deserialize, Serialize};

/// A small record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The project, within the tenant; empty for what belongs to no project.
    pub project: String,
    /// What it is: `project`, `webhook`, `export`, …
    pub kind: String,
    /// Unique within tenant, project and kind.
    pub key: String,
    /// Counts from 1, over its end too.
    pub version: u64,
    /// The content.
    pub body: Map,
    /// Whether it is gone; then it is in no answer.
    pub is_deleted: bool,
    /// Creation.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

/// Which notes; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NoteQuery {
    /// Of this project.
    pub project: String,
    /// Of this kind.
    pub kind: String,
    /// Most rows.
    pub limit: u32,
    /// Rows to skip.
    pub offset: u64,
}
