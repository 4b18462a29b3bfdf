//! What a channel holds while a graph runs.

use agentflow_storage::checkpoint::delta::{self, DeltaHistory};
use agentflow_types::{Error, Result, Str, Typed, Value};

use super::{Delta, Guard, Kind, Release, reduce};

/// The content of one channel.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    /// Nothing.
    Empty,
    /// A value.
    Value(Value),
    /// A value that shows when the graph is about to end; the flag says that it does.
    Held(Value, bool),
    /// Items of a topic.
    Topic(Vec<Value>),
    /// Names seen by a barrier, and whether the graph is about to end.
    Barrier(Vec<Str>, bool),
}

fn two_overwrites() -> Error {
    invalid_update(
        "Can receive only one Overwrite value per super-step.\nFor troubleshooting, visit: https://docs.langchain.com/oss/python/langgraph/errors/INVALID_CONCURRENT_GRAPH_UPDATE".to_owned(),
    )
}

impl Delta {
    /// The value after an overwrite: the new one, or the first one again.
    fn replaced(&self, new: &Value) -> Value {
        if new.is_null() {
            self.default.clone()
        } else {
            new.clone()
        }
    }
}

fn invalid_update(message: String) -> Error {
    Error::invalid(message).class("InvalidUpdateError")
}

impl Slot {
    /// A fresh channel of `kind`.
    pub(crate) fn new(kind: &Kind) -> Self {
        match kind {
            Kind::Reduce {
                default: Some(default),
                ..
            } => Self::Value(default.clone()),
            Kind::Messages => Self::Value(Value::list(Vec::new())),
            Kind::Delta(delta) => Self::Value(delta.default.clone()),
            Kind::Topic { .. } => Self::Topic(Vec::new()),
            Kind::Barrier { .. } => Self::Barrier(Vec::new(), false),
            _ => Self::Empty,
        }
    }

    /// A channel of `kind` as a checkpoint stored it.
    pub(crate) fn restore(kind: &Kind, stored: Option<&Value>) -> Self {
        let Some(stored) = stored else {
            return Self::new(kind);
        };
        let pair = |value: &Value| -> (Value, bool) {
            match value.as_list() {
                Some([inner, Value::Bool(finished)]) => (inner.clone(), *finished),
                _ => (value.clone(), false),
            }
        };
        match kind {
            Kind::Untracked(_) => Self::new(kind),
            Kind::Topic { .. } => Self::Topic(stored.as_list().unwrap_or_default().to_vec()),
            Kind::LastValueAfterFinish => {
                let (value, finished) = pair(stored);
                Self::Held(value, finished)
            }
            Kind::Barrier { release, .. } => {
                let (names, finished) = match release {
                    Release::AtOnce => (stored.clone(), false),
                    Release::AfterFinish => pair(stored),
                };
                let seen = names.as_list().unwrap_or_default().iter();
                Self::Barrier(
                    seen.filter_map(|n| n.as_str().map(Str::from)).collect(),
                    finished,
                )
            }
            _ => Self::Value(delta::read_snapshot(stored).unwrap_or(stored).clone()),
        }
    }

    /// A channel of `kind` from what its checkpoint's ancestors stored.
    ///
    /// # Errors
    /// What the reducer fails with.
    pub(crate) fn rebuild(kind: &Kind, history: DeltaHistory) -> Result<Self> {
        let mut slot = Self::restore(kind, history.seed.as_ref());
        let writes = history.writes.into_iter().map(|write| write.value);
        match (kind, &mut slot) {
            (Kind::Delta(delta), Self::Value(value)) => {
                let mut rest: Vec<Value> = Vec::new();
                for write in writes {
                    match reduce::overwritten(&write) {
                        Some(new) => {
                            rest.clear();
                            *value = delta.replaced(new);
                        }
                        None => rest.push(write),
                    }
                }
                if !rest.is_empty() {
                    *value = (delta.reducer)(std::mem::take(value), rest)?;
                }
            }
            // One by one, because they span supersteps: two overwrites are no conflict.
            _ => {
                for write in writes {
                    slot.update(kind, "", &mut vec![write])?;
                }
            }
        }
        Ok(slot)
    }

