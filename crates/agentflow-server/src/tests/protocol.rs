//! Protocol v2 over HTTP and WebSocket.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{NOBODY, SOON, Server, check, host::QUESTION, request};

const ALL: &str = r#"{"channels":["values","updates","messages","tools","custom","lifecycle","input","tasks","checkpoints"]}"#;

/// The data of protocol events as they come, until one satisfies `last`.
async fn told(body: axum::body::Body, last: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut stream = body.into_data_stream();
    let (mut text, mut events) = (String::new(), vec![]);
    loop {
        let piece = tokio::time::timeout(SOON, stream.next()).await;
        let piece = piece.unwrap_or_else(|_| panic!("no end after {events:?}"));
        text.push_str(std::str::from_utf8(&piece.expect("more follows").unwrap()).unwrap());
        while let Some((frame, rest)) = text.split_once("\r\n\r\n") {
            let data = frame
                .split("\r\n")
                .find_map(|line| line.strip_prefix("data: "));
            if let Some(data) = data {
                events.push(serde_json::from_str::<Value>(data).unwrap());
            }
            text = rest.to_owned();
            if events.last().is_some_and(&last) {
                return events;
            }
        }
    }
}

fn is_root_end(event: &Value) -> bool {
    event["method"] == "lifecycle"
        && event["params"]["namespace"] == json!([])
        && event["params"]["data"]["event"] != "running"
}

fn shown(events: &[Value]) -> Vec<String> {
    let show = |event: &Value| {
        let params = &event["params"];
        format!(
            "{} {} {}",
            event["method"].as_str().unwrap(),
            params["namespace"],
            params["data"]
        )
    };
    events.iter().map(show).collect()
}

async fn command(server: &Server, thread: &str, body: Value) -> Value {
    server
        .call(
            &format!("POST /threads/{thread}/commands"),
            &body.to_string(),
        )
        .await
        .json()
}

fn start(script: Value) -> Value {
    json!({"id": 1, "method": "run.start", "params": {
        "assistant_id": "agent", "input": {"do": script},
    }})
}

