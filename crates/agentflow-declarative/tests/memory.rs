//! The kinds `recall` and `remember`, over a memory that notes what it is asked.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::sync::{Arc, Mutex};

use agentflow_declarative::{
    Environment, load_text,
    memory::{Memories, Recall, Recalled, Remember, Remembered, Said},
};
use agentflow_graph::{Invocation, NodeContext, Runtime};
use agentflow_storage::memory::Memory;
use agentflow_types::{Error, ErrorKind, Result, RunId, Value, graph::RunOutcome, value};
use async_trait::async_trait;
use support::loaded;

/// Two memories, and all that was asked and told.
#[derive(Default)]
struct Notes {
    recalls: Mutex<Vec<Recall>>,
    remembers: Mutex<Vec<(String, Remember)>>,
    /// How often an add fails after it was noted.
    failures: Mutex<u32>,
}

#[async_trait]
impl Memories for Notes {
    async fn recall(&self, _: &NodeContext, recall: Recall) -> Result<Vec<Recalled>> {
        self.recalls.lock().unwrap().push(recall);
        let found = |id: &str, memory: &str, score| Recalled {
            id: id.into(),
            memory: memory.into(),
            score,
        };
        Ok(vec![
            found("1", "Likes green tea", 0.9),
            found("2", "Lives in\n\n- Rome", 0.5),
        ])
    }

    async fn remember(&self, context: &NodeContext, remember: Remember) -> Result<Remembered> {
        let place = context.place().unwrap();
        self.remembers.lock().unwrap().push((place, remember));
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(Error::busy("it fails after the add"));
        }
        Ok(Remembered {
            event_id: "e".into(),
            status: "PENDING".into(),
            results: vec![value!({"id": "1"})],
        })
    }
}

impl Notes {
    fn last_recall(&self) -> Recall {
        self.recalls.lock().unwrap().pop().unwrap()
    }

    fn last_remember(&self) -> Remember {
        self.remembers.lock().unwrap().pop().unwrap().1
    }
}

fn environment() -> (Arc<Notes>, Environment) {
    let notes = Arc::<Notes>::default();
    let environment = Environment {
        memory: Some(notes.clone()),
        ..Environment::default()
    };
    (notes, environment)
}

/// A run of a file on a thread of its own, with this in `configurable`.
async fn run(text: &str, environment: &Environment, input: Value) -> Result<RunOutcome> {
    let runtime = Runtime::with_saver(Memory::open().checkpoints);
    let mut invocation = Invocation::new(input).thread("t");
    invocation.run_id = Some(RunId::mint());
    let config = value!({"user_id": "ada", "nobody": ""});
    invocation
        .config
        .configurable
        .extend(config.as_map().cloned().unwrap());
    loaded(text, environment)
        .graph
        .run(&runtime, invocation, None)
        .await
}

fn said(role: &'static str, content: &str) -> Said {
    Said {
        role,
        content: content.into(),
    }
}

/// A file with one node `n`.
fn file(node: &str) -> String {
    format!(
        "version: 1\nstate: {{messages: messages, who: string, known: list, facts: string, \
         added: object, words: list}}\nnodes:\n  n: {{{node}}}\nedges: [START -> n -> END]\n"
    )
}

fn talk() -> Value {
    value!({"who": "bob", "messages": [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi!"},
        {"role": "user", "content": "What do I drink?"},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "args": {}, "id": "c"}]},
        {"role": "tool", "content": "tea", "tool_call_id": "c"},
        {"role": "assistant", "content": "Tea."},
    ]})
}

#[tokio::test]
async fn recall_asks_the_last_question_and_writes_what_is_known() {
    let (notes, environment) = environment();
    let text = file("kind: recall, user_id: '{{ config.user_id }}', output: known, text: facts");
    let out = run(&text, &environment, talk()).await.unwrap().values;
    let want = Recall {
        query: "What do I drink?".into(),
        owners: vec![("user_id", "ada".into())],
        ..Recall::default()
    };
    assert_eq!(notes.last_recall(), want);
    let known = value!([
        {"id": "1", "memory": "Likes green tea", "score": 0.9},
        {"id": "2", "memory": "Lives in\n\n- Rome", "score": 0.5},
    ]);
    assert_eq!(out.get("known"), Some(&known));
    // A memory with line breaks makes no second one.
    let facts = value!("- Likes green tea\n- Lives in - Rome");
    assert_eq!(out.get("facts"), Some(&facts));
}