    /// What a checkpoint stores; `None` when there is nothing to store.
    pub(crate) fn checkpoint(&self, kind: &Kind) -> Option<Value> {
        if !kind.is_tracked() || kind.is_delta() {
            return None;
        }
        match self {
            Self::Empty => None,
            Self::Value(value) => Some(value.clone()),
            Self::Held(value, finished) => {
                Some(Value::list(vec![value.clone(), Value::Bool(*finished)]))
            }
            Self::Topic(items) => Some(Value::list(items.clone())),
            Self::Barrier(seen, finished) => {
                let set = python_set(seen);
                Some(match kind {
                    Kind::Barrier {
                        release: Release::AfterFinish,
                        ..
                    } => Value::list(vec![set, Value::Bool(*finished)]),
                    _ => set,
                })
            }
        }
    }

    /// Whether the channel shows a value.
    pub(crate) fn is_available(&self, kind: &Kind) -> bool {
        match self {
            Self::Empty => false,
            Self::Value(_) => true,
            Self::Held(_, finished) => *finished,
            Self::Topic(items) => !items.is_empty(),
            Self::Barrier(seen, finished) => match kind {
                Kind::Barrier { names, release } => {
                    seen.len() == names.len() && (*finished || *release == Release::AtOnce)
                }
                _ => false,
            },
        }
    }

    /// The value that readers see; `None` when the channel is empty.
    pub(crate) fn get(&self, kind: &Kind) -> Option<Value> {
        match self {
            Self::Value(value) => Some(value.clone()),
            Self::Held(value, true) => Some(value.clone()),
            Self::Topic(items) if !items.is_empty() => Some(Value::list(items.clone())),
            Self::Barrier(..) if self.is_available(kind) => Some(Value::Null),
            _ => None,
        }
    }

    /// Combines the writes of one superstep; tells whether the channel changed.
    ///
    /// # Errors
    /// `Invalid` (`InvalidUpdateError`) if the channel does not take these writes together.
    pub(crate) fn update(
        &mut self,
        kind: &Kind,
        name: &str,
        writes: &mut Vec<Value>,
    ) -> Result<bool> {
        match kind {
            Kind::LastValue => self.update_last(name, writes),
            Kind::LastValueAfterFinish => Ok(self.update_held(writes)),
            Kind::AnyValue => Ok(self.update_any(writes)),
            Kind::Ephemeral(guard) => self.update_ephemeral(name, *guard, writes),
            Kind::Untracked(guard) => self.update_untracked(name, *guard, writes),
            Kind::Topic { accumulate } => Ok(self.update_topic(*accumulate, writes)),
            Kind::Reduce { reducer, .. } => self.reduce(writes, |a, b| reducer(a, b)),
            Kind::Messages => self.reduce(writes, |a, b| reduce::add_messages(a, &b)),
            Kind::Delta(delta) => self.update_delta(delta, writes),
            Kind::Barrier { names, .. } => self.update_barrier(name, names, writes),
        }
    }

    fn update_last(&mut self, name: &str, writes: &mut Vec<Value>) -> Result<bool> {
        let Some(last) = writes.pop() else {
            return Ok(false);
        };
        if !writes.is_empty() {
            return Err(invalid_update(format!(
                "At key '{name}': Can receive only one value per step. Use an Annotated key to handle multiple values.\nFor troubleshooting, visit: https://docs.langchain.com/oss/python/langgraph/errors/INVALID_CONCURRENT_GRAPH_UPDATE"
            )));
        }
        *self = Self::Value(last);
        Ok(true)
    }

    fn update_held(&mut self, writes: &mut Vec<Value>) -> bool {
        let Some(last) = writes.pop() else {
            return false;
        };
        *self = Self::Held(last, false);
        true
    }

    fn update_any(&mut self, writes: &mut Vec<Value>) -> bool {
        match writes.pop() {
            Some(last) => {
                *self = Self::Value(last);
                true
            }
            None => !matches!(std::mem::replace(self, Self::Empty), Self::Empty),
        }
    }

    fn update_ephemeral(
        &mut self,
        name: &str,
        guard: Guard,
        writes: &mut Vec<Value>,
    ) -> Result<bool> {
        if writes.len() > 1 && guard == Guard::One {
            return Err(invalid_update(format!(
                "At key '{name}': EphemeralValue(guard=True) can receive only one value per step. Use guard=False if you want to store any one of multiple values."
            )));
        }
        Ok(self.update_any(writes))
    }

