//! Graphs that recall and remember, on a server: whose memories they reach, with which rights, and
//! how often they add.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod native;
mod world;

use agentflow_testkit::waiting::until;
use serde_json::{Value, json};
use world::{LONG, Oracle, Project, ROOT, Store, texts};

/// Class and text of the error that ended a run.
fn error(end: &Value) -> String {
    let error = &end["__error__"];
    assert!(error.is_object(), "the run did not fail: {end}");
    error.to_string()
}

async fn somebody_elses_memory_is_not_recalled(store: Store) {
    let project = Project::new(store, 9);
    let server = project.start(&[]).await;
    let ada = json!({"context": {"user_id": "ada"}});
    let first = server.say("", "I play the cello", ada.clone()).await;
    assert_eq!(first["known"], json!([]));
    let results = &first["added"]["results"];
    assert_eq!(results[0]["memory"], "I play the cello", "{first}");

    let second = server.say("", "Who plays the cello?", ada.clone()).await;
    assert_eq!(texts(&second["known"]), ["I play the cello"]);
    assert_eq!(second["facts"], "- I play the cello");
    assert_eq!(second["known"][0]["id"], results[0]["id"]);
    let bob = json!({"config": {"configurable": {"user_id": "bob"}}});
    let theirs = server.say("", "Who plays the cello?", bob).await;
    assert_eq!(theirs["known"], json!([]));
    // No name is a pattern.
    for all in ["*", "a*", "{\"ne\":\"bob\"}"] {
        let asked = server.desk("", all, json!({"asked": "cello"})).await;
        assert_eq!(asked["known"], json!([]), "{all}");
    }
    // Without a name nobody is meant.
    let nobody = server.say("", "Who plays the cello?", json!({})).await;
    assert!(error(&nobody).contains("user_id"), "{nobody}");

    // Clients of memory see the same, also after a crash.
    let all = ["I play the cello", "Who plays the cello?"];
    assert_eq!(server.memories("", "ada").await, all);
    server.kill().await;
    let server = project.start(&[]).await;
    assert_eq!(server.memories("", "ada").await, all);
    // An index that is in memory only is filled after the start.
    let filled = until(LONG, async || {
        let asked = server.desk("", "ada", json!({"asked": "cello"})).await;
        texts(&asked["known"]).len() == all.len()
    });
    filled.await.unwrap();
    let again = server.say("", "cello", ada).await;
    assert_eq!(texts(&again["known"]), all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_memory_is_not_recalled_on_sqlite() {
    somebody_elses_memory_is_not_recalled(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_memory_is_not_recalled_on_postgres() {
    somebody_elses_memory_is_not_recalled(Store::Postgres).await;
}

/// What a client could send to be taken for somebody else, or for somebody who may more.
fn forged() -> Vec<Value> {
    let rights = json!({"permissions": ["memories:read", "memories:write"]});
    let all = json!({
        "user_id": "bob", "langgraph_auth_user_id": "bob", "rights": rights,
        "langgraph_auth_user": {"identity": "bob", "permissions": rights["permissions"]},
        "langgraph_auth_permissions": rights["permissions"], "scope": rights, "memories": null,
    });
    vec![
        json!({"config": {"configurable": all, "metadata": all, "rights": rights}}),
        json!({"context": all, "metadata": all}),
        json!({"rights": rights, "kwargs": {"rights": rights}, "scope": rights}),
    ]
}

async fn a_run_may_no_more_than_its_key(store: Store) {
    let project = Project::new(store, 9);
    let server = project.guarded().await;
    let runs = ["assistants:read", "threads:*", "runs:*"];
    let with = |more: &[&str]| json!({ "scopes": ([&runs[..], more].concat()) });
    let ada = server.key("ada", json!({})).await;
    let bob = server.key("bob", json!({})).await;
    server.say(&bob, "The secret is 42", json!({})).await;
    server.say(&ada, "I play the cello", json!({})).await;

    // Who asks is known from the key, whatever a client says.
    for forgery in forged() {
        let told = server.say(&ada, "the secret and the cello", forgery).await;
        let known = texts(&told["known"]);
        let knows = |text: &str| known.iter().any(|one| one == text);
        assert!(
            knows("I play the cello") && !knows("The secret is 42"),
            "{told}"
        );
    }
    assert_eq!(server.memories(&bob, "bob").await, ["The secret is 42"]);

    let mute = server.key("mute", with(&[])).await;
    let reader = server.key("reader", with(&["memories:read"])).await;
    let writer = server.key("writer", with(&["memories:write"])).await;
    let (asked, said) = (json!({"asked": "secret"}), json!({"said": "I was here"}));
    let may = async |key: &str| {
        let reads = server.desk(key, "bob", asked.clone()).await;
        let writes = server.desk(key, "bob", said.clone()).await;
        let refused = |end: &Value, what: &str| match end.get("__error__") {
            None => false,
            Some(error) => {
                assert!(error.to_string().contains(what), "{error}");
                true
            }
        };
        (
            !refused(&reads, "memories:read"),
            !refused(&writes, "memories:write"),
        )
    };
    assert_eq!(may(&mute).await, (false, false));
    assert_eq!(may(&reader).await, (true, false));
    assert_eq!(server.memories(&bob, "bob").await.len(), 1);
    assert_eq!(may(&writer).await, (false, true));
    assert_eq!(server.memories(&bob, "bob").await.len(), 2);
    for forgery in forged() {
        let told = server.say(&mute, "the secret", forgery).await;
        assert!(error(&told).contains("memories:read"), "{told}");
    }
    // What the run is kept with is not shown.
    let run = json!({"assistant_id": "desk", "input": {"said": ""}, "context": {"of": "ada"}});
    let run = server.post(&ada, "/runs", run).await;
    assert!(run["kwargs"]["config"].is_object(), "{run}");
    assert!(run["kwargs"].get("rights").is_none(), "{run}");

    // A key that is limited to some memories opens no way to a graph.
    let limit = json!({"memory_scope": {"user_id": "ada"}});
    let limited = server.key("limited", limit).await;
    assert_eq!(server.memories(&limited, "ada").await.len(), 4);
    let run = json!({"assistant_id": "desk", "input": asked, "context": {"of": "bob"}});
    let cron = json!({"assistant_id": "desk", "schedule": "* * * * *", "input": said});
    for (path, body) in [
        ("/runs/wait", &run),
        ("/runs", &run),
        ("/runs/crons", &cron),
    ] {
        let (status, answer) = server.ask(&limited, "POST", path, body).await;
        assert_eq!(status, 403, "{path}: {answer}");
    }
    for tool in ["desk", "notes"] {
        let call = json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": tool, "arguments": asked},
        });
        let (_, answer) = server.ask(&limited, "POST", "/mcp", &call).await;
        let answer = answer.to_string();
        assert!(answer.contains("runs:write"), "{answer}");
    }
    assert_eq!(server.memories(ROOT, "bob").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_may_no_more_than_its_key_on_sqlite() {
    a_run_may_no_more_than_its_key(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_may_no_more_than_its_key_on_postgres() {
    a_run_may_no_more_than_its_key(Store::Postgres).await;
}

/// Nothing of the run is stored before its end, so the next server begins anew.
async fn a_step_that_is_repeated_after_a_crash_adds_once(store: Store) {
    let oracle = Oracle::start();
    let project = Project::new(store, oracle.port);
    let lease = [("AGENTFLOW_RUNS__LEASE_SECONDS", "3")];
    let server = project.start(&lease).await;
    let thread = server.post("", "/threads", json!({})).await;
    let thread = format!("/threads/{}", thread["thread_id"].as_str().unwrap());
    let run = json!({
        "assistant_id": "slow", "input": {}, "durability": "exit", "stream_mode": ["updates"],
        "stream_resumable": true,
    });
    let run = server.post("", &format!("{thread}/runs"), run).await;
    let run = format!("{thread}/runs/{}", run["run_id"].as_str().unwrap());
    until(LONG, async || oracle.is_asked()).await.unwrap();
    assert_eq!(server.memories("", "ada").await, ["I sail on Sundays"]);
    server.kill().await;

    let server = project.start(&lease).await;
    let (_, end) = server
        .ask("", "GET", &format!("{run}/join"), &json!({}))
        .await;
    assert_eq!(end["sky"], 42, "{end}");
    let told = server.told(&format!("{run}/stream")).await;
    let told = told.matches("\"remember\":").count();
    assert_eq!(told, 2, "the step was not repeated");
    assert_eq!(server.memories("", "ada").await, ["I sail on Sundays"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_is_repeated_after_a_crash_adds_once_on_sqlite() {
    a_step_that_is_repeated_after_a_crash_adds_once(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_is_repeated_after_a_crash_adds_once_on_postgres() {
    a_step_that_is_repeated_after_a_crash_adds_once(Store::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_memory_the_files_are_refused() {
    let project = Project::new(Store::Sqlite, 9);
    let notes = project.dir().join("notes.yaml");
    let notes = notes.to_str().unwrap();
    for (args, is_on) in [
        (&["dev", "--json", "--port", "0"][..], false),
        (&["check", notes], false),
        (&["check", notes], true),
    ] {
        let mut command = project.command(args);
        command.env("AGENTFLOW_MEMORY__ENABLED", is_on.to_string());
        let output = command.output().await.unwrap();
        assert_eq!(output.status.success(), is_on, "{args:?}: {output:?}");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.contains("AF0131"), !is_on, "{text}");
        assert_eq!(
            text.contains("set `memory.enabled = true`"),
            !is_on,
            "{text}"
        );
    }
}
