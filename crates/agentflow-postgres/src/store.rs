//! Long-term items in the table of LangGraph's `PostgresStore`.
//!
//! The tenant `default` has the namespaces as Python has them, so Python's store sees its items.
//! The namespaces of every other tenant are below one more label, `@tenant:` and the tenant's
//! name, with every character but letters, digits, `-` and `_` written as `%` and hexadecimal
//! bytes. No label of the tenant `default` may start with `@tenant:`.
//!
//! `jsonb` cannot hold NUL, which Python refuses; here it is written as a private-use character
//! and a zero (see [`escaped`]). `ttl_minutes` is an integer column, so that a read that renews
//! a time to live renews it by whole minutes, rounded up.

use std::collections::BTreeSet;

use agentflow_storage::{
    filter, json,
    store::{Item, ItemQuery, NamespaceQuery, PutItem, Refresh, Store, expiry},
};
use agentflow_types::{Error, Map, Result, Scope, Timestamp, Value};
use async_trait::async_trait;
use indexmap::IndexMap;
use tokio_postgres::Row;

use crate::{
    Postgres,
    checkpoints::json_text,
    column::{Moment, count, get, map, time},
    statement::Statement,
};

/// The tenant whose namespaces have no extra label.
const DEFAULT_TENANT: &str = "default";
const TENANT_LABEL: &str = "@tenant:";
/// Starts an escape.
const ESCAPE: char = '\u{e0af}';
/// Columns of [`read`].
const COLUMNS: &str = "s.prefix, s.key, s.value::text, s.created_at, s.updated_at";

/// The root of a tenant's namespaces: empty, or a label and a dot.
struct Root(String);

impl Root {
    fn of(scope: &Scope) -> Self {
        if scope.tenant() == DEFAULT_TENANT {
            return Self(String::new());
        }
        let mut label = TENANT_LABEL.to_owned();
        for byte in scope.tenant().bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => label.push(byte.into()),
                other => label.push_str(&format!("%{other:02x}")),
            }
        }
        Self(label + ".")
    }

    /// The column `prefix` of a namespace.
    fn prefix(&self, namespace: &[String]) -> Result<String> {
        if self.0.is_empty()
            && namespace
                .first()
                .is_some_and(|label| label.starts_with(TENANT_LABEL))
        {
            return Err(Error::invalid("namespace label is reserved").with("label", &namespace[0]));
        }
        Ok(format!("{}{}", self.0, namespace.join(".")))
    }

    fn namespace(&self, prefix: &str) -> Result<Vec<String>> {
        let own = prefix.strip_prefix(&self.0).ok_or_else(|| {
            Error::bug("an item of another tenant was read").with("prefix", prefix)
        })?;
        Ok(own.split('.').map(str::to_owned).collect())
    }

    /// Adds the condition for namespaces that start with these labels.
    fn below(&self, sql: Statement, labels: &[String]) -> Result<Statement> {
        if !labels.is_empty() {
            let exact = self.prefix(labels)?;
            let below = like(&format!("{exact}."));
            return Ok(sql
                .and("(s.prefix = ", exact, "")
                .and(" OR s.prefix LIKE ", below, ")"));
        }
        Ok(if self.0.is_empty() {
            sql.and("s.prefix NOT LIKE ", like(TENANT_LABEL), "")
        } else {
            sql.and("s.prefix LIKE ", like(&self.0), "")
        })
    }
}

