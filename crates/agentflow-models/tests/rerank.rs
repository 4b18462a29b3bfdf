//! Rerankers against servers.

mod support;

use std::sync::Arc;

use agentflow_models::{
    Kind, Provider, Rerank, Secret,
    openai::OpenAi,
    rerank::{CHAT_BATCH, ChatRerank, Cohere},
};
use agentflow_testkit::{ModelServer, Reply, Script};
use agentflow_types::ErrorKind;
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::oneshot,
};

/// Answers one request with `body`; gives its head and body.
async fn once(status: u16, body: Json) -> (String, oneshot::Receiver<(String, Json)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a request");
        let (mut request, mut piece) = (String::new(), [0; 4096]);
        let sent = loop {
            let read = stream.read(&mut piece).await.expect("a request");
            request += std::str::from_utf8(&piece[..read]).expect("text");
            if let Some((head, body)) = request.split_once("\r\n\r\n")
                && let Ok(body) = serde_json::from_str(body)
            {
                break (head.to_owned(), body);
            }
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .await
            .expect("a reader");
        let _ = tell.send(sent);
    });
    (format!("http://{address}"), told)
}

fn cohere(url: &str) -> Cohere {
    let provider = Provider::new(Kind::OpenAi)
        .named("cohere")
        .at(url)
        .key(Secret::new("key-of-the-test"))
        .limits(support::limits());
    Cohere::new(&provider, "rerank-v3.5").expect("a valid provider")
}

fn texts(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("text {i}")).collect()
}

#[tokio::test]
async fn cohere_answers_in_its_own_order() {
    let results = json!({"results": [
        {"index": 2, "relevance_score": 0.9},
        {"index": 0, "relevance_score": 0.5},
        {"index": 1, "relevance_score": 0.001},
    ]});
    let (url, told) = once(200, results).await;
    let scores = cohere(&url).scores("a question", &texts(3)).await.unwrap();
    assert_eq!(scores, [0.5, 0.001, 0.9]);
    let (head, body) = told.await.unwrap();
    assert!(head.starts_with("POST /v2/rerank HTTP/1.1"), "{head}");
    assert!(
        head.contains("authorization: Bearer key-of-the-test"),
        "{head}"
    );
    assert_eq!(
        body,
        json!({
            "model": "rerank-v3.5",
            "query": "a question",
            "documents": ["text 0", "text 1", "text 2"],
            "top_n": 3
        })
    );
}

#[tokio::test]
async fn answers_that_leave_texts_out_are_errors() {
    for (status, body, kind) in [
        (
            200,
            json!({"results": [{"index": 0, "relevance_score": 0.5}]}),
            ErrorKind::Failed,
        ),
        (
            200,
            json!({"results": [{"index": 7, "relevance_score": 0.5}]}),
            ErrorKind::Failed,
        ),
        (200, json!({"data": []}), ErrorKind::Failed),
        (
            401,
            json!({"message": "invalid api token"}),
            ErrorKind::Denied,
        ),
    ] {
        let (url, _told) = once(status, body).await;
        let error = cohere(&url).scores("q", &texts(2)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    // Nobody is asked about nothing.
    assert!(
        cohere("http://127.0.0.1:1")
            .scores("q", &[])
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_chat_model_judges_in_batches() {
    let full = json!({"scores": vec![50; CHAT_BATCH]}).to_string();
    let server = ModelServer::start(Script::replies([
        Reply::text(&full),
        Reply::text("{\"scores\": [100]}"),
    ]))
    .await
    .unwrap();
    let provider = Provider::new(Kind::OpenAi)
        .at(server.openai_url())
        .limits(support::limits());
    let rerank = ChatRerank::new(Arc::new(OpenAi::new(&provider).unwrap()), "m");
    let scores = rerank
        .scores("a question", &texts(CHAT_BATCH + 1))
        .await
        .unwrap();
    assert_eq!(scores[..CHAT_BATCH], [0.5; CHAT_BATCH]);
    assert_eq!(scores[CHAT_BATCH], 1.0);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    let asked = requests[1].body["messages"][1]["content"].as_str().unwrap();
    assert!(
        asked.contains("a question") && asked.contains("text 20"),
        "{asked}"
    );
}
