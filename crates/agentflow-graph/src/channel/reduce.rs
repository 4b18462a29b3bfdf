//! The built-in rules for combining writes.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use agentflow_types::{Error, Result, Rng, Value, message};

/// Key that marks an overwrite in JSON.
const OVERWRITE: &str = "__overwrite__";
/// Up to this many new messages, ids are searched for one by one instead of through a map.
const LINEAR_SEARCH: usize = 8;

/// A write that replaces the value of a reducing channel instead of being combined with it.
#[must_use]
pub fn overwrite(value: Value) -> Value {
    Value::object([(OVERWRITE, value)])
}

/// The replacement, if the write is an overwrite in any of the three forms that exist.
pub(crate) fn overwritten(write: &Value) -> Option<&Value> {
    if let Value::Typed(typed) = write {
        let is = &*typed.name == "Overwrite" && typed.module.starts_with("langgraph");
        return if is { typed.value.get("value") } else { None };
    }
    let Value::Map(map) = write else { return None };
    if map.len() == 1
        && let Some(value) = map.get(OVERWRITE)
    {
        return Some(value);
    }
    if map.get("type").and_then(Value::as_str) == Some(OVERWRITE) {
        map.get("value")
    } else {
        None
    }
}

fn type_error(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::invalid(message).class("TypeError")
}

fn python_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::UInt(_) => "int",
        Value::Float(_) => "float",
        Value::Str(_) => "str",
        Value::Bytes(_) => "bytes",
        Value::List(_) => "list",
        Value::Map(_) | Value::Pairs(_) => "dict",
        Value::Typed(_) | Value::Ext(..) => "object",
    }
}

fn unsupported(sign: &str, left: &Value, right: &Value) -> Error {
    type_error(format!(
        "unsupported operand type(s) for {sign}: '{}' and '{}'",
        python_type(left),
        python_type(right)
    ))
}

/// The items to change, in a copy with room for `more` if somebody else reads them.
fn own(list: &mut Arc<Vec<Value>>, more: usize) -> &mut Vec<Value> {
    if Arc::get_mut(list).is_none() {
        let mut copy = Vec::with_capacity(list.len() + more);
        copy.extend_from_slice(list);
        *list = Arc::new(copy);
    }
    Arc::make_mut(list)
}

/// List and list give their concatenation.
pub(super) fn append(left: Value, right: Value) -> Result<Value> {
    match (left, right) {
        (Value::List(mut left), Value::List(right)) => {
            own(&mut left, right.len()).extend(right.iter().cloned());
            Ok(Value::List(left))
        }
        (_, right) => Err(type_error(format!(
            "can only concatenate list (not \"{}\") to list",
            python_type(&right)
        ))),
    }
}

/// Number and number give their sum.
pub(super) fn sum(left: Value, right: Value) -> Result<Value> {
    match (&left, &right) {
        (Value::Int(a), Value::Int(b)) => a.checked_add(*b).map(Value::Int).ok_or_else(|| {
            Error::invalid("sum leaves the range of integers").class("OverflowError")
        }),
        _ => match (left.as_f64(), right.as_f64()) {
            (Some(a), Some(b)) => Ok(Value::Float(a + b)),
            _ => Err(unsupported("+", &left, &right)),
        },
    }
}

/// Text and text give their concatenation.
pub(super) fn concat(left: Value, right: Value) -> Result<Value> {
    match (left.as_str(), right.as_str()) {
        (Some(a), Some(b)) => Ok(Value::from([a, b].concat())),
        _ => Err(unsupported("+", &left, &right)),
    }
}

/// The one of two numbers or texts that compares as `wanted` to the other; `left` if equal.
pub(super) fn pick(left: Value, right: Value, wanted: Ordering) -> Result<Value> {
    let order = match (&left, &right) {
        (Value::Int(a), Value::Int(b)) => Some(b.cmp(a)),
        _ => match (left.as_f64(), right.as_f64()) {
            (Some(a), Some(b)) => b.partial_cmp(&a),
            _ => match (left.as_str(), right.as_str()) {
                (Some(a), Some(b)) => Some(b.cmp(a)),
                _ => return Err(unsupported("'>'", &right, &left)),
            },
        },
    };
    Ok(if order == Some(wanted) { right } else { left })
}

/// Map and map give their union; the right one wins.
pub(super) fn merge(left: Value, right: Value) -> Result<Value> {
    match (left, right) {
        (Value::Map(mut left), Value::Map(right)) => {
            let target = Arc::make_mut(&mut left);
            for (key, value) in right.iter() {
                target.insert(key.clone(), value.clone());
            }
            Ok(Value::Map(left))
        }
        (left, right) => Err(unsupported("|", &left, &right)),
    }
}

