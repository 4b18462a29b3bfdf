//! The tables of vectors: what is stored, and the image of it.

use std::{collections::BTreeSet, sync::Arc};

use agentflow_storage::{
    condition::Field,
    filter, json,
    vector::{Collection, Kind, Mark, Point, no_collection, taken},
};
use agentflow_types::{Error, Map, Result, Scope, Str, Value};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::{
    blob,
    image::{Added, Change, Image, Removed},
};
use crate::column::{all, bytes, count, execute, first, get, text};

/// Rows of a dropped collection that are removed in one transaction.
const SWEPT: u32 = 2_000;

/// A point as it is stored.
pub(super) struct Stored {
    point: Point,
    version: i64,
    dense: Vec<u8>,
    words: Vec<u8>,
    payload: String,
}

impl Stored {
    /// # Errors
    /// `Invalid` for a payload that is nested too deep.
    pub(super) fn of(point: Point) -> Result<Self> {
        let point = Point {
            payload: filter::normal_map(&point.payload),
            ..point
        };
        Ok(Self {
            version: i64::try_from(point.version).unwrap_or(i64::MAX),
            dense: blob::of_dense(&point.dense),
            words: blob::of_sparse(&point.sparse),
            payload: json::map_text(&point.payload)?,
            point,
        })
    }
}

/// Makes a collection or adds indexed fields to it.
pub(super) fn ensure(db: &Connection, collection: &Collection) -> Result<Vec<Change>> {
    let sql = "SELECT collection_id, shape FROM agentflow_vector_collections WHERE name = ?1";
    let found = first(db, sql, [&collection.name], |row| {
        Ok((get::<i64>(row, 0)?, shape(&collection.name, row, 1)?))
    })?;
    let (collection_id, shape) = match found {
        None => {
            let sql = "INSERT INTO agentflow_vector_collections (name, shape) VALUES (?1, ?2)";
            execute(db, sql, params![collection.name, shape_text(collection)?])?;
            (db.last_insert_rowid(), collection.clone())
        }
        Some((_, shape)) if !shape.has_vectors_of(collection) => {
            return Err(Error::conflict("the collection exists with other vectors")
                .with("collection", &collection.name));
        }
        Some((collection_id, mut shape)) => {
            shape.check_kinds(collection)?;
            let fields = collection.indexed.iter();
            shape
                .indexed
                .extend(fields.map(|(field, kind)| (field.clone(), *kind)));
            let sql = "UPDATE agentflow_vector_collections SET shape = ?2 WHERE collection_id = ?1";
            execute(db, sql, params![collection_id, shape_text(&shape)?])?;
            (collection_id, shape)
        }
    };
    Ok(vec![Change::Ensured {
        collection_id,
        shape,
    }])
}

/// Removes a collection; its points are nobody's from then on, until [`sweep`] removes them.
pub(super) fn drop_collection(db: &Connection, name: &str) -> Result<Vec<Change>> {
    let sql = "DELETE FROM agentflow_vector_collections WHERE name = ?1 RETURNING collection_id";
    let dropped = |row: &Row<'_>| {
        Ok(Change::Dropped {
            collection_id: get(row, 0)?,
        })
    };
    all(db, sql, [name], dropped)
}

/// Removes some points of a collection that is gone; how many.
pub(super) fn sweep(db: &Connection, collection_id: i64) -> Result<usize> {
    let some = "SELECT number FROM agentflow_points WHERE collection_id = ?1
        ORDER BY point_id LIMIT ?2";
    let sql = format!("DELETE FROM agentflow_point_vectors WHERE number IN ({some})");
    execute(db, &sql, params![collection_id, SWEPT])?;
    let sql = format!("DELETE FROM agentflow_points WHERE number IN ({some})");
    execute(db, &sql, params![collection_id, SWEPT])
}

/// Stores points that belong into the collection.
pub(super) fn upsert(
    db: &Connection,
    collection: (i64, &str),
    tenant: &Arc<str>,
    points: Vec<Stored>,
) -> Result<Vec<Change>> {
    let (collection_id, name) = collection;
    check_is_there(db, collection_id, name)?;
    let mut changes = Vec::with_capacity(points.len());
    for stored in points {
        let sql = "SELECT number, tenant, version, words FROM agentflow_points
            WHERE collection_id = ?1 AND point_id = ?2";
        let id = stored.point.id;
        let old = first(db, sql, params![collection_id, id.to_string()], |row| {
            if text(row, 1)? != &**tenant {
                return Err(taken(id));
            }
            let removed = removed(collection_id, tenant, id, (row, 0), (row, 3))?;
            Ok((removed, get::<i64>(row, 2)?))
        })?;
        if let Some((old, version)) = old {
            if version > stored.version {
                continue;
            }
            remove(db, old.number)?;
            changes.push(Change::Removed(old));
        }
        changes.push(Change::Added(insert(db, collection_id, tenant, stored)?));
    }
    Ok(changes)
}

