//! What goes over the wire, and what is kept.

use std::collections::{BTreeMap, HashMap};

use qdrant_client::qdrant::{
    DenseVector, ListValue, NamedVectors, NamedVectorsOutput, PointId, SparseVector, Struct,
    Value as Sent, VectorOutput, Vectors, VectorsOutput, WithPayloadSelector, point_id,
    value::Kind, vector, vector_output, vectors, vectors_output, with_payload_selector,
};
use serde_json::{Map, Number, Value};
use tonic::Status;
use uuid::Uuid;

use super::path::Path;

/// Vectors of a point by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    pub(super) dense: BTreeMap<String, Vec<f32>>,
    pub(super) sparse: BTreeMap<String, BTreeMap<u32, f32>>,
}

pub(super) fn uuid(id: Option<&PointId>) -> Result<Uuid, Status> {
    match id.and_then(|id| id.point_id_options.as_ref()) {
        Some(point_id::PointIdOptions::Uuid(text)) => text
            .parse()
            .map_err(|_| Status::invalid_argument(format!("Unable to parse UUID: {text}"))),
        Some(point_id::PointIdOptions::Num(_)) => Err(Status::unimplemented("ids of numbers")),
        None => Err(Status::invalid_argument("Empty ID is not allowed")),
    }
}

pub(super) fn id(uuid: Uuid) -> PointId {
    PointId {
        point_id_options: Some(point_id::PointIdOptions::Uuid(uuid.to_string())),
    }
}

pub(super) fn payload(sent: &HashMap<String, Sent>) -> Result<Map<String, Value>, Status> {
    let pairs = sent
        .iter()
        .map(|(key, sent)| Ok((key.clone(), value(sent)?)));
    pairs.collect()
}

fn value(sent: &Sent) -> Result<Value, Status> {
    Ok(match &sent.kind {
        Some(Kind::NullValue(_)) | None => Value::Null,
        Some(Kind::DoubleValue(n)) => Number::from_f64(*n)
            .map(Value::Number)
            .ok_or_else(|| Status::invalid_argument("cannot convert to json number"))?,
        Some(Kind::IntegerValue(n)) => Value::from(*n),
        Some(Kind::StringValue(text)) => Value::from(text.as_str()),
        Some(Kind::BoolValue(b)) => Value::from(*b),
        Some(Kind::StructValue(map)) => Value::Object(payload(&map.fields)?),
        Some(Kind::ListValue(list)) => {
            let values = list.values.iter().map(value);
            Value::Array(values.collect::<Result<_, _>>()?)
        }
    })
}

/// The part of a payload that a selector names; none names nothing.
pub(super) fn shown(
    payload: &Map<String, Value>,
    selector: Option<&WithPayloadSelector>,
) -> Result<HashMap<String, Sent>, Status> {
    use with_payload_selector::SelectorOptions::{Enable, Exclude, Include};
    let sent = |(key, value): (&String, &Value)| (key.clone(), send(value));
    match selector.and_then(|selector| selector.selector_options.as_ref()) {
        None | Some(Enable(false)) => Ok(HashMap::new()),
        Some(Enable(true)) => Ok(payload.iter().map(sent).collect()),
        Some(Include(fields)) => {
            for field in &fields.fields {
                Path::read(field)?;
            }
            let wanted = payload
                .iter()
                .filter(|(key, _)| fields.fields.contains(key));
            Ok(wanted.map(sent).collect())
        }
        Some(Exclude(_)) => Err(Status::unimplemented("exclusion of payload")),
    }
}

fn send(value: &Value) -> Sent {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(b) => Kind::BoolValue(*b),
        Value::Number(n) => match n.as_i64() {
            Some(n) => Kind::IntegerValue(n),
            None => Kind::DoubleValue(n.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(send).collect(),
        }),
        Value::Object(map) => Kind::StructValue(Struct {
            fields: map
                .iter()
                .map(|(key, value)| (key.clone(), send(value)))
                .collect(),
        }),
    };
    Sent { kind: Some(kind) }
}

pub(super) fn named(sent: Option<&Vectors>) -> Result<Named, Status> {
    let mut named = Named::default();
    let options = sent.and_then(|sent| sent.vectors_options.as_ref());
    let NamedVectors { vectors } = match options {
        Some(vectors::VectorsOptions::Vectors(vectors)) => vectors,
        Some(vectors::VectorsOptions::Vector(_)) => {
            return Err(Status::unimplemented("vectors without a name"));
        }
        None => return Err(Status::invalid_argument("Expected some vectors")),
    };
    for (name, sent) in vectors {
        match &sent.vector {
            Some(vector::Vector::Dense(dense)) => {
                named.dense.insert(name.clone(), dense.data.clone());
            }
            Some(vector::Vector::Sparse(words)) => {
                named.sparse.insert(name.clone(), sparse(words)?);
            }
            Some(_) => return Err(Status::unimplemented("this kind of vector")),
            None => return Err(Status::unimplemented("the deprecated form of vectors")),
        }
    }
    Ok(named)
}

pub(super) fn sparse(sent: &SparseVector) -> Result<BTreeMap<u32, f32>, Status> {
    let wrong =
        |what: &str| Status::invalid_argument(format!("Validation error in sparse vector: {what}"));
    if sent.indices.len() != sent.values.len() {
        return Err(wrong("must be the same length as indices"));
    }
    let words: BTreeMap<u32, f32> = sent
        .indices
        .iter()
        .copied()
        .zip(sent.values.iter().copied())
        .collect();
    match words.len() == sent.indices.len() {
        true => Ok(words),
        false => Err(wrong("must be unique")),
    }
}

pub(super) fn sent(named: &Named) -> VectorsOutput {
    let output = |vector| VectorOutput {
        vector: Some(vector),
        ..VectorOutput::default()
    };
    let dense = named.dense.iter().map(|(name, data)| {
        let dense = DenseVector { data: data.clone() };
        (name.clone(), output(vector_output::Vector::Dense(dense)))
    });
    let sparse = named.sparse.iter().map(|(name, words)| {
        let sparse = SparseVector {
            indices: words.keys().copied().collect(),
            values: words.values().copied().collect(),
        };
        (name.clone(), output(vector_output::Vector::Sparse(sparse)))
    });
    let vectors = dense.chain(sparse).collect();
    VectorsOutput {
        vectors_options: Some(vectors_output::VectorsOptions::Vectors(
            NamedVectorsOutput { vectors },
        )),
    }
}
