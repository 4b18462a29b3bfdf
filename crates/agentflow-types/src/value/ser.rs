//! Serialization from and into [`Value`].

use std::{fmt::Display, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use serde::ser::{self, Serialize, SerializeMap, SerializeSeq};

use super::{Map, Str, Typed, Value};
use crate::{Error, Result};

impl Serialize for Value {
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(b) => serializer.serialize_bool(*b),
            Self::Int(n) => serializer.serialize_i64(*n),
            Self::UInt(n) => serializer.serialize_u64(*n),
            Self::Float(n) => serializer.serialize_f64(*n),
            Self::Str(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) | Self::Ext(_, bytes) => {
                serializer.serialize_str(&BASE64.encode(bytes))
            }
            Self::List(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items.iter() {
                    seq.serialize_element(item)?;
                }
                seq.end()
            }
            Self::Map(map) => {
                let mut out = serializer.serialize_map(Some(map.len()))?;
                for (key, value) in map.iter() {
                    out.serialize_entry(&**key, value)?;
                }
                out.end()
            }
            Self::Pairs(pairs) => {
                let mut out = serializer.serialize_map(Some(pairs.len()))?;
                for (key, value) in pairs.iter() {
                    match key.as_str() {
                        Some(text) => out.serialize_entry(text, value)?,
                        None => out.serialize_entry(&key.json_text(), value)?,
                    }
                }
                out.end()
            }
            Self::Typed(typed) => typed.serialize(serializer),
        }
    }
}

impl Serialize for Typed {
    /// The content. `Send` shows its fields by name, single-element argument lists their element.
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let (1, "Send", Some([node, arg, ..])) = (self.code, &*self.name, self.value.as_list()) {
            let mut out = serializer.serialize_map(Some(2))?;
            out.serialize_entry("node", node)?;
            out.serialize_entry("arg", arg)?;
            return out.end();
        }
        self.value.serialize(serializer)
    }
}

impl ser::Error for Error {
    fn custom<T: Display>(msg: T) -> Self {
        Self::invalid(msg.to_string())
    }
}

/// The value of anything serializable.
///
/// # Errors
/// `Invalid` if a map key is neither text, number, boolean nor char, or `value` refuses.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value> {
    value.serialize(Builder)
}

struct Builder;

struct ListBuilder {
    items: Vec<Value>,
    variant: Option<&'static str>,
}

struct MapBuilder {
    map: Map,
    key: Option<Str>,
    variant: Option<&'static str>,
}

fn tagged(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        Some(name) => Value::object([(name, value)]),
        None => value,
    }
}

impl ser::Serializer for Builder {
    type Ok = Value;
    type Error = Error;
    type SerializeSeq = ListBuilder;
    type SerializeTuple = ListBuilder;
    type SerializeTupleStruct = ListBuilder;
    type SerializeTupleVariant = ListBuilder;
    type SerializeMap = MapBuilder;
    type SerializeStruct = MapBuilder;
    type SerializeStructVariant = MapBuilder;

    fn serialize_bool(self, v: bool) -> Result<Value> {
        Ok(Value::Bool(v))
    }
    fn serialize_i8(self, v: i8) -> Result<Value> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_i16(self, v: i16) -> Result<Value> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_i32(self, v: i32) -> Result<Value> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_i64(self, v: i64) -> Result<Value> {
        Ok(Value::Int(v))
    }
    fn serialize_u8(self, v: u8) -> Result<Value> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_u16(self, v: u16) -> Result<Value> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_u32(self, v: u32) -> Result<Value> {
        Ok(Value::Int(v.into()))
    }
    fn serialize_u64(self, v: u64) -> Result<Value> {
        Ok(i64::try_from(v).map_or(Value::UInt(v), Value::Int))
    }
    fn serialize_f32(self, v: f32) -> Result<Value> {
        Ok(Value::Float(v.into()))
    }
    fn serialize_f64(self, v: f64) -> Result<Value> {
        Ok(Value::Float(v))
    }
    fn serialize_char(self, v: char) -> Result<Value> {
        Ok(Value::str(v.to_string()))
    }
    fn serialize_str(self, v: &str) -> Result<Value> {
        Ok(Value::str(v))
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<Value> {
        Ok(Value::Bytes(v.into()))
    }
    fn serialize_none(self) -> Result<Value> {
        Ok(Value::Null)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Value> {
        Ok(Value::Null)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Value> {
        Ok(Value::Null)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, v: &'static str) -> Result<Value> {
        Ok(Value::str(v))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Value> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value> {
        Ok(tagged(Some(variant), value.serialize(self)?))
    }
    fn serialize_seq(self, len: Option<usize>) -> Result<ListBuilder> {
        Ok(ListBuilder {
            items: Vec::with_capacity(len.unwrap_or(0).min(4096)),
            variant: None,
        })
    }
    fn serialize_tuple(self, len: usize) -> Result<ListBuilder> {
        self.serialize_seq(Some(len))
    }
    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<ListBuilder> {
        self.serialize_seq(Some(len))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<ListBuilder> {
        Ok(ListBuilder {
            items: Vec::with_capacity(len),
            variant: Some(variant),
        })
    }
    fn serialize_map(self, len: Option<usize>) -> Result<MapBuilder> {
        let map = Map::with_capacity(len.unwrap_or(0).min(4096));
        Ok(MapBuilder {
            map,
            key: None,
            variant: None,
        })
    }
    fn serialize_struct(self, _: &'static str, len: usize) -> Result<MapBuilder> {
        self.serialize_map(Some(len))
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<MapBuilder> {
        Ok(MapBuilder {
            map: Map::with_capacity(len),
            key: None,
            variant: Some(variant),
        })
    }
}

impl ser::SerializeSeq for ListBuilder {
    type Ok = Value;
    type Error = Error;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.items.push(value.serialize(Builder)?);
        Ok(())
    }
    fn end(self) -> Result<Value> {
        Ok(tagged(self.variant, Value::list(self.items)))
    }
}

macro_rules! list_like {
    ($($name:ident, $method:ident;)*) => {$(
        impl ser::$name for ListBuilder {
            type Ok = Value;
            type Error = Error;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
                SerializeSeq::serialize_element(self, value)
            }
            fn end(self) -> Result<Value> {
                SerializeSeq::end(self)
            }
        }
    )*};
}

list_like! {
    SerializeTuple, serialize_element;
    SerializeTupleStruct, serialize_field;
    SerializeTupleVariant, serialize_field;
}

impl ser::SerializeMap for MapBuilder {
    type Ok = Value;
    type Error = Error;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.key = Some(match key.serialize(Builder)? {
            Value::Str(text) => text,
            scalar @ (Value::Int(_) | Value::UInt(_) | Value::Float(_) | Value::Bool(_)) => {
                scalar.json_text().into()
            }
            other => return Err(Error::invalid("map keys must be text").with("key", other)),
        });
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let key = self
            .key
            .take()
            .expect("serde gives the key before the value");
        self.map.insert(key, value.serialize(Builder)?);
        Ok(())
    }
    fn end(self) -> Result<Value> {
        Ok(tagged(self.variant, Value::Map(Arc::new(self.map))))
    }
}

macro_rules! struct_like {
    ($($name:ident;)*) => {$(
        impl ser::$name for MapBuilder {
            type Ok = Value;
            type Error = Error;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<()> {
                self.map.insert(key.into(), value.serialize(Builder)?);
                Ok(())
            }
            fn end(self) -> Result<Value> {
                SerializeMap::end(self)
            }
        }
    )*};
}

struct_like! {
    SerializeStruct;
    SerializeStructVariant;
}
