//! Which backend runs which conformance suites, and whether it runs every case.
//!
//! The suites and their cases are read from their sources, the tests from the test binaries
//! themselves: what a backend leaves out, one case or a whole suite, fails the step.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{
    shell::{cargo, output, program, root},
    summary::Outcome,
};

/// Where the suites are written.
const SUITES: &str = "crates/agentflow-storage/src/conformance";

/// Suites of the ports that hold records; a backend that is the whole database runs them all.
const DATABASE: &[&str] = &[
    "checkpoint_conformance",
    "assistant_conformance",
    "thread_conformance",
    "event_conformance",
    "store_conformance",
    "cron_conformance",
    "outbox_conformance",
    "signal_conformance",
    "account_conformance",
    "audit_conformance",
    "session_conformance",
    "counter_conformance",
    "cache_conformance",
    "memory_conformance",
    "document_conformance",
];

/// The suite of the index of vectors, which is apart from the database.
const VECTORS: &[&str] = &["vector_conformance"];

/// Suites of what Redis holds or stands before.
const REDIS: &[&str] = &[
    "session_conformance",
    "counter_conformance",
    "cache_conformance",
    "signal_conformance",
    "event_conformance",
    "thread_conformance",
];

/// Suites that Redis runs with the checkpoints in it: theirs, and those of what decides about them.
const CHECKPOINTER: &[&str] = &[
    "checkpoint_conformance",
    "thread_conformance",
    "outbox_conformance",
];

/// Everything of Redis.
const VALKEY: &[&str] = &[
    "checkpoint_conformance",
    "session_conformance",
    "counter_conformance",
    "cache_conformance",
    "signal_conformance",
    "event_conformance",
    "thread_conformance",
    "outbox_conformance",
];

/// A backend and the tests that run the suites over it.
struct Backend {
    name: &'static str,
    package: &'static str,
    /// The test binary.
    binary: &'static str,
    /// The module in it; empty for the top.
    module: &'static str,
    suites: &'static [&'static str],
}

/// A backend that implements every port of a database.
const fn database(
    name: &'static str,
    package: &'static str,
    binary: &'static str,
    module: &'static str,
) -> Backend {
    Backend {
        name,
        package,
        binary,
        module,
        suites: DATABASE,
    }
}

/// All backends. One that implements only some ports names their suites.
const BACKENDS: &[Backend] = &[
    database("in memory", "agentflow-storage", "memory", ""),
    Backend {
        name: "vectors in memory",
        package: "agentflow-storage",
        binary: "memory",
        module: "",
        suites: VECTORS,
    },
    Backend {
        name: "vectors on SQLite",
        package: "agentflow-embedded",
        binary: "conformance",
        module: "",
        suites: VECTORS,
    },
    Backend {
        name: "vectors on Qdrant's protocol",
        package: "agentflow-qdrant",
        binary: "conformance",
        module: "",
        suites: VECTORS,
    },
    Backend {
        name: "vectors on Qdrant's protocol over TLS with a key",
        package: "agentflow-qdrant",
        binary: "conformance",
        module: "over_tls",
        suites: VECTORS,
    },
    database("faulty, without faults", "agentflow-storage", "faulty", ""),
    database("SQLite", "agentflow-embedded", "conformance", ""),
    database(
        "PostgreSQL 15 through PgBouncer",
        "agentflow-postgres",
        "conformance",
        "v15_pooled",
    ),
    database(
        "PostgreSQL 16 through PgBouncer",
        "agentflow-postgres",
        "conformance",
        "v16_pooled",
    ),
    database(
        "PostgreSQL 17",
        "agentflow-postgres",
        "conformance",
        "v17_direct",
    ),
    Backend {
        name: "Redis over TLS as the shipped user",
        package: "agentflow-redis",
        binary: "conformance",
        module: "",
        suites: REDIS,
    },
    Backend {
        name: "Redis with the checkpoints, over TLS as the shipped user",
        package: "agentflow-redis",
        binary: "conformance",
        module: "checkpointer",
        suites: CHECKPOINTER,
    },
    Backend {
        name: "Valkey with the checkpoints, as the shipped user",
        package: "agentflow-redis",
        binary: "conformance",
        module: "valkey",
        suites: VALKEY,
    },
];

/// Cases by suite.
type Suites = BTreeMap<String, BTreeSet<String>>;

/// Checks every backend; the lines tell how many cases each one runs.
pub fn check() -> Result<Outcome> {
    let suites = suites(&root().join(SUITES))?;
    let binaries = binaries()?;
    let mut tests = BTreeMap::new();
    for backend in BACKENDS {
        let at = (backend.package.to_owned(), backend.binary.to_owned());
        if let Entry::Vacant(place) = tests.entry(at) {
            let path = binaries.get(place.key()).with_context(|| {
                format!("{} has no test binary {}", backend.package, backend.binary)
            })?;
            place.insert(listed(path)?);
        }
    }
    let mut outcome = Outcome::default();
    let mut missing = nobody_runs(&suites, BACKENDS);
    for backend in BACKENDS {
        let at = (backend.package.to_owned(), backend.binary.to_owned());
        let omitted = omitted(backend, &suites, &tests[&at]);
        let cases: usize = backend
            .suites
            .iter()
            .filter_map(|suite| suites.get(*suite))
            .map(BTreeSet::len)
            .sum();
        outcome.lines.push(format!(
            "{}: {} of {cases} cases in {} suites",
            backend.name,
            cases - omitted.len().min(cases),
            backend.suites.len()
        ));
        missing.extend(
            omitted
                .into_iter()
                .map(|test| format!("{}: {test}", backend.name)),
        );
    }
    for line in &outcome.lines {
        println!("{line}");
    }
    match missing.is_empty() {
        true => Ok(outcome),
        false => bail!("conformance cases do not run:\n{}", missing.join("\n")),
    }
}