/// A pattern for text that starts with `start`.
fn like(start: &str) -> String {
    let mut pattern = String::with_capacity(start.len() + 1);
    for char in start.chars() {
        if matches!(char, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    pattern.push('%');
    pattern
}

/// Adds the condition for items that are not over.
fn live(sql: Statement, now: Timestamp) -> Statement {
    sql.and(
        " AND (s.expires_at IS NULL OR s.expires_at > ",
        Some(Moment(now)),
        ")",
    )
}

/// The value with every NUL written as the escape character and `0`, and the escape character
/// itself, where what follows it would be taken for an escape, as the escape character twice.
fn escaped(value: &Value) -> Value {
    mapped(value, &|text| {
        let special = |char| char == '\0' || char == ESCAPE;
        text.contains(special).then(|| {
            text.chars().fold(String::new(), |mut out, char| {
                match char {
                    '\0' => out.extend([ESCAPE, '0']),
                    ESCAPE => out.extend([ESCAPE, ESCAPE]),
                    other => out.push(other),
                }
                out
            })
        })
    })
}

/// The inverse of [`escaped`]. What is no escape stays as it is: Python does not know of them.
fn unescaped(value: &Value) -> Value {
    mapped(value, &|text| {
        text.contains(ESCAPE).then(|| {
            let mut out = String::with_capacity(text.len());
            let mut chars = text.chars().peekable();
            while let Some(char) = chars.next() {
                match (char, chars.peek()) {
                    (ESCAPE, Some('0')) => {
                        chars.next();
                        out.push('\0');
                    }
                    (ESCAPE, Some(&ESCAPE)) => {
                        chars.next();
                        out.push(ESCAPE);
                    }
                    (other, _) => out.push(other),
                }
            }
            out
        })
    })
}

/// The value with texts and keys changed where `change` says so.
fn mapped(value: &Value, change: &impl Fn(&str) -> Option<String>) -> Value {
    match value {
        Value::Str(text) => change(text).map_or_else(|| value.clone(), Value::from),
        Value::List(items) => Value::list(items.iter().map(|item| mapped(item, change)).collect()),
        Value::Map(map) => {
            let entry = |(key, value): (&agentflow_types::Str, &Value)| {
                let key = change(key).map_or_else(|| key.clone(), Into::into);
                (key, mapped(value, change))
            };
            Value::map(map.iter().map(entry).collect())
        }
        other => other.clone(),
    }
}

/// JSON of a value as it is stored.
fn stored(value: &Value) -> Result<String> {
    json::text(value)?;
    json_text(&escaped(&filter::normal(value)))
}

fn read(root: &Root, row: &Row) -> Result<Item> {
    let value = unescaped(&Value::map(map(row, 2)?));
    Ok(Item {
        namespace: root.namespace(get(row, 0)?)?,
        key: get(row, 1)?,
        value: value.as_map().cloned().unwrap_or_default(),
        created_at: time(row, 3)?,
        updated_at: time(row, 4)?,
    })
}

/// Makes the statement of a read: with the items that `found` selects, by prefix and key, and
/// their time to live renewed if the read does that.
fn reading(found: Statement, now: Timestamp, refresh: Refresh, order: &str) -> Statement {
    let head = format!("WITH found AS (SELECT {COLUMNS}, s.ttl_minutes FROM store AS s WHERE ");
    let found = found.within(&head, ")");
    let found = match refresh {
        Refresh::No => found,
        Refresh::Yes => found.and(
            ", renewed AS (UPDATE store AS s
                SET expires_at = ",
            Some(Moment(now)),
            " + make_interval(mins => s.ttl_minutes) FROM found AS f
                WHERE s.prefix = f.prefix AND s.key = f.key AND s.ttl_minutes IS NOT NULL)",
        ),
    };
    found.text(&format!(
        " SELECT s.prefix, s.key, s.value, s.created_at, s.updated_at FROM found AS s{order}"
    ))
}

/// Newest first, then by namespace and key, by bytes.
const ORDER: &str = r#" ORDER BY s.updated_at DESC, s.prefix COLLATE "C", s.key COLLATE "C""#;

/// Adds the conditions of a filter. An absent field counts as null; the order operators hold
/// between two numbers, two texts (by code points) or two booleans.
fn filtered(mut sql: Statement, filter: &Map) -> Result<Statement> {
    filter::check_item_filter(filter)?;
    for (field, condition) in filter {
        let Value::Str(field) = escaped(&Value::Str(field.clone())) else {
            continue;
        };
        let operators = match condition {
            Value::Map(map) if map.keys().any(|key| key.starts_with('$')) => map.as_ref().clone(),
            equal => Map::from_iter([("$eq".into(), equal.clone())]),
        };
        for (operator, wanted) in &operators {
            sql = compared(sql, &field, operator, wanted)?;
        }
    }
    Ok(sql)
}

fn compared(sql: Statement, field: &str, operator: &str, wanted: &Value) -> Result<Statement> {
    let field = || field.to_owned();
    let sign = match operator {
        "$eq" | "$ne" => {
            let sign = if operator == "$eq" { "=" } else { "<>" };
            return Ok(sql
                .and(" AND coalesce(s.value -> ", field(), ", 'null'::jsonb)")
                .and(&format!(" {sign} "), stored(wanted)?, "::jsonb"));
        }
        "$gt" => ">",
        "$gte" => ">=",
        "$lt" => "<",
        _ => "<=",
    };
    let wanted = filter::normal(wanted);
    let kind = match &wanted {
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "number",
        Value::Bool(_) => "boolean",
        Value::Str(_) => "string",
        _ => return Ok(sql.text(" AND false")),
    };
    let sql = sql.and(
        " AND jsonb_typeof(s.value -> ",
        field(),
        &format!(") = '{kind}'"),
    );
    Ok(match escaped(&wanted) {
        Value::Str(text) => sql
            .and(" AND (s.value ->> ", field(), r#") COLLATE "C""#)
            .and(&format!(" {sign} "), text.as_ref().to_owned(), ""),
        other => sql.and(" AND s.value -> ", field(), "").and(
            &format!(" {sign} "),
            json_text(&other)?,
            "::jsonb",
        ),
    })
}

/// The columns of a put.
#[derive(Default)]
struct Columns {
    prefixes: Vec<String>,
    keys: Vec<String>,
    values: Vec<String>,
    /// Empty for what lives for ever.
    minutes: Vec<f64>,
    ends: Vec<Moment>,
}

impl Columns {
    fn add(&mut self, now: Timestamp, prefix: String, item: PutItem) -> Result<()> {
        let end = expiry(now, item.ttl_minutes);
        self.prefixes.push(prefix);
        self.keys.push(item.key);
        self.values.push(stored(&Value::map(item.value))?);
        // Rounded up, as far as the column goes; what is no number means for ever.
        let minutes = item.ttl_minutes.filter(|_| end.is_some()).unwrap_or(-1.0);
        self.minutes.push(minutes.ceil().min(f64::from(i32::MAX)));
        self.ends.push(Moment(end.unwrap_or(now)));
        Ok(())
    }
}

/// Stores items, each key once. One whose time is over starts anew.
fn put(now: Timestamp, columns: Columns) -> Statement {
    const SQL: &str = "INSERT INTO store AS s (prefix, key, value, created_at, updated_at,
            expires_at, ttl_minutes)
        SELECT n.prefix, n.key, n.value::jsonb, $1, $1, CASE WHEN n.minutes >= 0 THEN n.ends END,
            CASE WHEN n.minutes >= 0 THEN n.minutes::int END
        FROM unnest($2::text[], $3::text[], $4::text[], $5::float8[], $6::timestamptz[])
            AS n (prefix, key, value, minutes, ends)
        ON CONFLICT (prefix, key) DO UPDATE SET value = excluded.value,
            created_at = CASE WHEN s.expires_at <= $1 THEN $1 ELSE s.created_at END,
            updated_at = excluded.updated_at, expires_at = excluded.expires_at,
            ttl_minutes = excluded.ttl_minutes";
    Statement::new(SQL)
        .bind(Some(Moment(now)))
        .bind(columns.prefixes)
        .bind(columns.keys)
        .bind(columns.values)
        .bind(columns.minutes)
        .bind(columns.ends)
}

#[async_trait]
impl Store for Postgres {
    async fn put(&self, scope: &Scope, now: Timestamp, items: Vec<PutItem>) -> Result<()> {
        let root = Root::of(scope);
        // A statement may not change a row twice; the last put of a key wins.
        let mut by_key: IndexMap<(String, String), PutItem> = IndexMap::new();
        for item in items {
            filter::check_namespace(&item.namespace)?;
            by_key.insert((root.prefix(&item.namespace)?, item.key.clone()), item);
        }
        if by_key.is_empty() {
            return Ok(());
        }
        // In one order for everybody, so that two puts of the same keys do not wait for each
        // other in a circle.
        by_key.sort_unstable_keys();
        let mut columns = Columns::default();
        for ((prefix, _), item) in by_key {
            columns.add(now, prefix, item)?;
        }
        self.write(&put(now, columns)).await.map(drop)
    }

    async fn get(
        &self,
        scope: &Scope,
        now: Timestamp,
        namespace: &[String],
        key: &str,
        refresh: Refresh,
    ) -> Result<Option<Item>> {
        let root = Root::of(scope);
        let sql = Statement::new("")
            .and("s.prefix = ", root.prefix(namespace)?, "")
            .and(" AND s.key = ", key.to_owned(), "");
        // A renewal may be done twice, so that this counts as a read.
        let rows = self
            .read(&reading(live(sql, now), now, refresh, ""))
            .await?;
        rows.first().map(|row| read(&root, row)).transpose()
    }

    async fn delete(&self, scope: &Scope, namespace: &[String], key: &str) -> Result<()> {
        let sql = Statement::new("DELETE FROM store WHERE prefix = $1 AND key = $2")
            .bind(Root::of(scope).prefix(namespace)?)
            .bind(key.to_owned());
        self.write(&sql).await.map(drop)
    }

    async fn search(&self, scope: &Scope, now: Timestamp, query: &ItemQuery) -> Result<Vec<Item>> {
        filter::check_labels(&query.namespace_prefix)?;
        let root = Root::of(scope);
        let sql = root.below(Statement::new(""), &query.namespace_prefix)?;
        let sql = filtered(live(sql, now), &query.filter)?
            .text(ORDER)
            .and(" LIMIT ", i64::from(query.limit), "")
            .and(" OFFSET ", count(query.offset), "");
        let rows = self.read(&reading(sql, now, query.refresh, ORDER)).await?;
        rows.iter().map(|row| read(&root, row)).collect()
    }

    async fn namespaces(
        &self,
        scope: &Scope,
        now: Timestamp,
        query: &NamespaceQuery,
    ) -> Result<Vec<Vec<String>>> {
        filter::check_labels(&query.prefix)?;
        filter::check_labels(&query.suffix)?;
        let root = Root::of(scope);
        // The literal labels before the first star narrow the search in SQL.
        let literal = query.prefix.iter().take_while(|label| *label != "*");
        let sql = Statement::new("SELECT DISTINCT s.prefix FROM store AS s WHERE ");
        let sql = live(root.below(sql, &query.prefix[..literal.count()])?, now);
        let depth = query.max_depth.map_or(usize::MAX, |depth| depth as usize);
        let mut distinct = BTreeSet::new();
        for row in &self.read(&sql).await? {
            let mut namespace = root.namespace(get(row, 0)?)?;
            if filter::namespace_matches(&namespace, &query.prefix, &query.suffix) {
                namespace.truncate(depth);
                distinct.insert(namespace);
            }
        }
        let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
        let page = distinct.into_iter().skip(offset);
        Ok(page.take(query.limit as usize).collect())
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        // Items that somebody renews or sweeps at the moment are left to the next sweep.
        const SQL: &str = "DELETE FROM store WHERE (prefix, key) IN (SELECT prefix, key FROM store
            WHERE expires_at IS NOT NULL AND expires_at <= $1
            ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
        let sql = Statement::new(SQL)
            .bind(Some(Moment(now)))
            .bind(i64::from(limit));
        Ok(self.write(&sql).await?.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        for text in ["", "a\0b", "\u{e0af}", "\u{e0af}0", "\0\u{e0af}\0", "x"] {
            let value = Value::object([(text, Value::from(text))]);
            let stored = escaped(&value);
            assert!(!stored.to_string().contains("\\u0000"));
            assert_eq!(unescaped(&stored), value);
        }
        // What Python wrote without knowing of escapes.
        assert_eq!(unescaped(&"\u{e0af}x".into()), "\u{e0af}x".into());
    }

    #[test]
    fn patterns_are_literal() {
        assert_eq!(like(r"a_b%c\."), r"a\_b\%c\\.%");
    }
}