    fn update_untracked(
        &mut self,
        name: &str,
        guard: Guard,
        writes: &mut Vec<Value>,
    ) -> Result<bool> {
        if writes.len() > 1 && guard == Guard::One {
            return Err(invalid_update(format!(
                "At key '{name}': UntrackedValue(guard=True) can receive only one value per step. Use guard=False if you want to store any one of multiple values."
            )));
        }
        let Some(last) = writes.pop() else {
            return Ok(false);
        };
        *self = Self::Value(last);
        Ok(true)
    }

    fn update_topic(&mut self, accumulate: bool, writes: &mut Vec<Value>) -> bool {
        let Self::Topic(items) = self else {
            return false;
        };
        let mut changed = false;
        if !accumulate && !items.is_empty() {
            items.clear();
            changed = true;
        }
        for write in writes.drain(..) {
            match write {
                Value::List(list) => {
                    changed |= !list.is_empty();
                    items.extend(list.iter().cloned());
                }
                one => {
                    changed = true;
                    items.push(one);
                }
            }
        }
        changed
    }

    fn reduce(
        &mut self,
        writes: &mut Vec<Value>,
        reducer: impl Fn(Value, Value) -> Result<Value>,
    ) -> Result<bool> {
        if writes.is_empty() {
            return Ok(false);
        }
        let mut current = match std::mem::replace(self, Self::Empty) {
            Self::Value(value) => Some(value),
            _ => None,
        };
        let mut overwritten = false;
        for write in writes.drain(..) {
            if let Some(value) = reduce::overwritten(&write) {
                if overwritten {
                    return Err(two_overwrites());
                }
                overwritten = true;
                current = Some(value.clone());
            } else if !overwritten {
                current = Some(match current {
                    Some(value) => reducer(value, write)?,
                    None => write,
                });
            }
        }
        *self = current.map_or(Self::Empty, Self::Value);
        Ok(true)
    }

    fn update_delta(&mut self, delta: &Delta, writes: &mut Vec<Value>) -> Result<bool> {
        if writes.is_empty() {
            return Ok(false);
        }
        let mut overwrites = writes.iter().filter_map(reduce::overwritten);
        if let Some(new) = overwrites.next() {
            if overwrites.next().is_some() {
                return Err(two_overwrites());
            }
            *self = Self::Value(delta.replaced(new));
            return Ok(true);
        }
        let value = match std::mem::replace(self, Self::Empty) {
            Self::Value(value) => value,
            _ => delta.default.clone(),
        };
        *self = Self::Value((delta.reducer)(value, std::mem::take(writes))?);
        Ok(true)
    }

    fn update_barrier(
        &mut self,
        name: &str,
        names: &[Str],
        writes: &mut Vec<Value>,
    ) -> Result<bool> {
        let Self::Barrier(seen, _) = self else {
            return Ok(false);
        };
        let mut changed = false;
        for write in writes.drain(..) {
            let known = write
                .as_str()
                .and_then(|w| names.iter().find(|n| &***n == w));
            let Some(known) = known else {
                return Err(invalid_update(format!(
                    "At key '{name}': Value {write} not in {}",
                    Value::list(names.iter().map(|n| Value::Str(n.clone())).collect())
                )));
            };
            if !seen.contains(known) {
                seen.push(known.clone());
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Told that a node triggered by this channel ran; tells whether the channel changed.
    pub(crate) fn consume(&mut self, kind: &Kind) -> bool {
        match self {
            Self::Held(_, true) => {
                *self = Self::Empty;
                true
            }
            Self::Barrier(..) if self.is_available(kind) => {
                *self = Self::Barrier(Vec::new(), false);
                true
            }
            _ => false,
        }
    }

    /// Told that the graph is about to end; tells whether the channel changed.
    pub(crate) fn finish(&mut self, kind: &Kind) -> bool {
        match (self, kind) {
            (Self::Held(_, finished @ false), _) => {
                *finished = true;
                true
            }
            (
                Self::Barrier(seen, finished @ false),
                Kind::Barrier {
                    names,
                    release: Release::AfterFinish,
                },
            ) if seen.len() == names.len() => {
                *finished = true;
                true
            }
            _ => false,
        }
    }
}

/// A Python `set` of text, as LangGraph's serializer stores it.
fn python_set(names: &[Str]) -> Value {
    Value::Typed(std::sync::Arc::new(Typed {
        code: 0,
        module: "builtins".into(),
        name: "set".into(),
        value: Value::list(names.iter().map(|n| Value::Str(n.clone())).collect()),
        method: None,
    }))
}
