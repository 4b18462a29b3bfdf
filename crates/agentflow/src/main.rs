//! The `agentflow` command.

use std::{process::ExitCode, time::Instant};

fn main() -> ExitCode {
    agentflow::cli::main(Instant::now())
}
