//! The test suites that are not `cargo test`: clients, conformance, crash driver, fuzzing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    fixture::{self, Fixture},
    install,
    shell::{built, cache, cargo, program, root, run, target},
    summary::{Outcome, Tally, counted},
};

/// Seconds that each fuzz target runs in CI.
const FUZZ_SECONDS: u32 = 60;

/// What LangGraph's SDK suite hard-codes in some of its tests; our server listens elsewhere.
const SUITE_URL: &str = "http://localhost:2024";

/// LangGraph's published conformance suite for checkpointers, over our database.
pub fn conformance() -> Result<Outcome> {
    let python = install::python()?;
    built()?;
    let saver = target().join("debug").join("examples").join("saver");
    let script = "crates/agentflow-embedded/tests/python/run_conformance.py";
    counted(program(python).arg(script).arg(saver))
}

/// A Qdrant server that is already there.
#[derive(clap::Args)]
pub struct VectorArgs {
    /// Address of its gRPC port, for example `https://qdrant.example.com:6334`.
    #[arg(long)]
    url: String,
    /// File with the authorities that may have signed its certificate, PEM.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// File with our certificate, PEM.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// File with its key, PEM.
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// File with an API key that may make and drop collections.
    #[arg(long)]
    api_key_file: Option<PathBuf>,
}

/// The suite of vectors on the server that is named.
pub fn vectors(args: &VectorArgs) -> Result<Outcome> {
    let mut command = cargo([
        "test",
        "--quiet",
        "--package",
        "agentflow-qdrant",
        "--test",
        "conformance",
        "--",
        // Not those of the stand-in over TLS.
        "vector_conformance::",
        "--skip",
        "over_tls::",
        // Each case has a collection of its own, which costs a server files and threads.
        "--test-threads",
        "4",
    ]);
    command.env("AGENTFLOW_QDRANT_URL", &args.url);
    for (name, path) in [
        ("AGENTFLOW_QDRANT_CA", &args.ca),
        ("AGENTFLOW_QDRANT_CERT", &args.cert),
        ("AGENTFLOW_QDRANT_KEY", &args.key),
        ("AGENTFLOW_QDRANT_API_KEY_FILE", &args.api_key_file),
    ] {
        if let Some(path) = path {
            // The tests run in the folder of their crate.
            let path = path
                .canonicalize()
                .with_context(|| path.display().to_string())?;
            command.env(name, path);
        }
    }
    counted(&mut command)
}

/// Compares our models of Compose files with Docker's, and mends them. The files are those of other
/// projects, so they are not ours to keep: `data` says where they are.
pub fn compose(data: &Path) -> Result<()> {
    let data = std::path::absolute(data)?;
    for example in ["conformance", "mending"] {
        let mut command = cargo(["run", "--quiet", "--release"]);
        let example = ["--package", "agentflow-gate", "--example", example];
        run(command.args(example).arg("--").arg(&data))?;
    }
    Ok(())
}

