//! The rules of the link, with a worker that is a test.

use std::{collections::HashMap, sync::Arc, time::Duration};

use agentflow_storage::{
    checkpoint::{Checkpoint, Fence},
    memory::Memory,
    msgpack,
};
use agentflow_types::{Map, Result, RunId, Scope, Value, value};
use tokio::{
    io::{AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf},
    sync::mpsc,
};

use crate::{
    Services,
    frame::{self, Frame},
    link::Answer,
    peer::{self, Peer, Welcome},
    session::{Priced, Rights, Session},
};

const LIMIT: usize = 1 << 20;

/// The worker's side.
struct Fake {
    reading: ReadHalf<DuplexStream>,
    writing: WriteHalf<DuplexStream>,
    /// Answers that came while others were waited for.
    early: HashMap<u64, Result<Value>>,
    next: u64,
}

impl Fake {
    async fn send(&mut self, frame: Result<Vec<u8>>) {
        self.writing.write_all(&frame.unwrap()).await.unwrap();
    }

    async fn read(&mut self) -> Option<Frame> {
        let mut body = Vec::new();
        let more = frame::read(&mut self.reading, &mut body, LIMIT)
            .await
            .ok()?;
        more.then(|| frame::decode(&body).unwrap())
    }

    async fn ask(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        self.send(frame::request(self.next, method, params, LIMIT))
            .await;
        self.next
    }

    async fn answer(&mut self, wanted: u64) -> Result<Value> {
        loop {
            if let Some(result) = self.early.remove(&wanted) {
                return result;
            }
            if let Some(Frame::Answer { id, result }) = self.read().await {
                self.early.insert(id, result);
            }
        }
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let id = self.ask(method, params).await;
        self.answer(id).await
    }
}

struct Bench {
    fake: Fake,
    peer: Arc<Peer>,
    services: Services,
}

impl Bench {
    /// A worker that said hello and was welcomed.
    async fn open() -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (reading, writing) = tokio::io::split(theirs);
        let mut fake = Fake {
            reading,
            writing,
            early: HashMap::new(),
            next: 0,
        };
        let hello = value!({"protocols": [1, 7], "token": "secret", "name": "fake"});
        let id = fake.ask("hello", hello).await;
        let (reading, writing) = tokio::io::split(ours);
        let mut reading: peer::Reading = Box::new(reading);
        let hello = peer::hello(&mut reading).await.unwrap();
        assert_eq!(hello.token, "secret");
        let welcome = Welcome {
            graphs: vec!["g".into()],
            store: Value::Null,
            ping: Duration::from_secs(5),
            max_frame_bytes: LIMIT,
        };
        let peer = Peer::welcome(hello, Box::new(writing), &welcome).await;
        let backend = Memory::open();
        let services = Services {
            checkpoints: backend.checkpoints,
            store: backend.store,
        };
        tokio::spawn(peer.clone().serve(reading, services.clone()));
        let told = fake.answer(id).await.unwrap();
        assert_eq!(told.get("protocol"), Some(&Value::Int(1)));
        Self {
            fake,
            peer,
            services,
        }
    }

    /// Begins request `id` about thread `t`.
    async fn begin(&mut self, id: u64, rights: Rights) -> (Answer, mpsc::Receiver<Priced>) {
        let (tx, events) = mpsc::channel(2);
        let session = Session::open(
            &self.services,
            &self.peer.link,
            Scope::local(),
            "t".into(),
            rights,
            Some(tx),
        );
        self.peer.open(id, session);
        let asked = self.peer.link.request(id, "run", value!({}));
        let answer = asked.await.unwrap();
        assert!(matches!(
            self.fake.read().await,
            Some(Frame::Request { .. })
        ));
        (answer, events)
    }

    async fn stored(&self) -> Vec<String> {
        let all = self.services.checkpoints.list(&Default::default()).await;
        let ids = all.unwrap().into_iter().map(|tuple| tuple.checkpoint.id);
        ids.collect()
    }
}

