//! Pages of searches: limits, sorting, headers, selection and extraction of fields.

use agentflow_storage::page::{MAX_LIMIT, Order, Page, PageQuery};
use agentflow_types::{Error, Result};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Rows of a page when the client does not say.
pub(crate) const DEFAULT_LIMIT: u32 = 10;
/// Most paths that one search may extract.
const MAX_EXTRACT: usize = 32;
const TOTAL: HeaderName = HeaderName::from_static("x-pagination-total");
const NEXT: HeaderName = HeaderName::from_static("x-pagination-next");

/// Direction of a sort, as clients write it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SortOrder {
    /// Smallest first.
    Asc,
    /// Largest first.
    #[default]
    Desc,
}

/// Checks a limit.
///
/// # Errors
/// `Unprocessable` outside 1 to [`MAX_LIMIT`].
pub(crate) fn limit(given: Option<i64>, default: u32) -> Result<u32> {
    match given {
        None => Ok(default),
        Some(n) if n < 1 => Err(Error::unprocessable(format!(
            "limit: {n} is less than the minimum of 1"
        ))),
        Some(n) => u32::try_from(n)
            .ok()
            .filter(|n| *n <= MAX_LIMIT)
            .ok_or_else(|| {
                Error::unprocessable(format!(
                    "limit: {n} is greater than the maximum of {MAX_LIMIT}"
                ))
            }),
    }
}

/// Checks an offset.
///
/// # Errors
/// `Unprocessable` below zero.
pub(crate) fn offset(given: Option<i64>) -> Result<u64> {
    u64::try_from(given.unwrap_or(0))
        .map_err(|_| Error::unprocessable("offset: must be zero or more"))
}

/// Builds the query for a page; `columns` are those that may be sorted by.
///
/// # Errors
/// `Unprocessable` for a bad limit, offset or column.
pub(crate) fn query(
    given_limit: Option<i64>,
    given_offset: Option<i64>,
    sort_by: Option<String>,
    order: Option<SortOrder>,
    columns: &[&str],
) -> Result<PageQuery> {
    if let Some(column) = sort_by
        .as_deref()
        .filter(|column| !columns.contains(column))
    {
        return Err(Error::unprocessable(format!(
            "sort_by: {column:?} is not one of {}",
            columns.join(", ")
        )));
    }
    Ok(PageQuery {
        limit: limit(given_limit, DEFAULT_LIMIT)?,
        offset: offset(given_offset)?,
        sort_by: sort_by.unwrap_or_else(|| "created_at".into()),
        order: match order.unwrap_or_default() {
            SortOrder::Asc => Order::Ascending,
            SortOrder::Desc => Order::Descending,
        },
    })
}

/// Answers with a page: the rows as a list, the paging in headers.
pub(crate) fn reply<T, W: Serialize>(
    page: Page<T>,
    query: &PageQuery,
    encode: impl FnMut(T) -> Result<W>,
) -> Result<Response> {
    let (total, next) = (page.total, page.next_offset(query));
    let rows: Vec<W> = page.items.into_iter().map(encode).collect::<Result<_>>()?;
    let mut response = Json(rows).into_response();
    response
        .headers_mut()
        .insert(TOTAL, HeaderValue::from(total));
    if let Some(next) = next {
        response.headers_mut().insert(NEXT, HeaderValue::from(next));
    }
    Ok(response)
}

/// A wire object, cut down to the fields that the client selected; no selection means all.
///
/// # Errors
/// `Bug` if it cannot be encoded.
pub(crate) fn select(row: impl Serialize, fields: Option<&[String]>) -> Result<Value> {
    let value = serde_json::to_value(row)
        .map_err(|err| Error::bug("a row cannot be encoded").source_err(err))?;
    Ok(match (value, fields) {
        (Value::Object(map), Some(fields)) => Value::Object(
            map.into_iter()
                .filter(|(key, _)| fields.iter().any(|field| field == key))
                .collect(),
        ),
        (value, _) => value,
    })
}

/// Paths into a thread, by alias.
#[derive(Debug, Default)]
pub(crate) struct Extract(Vec<(String, Vec<Step>)>);