/// A folder of this process in the cache, removed on drop.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// An empty one.
    pub fn new(name: &str) -> Result<Self> {
        let dir = cache()
            .join("scratch")
            .join(format!("{name}-{}", std::process::id()));
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is in the cache folder and harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `suite` with a fresh fixture server.
pub(crate) fn with_fixture<T>(name: &str, suite: impl FnOnce(&Fixture) -> Result<T>) -> Result<T> {
    let binary = fixture::build()?;
    let data = Scratch::new(name)?;
    let server = Fixture::start(&binary, &data.0, 0)?;
    suite(&server)
}

/// The official Python client, sync and async, and RemoteGraph.
pub fn clients_python() -> Result<Outcome> {
    let python = install::python()?;
    with_fixture("clients-python", |server| {
        counted(
            program(&python)
                .args(["-m", "pytest", "-p", "no:cacheprovider", "--timeout", "60"])
                .args(["-o", "asyncio_mode=auto", "--color", "no", "clients/python"])
                .env("AGENTFLOW_URL", &server.url)
                .env("AGENTFLOW_FIXTURE", fixture::binary()),
        )
    })
}

/// The official JavaScript client, and the reference page in a browser.
pub fn clients_js() -> Result<Outcome> {
    install::browser()?;
    let dir = install::node()?;
    with_fixture("clients-js", |server| {
        let mut command = program("node");
        command
            // Streams that a check leaves open must not keep the runner from ending.
            .args(["--test", "--test-force-exit", "--test-reporter=tap"])
            .current_dir(&dir);
        counted(
            command
                .env("AGENTFLOW_URL", &server.url)
                .env("AGENTFLOW_FIXTURE", fixture::binary()),
        )
    })
}

/// Every public method of both SDKs against two servers on PostgreSQL and Redis, over TLS; requests
/// go to them in turn.
pub fn clients_replicas() -> Result<Outcome> {
    let python = install::python()?;
    let node = install::node()?;
    install::servers()?;
    let (server, driver) = (fixture::build()?, driver()?);
    let replicas = || {
        let mut command = program(&driver);
        command.args(["replicas", "--server"]).arg(&server);
        command
    };
    let mut outcome = counted(
        replicas()
            .arg(&python)
            .args(["-m", "pytest", "-p", "no:cacheprovider", "--timeout", "60"])
            .args(["-o", "asyncio_mode=auto", "--color", "no"])
            .arg("clients/python/test_every_method.py"),
    )?;
    let script = node.join("every_method.test.mjs");
    let more = counted(
        replicas()
            .arg("node")
            .args(["--test", "--test-force-exit", "--test-reporter=tap"])
            .arg(script),
    )?;
    outcome.tally += more.tally;
    outcome.lines.extend(more.lines);
    Ok(outcome)
}

/// The official Python client follows runs while both servers are replaced again and again.
pub fn clients_rolling() -> Result<Outcome> {
    let python = install::python()?;
    install::servers()?;
    let (server, driver) = (fixture::build()?, driver()?);
    let mut command = program(driver);
    command.args(["replicas", "--replace-seconds", "0.5", "--server"]);
    counted(
        command
            .arg(server)
            .arg(python)
            .args(["-m", "pytest", "-p", "no:cacheprovider", "--timeout", "120"])
            .args(["-o", "asyncio_mode=auto", "--color", "no"])
            .arg("clients/python/test_rolling.py"),
    )
}

/// `useStream` of both generations on pages in a browser.
pub fn clients_browser() -> Result<Outcome> {
    let dir = install::pages()?;
    with_fixture("clients-browser", |server| {
        let mut command = program("node");
        command
            .args(["--test", "--test-reporter=tap"])
            .current_dir(&dir);
        counted(command.env("AGENTFLOW_URL", &server.url))
    })
}

/// LangGraph's own integration suite of its Python SDK, from the SDK's source package.
pub fn sdk_suite() -> Result<Outcome> {
    let suite = install::sdk_suite()?;
    integration(&suite)
}

/// Runs LangGraph's SDK integration suite in the folder `suite` against the fixture server.
pub fn integration(suite: &Path) -> Result<Outcome> {
    with_fixture("sdk-suite", |server| integration_against(suite, server))
}

/// Runs it against this server.
pub(crate) fn integration_against(suite: &Path, server: &Fixture) -> Result<Outcome> {
    let python = install::python()?;
    let suite = std::path::absolute(suite)?;
    let copy = Scratch::new("sdk-suite-copy")?;
    let tests = copy.0.join("integration");
    copy_suite(&suite, &tests, &server.url)?;
    counted(
        program(&python)
            .args(["-m", "pytest", "-p", "no:cacheprovider", "--timeout", "25"])
            .args(["-o", "asyncio_mode=auto", "-m", "integration", "-rf"])
            .args(["-W", "ignore::pytest.PytestUnknownMarkWarning"])
            .args(["--tb", "short", "--color", "no"])
            .arg(&tests)
            .current_dir(&copy.0)
            .env("LANGGRAPH_INTEGRATION_URL", &server.url),
    )
}

/// Copies the suite; the address that some tests hard-code becomes that of our server.
fn copy_suite(from: &Path, to: &Path, url: &str) -> Result<()> {
    fs::create_dir_all(to)?;
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let path = entry?.path();
        let (Some(name), Some("py")) =
            (path.file_name(), path.extension().and_then(|e| e.to_str()))
        else {
            continue;
        };
        let text = fs::read_to_string(&path)?;
        fs::write(to.join(name), text.replace(SUITE_URL, url))?;
    }
    Ok(())
}