#[tokio::test]
async fn recall_takes_filters_and_limits() {
    let (notes, environment) = environment();
    let text = file(
        "kind: recall, query: 'tea of {{ who }}', agent_id: '=who', run_id: r, filters: \
         {metadata: {team: '{{ who }}', n: '=1 + 1'}}, categories: [food], top_k: 3, \
         threshold: 0.5, rerank: true, output: known",
    );
    run(&text, &environment, talk()).await.unwrap();
    let filters = value!({"metadata": {"team": "bob", "n": 2}});
    let want = Recall {
        query: "tea of bob".into(),
        owners: vec![("agent_id", "bob".into()), ("run_id", "r".into())],
        filters: filters.as_map().cloned().unwrap(),
        categories: vec!["food".into()],
        top_k: Some(3),
        threshold: Some(0.5),
        rerank: true,
    };
    assert_eq!(notes.last_recall(), want);
}

#[tokio::test]
async fn who_asks_nothing_is_told_nothing() {
    let (notes, environment) = environment();
    let text = file("kind: recall, user_id: ada, output: known, text: facts");
    let input = value!({"messages": [{"role": "assistant", "content": "Hi!"}]});
    let out = run(&text, &environment, input).await.unwrap().values;
    assert!(notes.recalls.lock().unwrap().is_empty());
    assert_eq!(out.get("known"), Some(&value!([])));
    assert_eq!(out.get("facts"), Some(&value!("")));
}