#[tokio::test]
async fn a_thread_is_made_asked_and_answered() {
    let server = Server::new().await;
    let path = format!("POST /threads/{NOBODY}/stream/events");
    // Opened before there is a thread.
    let early = server
        .open(request(&path, r#"{"channels":["lifecycle","input"]}"#))
        .await;
    let started = command(
        &server,
        NOBODY,
        start(json!([["set", {"x": 1}], ["ask", "ok?"]])),
    )
    .await;
    assert_eq!(started["type"], "success");
    assert_eq!(started["meta"], json!({"applied_through_seq": 0}));
    let waits = told(early.into_body(), is_root_end).await;
    let asked = format!(
        r#"input.requested [] {{"interrupt_id":"{QUESTION}","payload":"ok?","value":"ok?"}}"#
    );
    assert_eq!(
        shown(&waits),
        [
            r#"lifecycle [] {"event":"running","graph_name":"agent"}"#.to_owned(),
            asked,
            r#"lifecycle [] {"event":"interrupted","graph_name":"agent"}"#.to_owned(),
        ]
    );
    let tree = json!({"id": 2, "method": "agent.getTree", "params": {}});
    assert_eq!(
        command(&server, NOBODY, tree).await["result"]["tree"]["status"],
        json!("interrupted")
    );
    let ask = async |method: &str, params: Value| {
        let asked = json!({"id": 9, "method": method, "params": params});
        command(&server, NOBODY, asked).await
    };
    let got = ask("state.get", json!({"namespace": [], "keys": ["none"]})).await;
    assert_eq!(got["result"]["values"], json!({}), "{got}");
    let place = got["result"]["checkpoint"]["id"].clone();
    let listed = ask("state.listCheckpoints", json!({"limit": 1})).await;
    assert_eq!(listed["result"]["checkpoints"][0]["id"], place, "{listed}");
    for (method, params, error) in [
        ("state.get", json!({"namespace": "x"}), "invalid_argument"),
        (
            "state.listCheckpoints",
            json!({"limit": 0}),
            "invalid_argument",
        ),
        ("state.fork", json!({}), "invalid_argument"),
        (
            "state.fork",
            json!({"checkpoint_id": "nope"}),
            "no_such_checkpoint",
        ),
        ("input.inject", json!({}), "not_supported"),
        ("state.burn", json!({}), "unknown_command"),
    ] {
        assert_eq!(ask(method, params).await["error"], error, "{method}");
    }
    let wrong = json!({"id": 3, "method": "input.respond", "params": {
        "namespace": [], "interrupt_id": "x", "response": 1,
    }});
    assert_eq!(
        command(&server, NOBODY, wrong).await["error"],
        "no_such_interrupt"
    );
    let answer = json!({"id": 4, "method": "input.respond", "params": {
        "namespace": [], "interrupt_id": QUESTION, "response": "yes",
    }});
    assert!(command(&server, NOBODY, answer).await["result"]["run_id"].is_string());

    // A later listener sees everything, from the beginning.
    let ends = |event: &Value| event["params"]["data"]["event"] == "completed";
    let begin = ALL.replace('}', r#","since":1}"#);
    let whole = told(server.open(request(&path, &begin)).await.into_body(), ends).await;
    assert_eq!(
        shown(&whole)[4..],
        [
            r#"lifecycle [] {"event":"interrupted","graph_name":"agent"}"#.to_owned(),
            r#"lifecycle [] {"event":"running","graph_name":"agent"}"#.to_owned(),
            format!(r#"input.answered [] {{"interrupt_ids":["{QUESTION}"]}}"#),
            format!(r#"updates [] {{"a":{{"answer":{{"{QUESTION}":"yes"}}}}}}"#),
            format!(r#"values [] {{"x":1,"answer":{{"{QUESTION}":"yes"}}}}"#),
            r#"lifecycle [] {"event":"completed","graph_name":"agent"}"#.to_owned(),
        ]
    );
    // Numbers grow, identities are unique, and `since` resumes after any of them.
    let seqs: Vec<u64> = whole
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    for (n, seq) in seqs.iter().enumerate().take(seqs.len() - 1) {
        let body = ALL.replace('}', &format!(r#","since":{seq}}}"#));
        let rest = told(server.open(request(&path, &body)).await.into_body(), ends).await;
        assert_eq!(rest, whole[n + 1..]);
    }

    // One that names no position is not told again what the first run started, asked and ended
    // with: its question is answered, and its end is not that of the present run.
    let fresh = told(server.open(request(&path, ALL)).await.into_body(), ends).await;
    let first_run = |event: &Value| {
        let method = event["method"].as_str().unwrap();
        event["seq"].as_u64() < Some(seqs[5])
            && matches!(method, "lifecycle" | "input.requested" | "input.answered")
    };
    let kept: Vec<Value> = whole.into_iter().filter(|e| !first_run(e)).collect();
    assert_eq!(fresh, kept);
}

#[tokio::test]
async fn the_run_that_a_reader_finds_is_told_from_its_start() {
    let server = Server::new().await;
    let path = format!("POST /threads/{NOBODY}/stream/events");
    command(
        &server,
        NOBODY,
        start(json!([["set", {"x": 1}], ["ask", "ok?"]])),
    )
    .await;
    let watch = r#"{"channels":["lifecycle","input"]}"#;
    for _ in 0..2 {
        let found = told(
            server.open(request(&path, watch)).await.into_body(),
            is_root_end,
        )
        .await;
        let methods: Vec<&str> = found
            .iter()
            .map(|e| e["method"].as_str().unwrap())
            .collect();
        assert_eq!(methods, ["lifecycle", "input.requested", "lifecycle"]);
    }
}

#[tokio::test]
async fn input_on_an_interrupted_thread_is_the_answer() {
    let server = Server::new().await;
    let thread = server.thread().await;
    let run = r#"{"assistant_id":"agent","input":{"do":[["ask","ok?"]]}}"#;
    server
        .call(&format!("POST /threads/{thread}/runs/wait"), run)
        .await;
    let body = json!({"id": 1, "method": "run.start", "params": {
        "assistant_id": "agent", "input": "yes",
    }});
    let started = command(&server, &thread, body).await;
    let run = started["result"]["run_id"].as_str().unwrap();
    let joined = server
        .call(&format!("GET /threads/{thread}/runs/{run}/join"), "")
        .await;
    assert_eq!(joined.text.trim(), r#"{"answer":"yes"}"#);
}

#[tokio::test]
async fn mistakes_are_answered_as_observed() {
    let server = Server::new().await;
    let commands = format!("POST /threads/{NOBODY}/commands");
    let events = format!("POST /threads/{NOBODY}/stream/events");
    check(
        &server,
        &[
            (
                &commands,
                r#"{"x":1}"#,
                r#"400 {"type":"error","id":null,"error":"invalid_argument","message":"Protocol commands must include an integer id and string method."}"#,
            ),
            (
                &commands,
                r#"{"id":1,"method":"zzz","params":{}}"#,
                r#"200 {"type":"error","id":1,"error":"unknown_command","message":"Unknown protocol command: zzz"}"#,
            ),
            (
                &commands,
                r#"{"id":1,"method":"run.start","params":{"assistant_id":"nope","input":{}}}"#,
                r#"200 {"type":"error","id":1,"error":"unknown_error","message":"422: Invalid assistant: 'nope'. Must be either:\n- A valid assistant UUID, or\n- One of the registered graphs: agent, other"}"#,
            ),
            (
                &commands,
                r#"{"id":1,"method":"input.respond","params":{"interrupt_id":"x","namespace":[],"response":1}}"#,
                r#"200 {"type":"error","id":1,"error":"no_such_run","message":"No interrupted run is bound to this thread."}"#,
            ),
            (
                &events,
                r#"{"channels":["debug"]}"#,
                r#"400 {"detail":"channels contains unsupported entries: debug. Allowed: values, updates, messages, tools, custom, lifecycle, input, tasks, checkpoints, or any `custom:<name>`."}"#,
            ),
            (
                &events,
                "{}",
                r#"400 {"detail":"channels is required and must be a non-empty array"}"#,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn failed_and_cancelled_runs_end() {
    let server = Server::new().await;
    let thread = server.thread().await;
    command(&server, &thread, start(json!([["fail", "boom"]]))).await;
    let path = format!("POST /threads/{thread}/stream");
    let events = told(
        server.open(request(&path, ALL)).await.into_body(),
        is_root_end,
    )
    .await;
    assert_eq!(
        shown(&events)[1],
        r#"lifecycle [] {"event":"failed","graph_name":"agent","error":"boom"}"#
    );
    let other = server.thread().await;
    let run = command(&server, &other, start(json!([["hang"]]))).await;
    let run = run["result"]["run_id"].as_str().unwrap();
    server
        .call(
            &format!("POST /threads/{other}/runs/{run}/cancel?wait=true"),
            "",
        )
        .await;
    let path = format!("POST /threads/{other}/stream/events");
    let events = told(
        server.open(request(&path, ALL)).await.into_body(),
        is_root_end,
    )
    .await;
    assert_eq!(
        events.last().unwrap()["params"]["data"]["error"],
        "Run was cancelled"
    );
}

#[tokio::test]
async fn sockets_carry_commands_and_subscriptions() {
    let server = Server::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let serving = tokio::spawn(crate::serve(
        listener,
        server.router.clone(),
        server.state.clone(),
        stop.clone(),
    ));
    let url = format!("ws://{address}/threads/{NOBODY}/stream/events");
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let mut say = async |body: Value| {
        socket.send(Message::text(body.to_string())).await.unwrap();
        loop {
            match tokio::time::timeout(SOON, socket.next())
                .await
                .unwrap()
                .unwrap()
                .unwrap()
            {
                Message::Text(text) => break serde_json::from_str::<Value>(&text).unwrap(),
                _ => continue,
            }
        }
    };
    assert_eq!(say(json!("x")).await["error"], "invalid_argument");
    let bad = json!({"id": 1, "method": "subscription.subscribe", "params": {"channels": ["zzz"]}});
    assert_eq!(say(bad).await["error"], "invalid_argument");
    let sub = json!({"id": 2, "method": "subscription.subscribe",
        "params": {"channels": ["lifecycle"], "namespaces": [[]], "depth": 0}});
    assert_eq!(say(sub).await["result"]["subscription_id"], "sub-1");
    let none = json!({"id": 3, "method": "subscription.unsubscribe",
        "params": {"subscription_id": "sub-9"}});
    assert_eq!(say(none).await["error"], "no_such_subscription");
    socket
        .send(Message::text(start(json!([])).to_string()))
        .await
        .unwrap();
    let mut seen = vec![];
    while seen.len() < 3 {
        if let Message::Text(text) = tokio::time::timeout(SOON, socket.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
        {
            let value: Value = serde_json::from_str(&text).unwrap();
            seen.push(match value["type"].as_str().unwrap() {
                "event" => value["params"]["data"]["event"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
                other => other.to_owned(),
            });
        }
    }
    // The answer to the command and the events overtake each other.
    seen.sort();
    assert_eq!(seen, ["completed", "running", "success"]);
    server.state.closing.cancel();
    stop.cancel();
    tokio::time::timeout(SOON, serving)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn subscriptions_of_one_socket_see_events_in_one_order() {
    let server = Server::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (router, state) = (server.router.clone(), server.state.clone());
    tokio::spawn(crate::serve(listener, router, state, server.stop.clone()));
    let thread = server.thread().await;
    let url = format!("ws://{address}/threads/{thread}/stream/events");
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let read = async |socket: &mut tokio_tungstenite::WebSocketStream<_>| loop {
        let message = tokio::time::timeout(SOON, socket.next()).await.unwrap();
        if let Message::Text(text) = message.unwrap().unwrap() {
            return serde_json::from_str::<Value>(&text).unwrap();
        }
    };
    // One that comes late is brought up to where the others are, and goes on with them.
    for (id, channels) in [(1, json!(["lifecycle"])), (2, json!(["values"]))] {
        let body = json!({"id": id, "method": "subscription.subscribe",
            "params": {"channels": channels}});
        socket.send(Message::text(body.to_string())).await.unwrap();
        assert_eq!(read(&mut socket).await["type"], "success");
        let run = json!({"assistant_id": "agent",
            "input": {"do": [["set", {"x": id}], ["set", {"y": id}]]}});
        let line = format!("POST /threads/{thread}/runs/wait");
        server.call(&line, &run.to_string()).await;
        let (mut numbers, mut methods) = (vec![], vec![]);
        while methods.last().is_none_or(|last| last != "completed") {
            let event = read(&mut socket).await;
            let method = event["method"].as_str().unwrap();
            let said = event["params"]["data"]["event"].as_str();
            methods.push(said.unwrap_or(method).to_owned());
            numbers.push(event["seq"].as_u64().unwrap());
        }
        match id {
            1 => assert_eq!(methods, ["running", "completed"]),
            _ => {
                // What it was told of the first run, then both of the second one.
                let second = methods.iter().position(|said| said == "running").unwrap();
                assert!(numbers[..second].is_sorted() && numbers[second..].is_sorted());
                assert_eq!(methods[..second], ["values", "values"]);
                assert_eq!(
                    methods[second..],
                    ["running", "values", "values", "completed"]
                );
            }
        }
    }
}