/// What CI kills of two servers on one database; by hand `--runs 2000 --kills 60
/// --between-kills-ms 2000`.
pub const REPLICAS: [&str; 10] = [
    "--servers",
    "2",
    "--runs",
    "200",
    "--kills",
    "10",
    "--between-kills-ms",
    "1500",
    "--threads",
    "10",
];

/// What CI breaks between servers and their database.
pub const SHORT_CHAOS: [&str; 6] = ["--rounds", "1", "--faults", "200", "--lasting-ms", "1500"];

/// Kills servers at random moments under load; see `agentflow-bench crash --help`.
pub fn crash<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Result<Outcome> {
    drive("crash", args)
}

/// Breaks what is between servers and their database; see `agentflow-bench chaos --help`.
pub fn chaos<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Result<Outcome> {
    drive("chaos", args)
}

/// How long CI soaks.
pub const SHORT_SOAK: [&str; 2] = ["--minutes", "1"];

/// Mixed load on two servers, one of which is killed; see `agentflow-bench soak --help`.
pub fn soak<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Result<Outcome> {
    install::servers()?;
    drive("soak", args)
}

/// Runs a driver of `agentflow-bench` with the fixture server.
fn drive<S: AsRef<std::ffi::OsStr>>(name: &str, args: &[S]) -> Result<Outcome> {
    let server = fixture::build()?;
    counted(
        program(driver()?)
            .args([name, "--server"])
            .arg(server)
            .args(args),
    )
}

/// Builds `agentflow-bench` and returns the binary.
fn driver() -> Result<PathBuf> {
    built()?;
    Ok(target().join("debug").join("agentflow-bench"))
}

/// Fuzzes every decoder that reads bytes from outside, with libFuzzer.
pub fn fuzz() -> Result<Outcome> {
    install::fuzzer()?;
    let mut outcome = Outcome::default();
    for name in ["msgpack", "graph_file", "compose_file"] {
        // A fresh corpus and a fixed seed: the same code gives the same run. By hand, fuzz longer
        // with `cargo fuzz run`.
        let corpus = Scratch::new(name)?;
        let seeds = root().join("fuzz").join("seeds").join(name);
        let mut command = cargo(["fuzz", "run", "--sanitizer", "none", name]);
        command.arg(&corpus.0).arg(seeds).arg("--").args([
            format!("-max_total_time={FUZZ_SECONDS}"),
            "-seed=1".into(),
            "-verbosity=0".into(),
            "-print_final_stats=1".into(),
            "-rss_limit_mb=2048".into(),
            "-timeout=10".into(),
        ]);
        // The coverage flags of the compiler are not stable; nothing else unstable is used.
        command
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", target().join("fuzz"));
        outcome.tally += match run(&mut command) {
            Ok(()) => Tally {
                passed: 1,
                failed: 0,
            },
            Err(err) => {
                println!("{err:#}");
                Tally {
                    passed: 0,
                    failed: 1,
                }
            }
        };
    }
    let Tally { passed, failed } = outcome.tally;
    let line = format!("fuzz targets, {FUZZ_SECONDS} s each: {passed} passed, {failed} failed");
    outcome.lines.push(line);
    Ok(outcome)
}

/// An outcome as the result of a command that was called alone.
pub fn by_hand(outcome: Result<Outcome>) -> Result<()> {
    match outcome?.tally.failed {
        0 => Ok(()),
        failed => bail!("{failed} failed"),
    }
}
