//! Webhooks on the wire.

use agentflow_runs::letter::Call;
use agentflow_storage::outbox::Posted;
use agentflow_types::{Map, Timestamp, Value};
use serde::Serialize;
use utoipa::ToSchema;

/// A webhook that was given up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadWebhook {
    /// UUID; `webhook-id` of its calls is `msg_` and this.
    #[schema(value_type = String, format = Uuid)]
    webhook_id: String,
    /// Where it was to go.
    url: String,
    /// The run that it tells of.
    run_id: Option<String>,
    /// The run's thread.
    thread_id: Option<String>,
    /// How the run ended.
    status: Option<String>,
    /// What was to be said.
    #[schema(value_type = Object)]
    body: Map,
    /// Calls that were made.
    attempts: u32,
    /// Why the last one failed.
    error: String,
    /// When the run ended.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was given up.
    #[schema(value_type = String, format = DateTime)]
    given_up_at: Timestamp,
}

impl From<Posted> for DeadWebhook {
    fn from(posted: Posted) -> Self {
        let call = Call::of(&posted.letter).unwrap_or_default();
        let text = |key: &str| call.body.get(key).and_then(Value::as_str);
        let [run_id, thread_id, status] =
            ["run_id", "thread_id", "status"].map(|key| text(key).map(str::to_owned));
        Self {
            webhook_id: posted.letter.letter_id.text(),
            run_id,
            thread_id,
            status,
            url: call.url,
            body: call.body,
            attempts: posted.attempt,
            error: posted.error,
            created_at: posted.letter.created_at,
            given_up_at: posted.due_at,
        }
    }
}
