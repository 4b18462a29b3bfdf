//! Cases of [`crate::checkpoint::Checkpoints`].

mod deltas;
mod threads;
mod values;
mod writes;

use agentflow_types::Result;

use super::{sample::key, suite};
use crate::{
    Backend,
    checkpoint::{CheckpointQuery, CheckpointTuple},
};

pub use deltas::*;
pub use threads::*;
pub use values::*;
pub use writes::*;

suite! {
    ($)
    /// Instantiates the cases of the checkpoints port.
    checkpoint_conformance:
    nothing_is_there_at_first,
    what_is_put_is_read_back,
    values_keep_their_types,
    versions_keep_their_types,
    unknown_keys_are_kept,
    a_put_replaces,
    the_newest_has_the_greatest_id,
    namespaces_are_apart,
    slots_are_special_or_positions,
    the_first_write_to_a_slot_wins,
    special_writes_replace,
    mixed_writes_do_not_replace,
    writes_sort_by_path_task_and_slot,
    writes_need_no_checkpoint,
    list_is_newest_first,
    list_conditions_hold_together,
    list_compares_metadata_entries,
    a_fence_must_hold,
    a_thread_must_rest,
    a_commit_is_all_or_nothing,
    an_empty_commit_is_fine,
    a_thread_is_deleted_whole,
    a_copy_is_independent,
    runs_take_their_checkpoints_along,
    pruning_keeps_the_newest_of_each_namespace,
    pruning_can_remove_all,
    what_a_thread_takes_is_told,
    deltas_are_found_along_the_parents,
    deltas_of_other_branches_do_not_count,
    pruning_keeps_what_deltas_need,
    large_values_are_kept,
    sends_of_old_checkpoints_come_from_the_parent,
}

async fn list(backend: &Backend, query: CheckpointQuery) -> Result<Vec<String>> {
    let found = backend.checkpoints.list(&query).await?;
    let name = |tuple: CheckpointTuple| {
        let id = tuple.key.checkpoint_id.unwrap_or_default();
        format!(
            "{} {} {}",
            tuple.key.thread_id,
            tuple.key.checkpoint_ns,
            &id[id.len() - 1..]
        )
    };
    Ok(found.into_iter().map(name).collect())
}

async fn get(backend: &Backend, thread: &str, n: Option<u8>) -> Result<Option<CheckpointTuple>> {
    backend.checkpoints.get(&key(thread, "", n)).await
}
