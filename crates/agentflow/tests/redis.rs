//! Servers as processes, on one PostgreSQL database and one Redis; wake-ups go over Redis only.

use std::fs;

use agentflow_testkit::servers::postgres::{self, Version};
use serde_json::json;

mod with_redis;
use with_redis::{Redis, Server, agentflow, output};

/// Runs in which Redis is there, is away, and is there again.
const RUNS: usize = 12;

/// Numbers of the frames of a stream.
fn ids(stream: &str) -> Vec<&str> {
    stream
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .collect()
}

/// A run begun on one server is followed on the other to its end, whatever Redis does; afterwards
/// both tell the same story.
#[tokio::test]
async fn streams_are_followed_elsewhere_while_redis_comes_and_goes() {
    let mut redis = Redis::start();
    let server = postgres::shared(Version::Debian).unwrap();
    let (dir, database) = (
        tempfile::tempdir().unwrap(),
        server.create_database().unwrap(),
    );
    let start = || {
        let mut command = agentflow(&dir, &["dev", "--json", "--port", "0"]);
        command
            .env("DATABASE_URL", database.url())
            .env("AGENTFLOW_STORAGE__LISTEN_URL", "off");
        redis.set(&mut command);
        Server::start(command)
    };
    let (first, second) = (start(), start());
    let thread = first.post("/threads", json!({})).await;
    let path = format!("/threads/{}", thread["thread_id"].as_str().unwrap());
    for round in 0..RUNS {
        let (here, there) = match round % 2 {
            0 => (&first, &second),
            _ => (&second, &first),
        };
        if round == RUNS / 3 {
            redis.own.kill().unwrap();
        }
        if round == 2 * RUNS / 3 {
            redis.own.restart().unwrap();
        }
        let question = json!({
            "assistant_id": "agent",
            "input": {"messages": [{"role": "user", "content": format!("question {round}")}]},
            "stream_mode": ["values", "updates"],
            "stream_resumable": true,
        });
        let run = here.post(&format!("{path}/runs"), question).await;
        let run = run["run_id"].as_str().unwrap();
        let stream = format!("{path}/runs/{run}/stream");
        let followed = there.stream(&stream).await;
        assert!(!followed.contains("event: error"), "{round}: {followed}");
        assert!(
            followed.contains(&format!("question {round}")),
            "{round}: {followed}"
        );
        let again = here.stream(&stream).await;
        assert_eq!(ids(&followed), ids(&again), "{round}");
        assert!(!ids(&again).is_empty(), "{round}: {again}");
    }
    let history = first
        .post(&format!("{path}/history"), json!({"limit": 1}))
        .await;
    let messages = history[0]["values"]["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 2 * RUNS);
}

#[test]
fn production_refuses_redis_without_tls_or_user() {
    let dir = tempfile::tempdir().unwrap();
    let start = |url: &str| {
        let mut command = agentflow(&dir, &["dev", "--json", "--port", "0"]);
        command
            .env("AGENTFLOW_PROFILE", "production")
            .env("AGENTFLOW_AUTH__MODE", "on")
            .env("REDIS_URL", url);
        output(&mut command)
    };
    for (url, words) in [
        ("redis://u:hushhush@127.0.0.1:1", "must use TLS"),
        ("redis+cluster://u:hushhush@127.0.0.1:1", "must use TLS"),
        ("rediss://:hushhush@127.0.0.1:1", "ACL user"),
        ("rediss://default:hushhush@127.0.0.1:1", "ACL user"),
        ("rediss+sentinel://u@127.0.0.1:1/main", "ACL user"),
        ("rediss://u:hushhush@127.0.0.1:1?x=1", "no parameters"),
    ] {
        let (refused, said) = start(url);
        assert!(!refused.status.success(), "{url}: {said}");
        assert!(said.contains(words), "{url}: {said}");
        assert!(!said.contains("hushhush"), "{said}");
    }
}

#[test]
fn the_address_of_redis_is_masked() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = agentflow(&dir, &["config", "show"]);
    let url = "rediss+sentinel://someone:hush@hush@s1:1,s2:2/main";
    let (_, shown) = output(command.env("REDIS_URL", url));
    assert!(
        shown.contains("someone:***@s1:1,s2:2/main") && !shown.contains("hush"),
        "{shown}"
    );
}

/// A wrong password is named at start, and not shown.
#[test]
fn a_refusal_at_start_names_the_check() {
    let redis = Redis::start();
    let dir = tempfile::tempdir().unwrap();
    fs::write(redis.dir.path().join("password"), "wronghush").unwrap();
    let mut command = agentflow(&dir, &["dev", "--json", "--port", "0"]);
    redis.set(&mut command);
    let (refused, said) = output(&mut command);
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("check: password"), "{said}");
    assert!(!said.contains("wronghush"), "{said}");
}
