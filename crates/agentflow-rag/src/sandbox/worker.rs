//! The worker's side: limits itself, then reads one document after the other.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    process::ExitCode,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Serialize, de::DeserializeOwned};

use super::frame::{Answer, Hello, REQUEST, Ready, Request, VERSION};
use crate::{
    limits::{Bound, Limits, within},
    parse::parse,
    refusal::Refusal,
};

/// Address space that a program of this size has, if the system does not tell.
const ASSUMED: u64 = 512 << 20;

/// Runs a worker until its parent closes the pipe. Call it first thing in `main`, before any thread
/// starts: limits of the process are set here.
pub fn worker_main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The parent reads the last line when a worker ends.
            eprintln!("worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    // Libraries that print must not print into the frames.
    let mut output = File::from(rustix::io::dup(rustix::stdio::stdout())?);
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    let mut input = BufReader::new(io::stdin().lock());
    let Some(Hello { limits }) = receive(&mut input)? else {
        return Ok(());
    };
    confine(&limits)?;
    let ready = send(&mut output, &Ready { version: VERSION }, u64::MAX)?;
    ready.map_err(io::Error::other)?;
    while let Some(Request { declared, bytes }) = receive(&mut input)? {
        allow_cpu(limits.cpu)?;
        let size = usize::try_from(bytes).map_err(io::Error::other)?;
        let mut document = vec![0; size];
        input.read_exact(&mut document)?;
        let answer: Answer = parse(&document, &declared, &limits);
        drop(document);
        let panicked = matches!(answer, Err(Refusal::Crashed { .. }));
        if let Err(refusal) = send(&mut output, &answer, limits.answer())? {
            let refused = send(&mut output, &Answer::Err(refusal), u64::MAX)?;
            refused.map_err(io::Error::other)?;
        }
        // A panic may have left anything behind.
        if panicked {
            return Ok(());
        }
    }
    Ok(())
}

/// Gives up what a parser does not need, for good.
fn confine(limits: &Limits) -> io::Result<()> {
    let both = |value: u64| Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    // Before files are forbidden: the size of the program is read out of one.
    let own = own_space().unwrap_or(ASSUMED);
    setrlimit(Resource::As, both(own.saturating_add(limits.memory)))?;
    setrlimit(Resource::Fsize, both(0))?;
    setrlimit(Resource::Core, both(0))?;
    // Neither files nor connections; what is open stays open.
    setrlimit(Resource::Nofile, both(0))?;
    // Neither processes nor threads, unless root runs it.
    setrlimit(Resource::Nproc, both(0))?;
    #[cfg(target_os = "linux")]
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// Address space of this process.
fn own_space() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = pages.split(' ').next()?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Lets the process use so much more processor time. The system counts whole seconds.
fn allow_cpu(more: Duration) -> io::Result<()> {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).tv_sec;
    let used = u64::try_from(used).unwrap_or_default();
    let seconds = used + more.as_secs() + u64::from(more.subsec_nanos() > 0) + 1;
    let limit = Rlimit {
        current: Some(seconds),
        maximum: None,
    };
    Ok(setrlimit(Resource::Cpu, limit)?)
}

/// Reads a frame; `None` at the end of the pipe.
fn receive<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length);
    if u64::from(length) > REQUEST {
        return Err(io::Error::other("a frame of the parent is too long"));
    }
    let mut frame = vec![0; length as usize];
    input.read_exact(&mut frame)?;
    serde_json::from_slice(&frame)
        .map(Some)
        .map_err(io::Error::other)
}

/// Writes a frame. The inner error: it would be longer than `most`, and nothing was written.
fn send<T: Serialize>(
    output: &mut impl Write,
    value: &T,
    most: u64,
) -> io::Result<Result<(), Refusal>> {
    let frame = serde_json::to_vec(value)?;
    let most = most.min(u64::from(u32::MAX));
    if let Err(refusal) = within(Bound::Answer, frame.len() as u64, most) {
        return Ok(Err(refusal));
    }
    output.write_all(
        &u32::try_from(frame.len())
            .map_err(io::Error::other)?
            .to_le_bytes(),
    )?;
    output.write_all(&frame)?;
    output.flush()?;
    Ok(Ok(()))
}
