//! What a deployment says, as facts.
//!
//! [`compose::load`] reads Compose files and gives the project as Docker Compose resolves it:
//! overlays, `extends`, `include`, profiles, variables, anchors, `!reset` and `!override`. Every
//! value knows the file and the bytes it comes from. [`gate::run`] finds what there is below some
//! paths, judges it by the table [`rules::RULES`] and gives findings; [`print`] shows them,
//! [`fix::mend`] mends them. The crate opens no socket and starts no program; files come through
//! [`compose::Files`].

pub mod baseline;
pub mod compose;
pub mod facts;
pub mod find;
pub mod finding;
pub mod fix;
pub mod gate;
pub mod git;
mod ignore;
pub mod print;
pub mod problem;
pub mod rules;
pub mod source;
pub mod tree;
mod yaml;

pub use problem::{Kind, Problem};
