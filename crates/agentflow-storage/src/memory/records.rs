//! Assistants in memory.

use std::cmp::Ordering;

use agentflow_types::{AssistantId, Error, Map, Result, Scope};
use async_trait::async_trait;

use super::{AssistantRow, Memory, Tables};
use crate::{
    filter,
    page::{Order, Page, PageQuery},
    record::{Assistant, AssistantQuery, Assistants},
};

/// Sorts by `compare` in the direction of the page and cuts the page out.
pub(super) fn paged<T: Clone>(
    mut rows: Vec<&T>,
    page: &PageQuery,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Page<T> {
    let total = rows.len() as u64;
    rows.sort_by(|a, b| match page.order {
        Order::Ascending => compare(a, b),
        Order::Descending => compare(b, a),
    });
    let offset = usize::try_from(page.offset).unwrap_or(usize::MAX);
    let items = rows
        .into_iter()
        .skip(offset)
        .take(page.limit as usize)
        .cloned()
        .collect();
    Page { items, total }
}

fn normal(assistant: Assistant) -> Assistant {
    Assistant {
        config: filter::normal_map(&assistant.config),
        context: filter::normal_map(&assistant.context),
        metadata: filter::normal_map(&assistant.metadata),
        ..assistant
    }
}

fn matches(query: &AssistantQuery, row: &Assistant) -> bool {
    query.graph_id.as_ref().is_none_or(|id| *id == row.graph_id)
        && query
            .name
            .as_ref()
            .is_none_or(|part| row.name.to_lowercase().contains(&part.to_lowercase()))
        && filter::contains_map(&row.metadata, &query.metadata)
}

impl Tables {
    fn assistant_mut(&mut self, scope: &Scope, id: AssistantId) -> Result<&mut AssistantRow> {
        self.assistants
            .get_mut(&id)
            .filter(|row| &*row.tenant == scope.tenant())
            .ok_or_else(|| Error::not_found("assistant not found").with("assistant_id", id))
    }
}

#[async_trait]
impl Assistants for Memory {
    async fn insert(&self, scope: &Scope, assistant: Assistant) -> Result<()> {
        let mut tables = self.lock();
        let id = assistant.assistant_id;
        if tables.assistants.contains_key(&id) {
            return Err(Error::conflict("assistant already exists").with("assistant_id", id));
        }
        let first = Assistant {
            version: 1,
            ..normal(assistant)
        };
        let row = AssistantRow {
            tenant: scope.tenant().into(),
            selected: first.clone(),
            versions: [(
                1,
                Assistant {
                    updated_at: first.created_at,
                    ..first
                },
            )]
            .into(),
        };
        tables.assistants.insert(id, row);
        Ok(())
    }

    async fn get(&self, scope: &Scope, id: AssistantId) -> Result<Option<Assistant>> {
        let tables = self.lock();
        let row = tables
            .assistants
            .get(&id)
            .filter(|row| &*row.tenant == scope.tenant());
        Ok(row.map(|row| row.selected.clone()))
    }

    async fn insert_version(&self, scope: &Scope, assistant: Assistant) -> Result<Assistant> {
        let mut tables = self.lock();
        let row = tables.assistant_mut(scope, assistant.assistant_id)?;
        let version = row.versions.keys().next_back().map_or(1, |last| last + 1);
        let created_at = row.selected.created_at;
        let new = Assistant {
            version,
            created_at,
            ..normal(assistant)
        };
        row.versions.insert(
            version,
            Assistant {
                created_at: new.updated_at,
                ..new.clone()
            },
        );
        row.selected = new.clone();
        Ok(new)
    }

    async fn select_version(
        &self,
        scope: &Scope,
        id: AssistantId,
        version: i64,
    ) -> Result<Assistant> {
        let mut tables = self.lock();
        let row = tables.assistant_mut(scope, id)?;
        let found = row.versions.get(&version).ok_or_else(|| {
            Error::not_found("assistant version not found")
                .with("assistant_id", id)
                .with("version", version)
        })?;
        row.selected = Assistant {
            created_at: row.selected.created_at,
            updated_at: row.selected.updated_at,
            ..found.clone()
        };
        Ok(row.selected.clone())
    }

    async fn versions(
        &self,
        scope: &Scope,
        id: AssistantId,
        metadata: &Map,
        limit: u32,
        offset: u64,
    ) -> Result<Vec<Assistant>> {
        let metadata = filter::normal_map(metadata);
        let tables = self.lock();
        let Some(row) = tables
            .assistants
            .get(&id)
            .filter(|row| &*row.tenant == scope.tenant())
        else {
            return Ok(Vec::new());
        };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let newest_first = row.versions.values().rev();
        let matching = newest_first.filter(|v| filter::contains_map(&v.metadata, &metadata));
        Ok(matching
            .skip(offset)
            .take(limit as usize)
            .cloned()
            .collect())
    }

    async fn delete(&self, scope: &Scope, id: AssistantId) -> Result<bool> {
        let mut tables = self.lock();
        if tables.assistant_mut(scope, id).is_err() {
            return Ok(false);
        }
        Ok(tables.assistants.remove(&id).is_some())
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &AssistantQuery,
        page: &PageQuery,
    ) -> Result<Page<Assistant>> {
        filter::check_page(page, filter::ASSISTANT_COLUMNS)?;
        let query = AssistantQuery {
            metadata: filter::normal_map(&query.metadata),
            ..query.clone()
        };
        let tables = self.lock();
        let rows = tables
            .assistants
            .values()
            .filter(|row| &*row.tenant == scope.tenant());
        let rows = rows
            .map(|row| &row.selected)
            .filter(|row| matches(&query, row))
            .collect();
        Ok(paged(rows, page, |a, b| {
            let by_column = match page.sort_by.as_str() {
                "created_at" => a.created_at.cmp(&b.created_at),
                "updated_at" => a.updated_at.cmp(&b.updated_at),
                "name" => a.name.cmp(&b.name),
                "graph_id" => a.graph_id.cmp(&b.graph_id),
                _ => Ordering::Equal,
            };
            by_column.then_with(|| a.assistant_id.cmp(&b.assistant_id))
        }))
    }
}
