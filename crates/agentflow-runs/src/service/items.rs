//! Long-term items.

use agentflow_storage::store::{Item, ItemQuery, NamespaceQuery, PutItem, Refresh};
use agentflow_types::{Error, Result, Scope};

use super::Service;

/// Checks the labels of a namespace that is written to or read from.
fn check(namespace: &[String]) -> Result<()> {
    let wrong = |what: String| Err(Error::unprocessable(what));
    if namespace.is_empty() {
        return wrong("Namespace cannot be empty.".into());
    }
    for label in namespace {
        if label.is_empty() {
            return wrong(format!(
                "Namespace labels cannot be empty strings. Got {namespace:?}"
            ));
        }
        if label.contains('.') {
            return wrong(format!(
                "Invalid namespace label '{label}' found in {namespace:?}. Namespace labels \
                 cannot contain periods ('.')."
            ));
        }
    }
    match namespace[0].as_str() {
        "langgraph" => wrong("Root label for namespace cannot be \"langgraph\".".into()),
        _ => Ok(()),
    }
}

impl Service {
    /// Stores an item.
    ///
    /// # Errors
    /// `Unprocessable` for a bad namespace.
    pub async fn put_item(&self, scope: &Scope, item: PutItem) -> Result<()> {
        check(&item.namespace)?;
        self.backend.store.put(scope, self.now(), vec![item]).await
    }

    /// The item, or `None`.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn get_item(
        &self,
        scope: &Scope,
        namespace: &[String],
        key: &str,
        refresh: Refresh,
    ) -> Result<Option<Item>> {
        self.backend
            .store
            .get(scope, self.now(), namespace, key, refresh)
            .await
    }

    /// Removes an item; one that does not exist is fine.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn delete_item(&self, scope: &Scope, namespace: &[String], key: &str) -> Result<()> {
        self.backend.store.delete(scope, namespace, key).await
    }

    /// Items that match.
    ///
    /// # Errors
    /// `Invalid` for an unknown filter operator.
    pub async fn search_items(&self, scope: &Scope, query: &ItemQuery) -> Result<Vec<Item>> {
        self.backend.store.search(scope, self.now(), query).await
    }

    /// Namespaces that match.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn namespaces(
        &self,
        scope: &Scope,
        query: &NamespaceQuery,
    ) -> Result<Vec<Vec<String>>> {
        self.backend
            .store
            .namespaces(scope, self.now(), query)
            .await
    }
}
