//! Finding the tasks of the next superstep.

use std::sync::Arc;

use agentflow_types::{Error, Map, Value};

use super::Board;
use crate::{
    channel::Slot,
    core::{
        ids::{TaskId, TaskIds, task_ns},
        task::{Failed, Path, Pending, Task, read_send},
        writes::stored_answers,
    },
    layout::{ChanId, NodeId},
};

/// What a superstep is prepared with.
#[derive(Clone, Copy)]
pub(crate) struct Prepare<'a> {
    /// Namespace of the graph.
    pub(crate) ns: &'a str,
    /// Number of the superstep.
    pub(crate) step: i64,
    /// Writes stored beside the checkpoint.
    pub(crate) pending: &'a [Pending],
    /// Last superstep that may run.
    pub(crate) stop: i64,
    /// Answers by interrupt id.
    pub(crate) resume_map: Option<&'a Map>,
}

impl Board {
    /// The task that gets the error of `failed`, which belongs to the graph with namespace
    /// `with.ns`; `None` if nobody handles it.
    pub(crate) fn handler(
        &self,
        with: &Prepare<'_>,
        failed: &Task,
        error: Arc<Error>,
    ) -> Option<Task> {
        let layout = &*self.layout;
        let node = layout.nodes[failed.node].handler?;
        let ns = task_ns(with.ns, &layout.nodes[failed.node].name, failed.id);
        let id = TaskIds::new(self.id, &ns, with.step).handler(&layout.nodes[node].name, failed.id);
        let inside = Prepare { ns: &ns, ..*with };
        let path = failed.path.handler();
        let mut task = self.task(&inside, id, node, path, failed.input.clone());
        task.failed = Some(Failed {
            node: failed.node,
            ns,
            error,
        });
        Some(task)
    }

    /// The tasks of the next superstep: what `Send` asked for, then triggered nodes.
    pub(crate) fn prepare(&self, with: &Prepare<'_>) -> Vec<Task> {
        let layout = &*self.layout;
        let mut ids = TaskIds::new(self.id, with.ns, with.step);
        let mut tasks = Vec::new();
        if let Slot::Topic(packets) = &self.slots[layout.tasks] {
            for (index, packet) in packets.iter().enumerate() {
                let Some((name, arg)) = read_send(packet) else {
                    continue;
                };
                let Some(node) = layout
                    .node(name)
                    .filter(|n| layout.nodes[*n].body.is_some())
                else {
                    tracing::warn!(node = %name, "a packet for an unknown node is ignored");
                    continue;
                };
                let id = ids.push(name, index);
                tasks.push(self.task(with, id, node, Path::Push(index), arg.clone()));
            }
        }
        let mut shared: Option<Value> = None;
        let mut pull = |node: NodeId, tasks: &mut Vec<Task>| {
            if !self.is_triggered(node) {
                return;
            }
            let def = &layout.nodes[node];
            let input = if def.reads_input {
                self.get(layout.start).unwrap_or_default()
            } else if def.reads.is_some() {
                layout.with_managed(self.read_for(node), with.step, with.stop)
            } else {
                shared
                    .get_or_insert_with(|| {
                        layout.with_managed(self.read(&layout.state), with.step, with.stop)
                    })
                    .clone()
            };
            let id = ids.pull(&def.name, &def.trigger_names);
            tasks.push(self.task(with, id, node, Path::Pull(def.rank), input));
        };
        match &self.updated {
            Some(updated) if !updated.is_empty() => {
                let woken = updated.iter().flat_map(|id| &layout.channels[*id].wakes);
                let mut candidates: Vec<NodeId> = woken.copied().collect();
                candidates.sort_by_key(|node| layout.nodes[*node].rank);
                candidates.dedup();
                candidates
                    .into_iter()
                    .for_each(|node| pull(node, &mut tasks));
            }
            _ if !self.has_versions() => {}
            _ => (0..layout.nodes.len()).for_each(|node| pull(node, &mut tasks)),
        }
        tasks
    }

    fn is_triggered(&self, node: NodeId) -> bool {
        let triggers = &self.layout.nodes[node].triggers;
        let newer = |(at, id): (usize, &ChanId)| {
            let seen = self.seen[node].as_ref().map(|seen| seen[at]);
            self.is_available(*id) && seen.is_none_or(|seen| self.versions[*id] > seen)
        };
        triggers.iter().enumerate().any(newer)
    }

    fn task(&self, with: &Prepare<'_>, id: TaskId, node: NodeId, path: Path, input: Value) -> Task {
        let resume = if with.pending.is_empty() {
            Vec::new()
        } else {
            stored_answers(with, id, &self.layout.nodes[node].name)
        };
        Task {
            id,
            node,
            path,
            failed: None,
            input,
            resume,
            writes: Vec::new(),
        }
    }
}
