//! What expressions and templates see.

use agentflow_graph::NodeContext;
use agentflow_types::{Str, Value};

/// Names that are always there, besides the fields of the state.
pub(crate) const ALWAYS: [&str; 3] = ["state", "config", "context"];

/// The variables at one moment: named extras first, then the fields of the state, then `state`,
/// `config` and `context`. What has not been written yet is null.
pub(crate) struct Variables<'a> {
    state: &'a Value,
    context: Option<&'a NodeContext>,
    extras: Vec<(&'a str, Value)>,
}

impl<'a> Variables<'a> {
    /// The variables of a node.
    pub(crate) fn of_node(state: &'a Value, context: &'a NodeContext) -> Self {
        Self {
            state,
            context: Some(context),
            extras: Vec::new(),
        }
    }

    /// Nothing but extras.
    pub(crate) fn only(extras: Vec<(&'a str, Value)>) -> Self {
        Self {
            state: &Value::Null,
            context: None,
            extras,
        }
    }

    /// One more variable.
    pub(crate) fn with(mut self, name: &'a str, value: Value) -> Self {
        self.extras.push((name, value));
        self
    }

    /// The value of a variable; null if it has none.
    pub(crate) fn get(&self, name: &str) -> Value {
        if let Some((_, value)) = self.extras.iter().find(|(known, _)| *known == name) {
            return value.clone();
        }
        if let Some(value) = self.state.get(name) {
            return value.clone();
        }
        match (name, self.context) {
            ("state", _) => self.state.clone(),
            ("config", Some(context)) => Value::map(context.config().configurable.clone()),
            ("context", Some(context)) => context.runtime_context().clone(),
            _ => Value::Null,
        }
    }

    /// The named variables as a map.
    pub(crate) fn pick(&self, names: &[String]) -> Vec<(Str, Value)> {
        names
            .iter()
            .map(|name| (Str::from(name.as_str()), self.get(name)))
            .collect()
    }
}
