//! Assistants and their versions.

use agentflow_storage::{
    filter, json,
    page::{Page, PageQuery},
    record::{Assistant, AssistantQuery, Assistants},
};
use agentflow_types::{AssistantId, Error, Map, Result, Scope};
use async_trait::async_trait;
use tokio_postgres::Row;

use crate::{
    Postgres,
    column::{Moment, count, get, id, map, order, time},
    searchable,
    statement::Statement,
};

const COLUMNS: &str = "assistant_id, version, graph_id, name, description, config, context, \
    metadata, created_at, updated_at";

fn read(row: &Row) -> Result<Assistant> {
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

/// Binds what a version holds as `$1` to `$11`: tenant, id, graph, name, folded name, description,
/// config, context, metadata, its searchable form, last change.
fn content(
    sql: impl Into<std::borrow::Cow<'static, str>>,
    scope: &Scope,
    row: &Assistant,
) -> Result<Statement> {
    Ok(Statement::new(sql)
        .bind(scope.tenant().to_owned())
        .bind(row.assistant_id.0)
        .bind(row.graph_id.clone())
        .bind(row.name.clone())
        .bind(row.name.to_lowercase())
        .bind(row.description.clone())
        .bind(json::map_text(&row.config)?)
        .bind(json::map_text(&row.context)?)
        .bind(json::map_text(&row.metadata)?)
        .bind(searchable::map_text(&row.metadata)?)
        .bind(Moment(row.updated_at)))
}

fn matching(scope: &Scope, query: &AssistantQuery) -> Result<Statement> {
    let mut sql = Statement::new("FROM agentflow.assistants WHERE tenant = $1")
        .bind(scope.tenant().to_owned());
    if let Some(graph_id) = &query.graph_id {
        sql = sql.and(" AND graph_id = ", graph_id.clone(), "");
    }
    if let Some(name) = &query.name {
        sql = sql.and(
            " AND position(",
            name.to_lowercase(),
            " IN name_search) > 0",
        );
    }
    if !query.metadata.is_empty() {
        let metadata = searchable::map_text(&query.metadata)?;
        sql = sql.and(" AND metadata_search @> ", metadata, "::jsonb");
    }
    Ok(sql)
}

fn missing(id: AssistantId) -> Error {
    Error::not_found("assistant not found").with("assistant_id", id)
}

#[async_trait]
impl Assistants for Postgres {
    async fn insert(&self, scope: &Scope, assistant: Assistant) -> Result<()> {
        const SQL: &str = "WITH added AS (
                INSERT INTO agentflow.assistants (tenant, assistant_id, version, graph_id, name,
                    name_search, description, config, context, metadata, metadata_search,
                    updated_at, created_at)
                VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9, $10::jsonb, $11, $12)
                ON CONFLICT DO NOTHING RETURNING *)
            INSERT INTO agentflow.assistant_versions (assistant_id, version, graph_id, name,
                name_search, description, config, context, metadata, metadata_search, created_at,
                updated_at)
            SELECT assistant_id, version, graph_id, name, name_search, description, config,
                context, metadata, metadata_search, created_at, created_at FROM added";
        let sql = content(SQL, scope, &assistant)?.bind(Moment(assistant.created_at));
        if self.write(&sql).await?.count == 0 {
            return Err(Error::conflict("assistant already exists")
                .with("assistant_id", assistant.assistant_id));
        }
        Ok(())
    }

    async fn get(&self, scope: &Scope, id: AssistantId) -> Result<Option<Assistant>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM agentflow.assistants WHERE assistant_id = $1 AND tenant = $2"
        );
        let sql = Statement::new(sql)
            .bind(id.0)
            .bind(scope.tenant().to_owned());
        self.read(&sql).await?.first().map(read).transpose()
    }

    async fn insert_version(&self, scope: &Scope, assistant: Assistant) -> Result<Assistant> {
        // The lock is a statement of its own, so that the next one sees what was committed while
        // it waited.
        const LOCK: &str = "SELECT FROM agentflow.assistants
            WHERE assistant_id = $1 AND tenant = $2 FOR UPDATE";
        const ADD: &str = "WITH added AS (
                INSERT INTO agentflow.assistant_versions (assistant_id, version, graph_id, name,
                    name_search, description, config, context, metadata, metadata_search,
                    created_at, updated_at)
                SELECT $2, 1 + (SELECT coalesce(max(version), 0)
                        FROM agentflow.assistant_versions WHERE assistant_id = $2),
                    $3, $4, $5, $6, $7, $8, $9, $10::jsonb, $11, $11
                FROM agentflow.assistants WHERE assistant_id = $2 AND tenant = $1
                RETURNING *)
            UPDATE agentflow.assistants AS a SET version = v.version, graph_id = v.graph_id,
                name = v.name, name_search = v.name_search, description = v.description,
                config = v.config, context = v.context, metadata = v.metadata,
                metadata_search = v.metadata_search, updated_at = v.updated_at
            FROM added AS v WHERE a.assistant_id = v.assistant_id
            RETURNING a.assistant_id, a.version, a.graph_id, a.name, a.description, a.config,
                a.context, a.metadata, a.created_at, a.updated_at";
        let id = assistant.assistant_id;
        let lock = Statement::new(LOCK)
            .bind(id.0)
            .bind(scope.tenant().to_owned());
        let add = content(ADD, scope, &assistant)?;
        let done = self.atomic(vec![lock, add]).await?;
        let row = done.last().and_then(|done| done.rows.first());
        read(row.ok_or_else(|| missing(id))?)
    }

    async fn select_version(
        &self,
        scope: &Scope,
        id: AssistantId,
        version: i64,
    ) -> Result<Assistant> {
        const SQL: &str = "UPDATE agentflow.assistants AS a SET version = v.version,
                graph_id = v.graph_id, name = v.name, name_search = v.name_search,
                description = v.description, config = v.config, context = v.context,
                metadata = v.metadata, metadata_search = v.metadata_search
            FROM agentflow.assistant_versions AS v
            WHERE a.assistant_id = $1 AND a.tenant = $2 AND v.assistant_id = $1 AND v.version = $3
            RETURNING a.assistant_id, a.version, a.graph_id, a.name, a.description, a.config,
                a.context, a.metadata, a.created_at, a.updated_at";
        let sql = Statement::new(SQL)
            .bind(id.0)
            .bind(scope.tenant().to_owned())
            .bind(version);
        let done = self.write(&sql).await?;
        let row = done.rows.first();
        read(row.ok_or_else(|| missing(id).with("version", version))?)
    }

    async fn versions(
        &self,
        scope: &Scope,
        id: AssistantId,
        metadata: &Map,
        limit: u32,
        offset: u64,
    ) -> Result<Vec<Assistant>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM agentflow.assistant_versions
            WHERE assistant_id = $1 AND EXISTS (SELECT FROM agentflow.assistants AS a
                WHERE a.assistant_id = $1 AND a.tenant = $2)
            AND metadata_search @> $3::jsonb ORDER BY version DESC LIMIT $4 OFFSET $5"
        );
        let sql = Statement::new(sql)
            .bind(id.0)
            .bind(scope.tenant().to_owned())
            .bind(searchable::map_text(metadata)?)
            .bind(i64::from(limit))
            .bind(count(offset));
        self.read(&sql).await?.iter().map(read).collect()
    }

    async fn delete(&self, scope: &Scope, id: AssistantId) -> Result<bool> {
        const ROW: &str = "DELETE FROM agentflow.assistants
            WHERE assistant_id = $1 AND tenant = $2";
        // A version that was added while the first statement waited is seen by this one.
        const VERSIONS: &str = "DELETE FROM agentflow.assistant_versions WHERE assistant_id = $1
            AND NOT EXISTS (SELECT FROM agentflow.assistants WHERE assistant_id = $1)";
        let row = Statement::new(ROW)
            .bind(id.0)
            .bind(scope.tenant().to_owned());
        let versions = Statement::new(VERSIONS).bind(id.0);
        let done = self.atomic(vec![row, versions]).await?;
        Ok(done.first().is_some_and(|done| done.count > 0))
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &AssistantQuery,
        page: &PageQuery,
    ) -> Result<Page<Assistant>> {
        filter::check_page(page, filter::ASSISTANT_COLUMNS)?;
        let order = order(page, "assistant_id", &[]);
        self.page(&matching(scope, query)?, COLUMNS, &order, page, read)
            .await
    }
}
