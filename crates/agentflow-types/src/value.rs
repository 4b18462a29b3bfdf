//! The dynamic value of graph state.
//!
//! JSON's shapes, plus what msgpack written by Python may hold: bytes, maps with other keys
//! than text, and typed extension values (messages, `Send`, dates), which keep their identity
//! while a reader sees their content. Containers are shared: a clone costs a reference count.

mod de;
mod ser;

use std::{fmt, sync::Arc};

use indexmap::IndexMap;

pub use de::from_value;
pub use ser::to_value;

/// Shared text.
pub type Str = Arc<str>;

/// A map with text keys in insertion order.
pub type Map = IndexMap<Str, Value>;

/// Entries up to which a key is looked for one by one: in small maps, such as messages, that
/// takes less time than hashing it.
const SCANNED: usize = 16;

/// A value of graph state.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// JSON `null`, Python `None`.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer that fits `i64`.
    Int(i64),
    /// An integer above `i64::MAX`; never a smaller one.
    UInt(u64),
    /// A float; Python and msgpack tell `1.0` from `1`, and so do we.
    Float(f64),
    /// Text.
    Str(Str),
    /// Bytes; JSON shows base64.
    Bytes(Arc<[u8]>),
    /// A list.
    List(Arc<Vec<Value>>),
    /// A map with text keys.
    Map(Arc<Map>),
    /// A map of which at least one key is not text, in order.
    Pairs(Arc<Vec<(Value, Value)>>),
    /// A value with a Python type, for example a LangChain message.
    Typed(Arc<Typed>),
    /// An extension that is not understood; kept byte for byte.
    Ext(i8, Arc<[u8]>),
}

/// Content with a Python type: what LangGraph's msgpack serializer stores as an extension whose
/// payload is `[module, name, content, method?]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Typed {
    /// Extension code: 0 single argument, 1 positional arguments, 2 keyword arguments,
    /// 3 method with argument, 4 and 5 pydantic.
    pub code: i8,
    /// Python module, for example `langchain_core.messages.human`.
    pub module: Str,
    /// Python class or function name.
    pub name: Str,
    /// The argument or arguments.
    pub value: Value,
    /// Constructor method, for example `model_validate_json`.
    pub method: Option<Str>,
}

impl Value {
    /// Text.
    pub fn str(text: impl Into<Str>) -> Self {
        Self::Str(text.into())
    }

    /// A list.
    #[must_use]
    pub fn list(items: Vec<Value>) -> Self {
        Self::List(Arc::new(items))
    }

    /// A map.
    #[must_use]
    pub fn map(map: Map) -> Self {
        Self::Map(Arc::new(map))
    }

    /// A map from pairs, in order.
    pub fn object<K: Into<Str>>(pairs: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self::map(pairs.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }

    /// Whether this is `Null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The content, with the Python type (if any) looked through.
    #[must_use]
    pub fn untyped(&self) -> &Value {
        match self {
            Self::Typed(typed) => typed.value.untyped(),
            other => other,
        }
    }

    /// The text, if this is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self.untyped() {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if this is one.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self.untyped() {
            Self::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The number as a float, if this is a number.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self.untyped() {
            Self::Int(n) => Some(*n as f64),
            Self::UInt(n) => Some(*n as f64),
            Self::Float(n) => Some(*n),
            _ => None,
        }
    }

    /// The boolean, if this is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.untyped() {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The items, if this is a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        match self.untyped() {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The map, if this is one with text keys (the content of a typed value included).
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        match self.untyped() {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The entry of a map; `None` for other values and absent keys.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        let map = self.as_map()?;
        if map.len() > SCANNED {
            return map.get(key);
        }
        let found = map.iter().find(|(name, _)| name.as_ref() == key);
        found.map(|(_, value)| value)
    }

