//! `agentflow gate` and `agentflow explain` as a shell meets them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value as Json;

/// A service that only lacks what `{}` may add.
const GOOD: &str = "services:
  web:
    image: nginxinc/nginx-unprivileged:1.29.3
    ports: [\"443:8443\"]
    healthcheck: {test: [CMD, curl, -f, \"http://127.0.0.1/\"], interval: 10s, start_period: 5s}
    mem_limit: 256m
    mem_reservation: 64m
    cpus: 0.5
    cap_drop: [ALL]
    security_opt: [no-new-privileges:true]
";

fn agentflow(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_agentflow"))
        .args(args)
        .current_dir(dir)
        .env_remove("TAG")
        .env_remove("COMPOSE_PROFILES")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn code(dir: &Path, args: &[&str], expected: i32) -> Output {
    let output = agentflow(dir, args);
    assert_eq!(
        output.status.code(),
        Some(expected),
        "{args:?}\n{}\n{}",
        out(&output),
        err(&output)
    );
    output
}

#[test]
fn the_exit_code_tells_findings_from_mistakes() {
    let warned = GOOD.replace("1.29.3", "latest");
    let dir = folder(&[
        ("good/compose.yaml", GOOD),
        ("warned/compose.yaml", &warned),
        (
            "bad/compose.yaml",
            "version: \"3\"\nservices: {a: {image: x}}\n",
        ),
        ("broken/compose.yaml", "services: [\n"),
        ("empty/readme.txt", ""),
    ]);
    let dir = dir.path();
    code(dir, &["gate", "good"], 0);
    code(dir, &["gate", "warned"], 0);
    code(dir, &["gate", "warned", "--fail-on", "warning"], 1);
    code(dir, &["gate", "good", "--pedantic", "--fail-on", "note"], 1);
    code(dir, &["gate", "bad"], 1);
    code(dir, &["gate", "bad", "--fail-on", "never"], 0);
    code(dir, &["gate", "bad", "--only", "AFC122"], 0);
    code(
        dir,
        &["gate", "bad/compose.yaml", "--only", "no-version-field"],
        1,
    );
    code(dir, &["gate", "broken"], 1);
    for args in [
        &["gate", "nowhere"][..],
        &["gate", "empty"],
        &["gate", "empty/readme.txt"],
        &["gate", "good", "--only", "AFC999"],
        &["gate", "good", "--format", "pdf"],
        &["gate", "good", "--env-file", "nowhere"],
        &["gate", "good", "--baseline", "nowhere"],
        &["explain", "AFC999"],
    ] {
        let output = code(dir, args, 2);
        assert!(
            out(&output).is_empty() && err(&output).starts_with("error: "),
            "{args:?}"
        );
    }
}

#[test]
fn people_read_rustc_s_style_without_colours_in_a_pipe() {
    let dir = folder(&[("compose.yaml", &format!("version: \"3\"\n{GOOD}"))]);
    let text = out(&code(dir.path(), &["gate"], 1));
    let expected = "error[AFC003]: `version` is obsolete and ignored\n --> compose.yaml:1:1\n  |\n1 | version: \"3\"\n  | ^^^^^^^^^^^^\n  |\n  = note: ";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("\n  = help: remove the line\n"), "{text}");
    assert!(
        text.ends_with(
            "gate: 1 error, 0 warnings in 1 target; `agentflow explain RULE` says more\n"
        ),
        "{text}"
    );
    assert!(!text.contains('\x1b'));
}

#[test]
fn programs_read_their_formats() {
    let dir = folder(&[("compose.yaml", &format!("version: \"3\"\n{GOOD}"))]);
    let run = |format| out(&code(dir.path(), &["gate", "--format", format], 1));
    let json: Json = serde_json::from_str(&run("json")).unwrap();
    assert_eq!(json["findings"][0]["rule"], "AFC003");
    let sarif: Json = serde_json::from_str(&run("sarif")).unwrap();
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "AFC003");
    assert!(run("junit").contains("<failure type=\"error\""));
    assert!(run("github").starts_with("::error file=compose.yaml,line=1,"));
    assert!(run("markdown").contains("| error | AFC003 | compose.yaml:1:1 |"));
}

#[test]
fn overlays_profiles_and_variables_count() {
    let dir = folder(&[
        ("base.yaml", &GOOD.replace("1.29.3", "${TAG}")),
        ("over.yaml", "services: {web: {privileged: true}}\n"),
        (
            "jobs.yaml",
            &format!("{GOOD}  job:\n    profiles: [jobs]\n    image: x:1\n    privileged: true\n"),
        ),
        ("vars", "TAG=1.29.3\n"),
    ]);
    let dir = dir.path();
    let rules = |args: &[&str], expected| {
        let args = [&["gate", "--format", "json"], args].concat();
        let json: Json = serde_json::from_str(&out(&code(dir, &args, expected))).unwrap();
        let rows = json["findings"].as_array().unwrap().clone();
        rows.iter()
            .map(|it| it["rule"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(rules(&["-f", "base.yaml"], 0), ["AFC009", "AFC122"]);
    assert_eq!(
        rules(&["-f", "base.yaml", "--env-file", "vars"], 0),
        Vec::<String>::new()
    );
    let over = ["-f", "base.yaml", "-f", "over.yaml", "--env-file", "vars"];
    assert_eq!(rules(&over, 1), ["AFC117"]);
    let has = |args: &[&str], expected| rules(args, expected).iter().any(|it| it == "AFC117");
    assert!(has(&["-f", "jobs.yaml"], 1));
    assert!(!has(&["-f", "jobs.yaml", "--profile", "other"], 0));
    assert!(has(&["-f", "jobs.yaml", "--profile", "jobs"], 1));
}

#[test]
fn a_baseline_and_a_comment_silence_what_is_known() {
    let dir = folder(&[("compose.yaml", &format!("version: \"3\"\n{GOOD}"))]);
    let dir = dir.path();
    code(dir, &["gate", "--write-baseline", "known.json"], 0);
    let output = code(dir, &["gate", "--baseline", "known.json"], 0);
    assert!(out(&output).contains("1 in the baseline"));
    fs::write(
        dir.join("compose.yaml"),
        format!("version: \"3\"\n{GOOD}    privileged: true\n"),
    )
    .unwrap();
    let output = code(dir, &["gate", "--baseline", "known.json"], 1);
    assert!(out(&output).contains("AFC117") && !out(&output).contains("AFC003"));
    let said = "# agentflow-gate: ignore AFC003 an old tool reads it";
    fs::write(
        dir.join("compose.yaml"),
        format!("version: \"3\" {said}\n{GOOD}"),
    )
    .unwrap();
    let output = code(dir, &["gate"], 0);
    assert!(out(&output).contains("1 suppressed"));
    let said = "# agentflow-gate: ignore AFC003";
    fs::write(
        dir.join("compose.yaml"),
        format!("version: \"3\" {said}\n{GOOD}"),
    )
    .unwrap();
    let output = code(dir, &["gate"], 1);
    assert!(out(&output).contains("AFP103") && out(&output).contains("AFC003"));
}

#[test]
fn fixes_are_shown_or_written_and_only_once() {
    let text = format!("# ours\nversion: \"3\" # old\n{GOOD}");
    let dir = folder(&[("compose.yaml", &text)]);
    let file = dir.path().join("compose.yaml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let output = code(dir.path(), &["gate", "--diff"], 1);
    assert!(
        out(&output).starts_with("--- a/compose.yaml\n+++ b/compose.yaml\n@@ -1,"),
        "{}",
        out(&output)
    );
    assert!(out(&output).contains("\n-version: \"3\" # old\n+# old\n"));
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    let output = code(dir.path(), &["gate", "--fix"], 0);
    assert!(err(&output).contains("1 fixes applied in 1 files"));
    let after = fs::read_to_string(&file).unwrap();
    assert_eq!(after, format!("# ours\n# old\n{GOOD}"));
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o640
    );
    code(dir.path(), &["gate", "--diff"], 0);
    code(dir.path(), &["gate", "--fix=unsafe"], 0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn no_output_shows_a_secret() {
    let secret = "h7Kq2mXp9tB4";
    let address = format!("postgres://app:{secret}@db/app?sslmode=disable");
    let dir = folder(&[
        (
            "compose.yaml",
            &format!(
                "{GOOD}    environment: {{API_TOKEN: {secret}, DATABASE_URL: \"{address}\"}}\n"
            ),
        ),
        (".env", &format!("API_TOKEN={secret}\n")),
    ]);
    for format in ["text", "json", "sarif", "junit", "github", "markdown"] {
        let text = out(&code(
            dir.path(),
            &["gate", "--pedantic", "--format", format],
            1,
        ));
        assert!(!text.contains(secret), "{format}: {text}");
        for rule in ["AFC302", "AFC304", "AFA101", "AFA104"] {
            assert!(text.contains(rule), "{format}: {rule}");
        }
    }
    code(dir.path(), &["gate", "--write-baseline", "known.json"], 0);
    let known = fs::read_to_string(dir.path().join("known.json")).unwrap();
    assert!(!known.contains(secret));
}

#[test]
fn what_git_keeps_is_read_from_its_index() {
    let dir = folder(&[
        ("compose.yaml", GOOD),
        (".env", "API_TOKEN=h7Kq2mXp9tB4\n"),
        ("deploy/server.key", "-----BEGIN PRIVATE KEY-----\nMIIB\n"),
        ("tests/server.key", "-----BEGIN PRIVATE KEY-----\nMIIB\n"),
    ]);
    let git = |args: &[&str]| {
        let status = Command::new("git")
            .args(args)
            .current_dir(dir.path())
            .status()
            .unwrap();
        assert!(status.success(), "git {args:?}");
    };
    git(&["init", "--quiet"]);
    let found = || {
        let output = agentflow(
            dir.path(),
            &["gate", "--format", "json", "--only", "AFC303"],
        );
        let json: Json = serde_json::from_str(&out(&output)).unwrap();
        let rows = json["findings"].as_array().unwrap().clone();
        rows.iter()
            .map(|it| it["place"]["file"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(), Vec::<String>::new());
    git(&["add", "--all"]);
    assert_eq!(found(), [".env", "deploy/server.key"]);
    // The newest form of the index shares beginnings of names.
    git(&["update-index", "--index-version", "4"]);
    assert_eq!(found(), [".env", "deploy/server.key"]);
}

#[test]
fn explain_prints_pages_and_the_list() {
    let dir = folder(&[]);
    let page = out(&code(dir.path(), &["explain", "AFC207"], 0));
    assert!(page.starts_with("# AFC207: ") && page.contains("\n## Fix\n"));
    assert_eq!(
        out(&code(dir.path(), &["explain", "disjoint-networks"], 0)),
        page
    );
    let list = out(&code(dir.path(), &["explain"], 0));
    assert!(list.lines().count() > 90);
    assert!(
        list.contains("AFC207  must      disjoint-networks"),
        "{list}"
    );
    let wrong = err(&code(dir.path(), &["explain", "disjoint-network"], 2));
    assert!(wrong.contains("`disjoint-networks` is near"), "{wrong}");
}
