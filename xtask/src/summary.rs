//! What test runners report: counts and the lines that say them.

use std::{ops::AddAssign, process::Command};

use anyhow::{Result, bail};

use crate::shell::tee;

/// Tests that passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// What a step found out.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Tests; none for a step that only checks.
    pub tally: Tally,
    /// The summary lines of the test runner, as it printed them.
    pub lines: Vec<String>,
}

/// Runs a test runner and reads its summary lines.
pub fn counted(command: &mut Command) -> Result<Outcome> {
    let (ok, lines) = tee(command)?;
    let mut outcome = Outcome::default();
    for line in lines {
        if let Some(tally) = summary(&line) {
            outcome.tally += tally;
            outcome.lines.push(strip_ansi(&line).trim().to_owned());
        }
    }
    if !ok && outcome.tally.failed == 0 {
        bail!("the test runner failed without counting a failed test");
    }
    if ok && outcome.tally.passed == 0 {
        bail!("no test ran");
    }
    Ok(outcome)
}

/// Reads one summary line of cargo test, nextest, pytest, node's test runner, or our own scripts.
fn summary(line: &str) -> Option<Tally> {
    let plain = strip_ansi(line);
    let line = plain.trim();
    let node = |word: &str| -> Option<u64> {
        let rest = line
            .strip_prefix("ℹ ")
            .or_else(|| line.strip_prefix("# "))?;
        rest.strip_prefix(word)?.trim().parse().ok()
    };
    if let Some(passed) = node("pass ") {
        return Some(Tally { passed, failed: 0 });
    }
    if let Some(failed) = node("fail ") {
        return Some(Tally { passed: 0, failed });
    }
    let is_summary = line.starts_with("Summary [")
        || line.starts_with("test result:")
        || (line.starts_with("==") && line.contains(" in "))
        || line.starts_with("total:");
    let before = |word: &str| -> Option<u64> {
        let (head, _) = line.split_once(word)?;
        let digits = head.trim_end().rsplit(|c: char| !c.is_ascii_digit()).next();
        digits?.parse().ok()
    };
    let (passed, failed) = (before(" passed"), before(" failed"));
    // pytest counts what went wrong in a fixture apart.
    let errors = before(" error");
    if !is_summary || (passed.is_none() && failed.is_none() && errors.is_none()) {
        return None;
    }
    Some(Tally {
        passed: passed.unwrap_or(0),
        failed: failed.unwrap_or(0) + errors.unwrap_or(0),
    })
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
        check("==== 4 passed, 2 errors in 0.10s ====", 4, 2);
        check("==== 1 error in 0.10s ====", 0, 1);
        check("# pass 7", 7, 0);
        check("# fail 2", 0, 2);
        check("total: 82 passed (58 base), 0 failed", 82, 0);
        assert_eq!(summary("nothing 3 passed here"), None);
        assert_eq!(summary("==== no tests ran in 0.01s ===="), None);
    }
}
