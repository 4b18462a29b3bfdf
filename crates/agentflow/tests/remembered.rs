//! Nodes with a cache policy in graphs that a server hosts: what one run was told, others know.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use agentflow_testkit::servers::postgres::{self, Version};
use serde_json::json;
use tempfile::TempDir;

mod with_redis;
use with_redis::{Redis, Server, agentflow};

/// A web server that counts how often it was asked.
struct Oracle {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Oracle {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<AtomicUsize>::default();
        let count = asked.clone();
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let body = format!("{{\"n\": {}}}", count.fetch_add(1, SeqCst) + 1);
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                     content-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

/// A folder with a project whose node asks the oracle about a city.
fn project(oracle: &Oracle) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let graph = format!(
        "version: 1\nname: weather\nstate: {{city: string, note: string, sky: any}}\nnodes:\n  \
         ask:\n    kind: http\n    url: http://127.0.0.1:{}/\n    allow_private: true\n    \
         output: sky\n    cache: {{ttl_seconds: 600, fields: [city]}}\nedges: [START -> ask -> END]\n",
        oracle.port
    );
    fs::write(dir.path().join("weather.yaml"), graph).unwrap();
    let config = "[graphs]\nweather = \"weather.yaml\"\n";
    fs::write(dir.path().join("agentflow.toml"), config).unwrap();
    dir
}

async fn ask(server: &Server, city: &str, note: &str) -> serde_json::Value {
    let run = json!({"assistant_id": "weather", "input": {"city": city, "note": note}});
    server.post("/runs/wait", run).await["sky"].clone()
}

/// The second to ask is told what the first was; who asks something else is not.
async fn check(oracle: &Oracle, first: &Server, second: &Server) {
    let told = ask(first, "Oslo", "a").await;
    assert_eq!(ask(second, "Oslo", "b").await, told);
    assert_eq!(oracle.asked(), 1);
    assert_ne!(ask(second, "Rome", "a").await, told);
    assert_eq!(oracle.asked(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_remembers_over_a_restart() {
    let oracle = Oracle::start();
    let dir = project(&oracle);
    let start = || Server::start(agentflow(&dir, &["dev", "--json", "--port", "0"]));
    let first = start();
    let told = ask(&first, "Oslo", "a").await;
    first.kill();
    let second = start();
    assert_eq!(ask(&second, "Oslo", "b").await, told);
    assert_eq!(oracle.asked(), 1);

    // A node that is written differently remembers nothing.
    drop(second);
    let path = dir.path().join("weather.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        text.replace("/\n    allow_private", "/other\n    allow_private"),
    )
    .unwrap();
    assert_ne!(ask(&start(), "Oslo", "a").await, told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_share_what_redis_or_postgres_remembers() {
    let mut redis = Redis::start();
    for with_redis in [false, true] {
        let oracle = Oracle::start();
        let dir = project(&oracle);
        let server = postgres::shared(Version::Debian).unwrap();
        let database = server.create_database().unwrap();
        let start = || {
            let mut command: Command = agentflow(&dir, &["dev", "--json", "--port", "0"]);
            command.env("DATABASE_URL", database.url());
            if with_redis {
                redis.set(&mut command);
            }
            Server::start(command)
        };
        let (first, second) = (start(), start());
        check(&oracle, &first, &second).await;
        let rows = database
            .sql("SELECT count(*) FROM agentflow.cache")
            .unwrap();
        assert_eq!(rows, if with_redis { "0" } else { "2" });
        if with_redis {
            redis.own.kill().unwrap();
            // It is computed again, and nobody fails.
            ask(&first, "Oslo", "c").await;
            assert_eq!(oracle.asked(), 3);
        }
    }
}
