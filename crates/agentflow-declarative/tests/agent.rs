//! The prebuilt agent and its tools.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use agentflow_declarative::{Environment, load, project_template, schema};
use agentflow_testkit::{Call, Reply};
use agentflow_types::{Error, Value, graph::StreamMode, message, value};
use serde_json::json;
use support::{Bench, conversation, models, question};

const AGENT: &str = "
version: 1
kind: agent
system: Be brief.
tools: [calculator, current_time, send]
approve: [send]
max_iterations: 3
";

/// Adds a tool that counts its runs, and one that fails.
fn with_tools(environment: &mut Environment) -> Arc<AtomicUsize> {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let schema =
        json!({"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]});
    environment
        .tools
        .function("send", "Sends.", schema, move |args, _| {
            let count = count.clone();
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                let to = args
                    .get("to")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                match to.as_str() {
                    "nobody" => Err(Error::failed("there is no such address")),
                    to => Ok(value!({"sent": to})),
                }
            }
        });
    sent
}

fn calls(calls: &[(&str, serde_json::Value)]) -> Reply {
    let calls = calls.iter().enumerate().map(|(at, (name, args))| Call {
        id: Some(format!("call-{at}")),
        ..Call::new(name, args.clone())
    });
    Reply {
        calls: calls.collect(),
        ..Reply::default()
    }
}

fn ask(text: &str) -> Value {
    value!({"messages": [{"role": "user", "content": text}]})
}

#[tokio::test]
async fn it_calls_tools_until_it_has_an_answer() {
    let first = calls(&[
        ("calculator", json!({"expression": "6 * 7"})),
        ("calculator", json!({"expression": "1 / 0"})),
        ("calculater", json!({})),
        ("calculator", json!({"wrong": 1})),
    ]);
    let (server, mut environment) = models([first, Reply::text("It is 42.")]).await;
    with_tools(&mut environment);
    let bench = Bench::new(AGENT, &environment);
    let outcome = bench.run(ask("6 * 7?")).await.unwrap();
    let lines = conversation(&outcome.values);
    assert_eq!(lines[..3], ["human: 6 * 7?", "ai: ", "tool: 42"]);
    assert!(
        lines[3].contains("Error: the expression failed"),
        "{lines:?}"
    );
    assert!(
        lines[4].contains("Error: `calculater` is not a tool"),
        "{lines:?}"
    );
    assert!(lines[5].contains("`expression` is missing"), "{lines:?}");
    assert_eq!(lines[6], "ai: It is 42.");
    let messages = outcome
        .values
        .get("messages")
        .unwrap()
        .as_list()
        .unwrap()
        .to_vec();
    let status = |at: usize| {
        messages[at]
            .get("status")
            .and_then(Value::as_str)
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        (status(2), status(3)),
        ("success".to_owned(), "error".to_owned())
    );
    let tools = &server.requests()[0].body["tools"];
    assert_eq!(tools.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn tools_report_their_start_and_end() {
    let first = calls(&[
        ("calculator", json!({"expression": "1 + 1"})),
        ("current_time", json!({"timezone": "Mars/Base"})),
    ]);
    let (_server, mut environment) = models([first, Reply::text("2")]).await;
    with_tools(&mut environment);
    let bench = Bench::new(AGENT, &environment);
    let events = bench.events(ask("?"), StreamMode::Tools).await;
    let of = |id: &str| -> Vec<&Value> {
        events
            .iter()
            .filter(|e| e.get("tool_call_id") == Some(&Value::str(id)))
            .collect()
    };
    let first = of("call-0");
    let want = value!({"event": "tool-started", "tool_call_id": "call-0", "tool_name": "calculator", "input": {"expression": "1 + 1"}});
    assert_eq!(*first[0], want);
    assert_eq!(first[1].get("event"), Some(&value!("tool-finished")));
    assert_eq!(message::text(first[1].get("output").unwrap()), "2");
    let second = of("call-1");
    assert_eq!(second[1].get("event"), Some(&value!("tool-error")));
    let text = second[1].get("message").and_then(Value::as_str).unwrap();
    assert!(text.contains("the time zone is not known"), "{text}");
}

#[tokio::test]
async fn approval_comes_before_any_tool_runs() {
    let first = || {
        calls(&[
            ("calculator", json!({"expression": "1"})),
            ("send", json!({"to": "a"})),
            ("send", json!({"to": "b"})),
        ])
    };
    let (_server, mut environment) = models([first(), Reply::text("Done.")]).await;
    let sent = with_tools(&mut environment);
    let bench = Bench::new(AGENT, &environment);
    let outcome = bench.run(ask("Send!")).await.unwrap();
    let asked = question(&outcome);
    let requests = asked.get("action_requests").unwrap().as_list().unwrap();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].get("args"), Some(&value!({"to": "a"})));
    assert_eq!(sent.load(Ordering::SeqCst), 0);

    let answer = value!({"decisions": [
        {"type": "edit", "edited_action": {"name": "send", "args": {"to": "c"}}},
        {"type": "reject", "message": "Not to b."},
    ]});
    let outcome = bench.resume(answer).await.unwrap();
    let lines = conversation(&outcome.values);
    let want = [
        "human: Send!",
        "ai: ",
        "tool: 1",
        "tool: {\"sent\":\"c\"}",
        "tool: Not to b.",
        "ai: Done.",
    ];
    assert_eq!(lines, want);
    assert_eq!(sent.load(Ordering::SeqCst), 1);
    // The conversation says what was really called.
    let ai = &outcome.values.get("messages").unwrap().as_list().unwrap()[1];
    let args = ai.get("tool_calls").unwrap().as_list().unwrap()[1].get("args");
    assert_eq!(args, Some(&value!({"to": "c"})));
}

#[tokio::test]
async fn it_gives_up_after_too_many_iterations() {
    let again = calls(&[("send", json!({"to": "nobody"}))]);
    let (server, mut environment) = models([again]).await;
    let sent = with_tools(&mut environment);
    let bench = Bench::new(&AGENT.replace("approve: [send]", ""), &environment);
    let outcome = bench.run(ask("Try.")).await.unwrap();
    let lines = conversation(&outcome.values);
    assert_eq!(
        lines.last().unwrap(),
        "ai: Sorry, need more steps to process this request."
    );
    assert!(
        lines[2].contains("Error: there is no such address"),
        "{lines:?}"
    );
    assert_eq!(sent.load(Ordering::SeqCst), 3);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn declared_tools_send_requests() {
    let app = axum::Router::new().route(
        "/weather/{city}",
        axum::routing::get(
            async |axum::extract::Path(city): axum::extract::Path<String>| {
                axum::Json(json!({"city": city, "now": {"degrees": 21}}))
            },
        ),
    );
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let text = format!(
        "
version: 1
kind: agent
declare:
  weather:
    kind: http
    description: Tells the weather of a city.
    args: {{type: object, properties: {{city: {{type: string}}}}, required: [city]}}
    url: 'http://{address}/weather/{{{{ city }}}}'
    allow_private: true
    result: \"response.json.city + ': ' + string(response.json.now.degrees)\"
"
    );
    let first = calls(&[("weather", json!({"city": "New York/?"}))]);
    let (_server, environment) = models([first, Reply::text("Warm.")]).await;
    let outcome = Bench::new(&text, &environment)
        .run(ask("Weather?"))
        .await
        .unwrap();
    assert_eq!(conversation(&outcome.values)[2], "tool: New York/?: 21");
}

#[tokio::test]
async fn without_a_model_it_answers_and_says_so() {
    let bench = Bench::new("version: 1\nkind: agent\n", &Environment::default());
    let outcome = bench.run(ask("Hello?")).await.unwrap();
    let answer = conversation(&outcome.values).pop().unwrap();
    assert!(
        answer.starts_with("ai: No model is configured;"),
        "{answer}"
    );
}

#[tokio::test]
async fn the_new_project_runs() {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in project_template() {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let config = std::fs::read_to_string(folder.path().join("agentflow.toml")).unwrap();
    let config: toml::Table = config.parse().unwrap();
    let graph = config["graphs"]["assistant"].as_str().unwrap();

    let first = calls(&[("calculator", json!({"expression": "12 * 34"}))]);
    let (_server, environment) = models([first, Reply::text("408")]).await;
    let loaded = load(folder.path().join(graph), &environment).unwrap();
    assert_eq!(loaded.name, "assistant");
    let outcome = Bench::of(loaded.graph)
        .run(ask("What is 12 * 34?"))
        .await
        .unwrap();
    let want = ["human: What is 12 * 34?", "ai: ", "tool: 408", "ai: 408"];
    assert_eq!(conversation(&outcome.values), want);
}

#[test]
fn the_committed_schema_is_the_current_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/graph.schema.json");
    let current = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("AGENTFLOW_BLESS").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == current,
        "run this test with AGENTFLOW_BLESS=1 and commit the file"
    );
}
