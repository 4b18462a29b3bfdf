//! The three clients against the scriptable server: the same cases for each wire format.

mod support;

use std::time::Duration;

use agentflow_models::{ChatEvent, ChatRequest, ToolChoice, ToolSpec, Usage, pieces};
use agentflow_testkit::{Call, Fault, ModelServer, Reply, Script, When};
use agentflow_types::{ErrorKind, Value, message, value};
use futures_util::StreamExt;
use proptest::prelude::*;
use serde_json::json;
use support::{Api, Client, Mode, ask, each, each_mode, request};

#[tokio::test]
async fn text_arrives_in_pieces_and_whole() {
    each_mode(async |api, mode| {
        let reply = Reply {
            usage: Some([5, 3]),
            ..Reply::text("one two three")
        };
        let (server, client) = support::start(api, Script::replies([reply])).await;
        let (events, answer) = ask(&client, request("hi"), mode).await.unwrap();
        assert_eq!(answer.text, "one two three");
        assert_eq!(answer.finish_reason.as_deref(), Some("stop"));
        assert_eq!(
            answer.usage,
            Some(Usage {
                input_tokens: 5,
                output_tokens: 3
            })
        );
        assert_eq!(answer.model, "m");
        if mode == Mode::Stream {
            let texts: Vec<_> = events.iter().map(text_of).collect();
            assert_eq!(texts, ["one ", "two ", "three"]);
        }
        let sent = &server.requests()[0];
        assert_eq!(
            sent.body["stream"].as_bool().unwrap_or(false),
            mode == Mode::Stream
        );
    })
    .await;
}

