//! The checkpoints of a PostgreSQL database for LangGraph's conformance package.
//! Usage: `postgres_saver URL`.

#[path = "../../agentflow-embedded/examples/saver/protocol.rs"]
mod protocol;

use agentflow_postgres::{Dsn, Listen, Options, Postgres};
use agentflow_types::{Error, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let url = std::env::args()
        .nth(1)
        .ok_or_else(|| Error::invalid("usage: postgres_saver URL"))?;
    let options = Options {
        listen: Listen::Off,
        ..Options::new(Dsn::parse(&url)?)
    };
    let backend = Postgres::open(options).await?.backend();
    protocol::serve(&*backend.checkpoints).await
}
