//! Who asks. Every domain call takes a [`Scope`]; every statement is built from it.

use std::sync::Arc;

/// Tenant and principal of a request.
///
/// Authentication yields it; it cannot be built from a request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    tenant: Arc<str>,
    principal: Arc<str>,
}

impl Scope {
    /// The scope of a server without authentication: one tenant, one principal.
    #[must_use]
    pub fn local() -> Self {
        Self {
            tenant: "default".into(),
            principal: "local".into(),
        }
    }

    /// A scope for an authenticated principal.
    #[must_use]
    pub fn new(tenant: &str, principal: &str) -> Self {
        Self {
            tenant: tenant.into(),
            principal: principal.into(),
        }
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
}
