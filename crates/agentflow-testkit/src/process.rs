//! Starting a program under test, reading what it says, and killing it without warning.

use std::{
    collections::VecDeque,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agentflow_types::{Error, Result};
use serde_json::Value as Json;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::waiting;

/// Most lines of output that are kept; older ones are forgotten.
const MOST_LINES: usize = 10_000;

/// Most characters of one line that are kept.
const LINE_CHARS: usize = 10_000;

/// Lines shown when the program does not behave.
const SHOWN_LINES: usize = 30;

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

type Lines = Arc<Mutex<VecDeque<(Output, String)>>>;

/// The program that ties another one's life to ours, and how.
#[cfg(target_os = "linux")]
const TIE: (&str, [&str; 3]) = ("/usr/bin/setpriv", ["--pdeathsig", "KILL", "--"]);

/// The same command, for a program that dies with the thread that starts it, and so with this
/// process, however that ends. Elsewhere than on Linux the command as it was.
///
/// The standard library asks the kernel for this only in unsafe code; `setpriv` of util-linux does
/// it and becomes the program, so that the process id is the program's. Threads of a runtime live
/// as long as it, but those that block end when they have had nothing to do for a while: start
/// programs elsewhere. What is set of input, output and process groups is set afterwards.
#[must_use]
pub fn tied(command: Command) -> Command {
    #[cfg(target_os = "linux")]
    if std::path::Path::new(TIE.0).is_file() {
        let inner = command.as_std();
        let mut outer = Command::new(TIE.0);
        outer
            .args(TIE.1)
            .arg(inner.get_program())
            .args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => outer.env(name, value),
                None => outer.env_remove(name),
            };
        }
        if let Some(folder) = inner.get_current_dir() {
            outer.current_dir(folder);
        }
        return outer;
    }
    command
}

