//! Everything that must hold before a change lands.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    fixture::{self, Fixture},
    install,
    shell::{cache, cargo, exists, program, root, target, tee},
    tidy,
};

/// Tests that passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

type Step = (&'static str, fn() -> Result<Tally>);

const STEPS: [Step; 10] = [
    ("fmt", || plain(&mut cargo(["fmt", "--all", "--check"]))),
    ("clippy", || {
        plain(&mut cargo([
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "--deny",
            "warnings",
        ]))
    }),
    ("tidy", || {
        tidy::run().map(|()| Tally {
            passed: 1,
            failed: 0,
        })
    }),
    ("tests", tests),
    ("doctests", || {
        counted(&mut cargo(["test", "--workspace", "--doc", "--quiet"]))
    }),
    ("conformance", conformance),
    ("clients-python", clients_python),
    ("clients-js", clients_js),
    ("crash", || crash(&[])),
    ("fuzz", fuzz),
];

/// Runs the steps (all, or those in `only`) and prints what they cost.
fn run_steps(only: &[String]) -> Result<(Vec<String>, Tally)> {
    for name in only {
        if !STEPS.iter().any(|(step, _)| step == name) {
            let known: Vec<&str> = STEPS.iter().map(|(step, _)| *step).collect();
            bail!("unknown step {name}; known: {}", known.join(", "));
        }
    }
    install::compiler()?;
    std::fs::create_dir_all(target())?;
    let mut total = Tally::default();
    let mut failures = Vec::new();
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for (name, step) in STEPS {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        println!("\n=== {name}");
        let started = Instant::now();
        match step() {
            Ok(tally) => {
                total.passed += tally.passed;
                total.failed += tally.failed;
                if tally.failed > 0 {
                    failures.push(format!("{name}: {} tests failed", tally.failed));
                }
            }
            Err(err) => failures.push(format!("{name}: {err:#}")),
        }
        times.push((name, started.elapsed()));
    }
    println!("\n=== times");
    for (name, time) in times {
        println!("{name:<16} {:>6.1} s", time.as_secs_f64());
    }
    Ok((failures, total))
}

/// `cargo xtask ci`.
pub fn run(only: &[String]) -> Result<()> {
    let (failures, total) = run_steps(only)?;
    for failure in &failures {
        println!("FAILED {failure}");
    }
    // A step that failed as a whole counts as one failure, so that the line tells the truth.
    let failed = total.failed.max(failures.len() as u64);
    println!("\n{} passed, {failed} failed", total.passed);
    match failures.is_empty() {
        true => Ok(()),
        false => bail!("{} steps failed", failures.len()),
    }
}

fn plain(command: &mut Command) -> Result<Tally> {
    crate::shell::run(command)?;
    Ok(Tally::default())
}

/// Runs a test runner and reads its summary lines.
fn counted(command: &mut Command) -> Result<Tally> {
    let (ok, lines) = tee(command)?;
    let tally = lines
        .iter()
        .filter_map(|line| summary(line))
        .fold(Tally::default(), |sum, one| Tally {
            passed: sum.passed + one.passed,
            failed: sum.failed + one.failed,
        });
    if !ok && tally.failed == 0 {
        bail!("the test runner failed without counting a failed test");
    }
    if ok && tally.passed == 0 {
        bail!("no test ran");
    }
    Ok(tally)
}

/// Reads one summary line of cargo test, nextest, pytest, node's test runner, or our own scripts.
fn summary(line: &str) -> Option<Tally> {
    let plain = strip_ansi(line);
    let line = plain.trim();
    let number = |word: &str| -> Option<u64> {
        let before = line.split(word).next()?.trim_end();
        before
            .rsplit(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    };
    if let Some(count) = line
        .strip_prefix("ℹ pass ")
        .or_else(|| line.strip_prefix("# pass "))
    {
        return Some(Tally {
            passed: count.trim().parse().ok()?,
            failed: 0,
        });
    }
    if let Some(count) = line
        .strip_prefix("ℹ fail ")
        .or_else(|| line.strip_prefix("# fail "))
    {
        return Some(Tally {
            passed: 0,
            failed: count.trim().parse().ok()?,
        });
    }
    let is_summary = line.starts_with("Summary [")
        || line.starts_with("test result:")
        || (line.starts_with("==") && line.contains(" in "))
        || line.starts_with("total:");
    if !is_summary || !(line.contains("passed") || line.contains("failed")) {
        return None;
    }
    let failed = if line.contains(" failed") {
        number(" failed").unwrap_or(0)
    } else {
        0
    };
    let passed = if line.contains(" passed") {
        number(" passed").unwrap_or(0)
    } else {
        0
    };
    Some(Tally { passed, failed })
}

fn strip_ansi(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            chars.by_ref().find(|c| c.is_ascii_alphabetic());
        } else {
            out.push(c);
        }
    }
    out
}

fn tests() -> Result<Tally> {
    let python = install::python()?;
    let mut command = match exists("cargo-nextest") {
        true => cargo([
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--status-level=fail",
        ]),
        false => cargo([
            "test",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
            "--quiet",
            "--no-fail-fast",
        ]),
    };
    counted(
        command
            .env("AGENTFLOW_TEST_PYTHON", python)
            .env("NO_COLOR", "1"),
    )
}

