//! Managed values: keys of what a node reads that the library computes.

use agentflow_types::Value;

/// A value that nodes read like a key of the state, and that nobody writes or stores.
///
/// ```
/// use agentflow_graph::{Channel, GraphBuilder, Managed, START};
/// use agentflow_types::{Value, value};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let mut builder = GraphBuilder::new("careful");
/// builder
///     .channel("log", Channel::append())
///     .managed("left", Managed::RemainingSteps)
///     .node("work", |state: Value, _| async move {
///         let left = state.get("left").and_then(Value::as_i64).unwrap();
///         Ok(value!({"log": [left > 1]}).into())
///     })
///     .edge(START, "work");
/// let out = builder.compile()?.invoke(value!({"log": []})).await?;
/// assert_eq!(out, value!({"log": [true]}));
/// # Ok::<(), agentflow_types::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    /// Whether the recursion limit ends the run after this superstep.
    IsLastStep,
    /// Supersteps left before the recursion limit, this one included.
    RemainingSteps,
}

impl Managed {
    /// The value in superstep `step` of a run that may come to `stop`.
    pub(crate) fn value(self, step: i64, stop: i64) -> Value {
        match self {
            Self::IsLastStep => Value::Bool(step == stop - 1),
            Self::RemainingSteps => Value::Int(stop - step),
        }
    }
}
