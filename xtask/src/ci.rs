//! Everything that must hold before a change lands.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    differential, install, mem0, r2r, registry, schemathesis,
    shell::{cargo, exists, run as run_to_end, target},
    suites,
    summary::{Outcome, Tally, counted},
    tidy, workers,
};

/// Name and action of a step.
type Step = (&'static str, fn() -> Result<Outcome>);

const STEPS: &[Step] = &[
    ("fmt", || plain(&mut cargo(["fmt", "--all", "--check"]))),
    ("tidy", || tidy::run().map(|()| Outcome::default())),
    ("deny", deny),
    ("clippy", clippy),
    ("tests", tests),
    ("registry", registry::check),
    ("doctests", || {
        counted(&mut cargo(["test", "--workspace", "--doc", "--quiet"]))
    }),
    ("conformance", suites::conformance),
    ("clients-python", suites::clients_python),
    ("clients-js", suites::clients_js),
    ("clients-replicas", suites::clients_replicas),
    ("clients-rolling", suites::clients_rolling),
    ("clients-browser", suites::clients_browser),
    ("clients-mem0", mem0::embedded),
    ("clients-mem0-postgres", mem0::postgres),
    ("clients-r2r", r2r::embedded),
    ("clients-r2r-postgres", r2r::postgres),
    ("sdk-suite", suites::sdk_suite),
    ("worker-package", workers::package),
    ("workers", workers::templates),
    ("workers-postgres", workers::templates_postgres),
    ("worker-suite", workers::sdk_suite),
    ("worker-crash", || workers::crash(&workers::SHORT_CRASH)),
    ("differential", || differential::run(&[])),
    ("schemathesis", schemathesis::run),
    ("crash", || suites::crash::<&str>(&[])),
    ("crash-replicas", || suites::crash(&suites::REPLICAS)),
    ("soak", || suites::soak(&suites::SHORT_SOAK)),
    ("chaos", || suites::chaos(&suites::SHORT_CHAOS)),
    ("fuzz", suites::fuzz),
];

/// What all steps found out.
#[derive(Default)]
struct Report {
    tally: Tally,
    /// Summary lines of the test runners, with the step's name.
    lines: Vec<String>,
    failures: Vec<String>,
    times: Vec<(&'static str, Duration)>,
}

impl Report {
    fn step(&mut self, (name, step): Step) {
        println!("\n=== {name}");
        let started = Instant::now();
        match step() {
            Ok(outcome) => {
                self.tally += outcome.tally;
                let lines = outcome.lines.iter();
                self.lines
                    .extend(lines.map(|line| format!("{name:<16} {line}")));
                if outcome.tally.failed > 0 {
                    let failed = outcome.tally.failed;
                    self.failures.push(format!("{name}: {failed} tests failed"));
                }
            }
            Err(err) => {
                // A step that failed as a whole counts as one, so that the last line is true.
                self.tally.failed += 1;
                self.failures.push(format!("{name}: {err:#}"));
            }
        }
        self.times.push((name, started.elapsed()));
    }

    fn print(&self) {
        println!("\n=== times");
        for (name, time) in &self.times {
            println!("{name:<16} {:>6.1} s", time.as_secs_f64());
        }
        for failure in &self.failures {
            println!("FAILED {failure}");
        }
        println!("\n=== summary");
        for line in &self.lines {
            println!("{line}");
        }
        let Tally { passed, failed } = self.tally;
        println!("{passed} passed, {failed} failed");
    }
}

/// `cargo xtask ci`: all steps, or those in `only`.
pub fn run(only: &[String]) -> Result<()> {
    for name in only {
        if !STEPS.iter().any(|(step, _)| step == name) {
            let known: Vec<&str> = STEPS.iter().map(|(step, _)| *step).collect();
            bail!("unknown step {name}; known: {}", known.join(", "));
        }
    }
    install::compiler()?;
    std::fs::create_dir_all(target())?;
    let mut report = Report::default();
    for &step in STEPS {
        if only.is_empty() || only.iter().any(|wanted| wanted == step.0) {
            report.step(step);
        }
    }
    report.print();
    match report.failures.len() {
        0 => Ok(()),
        failed => bail!("{failed} steps failed"),
    }
}

fn plain(command: &mut Command) -> Result<Outcome> {
    run_to_end(command)?;
    Ok(Outcome::default())
}

fn clippy() -> Result<Outcome> {
    plain(&mut cargo([
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ]))
}

/// Licences, banned crates and sources of all dependencies.
fn deny() -> Result<Outcome> {
    let binary = install::deny()?;
    // The advisory database lives on a host that CI may not reach; `cargo deny check` asks it.
    println!("advisories are not checked here");
    let mut command = crate::shell::program(binary);
    plain(command.args([
        "--log-level",
        "error",
        "check",
        "licenses",
        "bans",
        "sources",
    ]))
}

fn tests() -> Result<Outcome> {
    let python = install::python()?;
    install::servers()?;
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
