//! Nodes: what each kind checks when it is compiled, and does when it runs.

pub(crate) mod approval;
pub(crate) mod fields;
pub(crate) mod human;
pub(crate) mod map;
pub(crate) mod memory;
pub(crate) mod model;
pub(crate) mod request;
pub(crate) mod subgraph;
pub(crate) mod tools;

use std::{future::Future, sync::Arc, time::Duration};

use agentflow_graph::{
    CachePolicy, Graph, NodeContext, NodeOptions, NodeOutput, RetryPolicy, builder::NodeFn,
};
use agentflow_types::{Map, Result, Str, Value, message};

use crate::{
    codes,
    dynamic::Dynamic,
    file::{Cache, FieldType, Node, Options, Retry},
    scope::Scope,
    variables::Variables,
};

/// What runs when the node runs.
pub(crate) enum Body {
    Function(NodeFn),
    /// A graph that shares fields with this one.
    Graph(Arc<Graph>),
}

/// A compiled node.
pub(crate) struct Built {
    pub(crate) body: Body,
    /// Fields that it may write.
    pub(crate) writes: Vec<String>,
}

impl Built {
    pub(crate) fn new<F, Fut>(writes: Vec<String>, body: F) -> Self
    where
        F: Fn(Value, NodeContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<NodeOutput>> + Send + 'static,
    {
        let body: NodeFn = Arc::new(move |state, context| Box::pin(body(state, context)));
        Self {
            body: Body::Function(body),
            writes,
        }
    }
}

/// Compiles a node; `None` if something is wrong with it, which is reported. Map nodes are
/// compiled after all others (see [`map::build`]).
pub(crate) fn build(scope: &Scope<'_>, name: &str, node: &Node, extras: &[&str]) -> Option<Built> {
    match node {
        Node::Model(spec) => model::build(scope, name, spec, extras),
        Node::Tool(spec) => tools::build(scope, name, spec, extras),
        Node::Http(spec) => request::build(scope, name, spec, extras),
        Node::Human(spec) => human::build(scope, name, spec, extras),
        Node::Template(spec) => fields::template(scope, name, spec, extras),
        Node::Set(spec) => fields::set(scope, name, spec, extras),
        Node::Subgraph(spec) => subgraph::build(scope, name, spec, extras),
        Node::Recall(spec) => memory::build_recall(scope, name, spec, extras),
        Node::Remember(spec) => memory::build_remember(scope, name, spec, extras),
        Node::Map(_) => None,
    }
}

/// The graph library's options of a node.
pub(crate) fn options(options: &Options) -> NodeOptions {
    NodeOptions {
        retry: options.retry.as_ref().map(retry),
        timeout: options.timeout_seconds.map(Duration::from_secs_f64),
        defer: options.defer,
        ..NodeOptions::default()
    }
}

/// How what a node writes is remembered; what is wrong is reported.
///
/// What the node is belongs to its key: a file that was changed finds nothing of its past.
pub(crate) fn cache(scope: &Scope<'_>, name: &str, node: &Node) -> Option<CachePolicy> {
    let (seconds, fields) = match node.options().cache.as_ref()? {
        Cache::Seconds(seconds) => (Some(*seconds), None),
        Cache::Full(spec) => (spec.ttl_seconds, spec.fields.clone()),
    };
    let at = ["nodes", name, "cache"];
    let refused = match node {
        Node::Human(_) => Some("what a person answered is not remembered for others"),
        Node::Recall(_) | Node::Remember(_) => {
            Some("memories are somebody's and change: a cache would give them to others")
        }
        _ => None,
    };
    if let Some(message) = refused {
        scope.error(codes::WRONG_TYPE, scope.key(&at), message, None);
        return None;
    }
    for (place, field) in fields.iter().flatten().enumerate() {
        let place = place.to_string();
        scope.is_field(scope.at(&["nodes", name, "cache", "fields", &place]), field);
    }
    let definition = format!("{node:?}");
    let policy = CachePolicy::default().key(move |input| {
        let part = |field: &String| input.get(field).cloned().unwrap_or_default();
        let input = match &fields {
            Some(fields) => Value::list(fields.iter().map(part).collect()),
            None => input.clone(),
        };
        format!("{definition}\n{}", input.json_text()).into_bytes()
    });
    Some(match seconds {
        Some(seconds) => policy.ttl(Duration::from_secs_f64(seconds)),
        None => policy,
    })
}

fn retry(retry: &Retry) -> RetryPolicy {
    match retry {
        Retry::Attempts(attempts) => RetryPolicy::attempts(*attempts),
        Retry::Full(spec) => {
            let default = RetryPolicy::default();
            let seconds = |given: Option<f64>, default: Duration| {
                given.map_or(default, Duration::from_secs_f64)
            };
            RetryPolicy {
                max_attempts: spec.attempts,
                initial_interval: seconds(spec.initial_seconds, default.initial_interval),
                backoff_factor: spec.factor.unwrap_or(default.backoff_factor),
                max_interval: seconds(spec.max_seconds, default.max_interval),
                // Somebody who names the waits means them; otherwise retries are spread.
                jitter: spec.initial_seconds.is_none(),
                ..default
            }
        }
    }
}

/// Computes fields.
///
/// # Errors
/// `Failed` if an expression fails.
pub(crate) fn assign(
    values: &[(Str, Dynamic)],
    variables: &Variables<'_>,
    update: &mut Map,
) -> Result<()> {
    for (name, value) in values {
        update.insert(name.clone(), value.value(variables)?);
    }
    Ok(())
}

/// How a value is written into a field of the state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    name: Str,
    kind: FieldType,
}

impl Target {
    /// The field of a name; `None` if the state has none, which is reported.
    pub(crate) fn find(scope: &Scope<'_>, path: &[&str], name: &str) -> Option<Self> {
        if !scope.is_field(scope.at(path), name) {
            return None;
        }
        let kind = scope
            .fields
            .get(name)
            .map(|spec| spec.kind)
            .unwrap_or_default();
        Some(Self {
            name: name.into(),
            kind,
        })
    }

    /// Puts a value into an update: text for a field of messages is a message of the AI, and one
    /// value for a list is a list of one.
    pub(crate) fn write(&self, value: Value, update: &mut Map) {
        let value = match (self.kind, &value) {
            (FieldType::Messages, Value::Str(_)) => Value::list(vec![message::ai(value)]),
            (FieldType::List, Value::List(_) | Value::Null) => value,
            (FieldType::List, _) => Value::list(vec![value]),
            (FieldType::String, Value::Str(_) | Value::Null) => value,
            (FieldType::String, other) => Value::from(other.json_text()),
            _ => value,
        };
        update.insert(self.name.clone(), value);
    }
}
