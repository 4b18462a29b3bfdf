//! Tools for tests: a scriptable model server, processes to start and kill, waiting without
//! sleeping.
//!
//! [`servers`] starts real databases on private ports; [`faults`] is a proxy in front of them;
//! [`minilm()`] is where a real embedding model lies.
//!
//! [`ModelServer`] speaks OpenAI's, Anthropic's and Ollama's APIs from one [`Script`], with
//! faults. The binary `agentflow-testkit-model-server` is the same for tests in other languages.
//!
//! With the feature `qdrant` there is a stand-in for a Qdrant server, also as the binary
//! `agentflow-testkit-qdrant`.

mod delivery;
pub mod embedding;
pub mod faults;
mod listener;
pub mod ports;
pub mod process;
#[cfg(feature = "qdrant")]
pub mod qdrant;
pub mod receiver;
pub mod script;
pub mod server;
pub mod servers;
pub mod waiting;
mod wire;

pub use process::Process;
pub use script::{Call, Fault, Reply, Rule, Script, Then, When};
pub use server::{ModelServer, Outcome, Recorded};
pub use servers::find::minilm;
