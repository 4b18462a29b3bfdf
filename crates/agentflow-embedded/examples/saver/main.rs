//! The embedded backend's checkpoints for LangGraph's conformance package. Usage: `saver FILE`.

mod protocol;

use agentflow_embedded::{Embedded, Options};
use agentflow_types::{Error, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let path = std::env::args()
        .nth(1)
        .ok_or_else(|| Error::invalid("usage: saver FILE"))?;
    let backend = Embedded::open(path, Options::default())?.backend();
    protocol::serve(&*backend.checkpoints).await
}
