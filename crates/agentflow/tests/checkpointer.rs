//! Checkpoints in Redis, beside SQLite or PostgreSQL, as a user meets them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{path::Path, process::Command, time::Duration};

use agentflow_testkit::{
    servers::{
        postgres::{self, Version},
        redis::Persistence,
    },
    waiting,
};
use serde_json::{Value, json};
use tempfile::TempDir;

mod with_redis;
use with_redis::{Redis, Server, agentflow, output};

/// What takes longer counts as never, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command that begins to serve with its checkpoints in Redis.
fn serve(dir: &TempDir, redis: &Redis, database: Option<&str>) -> Command {
    let mut command = agentflow(dir, &["dev", "--json", "--port", "0"]);
    command.env("AGENTFLOW_STORAGE__CHECKPOINTER", "redis");
    if let Some(url) = database {
        command
            .env("DATABASE_URL", url)
            // A run of a server that was killed is taken over when its lease is over.
            .env("AGENTFLOW_RUNS__LEASE_SECONDS", "3");
    }
    redis.set(&mut command);
    command
}

/// One part of a person's journey, with the official client.
fn python(part: &str, url: &str, thread: &str) -> String {
    let interpreter = std::env::var_os("AGENTFLOW_TEST_PYTHON")
        .expect("set AGENTFLOW_TEST_PYTHON to a Python with langgraph-sdk");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpointer.py");
    let mut command = Command::new(interpreter);
    command.arg(script).args([part, url, thread]);
    let (done, said) = output(&mut command);
    assert!(done.status.success(), "{part}: {said}");
    said.trim().to_owned()
}