fn insert(db: &Connection, collection_id: i64, tenant: &Arc<str>, stored: Stored) -> Result<Added> {
    let sql = "INSERT INTO agentflow_points
            (collection_id, point_id, tenant, version, words, payload)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let values = params![
        collection_id,
        stored.point.id.to_string(),
        &**tenant,
        stored.version,
        stored.words,
        stored.payload,
    ];
    execute(db, sql, values)?;
    let number = db.last_insert_rowid();
    if !stored.dense.is_empty() {
        let sql = "INSERT INTO agentflow_point_vectors (number, vectors) VALUES (?1, ?2)";
        execute(db, sql, params![number, stored.dense])?;
    }
    Ok(Added {
        collection_id,
        tenant: tenant.clone(),
        number: number.unsigned_abs(),
        point: stored.point,
        text: stored.payload.into_bytes().into_boxed_slice(),
    })
}

/// Removes points by id.
pub(super) fn delete(
    db: &Connection,
    collection: (i64, &str),
    tenant: &Arc<str>,
    ids: &[Uuid],
) -> Result<Vec<Change>> {
    let (collection_id, name) = collection;
    check_is_there(db, collection_id, name)?;
    let mut changes = Vec::new();
    for id in ids {
        let sql = "SELECT number, words FROM agentflow_points
            WHERE collection_id = ?1 AND point_id = ?2 AND tenant = ?3";
        let key = params![collection_id, id.to_string(), &**tenant];
        let old = first(db, sql, key, |row| {
            removed(collection_id, tenant, *id, (row, 0), (row, 1))
        })?;
        if let Some(old) = old {
            remove(db, old.number)?;
            changes.push(Change::Removed(old));
        }
    }
    Ok(changes)
}

/// Removes rows; those that are gone already are fine.
pub(super) fn delete_rows(
    db: &Connection,
    collection_id: i64,
    tenant: &Arc<str>,
    rows: &[(Uuid, u64)],
) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for (id, number) in rows {
        let sql = "SELECT number, words FROM agentflow_points WHERE number = ?1";
        let old = first(db, sql, [number.cast_signed()], |row| {
            removed(collection_id, tenant, *id, (row, 0), (row, 1))
        })?;
        if let Some(old) = old {
            remove(db, old.number)?;
            changes.push(Change::Removed(old));
        }
    }
    Ok(changes)
}

