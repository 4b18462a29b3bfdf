//! How well memories are found again.

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    install,
    shell::{cargo, run},
};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// Conversations in LoCoMo's format.
    #[arg(long)]
    data: PathBuf,
    /// Also with the conversations' observations as a second index.
    #[arg(long)]
    facts: bool,
    /// Also through the service, with records and vectors in SQLite.
    #[arg(long)]
    served: bool,
    /// Further options, for example `--category 1` or `--weights asks=0`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    more: Vec<String>,
}

/// `cargo xtask bench locomo`.
pub fn locomo(args: &Args) -> Result<()> {
    let model = install::minilm()?;
    let data = std::path::absolute(&args.data)?;
    let mut command = cargo([
        "run",
        "--quiet",
        "--release",
        "--package",
        "agentflow-memory",
        "--example",
        "locomo",
        "--",
        "--data",
    ]);
    command.arg(data).arg("--model").arg(model);
    if args.facts {
        command.arg("--facts");
    }
    if args.served {
        command.arg("--served");
    }
    run(command.args(&args.more))
}
