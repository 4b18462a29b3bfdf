//! Domain types as frames carry them. See `docs/worker-protocol.md`, sections 3 and 7.

use agentflow_runs::host::{HistoryQuery, InterruptAt, RunInput, RunRequest, Superstep};
use agentflow_storage::json;
use agentflow_types::{
    Error, Map, Result, Str, Value,
    graph::{
        CheckpointRef, Command, Drawing, DrawnEdge, DrawnNode, Durability, Goto, GraphSchemas,
        Interrupt, RunConfig, RunOutcome, StateSnapshot, TaskSnapshot,
    },
};

use crate::frame::counted;

/// Kind of real nodes in drawings.
const RUNNABLE: &str = "runnable";

/// A value as JSON text in bytes.
pub(crate) fn to_json(value: &Value) -> Value {
    Value::Bytes(value.json_text().into_bytes().into())
}

fn map_to_json(map: &Map) -> Value {
    to_json(&Value::map(map.clone()))
}

/// A value that came as JSON text; absent counts as null.
///
/// # Errors
/// `Invalid` if it is no JSON.
pub(crate) fn from_json(value: Option<&Value>) -> Result<Value> {
    let bytes: &[u8] = match value {
        None | Some(Value::Null) => return Ok(Value::Null),
        Some(Value::Bytes(bytes)) => bytes,
        Some(Value::Str(text)) => text.as_bytes(),
        Some(_) => return Err(wrong("json")),
    };
    json::parse(bytes)
        .map_err(|err| Error::invalid("a worker sent what is not JSON").source_err(err))
}

/// [`from_json`] for what must be an object; null is the empty one.
pub(crate) fn map_from_json(value: Option<&Value>) -> Result<Map> {
    match from_json(value)? {
        Value::Null => Ok(Map::new()),
        Value::Map(map) => Ok(std::sync::Arc::unwrap_or_clone(map)),
        _ => Err(wrong("object")),
    }
}

/// The error of a field that is not what the protocol says.
pub(crate) fn wrong(field: &'static str) -> Error {
    Error::invalid("a worker sent another thing than the protocol says").with("field", field)
}

/// The text at a key.
pub(crate) fn text(from: &Value, key: &'static str) -> Result<String> {
    maybe_text(from, key).ok_or_else(|| wrong(key))
}

/// The text at a key; absent and null are none.
pub(crate) fn maybe_text(from: &Value, key: &str) -> Option<String> {
    from.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// The list at a key; absent and null are the empty one.
pub(crate) fn items<'a>(from: &'a Value, key: &str) -> &'a [Value] {
    from.get(key).and_then(Value::as_list).unwrap_or_default()
}

/// The texts at a key.
pub(crate) fn texts(from: &Value, key: &str) -> Vec<String> {
    let words = items(from, key).iter().filter_map(Value::as_str);
    words.map(str::to_owned).collect()
}

fn or_null<T>(value: Option<T>, to: impl FnOnce(T) -> Value) -> Value {
    value.map_or(Value::Null, to)
}

/// A checkpoint's name.
pub(crate) fn place(at: &CheckpointRef) -> Value {
    Value::object([
        ("thread_id", Value::str(at.thread_id.as_str())),
        ("checkpoint_ns", Value::str(at.checkpoint_ns.as_str())),
        (
            "checkpoint_id",
            or_null(at.checkpoint_id.as_deref(), Value::str),
        ),
    ])
}

/// A checkpoint's name that a worker sent; null is none.
pub(crate) fn read_place(value: Option<&Value>) -> Option<CheckpointRef> {
    let value = value.filter(|value| !value.is_null())?;
    Some(CheckpointRef {
        thread_id: maybe_text(value, "thread_id").unwrap_or_default(),
        checkpoint_ns: maybe_text(value, "checkpoint_ns").unwrap_or_default(),
        checkpoint_id: maybe_text(value, "checkpoint_id").filter(|id| !id.is_empty()),
    })
}

fn config(config: &RunConfig) -> Value {
    let tags = config.tags.iter().map(|tag| Value::str(tag.as_str()));
    Value::object([
        ("configurable", map_to_json(&config.configurable)),
        ("metadata", map_to_json(&config.metadata)),
        ("tags", Value::list(tags.collect())),
        ("recursion_limit", or_null(config.recursion_limit, counted)),
    ])
}

fn command(command: &Command) -> Value {
    let goto = command.goto.iter().map(|goto| match goto {
        Goto::Node(node) => Value::Str(node.clone()),
        Goto::Send { node, arg } => {
            Value::object([("node", Value::Str(node.clone())), ("input", arg.clone())])
        }
    });
    to_json(&Value::object([
        ("graph", or_null(command.graph.clone(), Value::Str)),
        ("update", command.update.clone().unwrap_or_default()),
        ("resume", command.resume.clone().unwrap_or_default()),
        ("goto", Value::list(goto.collect())),
    ]))
}

