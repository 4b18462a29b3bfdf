//! Points as Qdrant keeps them.
//!
//! What is nested deeper than messages may be is kept as the text of its JSON. A whole number
//! above 2^63 becomes a float: Qdrant has none.

use std::collections::{BTreeMap, HashMap};

use agentflow_storage::{
    filter,
    vector::{Mark, Point, Sparse},
};
use agentflow_types::{Error, Map, Result, Value};
use qdrant_client::qdrant::{
    DenseVector, ListValue, NamedVectors, PointId, PointStruct, RetrievedPoint, SparseVector,
    Struct, Value as Sent, Vector, VectorOutput, Vectors, VectorsOutput, point_id, value::Kind,
    vector, vector_output, vectors, vectors_output,
};
use uuid::Uuid;

/// Whose a point is.
pub(crate) const TENANT: &str = "tenant";
/// The version of its record.
pub(crate) const VERSION: &str = "version";
/// What conditions are about.
pub(crate) const PAYLOAD: &str = "payload";

/// Deepest nesting of a payload that is kept as it is. Decoders of the protocol stop at a hundred
/// messages within each other, and a map within a map is three.
pub(crate) const MAX_NESTING: usize = 24;
/// The only key of a map that stands for something deeper.
const FOLDED: &str = "\u{0}json";

pub(crate) fn id(uuid: Uuid) -> PointId {
    PointId {
        point_id_options: Some(point_id::PointIdOptions::Uuid(uuid.to_string())),
    }
}

pub(crate) fn uuid(id: Option<PointId>) -> Result<Uuid> {
    match id.and_then(|id| id.point_id_options) {
        Some(point_id::PointIdOptions::Uuid(text)) => text
            .parse()
            .map_err(|_| foreign("the id is not a UUID").with("id", text)),
        other => Err(foreign("the id is not a UUID").with("id", format!("{other:?}"))),
    }
}

/// A point of a collection that was stored by somebody else.
fn foreign(what: &'static str) -> Error {
    Error::corrupt(format!("a point in Qdrant is not one of ours: {what}"))
}

pub(crate) fn text(text: &str) -> Sent {
    Sent {
        kind: Some(Kind::StringValue(text.to_owned())),
    }
}

/// A point as it is sent.
pub(crate) fn sent(tenant: &str, point: &Point) -> PointStruct {
    // The suite of checks keeps versions far below.
    let version = i64::try_from(point.version).unwrap_or(i64::MAX);
    let version = Sent {
        kind: Some(Kind::IntegerValue(version)),
    };
    let payload = Value::map(filter::normal_map(&point.payload));
    let payload = [
        (TENANT.to_owned(), text(tenant)),
        (VERSION.to_owned(), version),
        (PAYLOAD.to_owned(), value(&payload, 0)),
    ];
    let dense = point.dense.iter().map(|(name, data)| {
        let dense = vector::Vector::Dense(DenseVector { data: data.clone() });
        (name, dense)
    });
    let sparse = point.sparse.iter().map(|(name, words)| {
        let sparse = vector::Vector::Sparse(SparseVector {
            indices: words.indices.clone(),
            values: words.values.clone(),
        });
        (name, sparse)
    });
    let vectors = dense.chain(sparse).map(|(name, vector)| {
        let vector = Vector {
            vector: Some(vector),
            ..Vector::default()
        };
        (name.clone(), vector)
    });
    let vectors = NamedVectors {
        vectors: vectors.collect(),
    };
    PointStruct {
        id: Some(id(point.id)),
        payload: payload.into(),
        vectors: Some(Vectors {
            vectors_options: Some(vectors::VectorsOptions::Vectors(vectors)),
        }),
    }
}

fn value(found: &Value, depth: usize) -> Sent {
    let kind = match found {
        Value::List(_) | Value::Map(_) if depth >= MAX_NESTING => Kind::StructValue(Struct {
            fields: [(FOLDED.to_owned(), text(&found.json_text()))].into(),
        }),
        Value::Null => Kind::NullValue(0),
        Value::Bool(b) => Kind::BoolValue(*b),
        Value::Int(n) => Kind::IntegerValue(*n),
        Value::UInt(n) => Kind::DoubleValue(*n as f64),
        Value::Float(n) => Kind::DoubleValue(*n),
        Value::Str(text) => Kind::StringValue(text.to_string()),
        Value::List(items) => Kind::ListValue(ListValue {
            values: items.iter().map(|item| value(item, depth + 1)).collect(),
        }),
        Value::Map(map) => Kind::StructValue(Struct {
            fields: map
                .iter()
                .map(|(key, found)| (key.to_string(), value(found, depth + 1)))
                .collect(),
        }),
        // The payload was made JSON before.
        Value::Bytes(_) | Value::Pairs(_) | Value::Typed(_) | Value::Ext(..) => Kind::NullValue(0),
    };
    Sent { kind: Some(kind) }
}

