//! Validation and layout of a graph.
use agentflow_types::{Error, Result};
use crate::{builder::GraphBuilder, graph::Graph};
pub(crate) fn compile(_b: &GraphBuilder) -> Result<Graph> { Err(Error::bug("not linked")) }
