//! Assistants and their versions.

use agentflow_storage::{
    filter, json,
    page::{Page, PageQuery},
    record::{Assistant, AssistantQuery, Assistants},
};
use agentflow_types::{AssistantId, Error, Map, Result, Scope};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params, types::Value as Sql};

use crate::{
    Embedded,
    column::{self, all, execute, first, get, id, map, order, time},
};

const COLUMNS: &str = "assistant_id, version, graph_id, name, description, config, context, \
    metadata, created_at, updated_at";

/// An assistant with its maps as text.
struct Encoded {
    row: Assistant,
    config: String,
    context: String,
    metadata: String,
}

fn encode(row: Assistant) -> Result<Encoded> {
    Ok(Encoded {
        config: json::map_text(&row.config)?,
        context: json::map_text(&row.context)?,
        metadata: json::map_text(&row.metadata)?,
        row,
    })
}

fn read(row: &Row<'_>) -> Result<Assistant> {
    Ok(Assistant {
        assistant_id: id(row, 0)?,
        version: get(row, 1)?,
        graph_id: get(row, 2)?,
        name: get(row, 3)?,
        description: get(row, 4)?,
        config: map(row, 5)?,
        context: map(row, 6)?,
        metadata: map(row, 7)?,
        created_at: time(row, 8)?,
        updated_at: time(row, 9)?,
    })
}

impl Encoded {
    /// Inserts the row as its own version; that row was created when the assistant last changed.
    fn insert_version(&self, db: &Connection, version: i64, created_at: i64) -> Result<()> {
        let sql = "INSERT INTO agentflow_assistant_versions (assistant_id, version, graph_id,
            name, description, config, context, metadata, created_at, updated_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)";
        let values = params![
            self.row.assistant_id.text(),
            version,
            self.row.graph_id,
            self.row.name,
            self.row.description,
            self.config,
            self.context,
            self.metadata,
            created_at,
        ];
        execute(db, sql, values)?;
        Ok(())
    }

    fn insert(&self, db: &Connection, tenant: &str) -> Result<()> {
        let sql = "INSERT INTO agentflow_assistants (assistant_id, tenant, version, graph_id, name,
            description, config, context, metadata, created_at, updated_at)
            VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING";
        let values = params![
            self.row.assistant_id.text(),
            tenant,
            self.row.graph_id,
            self.row.name,
            self.row.description,
            self.config,
            self.context,
            self.metadata,
            self.row.created_at.0,
            self.row.updated_at.0,
        ];
        if execute(db, sql, values)? == 0 {
            return Err(Error::conflict("assistant already exists")
                .with("assistant_id", self.row.assistant_id));
        }
        self.insert_version(db, 1, self.row.created_at.0)
    }
}

fn load(db: &Connection, tenant: &str, id: AssistantId) -> Result<Option<Assistant>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM agentflow_assistants WHERE assistant_id = ?1 AND tenant = ?2"
    );
    first(db, &sql, [&id.text(), tenant], read)
}

fn load_owned(db: &Connection, tenant: &str, id: AssistantId) -> Result<Assistant> {
    load(db, tenant, id)?
        .ok_or_else(|| Error::not_found("assistant not found").with("assistant_id", id))
}

/// Copies a version's content into the assistant's row.
fn select(db: &Connection, id: AssistantId, version: i64) -> Result<bool> {
    let sql = "UPDATE agentflow_assistants SET (version, graph_id, name, description, config,
            context, metadata) = (v.version, v.graph_id, v.name, v.description, v.config,
            v.context, v.metadata)
        FROM agentflow_assistant_versions AS v
        WHERE agentflow_assistants.assistant_id = ?1 AND v.assistant_id = ?1 AND v.version = ?2";
    Ok(execute(db, sql, params![id.text(), version])? > 0)
}

fn conditions(tenant: &str, query: &AssistantQuery) -> Result<(String, Vec<Sql>)> {
    let mut sql = "tenant = ?".to_owned();
    let mut values: Vec<Sql> = vec![tenant.to_owned().into()];
    if let Some(graph_id) = &query.graph_id {
        sql.push_str(" AND graph_id = ?");
        values.push(graph_id.clone().into());
    }
    if let Some(name) = &query.name {
        sql.push_str(" AND agentflow_has_text(name, ?)");
        values.push(name.clone().into());
    }
    if !query.metadata.is_empty() {
        sql.push_str(" AND agentflow_contains(metadata, ?)");
        values.push(json::map_text(&query.metadata)?.into());
    }
    Ok((sql, values))
}

