//! Reading rows into domain types, and back.

use std::str::FromStr;

use agentflow_storage::{
    json,
    page::{Order, Page, PageQuery},
};
use agentflow_types::{Error, Map, Result, Timestamp, Value};
use rusqlite::{Connection, Params, Row, params_from_iter, types::FromSql};
use serde::{Serialize, de::DeserializeOwned, de::value::StrDeserializer};

use crate::error;

/// All rows of a query.
pub(crate) fn all<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut statement = db.prepare_cached(sql).map_err(error::from)?;
    let mut rows = statement.query(params).map_err(error::from)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(error::from)? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// One page of the rows that match, and how many match in all.
///
/// `from` is the rest of the query from the word `FROM` on, without the order; `order` is what
/// [`order`] gives.
pub(crate) fn page<T>(
    db: &Connection,
    columns: &str,
    from: &str,
    order: &str,
    values: &[rusqlite::types::Value],
    read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Page<T>> {
    let rows = format!("SELECT {columns} {from}{order}");
    let items = all(db, &rows, params_from_iter(values), read)?;
    let sql = format!("SELECT count(*) {from}");
    let total = count(db, &sql, params_from_iter(values))?;
    Ok(Page { items, total })
}

/// The first row of a query.
pub(crate) fn first<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let mut statement = db.prepare_cached(sql).map_err(error::from)?;
    let mut rows = statement.query(params).map_err(error::from)?;
    rows.next().map_err(error::from)?.map(read).transpose()
}

/// The number that a query returns.
pub(crate) fn count(db: &Connection, sql: &str, params: impl Params) -> Result<u64> {
    let count: Option<i64> = first(db, sql, params, |row| get(row, 0))?;
    Ok(count.map_or(0, i64::unsigned_abs))
}

/// Runs a statement; returns how many rows it changed.
pub(crate) fn execute(db: &Connection, sql: &str, params: impl Params) -> Result<usize> {
    let mut statement = db.prepare_cached(sql).map_err(error::from)?;
    statement.execute(params).map_err(error::from)
}

/// A column as SQLite holds it.
pub(crate) fn get<T: FromSql>(row: &Row<'_>, index: usize) -> Result<T> {
    row.get(index).map_err(error::from)
}

/// An id.
pub(crate) fn id<T: FromStr<Err = Error>>(row: &Row<'_>, index: usize) -> Result<T> {
    text(row, index)?
        .parse()
        .map_err(|err: Error| Error::corrupt("a stored id is not one").source_err(err))
}

/// An id that may be absent.
pub(crate) fn some_id<T: FromStr<Err = Error>>(row: &Row<'_>, index: usize) -> Result<Option<T>> {
    let absent = row.get_ref(index).map_err(error::from)? == rusqlite::types::ValueRef::Null;
    if absent {
        Ok(None)
    } else {
        id(row, index).map(Some)
    }
}

/// Text without copying it.
pub(crate) fn text<'a>(row: &'a Row<'_>, index: usize) -> Result<&'a str> {
    let column = row.get_ref(index).map_err(error::from)?;
    column.as_str().map_err(|_| unexpected(index))
}

/// Text or blob without copying it; empty if null.
pub(crate) fn bytes<'a>(row: &'a Row<'_>, index: usize) -> Result<&'a [u8]> {
    let column = row.get_ref(index).map_err(error::from)?;
    Ok(column
        .as_bytes_or_null()
        .map_err(|_| unexpected(index))?
        .unwrap_or_default())
}

fn unexpected(index: usize) -> Error {
    Error::corrupt("a stored column has an unexpected content").with("column", index)
}

/// A moment.
pub(crate) fn time(row: &Row<'_>, index: usize) -> Result<Timestamp> {
    get(row, index).map(Timestamp)
}

/// A moment that may be absent.
pub(crate) fn some_time(row: &Row<'_>, index: usize) -> Result<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, index)?.map(Timestamp))
}

/// A JSON object.
pub(crate) fn map(row: &Row<'_>, index: usize) -> Result<Map> {
    json::parse_map(bytes(row, index)?)
}

/// Any JSON.
pub(crate) fn value(row: &Row<'_>, index: usize) -> Result<Value> {
    json::parse(bytes(row, index)?)
}

/// One of the words of an enum.
pub(crate) fn word<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> Result<T> {
    parse_word(text(row, index)?)
}

/// One of the words of an enum, or nothing.
pub(crate) fn some_word<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> Result<Option<T>> {
    let word: Option<String> = get(row, index)?;
    word.map(|word| parse_word(&word)).transpose()
}

fn parse_word<T: DeserializeOwned>(word: &str) -> Result<T> {
    T::deserialize(StrDeserializer::<serde::de::value::Error>::new(word))
        .map_err(|_| Error::corrupt("a stored word is unknown").with("word", word))
}

/// The word of an enum without content.
pub(crate) fn to_word(word: &impl Serialize) -> Result<String> {
    let word = agentflow_types::to_value(word)?;
    word.as_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::bug("a word is not text"))
}

/// `ORDER BY … LIMIT … OFFSET …` of a page. The sort column was checked against the port's list;
/// ties are broken by `key` in the same direction, so that an index serves both.
pub(crate) fn order(page: &PageQuery, key: &str) -> String {
    let direction = match page.order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    };
    let offset = i64::try_from(page.offset).unwrap_or(i64::MAX);
    let (column, limit) = (&page.sort_by, page.limit);
    let by_key = if column == key {
        String::new()
    } else {
        format!(", {key} {direction}")
    };
    format!(" ORDER BY {column} {direction}{by_key} LIMIT {limit} OFFSET {offset}")
}
