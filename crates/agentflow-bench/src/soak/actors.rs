//! What the actors of the soak do, round after round.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::desk::Desk;
use crate::drive::follow;

/// Longest pause between two rounds of an actor, in milliseconds.
const PAUSE_MS: u64 = 400;
/// How often a question is looked for before it counts as missing.
const LOOKS: usize = 600;
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// What an actor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A run whose stream is followed to its end, and read again.
    Stream,
    /// A run that is waited for.
    Wait,
    /// Runs that are left alone and looked at later.
    Background,
    /// A question that is answered.
    Interrupt,
    /// A long run that is stopped.
    Cancel,
    /// A state that is changed from outside.
    State,
    /// Items that are written, found and removed.
    Store,
    /// Searches over everything.
    Search,
    /// A cron that is made, found and removed.
    Cron,
    /// A run without a thread.
    Stateless,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Stream,
        Self::Wait,
        Self::Background,
        Self::Interrupt,
        Self::Cancel,
        Self::State,
        Self::Store,
        Self::Search,
        Self::Cron,
        Self::Stateless,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Wait => "wait",
            Self::Background => "background",
            Self::Interrupt => "interrupt",
            Self::Cancel => "cancel",
            Self::State => "state",
            Self::Store => "store",
            Self::Search => "search",
            Self::Cron => "cron",
            Self::Stateless => "stateless",
        }
    }
}

/// One actor with its choices.
struct Actor {
    desk: Arc<Desk>,
    rng: fastrand::Rng,
}

/// Plays one actor until the desk closes.
pub async fn act(kind: Kind, desk: Arc<Desk>, rng: fastrand::Rng) -> Result<()> {
    let mut actor = Actor { desk, rng };
    while actor.desk.is_open() {
        let round = match kind {
            Kind::Stream => actor.stream().await,
            Kind::Wait => actor.wait().await,
            Kind::Background => actor.background().await,
            Kind::Interrupt => actor.interrupt().await,
            Kind::Cancel => actor.cancel().await,
            Kind::State => actor.state().await,
            Kind::Store => actor.store().await,
            Kind::Search => actor.search().await,
            Kind::Cron => actor.cron().await,
            Kind::Stateless => actor.stateless().await,
        };
        round.with_context(|| kind.name())?;
        actor.desk.round(kind);
        let pause = actor.rng.u64(0..PAUSE_MS);
        sleep(Duration::from_millis(pause)).await;
    }
    Ok(())
}

fn says(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}]})
}

