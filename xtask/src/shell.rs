//! Running other programs.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// The root of the project.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("xtask is a folder of the project")
        .to_owned()
}

/// Folder for things that outlive a checkout: `AGENTFLOW_CACHE`, else the user's cache folder,
/// else `target/cache`.
pub fn cache() -> PathBuf {
    let from = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    from("AGENTFLOW_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|dir| dir.join("agentflow")))
        .or_else(|| from("HOME").map(|dir| dir.join(".cache").join("agentflow")))
        .unwrap_or_else(|| root().join("target").join("cache"))
}

/// Folder for build results that checkouts share.
pub fn target() -> PathBuf {
    std::env::var_os("AGENTFLOW_TARGET_DIR").map_or_else(|| cache().join("target"), PathBuf::from)
}

/// A program in the project's root, with the shared build folder.
pub fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(name);
    command
        .current_dir(root())
        .env("CARGO_TARGET_DIR", target());
    command
}

/// `cargo` with arguments.
pub fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = program(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(args);
    command
}

/// Builds every program and example of the workspace, as the step `tests` does: with the same
/// features, so that dependencies are not built a second time.
pub fn built() -> Result<()> {
    run(&mut cargo([
        "build",
        "--locked",
        "--quiet",
        "--workspace",
        "--bins",
        "--examples",
        "--tests",
    ]))
}

/// Runs to the end; an exit code other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs to the end, showing each line and keeping it; returns whether it succeeded.
pub fn tee(command: &mut Command) -> Result<(bool, Vec<String>)> {
    let shown = show(command);
    // One pipe for both streams keeps the lines in order.
    let (reader, writer) = std::io::pipe()?;
    command
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .stdin(Stdio::null());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    // The command holds our copies of the writing end; the reader ends when all are closed.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut lines = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        lines.push(line);
    }
    Ok((child.wait()?.success(), lines))
}

/// What a program prints, without line end.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .output()
        .with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}

/// Whether a program can be found.
pub fn exists(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

fn show(command: &Command) -> String {
    let args = command
        .get_args()
        .map(|arg| arg.to_string_lossy().into_owned());
    let all: Vec<String> = std::iter::once(command.get_program().to_string_lossy().into_owned())
        .chain(args)
        .collect();
    all.join(" ")
}
