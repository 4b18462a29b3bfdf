//! Deterministic ids, bit for bit as LangGraph derives them.

use std::{
    fmt::{self, Write as _},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use agentflow_types::{Clock, Error, Result, Rng, Str};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use super::task::HANDLER;

/// Path word of tasks that an edge triggered.
pub(crate) const PULL: &str = "__pregel_pull";
/// Path word of tasks that a `Send` made.
pub(crate) const PUSH: &str = "__pregel_push";

/// 100 ns ticks between the Gregorian reform and the Unix epoch.
const GREGORIAN_OFFSET: u64 = 0x01B2_1DD2_1381_4000;
/// Bits of the clock sequence.
const CLOCK_SEQ_MASK: u128 = 0x3FFF;
/// Bits of the node part.
const NODE_MASK: u128 = 0xFFFF_FFFF_FFFF;

/// Makes checkpoint ids that rise.
///
/// Result: UUID version 6, RFC 9562. The clock sequence is the superstep, as LangGraph has it, so
/// that ids tell steps apart and sort by time.
#[derive(Debug, Default)]
pub struct CheckpointIds(AtomicU64);

static PROCESS: LazyLock<Arc<CheckpointIds>> = LazyLock::new(|| Arc::new(CheckpointIds::default()));

impl CheckpointIds {
    /// The source that all default runtimes of this process share.
    #[must_use]
    pub fn process() -> Arc<Self> {
        PROCESS.clone()
    }

    /// A new id, greater than every earlier one of this source.
    pub(crate) fn next(&self, clock: &dyn Clock, rng: &dyn Rng, step: i64) -> u128 {
        let micros = u64::try_from(clock.now().micros()).unwrap_or(0);
        let now = micros.wrapping_mul(10).wrapping_add(GREGORIAN_OFFSET);
        let bump = |last: u64| Some(now.max(last + 1));
        let last = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, bump)
            .expect("the closure always gives a value");
        let ticks = u128::from(now.max(last + 1));
        let seq = (step as u128) & CLOCK_SEQ_MASK;
        ((ticks >> 12) << 80)
            | (6 << 76)
            | ((ticks & 0xFFF) << 64)
            | (0b10 << 62)
            | (seq << 48)
            | (u128::from(rng.next_u64()) & NODE_MASK)
    }
}

/// Text of a checkpoint id.
pub(crate) fn checkpoint_text(id: u128) -> String {
    Uuid::from_u128(id).to_string()
}

/// The id that a text stands for.
///
/// # Errors
/// `Invalid` if it is not 32 hexadecimal digits.
pub(crate) fn checkpoint_id(text: &str) -> Result<u128> {
    Uuid::parse_str(text)
        .map(|id| id.as_u128())
        .map_err(|_| Error::invalid("checkpoint id is not a uuid").with("id", text))
}

/// A task's id; text as 8-4-4-4-12 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TaskId(pub(crate) u128);

impl TaskId {
    /// Marks writes that belong to no task.
    pub(crate) const NULL: Self = Self(0);

    /// The id of a text; `None` if it is not a UUID.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Uuid::parse_str(text).ok().map(|id| Self(id.as_u128()))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.0).fmt(f)
    }
}

/// Derives task ids of one superstep; keeps its buffer.
pub(crate) struct TaskIds {
    buffer: Vec<u8>,
    prefix: usize,
    step: String,
}

impl TaskIds {
    /// For the tasks that follow `checkpoint` in the graph with namespace `ns`.
    pub(crate) fn new(checkpoint: u128, ns: &str, step: i64) -> Self {
        let mut buffer = Vec::with_capacity(128);
        buffer.extend_from_slice(&checkpoint.to_be_bytes());
        if !ns.is_empty() {
            buffer.extend_from_slice(ns.as_bytes());
            buffer.push(b'|');
        }
        let prefix = buffer.len();
        Self {
            buffer,
            prefix,
            step: step.to_string(),
        }
    }

    fn start(&mut self, node: &str, kind: &str) {
        self.buffer.truncate(self.prefix);
        for part in [node, &self.step, node, kind] {
            self.buffer.extend_from_slice(part.as_bytes());
        }
    }

    /// Id of the task of a triggered node. `triggers`: names, sorted.
    pub(crate) fn pull(&mut self, node: &str, triggers: &[Str]) -> TaskId {
        self.start(node, PULL);
        for trigger in triggers {
            self.buffer.extend_from_slice(trigger.as_bytes());
        }
        TaskId(xxh3_128(&self.buffer))
    }

    /// Id of the task that a handler runs in; the namespace is that of the failed task.
    pub(crate) fn handler(&mut self, node: &str, failed: TaskId) -> TaskId {
        self.start(node, PUSH);
        self.buffer.extend_from_slice(HANDLER.as_bytes());
        self.buffer.extend_from_slice(failed.to_string().as_bytes());
        TaskId(xxh3_128(&self.buffer))
    }