impl Actor {
    async fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        self.desk
            .ask(&mut self.rng, Method::POST, path, Some(body))
            .await
    }

    async fn get(&mut self, path: &str) -> Result<Value> {
        self.desk.ask(&mut self.rng, Method::GET, path, None).await
    }

    async fn thread(&mut self) -> Result<String> {
        let thread = self
            .post("/threads", &json!({"metadata": {"soak": true}}))
            .await?;
        Ok(thread["thread_id"]
            .as_str()
            .context("no thread id")?
            .to_owned())
    }

    /// Removes a thread; one that is gone is as good.
    async fn remove(&mut self, thread: &str) -> Result<()> {
        let path = format!("/threads/{thread}");
        let removed = self
            .desk
            .send(&mut self.rng, Method::DELETE, &path, None)
            .await?;
        ensure!(
            matches!(removed.0, 204 | 404),
            "removing a thread answered {removed:?}"
        );
        Ok(())
    }

    async fn start(&mut self, thread: &str, body: &Value) -> Result<String> {
        let run = self.post(&format!("/threads/{thread}/runs"), body).await?;
        let run = run["run_id"].as_str().context("no run id")?.to_owned();
        self.desk.acknowledged(thread, &run);
        Ok(run)
    }

    async fn ends(&mut self, thread: &str, run: &str, wanted: &str) -> Result<()> {
        let status = self.desk.end(&mut self.rng, thread, run).await?;
        ensure!(
            status == wanted,
            "run {run} ended with {status}, not {wanted}"
        );
        Ok(())
    }

    async fn stream(&mut self) -> Result<()> {
        let thread = self.thread().await?;
        let body = json!({
            "assistant_id": "chat", "input": says("tell 20 20"),
            "stream_mode": ["messages-tuple", "values"], "stream_resumable": true,
        });
        let run = self.start(&thread, &body).await?;
        let url = self
            .rng
            .choice(&self.desk.urls)
            .context("no server")?
            .clone();
        let seen = follow::follow(self.desk.http.clone(), url, thread.clone(), run.clone());
        let seen = seen.await?;
        ensure!(seen.errors.is_empty(), "the stream said {:?}", seen.errors);
        ensure!(
            seen.events == seen.replayed,
            "what came differs from what is stored"
        );
        self.ends(&thread, &run, "success").await?;
        self.remove(&thread).await
    }

    async fn wait(&mut self) -> Result<()> {
        let thread = self.thread().await?;
        let number = self.rng.u32(..).to_string();
        let body = json!({"assistant_id": "echo", "input": says(&number)});
        let values = self
            .post(&format!("/threads/{thread}/runs/wait"), &body)
            .await?;
        let messages = values["messages"].as_array().context("no messages")?;
        let last = messages
            .last()
            .and_then(|message| message["content"].as_str());
        ensure!(
            last == Some(&format!("echo: {number}")),
            "the run said {values}"
        );
        self.remove(&thread).await
    }

    async fn background(&mut self) -> Result<()> {
        let thread = self.thread().await?;
        let body = json!({
            "assistant_id": "slow", "input": {"steps": 5, "delay_ms": 20, "log": []},
            "multitask_strategy": "enqueue",
        });
        let mut runs = Vec::new();
        for _ in 0..3 {
            runs.push(self.start(&thread, &body).await?);
        }
        for run in runs {
            self.ends(&thread, &run, "success").await?;
        }
        self.remove(&thread).await
    }

    async fn interrupt(&mut self) -> Result<()> {
        let thread = self.thread().await?;
        let ask = json!({"assistant_id": "approve", "input": {"question": "?"}});
        let run = self.start(&thread, &ask).await?;
        self.ends(&thread, &run, "success").await?;
        let mut waits = false;
        for _ in 0..LOOKS {
            let found = self.get(&format!("/threads/{thread}")).await?;
            waits = found["status"] == "interrupted";
            if waits {
                break;
            }
            sleep(LOOK).await;
        }
        ensure!(waits, "thread {thread} does not wait for an answer");
        let answer = json!({"assistant_id": "approve", "command": {"resume": "yes"}});
        let run = self.start(&thread, &answer).await?;
        self.ends(&thread, &run, "success").await?;
        let state = self.get(&format!("/threads/{thread}/state")).await?;
        ensure!(
            state["values"]["answer"] == "yes",
            "the answer is lost: {state}"
        );
        ensure!(
            state["values"]["log"] == json!(["ask", "done"]),
            "steps ran again: {state}"
        );
        self.remove(&thread).await
    }

    async fn cancel(&mut self) -> Result<()> {
        let thread = self.thread().await?;
        let long = json!({
            "assistant_id": "slow", "input": {"steps": 100_000, "delay_ms": 20, "log": []},
            "durability": "exit",
        });
        let run = self.start(&thread, &long).await?;
        sleep(Duration::from_millis(self.rng.u64(0..1000))).await;
        let path = format!("/threads/{thread}/runs/{run}/cancel?wait=false&action=interrupt");
        let answer = self
            .desk
            .send(&mut self.rng, Method::POST, &path, None)
            .await?;
        // An answer that was lost had its effect: there is nothing left to stop.
        ensure!(
            matches!(answer.0, 202 | 404),
            "stopping answered {answer:?}"
        );
        self.ends(&thread, &run, "interrupted").await?;
        self.remove(&thread).await
    }

    async fn state(&mut self) -> Result<()> {
        let thread = self.thread().await?;
        let body = json!({"assistant_id": "echo", "input": says("hi")});
        let run = self.start(&thread, &body).await?;
        self.ends(&thread, &run, "success").await?;
        let path = format!("/threads/{thread}/state");
        let number = self.rng.u32(..);
        self.post(&path, &json!({"values": {"n": number}, "as_node": "echo"}))
            .await?;
        let state = self.get(&path).await?;
        ensure!(
            state["values"]["n"] == number,
            "the change is lost: {state}"
        );
        let history = self
            .post(&format!("/threads/{thread}/history"), &json!({"limit": 5}))
            .await?;
        ensure!(
            history.as_array().is_some_and(|all| all.len() >= 3),
            "history: {history}"
        );
        self.remove(&thread).await
    }

    async fn store(&mut self) -> Result<()> {
        let (key, number) = (self.rng.u64(..).to_string(), self.rng.u32(..));
        let item = json!({"namespace": ["soak", "items"], "key": key, "value": {"n": number}});
        let desk = self.desk.clone();
        desk.ask(&mut self.rng, Method::PUT, "/store/items", Some(&item))
            .await?;
        let found = self
            .get(&format!("/store/items?key={key}&namespace=soak.items"))
            .await?;
        ensure!(found["value"]["n"] == number, "the item is lost: {found}");
        let search = json!({"namespace_prefix": ["soak"], "filter": {"n": number}});
        let found = self.post("/store/items/search", &search).await?;
        ensure!(
            found["items"].as_array().is_some_and(|all| !all.is_empty()),
            "not found"
        );
        let gone = json!({"namespace": ["soak", "items"], "key": key});
        desk.ask(&mut self.rng, Method::DELETE, "/store/items", Some(&gone))
            .await?;
        Ok(())
    }

    async fn search(&mut self) -> Result<()> {
        let query = json!({"metadata": {"soak": true}, "limit": 20, "sort_by": "updated_at"});
        let threads = self.post("/threads/search", &query).await?;
        ensure!(threads.is_array(), "threads: {threads}");
        let assistants = self
            .post("/assistants/search", &json!({"graph_id": "echo"}))
            .await?;
        ensure!(!assistants[0].is_null(), "the assistant is lost");
        self.post("/threads/count", &json!({"status": "busy"}))
            .await?;
        self.post("/store/namespaces", &json!({"prefix": ["soak"]}))
            .await?;
        Ok(())
    }

    async fn cron(&mut self) -> Result<()> {
        let cron = json!({
            "assistant_id": "echo", "schedule": "* * * * *", "input": says("tick"),
            "metadata": {"soak": true},
        });
        let made = self.post("/runs/crons", &cron).await?;
        let id = made["cron_id"].as_str().context("no cron id")?.to_owned();
        // Long enough that many of them fire while a server is killed.
        sleep(Duration::from_millis(self.rng.u64(5_000..40_000))).await;
        let path = format!("/runs/crons/{id}");
        let desk = self.desk.clone();
        let removed = desk
            .send(&mut self.rng, Method::DELETE, &path, None)
            .await?;
        ensure!(
            matches!(removed.0, 204 | 404),
            "removing a cron answered {removed:?}"
        );
        Ok(())
    }

    async fn stateless(&mut self) -> Result<()> {
        let number = self.rng.u32(..).to_string();
        let body = json!({"assistant_id": "echo", "input": says(&number)});
        let values = self.post("/runs/wait", &body).await?;
        ensure!(
            values.to_string().contains(&format!("echo: {number}")),
            "it said {values}"
        );
        Ok(())
    }
}
