//! Control flow that travels as an error.

use std::fmt;

use agentflow_types::{
    Error,
    graph::{Command, Interrupt},
};

/// A question that stops a task.
#[derive(Debug)]
struct InterruptSignal(Vec<Interrupt>);

/// A command for the graph above.
#[derive(Debug)]
struct ParentSignal(Command);

impl fmt::Display for InterruptSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} unanswered interrupts", self.0.len())
    }
}

impl fmt::Display for ParentSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command for the graph above")
    }
}

impl std::error::Error for InterruptSignal {}
impl std::error::Error for ParentSignal {}

/// The error that stops a task with these questions.
pub(crate) fn interrupt(interrupts: Vec<Interrupt>) -> Error {
    Error::failed("interrupted")
        .class("GraphInterrupt")
        .source_err(InterruptSignal(interrupts))
}

/// The questions, if the error is an interrupt.
pub(crate) fn interrupts(error: &Error) -> Option<&[Interrupt]> {
    let source = std::error::Error::source(error)?;
    source
        .downcast_ref::<InterruptSignal>()
        .map(|signal| signal.0.as_slice())
}

/// A run stops because it is asked to.
#[derive(Debug)]
struct DrainSignal;

impl fmt::Display for DrainSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request to stop")
    }
}

impl std::error::Error for DrainSignal {}

/// The error of a run that stops before its next superstep because it is asked to.
pub(crate) fn drained() -> Error {
    Error::cancelled("Graph drained: shutdown")
        .class("GraphDrained")
        .source_err(DrainSignal)
}

/// Whether the error says that a run stopped because it was asked to.
pub(crate) fn is_drained(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<DrainSignal>)
}

/// The error that carries a command to the graph above.
pub(crate) fn parent(command: Command) -> Error {
    Error::invalid("command for a parent graph, but there is none")
        .class("ParentCommand")
        .source_err(ParentSignal(command))
}

/// The command, if the error carries one.
pub(crate) fn parent_command(error: &Error) -> Option<&Command> {
    let source = std::error::Error::source(error)?;
    source
        .downcast_ref::<ParentSignal>()
        .map(|signal| &signal.0)
}
