//! Processes of workers: how they start, what they say last, how they end.

use std::{
    collections::VecDeque,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentflow_types::{Error, Result};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, kill_process_group, prlimit};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

/// Lines that are kept.
const KEPT_LINES: usize = 60;
/// Bytes of a line that are kept.
const LINE_BYTES: usize = 500;
/// Bytes of a line that are read at once; a longer one counts as several.
const READ_BYTES: u64 = 1 << 14;
/// How long a process that was asked for its stacks gets to write them.
const STACKS: Duration = Duration::from_millis(500);
/// How long pipes are read after the process ended; children of it may hold them open.
const LAST_LINES: Duration = Duration::from_millis(500);

/// What the names of our own variables begin with.
const OURS: &[u8] = b"AGENTFLOW_";
/// What those of them begin with that are for the worker.
const ITS: &[u8] = b"AGENTFLOW_WORKER_";

/// How a process is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Program and first arguments, for example `[".venv/bin/python"]`.
    pub command: Vec<String>,
    /// Folder that is put on Python's import path; `None` if the package is installed.
    pub package: Option<PathBuf>,
    /// Most private memory in bytes; `None` for no limit.
    pub memory_bytes: Option<u64>,
}

/// The last lines that a process wrote.
#[derive(Clone, Default)]
pub(crate) struct Tail(
    /// Guards the lines; held for one push or copy.
    Arc<Mutex<VecDeque<String>>>,
);

impl Tail {
    fn push(&self, mut line: String) {
        if line.len() > LINE_BYTES {
            let end = line.floor_char_boundary(LINE_BYTES);
            line.truncate(end);
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }

    /// What was kept.
    pub(crate) fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = kept.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}

/// Reads lines until the stream ends; `tail` keeps the last ones.
async fn read(stream: impl AsyncRead + Unpin, tail: Option<Tail>, pid: u32) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut some = (&mut stream).take(READ_BYTES);
        match some.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        tracing::info!(pid, "worker: {line}");
        if let Some(tail) = &tail {
            tail.push(line);
        }
    }
}

/// A running process. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    pid: u32,
    tail: Tail,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a worker that connects to `address` and shows `token`.
    ///
    /// # Errors
    /// `Failed` if it cannot be started.
    pub(crate) fn start(
        launch: &Launch,
        project: &std::path::Path,
        address: &str,
        token: &str,
    ) -> Result<Self> {
        let cannot = || Error::failed("the worker cannot be started").class("WorkerStartError");
        let (program, first) = launch
            .command
            .split_first()
            .ok_or_else(|| cannot().with("reason", "no command"))?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            // Our own settings, keys among them, are none of the project's business.
            let bytes = name.as_encoded_bytes();
            if bytes.starts_with(OURS) && !bytes.starts_with(ITS) {
                command.env_remove(name);
            }
        }
        command
            .args(first)
            .args(["-m", "agentflow_worker", "--connect", address, "--config"])
            .arg(project)
            .env("AGENTFLOW_WORKER_TOKEN", token)
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the server, which drains its workers.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(dir) = project.parent() {
            command.current_dir(dir);
        }
        if let Some(package) = &launch.package {
            command.env("PYTHONPATH", python_path(package));
        }
        let mut child = command
            .spawn()
            .map_err(|err| cannot().with("program", program).source_err(err))?;
        let pid = child.id().ok_or_else(cannot)?;
        limit(pid, launch.memory_bytes);
        let tail = Tail::default();
        let mut readers = Vec::with_capacity(2);
        if let Some(out) = child.stdout.take() {
            readers.push(tokio::spawn(read(out, None, pid)));
        }
        if let Some(err) = child.stderr.take() {
            readers.push(tokio::spawn(read(err, Some(tail.clone()), pid)));
        }
        Ok(Self {
            child,
            pid,
            tail,
            readers,
        })
    }

    /// Id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the end.
    pub(crate) async fn ended(&mut self) -> Last {
        let status = self.child.wait().await;
        self.sweep();
        for reader in self.readers.drain(..) {
            let abort = reader.abort_handle();
            if tokio::time::timeout(LAST_LINES, reader).await.is_err() {
                abort.abort();
            }
        }
        let exited = status.as_ref().is_ok_and(|status| status.code().is_some());
        let how = match status {
            Ok(status) => told(status),
            Err(err) => format!("its end is unknown ({err})"),
        };
        Last {
            how: format!("the worker process {how}"),
            exited,
            lines: self.tail.text(),
        }
    }

    /// Asks for the stacks of all threads, then kills the process with what it started.
    pub(crate) async fn kill_with_stacks(&self) {
        self.signal(Signal::USR1);
        tokio::time::sleep(STACKS).await;
        self.kill();
    }

    /// Kills the process with what it started.
    pub(crate) fn kill(&self) {
        self.sweep();
        self.signal(Signal::KILL);
    }

    /// Kills what is left of its process group.
    fn sweep(&self) {
        if let Some(pid) = raw(self.pid) {
            // Gone already is what is wanted.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    fn signal(&self, signal: Signal) {
        // An ended process that nobody waited for keeps its number.
        if let (Some(pid), Some(_)) = (raw(self.pid), self.child.id()) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.id().is_some() {
            self.sweep();
        }
        for reader in &self.readers {
            reader.abort();
        }
    }
}

fn raw(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Our package before whatever the environment says.
fn python_path(package: &std::path::Path) -> std::ffi::OsString {
    let before = std::env::var_os("PYTHONPATH").filter(|path| !path.is_empty());
    let mut path = package.as_os_str().to_owned();
    if let Some(before) = before {
        path.push(":");
        path.push(before);
    }
    path
}

/// Bounds private memory: what is shared, or mapped from files, does not count.
fn limit(pid: u32, memory_bytes: Option<u64>) {
    let (Some(bytes), Some(pid)) = (memory_bytes, raw(pid)) else {
        return;
    };
    let limit = Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    if let Err(err) = prlimit(Some(pid), Resource::Data, limit) {
        tracing::warn!(error = %err, "a worker's memory cannot be bounded");
    }
}

fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by {}", signal_name(signal)),
        (None, None) => "ended".into(),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        _ => return format!("signal {signal}"),
    };
    name.into()
}

/// How a process ended.
pub(crate) struct Last {
    /// By which exit code or signal.
    pub(crate) how: String,
    /// Whether it ended by itself, and not by a signal.
    pub(crate) exited: bool,
    /// What it wrote last.
    lines: String,
}

impl Last {
    /// The end for people.
    pub(crate) fn told(&self) -> String {
        self.because(&self.how)
    }

    /// The same when we know better why it ended.
    pub(crate) fn because(&self, why: &str) -> String {
        match self.lines.trim() {
            "" => why.to_owned(),
            lines => format!("{why}; its last lines:\n{lines}"),
        }
    }
}
