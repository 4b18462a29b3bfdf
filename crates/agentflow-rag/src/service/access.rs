//! Who may see what: a document is seen by its owner and by the members of its collections.

use std::collections::BTreeSet;

use agentflow_storage::{
    condition::{Condition, Field},
    documents::{EntryKind, EntryQuery},
    page::{MAX_LIMIT, Order, PageQuery},
};
use agentflow_types::{Error, Result, Scope, Value};
use uuid::Uuid;

use super::{Document, Service};

/// Most collections that one user may belong to.
pub const MAX_COLLECTIONS: usize = 10_000;

/// A user of the tenant who asks, and what the user belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user: Uuid,
    /// Whether all of the tenant may be seen and changed.
    pub is_superuser: bool,
    /// The collections that the user is a member of.
    pub collections: BTreeSet<Uuid>,
}

impl Caller {
    /// Whether a document may be read.
    #[must_use]
    pub fn sees(&self, document: &Document) -> bool {
        self.owns(document.owner())
            || document
                .collections()
                .iter()
                .any(|id| self.collections.contains(id))
    }

    /// Whether what this user owns may be changed.
    #[must_use]
    pub fn owns(&self, owner: Uuid) -> bool {
        self.is_superuser || self.user == owner
    }

    /// Whether a collection may be read.
    #[must_use]
    pub fn is_member(&self, collection: Uuid) -> bool {
        self.is_superuser || self.collections.contains(&collection)
    }

    /// What must hold of what is seen; `None` for everything.
    #[must_use]
    pub fn condition(&self) -> Option<Condition> {
        let text = |id: &Uuid| Value::str(id.to_string());
        let own = Condition::Equals(Field::of("owner_id"), text(&self.user));
        let shared = self.collections.iter().map(text).collect();
        let shared = Condition::In(Field::of("collection_ids"), shared);
        (!self.is_superuser).then(|| Condition::Any(vec![own, shared]))
    }

    /// A condition with that beside it.
    #[must_use]
    pub fn within(&self, other: Option<Condition>) -> Option<Condition> {
        let parts: Vec<Condition> = self.condition().into_iter().chain(other).collect();
        (!parts.is_empty()).then_some(Condition::All(parts))
    }
}

/// All of a list, page by page.
pub(super) fn page(offset: u64) -> PageQuery {
    PageQuery {
        limit: MAX_LIMIT,
        offset,
        sort_by: "entry_id".into(),
        order: Order::Ascending,
    }
}

impl Service {
    /// A user who asks, with the collections that the user belongs to. The first time, the
    /// collection of the user's own is made.
    ///
    /// # Errors
    /// Those of the records; `Failed` for a member of more than [`MAX_COLLECTIONS`].
    pub async fn caller(&self, scope: &Scope, user: Uuid, is_superuser: bool) -> Result<Caller> {
        let mut collections = self.memberships(scope, user).await?;
        if collections.is_empty() {
            collections.insert(self.make_default(scope, user).await?);
        }
        Ok(Caller {
            user,
            is_superuser,
            collections,
        })
    }

    async fn memberships(&self, scope: &Scope, user: Uuid) -> Result<BTreeSet<Uuid>> {
        let query = EntryQuery {
            owner: Some(user),
            ..EntryQuery::of(EntryKind::Member)
        };
        let mut found = BTreeSet::new();
        let mut offset = 0;
        loop {
            let members = self.records().list(scope, &query, &page(offset)).await?;
            offset += members.items.len() as u64;
            found.extend(members.items.iter().filter_map(|member| member.parent));
            if found.len() > MAX_COLLECTIONS {
                return Err(Error::failed("the user belongs to too many collections")
                    .with("limit", MAX_COLLECTIONS));
            }
            if members.items.is_empty() || offset >= members.total {
                return Ok(found);
            }
        }
    }
}
