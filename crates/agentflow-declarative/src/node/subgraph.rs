//! The kind `subgraph`: another file, or a graph inside this one.

use std::{path::PathBuf, sync::Arc};

use agentflow_graph::Graph;
use agentflow_types::{Map, Value};
use indexmap::IndexMap;

use super::{Body, Built, assign};
use crate::{
    codes,
    diagnostic::did_you_mean,
    dynamic::Dynamic,
    file::{FieldSpec, GraphFile, SubgraphNode, SubgraphSource},
    load,
    scope::{ALL_FIELDS, Scope},
    variables::Variables,
};

/// Most graph files inside each other.
const MAX_FILES_DEEP: usize = 8;

/// A compiled graph with the fields of its state.
pub(crate) struct Inner {
    pub(crate) graph: Arc<Graph>,
    pub(crate) fields: IndexMap<String, FieldSpec>,
}

/// Compiles a `subgraph` node.
pub(crate) fn build(
    scope: &Scope<'_>,
    name: &str,
    spec: &SubgraphNode,
    extras: &[&str],
) -> Option<Built> {
    let inner = match &spec.graph {
        SubgraphSource::Path(path) => from_file(scope, name, path),
        SubgraphSource::Inline(file) => inline(scope, name, file),
    };
    if spec.input.is_none() && spec.output.is_none() {
        scope.reads.borrow_mut().insert(ALL_FIELDS.to_owned());
        let inner = inner?;
        let shared = inner
            .fields
            .keys()
            .filter(|field| scope.fields.contains_key(*field));
        let writes: Vec<String> = shared.cloned().collect();
        if writes.is_empty() {
            let message = "the graphs have no field in common, so nothing goes in or out";
            let help = "map them: `input: {field: expression}`, `output: {field: result.field}`";
            let span = scope.key(&["nodes", name]);
            scope.error(codes::BAD_SUBGRAPH, span, message, help.to_owned());
        }
        return Some(Built {
            body: Body::Graph(inner.graph),
            writes,
        });
    }
    let input = input(scope, name, spec, inner.as_ref(), extras);
    let with_result: Vec<&str> = extras.iter().copied().chain(["result"]).collect();
    let output = spec.output.clone().unwrap_or_default();
    let writes = output.keys().cloned().collect();
    let output = scope.assignments(&["nodes", name, "output"], &output, &with_result);
    let graph = inner?.graph;
    Some(Built::new(writes, move |state, context| {
        let (graph, input, output) = (graph.clone(), input.clone(), output.clone());
        async move {
            let variables = Variables::of_node(&state, &context);
            let mut given = Map::new();
            assign(&input, &variables, &mut given)?;
            let result = context.invoke(&graph, Value::map(given)).await?;
            let mut update = Map::new();
            assign(&output, &variables.with("result", result), &mut update)?;
            Ok(update.into())
        }
    }))
}

fn input(
    scope: &Scope<'_>,
    name: &str,
    spec: &SubgraphNode,
    inner: Option<&Inner>,
    extras: &[&str],
) -> Vec<(agentflow_types::Str, Dynamic)> {
    let mut compiled = Vec::new();
    for (field, value) in spec.input.iter().flatten() {
        let path = ["nodes", name, "input", field];
        if let Some(inner) = inner
            && !inner.fields.contains_key(field)
        {
            let message = format!("the state of the inner graph has no field `{field}`");
            let help = did_you_mean(field, inner.fields.keys().map(String::as_str));
            scope.error(codes::UNKNOWN_STATE_FIELD, scope.key(&path), message, help);
        }
        if let Some(value) = scope.computed(&path, value, extras) {
            compiled.push((field.as_str().into(), value));
        }
    }
    compiled
}

fn inline(scope: &Scope<'_>, name: &str, file: &GraphFile) -> Option<Inner> {
    let prefix = scope.path(&["nodes", name, "graph"]);
    let reads = scope.reads.take();
    let inner = load::compile_graph(scope.session, scope.unit, prefix, name, file);
    scope.reads.replace(reads);
    inner
}

fn from_file(scope: &Scope<'_>, name: &str, path: &str) -> Option<Inner> {
    let span = scope.at(&["nodes", name, "graph"]);
    let refuse = |message: String, help: Option<String>| {
        scope.error(codes::BAD_SUBGRAPH, span.clone(), message, help);
        None
    };
    let file = match locate(scope, path) {
        Ok(file) => file,
        Err((message, help)) => return refuse(message, help),
    };
    let depth = scope.session.stack.borrow().len();
    if scope.session.stack.borrow().contains(&file) {
        return refuse(format!("`{path}` contains this graph"), None);
    }
    if depth >= MAX_FILES_DEEP {
        let message = format!("graph files are nested more than {MAX_FILES_DEEP} deep");
        return refuse(message, None);
    }
    load::compile_file(scope.session, &file)
}

/// The file that a path means, which must lie in the base folder.
fn locate(scope: &Scope<'_>, path: &str) -> Result<PathBuf, (String, Option<String>)> {
    let base = &scope.session.base;
    let folder = scope
        .unit
        .path
        .as_ref()
        .and_then(|path| path.parent())
        .unwrap_or(base);
    let found = folder.join(path).canonicalize().map_err(|error| {
        let message = format!("`{path}` cannot be read: {error}");
        (
            message,
            Some("paths are relative to the file that names them".to_owned()),
        )
    })?;
    if found.starts_with(base) {
        return Ok(found);
    }
    let help = "keep graph files that belong together in one folder".to_owned();
    Err((
        format!("`{path}` lies outside the project's folder"),
        Some(help),
    ))
}
