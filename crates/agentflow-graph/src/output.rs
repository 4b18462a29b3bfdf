//! What nodes return.

use agentflow_types::{
    Map, Str, Value,
    graph::{Command, Goto},
};

/// What a node returns: an update of the state, a command, or several of them.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeOutput {
    /// A state update: a map from channel to value; null for no update.
    Update(Value),
    /// An update with the next nodes, for this graph or the one above.
    Command(Command),
    /// The result of a function, and what its next run gets as the previous value.
    Final {
        /// The result.
        value: Value,
        /// What is saved.
        save: Value,
    },
    /// Several outputs, applied in order.
    Many(Vec<NodeOutput>),
}

impl From<Value> for NodeOutput {
    fn from(update: Value) -> Self {
        Self::Update(update)
    }
}

impl From<Map> for NodeOutput {
    fn from(update: Map) -> Self {
        Self::Update(Value::map(update))
    }
}

impl From<()> for NodeOutput {
    fn from((): ()) -> Self {
        Self::Update(Value::Null)
    }
}

impl From<Command> for NodeOutput {
    fn from(command: Command) -> Self {
        Self::Command(command)
    }
}

impl From<Goto> for NodeOutput {
    fn from(goto: Goto) -> Self {
        Self::Command(Command {
            goto: vec![goto],
            ..Command::default()
        })
    }
}

impl<T: Into<NodeOutput>> From<Vec<T>> for NodeOutput {
    fn from(outputs: Vec<T>) -> Self {
        Self::Many(outputs.into_iter().map(Into::into).collect())
    }
}

/// To a node, with the state.
pub fn goto(node: impl Into<Str>) -> Goto {
    Goto::Node(node.into())
}

/// To a node, with its own input, whatever the state.
pub fn send(node: impl Into<Str>, arg: Value) -> Goto {
    Goto::Send {
        node: node.into(),
        arg,
    }
}
