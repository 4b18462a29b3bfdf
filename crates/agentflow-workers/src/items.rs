//! Long-term items that workers read and write. See `docs/worker-protocol.md`, section 8.

use agentflow_storage::store::{Item, ItemQuery, NamespaceQuery, PutItem, Refresh};
use agentflow_types::{Clock as _, Result, Scope, SystemClock, Timestamp, Value};

use crate::{
    Services,
    session::Session,
    wire::{items, map_from_json, text, texts, to_json, wrong},
};

/// Most rows of a search that names no limit.
const LIMIT: u32 = 10;

/// Answers `store.batch`.
pub(crate) async fn batch(services: &Services, session: &Session, params: &Value) -> Result<Value> {
    let scope = session.scope()?;
    let now = SystemClock.now();
    let ops = items(params, "ops");
    let mut answers = Vec::with_capacity(ops.len());
    let mut puts: Vec<PutItem> = Vec::new();
    for op in ops {
        if let Some(put) = put_of(op)? {
            puts.push(put);
            answers.push(Value::Null);
            continue;
        }
        flush(services, scope, now, &mut puts).await?;
        answers.push(one(services, scope, now, op).await?);
    }
    flush(services, scope, now, &mut puts).await?;
    Ok(Value::list(answers))
}

/// Stores the puts that gathered, in one transaction.
async fn flush(
    services: &Services,
    scope: &Scope,
    now: Timestamp,
    puts: &mut Vec<PutItem>,
) -> Result<()> {
    match puts.is_empty() {
        true => Ok(()),
        false => services.store.put(scope, now, std::mem::take(puts)).await,
    }
}

/// The put of an op, unless it removes or does something else.
fn put_of(op: &Value) -> Result<Option<PutItem>> {
    let is_put = op.get("op").and_then(Value::as_str) == Some("put");
    if !is_put || op.get("value").is_none_or(Value::is_null) {
        return Ok(None);
    }
    Ok(Some(PutItem {
        namespace: texts(op, "namespace"),
        key: text(op, "key")?,
        value: map_from_json(op.get("value"))?,
        ttl_minutes: op.get("ttl").and_then(Value::as_f64),
    }))
}

async fn one(services: &Services, scope: &Scope, now: Timestamp, op: &Value) -> Result<Value> {
    let store = &services.store;
    match op.get("op").and_then(Value::as_str) {
        Some("get") => {
            let (namespace, key) = (texts(op, "namespace"), text(op, "key")?);
            let found = store.get(scope, now, &namespace, &key, refresh(op)).await?;
            Ok(found.as_ref().map_or(Value::Null, item))
        }
        Some("put") => {
            let (namespace, key) = (texts(op, "namespace"), text(op, "key")?);
            store.delete(scope, &namespace, &key).await?;
            Ok(Value::Null)
        }
        Some("search") => {
            let query = ItemQuery {
                namespace_prefix: texts(op, "namespace_prefix"),
                filter: map_from_json(op.get("filter"))?,
                limit: count(op, "limit").unwrap_or(LIMIT),
                offset: count(op, "offset").unwrap_or(0).into(),
                refresh: refresh(op),
            };
            let found = store.search(scope, now, &query).await?;
            Ok(Value::list(found.iter().map(item).collect()))
        }
        Some("list_namespaces") => {
            let query = NamespaceQuery {
                prefix: texts(op, "prefix"),
                suffix: texts(op, "suffix"),
                max_depth: count(op, "max_depth"),
                limit: count(op, "limit").unwrap_or(LIMIT),
                offset: count(op, "offset").unwrap_or(0).into(),
            };
            let found = store.namespaces(scope, now, &query).await?;
            Ok(Value::list(
                found.iter().map(|labels| words(labels)).collect(),
            ))
        }
        _ => Err(wrong("op")),
    }
}

fn refresh(op: &Value) -> Refresh {
    match op.get("refresh_ttl").and_then(Value::as_bool) {
        Some(false) => Refresh::No,
        _ => Refresh::Yes,
    }
}

fn count(op: &Value, key: &str) -> Option<u32> {
    let count = op.get(key).and_then(Value::as_i64)?;
    Some(u32::try_from(count.max(0)).unwrap_or(u32::MAX))
}

fn words(labels: &[String]) -> Value {
    Value::list(
        labels
            .iter()
            .map(|label| Value::str(label.as_str()))
            .collect(),
    )
}

fn item(item: &Item) -> Value {
    Value::object([
        ("namespace", words(&item.namespace)),
        ("key", Value::str(item.key.as_str())),
        ("value", to_json(&Value::map(item.value.clone()))),
        ("created_at", Value::str(item.created_at.to_string())),
        ("updated_at", Value::str(item.updated_at.to_string())),
        ("score", Value::Null),
    ])
}