#[tokio::test]
async fn an_owner_without_a_name_is_nobody_not_everybody() {
    let (notes, environment) = environment();
    for owner in [
        "'{{ config.nobody }}'",
        "'=config.nobody'",
        "'=who'",
        "'{{ who or \" \" }}'",
    ] {
        for kind in ["recall, output: known", "remember, text: x"] {
            let text = file(&format!("kind: {kind}, agent_id: a, user_id: {owner}"));
            let failed = run(&text, &environment, value!({"messages": "Hello"})).await;
            let error = failed.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{owner}: {error}");
            assert!(error.message().contains("names nobody"), "{error}");
        }
    }
    assert!(notes.recalls.lock().unwrap().is_empty());
    assert!(notes.remembers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn remember_takes_what_was_said_since_the_last_question() {
    let (notes, environment) = environment();
    let text = file("kind: remember, user_id: '{{ config.user_id }}', output: added");
    let out = run(&text, &environment, talk()).await.unwrap().values;
    let want = Remember {
        messages: vec![said("user", "What do I drink?"), said("assistant", "Tea.")],
        owners: vec![("user_id", "ada".into())],
        infer: true,
        ..Remember::default()
    };
    assert_eq!(notes.last_remember(), want);
    let added = value!({"event_id": "e", "status": "PENDING", "results": [{"id": "1"}]});
    assert_eq!(out.get("added"), Some(&added));

    let text = file("kind: remember, user_id: ada, last: 100");
    run(&text, &environment, talk()).await.unwrap();
    assert_eq!(notes.last_remember().messages.len(), 4);
}

#[tokio::test]
async fn remember_takes_a_text_with_what_belongs_to_it() {
    let (notes, environment) = environment();
    let text = file(
        "kind: remember, user_id: ada, app_id: a, text: '{{ who }} likes tea', infer: false, \
         metadata: {by: '{{ who }}'}, categories: {food: What one eats and drinks}",
    );
    run(&text, &environment, talk()).await.unwrap();
    let metadata = value!({"by": "bob"});
    let want = Remember {
        messages: vec![said("user", "bob likes tea")],
        owners: vec![("user_id", "ada".into()), ("app_id", "a".into())],
        infer: false,
        metadata: metadata.as_map().cloned().unwrap(),
        categories: vec![("food".into(), "What one eats and drinks".into())],
        part: String::new(),
    };
    assert_eq!(notes.last_remember(), want);
    // Nothing was said: nothing is added.
    let text = file("kind: remember, user_id: ada, text: '{{ facts or \"\" }}', output: added");
    let out = run(&text, &environment, talk()).await.unwrap().values;
    assert_eq!(out.get("added"), Some(&Value::Null));
    assert!(notes.remembers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_repeated_node_is_at_the_same_place_and_others_are_elsewhere() {
    let (notes, environment) = environment();
    *notes.failures.lock().unwrap() = 2;
    let retried = "kind: remember, user_id: ada, text: x, retry: {attempts: 3, initial_seconds: 0}";
    run(&file(retried), &environment, talk()).await.unwrap();
    let places = || {
        let noted = std::mem::take(&mut *notes.remembers.lock().unwrap());
        noted
            .into_iter()
            .map(|(place, _)| place)
            .collect::<Vec<_>>()
    };
    let first = places();
    assert_eq!(first.len(), 3);
    assert!(first.iter().all(|place| *place == first[0]), "{first:?}");

    let text = "
version: 1
state: {words: list}
nodes:
  each: {kind: map, over: words, node: note}
  note: {kind: remember, user_id: ada, text: '{{ item }}'}
  again: {kind: remember, user_id: ada, text: a}
  inner:
    kind: subgraph
    graph:
      version: 1
      state: {words: list}
      nodes: {again: {kind: remember, user_id: ada, text: a}}
      edges: [START -> again -> END]
edges: [START -> each, note -> again -> inner -> END]
";
    run(text, &environment, value!({"words": ["a", "a", "b"]}))
        .await
        .unwrap();
    let mut all = places();
    assert_eq!(all.len(), 5);
    all.push(first[0].clone());
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6, "{all:?}");
}

#[test]
fn mistakes_are_found_where_they_are() {
    let (_, environment) = environment();
    let text = "\
version: 1
state: {messages: messages, known: list, facts: string, n: integer}
nodes:
  a: {kind: recall, output: known}
  b: {kind: recall, user_id: '', output: known}
  c: {kind: recall, user_id: ada, output: n, text: known}
  d: {kind: recall, user_id: ada, query: x, messages: messages, output: known}
  e: {kind: remember, user_id: ada, text: x, last: 2}
  f: {kind: remember, user_id: ada, output: facts}
  g: {kind: remember, user_id: '{{ nobody }}', metadata: {x: '=('}}
  h: {kind: recall, user_id: ada, messages: facts, output: nowhere}
  i: {kind: recall, user_id: ada, output: known, cache: 60}
edges: [START -> a -> b -> c -> d -> e -> f -> g -> h -> i]
";
    let Err(found) = load_text("test.yaml", text, &environment) else {
        panic!("mistakes were not found");
    };
    let found: Vec<String> = found
        .iter()
        .map(|one| {
            let (line, column) = one.line_column();
            format!("{line}:{column}: {} [{}]", one.message, one.code)
        })
        .collect();
    let want = [
        "4:3: nobody is named whose memories are meant [AF0105]",
        "5:30: `user_id` is empty [AF0106]",
        "6:43: `output` needs a field that holds a value of type list [AF0106]",
        "6:52: `text` needs a field that holds a value of type string [AF0106]",
        "7:45: `query` is used instead of `messages` [AF0128]",
        "8:46: `last` counts messages, and `text` is remembered instead of them [AF0128]",
        "9:45: `output` needs a field that holds a value of type object [AF0106]",
        "10:36: unknown variable `nobody` [AF0120]",
        "10:65: the expression is not valid CEL: it ends too early [AF0117]",
        "11:45: the field `facts` is not of type `messages` [AF0123]",
        "11:60: the state has no field `nowhere` [AF0115]",
        "12:50: memories are somebody's and change: a cache would give them to others [AF0106]",
    ];
    assert_eq!(found, want);
}
