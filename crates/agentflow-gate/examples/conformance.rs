//! Compares our models of real Compose files with those that Docker Compose made.
//!
//! `cargo run --release -p agentflow-gate --example conformance -- FOLDER [--show NAME]`
//!
//! The folder holds `files/` and `golden-noi.jsonl.gz`, `golden-merge.jsonl.gz`: per line the file
//! or files, and what `docker compose config --no-interpolate --no-env-resolution
//! --no-path-resolution --format json` printed, or its error.

use std::{
    collections::BTreeSet,
    error::Error,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use agentflow_gate::compose::{self, Disk, Environment, Loaded, Paths, Request, Variables};
use serde_json::Value as Json;

/// Most differences that are shown of one file.
const MAX_SHOWN: usize = 8;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(folder) = args.next().map(PathBuf::from) else {
        eprintln!("usage: conformance FOLDER [--show NAME]");
        return ExitCode::from(2);
    };
    let show = args.nth(1);
    let mut tally = Tally::default();
    for golden in ["golden-noi.jsonl.gz", "golden-merge.jsonl.gz"] {
        if let Err(error) = compare_all(&folder, golden, show.as_deref(), &mut tally) {
            eprintln!("{golden}: {error}");
            return ExitCode::FAILURE;
        }
    }
    let Tally {
        equal,
        differ,
        time,
        bytes,
    } = tally;
    let seconds = time.as_secs_f64();
    println!("{equal} equal, {differ} differ; {bytes} bytes in {seconds:.3} s");
    println!("{equal} passed, {differ} failed");
    match differ {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

#[derive(Default)]
struct Tally {
    equal: usize,
    differ: usize,
    time: Duration,
    bytes: usize,
}

fn compare_all(
    folder: &Path,
    golden: &str,
    show: Option<&str>,
    tally: &mut Tally,
) -> Result<(), Box<dyn Error>> {
    let output = Command::new("gzip")
        .arg("-dc")
        .arg(folder.join(golden))
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let environment: Environment = std::env::vars()
        .filter(|(name, _)| matches!(name.as_str(), "HOME" | "PATH"))
        .collect();
    for line in String::from_utf8(output.stdout)?.lines() {
        let case: Json = serde_json::from_str(line)?;
        let names: Vec<&str> = match case["files"].as_array() {
            Some(files) => files.iter().filter_map(Json::as_str).collect(),
            None => case["file"].as_str().into_iter().collect(),
        };
        let base = std::path::absolute(folder.join("files"))?;
        let request = Request {
            files: names.iter().map(|name| base.join(name)).collect(),
            name: Some("p".to_owned()),
            environment: environment.clone(),
            variables: Variables::Leave,
            paths: Paths::Leave,
            ..Request::default()
        };
        let begin = Instant::now();
        let loaded = compose::load(&Disk, &request);
        tally.time += begin.elapsed();
        tally.bytes += loaded
            .sources
            .files()
            .iter()
            .map(|file| file.text.len())
            .sum::<usize>();
        let found = compare(&case, &loaded);
        match found.is_empty() {
            true => tally.equal += 1,
            false => {
                tally.differ += 1;
                println!("{}", names.join(" + "));
                for difference in found.iter().take(MAX_SHOWN) {
                    println!("    {difference}");
                }
            }
        }
        if show.is_some_and(|show| names.contains(&show))
            && let Ok(project) = &loaded.project
        {
            println!("{:#}", project.to_json());
        }
    }
    Ok(())
}

/// What differs, in words; nothing if verdict and model are equal.
fn compare(case: &Json, loaded: &Loaded) -> Vec<String> {
    let mut found = Vec::new();
    match (&loaded.project, case["rc"].as_i64()) {
        (Ok(project), Some(0)) => differences(&case["model"], &project.to_json(), "", &mut found),
        (Ok(_), _) => found.push(format!("Docker refuses it: {}", case["err"])),
        (Err(problems), Some(0)) => {
            let lines = problems.iter().map(|problem| problem.line(&loaded.sources));
            found.push(format!(
                "we refuse it: {}",
                lines.collect::<Vec<_>>().join("; ")
            ));
        }
        (Err(problems), _) => {
            let text = case["err"].as_str().unwrap_or_default();
            let theirs = quoted(text);
            let ours: BTreeSet<&str> = problems
                .iter()
                .flat_map(|problem| problem.unknown.iter().map(String::as_str))
                .collect();
            if text.contains("additional properties") && theirs != ours {
                found.push(format!("unknown keys: Docker {theirs:?}, we {ours:?}"));
            }
        }
    }
    found
}

/// The words between single quotes.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.split('\'').skip(1).step_by(2).collect()
}

fn differences(theirs: &Json, ours: &Json, path: &str, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Json::Object(a), Json::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = format!("{path}.{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differences(a, b, &path, found),
                    (Some(a), None) => found.push(format!("{path}: only Docker has {a}")),
                    (None, Some(b)) => found.push(format!("{path}: only we have {b}")),
                    (None, None) => {}
                }
            }
        }
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            for (at, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{path}[{at}]"), found);
            }
        }
        (Json::Number(a), Json::Number(b)) if a.as_f64() == b.as_f64() => {}
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{path}: Docker {a}, we {b}")),
    }
}
