//! How fast documents are read and cut, and what a worker takes: `rates WORKER SECONDS FILE…`.
//!
//! WORKER is the program `agentflow-rag-worker`. Each file is read in a sandbox of one process for so
//! many seconds. Columns: file, kind, bytes, documents per second, blocks, chunks, milliseconds to cut
//! once, and the most memory that the worker had, in MiB; or why the file was refused.
#![allow(clippy::unwrap_used)]

use std::{
    env, fs,
    process::Command,
    time::{Duration, Instant},
};

use agentflow_rag::{Declared, Limits, Sandbox, chunk, chunk::Settings, sandbox::Size};

#[tokio::main]
async fn main() {
    let mut arguments = env::args().skip(1);
    let worker = arguments.next().unwrap();
    let time = Duration::from_secs_f64(arguments.next().unwrap().parse().unwrap());
    for file in arguments {
        let size = Size {
            processes: 1,
            ..Size::default()
        };
        let sandbox = Sandbox::new(Command::new(&worker), Limits::default(), size);
        let bytes = fs::read(&file).unwrap();
        let declared = Declared::named(&file);
        let start = Instant::now();
        let mut count = 0_u32;
        let outcome = loop {
            let outcome = sandbox.parse(&bytes, &declared).await;
            count += 1;
            if start.elapsed() >= time || outcome.is_err() {
                break outcome;
            }
        };
        let rate = f64::from(count) / start.elapsed().as_secs_f64();
        let name = file.rsplit('/').next().unwrap_or_default();
        let length = bytes.len();
        let parsed = match outcome {
            Ok(parsed) => parsed,
            Err(refusal) => {
                println!("{name}\t{length}\trefused: {refusal}");
                continue;
            }
        };
        let status = sandbox
            .idle_workers()
            .first()
            .map(|id| format!("/proc/{id}/status"));
        let status = status
            .and_then(|path| fs::read_to_string(path).ok())
            .unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        let start = Instant::now();
        let chunks = chunk(&parsed, &Settings::default()).unwrap().len();
        let cut = start.elapsed().as_secs_f64() * 1_000.0;
        let (kind, blocks) = (parsed.kind, parsed.blocks.len());
        let peak = peak.unwrap_or_default() / 1_024.0;
        println!("{name}\t{kind}\t{length}\t{rate:.1}\t{blocks}\t{chunks}\t{cut:.1}\t{peak:.0}");
    }
}
