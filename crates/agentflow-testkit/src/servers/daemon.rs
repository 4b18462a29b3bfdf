//! A process in the background with its folder, its log and somebody who ends it.

use std::{
    fs::{self, File},
    io::{self, Write},
    net::{Ipv4Addr, TcpStream},
    os::unix::{fs::DirBuilderExt, fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use agentflow_types::{Error, Result};

use super::{find, user};

/// Longest time that a server may take to start on a busy machine.
pub(crate) const START: Duration = Duration::from_secs(60);

/// Time between two looks at a server that starts or stops.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// Characters of a server's log that a message shows.
const SHOWN: usize = 3_000;

/// Ends servers that nobody uses.
const WATCH: &str = include_str!("watch.sh");

/// How a server is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// PostgreSQL: disconnects clients, then stops.
    Interrupt,
    /// Redis, PgBouncer.
    Terminate,
    /// No chance to clean up.
    Kill,
    /// Does nothing from now on.
    Stop,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
        }
    }
}

/// Folder of this user's servers.
///
/// # Errors
/// `Failed` if it belongs to somebody else or servers cannot reach it.
pub(crate) fn run_dir() -> Result<PathBuf> {
    let uid = user::id()?;
    let dir = std::env::temp_dir().join(format!("agentflow-servers-{uid}"));
    let made = fs::DirBuilder::new().mode(0o755).create(&dir);
    if let Err(error) = made
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(find::io(error));
    }
    let found = fs::symlink_metadata(&dir).map_err(find::io)?;
    if !found.is_dir() || found.uid() != uid {
        return Err(Error::failed("the folder for test servers is not ours")
            .with("folder", dir.display().to_string()));
    }
    Ok(dir)
}

/// A fresh folder below [`run_dir`].
pub(crate) fn fresh_dir(name: &str) -> Result<PathBuf> {
    let run = run_dir()?;
    let process = std::process::id();
    for number in 0.. {
        let dir = run.join(format!("{name}-{process}-{number}"));
        match fs::DirBuilder::new().mode(0o755).create(&dir) {
            Ok(()) if user::reaches(&dir)? => return Ok(dir),
            Ok(()) => {
                return Err(Error::failed(
                    "the user that servers run as cannot reach the folder; set TMPDIR",
                )
                .with("folder", dir.display().to_string()));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(find::io(error)),
        }
    }
    unreachable!("the loop ends only by returning")
}

/// Starts `command` in the background and notes it for the watcher of the folder, which ends it
/// with `end`. What it prints is appended to `log` of the folder.
pub(crate) fn spawn(dir: &Path, mut command: Command, end: Signal) -> Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log(dir))
        .map_err(find::io)?;
    // A process group of its own: Ctrl-C in a terminal ends tests, and they end the servers.
    let child = command
        .current_dir(dir)
        .stdout(log.try_clone().map_err(find::io)?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(find::io)?;
    note(dir, &format!("{} {}\n", child.id(), end.name()))?;
    Ok(child)
}

/// Runs `command` to its end.
///
/// # Errors
/// `Failed` with what it printed if it fails.
pub(crate) fn run(mut command: Command, input: &str) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(find::io)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(find::io)?;
    }
    let output = child.wait_with_output().map_err(find::io)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Error::failed("a program of a test server failed")
            .with("program", name)
            .with("status", output.status)
            .with("stdout", String::from_utf8_lossy(&output.stdout))
            .with("stderr", String::from_utf8_lossy(&output.stderr))),
    }
}

fn log(dir: &Path) -> PathBuf {
    dir.join("log")
}

/// The end of a server's log.
pub(crate) fn tail(dir: &Path) -> String {
    let bytes = fs::read(log(dir)).unwrap_or_default();
    let skipped = bytes.len().saturating_sub(SHOWN);
    String::from_utf8_lossy(&bytes[skipped..]).into_owned()
}

/// Waits until `is_ready` holds.
///
/// # Errors
/// `Failed` if the process ends first, `Uncertain` after [`START`]; both show the log.
pub(crate) fn wait_ready(dir: &Path, child: &mut Child, is_ready: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + START;
    loop {
        if is_ready() {
            return Ok(());
        }
        let log = || format!("\n{}", tail(dir));
        if let Some(status) = child.try_wait().map_err(find::io)? {
            return Err(Error::failed("a test server ended while it started")
                .with("status", status)
                .with("log", log()));
        }
        if Instant::now() > end {
            return Err(Error::uncertain("a test server did not start in time")
                .with("waited_ms", START.as_millis())
                .with("log", log()));
        }
        thread::sleep(LOOK);
    }
}

