//! Checkpoints of earlier layouts.

use agentflow_storage::checkpoint::{Checkpoint, Version};
use agentflow_types::{
    Str,
    graph::{END, START},
};

use super::version::Ver;
use crate::{compile::entry_name, layout::Layout};

/// Format version from which channel names are today's.
const NAMES_SINCE: i64 = 3;

/// Renames the channels of checkpoints below format 3: `start:b`, `branch:a:cond:b` and `a`
/// become `branch:to:b`.
pub(crate) fn migrate(layout: &Layout, mut checkpoint: Checkpoint) -> Checkpoint {
    if checkpoint.v >= NAMES_SINCE || checkpoint.channel_versions.is_empty() {
        return checkpoint;
    }
    let names: Vec<Str> = checkpoint.channel_versions.keys().cloned().collect();
    for name in names {
        for target in targets(layout, &name) {
            rename(&mut checkpoint, &name, &target);
        }
        if !targets(layout, &name).is_empty() {
            checkpoint.channel_versions.shift_remove(&name);
            checkpoint.channel_values.shift_remove(&name);
            for seen in checkpoint.versions_seen.values_mut() {
                seen.shift_remove(&name);
            }
        }
    }
    checkpoint
}

/// The nodes that a channel of an earlier layout triggered.
fn targets(layout: &Layout, name: &str) -> Vec<Str> {
    let parts: Vec<&str> = name.split(':').collect();
    let known = |node: &str| {
        layout
            .node(node)
            .is_some_and(|id| layout.nodes[id].body.is_some())
    };
    match parts.as_slice() {
        ["start", node] if known(node) => vec![(*node).into()],
        ["branch", _, _, node] if known(node) => vec![(*node).into()],
        [node] if *node != START && known(node) => layout
            .edges
            .iter()
            .filter(|(from, to)| **from == **node && &**to != END)
            .map(|(_, to)| to.clone())
            .collect(),
        _ => Vec::new(),
    }
}

fn greater(a: &Version, b: Option<&Version>) -> Version {
    let number = |v: &Version| Ver::parse(v).map(|(ver, _)| ver.n).unwrap_or(0);
    match b {
        Some(b) if number(b) > number(a) => b.clone(),
        _ => a.clone(),
    }
}

fn rename(checkpoint: &mut Checkpoint, old: &Str, node: &Str) {
    let new = entry_name(node);
    if let Some(version) = checkpoint.channel_versions.get(old).cloned() {
        let version = greater(&version, checkpoint.channel_versions.get(&new));
        checkpoint.channel_versions.insert(new.clone(), version);
    }
    if let Some(value) = checkpoint.channel_values.get(old).cloned() {
        checkpoint
            .channel_values
            .entry(new.clone())
            .or_insert(value);
    }
    for key in [&**node, "__interrupt__"] {
        let Some(seen) = checkpoint.versions_seen.get_mut(key) else {
            continue;
        };
        if let Some(version) = seen.get(old).cloned() {
            let version = greater(&version, seen.get(&new));
            seen.insert(new.clone(), version);
        }
    }
}
