//! Reading columns of records into domain types, and back.

use std::error::Error as StdError;

use agentflow_storage::{
    json,
    page::{Order, PageQuery},
};
use agentflow_types::{Error, Map, Result, Timestamp, Value};
use bytes::{BufMut, BytesMut};
use serde::{Serialize, de::DeserializeOwned, de::value::StrDeserializer};
use tokio_postgres::{
    Row,
    types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked},
};

/// Microseconds from the epoch of timestamps (1970) to the one of PostgreSQL (2000).
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A moment as `timestamptz`: operators read it, and it has exactly our microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moment(pub(crate) Timestamp);

impl ToSql for Moment {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn StdError + Sync + Send>> {
        // The smallest number would be minus infinity; what else lies before PostgreSQL's calendar
        // is refused by the server.
        let micros = self.0.0.checked_sub(EPOCH_MICROS);
        let micros = micros.filter(|micros| *micros > i64::MIN);
        out.put_i64(micros.ok_or("the time is too long ago")?);
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Moment {
    fn from_sql(
        _: &Type,
        raw: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn StdError + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(Timestamp(micros.saturating_add(EPOCH_MICROS))))
    }

    accepts!(TIMESTAMPTZ);
}

/// A column as PostgreSQL holds it.
pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(|err| {
        Error::corrupt("a stored column has an unexpected content")
            .with("column", index)
            .source_err(err)
    })
}

/// An id.
pub(crate) fn id<T: From<uuid::Uuid>>(row: &Row, index: usize) -> Result<T> {
    get::<uuid::Uuid>(row, index).map(T::from)
}

/// An id that may be absent.
pub(crate) fn some_id<T: From<uuid::Uuid>>(row: &Row, index: usize) -> Result<Option<T>> {
    Ok(get::<Option<uuid::Uuid>>(row, index)?.map(T::from))
}

/// A moment.
pub(crate) fn time(row: &Row, index: usize) -> Result<Timestamp> {
    get::<Moment>(row, index).map(|moment| moment.0)
}

/// A moment that may be absent.
pub(crate) fn some_time(row: &Row, index: usize) -> Result<Option<Timestamp>> {
    Ok(get::<Option<Moment>>(row, index)?.map(|moment| moment.0))
}

/// A JSON object.
pub(crate) fn map(row: &Row, index: usize) -> Result<Map> {
    json::parse_map(get::<&str>(row, index)?.as_bytes())
}

/// Any JSON; null if the column is.
pub(crate) fn value(row: &Row, index: usize) -> Result<Value> {
    match get::<Option<&str>>(row, index)? {
        None => Ok(Value::Null),
        Some(text) => json::parse(text.as_bytes()),
    }
}

/// A number that is never negative.
pub(crate) fn unsigned(row: &Row, index: usize) -> Result<u64> {
    get::<i64>(row, index).map(i64::unsigned_abs)
}

/// One of the words of an enum.
pub(crate) fn word<T: DeserializeOwned>(row: &Row, index: usize) -> Result<T> {
    parse_word(get(row, index)?)
}

/// One of the words of an enum, or nothing.
pub(crate) fn some_word<T: DeserializeOwned>(row: &Row, index: usize) -> Result<Option<T>> {
    get::<Option<&str>>(row, index)?.map(parse_word).transpose()
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

/// A number of rows or a position, as PostgreSQL counts.
pub(crate) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// `ORDER BY … LIMIT … OFFSET …` of a page. The sort column was checked against the port's list;
/// ties are broken by `key` in the same direction. Columns of `nullable` sort what is absent as
/// smallest; for others nothing is said, so that an index can serve.
pub(crate) fn order(page: &PageQuery, key: &str, nullable: &[&str]) -> String {
    let (column, limit) = (&page.sort_by, page.limit);
    let absent = nullable.contains(&column.as_str());
    let (direction, nulls) = match (page.order, absent) {
        (Order::Ascending, false) => ("ASC", ""),
        (Order::Descending, false) => ("DESC", ""),
        (Order::Ascending, true) => ("ASC", " NULLS FIRST"),
        (Order::Descending, true) => ("DESC", " NULLS LAST"),
    };
    let by_key = if column == key {
        String::new()
    } else {
        format!(", {key} {direction}")
    };
    let offset = count(page.offset);
    format!(" ORDER BY {column} {direction}{nulls}{by_key} LIMIT {limit} OFFSET {offset}")
}
