//! x
use crate::statement::Statement;
pub(crate) fn rollback(_t: &str, _r: &str) -> Vec<Statement> { vec![] }
pub(crate) fn remove_thread(_t: &str) -> Vec<Statement> { vec![] }
