//! Long-term memory for nodes of graphs, in the name of whoever a run belongs to.
//!
//! Graphs are loaded before the memory service is open, so they hold a place that it is put into
//! when the server starts.

use std::sync::{Arc, OnceLock};

use agentflow_declarative::memory::{Memories, Recall, Recalled, Remember, Remembered, Said};
use agentflow_graph::NodeContext;
use agentflow_memory::{Add, DEFAULT_PROJECT, MAX_QUERY_BYTES, Search, Service, Speech, Which};
use agentflow_runs::patience::Patience;
use agentflow_storage::memories::{Owner, OwnerKind};
use agentflow_types::{Error, Map, Permission, Result, Scope, Value};
use async_trait::async_trait;

/// What is served of memories, once the server has started.
struct Open {
    service: Service,
    /// How long nodes wait for a database that is away, as runs do.
    patience: Patience,
}

/// Long-term memory for nodes. Clones share it.
#[derive(Clone, Default)]
pub struct Recollection(Arc<OnceLock<Open>>);

impl Recollection {
    /// Puts the service into its place; a second one is not taken.
    pub(crate) fn open(&self, service: Service, patience: Patience) {
        // A server starts once.
        let _ = self.0.set(Open { service, patience });
    }

    fn get(&self) -> Result<&Open> {
        self.0.get().ok_or_else(|| {
            Error::invalid("this server keeps no memories: set memory.enabled in agentflow.toml")
        })
    }
}

/// # Errors
/// `Denied` if the run's creator lacks the permission, or was asked before permissions were kept.
fn permitted(scope: &Scope, permission: Permission) -> Result<()> {
    match scope.may(permission) {
        true => Ok(()),
        false => Err(Error::denied(format!(
            "the run may not do this: whoever created it lacks the permission {permission}"
        ))),
    }
}

/// The beginning of a question, as long as one may be.
fn beginning(query: &str) -> &str {
    &query[..query.floor_char_boundary(MAX_QUERY_BYTES)]
}