/// What goes with the row whose number and words are in these columns.
fn removed(
    collection_id: i64,
    tenant: &Arc<str>,
    id: Uuid,
    number: (&Row<'_>, usize),
    words: (&Row<'_>, usize),
) -> Result<Removed> {
    Ok(Removed {
        collection_id,
        tenant: tenant.clone(),
        id,
        number: get::<i64>(number.0, number.1)?.unsigned_abs(),
        words: blob::sparse(bytes(words.0, words.1)?)?,
    })
}

fn remove(db: &Connection, number: u64) -> Result<()> {
    let number = [number.cast_signed()];
    execute(db, "DELETE FROM agentflow_points WHERE number = ?1", number)?;
    let sql = "DELETE FROM agentflow_point_vectors WHERE number = ?1";
    execute(db, sql, number).map(drop)
}

fn check_is_there(db: &Connection, collection_id: i64, name: &str) -> Result<()> {
    let sql = "SELECT count(*) FROM agentflow_vector_collections WHERE collection_id = ?1";
    match count(db, sql, [collection_id])? {
        0 => Err(no_collection(name)),
        _ => Ok(()),
    }
}

const POINT: &str = "SELECT p.point_id, p.version, p.words, p.payload, v.vectors, p.number,
        p.collection_id, p.tenant
    FROM agentflow_points AS p
    LEFT JOIN agentflow_point_vectors AS v ON v.number = p.number";

fn point(row: &Row<'_>) -> Result<Point> {
    let id = Uuid::parse_str(text(row, 0)?)
        .map_err(|err| Error::corrupt("a stored id is not one").source_err(err))?;
    Ok(Point {
        id,
        version: get::<i64>(row, 1)?.unsigned_abs(),
        sparse: blob::sparse(bytes(row, 2)?)?,
        payload: json::parse_map(bytes(row, 3)?)?,
        dense: blob::dense(bytes(row, 4)?)?,
    })
}

/// The points with these ids that are the tenant's.
pub(super) fn by_id(
    db: &Connection,
    collection_id: i64,
    scope: &Scope,
    ids: &BTreeSet<Uuid>,
) -> Result<Vec<Point>> {
    let sql = format!("{POINT} WHERE p.collection_id = ?1 AND p.point_id = ?2 AND p.tenant = ?3");
    let mut points = Vec::new();
    for id in ids {
        let key = params![collection_id, id.to_string(), scope.tenant()];
        points.extend(first(db, &sql, key, point)?);
    }
    Ok(points)
}

/// The points of these rows that are still there.
pub(super) fn by_row(db: &Connection, rows: &[(Uuid, u64)]) -> Result<Vec<Point>> {
    let sql = format!("{POINT} WHERE p.number = ?1");
    let mut points = Vec::new();
    for (_, number) in rows {
        points.extend(first(db, &sql, [number.cast_signed()], point)?);
    }
    Ok(points)
}

/// All points, by id.
pub(super) fn marks(
    db: &Connection,
    collection_id: i64,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<Mark>> {
    let sql = "SELECT tenant, point_id, version FROM agentflow_points
        WHERE collection_id = ?1 AND point_id > ?2 ORDER BY point_id LIMIT ?3";
    let after = after.map(|id| id.to_string()).unwrap_or_default();
    all(db, sql, params![collection_id, after, limit], |row| {
        let id = Uuid::parse_str(text(row, 1)?)
            .map_err(|err| Error::corrupt("a stored id is not one").source_err(err))?;
        Ok(Mark {
            tenant: text(row, 0)?.to_owned(),
            id,
            version: get::<i64>(row, 2)?.unsigned_abs(),
        })
    })
}

/// All that is stored, and the collections that are gone while points of them are left.
pub(super) fn load(db: &Connection) -> Result<(Image, BTreeSet<i64>)> {
    let mut image = Image::default();
    let sql = "SELECT collection_id, name, shape FROM agentflow_vector_collections";
    let ensured = all(db, sql, [], |row| {
        Ok(Change::Ensured {
            collection_id: get(row, 0)?,
            shape: shape(text(row, 1)?, row, 2)?,
        })
    })?;
    ensured
        .into_iter()
        .try_for_each(|change| image.apply(change))?;
    let mut gone = BTreeSet::new();
    let mut tenants: BTreeSet<Arc<str>> = BTreeSet::new();
    all(db, &format!("{POINT} ORDER BY p.number"), [], |row| {
        let collection_id: i64 = get(row, 6)?;
        if !image.has(collection_id) {
            gone.insert(collection_id);
            return Ok(());
        }
        let name = text(row, 7)?;
        let tenant = match tenants.get(name) {
            Some(tenant) => tenant.clone(),
            None => {
                let tenant: Arc<str> = name.into();
                tenants.insert(tenant.clone());
                tenant
            }
        };
        image.apply(Change::Added(Added {
            collection_id,
            tenant,
            number: get::<i64>(row, 5)?.unsigned_abs(),
            point: point(row)?,
            text: bytes(row, 3)?.into(),
        }))
    })?;
    Ok((image, gone))
}

const KINDS: [(&str, Kind); 4] = [
    ("text", Kind::Text),
    ("number", Kind::Number),
    ("bool", Kind::Bool),
    ("moment", Kind::Moment),
];

/// A collection's vectors and indexed fields as JSON.
fn shape_text(collection: &Collection) -> Result<String> {
    let dense = collection.dense.iter();
    let dense = dense.map(|(name, dimension)| (name.as_str(), Value::Int((*dimension).into())));
    let sparse = collection.sparse.iter();
    let sparse = sparse.map(|name| Value::str(name.as_str()));
    let indexed = collection.indexed.iter().map(|(field, kind)| {
        let keys = field.keys().iter().cloned().map(Value::Str);
        let word = KINDS.iter().find(|(_, k)| k == kind).map(|(word, _)| *word);
        Value::object([
            ("field", Value::list(keys.collect())),
            ("kind", word.map_or(Value::Null, Value::str)),
        ])
    });
    json::text(&Value::object([
        ("dense", Value::object(dense)),
        ("sparse", Value::list(sparse.collect())),
        ("indexed", Value::list(indexed.collect())),
    ]))
}

fn shape(name: &str, row: &Row<'_>, index: usize) -> Result<Collection> {
    let shape = json::parse_map(bytes(row, index)?)?;
    read_shape(name, &shape)
        .ok_or_else(|| Error::corrupt("a stored collection is damaged").with("collection", name))
}

fn read_shape(name: &str, shape: &Map) -> Option<Collection> {
    let texts = |value: &Value| -> Option<Vec<Str>> {
        let texts = value.as_list()?.iter();
        texts.map(|text| text.as_str().map(Str::from)).collect()
    };
    let dense = shape.get("dense")?.as_map()?.iter();
    let dense = dense.map(|(name, dimension)| {
        let dimension = u32::try_from(dimension.as_i64()?).ok()?;
        Some((name.to_string(), dimension))
    });
    let indexed = shape.get("indexed")?.as_list()?.iter().map(|entry| {
        let keys = texts(entry.get("field")?)?;
        let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let word = entry.get("kind")?.as_str()?;
        let (_, kind) = KINDS.iter().find(|(known, _)| *known == word)?;
        Some((Field::within(&keys), *kind))
    });
    let sparse = texts(shape.get("sparse")?)?;
    Some(Collection {
        name: name.to_owned(),
        dense: dense.collect::<Option<_>>()?,
        sparse: sparse.iter().map(ToString::to_string).collect(),
        indexed: indexed.collect::<Option<_>>()?,
    })
}