    /// Id of the `index`-th functional task that a task calls; the namespace is the caller's, and
    /// `path` its path as text.
    pub(crate) fn call(&mut self, name: &str, path: &str, index: usize) -> TaskId {
        self.start(name, PUSH);
        self.buffer.extend_from_slice(path.as_bytes());
        self.buffer.extend_from_slice(index.to_string().as_bytes());
        TaskId(xxh3_128(&self.buffer))
    }

    /// Id of the task of the `index`-th `Send`.
    pub(crate) fn push(&mut self, node: &str, index: usize) -> TaskId {
        use std::io::Write as _;
        self.start(node, PUSH);
        write!(self.buffer, "{index}").expect("writing to memory does not fail");
        TaskId(xxh3_128(&self.buffer))
    }
}

/// Namespace of a task: that of its graph, its node, its id.
pub(crate) fn task_ns(graph_ns: &str, node: &str, id: TaskId) -> String {
    let mut ns = String::with_capacity(graph_ns.len() + node.len() + 38);
    if !graph_ns.is_empty() {
        ns.push_str(graph_ns);
        ns.push('|');
    }
    let _ = write!(ns, "{node}:{id}");
    ns
}

/// Id of the question that a task asks after it has had `answered` answers.
pub(crate) fn interrupt_id(task_ns: &str, answered: usize) -> String {
    let hash = if answered == 0 {
        xxh3_128(task_ns.as_bytes())
    } else {
        xxh3_128(format!("{task_ns}|{answered}").as_bytes())
    };
    format!("{hash:032x}")
}

/// Whether a text can be an interrupt id.
pub(crate) fn is_interrupt_id(text: &str) -> bool {
    text.len() == 32
        && text
            .bytes()
            .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

/// Namespace of a graph that remembers over runs: without task ids, but with the numbers of
/// repeated calls. `a:1|b:2|1` becomes `a|b|1`.
pub(crate) fn lasting_ns(ns: &str) -> String {
    let parts = ns
        .split('|')
        .map(|part| part.split(':').next().unwrap_or(part));
    parts.collect::<Vec<_>>().join("|")
}

/// Removes the task ids from a namespace: `a:1|b:2` becomes `a|b`, numbers of repeated calls
/// disappear.
pub(crate) fn without_task_ids(ns: &str) -> String {
    let parts = ns.split('|').filter(|part| part.parse::<u64>().is_err());
    parts
        .map(|part| part.split(':').next().unwrap_or(part))
        .collect::<Vec<_>>()
        .join("|")
}

#[cfg(test)]
mod tests {
    use agentflow_types::{ManualClock, SeededRng, Timestamp};

    use super::*;

    #[test]
    fn task_and_interrupt_ids_are_langgraphs() {
        let checkpoint = checkpoint_id("1f1e7130-88a5-6b85-8001-0cdec6117e46").unwrap();
        let id = TaskIds::new(checkpoint, "", 2).pull("b", &["branch:to:b".into()]);
        assert_eq!(id.to_string(), "6eaad2ce-a71c-8fbd-2d56-73cb8355c578");
        let ns = task_ns("", "b", id);
        assert_eq!(interrupt_id(&ns, 0), "4177679c2049cd88304f06f44383c4ed");

        let checkpoint = checkpoint_id("1f1e7130-8951-6e3d-8002-ae6756a12e98").unwrap();
        let id = TaskIds::new(checkpoint, "", 3).push("c", 0);
        assert_eq!(id.to_string(), "25b7f7cb-e417-cde9-7b78-d659cf305ed2");
    }

    #[test]
    fn checkpoint_ids_rise_and_show_the_step() {
        let clock = ManualClock::at(Timestamp(1_795_421_251_634_000));
        let rng = SeededRng::new(7);
        let ids = CheckpointIds::default();
        let texts: Vec<String> = (-1..3)
            .map(|step| checkpoint_text(ids.next(&clock, &rng, step)))
            .collect();
        let mut sorted = texts.clone();
        sorted.sort();
        assert_eq!(texts, sorted);
        let seqs: Vec<&str> = texts.iter().map(|t| &t[19..23]).collect();
        assert_eq!(seqs, ["bfff", "8000", "8001", "8002"]);
        assert!(texts.iter().all(|t| t.as_bytes()[14] == b'6'));
    }

    #[test]
    fn namespaces_lose_their_task_ids() {
        assert_eq!(without_task_ids("a:1-2|b:3|1"), "a|b");
        assert_eq!(lasting_ns("a:1-2|b:3|1"), "a|b|1");
    }
}
