//! Schemathesis over our own description of the API: whatever is sent, the answer is no 5xx.

use anyhow::Result;

use crate::{
    fixture::{self, Fixture},
    install,
    shell::program,
    suites::Scratch,
    summary::{Outcome, Tally},
};

/// Seconds for each of two servers: one that lets everybody in, one that is guarded.
const SECONDS: u32 = 25;
/// A key of the guarded server.
const KEY: &str = "bootstrap-key-for-schemathesis-0";
/// Routes that are not asked: those that answer when something happens, which here is never.
const LASTING: &str = "/stream(/events)?$|/wait$|/join$";

/// Sends what the description allows, and what it does not, for a bounded time.
pub fn run() -> Result<Outcome> {
    let python = install::schemathesis()?;
    let binary = fixture::build()?;
    let mut outcome = Outcome::default();
    for (name, guard) in [("open", None), ("guarded", Some(KEY))] {
        let data = Scratch::new(&format!("schemathesis-{name}"))?;
        let more: Vec<&str> = guard
            .iter()
            .flat_map(|key| ["--bootstrap-key", key])
            .collect();
        let server = Fixture::start_with(&binary, &data.0, 0, &more)?;
        let mut command = program(python.with_file_name("schemathesis"));
        command
            .args(["run", "--checks", "not_a_server_error", "--warnings", "off"])
            .args(["--seed", "1", "--workers", "2", "--request-timeout", "10"])
            .args(["--no-color", "--max-time", &SECONDS.to_string()])
            .args(["--exclude-path-regex", LASTING])
            .arg(format!("{}/openapi.json", server.url))
            .current_dir(&data.0);
        if let Some(key) = guard {
            command.args(["--header", &format!("x-api-key: {key}")]);
        }
        let passed = crate::shell::run(&mut command).is_ok();
        outcome.tally += Tally {
            passed: u64::from(passed),
            failed: u64::from(!passed),
        };
        let verdict = if passed {
            "no 5xx"
        } else {
            "a 5xx, or no answer"
        };
        outcome.lines.push(format!(
            "schemathesis, {name} server, {SECONDS} s: {verdict}"
        ));
    }
    Ok(outcome)
}
