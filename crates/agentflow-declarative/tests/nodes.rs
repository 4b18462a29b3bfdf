//! Each kind of node from file to state.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::{fs, net::Ipv4Addr};

use agentflow_declarative::{Environment, load, load_text};
use agentflow_testkit::Reply;
use agentflow_types::{ErrorKind, Value, graph::StreamMode, message, value};
use axum::{
    Json, Router,
    extract::Query,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect},
    routing::{get, post},
};
use serde_json::json;
use support::{Bench, conversation, loaded, models, question};

fn plain() -> Environment {
    Environment::default()
}

#[tokio::test]
async fn set_computes_fields_and_reducers_combine_them() {
    let text = "
version: 1
state:
  n: {type: integer, default: 2}
  log: {type: list, reducer: append}
  best: {type: integer, reducer: 'current == null || update > current ? update : current'}
nodes:
  a: {kind: set, values: {n: n * 3, log: \"['a', n]\", best: '7'}}
  b: {kind: set, values: {log: \"[{'state': size(state) > 1}]\", best: '5', n: 1.5}}
edges: [START -> a -> b -> END]
";
    let out = loaded(text, &plain())
        .graph
        .invoke(value!({"n": 4}))
        .await
        .unwrap();
    let want = value!({"n": 1.5, "log": ["a", 4, {"state": true}], "best": 7});
    assert_eq!(out, want);
}

#[tokio::test]
async fn conditions_switches_and_joins_lead_on() {
    let text = "
version: 1
state: {n: integer, kind: string, log: {type: list, reducer: append}}
nodes:
  small: {kind: set, values: {log: \"['small']\"}}
  large: {kind: set, values: {log: \"['large']\"}}
  left: {kind: set, values: {log: \"['left']\"}}
  right: {kind: set, values: {log: \"['right']\"}}
  both: {kind: set, values: {log: \"['both']\"}}
edges:
  - {from: START, when: n > 10, to: large, else: small}
  - {from: small, switch: kind, cases: {a: left, b: [left, right]}, default: END}
  - {from: [left, right], to: both}
";
    let graph = loaded(text, &plain()).graph;
    for (input, want) in [
        (value!({"n": 11}), value!(["large"])),
        (value!({"n": 1, "kind": "a"}), value!(["small", "left"])),
        (
            value!({"n": 1, "kind": "b"}),
            value!(["small", "left", "right", "both"]),
        ),
        (value!({"n": 1}), value!(["small"])),
    ] {
        let out = graph.invoke(input.clone()).await.unwrap();
        assert_eq!(out.get("log"), Some(&want), "{input}");
    }
}

#[tokio::test]
async fn a_template_writes_text_or_a_message() {
    let text = "
version: 1
state: {name: string, greeting: string, messages: messages}
input: [name]
output: [greeting, messages]
nodes:
  greet: {kind: template, template: 'Hello {{ name | upper }}!', output: greeting}
  say: {kind: template, template: '{{ greeting }}', output: messages}
edges: [START -> greet -> say]
";
    let out = loaded(text, &plain())
        .graph
        .invoke(value!({"name": "Ada"}))
        .await
        .unwrap();
    assert_eq!(out.get("greeting"), Some(&value!("Hello ADA!")));
    assert_eq!(conversation(&out), ["ai: Hello ADA!"]);
    assert!(out.get("name").is_none());
}

#[tokio::test]
async fn map_runs_a_node_per_item() {
    let text = "
version: 1
state:
  words: list
  prefix: string
  sizes: {type: list, reducer: append}
  total: {type: integer, reducer: sum}
nodes:
  each: {kind: map, over: 'words.filter(w, size(w) > 1)', node: measure}
  measure:
    kind: set
    values: {sizes: \"[prefix + item + string(index)]\", total: size(item)}
edges: [START -> each, measure -> END]
";
    let graph = loaded(text, &plain()).graph;
    let out = graph
        .invoke(value!({"words": ["ab", "c", "def"], "prefix": "-"}))
        .await
        .unwrap();
    assert_eq!(out.get("sizes"), Some(&value!(["-ab0", "-def1"])));
    assert_eq!(out.get("total"), Some(&value!(5)));
    let out = graph.invoke(value!({"words": []})).await.unwrap();
    assert_eq!(out.get("total"), Some(&value!(0)));
}

#[tokio::test]
async fn a_subgraph_shares_fields_or_maps_them() {
    let text = "
version: 1
state: {n: integer, doubled: integer}
nodes:
  shared:
    kind: subgraph
    graph:
      version: 1
      state: {n: integer}
      nodes: {add: {kind: set, values: {n: n + 1}}}
      edges: [START -> add]
  mapped:
    kind: subgraph
    input: {x: n}
    output: {doubled: result.x}
    graph:
      version: 1
      state: {x: integer}
      nodes: {double: {kind: set, values: {x: x * 2}}}
      edges: [START -> double]
edges: [START -> shared -> mapped]
";
    let out = loaded(text, &plain())
        .graph
        .invoke(value!({"n": 4}))
        .await
        .unwrap();
    assert_eq!(out, value!({"n": 5, "doubled": 10}));
}

#[tokio::test]
async fn a_subgraph_may_be_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let inner = "
version: 1
state: {n: integer}
nodes: {add: {kind: set, values: {n: n + 1}}}
edges: [START -> add]
";
    let outer = "
version: 1
name: outer
description: Adds twice.
state: {n: integer}
nodes:
  one: {kind: subgraph, graph: parts/inner.yaml}
  two: {kind: subgraph, graph: parts/inner.yaml}
edges: [START -> one -> two]
";
    fs::create_dir(folder.path().join("parts")).unwrap();
    fs::write(folder.path().join("parts/inner.yaml"), inner).unwrap();
    fs::write(folder.path().join("outer.yaml"), outer).unwrap();
    let loaded = load(folder.path().join("outer.yaml"), &plain()).unwrap();
    assert_eq!(
        (loaded.name.as_str(), loaded.description.as_deref()),
        ("outer", Some("Adds twice."))
    );
    assert!(loaded.warnings.is_empty());
    assert_eq!(
        loaded.graph.invoke(value!({"n": 1})).await.unwrap(),
        value!({"n": 3})
    );

    fs::write(
        folder.path().join("parts/inner.yaml"),
        inner.replace("n + 1", "m + 1"),
    )
    .unwrap();
    let report = load(folder.path().join("outer.yaml"), &plain()).unwrap_err();
    let lines: Vec<String> = report.iter().map(ToString::to_string).collect();
    let want = "parts/inner.yaml:4:38: unknown variable `m` (known: `n`, `state`, `config`, `context`) [AF0118]";
    // The file is used twice, its mistake is reported once.
    assert_eq!(lines, [want]);
}

#[tokio::test]
async fn a_person_answers_and_is_asked_again_if_it_does_not_fit() {
    let text = "
version: 1
state: {city: string, days: integer, log: any}
nodes:
  ask:
    kind: human
    question: {ask: 'How long in {{ city }}?', days: '=1 + 1'}
    schema: {type: object, properties: {days: {type: integer}}, required: [days]}
    output: log
    answer: {days: answer.days}
edges: [START -> ask]
";
    let bench = Bench::new(text, &plain());
    let outcome = bench.run(value!({"city": "Bern"})).await.unwrap();
    assert_eq!(
        question(&outcome),
        &value!({"ask": "How long in Bern?", "days": 2})
    );
    let schema = outcome.interrupts[0].response_schema.as_ref().unwrap();
    assert_eq!(schema.get("required"), Some(&value!(["days"])));

    let outcome = bench.resume(value!({"days": "three"})).await.unwrap();
    let asked = question(&outcome);
    assert_eq!(
        asked.get("error"),
        Some(&value!("days: expected an integer, found text"))
    );

    let outcome = bench.resume(value!({"days": 3})).await.unwrap();
    assert!(outcome.interrupts.is_empty());
    assert_eq!(
        outcome.values,
        value!({"city": "Bern", "days": 3, "log": {"days": 3}})
    );
}

#[tokio::test]
async fn actions_are_decided_about() {
    let text = "
version: 1
state: {to: string, decisions: list}
nodes:
  ask:
    kind: human
    actions:
      - {name: send, args: {to: '{{ to }}'}, description: 'Send to {{ to }}?', allowed: [approve, edit]}
    output: decisions
edges: [START -> ask]
";
    let bench = Bench::new(text, &plain());
    let outcome = bench.run(value!({"to": "x@y.z"})).await.unwrap();
    let want = value!({
        "action_requests": [{"name": "send", "args": {"to": "x@y.z"}, "description": "Send to x@y.z?"}],
        "review_configs": [{"action_name": "send", "allowed_decisions": ["approve", "edit"]}],
    });
    assert_eq!(question(&outcome), &want);
    let edited =
        json!({"type": "edit", "edited_action": {"name": "send", "args": {"to": "a@b.c"}}});
    let outcome = bench.resume(value!({"decisions": [edited]})).await.unwrap();
    let want = value!([{"type": "edit", "name": "send", "args": {"to": "a@b.c"}, "message": null}]);
    assert_eq!(outcome.values.get("decisions"), Some(&want));
}

#[tokio::test]
async fn static_interrupts_stop_before_and_after() {
    let text = "
version: 1
state: {n: {type: integer, reducer: sum}}
nodes:
  a: {kind: set, values: {n: 1}}
  b: {kind: set, values: {n: 10}}
edges: [START -> a -> b -> END]
interrupt_before: [b]
interrupt_after: [b]
";
    let bench = Bench::new(text, &plain());
    let outcome = bench.run(value!({"n": 0})).await.unwrap();
    assert_eq!((outcome.values, outcome.next.len()), (value!({"n": 1}), 1));
    let outcome = bench.run(Value::Null).await.unwrap();
    assert_eq!(outcome.values, value!({"n": 11}));
}

#[tokio::test]
async fn a_model_answers_into_messages_and_fields() {
    let (server, environment) = models([Reply::text("Paris is the capital.")]).await;
    let text = "
version: 1
state: {messages: messages, country: string, answer: string}
nodes:
  ask:
    kind: model
    system: 'You know all about {{ country }}.'
    output: answer
    temperature: 0.5
    max_tokens: 20
edges: [START -> ask]
";
    let bench = Bench::new(text, &environment);
    let input =
        value!({"messages": [{"role": "user", "content": "Capital?"}], "country": "France"});
    let chunks = bench.events(input, StreamMode::Messages).await;
    let text_of = |pair: &Value| message::text(&pair.as_list().unwrap()[0]);
    let streamed: String = chunks.iter().map(text_of).collect();
    assert_eq!(streamed, "Paris is the capital.");
    assert!(chunks.len() > 2, "{chunks:?}");
    let body = &server.requests()[0].body;
    assert_eq!(body["messages"][0]["content"], "You know all about France.");
    assert_eq!(body["temperature"], 0.5);
    let outcome = bench.run(value!({"messages": "Again?"})).await.unwrap();
    assert_eq!(
        outcome.values.get("answer"),
        Some(&value!("Paris is the capital."))
    );
    assert_eq!(conversation(&outcome.values).len(), 4);
}

#[tokio::test]
async fn a_structured_answer_must_fit() {
    let bad = Reply::text(r#"{"city": 1}"#);
    let (_server, environment) = models([bad, Reply::text(r#"{"city": "Bern"}"#)]).await;
    let text = "
version: 1
state: {question: string, place: object}
nodes:
  ask:
    kind: model
    prompt: '{{ question }}'
    response_schema: {type: object, properties: {city: {type: string}}, required: [city]}
    output: place
    retry: {attempts: 2, initial_seconds: 0}
edges: [START -> ask]
";
    let out = loaded(text, &environment)
        .graph
        .invoke(value!({"question": "?"}))
        .await
        .unwrap();
    assert_eq!(out.get("place"), Some(&value!({"city": "Bern"})));
}

#[tokio::test]
async fn one_tool_runs_by_name() {
    let text = "
version: 1
state: {n: integer, result: string}
nodes:
  compute: {kind: tool, tool: calculator, args: {expression: '{{ n }} * 2'}, output: result}
edges: [START -> compute]
";
    let graph = loaded(&text.replace("result", "value"), &plain()).graph;
    let out = graph.invoke(value!({"n": 21})).await.unwrap();
    assert_eq!(out.get("value"), Some(&value!("42")));
}

/// A server on this machine with the routes that the tests need.
async fn local() -> String {
    async fn echo(headers: HeaderMap, Json(body): Json<serde_json::Value>) -> impl IntoResponse {
        let token = headers["x-token"].to_str().unwrap().to_owned();
        Json(json!({"body": body, "token": token}))
    }
    async fn search(Query(pairs): Query<Vec<(String, String)>>) -> impl IntoResponse {
        Json(json!(pairs))
    }
    let app = Router::new()
        .route("/echo", post(echo))
        .route("/search/{*path}", get(search))
        .route("/loop", get(async || Redirect::temporary("/loop")))
        .route("/away", get(async || Redirect::temporary("/text")))
        .route("/text", get(async || "plain"))
        .route("/large", get(async || "x".repeat(5000)))
        .route(
            "/bad",
            get(async || (StatusCode::BAD_REQUEST, "no such thing")),
        );
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

/// Runs one http node with these fields.
async fn request(fields: impl AsRef<str>) -> agentflow_types::Result<Value> {
    let fields = fields.as_ref();
    let text = format!(
        "
version: 1
state: {{base: string, out: any, status: any, q: any}}
nodes:
  ask: {{kind: http, {fields}}}
edges: [START -> ask]
"
    );
    let graph = loaded(&text, &plain()).graph;
    graph.invoke(value!({"base": "b", "q": {"a": [1]}})).await
}

#[tokio::test]
async fn http_sends_and_maps_the_answer() {
    let base = local().await;
    let out = request(format!(
        "method: POST, url: '{base}/echo', headers: {{x-token: 't-{{{{ base }}}}'}}, body: {{n: '=1 + 1', s: '{{{{ base }}}}', q: '=q'}}, allow_private: true, output: out, response: {{status: response.status}}"
    ))
    .await
    .unwrap();
    let want = value!({"body": {"n": 2, "s": "b", "q": {"a": [1]}}, "token": "t-b"});
    assert_eq!(
        (out.get("out"), out.get("status")),
        (Some(&want), Some(&value!(200)))
    );

    let out = request(format!(
        "url: '{base}/search/{{{{ q }}}}', query: {{q: 'a b&c', n: '=2'}}, allow_private: true, output: out"
    ));
    assert_eq!(
        out.await.unwrap().get("out"),
        Some(&value!([["q", "a b&c"], ["n", "2"]]))
    );

    let out = request(format!(
        "url: '{base}/away', allow_private: true, output: out"
    ))
    .await;
    assert_eq!(out.unwrap().get("out"), Some(&value!("plain")));
}

#[tokio::test]
async fn http_refuses_what_it_should() {
    let base = local().await;
    let port = base.rsplit(':').next().unwrap().to_owned();
    for (fields, kind, words) in [
        (
            format!("url: 'http://127.0.0.1:{port}/{{{{ base }}}}', output: out"),
            ErrorKind::Denied,
            "private network",
        ),
        (
            format!("url: 'http://localhost:{port}/text', output: out"),
            ErrorKind::Denied,
            "private network",
        ),
        (
            format!(
                "url: '{base}/text', allow_hosts: [example.org], allow_private: true, output: out, query: {{a: '{{{{ base }}}}'}}"
            ),
            ErrorKind::Denied,
            "not on the list",
        ),
        (
            format!("url: '{base}/loop', allow_private: true, max_redirects: 2, output: out"),
            ErrorKind::Invalid,
            "redirects too often",
        ),
        (
            format!("url: '{base}/large', allow_private: true, max_bytes: 100, output: out"),
            ErrorKind::Invalid,
            "too large",
        ),
        (
            format!("url: '{base}/bad', allow_private: true, output: out"),
            ErrorKind::Invalid,
            "status 400",
        ),
    ] {
        if fields.contains("allow_hosts") {
            // A host that the rules refuse and that the file names in full is found at once.
            let text = format!(
                "version: 1\nstate: {{base: any, out: any}}\nnodes:\n  a: {{kind: http, {fields}}}\nedges: [START -> a]\n"
            );
            let report = load_text("x.yaml", &text, &plain()).unwrap_err();
            assert!(report.to_string().contains(words), "{report}");
            continue;
        }
        let error = request(&fields).await.unwrap_err();
        assert!(error.to_string().contains(words), "{fields}: {error:?}");
        assert_eq!(error.kind(), kind, "{fields}: {error:?}");
    }
    let out = request(format!(
        "url: '{base}/bad', allow_private: true, accept_errors: true, response: {{status: response.status, out: response.body}}"
    ));
    let out = out.await.unwrap();
    assert_eq!(
        (out.get("status"), out.get("out")),
        (Some(&value!(400)), Some(&value!("no such thing")))
    );
}

#[tokio::test]
async fn schemas_and_context_are_described() {
    let text = "
version: 1
state:
  user_name: {type: string, description: Who asks., default: Ada}
  messages: messages
input: [user_name]
output: [messages]
context: {type: object, properties: {tone: {type: string}}}
nodes:
  say: {kind: template, template: '{{ context.tone }}', output: messages}
edges: [START -> say]
";
    let schemas = loaded(text, &plain()).graph.schemas();
    let want = json!({
        "type": "object",
        "title": "testInput",
        "properties": {"user_name": {
            "type": "string", "title": "User Name", "description": "Who asks.", "default": "Ada",
        }},
    });
    assert_eq!(schemas.input_schema, Some(want));
    assert_eq!(
        schemas.context_schema.unwrap()["properties"]["tone"]["type"],
        "string"
    );
    let output = schemas.output_schema.unwrap();
    assert_eq!(output["properties"]["messages"]["type"], "array");
}