/// The messages of a write: a list of message-like things, or one of them.
fn coerce_all(write: &Value) -> Result<Vec<Value>> {
    match write {
        Value::List(items) => items.iter().map(message::coerce).collect(),
        one => Ok(vec![message::coerce(one)?]),
    }
}

/// Makes messages of a write to a messages channel and gives an id to each that has none, so
/// that what is stored, shown and combined is the same.
///
/// # Errors
/// `Invalid` if something in it is not a message.
pub(crate) fn ensure_ids(write: &Value, rng: &dyn Rng) -> Result<Value> {
    if let Some(inner) = overwritten(write) {
        return Ok(overwrite(ensure_ids(inner, rng)?));
    }
    if write.is_null() {
        return Ok(Value::list(Vec::new()));
    }
    let with_id = |message: Value| match message::id(&message) {
        Some(_) => message,
        None => message::with_id(&message, &message::fresh_id(rng)),
    };
    Ok(Value::list(
        coerce_all(write)?.into_iter().map(with_id).collect(),
    ))
}

/// Gives an id to each message without one in a write to a delta channel that may hold anything:
/// its writes are combined again on every read, each time with the same result.
pub(crate) fn stamp_ids(write: &Value, rng: &dyn Rng) -> Value {
    let stamp = |item: &Value| match message::id(item) {
        None if message::is_message(item) => message::with_id(item, &message::fresh_id(rng)),
        _ => item.clone(),
    };
    match write {
        Value::List(items) if items.iter().any(message::is_message) => {
            Value::list(items.iter().map(stamp).collect())
        }
        one => stamp(one),
    }
}

/// Whether a write replaces the value of its channel.
pub(crate) fn is_overwrite(write: &Value) -> bool {
    overwritten(write).is_some()
}

/// Combines a list of messages with new ones.
///
/// The same id replaces in place; a `remove` message deletes (`__remove_all__` deletes everything
/// before it); anything else is appended. Messages without an id are always appended.
///
/// # Errors
/// `Invalid` if something is not a message, or a `remove` names an id that is not there.
pub fn add_messages(left: Value, right: &Value) -> Result<Value> {
    let mut merged = match left {
        Value::List(items) => items,
        Value::Null => Arc::new(Vec::new()),
        one => Arc::new(coerce_all(&one)?),
    };
    let new = coerce_all(right)?;
    let is_remove = |m: &Value| message::kind(m) == Some("remove");
    let last_clear = new
        .iter()
        .rposition(|m| is_remove(m) && message::id(m) == Some(message::REMOVE_ALL));
    if let Some(at) = last_clear {
        return Ok(Value::list(new[at + 1..].to_vec()));
    }
    let target = own(&mut merged, new.len());
    let mut index = Index::new(target, new.len());
    let mut removed: Vec<usize> = Vec::new();
    for message in new {
        let known = message::id(&message).and_then(|id| index.find(target, id));
        match (known, is_remove(&message)) {
            (Some(at), true) => removed.push(at),
            (Some(at), false) => {
                removed.retain(|r| *r != at);
                target[at] = message;
            }
            (None, true) => {
                let id = message::id(&message).unwrap_or_default();
                return Err(Error::invalid(format!(
                    "Attempting to delete a message with an ID that doesn't exist ('{id}')"
                )));
            }
            (None, false) => {
                index.add(&message, target.len());
                target.push(message);
            }
        }
    }
    drop_at(target, &removed);
    Ok(Value::List(merged))
}

/// Combines a list of messages with the writes of one or more supersteps, as
/// [`add_messages`] but for delta channels: a `remove` of an unknown id does nothing, and two
/// calls give what one call with all writes gives.
///
/// # Errors
/// `Invalid` if something is not a message.
pub(super) fn add_message_batch(left: Value, writes: Vec<Value>) -> Result<Value> {
    let mut merged = match left {
        Value::List(items) => items,
        Value::Null => Arc::new(Vec::new()),
        one => Arc::new(coerce_all(&one)?),
    };
    let mut new = Vec::new();
    for write in &writes {
        new.extend(coerce_all(write)?);
    }
    let target = own(&mut merged, new.len());
    let mut index = Index::new(target, new.len());
    let mut removed: Vec<usize> = Vec::new();
    for message in new {
        let id = message::id(&message);
        let known = id.and_then(|id| index.find(target, id));
        let known = known.filter(|at| !removed.contains(at));
        match (known, message::kind(&message) == Some("remove")) {
            (Some(at), true) => removed.push(at),
            (Some(at), false) => target[at] = message,
            (None, true) if id.is_some() => {}
            (None, _) => {
                index.add(&message, target.len());
                target.push(message);
            }
        }
    }
    drop_at(target, &removed);
    Ok(Value::List(merged))
}