#[async_trait]
impl Assistants for Embedded {
    async fn insert(&self, scope: &Scope, assistant: Assistant) -> Result<()> {
        let (tenant, encoded) = (scope.tenant().to_owned(), encode(assistant)?);
        self.write(move |db| encoded.insert(db, &tenant)).await
    }

    async fn get(&self, scope: &Scope, id: AssistantId) -> Result<Option<Assistant>> {
        let tenant = scope.tenant().to_owned();
        self.read_short(move |db| load(db, &tenant, id)).await
    }

    async fn insert_version(&self, scope: &Scope, assistant: Assistant) -> Result<Assistant> {
        let (tenant, encoded) = (scope.tenant().to_owned(), encode(assistant)?);
        self.write(move |db| {
            let id = encoded.row.assistant_id;
            load_owned(db, &tenant, id)?;
            let newest = "SELECT coalesce(max(version), 0) FROM agentflow_assistant_versions
                WHERE assistant_id = ?1";
            let newest: i64 = first(db, newest, [id.text()], |row| get(row, 0))?.unwrap_or(0);
            let changed_at = encoded.row.updated_at.0;
            encoded.insert_version(db, newest + 1, changed_at)?;
            select(db, id, newest + 1)?;
            let touch = "UPDATE agentflow_assistants SET updated_at = ?2 WHERE assistant_id = ?1";
            execute(db, touch, params![id.text(), changed_at])?;
            load_owned(db, &tenant, id)
        })
        .await
    }

    async fn select_version(
        &self,
        scope: &Scope,
        id: AssistantId,
        version: i64,
    ) -> Result<Assistant> {
        let tenant = scope.tenant().to_owned();
        self.write(move |db| {
            load_owned(db, &tenant, id)?;
            if !select(db, id, version)? {
                return Err(Error::not_found("assistant version not found")
                    .with("assistant_id", id)
                    .with("version", version));
            }
            load_owned(db, &tenant, id)
        })
        .await
    }

    async fn versions(
        &self,
        scope: &Scope,
        id: AssistantId,
        metadata: &Map,
        limit: u32,
        offset: u64,
    ) -> Result<Vec<Assistant>> {
        let (tenant, metadata) = (scope.tenant().to_owned(), json::map_text(metadata)?);
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        self.read(move |db| {
            if load(db, &tenant, id)?.is_none() {
                return Ok(Vec::new());
            }
            let sql = format!(
                "SELECT {COLUMNS} FROM agentflow_assistant_versions
                WHERE assistant_id = ?1 AND agentflow_contains(metadata, ?2)
                ORDER BY version DESC LIMIT ?3 OFFSET ?4"
            );
            all(db, &sql, params![id.text(), metadata, limit, offset], read)
        })
        .await
    }

    async fn delete(&self, scope: &Scope, id: AssistantId) -> Result<bool> {
        let tenant = scope.tenant().to_owned();
        self.write(move |db| {
            let sql = "DELETE FROM agentflow_assistants WHERE assistant_id = ?1 AND tenant = ?2";
            let gone = execute(db, sql, [&id.text(), &tenant])? > 0;
            if gone {
                let versions = "DELETE FROM agentflow_assistant_versions WHERE assistant_id = ?1";
                execute(db, versions, [id.text()])?;
            }
            Ok(gone)
        })
        .await
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &AssistantQuery,
        page: &PageQuery,
    ) -> Result<Page<Assistant>> {
        filter::check_page(page, filter::ASSISTANT_COLUMNS)?;
        let (conditions, values) = conditions(scope.tenant(), query)?;
        let order = order(page, "assistant_id");
        self.read(move |db| {
            let from = format!("FROM agentflow_assistants WHERE {conditions}");
            column::page(db, COLUMNS, &from, &order, &values, read)
        })
        .await
    }
}
