//! Collections as Qdrant describes them.

use std::collections::{BTreeMap, HashMap};

use agentflow_storage::{
    condition::Field,
    vector::{Collection, Kind},
};
use agentflow_types::{Error, Result};
use qdrant_client::qdrant::{
    CollectionInfo, CreateCollection, CreateFieldIndexCollection, Distance, FieldType,
    HnswConfigDiff, IntegerIndexParams, KeywordIndexParams, Modifier, PayloadIndexParams,
    PayloadSchemaInfo, PayloadSchemaType, SparseVectorConfig, SparseVectorParams, VectorParams,
    VectorParamsMap, VectorsConfig, payload_index_params::IndexParams, vectors_config,
};

use crate::payload::{MAX_NESTING, PAYLOAD, TENANT, VERSION};

/// Links of a point to others of its tenant in the graph of dense vectors.
const LINKS: u64 = 16;

/// The path of a field; none if Qdrant cannot write it.
pub(crate) fn path(field: &Field) -> Option<String> {
    let keys = field.keys();
    // What is nested deeper is folded.
    if keys.is_empty() || keys.len() > MAX_NESTING {
        return None;
    }
    let mut path = PAYLOAD.to_owned();
    for key in keys {
        if key.contains(['"', '\\']) {
            return None;
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        match !key.is_empty() && key.chars().all(is_plain) {
            true => path = format!("{path}.{key}"),
            false => path = format!("{path}.\"{key}\""),
        }
    }
    Some(path)
}

/// The field of a path below the payload.
fn field(path: &str) -> Option<Field> {
    let mut rest = path.strip_prefix(PAYLOAD)?;
    let mut keys = Vec::new();
    while let Some(after) = rest.strip_prefix('.') {
        let (key, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(['.', '[']).unwrap_or(after.len())),
        };
        keys.push(key);
        rest = next;
    }
    (rest.is_empty() && !keys.is_empty()).then(|| Field::within(&keys))
}

/// The request that makes a collection.
pub(crate) fn create(name: String, shape: &Collection) -> CreateCollection {
    let dense = shape.dense.iter().map(|(name, dimension)| {
        let params = VectorParams {
            size: u64::from(*dimension),
            distance: Distance::Cosine.into(),
            ..VectorParams::default()
        };
        (name.clone(), params)
    });
    let map: HashMap<_, _> = dense.collect();
    let sparse = shape.sparse.iter().map(|name| {
        let params = SparseVectorParams {
            modifier: Some(Modifier::Idf.into()),
            ..SparseVectorParams::default()
        };
        (name.clone(), params)
    });
    let sparse: HashMap<_, _> = sparse.collect();
    CreateCollection {
        collection_name: name,
        // All searches are of one tenant, so links lead within tenants only.
        hnsw_config: Some(HnswConfigDiff {
            m: Some(0),
            payload_m: Some(LINKS),
            ..HnswConfigDiff::default()
        }),
        vectors_config: (!map.is_empty()).then_some(VectorsConfig {
            config: Some(vectors_config::Config::ParamsMap(VectorParamsMap { map })),
        }),
        sparse_vectors_config: (!sparse.is_empty()).then_some(SparseVectorConfig { map: sparse }),
        ..CreateCollection::default()
    }
}

/// Requests that index what the collection on the server does not index yet.
///
/// # Errors
/// `Invalid` for a field that Qdrant cannot name.
pub(crate) fn indexes(
    name: &str,
    shape: &Collection,
    there: &HashMap<String, PayloadSchemaInfo>,
) -> Result<Vec<CreateFieldIndexCollection>> {
    let request = |field_name: &str, kind: FieldType, params: Option<IndexParams>| {
        CreateFieldIndexCollection {
            collection_name: name.to_owned(),
            wait: Some(true),
            field_name: field_name.to_owned(),
            field_type: Some(kind.into()),
            field_index_params: params.map(|params| PayloadIndexParams {
                index_params: Some(params),
            }),
            ..CreateFieldIndexCollection::default()
        }
    };
    let tenant = IndexParams::KeywordIndexParams(KeywordIndexParams {
        is_tenant: Some(true),
        ..KeywordIndexParams::default()
    });
    // Versions are compared, never looked up.
    let version = IndexParams::IntegerIndexParams(IntegerIndexParams {
        lookup: Some(false),
        range: Some(true),
        ..IntegerIndexParams::default()
    });
    let mut requests = vec![
        request(TENANT, FieldType::Keyword, Some(tenant)),
        request(VERSION, FieldType::Integer, Some(version)),
    ];
    requests.retain(|request| !there.contains_key(&request.field_name));
    let known: Vec<Field> = there.keys().filter_map(|path| field(path)).collect();
    for (field, kind) in &shape.indexed {
        if known.contains(field) {
            continue;
        }
        let path = path(field).ok_or_else(|| {
            Error::invalid("Qdrant cannot index a field of this name").with("field", field)
        })?;
        requests.push(request(&path, field_type(*kind), None));
    }
    Ok(requests)
}

fn field_type(kind: Kind) -> FieldType {
    match kind {
        Kind::Text => FieldType::Keyword,
        Kind::Number => FieldType::Float,
        Kind::Bool => FieldType::Bool,
        Kind::Moment => FieldType::Datetime,
    }
}

/// The collection that the server describes.
///
/// # Errors
/// `Conflict` if it has vectors that are not as ours are.
pub(crate) fn read(name: &str, info: &CollectionInfo) -> Result<Collection> {
    let other = |what: &'static str| {
        Error::conflict("the collection in Qdrant was not made for this")
            .with("collection", name)
            .with("found", what)
    };
    let params = info.config.as_ref().and_then(|c| c.params.as_ref());
    let vectors = params.and_then(|p| p.vectors_config.as_ref());
    let mut dense = BTreeMap::new();
    match vectors.and_then(|vectors| vectors.config.as_ref()) {
        None => {}
        Some(vectors_config::Config::Params(_)) => return Err(other("a vector without a name")),
        Some(vectors_config::Config::ParamsMap(params)) => {
            for (name, params) in &params.map {
                if params.distance() != Distance::Cosine || params.multivector_config.is_some() {
                    return Err(other("a vector that is not compared by cosine"));
                }
                let dimension = u32::try_from(params.size).unwrap_or(u32::MAX);
                dense.insert(name.clone(), dimension);
            }
        }
    }
    let sparse = params.and_then(|p| p.sparse_vectors_config.as_ref());
    let sparse = sparse.into_iter().flat_map(|config| &config.map);
    let sparse = sparse
        .map(|(name, params)| match params.modifier() {
            Modifier::Idf => Ok(name.clone()),
            Modifier::None => Err(other("a sparse vector without the modifier idf")),
        })
        .collect::<Result<_>>()?;
    let indexed = info.payload_schema.iter().filter_map(|(path, info)| {
        let kind = match info.data_type() {
            PayloadSchemaType::Keyword => Kind::Text,
            PayloadSchemaType::Float => Kind::Number,
            PayloadSchemaType::Bool => Kind::Bool,
            PayloadSchemaType::Datetime => Kind::Moment,
            _ => return None,
        };
        Some((field(path)?, kind))
    });
    Ok(Collection {
        name: name.to_owned(),
        dense,
        sparse,
        indexed: indexed.collect(),
    })
}