fn drop_at(target: &mut Vec<Value>, removed: &[usize]) {
    if removed.is_empty() {
        return;
    }
    let mut at = 0;
    target.retain(|_| {
        at += 1;
        !removed.contains(&(at - 1))
    });
}

/// Finds messages by id: a scan from the end for few new messages, else a map.
struct Index(Option<HashMap<String, usize>>);

impl Index {
    fn new(messages: &[Value], new: usize) -> Self {
        if new <= LINEAR_SEARCH {
            return Self(None);
        }
        let entry = |(at, m): (usize, &Value)| Some((message::id(m)?.to_owned(), at));
        Self(Some(
            messages.iter().enumerate().filter_map(entry).collect(),
        ))
    }

    fn find(&self, messages: &[Value], id: &str) -> Option<usize> {
        match &self.0 {
            Some(map) => map.get(id).copied(),
            None => messages.iter().rposition(|m| message::id(m) == Some(id)),
        }
    }

    fn add(&mut self, message: &Value, at: usize) {
        if let (Some(map), Some(id)) = (&mut self.0, message::id(message)) {
            map.insert(id.to_owned(), at);
        }
    }
}

/// Whether a value in a node's output is a message that the `messages` mode reports.
pub(crate) fn is_message_like(value: &Value) -> bool {
    message::is_message(value)
}

#[cfg(test)]
mod tests {
    use agentflow_types::{SeededRng, value};

    use super::*;

    fn ids(list: &Value) -> Vec<String> {
        list.as_list()
            .unwrap()
            .iter()
            .map(|m| message::id(m).unwrap_or("-").to_owned())
            .collect()
    }

    fn with(id: &str) -> Value {
        message::with_id(&message::human("x"), id)
    }

    fn remove(id: &str) -> Value {
        value!({"type": "remove", "id": id, "content": ""})
    }

    #[test]
    fn messages_replace_append_and_disappear_by_id() {
        let left = Value::list(vec![with("a"), with("b")]);
        let both = add_messages(left.clone(), &Value::list(vec![with("b"), with("c")])).unwrap();
        assert_eq!(ids(&both), ["a", "b", "c"]);
        let less = add_messages(left.clone(), &remove("a")).unwrap();
        assert_eq!(ids(&less), ["b"]);
        let back = add_messages(left.clone(), &Value::list(vec![remove("a"), with("a")])).unwrap();
        assert_eq!(ids(&back), ["a", "b"]);
        let clear = Value::list(vec![with("x"), remove(message::REMOVE_ALL), with("y")]);
        assert_eq!(ids(&add_messages(left.clone(), &clear).unwrap()), ["y"]);
        let err = add_messages(left, &remove("z")).unwrap_err();
        assert_eq!(
            err.message(),
            "Attempting to delete a message with an ID that doesn't exist ('z')"
        );
    }

    #[test]
    fn many_messages_take_the_indexed_way_with_the_same_result() {
        let many = |n: usize| Value::list((0..n).map(|i| with(&i.to_string())).collect());
        let both = add_messages(many(3), &many(20)).unwrap();
        assert_eq!(both.as_list().unwrap().len(), 20);
    }

    #[test]
    fn ids_are_given_once() {
        let rng = SeededRng::new(1);
        let given = ensure_ids(&value!([["user", "hi"]]), &rng).unwrap();
        assert_eq!(ids(&given)[0].len(), 36);
        assert_eq!(ensure_ids(&given, &rng).unwrap(), given);
    }

    #[test]
    fn overwrites_are_known_in_each_form() {
        for form in [
            value!({"__overwrite__": 1}),
            value!({"type": "__overwrite__", "value": 1}),
            overwrite(Value::Int(1)),
        ] {
            assert_eq!(overwritten(&form), Some(&Value::Int(1)), "{form}");
        }
        assert_eq!(overwritten(&value!({})), None);
    }

    #[test]
    fn reducers_combine_or_say_why_not() {
        assert_eq!(sum(value!(1), value!(2)).unwrap(), value!(3));
        assert_eq!(sum(value!(1), value!(0.5)).unwrap(), value!(1.5));
        assert_eq!(append(value!([1]), value!([2])).unwrap(), value!([1, 2]));
        assert!(
            append(value!([1]), value!("x"))
                .unwrap_err()
                .message()
                .contains("not \"str\"")
        );
        assert_eq!(
            pick(value!(1), value!(2), Ordering::Greater).unwrap(),
            value!(2)
        );
        assert_eq!(
            pick(value!("b"), value!("a"), Ordering::Less).unwrap(),
            value!("a")
        );
        assert_eq!(
            merge(value!({"a": 1}), value!({"a": 2})).unwrap(),
            value!({"a": 2})
        );
    }
}
