//! What a deployment says, as facts.
//!
//! [`compose::load`] reads Compose files and gives the project as Docker Compose resolves it:
//! overlays, `extends`, `include`, profiles, variables, anchors, `!reset` and `!override`. Every
//! value knows the file and the bytes it comes from. [`rules::check`] judges a project by a table of
//! rules and gives findings that show the lines they are about. The crate opens no socket and starts no
//! program; files come through [`compose::Files`].

pub mod compose;
pub mod finding;
pub mod problem;
pub mod rules;
pub mod source;
pub mod tree;
mod yaml;

pub use problem::{Kind, Problem};
