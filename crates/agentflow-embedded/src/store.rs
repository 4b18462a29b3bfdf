//! Long-term items in the table of LangGraph's `SqliteStore`.
//!
//! The tenant `default` has the namespaces as Python has them, so Python's store sees its items.
//! The namespaces of every other tenant are below one more label, `@tenant:` and the tenant's
//! name, with every character but letters, digits, `-` and `_` written as `%` and hexadecimal
//! bytes. No label of the tenant `default` may start with `@tenant:`.
//!
//! Times are UTC text as SQLite's `CURRENT_TIMESTAMP` writes it, with microseconds.

use agentflow_storage::{
    filter, json,
    store::{Item, ItemQuery, NamespaceQuery, PutItem, Refresh, Store, expiry},
};
use agentflow_types::{Error, Result, Scope, Timestamp};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params, params_from_iter, types::Value as Sql};

use crate::{
    Embedded,
    column::{all, execute, first, get, map, text},
};

/// The tenant whose namespaces have no extra label.
const DEFAULT_TENANT: &str = "default";
const TENANT_LABEL: &str = "@tenant:";
/// Live items: those without an end, and those whose end is to come.
const LIVE: &str = "(expires_at IS NULL OR expires_at > ?)";

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
                .is_some_and(|l| l.starts_with(TENANT_LABEL))
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

    /// SQL condition and its values for namespaces that start with these labels.
    fn below(&self, labels: &[String]) -> Result<(String, Vec<Sql>)> {
        if !labels.is_empty() {
            let exact = self.prefix(labels)?;
            let below = glob(&format!("{exact}."));
            return Ok((
                "(prefix = ? OR prefix GLOB ?)".into(),
                vec![exact.into(), below.into()],
            ));
        }
        if self.0.is_empty() {
            return Ok(("prefix NOT GLOB ?".into(), vec![glob(TENANT_LABEL).into()]));
        }
        Ok(("prefix GLOB ?".into(), vec![glob(&self.0).into()]))
    }
}

/// A pattern for text that starts with `start`.
fn glob(start: &str) -> String {
    let mut pattern = String::with_capacity(start.len() + 1);
    for char in start.chars() {
        match char {
            '[' | '*' | '?' => pattern.extend(['[', char, ']']),
            other => pattern.push(other),
        }
    }
    pattern.push('*');
    pattern
}

/// `2026-01-02 03:04:05.000006`: sorts as text, and before what Python may add behind it.
fn to_text(moment: Timestamp) -> String {
    let mut text = moment.to_string();
    text.truncate(text.len() - "+00:00".len());
    text.replacen('T', " ", 1)
}

fn from_text(text: &str) -> Result<Timestamp> {
    text.parse()
        .map_err(|err| Error::corrupt("a stored time is not one").source_err(err))
}

fn read(root: &Root, row: &Row<'_>) -> Result<Item> {
    Ok(Item {
        namespace: root.namespace(text(row, 0)?)?,
        key: get(row, 1)?,
        value: map(row, 2)?,
        created_at: from_text(text(row, 3)?)?,
        updated_at: from_text(text(row, 4)?)?,
    })
}

/// An item ready to be written.
struct Encoded {
    prefix: String,
    key: String,
    value: String,
    ttl_minutes: Option<f64>,
    expires_at: Option<String>,
}

fn put(db: &Connection, now: &str, item: &Encoded) -> Result<()> {
    // An item whose time is over starts anew.
    let sql = "INSERT INTO store (prefix, key, value, created_at, updated_at, expires_at,
            ttl_minutes) VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6)
        ON CONFLICT (prefix, key) DO UPDATE SET value = excluded.value,
            created_at = iif(expires_at IS NULL OR expires_at > ?4, created_at, ?4),
            updated_at = excluded.updated_at, expires_at = excluded.expires_at,
            ttl_minutes = excluded.ttl_minutes";
    let values = params![
        item.prefix,
        item.key,
        item.value,
        now,
        item.expires_at,
        item.ttl_minutes
    ];
    execute(db, sql, values).map(drop)
}

/// An item whose time to live a read renews.
struct Renewal {
    prefix: String,
    key: String,
    ttl_minutes: f64,
}

impl Embedded {
    async fn renew(&self, now: Timestamp, renewals: Vec<Renewal>) -> Result<()> {
        if renewals.is_empty() {
            return Ok(());
        }
        self.write(move |db| {
            let sql = "UPDATE store SET expires_at = ?3 WHERE prefix = ?1 AND key = ?2
                AND ttl_minutes IS NOT NULL";
            for Renewal {
                prefix,
                key,
                ttl_minutes,
            } in &renewals
            {
                let end = expiry(now, Some(*ttl_minutes)).map(to_text);
                execute(db, sql, params![prefix, key, end])?;
            }
            Ok(())
        })
        .await
    }
}

/// Column 5 is the item's time to live.
fn renewal(row: &Row<'_>, refresh: Refresh) -> Result<Option<Renewal>> {
    let ttl_minutes: Option<f64> = get(row, 5)?;
    match (refresh, ttl_minutes) {
        (Refresh::Yes, Some(ttl_minutes)) => Ok(Some(Renewal {
            prefix: get(row, 0)?,
            key: get(row, 1)?,
            ttl_minutes,
        })),
        _ => Ok(None),
    }
}