/// A filter at whose root the owners are, each by its name: `*` is a name like others.
fn filter(owners: &[(&'static str, String)], more: Map) -> Map {
    let owner = |(field, name): &(&'static str, String)| {
        let is = Value::object([("eq", Value::str(name.as_str()))]);
        Value::object([(*field, is)])
    };
    let mut all: Vec<Value> = owners.iter().map(owner).collect();
    if !more.is_empty() {
        all.push(Value::map(more));
    }
    [("AND".into(), Value::list(all))].into()
}

fn search(recall: Recall) -> Search {
    let default = Search::default();
    Search {
        query: beginning(&recall.query).to_owned(),
        which: Which {
            filter: filter(&recall.owners, recall.filters),
            categories: recall.categories,
            // What was replaced is no longer so.
            latest_only: true,
            ..Which::default()
        },
        top_k: recall.top_k.unwrap_or(default.top_k),
        #[expect(clippy::cast_possible_truncation, reason = "a score has few digits")]
        threshold: recall
            .threshold
            .map_or(default.threshold, |least| least as f32),
        rerank: recall.rerank,
        ..default
    }
}

fn add(remember: Remember) -> Add {
    let speech = |said: Said| Speech {
        role: said.role.to_owned(),
        content: said.content,
        name: None,
    };
    let mut owner = Owner::default();
    for (field, name) in remember.owners {
        let kind = OwnerKind::ALL
            .into_iter()
            .find(|kind| kind.field() == field);
        if let Some(kind) = kind {
            owner.set(kind, Some(name));
        }
    }
    Add {
        messages: remember.messages.into_iter().map(speech).collect(),
        owner,
        metadata: remember.metadata,
        infer: remember.infer,
        custom_categories: remember.categories,
        ..Add::default()
    }
}

#[async_trait]
impl Memories for Recollection {
    async fn recall(&self, context: &NodeContext, recall: Recall) -> Result<Vec<Recalled>> {
        let scope = context.scope();
        permitted(scope, Permission::MemoriesRead)?;
        if recall.owners.is_empty() {
            return Err(Error::invalid("nobody is named whose memories are meant"));
        }
        let Open { service, patience } = self.get()?;
        let search = search(recall);
        let find = || service.search(scope, DEFAULT_PROJECT, &search);
        let found = patience.ask(find).await?.into_iter();
        let shown = |one: agentflow_memory::Found| Recalled {
            id: one.memory.memory_id.text(),
            memory: one.memory.text,
            score: one.score.into(),
        };
        Ok(found.map(shown).collect())
    }

    async fn remember(&self, context: &NodeContext, remember: Remember) -> Result<Remembered> {
        let scope = context.scope();
        permitted(scope, Permission::MemoriesWrite)?;
        let Open { service, patience } = self.get()?;
        let task = context.place().unwrap_or_else(|| context.idempotency_key());
        let key = format!("{task}\0{}", remember.part);
        let add = add(remember);
        // Repeated, it is found.
        let store = || service.add_once(scope, DEFAULT_PROJECT, &key, add.clone());
        let job = patience.ask(store).await?.job;
        Ok(Remembered {
            event_id: job.job_id.text(),
            status: job.status.as_str().to_owned(),
            results: job.results,
        })
    }
}

#[cfg(test)]
mod tests {
    use agentflow_graph::{Channel, GraphBuilder, Invocation, Runtime, START};
    use agentflow_memory::{Models, text::Language};
    use agentflow_storage::memory::{Memory, VectorIndex};
    use agentflow_types::{ErrorKind, MemoryScope, Permissions, RunId, SystemClock};

    use super::*;

    /// Memories of alice and bob.
    async fn both() -> Recollection {
        let service = Service::new(
            Memory::open(),
            Arc::new(VectorIndex::default()),
            Models::default(),
            Arc::new(SystemClock),
            Language::English,
        );
        let memory = Recollection::default();
        memory.open(service, Patience(std::time::Duration::ZERO));
        for user in ["alice", "bob"] {
            let text = format!("{user} drinks tea");
            remember(&memory, Scope::local(), user, &text)
                .await
                .unwrap();
        }
        memory
    }

    fn somebody(words: &[&str]) -> Scope {
        let permissions = Permissions::parse(words.iter().copied()).unwrap();
        Scope::authenticated("default", "somebody", permissions, Map::new())
    }

    /// What a node of a run with this scope does.
    async fn run<T, F>(scope: Scope, work: impl Fn(NodeContext) -> F + Send + Sync + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
        let work = Arc::new(work);
        let mut builder = GraphBuilder::new("test");
        builder
            .channel("x", Channel::last_value())
            .node("n", move |_, context| {
                let (work, tx) = (work.clone(), tx.clone());
                async move {
                    let _ = tx.send(work(context).await);
                    Ok(Value::Null.into())
                }
            })
            .edge(START, "n");
        let runtime = Runtime {
            scope,
            ..Runtime::with_saver(Memory::open().checkpoints)
        };
        let invocation = Invocation {
            run_id: Some(RunId::mint()),
            ..Invocation::new(agentflow_types::value!({"x": 1})).thread("t")
        };
        let graph = builder.compile().unwrap();
        graph.run(&runtime, invocation, None).await.unwrap();
        rx.recv().await.unwrap()
    }

    async fn remember(
        memory: &Recollection,
        scope: Scope,
        user: &str,
        text: &str,
    ) -> Result<Remembered> {
        let remember = Remember {
            messages: vec![Said {
                role: "user",
                content: text.to_owned(),
            }],
            owners: vec![("user_id", user.to_owned())],
            ..Remember::default()
        };
        let memory = memory.clone();
        run(scope, move |context| {
            let (memory, remember) = (memory.clone(), remember.clone());
            async move { memory.remember(&context, remember).await }
        })
        .await
    }

    async fn recall(memory: &Recollection, scope: Scope, recall: Recall) -> Result<Vec<String>> {
        let memory = memory.clone();
        run(scope, move |context| {
            let (memory, recall) = (memory.clone(), recall.clone());
            async move {
                let found = memory.recall(&context, recall).await?;
                Ok(found.into_iter().map(|one| one.memory).collect())
            }
        })
        .await
    }

    fn tea_of(user: &str) -> Recall {
        Recall {
            query: "tea".into(),
            owners: vec![("user_id", user.to_owned())],
            ..Recall::default()
        }
    }

    #[tokio::test]
    async fn a_limit_holds_in_graphs() {
        let memory = both().await;
        let limit = MemoryScope::parse(r#"{"user_id": "alice"}"#).unwrap();
        let alice = somebody(&["memories:*"]).within(limit);
        let found = recall(&memory, alice.clone(), tea_of("alice")).await;
        assert_eq!(found.unwrap(), ["alice drinks tea"]);
        assert!(
            recall(&memory, alice.clone(), tea_of("bob"))
                .await
                .unwrap()
                .is_empty()
        );
        let refused = remember(&memory, alice.clone(), "bob", "coffee").await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
        remember(&memory, alice.clone(), "alice", "coffee")
            .await
            .unwrap();
        assert_eq!(
            recall(&memory, Scope::local(), tea_of("bob"))
                .await
                .unwrap()
                .len(),
            1
        );
    }

    #[tokio::test]
    async fn permissions_hold_in_graphs() {
        let memory = both().await;
        let denied = |err: Error, word: &str| {
            assert_eq!(err.kind(), ErrorKind::Denied);
            assert!(err.message().contains(word), "{err}");
        };
        // A queue's scope without rights, and somebody who may all but this.
        for scope in [
            Scope::new("default", "queue"),
            somebody(&["runs:*", "store:*", "memories:write"]),
        ] {
            let refused = recall(&memory, scope, tea_of("bob")).await;
            denied(refused.unwrap_err(), "memories:read");
        }
        for scope in [
            Scope::new("default", "queue"),
            somebody(&["runs:*", "store:*", "memories:read"]),
        ] {
            let refused = remember(&memory, scope, "bob", "coffee").await;
            denied(refused.unwrap_err(), "memories:write");
        }
        // Another tenant has nothing.
        let other = Scope::authenticated("other", "bob", Permissions::ALL, Map::new());
        assert!(
            recall(&memory, other, tea_of("bob"))
                .await
                .unwrap()
                .is_empty()
        );
    }

    #[tokio::test]
    async fn what_is_asked_leads_to_no_other_owner() {
        let memory = both().await;
        let any = agentflow_types::value!({"OR": [{"user_id": "bob"}, {"user_id": "*"}]});
        let filters = any.as_map().cloned().unwrap();
        for user in ["*", "al*", ""] {
            let asked = Recall {
                filters: filters.clone(),
                ..tea_of(user)
            };
            let found = recall(&memory, Scope::local(), asked).await;
            assert!(found.unwrap_or_default().is_empty(), "{user}");
        }
        let asked = Recall {
            filters,
            ..tea_of("alice")
        };
        let found = recall(&memory, Scope::local(), asked).await;
        assert_eq!(found.unwrap(), ["alice drinks tea"]);
        let nobody = Recall {
            owners: vec![],
            ..tea_of("")
        };
        let refused = recall(&memory, Scope::local(), nobody).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[tokio::test]
    async fn of_a_long_question_the_beginning_counts() {
        let memory = both().await;
        let long = Recall {
            query: format!("tea {}", "ä".repeat(MAX_QUERY_BYTES)),
            threshold: Some(0.0),
            ..tea_of("bob")
        };
        let found = recall(&memory, Scope::local(), long).await;
        assert_eq!(found.unwrap(), ["bob drinks tea"]);
    }
}