fn input(input: &RunInput) -> Value {
    match input {
        RunInput::Resume => Value::object([("kind", Value::str("resume"))]),
        RunInput::Input(value) => {
            Value::object([("kind", Value::str("input")), ("value", to_json(value))])
        }
        RunInput::Command(given) => {
            Value::object([("kind", Value::str("command")), ("command", command(given))])
        }
    }
}

fn interrupt_at(at: &InterruptAt) -> Value {
    match at {
        InterruptAt::Never => Value::Null,
        InterruptAt::All => Value::str("*"),
        InterruptAt::Nodes(nodes) => {
            Value::list(nodes.iter().map(|node| Value::str(node.as_str())).collect())
        }
    }
}

fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Sync => "sync",
        Durability::Async => "async",
        Durability::Exit => "exit",
    }
}

/// Parameters of `run`; `credit` is how many bytes of events may be on the way.
pub(crate) fn run(request: &RunRequest, thread_id: &str, credit: u64) -> Value {
    let modes = request.modes.iter().map(|mode| Value::str(mode.as_str()));
    Value::object([
        ("graph_id", Value::str(request.graph_id.as_str())),
        ("run_id", Value::str(request.run_id.text())),
        ("thread_id", Value::str(thread_id)),
        ("attempt", Value::Int(request.attempt.into())),
        ("input", input(&request.input)),
        ("config", config(&request.config)),
        ("context", to_json(&request.config.context)),
        ("checkpoint", or_null(request.checkpoint.as_ref(), place)),
        ("interrupt_before", interrupt_at(&request.interrupt_before)),
        ("interrupt_after", interrupt_at(&request.interrupt_after)),
        ("modes", Value::list(modes.collect())),
        ("subgraphs", request.subgraphs.into()),
        ("durability", durability(request.durability).into()),
        ("credit", counted(credit)),
    ])
}

/// Parameters of `state.get`.
pub(crate) fn state(graph_id: &str, at: &CheckpointRef, subgraphs: bool) -> Value {
    Value::object([
        ("graph_id", Value::str(graph_id)),
        ("checkpoint", place(at)),
        ("subgraphs", subgraphs.into()),
    ])
}

/// Parameters of `state.history`.
pub(crate) fn history(graph_id: &str, query: &HistoryQuery) -> Value {
    Value::object([
        ("graph_id", Value::str(graph_id)),
        ("checkpoint", place(&query.checkpoint)),
        ("before", or_null(query.before.as_deref(), Value::str)),
        ("metadata", map_to_json(&query.metadata)),
        ("limit", Value::Int(query.limit.into())),
    ])
}

/// Parameters of `state.update`.
pub(crate) fn update(
    graph_id: &str,
    at: &CheckpointRef,
    supersteps: &[Superstep],
    run: &RunConfig,
) -> Value {
    let one = |(values, steer, as_node): &(Value, Option<Command>, Option<String>)| {
        Value::object([
            ("values", to_json(values)),
            ("command", or_null(steer.as_ref(), command)),
            ("as_node", or_null(as_node.as_deref(), Value::str)),
        ])
    };
    let supersteps = supersteps
        .iter()
        .map(|step| Value::list(step.iter().map(one).collect()));
    Value::object([
        ("graph_id", Value::str(graph_id)),
        ("checkpoint", place(at)),
        ("supersteps", Value::list(supersteps.collect())),
        ("config", config(run)),
    ])
}

fn interrupts(list: &[Value]) -> Result<Vec<Interrupt>> {
    let one = |value: &Value| {
        Ok(Interrupt {
            value: value.get("value").cloned().unwrap_or_default(),
            id: text(value, "id")?,
            response_schema: value
                .get("response_schema")
                .filter(|schema| !schema.is_null())
                .cloned(),
        })
    };
    list.iter().map(one).collect()
}

fn names(from: &Value, key: &str) -> Vec<Str> {
    let words = items(from, key).iter().filter_map(Value::as_str);
    words.map(Str::from).collect()
}

/// The answer to `run`.
///
/// # Errors
/// `Invalid` if it is none.
pub(crate) fn read_outcome(answer: &Value) -> Result<RunOutcome> {
    let asked = from_json(answer.get("interrupts"))?;
    Ok(RunOutcome {
        values: from_json(answer.get("values"))?,
        interrupts: interrupts(asked.as_list().unwrap_or_default())?,
        next: names(answer, "next"),
    })
}

/// The answer to `state.get`.
///
/// # Errors
/// `Invalid` if it is none.
pub(crate) fn read_state(answer: &Value) -> Result<StateSnapshot> {
    snapshot(&from_json(Some(answer))?)
}

/// The answer to `state.history`.
///
/// # Errors
/// `Invalid` if it is none.
pub(crate) fn read_history(answer: &Value) -> Result<Vec<StateSnapshot>> {
    let all = from_json(Some(answer))?;
    let all = all.as_list().ok_or_else(|| wrong("history"))?;
    all.iter().map(snapshot).collect()
}