/// A person is asked, the server is killed, Redis too, and what was asked is answered by its
/// successor. Runs that were acknowledged at the moment of the kill end.
async fn journey(database: Option<&str>) {
    let mut redis = Redis::with(Persistence::AppendAlways);
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(serve(&dir, &redis, database));
    let thread = python("ask", &server.url, "");
    let crowd = python("crowd", &server.url, "");
    server.kill();

    redis.own.kill().unwrap();
    redis.own.restart().unwrap();
    let server = Server::start(serve(&dir, &redis, database));
    python("answer", &server.url, &thread);
    python("answer-crowd", &server.url, &crowd);

    // The database has none, Redis has them all.
    let keys = redis.own.address().cli(&["DBSIZE"]).unwrap();
    assert!(keys.parse::<u32>().unwrap() > 50, "{keys}");
    if database.is_none() {
        let path = dir.path().join(".agentflow/agentflow.db");
        let bytes = std::fs::metadata(path).unwrap().len();
        assert!(bytes > 0);
    }
    python("delete", &server.url, &thread);
    python("delete", &server.url, &crowd);
    let left = redis
        .own
        .address()
        .cli(&["KEYS", "*checkpoints:{*"])
        .unwrap();
    assert_eq!(left.trim(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_resumes_from_redis_beside_sqlite() {
    journey(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_resumes_from_redis_beside_postgres() {
    let server = postgres::shared(Version::Debian).unwrap();
    let database = server.create_database().unwrap();
    journey(Some(&database.url())).await;
    for table in ["checkpoints", "checkpoint_writes", "checkpoint_blobs"] {
        let count = database
            .sql(&format!("SELECT count(*) FROM {table}"))
            .unwrap();
        assert_eq!(count, "0", "{table}");
    }
}

/// How a part of the server is, by `/health`, and the status of the answer.
async fn health(server: &Server) -> (u16, String) {
    let (status, text) = server.get("/health").await;
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    let part = report
        .pointer("/parts/redis")
        .unwrap_or_else(|| panic!("{text}"));
    (status, part["status"].as_str().unwrap().to_owned())
}

/// A figure of the server.
async fn figure(server: &Server, name: &str) -> f64 {
    let (_, text) = server.get("/metrics").await;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    value.parse().unwrap()
}

async fn is_so(server: &Server, wanted: (u16, &str)) {
    let so = waiting::until(PATIENCE, async || {
        let found = health(server).await;
        (found.0, found.1.as_str()) == wanted
    });
    so.await.unwrap();
}

/// Redis that goes away degrades the server, or, with the checkpoints, fails it; the figures tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_metrics_tell_of_redis() {
    for (checkpointer, away) in [("database", (200, "degraded")), ("redis", (503, "failed"))] {
        let mut redis = Redis::start();
        let dir = tempfile::tempdir().unwrap();
        let mut command = serve(&dir, &redis, None);
        command.env("AGENTFLOW_STORAGE__CHECKPOINTER", checkpointer);
        let server = Server::start(command);
        assert_eq!(health(&server).await, (200, "ok".into()));
        assert!(figure(&server, "agentflow_redis_connections").await >= 1.0);
        assert!(figure(&server, "agentflow_redis_command_seconds_count").await > 0.0);
        assert_eq!(
            figure(&server, "agentflow_redis_disconnects_total").await,
            0.0
        );

        redis.own.kill().unwrap();
        is_so(&server, away).await;
        assert_eq!(figure(&server, "agentflow_redis_connections").await, 0.0);
        assert!(figure(&server, "agentflow_redis_command_errors_total").await > 0.0);
        assert!(figure(&server, "agentflow_redis_connect_failures_total").await > 0.0);

        // A run that begins meanwhile waits for its checkpoints, or does not need Redis.
        let run = json!({"assistant_id": "review", "input": {"topic": "x"}});
        let (done, ()) = tokio::join!(server.post("/runs/wait", run), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            redis.own.restart().unwrap();
        });
        assert!(done["__interrupt__"].is_array(), "{done}");
        is_so(&server, (200, "ok")).await;
        assert!(figure(&server, "agentflow_redis_disconnects_total").await > 0.0);
        assert!(figure(&server, "agentflow_redis_connects_total").await > 1.0);
    }
}

/// Redis that would lose the checkpoints is refused in production, and warned of elsewhere.
#[test]
fn checkpoints_need_a_redis_that_keeps_them() {
    let dir = tempfile::tempdir().unwrap();
    let production = |command: &mut Command| {
        command
            .env("AGENTFLOW_PROFILE", "production")
            .env("AGENTFLOW_AUTH__MODE", "on");
    };
    let forgetful = Redis::with(Persistence::Memory);
    let mut command = serve(&dir, &forgetful, None);
    production(&mut command);
    let (refused, said) = output(&mut command);
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("appendonly yes"), "{said}");

    let redis = Redis::start();
    let rightless = ["ACL", "SETUSER", "default", "reset"];
    redis.own.address().cli(&rightless).unwrap();
    let mut command = serve(&dir, &redis, None);
    production(&mut command);
    let (refused, said) = output(&mut command);
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("user default off"), "{said}");
    let rights = ["ACL", "SETUSER", "default", "~*", "&*", "+@all"];
    redis.own.address().cli(&rights).unwrap();
    let set = ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"];
    redis.own.address().cli(&set).unwrap();
    let mut command = serve(&dir, &redis, None);
    production(&mut command);
    let (refused, said) = output(&mut command);
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("maxmemory-policy"), "{said}");

    let mut command = serve(&dir, &forgetful, None);
    let log = tempfile::NamedTempFile::new().unwrap();
    command.stderr(log.reopen().unwrap());
    drop(Server::start(command));
    let said = std::fs::read_to_string(log.path()).unwrap();
    assert!(said.contains("loses them when it restarts"), "{said}");
}

/// Without Redis, or without a right, a server does not begin.
#[test]
fn a_checkpointer_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = agentflow(&dir, &["dev", "--json", "--port", "0"]);
    command.env("AGENTFLOW_STORAGE__CHECKPOINTER", "redis");
    let (refused, said) = output(&mut command);
    assert!(
        !refused.status.success() && said.contains("set redis.url"),
        "{said}"
    );

    command.env("AGENTFLOW_STORAGE__CHECKPOINTER", "reddis");
    let (refused, said) = output(&mut command);
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("did you mean `redis`?"), "{said}");

    let redis = Redis::start();
    let less = ["ACL", "SETUSER", "agentflow", "-hsetnx"];
    redis.own.address().cli(&less).unwrap();
    let (refused, said) = output(&mut serve(&dir, &redis, None));
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("check: rights"), "{said}");
}
