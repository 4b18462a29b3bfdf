//! Mends every Compose file of a folder and checks what mending did; then times the gate.
//!
//! `cargo run --release -p agentflow-gate --example mending -- FOLDER`
//!
//! The folder is that of the example `conformance`. Nothing is written. Checked of each project,
//! with safe fixes and with all: the model changes only where a fix says so, also when variables
//! are left as they are; no comment is lost; a second run changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use agentflow_gate::{
    compose::{self, Disk, Files, Listed, Paths, Variables},
    fix::{self, Mended, Safety},
    gate::Request,
};
use serde_json::Value as Json;

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1).map(PathBuf::from) else {
        eprintln!("usage: mending FOLDER");
        return ExitCode::from(2);
    };
    match all(&folder) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Tally {
    projects: usize,
    applied: usize,
    refused: usize,
    changed: usize,
    findings: usize,
    bytes: usize,
    time: Duration,
    failed: usize,
}

fn all(folder: &Path) -> Result<usize, Box<dyn Error>> {
    let mut tally = Tally::default();
    for paths in projects(folder)? {
        tally.projects += 1;
        let request = Request {
            overlays: paths.clone(),
            ..Request::default()
        };
        let begin = Instant::now();
        let outcome = agentflow_gate::gate::run(&Disk, &request)?;
        tally.time += begin.elapsed();
        tally.findings += outcome.findings().count();
        let read = outcome.units.iter().flat_map(|unit| unit.sources.files());
        tally.bytes += read.map(|file| file.text.len()).sum::<usize>();
        for most in [Safety::Safe, Safety::Unsafe] {
            let mended = fix::mend(&Disk, &request, most, &|_| true)?;
            tally.applied += mended.applied;
            tally.refused += mended.refused;
            tally.changed += mended.files.len();
            for problem in wrong(&paths, &request, most, &mended)? {
                tally.failed += 1;
                println!("{} ({}): {problem}", paths[0].display(), most.name());
            }
        }
    }
    let Tally {
        projects,
        applied,
        refused,
        changed,
        findings,
        bytes,
        failed,
        ..
    } = tally;
    let seconds = tally.time.as_secs_f64();
    println!("{projects} projects: {applied} fixes applied in {changed} files, {refused} refused");
    println!("gate: {findings} findings; {bytes} bytes in {seconds:.3} s");
    let rate = 500.0 * seconds / projects.max(1) as f64;
    println!("gate: 500 projects in {rate:.3} s");
    println!(
        "{} passed, {failed} failed",
        2 * projects - failed.min(2 * projects)
    );
    Ok(failed)
}

/// Every project of the folder, each once.
fn projects(folder: &Path) -> Result<Vec<Vec<PathBuf>>, Box<dyn Error>> {
    let base = std::path::absolute(folder.join("files"))?;
    let mut found = BTreeSet::new();
    for golden in ["golden-noi.jsonl.gz", "golden-merge.jsonl.gz"] {
        let output = Command::new("gzip")
            .arg("-dc")
            .arg(folder.join(golden))
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        for line in String::from_utf8(output.stdout)?.lines() {
            let case: Json = serde_json::from_str(line)?;
            let names: Vec<&str> = match case["files"].as_array() {
                Some(files) => files.iter().filter_map(Json::as_str).collect(),
                None => case["file"].as_str().into_iter().collect(),
            };
            found.insert(names.iter().map(|name| base.join(name)).collect());
        }
    }
    Ok(found.into_iter().collect())
}

/// What mending did that it should not have done.
fn wrong(
    paths: &[PathBuf],
    request: &Request,
    most: Safety,
    mended: &Mended,
) -> Result<Vec<String>, Box<dyn Error>> {
    let mut found = Vec::new();
    let after = Changed(
        mended
            .files
            .iter()
            .map(|file| (file.path.clone(), file.bytes.clone()))
            .collect(),
    );
    for variables in [Variables::Fill, Variables::Leave] {
        match (
            model(&Disk, paths, variables),
            model(&after, paths, variables),
        ) {
            (Some(old), Some(new)) => {
                let mut changed = BTreeSet::new();
                differences(&old, &new, "", &mut changed);
                for path in changed {
                    if !mended.fixes.iter().any(|fix| fix.may_change(&path)) {
                        found.push(format!("{path} changed, and no fix says so"));
                    }
                }
            }
            (Some(_), None) => found.push("it loads no more".to_owned()),
            (None, _) => {}
        }
    }
    for file in &mended.files {
        let left = comments(&file.after);
        for (comment, count) in comments(&file.before) {
            if left.get(&comment).is_none_or(|it| *it < count) {
                found.push(format!("lost the comment {comment}"));
            }
        }
    }
    let second = fix::mend(&after, request, most, &|_| true)?;
    if !second.files.is_empty() || second.applied > 0 {
        found.push(format!("a second run applies {} fixes", second.applied));
    }
    Ok(found)
}

fn model(files: &dyn Files, paths: &[PathBuf], variables: Variables) -> Option<Json> {
    let request = compose::Request {
        files: paths.to_vec(),
        variables,
        paths: Paths::Leave,
        ..compose::Request::default()
    };
    let loaded = compose::load(files, &request);
    loaded.project.ok().map(|project| project.to_json())
}

fn differences(a: &Json, b: &Json, path: &str, found: &mut BTreeSet<String>) {
    match (a, b) {
        (Json::Object(a), Json::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let below = match path.is_empty() {
                    true => key.clone(),
                    false => format!("{path}.{key}"),
                };
                let null = Json::Null;
                let (a, b) = (a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null));
                differences(a, b, &below, found);
            }
        }
        (a, b) if a == b => {}
        _ => {
            found.insert(path.to_owned());
        }
    }
}

/// Text behind `#` at the start of a line or behind a blank, and how often it stands there.
fn comments(text: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let padded = format!(" {line}").replace('\t', " ");
        if let Some(at) = padded.find(" #") {
            *found
                .entry(padded[at + 1..].trim_end().to_owned())
                .or_default() += 1;
        }
    }
    found
}

/// The files of this machine, some of them changed.
struct Changed(BTreeMap<PathBuf, Vec<u8>>);

impl Files for Changed {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.0.get(path) {
            Some(bytes) => Ok(bytes.clone()),
            None => Disk.read(path),
        }
    }

    fn is_dir(&self, path: &Path) -> bool {
        Disk.is_dir(path)
    }

    fn is_file(&self, path: &Path) -> bool {
        Disk.is_file(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        Disk.list(folder)
    }
}
