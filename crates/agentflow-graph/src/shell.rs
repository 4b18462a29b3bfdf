//! The async shell.
use std::sync::{Arc, OnceLock, atomic::AtomicU32};
use agentflow_types::{Error, Result, RunId, Str, Value, graph::{RunConfig, StreamEvent, StreamMode}};
use tokio_util::sync::CancellationToken;
use crate::{graph::Graph, invocation::Runtime};
pub(crate) struct Emitter;
impl Emitter { pub(crate) fn wants(&self, _m: StreamMode) -> bool { false } pub(crate) fn ns(&self) -> Vec<Str> { vec![] } pub(crate) async fn send(&self, _e: StreamEvent) {} }
pub(crate) struct RunShared { pub(crate) config: RunConfig, pub(crate) attempt: u32, pub(crate) thread_id: Option<String>, pub(crate) run_id: Option<RunId>, pub(crate) runtime: Runtime, pub(crate) cancel: CancellationToken, pub(crate) emitter: Emitter }
pub(crate) struct TaskShared { pub(crate) run: Arc<RunShared>, pub(crate) step: i64, pub(crate) stop: i64, pub(crate) node: Str, pub(crate) task_id: String, pub(crate) attempt: AtomicU32, ns: OnceLock<String> }
impl TaskShared { pub(crate) fn checkpoint_ns(&self) -> &str { self.ns.get_or_init(String::new) } pub(crate) fn message_event(&self, _d: Value) -> Option<Value> { None } pub(crate) fn interrupt(&self, _q: Value, _s: Option<Value>) -> Result<Value> { Err(Error::bug("x")) } }
pub(crate) async fn run_nested(_g: &Arc<Graph>, _t: &Arc<TaskShared>, _i: Value) -> Result<Value> { Err(Error::bug("x")) }
