//! Checkpoints of a thread that must stay as it was seen while they are stored.

use std::sync::Arc;

use agentflow_storage::checkpoint::{
    CheckpointKey, CheckpointOp, CheckpointQuery, CheckpointTuple, Checkpoints, Fence, Prune, Rest,
    delta::DeltaHistory, usage::Usage,
};
use agentflow_types::{Result, Str};
use async_trait::async_trait;

/// The checkpoints, with every commit bound to what was seen.
pub(crate) fn saver(inner: Arc<dyn Checkpoints>, rest: Rest) -> Arc<dyn Checkpoints> {
    Arc::new(AtRest { inner, rest })
}

struct AtRest {
    inner: Arc<dyn Checkpoints>,
    rest: Rest,
}

#[async_trait]
impl Checkpoints for AtRest {
    async fn commit(&self, ops: Vec<CheckpointOp>, fence: Option<Fence>) -> Result<()> {
        match fence {
            None => self.inner.commit_at_rest(ops, self.rest).await,
            Some(_) => self.inner.commit(ops, fence).await,
        }
    }

    async fn commit_at_rest(&self, ops: Vec<CheckpointOp>, rest: Rest) -> Result<()> {
        self.inner.commit_at_rest(ops, rest).await
    }

    async fn get(&self, key: &CheckpointKey) -> Result<Option<CheckpointTuple>> {
        self.inner.get(key).await
    }

    async fn list(&self, query: &CheckpointQuery) -> Result<Vec<CheckpointTuple>> {
        self.inner.list(query).await
    }

    async fn take_over(&self, thread_id: &str, fence: Fence) -> Result<()> {
        self.inner.take_over(thread_id, fence).await
    }

    async fn delta_history(
        &self,
        key: &CheckpointKey,
        channels: &[Str],
    ) -> Result<Vec<DeltaHistory>> {
        self.inner.delta_history(key, channels).await
    }

    async fn delete_thread(&self, thread_id: &str) -> Result<()> {
        self.inner.delete_thread(thread_id).await
    }

    async fn copy_thread(&self, from: &str, to: &str) -> Result<()> {
        self.inner.copy_thread(from, to).await
    }

    async fn delete_for_runs(&self, run_ids: &[String]) -> Result<()> {
        self.inner.delete_for_runs(run_ids).await
    }

    async fn prune(&self, thread_ids: &[String], strategy: Prune) -> Result<()> {
        self.inner.prune(thread_ids, strategy).await
    }

    async fn usage(&self, thread_id: &str) -> Result<Option<Usage>> {
        self.inner.usage(thread_id).await
    }
}
