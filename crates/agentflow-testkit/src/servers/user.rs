//! Running programs that refuse to run as root.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::{Command, Stdio},
};

use agentflow_types::{Error, Result};

use super::find;

/// The user that servers run as when tests run as root.
const UNPRIVILEGED: &str = "nobody";

/// Id of the user of this process.
///
/// # Errors
/// `Failed` without `/proc`.
pub(crate) fn id() -> Result<u32> {
    // The standard library has no `geteuid`; the kernel tells it here.
    Ok(fs::metadata("/proc/self").map_err(find::io)?.uid())
}

/// User and group of [`UNPRIVILEGED`], if this process is root's.
fn dropped() -> Result<Option<(u32, u32)>> {
    if id()? != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").map_err(find::io)?;
    let ids = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let mut number = || fields.next()?.parse::<u32>().ok();
        let (_, uid, gid) = (number(), number()?, number()?);
        (name == UNPRIVILEGED).then_some((uid, gid))
    });
    ids.map(Some).ok_or_else(|| {
        Error::failed("servers do not run as root and there is no user to run them as")
            .with("user", UNPRIVILEGED)
    })
}

/// A command that runs `program` without root's rights, with an almost empty environment and
/// without input. Its process id is that of `program`.
pub(crate) fn command(program: &Path) -> Result<Command> {
    let mut command = match dropped()? {
        None => Command::new(program),
        Some((uid, gid)) => {
            let mut command = Command::new(find::program("setpriv", "util-linux")?);
            command
                .arg(format!("--reuid={uid}"))
                .arg(format!("--regid={gid}"))
                .args(["--clear-groups", "--"])
                .arg(program);
            command
        }
    };
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null());
    Ok(command)
}

/// Makes a file or folder belong to the user that servers run as, and to nobody else.
pub(crate) fn give(path: &Path) -> Result<()> {
    let is_dir = path.is_dir();
    let mode = if is_dir { 0o700 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(find::io)?;
    if let Some((uid, gid)) = dropped()? {
        chown(path, Some(uid), Some(gid)).map_err(find::io)?;
    }
    Ok(())
}

/// Whether the user that servers run as can read and enter `path`.
pub(crate) fn reaches(path: &Path) -> Result<bool> {
    let status = command(Path::new("/usr/bin/test"))?
        .arg("-r")
        .arg(path)
        .status()
        .map_err(find::io)?;
    Ok(status.success())
}
