//! Configurations in YAML, of which JSON is a part.

use crate::{
    problem::Problem,
    source::{Sources, Span},
    tree::{Node, Value},
    yaml,
};

/// The first document.
///
/// # Errors
/// It is no YAML.
pub(super) fn read(sources: &Sources, file: u32) -> Result<Node, Problem> {
    let nowhere = Span {
        file,
        start: 0,
        end: 0,
    };
    let first = yaml::read(sources, file)?.into_iter().next();
    Ok(first.map_or(Node::new(Value::Null, nowhere), |document| document.root))
}