/// Suites that no backend names: a new one is easily forgotten here.
fn nobody_runs(suites: &Suites, backends: &[Backend]) -> Vec<String> {
    let named = |suite: &str| backends.iter().any(|b| b.suites.contains(&suite));
    let left = suites.keys().filter(|suite| !named(suite));
    left.map(|suite| format!("no backend runs {suite}, see xtask/src/registry.rs"))
        .collect()
}

/// Cases of the backend's suites that are not among the tests.
fn omitted(backend: &Backend, suites: &Suites, tests: &BTreeSet<String>) -> Vec<String> {
    let mut missing = Vec::new();
    for suite in backend.suites {
        let Some(cases) = suites.get(*suite) else {
            missing.push(format!("{suite} is not written"));
            continue;
        };
        for case in cases {
            let test = match backend.module {
                "" => format!("{suite}::{case}"),
                module => format!("{module}::{suite}::{case}"),
            };
            if !tests.contains(&test) {
                missing.push(test);
            }
        }
    }
    missing
}

/// The suites of all sources below a folder.
fn suites(folder: &Path) -> Result<Suites> {
    let mut found = Suites::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some((name, cases)) = suite(&fs::read_to_string(&path)?) {
                found.insert(name, cases);
            }
        }
    }
    Ok(found)
}

/// The suite in a source: `suite! { ($) /// … name: case, case, }`.
fn suite(source: &str) -> Option<(String, BTreeSet<String>)> {
    let body = source.split_once("\nsuite! {")?.1.split_once("\n}")?.0;
    let lines = body.lines().map(str::trim);
    let words = lines.filter(|line| !line.starts_with("//") && !line.starts_with('('));
    let mut name = String::new();
    let mut cases = BTreeSet::new();
    for word in words.flat_map(str::split_whitespace) {
        match word.strip_suffix(':') {
            Some(suite) => name = suite.to_owned(),
            None => {
                cases.insert(word.trim_end_matches(',').to_owned());
            }
        }
    }
    Some((name, cases))
}

/// Test binaries by package and name, built as the tests step builds them.
fn binaries() -> Result<BTreeMap<(String, String), PathBuf>> {
    let text = output(&mut cargo([
        "test",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--no-run",
        "--quiet",
        "--message-format",
        "json",
    ]))?;
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let message: Value = serde_json::from_str(line).context(line.to_owned())?;
        let (Some(name), Some(path)) = (
            message["target"]["name"].as_str(),
            message["executable"].as_str(),
        ) else {
            continue;
        };
        let manifest = message["manifest_path"].as_str().unwrap_or_default();
        let package = Path::new(manifest)
            .parent()
            .and_then(Path::file_name)
            .map(|folder| folder.to_string_lossy().into_owned());
        if let Some(package) = package {
            found.insert((package, name.to_owned()), path.into());
        }
    }
    Ok(found)
}

/// Tests of a binary that run: `name: test`, without those that are ignored.
fn listed(binary: &Path) -> Result<BTreeSet<String>> {
    let list = |more: &[&str]| -> Result<BTreeSet<String>> {
        let mut command = program(binary);
        let text = output(command.args(["--list", "--format", "terse"]).args(more))?;
        let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(names.map(str::to_owned).collect())
    };
    let ignored = list(&["--ignored"])?;
    Ok(&list(&[])? - &ignored)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! Cases.\n\nsuite! {\n    ($)\n    /// Doc: with a colon.\n    \
        a_conformance:\n    one,\n    two,\n}\n\npub async fn one() {}\n";

    fn backend(module: &'static str) -> Backend {
        Backend {
            name: "b",
            package: "p",
            binary: "t",
            module,
            suites: &["a_conformance"],
        }
    }

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_case_or_a_suite_that_is_left_out_is_named() {
        let (name, cases) = suite(SOURCE).expect("a suite");
        assert_eq!(
            (name.as_str(), &cases),
            ("a_conformance", &names(&["one", "two"]))
        );
        let suites = Suites::from([(name, cases)]);
        let both = names(&["a_conformance::one", "a_conformance::two"]);
        assert!(omitted(&backend(""), &suites, &both).is_empty());
        let one = names(&["m::a_conformance::one", "a_conformance::two"]);
        assert_eq!(
            omitted(&backend("m"), &suites, &one),
            ["m::a_conformance::two"]
        );
        assert_eq!(omitted(&backend(""), &suites, &names(&[])).len(), 2);
        assert_eq!(
            omitted(&backend(""), &Suites::new(), &both),
            ["a_conformance is not written"]
        );
        assert!(nobody_runs(&suites, &[backend("")]).is_empty());
        assert_eq!(nobody_runs(&suites, &[]).len(), 1);
    }

    /// The suites are read by their form; whoever changes it changes this file.
    #[test]
    fn the_suites_of_the_project_are_found() {
        let suites = suites(&root().join(SUITES)).expect("the sources are there");
        for name in DATABASE {
            assert!(
                suites.get(*name).is_some_and(|cases| !cases.is_empty()),
                "{name}"
            );
        }
    }
}
