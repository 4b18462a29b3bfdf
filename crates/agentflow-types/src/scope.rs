//! Who asks. Every domain call takes a [`Scope`]; every statement is built from it.

use std::sync::Arc;

use crate::{Map, MemoryScope, Permission, Permissions, Rights};

/// The tenant of a server without authentication, and of data that Python wrote.
pub const DEFAULT_TENANT: &str = "default";
/// The principal of a server without authentication.
const LOCAL: &str = "local";

/// Tenant and principal of a request, and what it may do.
///
/// Authentication yields it; it cannot be built from a request's body.
#[derive(Clone, Debug, PartialEq)]
pub struct Scope {
    tenant: Arc<str>,
    principal: Arc<str>,
    permissions: Permissions,
    user: Option<Arc<Map>>,
    memories: Option<MemoryScope>,
}

impl Scope {
    /// The scope of a server without authentication: one tenant, one principal, no bounds.
    #[must_use]
    pub fn local() -> Self {
        Self {
            permissions: Permissions::ALL,
            ..Self::new(DEFAULT_TENANT, LOCAL)
        }
    }

    /// A scope for work that goes on in a principal's name after its request was let in: queued
    /// runs, crons. It is for domain calls and opens no door; [`Self::with_rights`] gives it what was
    /// kept of the principal's rights.
    #[must_use]
    pub fn new(tenant: &str, principal: &str) -> Self {
        Self {
            tenant: tenant.into(),
            principal: principal.into(),
            permissions: Permissions::NONE,
            user: None,
            memories: None,
        }
    }

    /// The scope of an authenticated principal.
    ///
    /// `user`: what graphs may know about the principal besides its name and permissions.
    #[must_use]
    pub fn authenticated(
        tenant: &str,
        principal: &str,
        permissions: Permissions,
        user: Map,
    ) -> Self {
        Self {
            tenant: tenant.into(),
            principal: principal.into(),
            permissions,
            user: Some(Arc::new(user)),
            memories: None,
        }
    }

    /// The same, limited to some memories.
    #[must_use]
    pub fn within(self, memories: MemoryScope) -> Self {
        Self {
            memories: Some(memories),
            ..self
        }
    }

    /// The same with the rights that were kept with its work, and no others.
    #[must_use]
    pub fn with_rights(self, rights: &Rights) -> Self {
        Self {
            permissions: rights.permissions(),
            memories: rights.memories().cloned(),
            ..self
        }
    }

    /// The memories that it is limited to; `None` for all of the tenant.
    #[must_use]
    pub fn memories(&self) -> Option<&MemoryScope> {
        self.memories.as_ref()
    }

    /// The tenant whose rows may be touched.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Who acts, for audit.
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// What it may do.
    #[must_use]
    pub fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// Whether it may do this.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.has(permission)
    }

    /// What is known about the authenticated principal; `None` if nobody was authenticated, or
    /// long ago.
    #[must_use]
    pub fn user(&self) -> Option<&Map> {
        self.user.as_deref()
    }

    /// Whether it stands for whoever can reach a server without authentication.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.user.is_none() && &*self.principal == LOCAL
    }
}