fn text_of(event: &ChatEvent) -> String {
    match event {
        ChatEvent::Text(text) => text.clone(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_tool_is_called_and_its_result_is_sent_back() {
    each_mode(async |api, mode| {
        let calls = vec![
            Call::new("weather", json!({"city": "Zürich", "days": [1, 2]})),
            Call::new("time", json!({})),
        ];
        let script = Script::default()
            .rule(
                When::last_role("user"),
                [Reply {
                    calls,
                    ..Reply::text("let me see")
                }],
            )
            .rule(When::last_role("tool"), [Reply::text("done")]);
        let (server, client) = support::start(api, script).await;
        let mut request = request("weather?");
        request.tools = vec![tool("weather"), tool("time")];
        let (_, answer) = ask(&client, request.clone(), mode).await.unwrap();
        assert_eq!(answer.text, "let me see");
        assert_eq!(answer.finish_reason.as_deref(), Some("tool_calls"));
        let got: Vec<_> = answer
            .tool_calls
            .iter()
            .map(|c| (c.name.as_str(), &c.args))
            .collect();
        let want = value!({"city": "Zürich", "days": [1, 2]});
        assert_eq!(got, [("weather", &want), ("time", &value!({}))]);

        // The server refuses answers to calls that it does not find before them.
        request.messages.push(pieces::whole(&answer, "id"));
        for call in &answer.tool_calls {
            request
                .messages
                .push(message::tool("sunny", &call.id, &call.name));
        }
        let (_, answer) = ask(&client, request, mode).await.unwrap();
        assert_eq!(answer.text, "done");
        assert_eq!(server.requests().len(), 2);
    })
    .await;
}

fn tool(name: &str) -> ToolSpec {
    let parameters = value!({"type": "object", "properties": {}});
    ToolSpec {
        name: name.into(),
        description: "does it".into(),
        parameters,
    }
}

#[tokio::test]
async fn arguments_that_do_not_parse_are_kept_as_text() {
    each_mode(async |api, mode| {
        let reply = Reply::call("f", json!("{\"a\": oops"));
        let (_server, client) = support::start(api, Script::replies([reply])).await;
        let (_, answer) = ask(&client, request("x"), mode).await.unwrap();
        let call = &answer.tool_calls[0];
        if (api, mode) == (Api::Anthropic, Mode::Whole) {
            // There the input is a JSON value; text comes as JSON text.
            assert!(!call.is_valid());
        } else {
            assert_eq!(
                (call.is_valid(), call.args.as_str()),
                (false, Some("{\"a\": oops"))
            );
        }
        let message = pieces::whole(&answer, "id");
        let invalid = message
            .get("invalid_tool_calls")
            .and_then(Value::as_list)
            .unwrap();
        assert_eq!(invalid[0].get("name").and_then(Value::as_str), Some("f"));
    })
    .await;
}

#[tokio::test]
async fn a_structured_answer_is_asked_for_and_comes_as_text() {
    each_mode(async |api, mode| {
        let strict = value!({"type": "object", "properties": {"name": {"type": "string"}},
            "required": ["name"], "additionalProperties": false});
        for schema in [strict.clone(), value!({"type": "object"})] {
            let as_tool = api == Api::Anthropic && schema != strict;
            let reply = match as_tool {
                true => Reply::call("person", json!({"name": "Ada"})),
                false => Reply::text(r#"{"name":"Ada"}"#),
            };
            let (server, client) = support::start(api, Script::replies([reply])).await;
            let mut request = request("who?");
            request.response_schema = Some(("person".into(), schema.clone()));
            let (_, answer) = ask(&client, request, mode).await.unwrap();
            assert_eq!(answer.text, r#"{"name":"Ada"}"#);
            assert!(answer.tool_calls.is_empty());
            assert_eq!(answer.finish_reason.as_deref(), Some("stop"));
            let body = &server.requests()[0].body;
            let sent = match api {
                Api::OpenAi => &body["response_format"]["json_schema"]["schema"],
                Api::Anthropic if as_tool => &body["tools"][0]["input_schema"],
                Api::Anthropic => &body["output_config"]["format"]["schema"],
                Api::Ollama => &body["format"],
            };
            assert_eq!(*sent, schema.to_json());
        }
    })
    .await;
}

#[tokio::test]
async fn a_tool_can_be_demanded_or_forbidden() {
    for (api, choice, want) in [
        (Api::OpenAi, ToolChoice::Required, json!("required")),
        (Api::OpenAi, ToolChoice::None, json!("none")),
        (Api::Anthropic, ToolChoice::Required, json!({"type": "any"})),
        (
            Api::Anthropic,
            ToolChoice::Tool("f".into()),
            json!({"type": "tool", "name": "f"}),
        ),
        (Api::Ollama, ToolChoice::Auto, json!(null)),
    ] {
        let (server, client) = support::start(api, Script::default()).await;
        let mut request = request("x");
        request.tools = vec![tool("f")];
        request.tool_choice = choice;
        ask(&client, request, Mode::Whole).await.unwrap();
        assert_eq!(server.requests()[0].body["tool_choice"], want);
    }
}

#[tokio::test]
async fn the_key_is_sent_and_never_shown() {
    each_mode(async |api, mode| {
        if api == Api::Ollama {
            return;
        }
        let key = "sk-very-secret-key";
        let script = Script {
            api_key: Some(key.into()),
            ..Script::default()
        };
        let server = ModelServer::start(script).await.unwrap();
        let good = Client::new(api, &server, |provider| provider.key(key.into()));
        assert_eq!(ask(&good, request("hi"), mode).await.unwrap().1.text, "hi");

        let wrong = "sk-another-secret";
        let bad = Client::new(api, &server, |provider| provider.key(wrong.into()));
        let error = ask(&bad, request("hi"), mode).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("Incorrect API key provided: ***"), "{shown}");
        assert!(!shown.contains(wrong), "{shown}");
        assert_eq!(server.requests().len(), 2, "a refusal is not repeated");
    })
    .await;
}

#[tokio::test]
async fn texts_are_embedded_in_order() {
    for api in [Api::OpenAi, Api::Ollama] {
        let script = Script {
            embedding_dim: 32,
            ..Script::default()
        };
        let (server, client) = support::start(api, script).await;
        let texts: Vec<String> = (0..300).map(|n| format!("text number {n}")).collect();
        let rows = client.embedder().embed("e", &texts).await.unwrap();
        let want: Vec<Vec<f32>> = texts
            .iter()
            .map(|text| agentflow_testkit::embedding::embed(text, 32))
            .collect();
        assert_eq!(rows.len(), want.len());
        for (row, want) in rows.iter().zip(&want) {
            assert!(row.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6));
        }
        assert!(server.requests().len() > 1, "a large batch is cut");
        assert!(client.embedder().embed("e", &[]).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    each(async |api| {
        let (server, client) = support::start(api, Script::default()).await;
        // What is left of a stream after its last event would make the connection unusable.
        for _ in 0..20 {
            let mut stream = client
                .chat()
                .stream(request("hi"), Default::default())
                .await
                .unwrap();
            while stream.next().await.is_some() {}
        }
        ask(&client, request("hi"), Mode::Whole).await.unwrap();
        let connections: Vec<u64> = server.requests().iter().map(|r| r.connection).collect();
        assert_eq!(connections, [1; 21]);
    })
    .await;
}

#[tokio::test]
async fn a_stream_becomes_messages() {
    each(async |api| {
        let reply = Reply {
            calls: vec![Call::new("f", json!({"city": "Bern"}))],
            usage: Some([2, 4]),
            ..Reply::text("a b")
        };
        let (_server, client) = support::start(api, Script::replies([reply])).await;
        let stream = client
            .chat()
            .stream(request("x"), Default::default())
            .await
            .unwrap();
        let mut chunks = Vec::new();
        let whole = pieces::collect(stream, "run-1", |chunk| chunks.push(chunk))
            .await
            .unwrap();
        let text: String = chunks.iter().map(message::text).collect();
        assert_eq!(
            (text.as_str(), message::text(&whole).as_str()),
            ("a b", "a b")
        );
        let args: String = chunks
            .iter()
            .flat_map(|chunk| {
                chunk
                    .get("tool_call_chunks")
                    .and_then(Value::as_list)
                    .unwrap()
            })
            .map(|piece| piece.get("args").and_then(Value::as_str).unwrap())
            .collect();
        assert_eq!(args, r#"{"city":"Bern"}"#);
        let last = chunks.last().unwrap();
        assert_eq!(
            last.get("chunk_position").and_then(Value::as_str),
            Some("last")
        );
        let usage = last
            .get("usage_metadata")
            .and_then(|usage| usage.get("total_tokens"));
        assert_eq!(usage.and_then(Value::as_i64), Some(6));
        let ids = chunks.iter().chain([&whole]).filter_map(message::id);
        assert!(ids.into_iter().all(|id| id == "run-1"));
        let calls = whole.get("tool_calls").and_then(Value::as_list).unwrap();
        assert_eq!(calls[0].get("args"), Some(&value!({"city": "Bern"})));
    })
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_text_survives_any_cut_on_the_wire(
        words in prop::collection::vec("[a-zß€😀\\\\\"{}\\[\\]: \n]{1,12}", 1..6),
        bytes in 1usize..40,
        which in 0usize..3,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let api = [Api::OpenAi, Api::Anthropic, Api::Ollama][which];
            let text = words.concat();
            let args = json!({"text": text});
            let reply = Reply {
                pieces: words.clone(),
                calls: vec![Call::new("f", args.clone())],
                ..Reply::default()
            };
            let reply = reply.fault(Fault::Split { bytes });
            let (_server, client) = support::start(api, Script::replies([reply])).await;
            let (_, answer) = ask(&client, request("x"), Mode::Stream).await.unwrap();
            prop_assert_eq!(&answer.text, &text);
            prop_assert_eq!(answer.tool_calls[0].args.to_json(), args);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_server_of_ones_own_is_found_and_listed() {
    let script = Script {
        models: vec!["a".into(), "b".into()],
        ..Script::default()
    };
    let server = ModelServer::start(script).await.unwrap();
    let vars = [("OLLAMA_HOST", server.url())];
    let lookup = |name: &str| {
        vars.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.clone())
    };
    let mut registry = agentflow_models::Registry::from_env(lookup).unwrap();
    assert_eq!(
        registry.detect_ollama().await,
        Some(vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!(registry.default_spec().await, "ollama:a");

    let url = server.openai_url();
    let lookup = |name: &str| (name == "OPENAI_BASE_URL").then(|| url.clone());
    let registry = agentflow_models::Registry::from_env(lookup).unwrap();
    assert_eq!(registry.default_spec().await, "openai:a");
    let (chat, model) = registry.resolve("openai:a").unwrap();
    let request = ChatRequest {
        model,
        ..request("hello")
    };
    assert_eq!(
        chat.complete(request, Default::default())
            .await
            .unwrap()
            .text,
        "hello"
    );
}

#[tokio::test]
async fn an_absent_server_is_noticed_quickly() {
    let port = agentflow_testkit::ports::free().unwrap();
    let provider = agentflow_models::Provider::new(agentflow_models::Kind::Ollama)
        .at(format!("http://127.0.0.1:{port}"));
    let began = std::time::Instant::now();
    assert_eq!(agentflow_models::ollama::detect(&provider).await, None);
    assert!(began.elapsed() < Duration::from_secs(20));
}