/// LangGraph's published conformance suite for checkpointers, over our database.
fn conformance() -> Result<Tally> {
    let python = install::python()?;
    crate::shell::run(&mut cargo([
        "build",
        "--quiet",
        "--package",
        "agentflow-embedded",
        "--example",
        "saver",
    ]))?;
    let saver = target().join("debug").join("examples").join("saver");
    let script = "crates/agentflow-embedded/tests/python/run_conformance.py";
    counted(program(python).arg(script).arg(saver))
}

/// Runs `suite` with a fresh fixture server; the URL is in `AGENTFLOW_URL`.
fn with_fixture<T>(port: u16, suite: impl FnOnce(&Fixture) -> Result<T>) -> Result<T> {
    let binary = fixture::build()?;
    let data = cache().join("fixture").join(std::process::id().to_string());
    std::fs::create_dir_all(&data)?;
    let server = Fixture::start(&binary, &data, port)?;
    let result = suite(&server);
    drop(server);
    std::fs::remove_dir_all(&data)?;
    result
}

fn clients_python() -> Result<Tally> {
    let python = install::python()?;
    with_fixture(0, |server| {
        counted(
            program(&python)
                .args(["-m", "pytest", "-p", "no:cacheprovider", "--timeout", "60"])
                .args(["-o", "asyncio_mode=auto", "--color", "no", "clients/python"])
                .env("AGENTFLOW_URL", &server.url)
                .env("AGENTFLOW_FIXTURE", fixture::binary()),
        )
    })
}

fn clients_js() -> Result<Tally> {
    let dir = install::node()?;
    with_fixture(0, |server| {
        let mut command = program("node");
        command
            .args(["--test", "--test-reporter=tap"])
            .current_dir(&dir);
        counted(command.env("AGENTFLOW_URL", &server.url))
    })
}

/// Kills the server at random moments under load; see `agentflow-bench crash --help`.
fn crash(args: &[String]) -> Result<Tally> {
    let server = fixture::build()?;
    crate::shell::run(&mut cargo([
        "build",
        "--quiet",
        "--package",
        "agentflow-bench",
    ]))?;
    let driver = target().join("debug").join("agentflow-bench");
    counted(
        program(driver)
            .args(["crash", "--server"])
            .arg(server)
            .args(args),
    )
}

/// Seconds that each fuzz target runs in CI.
const FUZZ_SECONDS: u32 = 60;

/// Fuzzes every decoder that reads bytes from outside, with libFuzzer.
fn fuzz() -> Result<Tally> {
    install::fuzzer()?;
    let mut tally = Tally::default();
    for name in ["msgpack", "graph_file"] {
        // A fresh corpus and a fixed seed: the same code gives the same run. By hand, fuzz longer
        // with `cargo fuzz run`.
        let corpus = cache().join("fuzz").join(name);
        if corpus.exists() {
            std::fs::remove_dir_all(&corpus)?;
        }
        std::fs::create_dir_all(&corpus)?;
        let seeds = root().join("fuzz").join("seeds").join(name);
        let mut command = cargo(["fuzz", "run", "--sanitizer", "none", name]);
        command.arg(corpus).arg(seeds).arg("--").args([
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
        match crate::shell::run(&mut command) {
            Ok(()) => tally.passed += 1,
            Err(err) => {
                println!("{err:#}");
                tally.failed += 1;
            }
        }
    }
    Ok(tally)
}

/// `cargo xtask crash`.
pub fn crash_by_hand(args: &[String]) -> Result<()> {
    let tally = crash(args)?;
    if tally.failed == 0 {
        Ok(())
    } else {
        bail!("a promise was broken")
    }
}

/// Port that LangGraph's suite hard-codes for some of its tests.
const LANGGRAPH_PORT: u16 = 2024;

/// Runs LangGraph's SDK integration suite against the fixture server.
pub fn integration(suite: &Path) -> Result<()> {
    let python = install::python()?;
    let suite = std::path::absolute(suite)?;
    // Where the port is taken, the tests that hard-code it reach somebody else and fail.
    let free = std::net::TcpListener::bind(("127.0.0.1", LANGGRAPH_PORT)).is_ok();
    let port = if free { LANGGRAPH_PORT } else { 0 };
    with_fixture(port, |server| run_suite(&python, &suite, server))
}

fn run_suite(python: &Path, suite: &Path, server: &Fixture) -> Result<()> {
    println!("server at {} (process {})", server.url, server.pid);
    crate::shell::run(
        program(python)
            .args([
                "-m",
                "pytest",
                "-p",
                "no:cacheprovider",
                "--timeout",
                "25",
                "-o",
                "addopts=",
            ])
            .args([
                "-o",
                "asyncio_mode=auto",
                "-m",
                "integration",
                "-rf",
                "--color",
                "no",
            ])
            .arg(suite)
            .current_dir(root())
            .env("LANGGRAPH_INTEGRATION_URL", &server.url),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, passed: u64, failed: u64) {
        assert_eq!(summary(line), Some(Tally { passed, failed }), "{line}");
    }

    #[test]
    fn summaries_of_all_runners_are_read() {
        check(
            "     Summary [   1.2s] 12 tests run: 10 passed (1 slow), 2 failed, 0 skipped",
            10,
            2,
        );
        check("test result: ok. 8 passed; 0 failed; 0 ignored", 8, 0);
        check("==== 3 failed, 21 passed in 1.20s ====", 21, 3);
        check("======== 5 passed, 1 warning in 0.10s ========", 5, 0);
        check("# pass 7", 7, 0);
        check("# fail 2", 0, 2);
        check("total: 82 passed (58 base), 0 failed", 82, 0);
        assert_eq!(summary("nothing 3 passed here"), None);
    }
}
