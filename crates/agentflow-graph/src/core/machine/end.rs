//! How a run ends.

use agentflow_types::{
    Error, Result, Value,
    graph::{Durability, INTERRUPT, NS_END, StreamMode},
};

use super::{DEFAULT_RECURSION_LIMIT, Ending, Level, Machine};
use crate::core::payload;

impl Machine {
    /// Stores and shows what is left when the run ends.
    ///
    /// # Errors
    /// `Invalid` if a channel refuses the writes of the tasks that ended.
    pub(crate) fn end(&mut self, ending: &Ending) -> Result<()> {
        let lasting = !self.setup.ns.contains(NS_END);
        if self.setup.saves
            && self.setup.durability == Durability::Exit
            && (self.setup.level == Level::Root || !matches!(ending, Ending::Done) || lasting)
        {
            self.store_end()?;
        }
        let Ending::Interrupted(interrupts) = ending else {
            return Ok(());
        };
        if self.setup.level == Level::Nested {
            return Ok(());
        }
        self.show_partial_values()?;
        if interrupts.is_empty() && self.wants(StreamMode::Updates) {
            let data = Value::object([(INTERRUPT, Value::list(Vec::new()))]);
            self.emit(StreamMode::Updates, data);
        }
        Ok(())
    }

    /// Shows the state with the writes of the tasks that did end, although the superstep did not.
    fn show_partial_values(&mut self) -> Result<()> {
        let any_done = self.tasks.iter().any(super::Task::is_done)
            || self.calls.iter().any(|call| !call.writes.is_empty());
        if !any_done || self.pending.is_empty() {
            return Ok(());
        }
        let done: Vec<Vec<super::Write>> = self.tasks.iter().map(|t| t.writes.clone()).collect();
        let updated = self.apply_tasks()?;
        for (task, writes) in self.tasks.iter_mut().zip(done) {
            task.writes = writes;
        }
        if self.wants(StreamMode::Values) && payload::touches_output(&self.setup.layout, &updated) {
            let values = self.output();
            self.emit(StreamMode::Values, values);
        }
        Ok(())
    }

    /// The error of a run that reached its recursion limit.
    pub(crate) fn recursion_error(&self) -> Error {
        let limit = self
            .setup
            .config
            .recursion_limit
            .unwrap_or(DEFAULT_RECURSION_LIMIT);
        Error::failed(format!(
            "Recursion limit of {limit} reached without hitting a stop condition. You can increase the limit by setting the `recursion_limit` config key.\nFor troubleshooting, visit: https://docs.langchain.com/oss/python/langgraph/errors/GRAPH_RECURSION_LIMIT"
        ))
        .class("GraphRecursionError")
    }
}
