//! SQL functions, so that paging stays in SQL while the conditions are the shared ones.

use std::sync::Arc;

use agentflow_storage::{filter, json};
use agentflow_types::{Error, Map, Value};
use rusqlite::{
    Connection,
    functions::{Context, FunctionFlags},
    types::ValueRef,
};

/// How the message of a function begins when the stored text is not what it should be.
pub(crate) const DAMAGED: &str = "damaged column";

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Registers `agentflow_contains(json, part)` (JSON containment), `agentflow_has(json, entries)`
/// (equal entries), `agentflow_item(json, filter)` (store filter), `agentflow_run_id(json)` and
/// `agentflow_has_text(text, part)` (upper and lower case alike).
pub(crate) fn register(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("agentflow_contains", 2, flags, |ctx| {
        let whole = json::parse(bytes(ctx, 0)).map_err(damaged)?;
        let part = wanted(ctx)?;
        Ok(whole
            .as_map()
            .is_some_and(|whole| filter::contains_map(whole, &part)))
    })?;
    connection.create_scalar_function("agentflow_has", 2, flags, |ctx| {
        let whole = json::parse_map(bytes(ctx, 0)).map_err(damaged)?;
        Ok(filter::has_entries(&whole, &*wanted(ctx)?))
    })?;
    connection.create_scalar_function("agentflow_item", 2, flags, |ctx| {
        let whole = json::parse_map(bytes(ctx, 0)).map_err(damaged)?;
        Ok(filter::item_matches(&whole, &*wanted(ctx)?))
    })?;
    connection.create_scalar_function("agentflow_run_id", 1, flags, |ctx| {
        let metadata = json::parse_map(bytes(ctx, 0)).map_err(damaged)?;
        Ok(metadata
            .get("run_id")
            .and_then(Value::as_str)
            .map(str::to_owned))
    })?;
    connection.create_scalar_function("agentflow_has_text", 2, flags, |ctx| {
        let text = ctx.get::<String>(0)?.to_lowercase();
        Ok(text.contains(&ctx.get::<String>(1)?.to_lowercase()))
    })
}

/// Text or blob; Python writes JSON as either. Null is empty.
fn bytes<'a>(ctx: &'a Context<'_>, index: usize) -> &'a [u8] {
    match ctx.get_raw(index) {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        _ => b"null",
    }
}

/// The second argument, parsed once per statement.
fn wanted(ctx: &Context<'_>) -> rusqlite::Result<Arc<Map>> {
    ctx.get_or_create_aux(1, |value| -> Result<Map, AnyError> {
        Ok(json::parse_map(value.as_bytes()?)?)
    })
}

fn damaged(err: Error) -> rusqlite::Error {
    rusqlite::Error::UserFunctionError(format!("{DAMAGED}: {err}").into())
}
