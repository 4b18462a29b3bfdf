//! Store items on the wire.

use agentflow_storage::store::{self, ItemQuery, NamespaceQuery, PutItem, Refresh};
use agentflow_types::{Error, Map, Result, Timestamp};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{error::Failure, page};

/// Namespaces listed when the client does not say.
const DEFAULT_NAMESPACES: u32 = 100;

/// Checks the labels of a namespace.
///
/// # Errors
/// 400 for none at all, 422 for an empty one or one with a period; texts as observed.
pub(crate) fn check_labels(labels: &[String]) -> std::result::Result<(), Failure> {
    if labels.is_empty() {
        return Err(Error::invalid("Namespace cannot be empty.").into());
    }
    match labels
        .iter()
        .find(|label| label.is_empty() || label.contains('.'))
    {
        None => Ok(()),
        Some(label) => Err(Failure::Text(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("Namespace label '{label}' must be a non-empty string without periods"),
        )),
    }
}

fn refresh(wanted: Option<bool>) -> Refresh {
    match wanted {
        Some(false) => Refresh::No,
        _ => Refresh::Yes,
    }
}

/// An item.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Item {
    /// Labels, outermost first.
    namespace: Vec<String>,
    /// Key.
    key: String,
    /// The value.
    #[schema(value_type = Object)]
    value: Map,
    /// Creation.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Last put.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<store::Item> for Item {
    fn from(item: store::Item) -> Self {
        Self {
            namespace: item.namespace,
            key: item.key,
            value: item.value,
            created_at: item.created_at,
            updated_at: item.updated_at,
        }
    }
}

/// An item that was found, with how well it fits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Hit {
    /// The item.
    #[serde(flatten)]
    item: Item,
    /// Always null: there is no semantic search yet.
    score: Option<f64>,
}

/// Items that were found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Hits {
    /// The items, newest first.
    items: Vec<Hit>,
}

impl From<Vec<store::Item>> for Hits {
    fn from(items: Vec<store::Item>) -> Self {
        let hit = |item: store::Item| Hit {
            item: item.into(),
            score: None,
        };
        Self {
            items: items.into_iter().map(hit).collect(),
        }
    }
}

/// An item to store.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ItemPut {
    /// Labels, outermost first.
    pub(crate) namespace: Vec<String>,
    /// Key.
    key: String,
    /// The value.
    #[schema(value_type = Object)]
    value: Map,
    /// Minutes to live; null for ever.
    ttl: Option<f64>,
}

impl From<ItemPut> for PutItem {
    fn from(put: ItemPut) -> Self {
        Self {
            namespace: put.namespace,
            key: put.key,
            value: put.value,
            ttl_minutes: put.ttl,
        }
    }
}

/// An item to remove; may be named in the query instead.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ItemDelete {
    /// Labels, outermost first.
    #[schema(value_type = Option<Vec<String>>)]
    pub(crate) namespace: Option<Labels>,
    /// Key.
    pub(crate) key: Option<String>,
}

/// Labels as a list, or joined with periods.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Labels {
    /// As a list.
    List(Vec<String>),
    /// Joined.
    Joined(String),
}

impl Labels {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::List(labels) => labels,
            Self::Joined(text) => text.split('.').map(str::to_owned).collect(),
        }
    }
}

/// Which items to find; all conditions must hold.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ItemSearch {
    /// Leading labels.
    namespace_prefix: Option<Vec<String>>,
    /// Field to value, or to `$eq`, `$ne`, `$gt`, `$gte`, `$lt`, `$lte`.
    #[schema(value_type = Option<Object>)]
    filter: Option<Map>,
    /// Most items; 10 if absent.
    limit: Option<i64>,
    /// Items to skip.
    offset: Option<i64>,
    /// Text to search for; accepted, but items are not searched by meaning yet.
    #[expect(
        dead_code,
        reason = "clients send it; semantic search is not there yet"
    )]
    query: Option<String>,
    /// Whether hits renew their time to live; true if absent.
    refresh_ttl: Option<bool>,
}

impl ItemSearch {
    pub(crate) fn into_domain(self) -> Result<ItemQuery> {
        Ok(ItemQuery {
            namespace_prefix: self.namespace_prefix.unwrap_or_default(),
            filter: self.filter.unwrap_or_default(),
            limit: page::limit(self.limit, page::DEFAULT_LIMIT)?,
            offset: page::offset(self.offset)?,
            refresh: refresh(self.refresh_ttl),
        })
    }
}

/// Which namespaces to list.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct NamespaceSearch {
    /// Leading labels; `*` matches any one.
    prefix: Option<Vec<String>>,
    /// Trailing labels; `*` matches any one.
    suffix: Option<Vec<String>>,
    /// Cut to this many labels.
    max_depth: Option<u32>,
    /// Most namespaces; 100 if absent.
    limit: Option<i64>,
    /// Namespaces to skip.
    offset: Option<i64>,
}

impl NamespaceSearch {
    pub(crate) fn into_domain(self) -> Result<NamespaceQuery> {
        Ok(NamespaceQuery {
            prefix: self.prefix.unwrap_or_default(),
            suffix: self.suffix.unwrap_or_default(),
            max_depth: self.max_depth,
            limit: page::limit(self.limit, DEFAULT_NAMESPACES)?,
            offset: page::offset(self.offset)?,
        })
    }
}

/// Namespaces.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Namespaces {
    /// Sorted.
    pub(crate) namespaces: Vec<Vec<String>>,
}
