//! The command line as a person or a script meets it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

fn agentflow(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentflow"));
    command.args(args).current_dir(dir).stdin(Stdio::null());
    // What the developer's shell says must not decide a test.
    for (name, _) in std::env::vars() {
        if name.starts_with("AGENTFLOW_") || name.ends_with("_API_KEY") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

fn run(dir: &Path, args: &[&str]) -> Output {
    agentflow(dir, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server that is stopped when the test ends.
struct Dev {
    child: Child,
    ready: Value,
}

impl Dev {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let mut child = agentflow(dir, args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not ready: {line:?}"));
        Self { child, ready }
    }

    fn port(&self) -> String {
        let url = self.ready["api"].as_str().unwrap();
        url.rsplit(':').next().unwrap().to_owned()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn dev_in_an_empty_folder_serves_the_built_in_graphs() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), &["dev", "--port", "0"]);
    assert_eq!(dev.ready["event"], "ready");
    assert_eq!(dev.ready["graphs"], serde_json::json!(["agent", "review"]));
    assert!(dir.path().join(".agentflow").join("agentflow.db").is_file());
}

#[test]
fn a_signal_drains_and_ends_without_colour_codes() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(dir.path(), &["dev", "--port", "0", "--memory"]);
    let pid = dev.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert!(dev.child.wait().unwrap().success());
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut dev.child.stderr.take().unwrap(), &mut stderr).unwrap();
    assert!(stderr.contains("stopping"), "{stderr}");
    assert!(!stderr.contains('\x1b'), "{stderr:?}");
    assert!(!dir.path().join(".agentflow").exists());
}

#[test]
fn a_taken_port_is_an_error_if_it_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let out = run(dir.path(), &["dev", "--memory", "--port", &port]);
    assert_eq!(out.status.code(), Some(5));
    let err = text(&out.stderr);
    assert!(err.contains(&format!("port {port} is in use")), "{err}");
    assert!(err.contains("--port"), "{err}");
}

#[test]
fn a_data_folder_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let first = Dev::start(dir.path(), &["dev", "--port", "0"]);
    let out = run(dir.path(), &["dev", "--port", "0"]);
    assert_eq!(out.status.code(), Some(5));
    assert!(text(&out.stderr).contains("in use by another agentflow process"));
    assert_ne!(first.port(), "0");
}