/// One step of a path: a key, or an index that may count from the end.
#[derive(Debug, PartialEq)]
enum Step {
    Key(String),
    Index(i64),
}

impl Extract {
    /// Reads `{alias: "values.messages[-1]"}`.
    ///
    /// # Errors
    /// `Unprocessable` for a path that does not start at a field that may be extracted, or is
    /// not well formed.
    pub(crate) fn parse(paths: indexmap::IndexMap<String, String>) -> Result<Self> {
        if paths.len() > MAX_EXTRACT {
            let text = format!("extract: at most {MAX_EXTRACT} paths are allowed");
            return Err(Error::unprocessable(text));
        }
        let parsed = paths
            .into_iter()
            .map(|(alias, path)| Ok((alias, steps(&path)?)));
        parsed.collect::<Result<_>>().map(Self)
    }

    /// What the paths find in a thread: each alias with its value, or null.
    pub(crate) fn apply(&self, thread: &Value) -> Option<Value> {
        if self.0.is_empty() {
            return None;
        }
        let found = self.0.iter().map(|(alias, steps)| {
            let value = steps.iter().try_fold(thread, |at, step| match step {
                Step::Key(key) => at.get(key),
                Step::Index(index) => {
                    let items = at.as_array()?;
                    let at = match *index {
                        n if n < 0 => items.len().checked_sub(n.unsigned_abs() as usize)?,
                        n => usize::try_from(n).ok()?,
                    };
                    items.get(at)
                }
            });
            (alias.clone(), value.cloned().unwrap_or_default())
        });
        Some(Value::Object(found.collect::<Map<_, _>>()))
    }
}

fn steps(path: &str) -> Result<Vec<Step>> {
    let wrong = || {
        Error::unprocessable(format!(
            "extract: {path:?} must start with values, metadata, config or interrupts, \
             followed by .key and [index]"
        ))
    };
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (key, mut rest) = match part.find('[') {
            Some(at) => part.split_at(at),
            None => (part, ""),
        };
        if key.is_empty() {
            return Err(wrong());
        }
        steps.push(Step::Key(key.to_owned()));
        while !rest.is_empty() {
            let inner = rest.strip_prefix('[').ok_or_else(wrong)?;
            let (index, after) = inner.split_once(']').ok_or_else(wrong)?;
            steps.push(Step::Index(index.parse().map_err(|_| wrong())?));
            rest = after;
        }
    }
    match steps.first() {
        Some(Step::Key(root))
            if ["values", "metadata", "config", "interrupts"].contains(&root.as_str()) =>
        {
            Ok(steps)
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_find_their_values() {
        let thread = json!({"values": {"messages": [{"content": "a"}, {"content": "b"}]}});
        for (path, want) in [
            ("values.messages[-1].content", json!("b")),
            ("values.messages[0].content", json!("a")),
            ("values.messages[-3]", Value::Null),
            ("values.none.deeper", Value::Null),
            ("metadata", Value::Null),
        ] {
            let paths = [("x".to_owned(), path.to_owned())].into();
            let found = Extract::parse(paths).unwrap().apply(&thread);
            assert_eq!(found, Some(json!({"x": want})), "{path}");
        }
        for path in [
            "",
            "thread_id",
            "values[",
            "values[x]",
            "values..a",
            ".values",
        ] {
            assert!(
                Extract::parse([("x".to_owned(), path.to_owned())].into()).is_err(),
                "{path}"
            );
        }
    }

    #[test]
    fn limits_are_checked() {
        assert_eq!(limit(None, 10).unwrap(), 10);
        assert_eq!(
            limit(Some(0), 10).unwrap_err().message(),
            "limit: 0 is less than the minimum of 1"
        );
        assert_eq!(
            limit(Some(9999), 10).unwrap_err().message(),
            "limit: 9999 is greater than the maximum of 1000"
        );
        assert!(offset(Some(-1)).is_err());
        assert!(query(None, None, Some("name; drop".into()), None, &["name"]).is_err());
    }
}