/// A running program. Dropping it kills it, and it dies with us; see [`tied`].
pub struct Process {
    child: Child,
    lines: Lines,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` with its output captured and no input.
    ///
    /// # Errors
    /// `Failed` if it cannot be started.
    pub fn spawn(command: Command) -> Result<Self> {
        let mut command = tied(command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            let program = command
                .as_std()
                .get_program()
                .to_string_lossy()
                .into_owned();
            Error::failed("the program cannot be started")
                .with("program", program)
                .source_err(error)
        })?;
        let lines = Lines::default();
        let mut readers = Vec::new();
        if let Some(out) = child.stdout.take() {
            readers.push(tokio::spawn(read(out, Output::Out, lines.clone())));
        }
        if let Some(err) = child.stderr.take() {
            readers.push(tokio::spawn(read(err, Output::Err, lines.clone())));
        }
        Ok(Self {
            child,
            lines,
            readers,
        })
    }

    /// Id of the process; `None` once it has ended.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for the first line of standard output that is a JSON object for which `is_ready`
    /// holds.
    ///
    /// # Errors
    /// `Failed` if the program ends first, `Uncertain` if it takes longer than `deadline`; both
    /// show the last lines of output.
    pub async fn ready(
        &mut self,
        deadline: Duration,
        is_ready: impl Fn(&Json) -> bool,
    ) -> Result<Json> {
        let find = |lines: &VecDeque<(Output, String)>| {
            lines
                .iter()
                .filter(|(output, _)| *output == Output::Out)
                .filter_map(|(_, line)| serde_json::from_str::<Json>(line).ok())
                .find(|json| json.is_object() && is_ready(json))
        };
        let wait = async {
            loop {
                let ended = self.child.try_wait().ok().flatten();
                if ended.is_some() {
                    // What was written last is read before the verdict.
                    for reader in &mut self.readers {
                        let _ = reader.await;
                    }
                    self.readers.clear();
                }
                if let Some(line) = find(&lock(&self.lines)) {
                    return Ok(line);
                }
                if let Some(status) = ended {
                    return Err(Error::failed("the program ended before it was ready")
                        .with("status", status));
                }
                tokio::time::sleep(waiting::INTERVAL).await;
            }
        };
        let result = timeout(deadline, wait).await.unwrap_or_else(|_| {
            Err(Error::uncertain("the program was not ready in time")
                .with("waited_ms", deadline.as_millis()))
        });
        result.map_err(|error| error.with("output", format!("\n{}", self.tail())))
    }

    /// The lines that were written so far, at most the last 10,000.
    #[must_use]
    pub fn lines(&self) -> Vec<(Output, String)> {
        lock(&self.lines).iter().cloned().collect()
    }

    /// The last lines as one text, for messages.
    #[must_use]
    pub fn tail(&self) -> String {
        let lines = lock(&self.lines);
        let skipped = lines.len().saturating_sub(SHOWN_LINES);
        let texts: Vec<&str> = lines
            .iter()
            .skip(skipped)
            .map(|(_, line)| line.as_str())
            .collect();
        texts.join("\n")
    }

    /// `kill -9`: the program gets no chance to clean up. Returns when it is gone.
    ///
    /// # Errors
    /// `Failed` if the system refuses.
    pub async fn kill9(mut self) -> Result<()> {
        self.child
            .kill()
            .await
            .map_err(|error| Error::failed("the program cannot be killed").source_err(error))
    }

    /// Asks the program to end, as Ctrl-C does, and waits for it.
    ///
    /// # Errors
    /// `Uncertain` if it takes longer than `deadline`; it is killed then.
    pub async fn interrupt(self, deadline: Duration) -> Result<ExitStatus> {
        if let Some(id) = self.child.id() {
            // The standard library sends no signals but SIGKILL, and a crate that does needs
            // unsafe code; every Unix has this program.
            let sent = Command::new("kill")
                .arg("-INT")
                .arg(id.to_string())
                .status()
                .await;
            sent.map_err(|error| Error::failed("kill cannot be started").source_err(error))?;
        }
        self.wait(deadline).await
    }

    /// Waits until the program ends by itself.
    ///
    /// # Errors
    /// `Uncertain` if it takes longer than `deadline`; it is killed then.
    pub async fn wait(mut self, deadline: Duration) -> Result<ExitStatus> {
        match timeout(deadline, self.child.wait()).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(error)) => {
                Err(Error::failed("the program cannot be waited for").source_err(error))
            }
            Err(_) => Err(Error::uncertain("the program did not end in time")
                .with("waited_ms", deadline.as_millis())
                .with("output", format!("\n{}", self.tail()))),
        }
    }
}

fn lock(lines: &Lines) -> MutexGuard<'_, VecDeque<(Output, String)>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(pipe: impl AsyncRead + Unpin, output: Output, lines: Lines) {
    let mut reader = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        let line: String = line.chars().take(LINE_CHARS).collect();
        let mut lines = lock(&lines);
        if lines.len() == MOST_LINES {
            lines.pop_front();
        }
        lines.push_back((output, line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        Process::spawn(command).unwrap()
    }

    #[tokio::test]
    async fn the_ready_line_is_found_among_others() {
        let mut process = shell(
            r#"echo hello; echo '{"event":"other"}'; echo '{"event":"ready","port":7}'; exec sleep 60"#,
        );
        let line = process
            .ready(DEADLINE, |line| line["event"] == "ready")
            .await
            .unwrap();
        assert_eq!(line["port"], 7);
        assert!(process.id().is_some());
        process.kill9().await.unwrap();
    }

    #[tokio::test]
    async fn a_program_that_ends_early_shows_its_output() {
        let mut process = shell("echo oops >&2; exit 3");
        let error = process.ready(DEADLINE, |_| true).await.unwrap_err();
        assert!(error.to_string().contains("oops"), "{error}");
        assert!(
            error.to_string().contains("status: exit status: 3"),
            "{error}"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_dies_with_who_started_it() {
        let started = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let process = runtime.block_on(async {
                let mut process = shell("echo '{}'; exec sleep 60");
                process.ready(DEADLINE, |_| true).await.unwrap();
                process
            });
            let id = process.id().unwrap();
            // Nobody is left to kill it, as after a `kill -9` of ours.
            std::mem::forget(process);
            id
        });
        let id = started.join().unwrap();
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        let deadline = std::time::Instant::now() + DEADLINE;
        while lives() {
            assert!(std::time::Instant::now() < deadline, "it lives on");
            std::thread::sleep(waiting::INTERVAL);
        }
    }

    #[tokio::test]
    async fn an_interrupt_can_be_handled() {
        let mut process = shell(r#"trap 'exit 5' INT; echo '{}'; while :; do sleep 0.05; done"#);
        process.ready(DEADLINE, |_| true).await.unwrap();
        assert_eq!(process.interrupt(DEADLINE).await.unwrap().code(), Some(5));
    }
}
