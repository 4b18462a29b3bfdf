//! The parent's side: one worker process.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
    task::JoinHandle,
    time::timeout,
};

use super::frame::{Answer, Hello, Ready, Request, VERSION};
use crate::{
    limits::{Bound, Limits, within},
    parse::{Declared, blocks::fact},
    refusal::Refusal,
};

/// Bytes of a worker's last words that are kept.
const LAST_WORDS: usize = 4_096;
/// Time for a worker to end after it closed its pipe.
const END: Duration = Duration::from_secs(5);
/// Bytes of the frame that says that a worker is ready.
const READY: u64 = 1_024;
/// The signal of a process that used up its processor time.
const SIGXCPU: i32 = 24;
/// The signal that the system sends when memory is short.
const SIGKILL: i32 = 9;

/// A worker. It is killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    /// Reads what the worker prints, and keeps the end of it.
    words: JoinHandle<String>,
    /// Documents that it was asked to read.
    pub documents: u32,
}

impl Process {
    pub async fn start(command: &Command, limits: &Limits) -> io::Result<Self> {
        let mut child = tokio::process::Command::new(command.get_program())
            .args(command.get_args())
            // Secrets are in the environment.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        let words = tokio::spawn(last_words(child.stderr.take().ok_or_else(missing)?));
        let mut process = Self {
            input: child.stdin.take().ok_or_else(missing)?,
            output: child.stdout.take().ok_or_else(missing)?,
            words,
            child,
            documents: 0,
        };
        let limits = limits.clone();
        process.send(&Hello { limits }).await?;
        match process.receive::<Ready>(READY).await? {
            Ok(ready) if ready.version == VERSION => Ok(process),
            _ => Err(io::Error::other("the parser is of another version")),
        }
    }

    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a document and waits for the answer. An error: the worker is lost.
    pub async fn ask(
        &mut self,
        bytes: &[u8],
        declared: &Declared,
        limits: &Limits,
    ) -> io::Result<Answer> {
        self.documents += 1;
        let request = Request {
            declared: shortened(declared),
            bytes: bytes.len() as u64,
        };
        self.send(&request).await?;
        self.input.write_all(bytes).await?;
        self.input.flush().await?;
        Ok(self.receive(limits.answer()).await?.unwrap_or_else(Err))
    }

    async fn send<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let frame = serde_json::to_vec(value)?;
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        let frame = [&length.to_le_bytes()[..], &frame].concat();
        self.input.write_all(&frame).await?;
        self.input.flush().await
    }

    /// Reads a frame. The inner error: it is longer than `most`.
    async fn receive<T: DeserializeOwned>(&mut self, most: u64) -> io::Result<Result<T, Refusal>> {
        let mut length = [0; 4];
        self.output.read_exact(&mut length).await?;
        let length = u32::from_le_bytes(length);
        if let Err(refusal) = within(Bound::Answer, u64::from(length), most) {
            // A worker checks this itself; this one is not to be trusted any more.
            self.child.start_kill()?;
            return Ok(Err(refusal));
        }
        let mut frame = vec![0; length as usize];
        self.output.read_exact(&mut frame).await?;
        Ok(Ok(serde_json::from_slice(&frame)?))
    }

    pub async fn kill(mut self) {
        // It ends anyway when this is dropped; waiting keeps the number of processes true.
        let _ = self.child.kill().await;
        self.words.abort();
    }

    /// Finds out why a worker ended.
    pub async fn autopsy(mut self, broken: &io::Error, limits: &Limits) -> Refusal {
        // Its pipe is closed, so it has ended or is about to.
        let Ok(Ok(status)) = timeout(END, self.child.wait()).await else {
            self.kill().await;
            return Refusal::Crashed {
                message: format!("the parser does not talk any more: {broken}"),
            };
        };
        let words = timeout(END, self.words).await;
        let words = words.ok().and_then(Result::ok).unwrap_or_default();
        cause(status, &words, limits)
    }
}

/// What the end of a worker says about the document.
fn cause(status: ExitStatus, words: &str, limits: &Limits) -> Refusal {
    if words.contains("memory allocation of") || words.contains("out of memory") {
        return Refusal::OutOfMemory {
            allowed: limits.memory,
        };
    }
    if words.contains("overflowed its stack") {
        return Refusal::Crashed {
            message: "its parts are nested too deeply for the parser".into(),
        };
    }
    let last = words.lines().last().map(fact).unwrap_or_default();
    let message = match (status.signal(), status.code()) {
        (Some(SIGXCPU), _) => {
            return Refusal::Timeout {
                allowed: limits.cpu,
            };
        }
        (Some(SIGKILL), _) => "the system ended the parser, most likely for want of memory".into(),
        (Some(signal), _) => format!("the parser was ended by signal {signal}; {last}"),
        (None, code) => format!("the parser ended with {}; {last}", code.unwrap_or_default()),
    };
    Refusal::Crashed { message }
}

/// Hints of reasonable length: names come from strangers, too.
fn shortened(declared: &Declared) -> Declared {
    // The end of a name has the extension.
    let name = declared.name.as_deref().map(|name| {
        let from = name.len().saturating_sub(Limits::FACT);
        let from = (from..=name.len()).find(|at| name.is_char_boundary(*at));
        name[from.unwrap_or_default()..].to_owned()
    });
    Declared {
        name,
        mime: declared.mime.as_deref().map(fact),
    }
}

/// Reads to the end and keeps the last bytes.
async fn last_words(mut from: ChildStderr) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 1_024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        let extra = kept.len().saturating_sub(LAST_WORDS);
        kept.drain(..extra);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
