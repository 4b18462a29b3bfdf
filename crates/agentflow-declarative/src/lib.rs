//! Graphs written as YAML files, and the prebuilt agent.
//!
//! [`load`] turns a file into a graph of the graph library, or says everything that is wrong with
//! it: what, where, and what to do. [`mod@file`] holds the format.
//!
//! ```
//! use agentflow_declarative::{Environment, load_text};
//! use agentflow_types::value;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let text = "
//! version: 1
//! state: {name: string, greeting: string}
//! nodes:
//!   greet: {kind: template, template: 'Hello {{ name }}!', output: greeting}
//! edges: [START -> greet -> END]
//! ";
//! let loaded = load_text("greeter.yaml", text, &Environment::default()).unwrap();
//! let state = loaded.graph.invoke(value!({"name": "Ada"})).await.unwrap();
//! assert_eq!(state.get("greeting"), Some(&value!("Hello Ada!")));
//!
//! let wrong = text.replace("{{ name }}", "{{ nmae }}");
//! let report = load_text("greeter.yaml", &wrong, &Environment::default()).unwrap_err();
//! let mistake = report.iter().next().unwrap();
//! assert_eq!(
//!     mistake.to_string(),
//!     "greeter.yaml:5:47: unknown variable `nmae` (did you mean `name`?) [AF0120]",
//! );
//! # });
//! ```

mod agent;
pub mod codes;
pub mod diagnostic;
mod document;
mod dynamic;
mod edges;
pub mod environment;
mod expression;
pub mod file;
pub mod http;
mod load;
mod mcp;
pub mod memory;
mod node;
mod offer;
pub mod project;
mod schema;
mod scope;
mod shape;
mod state;
mod template;
pub mod tool;
pub mod tree;
mod variables;

pub use diagnostic::{Colour, Diagnostic, Diagnostics, Severity};
pub use document::{Document, parse, yaml};
pub use environment::{Environment, Models};
pub use http::Http;
pub use load::{LoadedGraph, MAX_NODES, load, load_text};
pub use memory::Memories;
pub use project::project_template;
pub use tool::{Answer, SharedSource, SharedTool, Tool, ToolContext, ToolSource, Tools};

/// The JSON Schema of graph files, for editors and other tools.
#[must_use]
pub fn schema() -> serde_json::Value {
    schema::schema().clone()
}