fn snapshot(value: &Value) -> Result<StateSnapshot> {
    if value.as_map().is_none() {
        return Err(wrong("snapshot"));
    }
    let tasks = items(value, "tasks").iter().map(task);
    Ok(StateSnapshot {
        values: value.get("values").cloned().unwrap_or_default(),
        next: names(value, "next"),
        tasks: tasks.collect::<Result<_>>()?,
        metadata: value.get("metadata").cloned().unwrap_or_default(),
        created_at: maybe_text(value, "created_at"),
        checkpoint: read_place(value.get("checkpoint")).ok_or_else(|| wrong("checkpoint"))?,
        parent_checkpoint: read_place(value.get("parent_checkpoint")),
        interrupts: interrupts(items(value, "interrupts"))?,
    })
}

fn task(value: &Value) -> Result<TaskSnapshot> {
    let inner = value.get("state").filter(|state| !state.is_null());
    let result = value.get("result").filter(|result| !result.is_null());
    Ok(TaskSnapshot {
        id: text(value, "id")?,
        name: text(value, "name")?.into(),
        path: value.get("path").cloned().unwrap_or_default(),
        error: maybe_text(value, "error"),
        interrupts: interrupts(items(value, "interrupts"))?,
        checkpoint: read_place(value.get("checkpoint")),
        state: inner.map(snapshot).transpose()?.map(Box::new),
        result: result.cloned(),
    })
}

/// The answer to `graph.schemas`.
///
/// # Errors
/// `Invalid` if it is no JSON.
pub(crate) fn read_schemas(answer: &Value) -> Result<GraphSchemas> {
    Ok(schemas(&from_json(Some(answer))?))
}

fn schemas(value: &Value) -> GraphSchemas {
    let one = |key: &str| {
        let schema = value.get(key).filter(|schema| !schema.is_null());
        schema.map(Value::to_json)
    };
    GraphSchemas {
        input_schema: one("input_schema"),
        output_schema: one("output_schema"),
        state_schema: one("state_schema"),
        config_schema: one("config_schema"),
        context_schema: one("context_schema"),
    }
}

/// The answer to `graph.subgraphs`.
///
/// # Errors
/// `Invalid` if it is none.
pub(crate) fn read_subgraphs(answer: &Value) -> Result<Vec<(String, GraphSchemas)>> {
    let all = from_json(Some(answer))?;
    let pair = |pair: &Value| match pair.as_list() {
        Some([namespace, found]) => {
            let namespace = namespace.as_str().ok_or_else(|| wrong("namespace"))?;
            Ok((namespace.to_owned(), schemas(found)))
        }
        _ => Err(wrong("subgraphs")),
    };
    let all = all.as_list().ok_or_else(|| wrong("subgraphs"))?;
    all.iter().map(pair).collect()
}

/// The answer to `graph.drawing`.
///
/// # Errors
/// `Invalid` if it is none.
pub(crate) fn read_drawing(answer: &Value) -> Result<Drawing> {
    let drawn = from_json(Some(answer))?;
    let given = |from: &Value, key: &str| from.get(key).filter(|v| !v.is_null()).cloned();
    let node = |node: &Value| {
        Ok(DrawnNode {
            id: text(node, "id")?,
            kind: given(node, "type").map(|_| RUNNABLE),
            data: given(node, "data"),
        })
    };
    let edge = |edge: &Value| {
        Ok(DrawnEdge {
            source: text(edge, "source")?,
            target: text(edge, "target")?,
            conditional: edge
                .get("conditional")
                .and_then(Value::as_bool)
                .filter(|is| *is),
            data: maybe_text(edge, "data"),
        })
    };
    Ok(Drawing {
        nodes: items(&drawn, "nodes")
            .iter()
            .map(node)
            .collect::<Result<_>>()?,
        edges: items(&drawn, "edges")
            .iter()
            .map(edge)
            .collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    #[test]
    fn states_with_tasks_are_read() {
        let answer = value!({
            "values": {"x": 1}, "next": ["ask"], "metadata": {"step": 1},
            "created_at": "2026-01-01T00:00:00+00:00",
            "checkpoint": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c2"},
            "parent_checkpoint": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c1"},
            "interrupts": [{"value": "q", "id": "i", "response_schema": null}],
            "tasks": [{"id": "1", "name": "ask", "path": ["__pregel_pull", "ask"], "error": null,
                "interrupts": [{"value": "q", "id": "i"}], "checkpoint": null, "state": null,
                "result": null}],
        });
        let state = read_state(&to_json(&answer)).unwrap();
        assert_eq!(state.next, ["ask".into()]);
        assert_eq!(state.checkpoint.checkpoint_id.as_deref(), Some("c2"));
        assert_eq!(state.tasks[0].interrupts[0].id, "i");
        assert_eq!(state.tasks[0].result, None);
        assert_eq!(state.interrupts[0].response_schema, None);
    }

    #[test]
    fn what_is_no_state_is_refused() {
        for wrong in [value!(1), value!({}), value!({"tasks": [{}]})] {
            assert!(read_state(&to_json(&wrong)).is_err(), "{wrong}");
        }
        assert!(read_state(&Value::Bytes(b"{".as_slice().into())).is_err());
        assert!(read_history(&to_json(&value!({}))).is_err());
    }
}