fn read(sent: Sent) -> Result<Value> {
    Ok(match sent.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(b)) => Value::Bool(b),
        Some(Kind::IntegerValue(n)) => Value::Int(n),
        Some(Kind::DoubleValue(n)) => Value::Float(n),
        Some(Kind::StringValue(text)) => Value::str(text),
        Some(Kind::ListValue(list)) => {
            let items = list.values.into_iter().map(read);
            Value::list(items.collect::<Result<_>>()?)
        }
        Some(Kind::StructValue(map)) => match folded(&map.fields) {
            Some(text) => {
                let json = serde_json::from_str(text)
                    .map_err(|err| foreign("a folded value is no JSON").source_err(err))?;
                Value::from_json(&json)
            }
            None => Value::map(read_map(map.fields)?),
        },
    })
}

fn folded(fields: &HashMap<String, Sent>) -> Option<&str> {
    match fields.get(FOLDED)?.kind.as_ref()? {
        Kind::StringValue(text) if fields.len() == 1 => Some(text),
        _ => None,
    }
}

fn read_map(fields: HashMap<String, Sent>) -> Result<Map> {
    let pairs = fields.into_iter();
    pairs
        .map(|(key, sent)| Ok((key.into(), read(sent)?)))
        .collect()
}

/// Version and payload of a point of this tenant.
///
/// # Errors
/// `Bug` if the server sent one of another tenant; `Corrupt` if it is none of ours.
pub(crate) fn shown(tenant: &str, mut payload: HashMap<String, Sent>) -> Result<(u64, Map)> {
    let version = version(tenant, &payload)?;
    let Some(Kind::StructValue(inner)) = payload.remove(PAYLOAD).and_then(|sent| sent.kind) else {
        return Err(foreign("it has no payload"));
    };
    Ok((version, read_map(inner.fields)?))
}

/// The version of a point of this tenant.
pub(crate) fn version(tenant: &str, payload: &HashMap<String, Sent>) -> Result<u64> {
    match owner(payload)? {
        (whose, version) if whose == tenant => Ok(version),
        _ => Err(Error::bug("Qdrant sent a point of another tenant")),
    }
}

/// Tenant and version of a point.
pub(crate) fn owner(payload: &HashMap<String, Sent>) -> Result<(&str, u64)> {
    let kind = |name: &str| payload.get(name).and_then(|sent| sent.kind.as_ref());
    let Some(Kind::StringValue(tenant)) = kind(TENANT) else {
        return Err(foreign("it has no tenant"));
    };
    match kind(VERSION) {
        Some(Kind::IntegerValue(version)) if *version >= 0 => Ok((tenant, version.unsigned_abs())),
        _ => Err(foreign("it has no version")),
    }
}

pub(crate) fn mark(found: RetrievedPoint) -> Result<Mark> {
    let (tenant, version) = owner(&found.payload)?;
    Ok(Mark {
        tenant: tenant.to_owned(),
        version,
        id: uuid(found.id)?,
    })
}

/// A point with what was asked of it.
pub(crate) fn point(tenant: &str, found: RetrievedPoint) -> Result<Point> {
    let (version, payload) = shown(tenant, found.payload)?;
    let (dense, sparse) = found.vectors.map_or_else(Default::default, named);
    Ok(Point {
        id: uuid(found.id)?,
        version,
        dense,
        sparse,
        payload,
    })
}

fn named(found: VectorsOutput) -> (BTreeMap<String, Vec<f32>>, BTreeMap<String, Sparse>) {
    let (mut dense, mut sparse) = (BTreeMap::new(), BTreeMap::new());
    let Some(vectors_output::VectorsOptions::Vectors(named)) = found.vectors_options else {
        return (dense, sparse);
    };
    for (name, found) in named.vectors {
        match of_output(found) {
            Some(vector_output::Vector::Dense(vector)) => {
                dense.insert(name, vector.data);
            }
            Some(vector_output::Vector::Sparse(vector)) => {
                let words = vector.indices.into_iter().zip(vector.values);
                sparse.insert(name, Sparse::of(words));
            }
            Some(vector_output::Vector::MultiDense(_)) | None => {}
        }
    }
    (dense, sparse)
}

/// Before 1.16 a vector was in fields of its own, and servers still may fill those.
#[allow(deprecated)]
fn of_output(found: VectorOutput) -> Option<vector_output::Vector> {
    found.vector.or(match found.indices {
        Some(indices) => Some(vector_output::Vector::Sparse(SparseVector {
            indices: indices.data,
            values: found.data,
        })),
        None if found.data.is_empty() => None,
        None => Some(vector_output::Vector::Dense(DenseVector {
            data: found.data,
        })),
    })
}