/// Whether somebody listens on a loopback port.
pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Sends a signal; a process that is gone already is no error.
pub(crate) fn signal(pids: &[u32], signal: Signal) -> Result<()> {
    if pids.is_empty() {
        return Ok(());
    }
    // Sending signals without unsafe code needs a program; every shell has it built in.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "kill \"$@\" 2>/dev/null || :", "kill"])
        .arg(format!("-{}", signal.name()))
        .args(pids.iter().map(u32::to_string));
    run(command, "").map(|_| ())
}

/// Tells the watcher which process to end: its id and signal, or nothing.
fn note(dir: &Path, line: &str) -> Result<()> {
    fs::write(dir.join("pids"), line).map_err(find::io)
}

/// Has the server in `dir` ended, and its folder removed, once nobody has held a shared lock on
/// `lock` for `idle`. `state` is removed first.
pub(crate) fn watch(lock: &Path, idle: Duration, dir: &Path, state: Option<&Path>) -> Result<()> {
    find::program("flock", "util-linux")?;
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", WATCH, "agentflow-test-server-watch"])
        .arg(lock)
        .arg(idle.as_secs().to_string())
        .arg(dir)
        .arg(state.unwrap_or(Path::new("")))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(find::io)?;
    Ok(())
}

/// A server that belongs to one test: it and its folder go when this is dropped or when the
/// process ends, whatever way.
pub(crate) struct Owned {
    pub(crate) dir: PathBuf,
    child: Option<Child>,
    /// The lock whose release tells the watcher to clean up. Locked by this process only.
    _lease: File,
}

impl Owned {
    /// A folder with its watcher, without a process yet.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let dir = fresh_dir(name)?;
        let lock = dir.join("lease");
        let lease = File::create(&lock).map_err(find::io)?;
        lease.lock_shared().map_err(find::io)?;
        watch(&lock, Duration::ZERO, &dir, None)?;
        Ok(Self {
            dir,
            child: None,
            _lease: lease,
        })
    }

    /// Starts the process and waits until it is ready.
    pub(crate) fn start(
        &mut self,
        command: Command,
        end: Signal,
        is_ready: impl Fn() -> bool,
    ) -> Result<()> {
        let mut child = spawn(&self.dir, command, end)?;
        let ready = wait_ready(&self.dir, &mut child, is_ready);
        self.child = Some(child);
        ready
    }

    /// Ends the process, with its children when it is killed, and waits until it is gone.
    pub(crate) fn stop(&mut self, how: Signal) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let mut pids = vec![child.id()];
        if how == Signal::Kill {
            // A process that has stopped has no further children after they were counted.
            signal(&pids, Signal::Stop)?;
            pids.extend(children(child.id()));
        }
        signal(&pids, how)?;
        child.wait().map_err(find::io)?;
        // Orphans hold what the next start needs until they are gone as well.
        let end = Instant::now() + START;
        while pids[1..].iter().any(|pid| lives(*pid)) && Instant::now() < end {
            thread::sleep(LOOK);
        }
        // The number may belong to somebody else from now on.
        note(&self.dir, "")
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // The folder is worth nothing any more, so there is nothing to clean up inside. The
        // watcher removes it.
        let _ = self.stop(Signal::Kill);
    }
}

/// Children of a process.
fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Whether a process is there and no zombie.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &Path) -> Child {
        let mut command = Command::new("sleep");
        command.arg("600").current_dir(dir).spawn().unwrap()
    }

    fn wait(what: impl Fn() -> bool) {
        let end = Instant::now() + START;
        while !what() {
            assert!(Instant::now() < end, "it did not happen in time");
            thread::sleep(LOOK);
        }
    }

    #[test]
    fn a_server_ends_when_its_user_is_killed() {
        let dir = fresh_dir("test-killed").unwrap();
        let lock = dir.join("lease");
        // Its user, who is killed and cannot clean up.
        let mut user = Command::new("flock")
            .args(["--shared", "--close"])
            .arg(&lock)
            .args(["-c", "echo locked; exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 7];
        io::Read::read_exact(user.stdout.as_mut().unwrap(), &mut line).unwrap();
        let mut server = sleeper(&dir);
        note(&dir, &format!("{} KILL\n", server.id())).unwrap();
        watch(&lock, Duration::ZERO, &dir, None).unwrap();
        assert!(server.try_wait().unwrap().is_none());
        signal(&children(user.id()), Signal::Kill).unwrap();
        user.kill().unwrap();
        user.wait().unwrap();
        assert!(!server.wait().unwrap().success());
        wait(|| !dir.exists());
    }

    #[test]
    fn a_process_that_got_the_number_of_a_dead_server_lives() {
        let dir = fresh_dir("test-number").unwrap();
        let mut stranger = sleeper(Path::new("/"));
        note(&dir, &format!("{} KILL\n", stranger.id())).unwrap();
        watch(&dir.join("lease"), Duration::ZERO, &dir, None).unwrap();
        wait(|| !dir.exists());
        assert!(stranger.try_wait().unwrap().is_none());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