fn put(of: u64, thread: &str, id: &str) -> Value {
    let checkpoint = Checkpoint {
        v: 4,
        id: id.into(),
        channel_values: Map::from_iter([("x".into(), Value::Int(1))]),
        ..Checkpoint::default()
    };
    let bytes = msgpack::checkpoint::encode(&checkpoint).unwrap();
    let typed = Value::list(vec![Value::str("msgpack"), Value::Bytes(bytes.into())]);
    let op = Value::object([
        ("op", Value::str("put")),
        ("thread_id", Value::str(thread)),
        ("checkpoint", typed),
        ("metadata", Value::str(r#"{"step": 1}"#)),
        ("new_versions", value!(["x"])),
    ]);
    Value::object([
        ("for", Value::Int(of as i64)),
        ("ops", Value::list(vec![op])),
    ])
}

#[tokio::test]
async fn checkpoints_come_back_as_they_were() {
    let mut bench = Bench::open().await;
    let _open = bench.begin(17, Rights::Write(None)).await;
    for id in ["c1", "c2", "c3"] {
        bench.fake.ask("saver.commit", put(17, "t", id)).await;
    }
    assert_eq!(
        bench.fake.answer(bench.fake.next).await.unwrap(),
        Value::Null
    );
    assert_eq!(bench.stored().await, ["c3", "c2", "c1"]);
    let sent = put(17, "t", "c2");
    let sent = sent.get("ops").unwrap().as_list().unwrap()[0].clone();
    let key = value!({"for": 17, "thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c2"});
    let got = bench.fake.call("saver.get", key).await.unwrap();
    assert_eq!(got.get("checkpoint"), sent.get("checkpoint"));
    let none = value!({"for": 17, "thread_id": "t", "checkpoint_id": "c9"});
    assert!(bench.fake.call("saver.get", none).await.unwrap().is_null());
}

#[tokio::test]
async fn a_request_reaches_its_own_thread_while_it_lasts() {
    let mut bench = Bench::open().await;
    let _open = bench.begin(17, Rights::Write(None)).await;
    let kind = |result: Result<Value>| result.unwrap_err().kind();
    use agentflow_types::ErrorKind as Kind;
    let other = bench
        .fake
        .call("saver.commit", put(17, "other", "c1"))
        .await;
    assert_eq!(kind(other), Kind::Denied);
    let other = value!({"for": 17, "thread_id": "other"});
    assert_eq!(
        kind(bench.fake.call("saver.get", other.clone()).await),
        Kind::Denied
    );
    assert_eq!(
        kind(bench.fake.call("saver.list", other).await),
        Kind::Denied
    );
    let unknown = bench.fake.call("saver.commit", put(99, "t", "c1")).await;
    assert_eq!(kind(unknown), Kind::Conflict);
    bench.peer.close(17);
    let late = bench.fake.call("saver.commit", put(17, "t", "c1")).await;
    assert_eq!(kind(late), Kind::Conflict);
    let _reading = bench.begin(18, Rights::Read).await;
    let reader = bench.fake.call("saver.commit", put(18, "t", "c1")).await;
    assert_eq!(kind(reader), Kind::Denied);
    let items = value!({"for": 18, "ops": [{"op": "get", "namespace": ["a"], "key": "k"}]});
    assert_eq!(
        kind(bench.fake.call("store.batch", items).await),
        Kind::Denied
    );
    assert!(bench.stored().await.is_empty());
}

#[tokio::test]
async fn who_lost_the_lease_writes_nothing() {
    let mut bench = Bench::open().await;
    let fence = Fence {
        run_id: RunId::mint(),
        token: 1,
    };
    let _open = bench.begin(17, Rights::Write(Some(fence))).await;
    for id in ["c1", "c2"] {
        let refused = bench.fake.call("saver.commit", put(17, "t", id)).await;
        let err = refused.unwrap_err();
        assert_eq!(err.kind(), agentflow_types::ErrorKind::Conflict, "{err}");
    }
    assert!(bench.stored().await.is_empty());
}

#[tokio::test]
async fn items_are_applied_in_order() {
    let mut bench = Bench::open().await;
    let _open = bench.begin(17, Rights::Write(None)).await;
    let ops = value!({"for": 17, "ops": [
        {"op": "put", "namespace": ["a", "b"], "key": "k", "value": "{\"n\": 1}"},
        {"op": "put", "namespace": ["a", "c"], "key": "k", "value": "{\"n\": 2}"},
        {"op": "get", "namespace": ["a", "b"], "key": "k"},
        {"op": "search", "namespace_prefix": ["a"], "filter": "{\"n\": {\"$gt\": 1}}"},
        {"op": "put", "namespace": ["a", "b"], "key": "k", "value": null},
        {"op": "get", "namespace": ["a", "b"], "key": "k"},
        {"op": "list_namespaces", "prefix": ["a"], "max_depth": 1},
    ]});
    let answers = bench.fake.call("store.batch", ops).await.unwrap();
    let answers = answers.as_list().unwrap();
    let value = |item: &Value| crate::wire::from_json(item.get("value")).unwrap();
    assert_eq!(value(&answers[2]), value!({"n": 1}));
    assert_eq!(answers[3].as_list().unwrap().len(), 1);
    assert!(answers[4].is_null() && answers[5].is_null());
    assert_eq!(answers[6], value!([["a"]]));
}

#[tokio::test]
async fn who_overdraws_is_cut_off() {
    let mut bench = Bench::open().await;
    let (answer, mut events) = bench.begin(17, Rights::Write(None)).await;
    let event = value!([["sub:1"], "values", "{\"x\": 1}"]);
    let more = |n: usize| {
        let events = Value::list(vec![event.clone(); n]);
        Value::object([("for", Value::Int(17)), ("events", events)])
    };
    bench
        .fake
        .send(frame::notice("run.events", more(1), LIMIT))
        .await;
    let (got, price) = events.recv().await.unwrap();
    assert_eq!(
        (got.ns.len(), got.data, price),
        (1, value!({"x": 1}), 8 + 64)
    );
    bench
        .fake
        .send(frame::notice("run.events", more(3), LIMIT))
        .await;
    bench.peer.link.closed().cancelled().await;
    bench.peer.died("overdrawn".into());
    assert!(answer.await.is_err());
    let err = bench.peer.crash().await;
    assert!(agentflow_runs::host::is_crash(&err) && err.message() == "overdrawn");
}

#[tokio::test]
async fn a_commit_that_cannot_be_read_fails_alone() {
    let mut bench = Bench::open().await;
    let _open = bench.begin(17, Rights::Write(None)).await;
    let broken = value!({"for": 17, "ops": [{"op": "put", "thread_id": "t",
        "checkpoint": ["msgpack", "x"]}]});
    assert!(bench.fake.call("saver.commit", broken).await.is_err());
    assert!(
        bench
            .fake
            .call("no.such", value!({"for": 17}))
            .await
            .is_err()
    );
    bench
        .fake
        .call("saver.commit", put(17, "t", "c1"))
        .await
        .unwrap();
    assert_eq!(bench.stored().await, ["c1"]);
}

#[tokio::test]
async fn graphs_that_do_not_load_say_why() {
    let mut bench = Bench::open().await;
    let ready = value!({"graphs": [{"graph_id": "g", "error": null}, {"graph_id": "b",
        "error": {"kind": "failed", "class": "ImportError", "message": "no pandas",
            "traceback": "Traceback: x"}}], "notes": []});
    bench.fake.send(frame::notice("ready", ready, LIMIT)).await;
    bench.peer.ready().await.unwrap();
    bench.peer.check_graph("g").unwrap();
    let err = bench.peer.check_graph("b").unwrap_err();
    assert_eq!(err.class_name(), "ImportError");
    assert_eq!(err.message(), "no pandas\nTraceback: x");
}