#[async_trait]
impl Store for Embedded {
    async fn put(&self, scope: &Scope, now: Timestamp, items: Vec<PutItem>) -> Result<()> {
        let root = Root::of(scope);
        let encode = |item: PutItem| -> Result<Encoded> {
            filter::check_namespace(&item.namespace)?;
            Ok(Encoded {
                prefix: root.prefix(&item.namespace)?,
                key: item.key,
                value: json::map_text(&item.value)?,
                ttl_minutes: item.ttl_minutes,
                expires_at: expiry(now, item.ttl_minutes).map(to_text),
            })
        };
        let items = items.into_iter().map(encode).collect::<Result<Vec<_>>>()?;
        let now = to_text(now);
        self.write(move |db| items.iter().try_for_each(|item| put(db, &now, item)))
            .await
    }

    async fn get(
        &self,
        scope: &Scope,
        now: Timestamp,
        namespace: &[String],
        key: &str,
        refresh: Refresh,
    ) -> Result<Option<Item>> {
        const SQL: &str = "SELECT prefix, key, value, created_at, updated_at, ttl_minutes
            FROM store WHERE prefix = ?1 AND key = ?2
                AND (expires_at IS NULL OR expires_at > ?3)";
        let root = Root::of(scope);
        let (prefix, key) = (root.prefix(namespace)?, key.to_owned());
        let found = self
            .read(move |db| {
                first(db, SQL, [prefix, key, to_text(now)], |row| {
                    Ok((read(&root, row)?, renewal(row, refresh)?))
                })
            })
            .await?;
        let Some((item, renewal)) = found else {
            return Ok(None);
        };
        self.renew(now, renewal.into_iter().collect()).await?;
        Ok(Some(item))
    }

    async fn delete(&self, scope: &Scope, namespace: &[String], key: &str) -> Result<()> {
        let (prefix, key) = (Root::of(scope).prefix(namespace)?, key.to_owned());
        self.write(move |db| {
            execute(
                db,
                "DELETE FROM store WHERE prefix = ?1 AND key = ?2",
                [prefix, key],
            )?;
            Ok(())
        })
        .await
    }

    async fn search(&self, scope: &Scope, now: Timestamp, query: &ItemQuery) -> Result<Vec<Item>> {
        filter::check_labels(&query.namespace_prefix)?;
        filter::check_item_filter(&query.filter)?;
        let root = Root::of(scope);
        let (mut sql, mut values) = root.below(&query.namespace_prefix)?;
        sql = format!(
            "SELECT prefix, key, value, created_at, updated_at, ttl_minutes FROM store
            WHERE {sql} AND {LIVE}"
        );
        values.push(to_text(now).into());
        if !query.filter.is_empty() {
            sql.push_str(" AND agentflow_item(value, ?)");
            values.push(json::map_text(&query.filter)?.into());
        }
        sql.push_str(" ORDER BY updated_at DESC, prefix, key LIMIT ? OFFSET ?");
        values.push(i64::from(query.limit).into());
        values.push(i64::try_from(query.offset).unwrap_or(i64::MAX).into());
        let refresh = query.refresh;
        let found = self
            .read(move |db| {
                all(db, &sql, params_from_iter(values), |row| {
                    Ok((read(&root, row)?, renewal(row, refresh)?))
                })
            })
            .await?;
        let (items, renewals): (Vec<Item>, Vec<Option<Renewal>>) = found.into_iter().unzip();
        self.renew(now, renewals.into_iter().flatten().collect())
            .await?;
        Ok(items)
    }

    async fn namespaces(
        &self,
        scope: &Scope,
        now: Timestamp,
        query: &NamespaceQuery,
    ) -> Result<Vec<Vec<String>>> {
        filter::check_labels(&query.prefix)?;
        filter::check_labels(&query.suffix)?;
        let (root, query) = (Root::of(scope), query.clone());
        self.read(move |db| namespaces(db, &root, now, &query))
            .await
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        self.write(move |db| {
            let sql = "DELETE FROM store WHERE (prefix, key) IN (SELECT prefix, key FROM store
                WHERE expires_at IS NOT NULL AND expires_at <= ?1 LIMIT ?2)";
            Ok(execute(db, sql, params![to_text(now), limit])? as u64)
        })
        .await
    }
}

fn namespaces(
    db: &Connection,
    root: &Root,
    now: Timestamp,
    query: &NamespaceQuery,
) -> Result<Vec<Vec<String>>> {
    // The literal labels before the first star narrow the search in SQL.
    let literal = query
        .prefix
        .iter()
        .take_while(|label| *label != "*")
        .count();
    let (below, mut values) = root.below(&query.prefix[..literal])?;
    values.push(to_text(now).into());
    let sql = format!("SELECT DISTINCT prefix FROM store WHERE {below} AND {LIVE}");
    let depth = query.max_depth.map_or(usize::MAX, |depth| depth as usize);
    let mut distinct = std::collections::BTreeSet::new();
    all(db, &sql, params_from_iter(values), |row| {
        let mut namespace = root.namespace(text(row, 0)?)?;
        if filter::namespace_matches(&namespace, &query.prefix, &query.suffix) {
            namespace.truncate(depth);
            distinct.insert(namespace);
        }
        Ok(())
    })?;
    let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
    Ok(distinct
        .into_iter()
        .skip(offset)
        .take(query.limit as usize)
        .collect())
}
