//! Build, check and measure AgentFlow: `cargo xtask help`.

mod bench;
mod ci;
mod differential;
mod fixture;
mod install;
mod mem0;
mod r2r;
mod registry;
mod schemathesis;
mod shell;
mod suites;
mod summary;
mod tidy;
mod workers;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what tests need, then run every check; what CI runs.
    Ci {
        /// Only these steps, separated by commas.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Install what tests start or load: PostgreSQL, PgBouncer, Redis, Valkey, an embedding model.
    Servers,
    /// Rules about the code that the compiler does not know.
    Tidy,
    /// Kill servers at random moments under load and check what it promised.
    Crash {
        /// Options of the driver, for example `--kills 100 --seed 7`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Break what is between two servers and their PostgreSQL, and check what they promised.
    Chaos {
        /// Options of the driver, for example `--rounds 1 --seed 7`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Mixed load for a long time on two servers, one of which is killed again and again.
    Soak {
        /// Options of the driver, for example `--minutes 20 --seed 7`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Send the same requests to LangGraph's development server and to ours, and compare.
    Differential {
        /// Options of the comparison, for example `--show 'create run'`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run a conformance suite against a server that is already there, or compare real files.
    #[command(subcommand)]
    Conformance(Conformance),
    /// Measure us and a peer side by side.
    #[command(subcommand)]
    Bench(Bench),
    /// Run LangGraph's own SDK integration suite against our server.
    Integration {
        /// Folder `tests/integration` of the Python SDK; the released one if absent.
        #[arg(long)]
        suite: Option<std::path::PathBuf>,
    },
}

#[derive(Subcommand)]
enum Conformance {
    /// The suite of vectors on a Qdrant server; it makes collections of its own and drops them.
    Vectors(suites::VectorArgs),
    /// Compose files against the models that Docker Compose 2.40.3 printed.
    Compose {
        /// The folder with `files/` and the two `golden-*.jsonl.gz`.
        #[arg(long)]
        data: std::path::PathBuf,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// The graph engine and the agent server against LangGraph's; writes docs/benchmarks.md.
    Graph(bench::GraphArgs),
    /// Checkpoints on PostgreSQL against LangGraph's; writes docs/benchmarks-checkpoints.md.
    Checkpoints(bench::CheckpointArgs),
    /// A graph in Python against LangGraph's server; writes docs/benchmarks-workers.md.
    Worker(bench::WorkerArgs),
    /// How much of the evidence for questions about conversations is found, without a model.
    Locomo(bench::LocomoArgs),
    /// Adding and finding memories against Mem0's library; writes docs/benchmarks-memory.md.
    Memory(bench::MemoryArgs),
    /// Ten thousand open streams, and LangGraph's server; writes docs/benchmarks-streams.md.
    Streams(bench::StreamArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Ci { only } => ci::run(&only),
        Command::Servers => install::servers(),
        Command::Tidy => tidy::run(),
        Command::Crash { args } => suites::by_hand(suites::crash(&args)),
        Command::Chaos { args } => suites::by_hand(suites::chaos(&args)),
        Command::Soak { args } => suites::by_hand(suites::soak(&args)),
        Command::Differential { args } => suites::by_hand(differential::run(&args)),
        Command::Conformance(Conformance::Vectors(args)) => suites::by_hand(suites::vectors(&args)),
        Command::Conformance(Conformance::Compose { data }) => suites::compose(&data),
        Command::Bench(Bench::Graph(args)) => bench::graph(&args),
        Command::Bench(Bench::Checkpoints(args)) => bench::checkpoints(&args),
        Command::Bench(Bench::Locomo(args)) => bench::locomo(&args),
        Command::Bench(Bench::Memory(args)) => bench::memory(&args),
        Command::Bench(Bench::Streams(args)) => bench::streams(&args),
        Command::Bench(Bench::Worker(args)) => bench::worker(&args),
        Command::Integration { suite } => suites::by_hand(match suite {
            Some(suite) => suites::integration(&suite),
            None => suites::sdk_suite(),
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::FAILURE
        }
    }
}