    /// Truth as Python sees it: null, false, zero, and empty things are false.
    #[must_use]
    pub fn truthy(&self) -> bool {
        match self.untyped() {
            Self::Null => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::UInt(_) => true,
            Self::Float(n) => *n != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::Bytes(bytes) => !bytes.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Pairs(pairs) => !pairs.is_empty(),
            Self::Typed(_) | Self::Ext(..) => true,
        }
    }

    /// JSON with the content of typed values; what HTTP clients see.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or(serde_json::Value::Null)
    }

    /// The value of a JSON document.
    #[must_use]
    pub fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(i), _) => Self::Int(i),
                (None, Some(u)) => Self::UInt(u),
                (None, None) => Self::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::str(text.as_str()),
            Json::Array(items) => Self::list(items.iter().map(Self::from_json).collect()),
            Json::Object(map) => Self::map(
                map.iter()
                    .map(|(k, v)| (Str::from(k.as_str()), Self::from_json(v)))
                    .collect(),
            ),
        }
    }

    /// Compact JSON text.
    #[must_use]
    pub fn json_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "null".to_owned())
    }

    /// Rough size in memory, in bytes; for limits and accounting.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        16 + match self {
            Self::Str(text) => text.len(),
            Self::Bytes(bytes) | Self::Ext(_, bytes) => bytes.len(),
            Self::List(items) => items.iter().map(Self::size_bytes).sum(),
            Self::Map(map) => map.iter().map(|(k, v)| k.len() + v.size_bytes()).sum(),
            Self::Pairs(pairs) => pairs
                .iter()
                .map(|(k, v)| k.size_bytes() + v.size_bytes())
                .sum(),
            Self::Typed(typed) => typed.value.size_bytes(),
            _ => 0,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json_text())
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}
impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}
impl From<i32> for Value {
    fn from(n: i32) -> Self {
        Self::Int(n.into())
    }
}
impl From<f64> for Value {
    fn from(n: f64) -> Self {
        Self::Float(n)
    }
}
impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::str(text)
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::str(text)
    }
}
impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::list(items.into_iter().map(Into::into).collect())
    }
}
impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::map(map)
    }
}
impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        Self::from_json(&json)
    }
}

/// Builds a [`Value`] from JSON syntax.
#[macro_export]
macro_rules! value {
    ($($json:tt)+) => { $crate::Value::from_json(&$crate::value::__private::json!($($json)+)) };
}

#[doc(hidden)]
pub mod __private {
    pub use serde_json::json;
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        Newtype(u8),
        Struct { a: Option<i64> },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        name: String,
        ratio: f64,
        items: Vec<Shape>,
        none: Option<String>,
        pair: (bool, char),
        map: std::collections::BTreeMap<String, i32>,
    }

    #[test]
    fn typed_structs_survive_the_round_trip() {
        let sample = Sample {
            name: "x".into(),
            ratio: 1.0,
            items: vec![
                Shape::Unit,
                Shape::Newtype(3),
                Shape::Struct { a: Some(-1) },
            ],
            none: None,
            pair: (true, 'c'),
            map: [("k".to_owned(), 1)].into(),
        };
        let value = to_value(&sample).unwrap();
        assert_eq!(value.to_json(), serde_json::to_value(&sample).unwrap());
        assert_eq!(from_value::<Sample>(&value).unwrap(), sample);
    }

    #[test]
    fn json_shows_the_content_of_typed_values() {
        let message = Value::Typed(Arc::new(Typed {
            code: 5,
            module: "langchain_core.messages.human".into(),
            name: "HumanMessage".into(),
            value: value!({"content": "hi"}),
            method: Some("model_validate_json".into()),
        }));
        assert_eq!(message.json_text(), r#"{"content":"hi"}"#);
        assert_eq!(message.get("content").and_then(Value::as_str), Some("hi"));
    }

    #[test]
    fn numbers_keep_their_kind() {
        let value = value!([1, 1.0, 18446744073709551615u64]);
        assert_eq!(value.json_text(), "[1,1.0,18446744073709551615]");
        let back: Value = serde_json::from_str(&value.json_text()).unwrap();
        assert_eq!(back, value);
    }
}
