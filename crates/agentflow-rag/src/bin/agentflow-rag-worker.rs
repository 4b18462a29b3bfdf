//! A worker alone, for the tests of this crate and for measuring. The server is its own worker.

fn main() -> std::process::ExitCode {
    agentflow_rag::sandbox::worker_main()
}