#[test]
fn init_writes_a_project_that_checks_and_serves() {
    let dir = tempfile::tempdir().unwrap();
    let out = run(dir.path(), &["init"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let out = run(dir.path(), &["check", "graphs/assistant.yaml"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let dev = Dev::start(dir.path(), &["dev", "--port", "0"]);
    assert_eq!(dev.ready["graphs"], serde_json::json!(["assistant"]));
    assert_eq!(dev.ready["graphs_from"], "agentflow.toml");
    let again = run(dir.path(), &["init"]);
    assert_eq!(again.status.code(), Some(5));
}

#[test]
fn mistakes_in_a_graph_file_are_shown_with_place_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let graph = "version: 1\nstate: {name: string}\nnodes:\n  greet: {kind: template, \
                 template: 'Hi {{ nmae }}', output: name}\nedges: [START -> greet -> END]\n";
    fs::write(dir.path().join("bad.yaml"), graph).unwrap();
    let out = run(dir.path(), &["check", "bad.yaml"]);
    assert_eq!(out.status.code(), Some(1));
    let err = text(&out.stderr);
    assert!(err.contains("bad.yaml:4:"), "{err}");
    assert!(err.contains("did you mean `name`"), "{err}");
}

#[test]
fn a_misspelt_setting_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("agentflow.toml"), "[server]\nprot = 1\n").unwrap();
    let out = run(dir.path(), &["dev"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        text(&out.stderr).contains("did you mean `port`"),
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn plain_commands_print_plain_data() {
    let dir = tempfile::tempdir().unwrap();
    let version: Value =
        serde_json::from_slice(&run(dir.path(), &["version", "--json"]).stdout).unwrap();
    assert_eq!(version["name"], "agentflow");
    let schema: Value = serde_json::from_slice(&run(dir.path(), &["schema"]).stdout).unwrap();
    assert!(schema["$schema"].is_string());
    let shown = text(&run(dir.path(), &["config", "show"]).stdout);
    assert!(
        shown.contains("server.port = 8000") && shown.contains("# default"),
        "{shown}"
    );
    let defaults = text(&run(dir.path(), &["config", "defaults"]).stdout);
    assert!(defaults.parse::<toml::Table>().is_ok());
}

#[test]
fn a_backup_is_made_while_serving_and_put_back_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let none = run(dir.path(), &["migrate", "status"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none.stderr).contains("there is no database"));
    let server = Dev::start(dir.path(), &["dev", "--json"]);
    let made = run(dir.path(), &["backup", "copy.db"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(text(&made.stdout).starts_with("wrote copy.db: "));
    let again = run(dir.path(), &["backup", "copy.db"]);
    assert!(text(&again.stderr).contains("exists already"));
    // In use: neither replaced nor migrated.
    for command in [&["restore", "copy.db"][..], &["migrate", "apply"]] {
        let refused = run(dir.path(), command);
        assert_eq!(refused.status.code(), Some(5), "{command:?}");
    }
    drop(server);
    let restored = run(dir.path(), &["restore", "copy.db"]);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    assert!(
        dir.path()
            .join(".agentflow/agentflow.db.before-restore")
            .exists()
    );
    let status = run(dir.path(), &["migrate", "status"]);
    assert!(text(&status.stdout).contains("up to date"));
    for command in ["plan", "apply"] {
        let done = run(dir.path(), &["migrate", command]);
        assert!(text(&done.stdout).contains("nothing to do"));
    }
}

#[test]
fn the_gate_tells_mends_and_exits_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let file = dir.join("compose.yaml");
    let before = "version: \"3\"\nservices:\n  # Answers.\n  web:\n    image: nginx:1.29.3\n";
    fs::write(&file, before).unwrap();
    let gate = |args: &[&str]| {
        let output = run(dir, &[&["gate"], args].concat());
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (code, found, _) = gate(&[]);
    assert_eq!(code, Some(1), "{found}");
    assert!(
        found.contains("error[AFC003]: `version` is obsolete"),
        "{found}"
    );
    assert!(found.contains(" --> compose.yaml:1:1"), "{found}");
    assert_eq!(gate(&["--fail-on", "never"]).0, Some(0));
    assert_eq!(gate(&["--only", "docker-socket"]).0, Some(0));
    let (code, _, error) = gate(&["--only", "dokcer-socket"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("`docker-socket` is near"), "{error}");
    assert_eq!(gate(&["absent.yaml"]).0, Some(2));
    let (code, sarif, _) = gate(&["--format", "sarif"]);
    let sarif: serde_json::Value = serde_json::from_str(&sarif).unwrap();
    assert_eq!((code, &sarif["version"]), (Some(1), &"2.1.0".into()));
    let (code, diff, _) = gate(&["--fix", "--diff"]);
    assert!(
        code == Some(1) && diff.contains("-version: \"3\""),
        "{diff}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    gate(&["--fix"]);
    let mended = fs::read_to_string(&file).unwrap();
    assert!(
        !mended.contains("version:") && mended.contains("# Answers."),
        "{mended}"
    );
    gate(&["--fix"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), mended);
    gate(&["--write-baseline", "known.json"]);
    assert_eq!(gate(&["--baseline", "known.json"]).0, Some(0));
    let page = run(dir, &["explain", "AFC003"]);
    assert!(text(&page.stdout).starts_with("# AFC003: "));
}

#[test]
fn a_configuration_of_mem0_is_imported() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mem0.json");
    let json = r#"{"llm": {"provider": "ollama", "config": {"model": "qwen3"}},
        "embedder": {"provider": "ollama", "config": {"model": "nomic-embed-text"}}}"#;
    fs::write(&file, json).unwrap();
    let args = ["import", "mem0-config", "mem0.json"];
    let out = run(dir.path(), &args);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("embedding = \"ollama:nomic-embed-text\""));
    assert!(text(&out.stderr).contains("taken      llm.config.model"));
    let write = [&args[..], &["--output", "agentflow.toml"]].concat();
    assert!(run(dir.path(), &write).status.success());
    let again = run(dir.path(), &write);
    assert_eq!(again.status.code(), Some(5));
    assert!(text(&again.stderr).contains("--force"));
    let forced = [&write[..], &["--force"]].concat();
    assert!(run(dir.path(), &forced).status.success());
    let shown = text(&run(dir.path(), &["config", "show"]).stdout);
    assert!(shown.contains("memory.model = \"ollama:qwen3\""), "{shown}");
    fs::write(&file, r#"{"embeder": {}}"#).unwrap();
    let wrong = run(dir.path(), &args);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stdout).contains("did you mean `embedder`?"));
}
