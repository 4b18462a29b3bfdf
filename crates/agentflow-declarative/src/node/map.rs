//! The kind `map`: another node once per item of a list, by `Send`.

use agentflow_graph::{NodeOutput, send};
use agentflow_types::{Error, Map, Str, Value, graph::Command};

use super::Built;
use crate::{file::MapNode, scope::Scope, variables::Variables};

/// Most items of one list.
pub(crate) const MAX_ITEMS: usize = 10_000;

/// Names that the node which is run for each item sees besides fields.
pub(crate) const EXTRAS: [&str; 2] = ["item", "index"];

/// Compiles a `map` node. `reads` are the fields that the other node reads; they travel with
/// each item, because a node that is run by `Send` sees nothing but what it is sent.
pub(crate) fn build(
    scope: &Scope<'_>,
    name: &str,
    spec: &MapNode,
    reads: &[String],
) -> Option<Built> {
    let over = scope.expression(&["nodes", name, "over"], &spec.over, &[])?;
    let (target, text): (Str, Str) = (spec.node.as_str().into(), spec.over.as_str().into());
    let reads: Vec<Str> = reads.iter().map(|name| name.as_str().into()).collect();
    Some(Built::new(Vec::new(), move |state, context| {
        let (over, target, text, reads) =
            (over.clone(), target.clone(), text.clone(), reads.clone());
        async move {
            let list = over.value(&Variables::of_node(&state, &context))?;
            let items = match &list {
                Value::Null => &[],
                list => list.as_list().ok_or_else(|| {
                    Error::failed("`over` is not a list").with("expression", &text)
                })?,
            };
            if items.len() > MAX_ITEMS {
                return Err(Error::failed("`over` has too many items")
                    .with("items", items.len())
                    .with("limit", MAX_ITEMS));
            }
            let mut shared = Map::new();
            for name in &reads {
                if let Some(value) = state.get(name) {
                    shared.insert(name.clone(), value.clone());
                }
            }
            let goto = items.iter().zip(0_i64..).map(|(item, index)| {
                let mut arg = shared.clone();
                arg.insert("item".into(), item.clone());
                arg.insert("index".into(), Value::Int(index));
                send(target.clone(), Value::map(arg))
            });
            Ok(NodeOutput::Command(Command {
                goto: goto.collect(),
                ..Command::default()
            }))
        }
    }))
}
