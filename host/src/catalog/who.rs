//! Who asks at the operator's door, and what is there for him.

use std::fmt;
use std::sync::Arc;

/// The operator, or a tenant.
#[derive(Debug, Clone)]
pub struct Who {
    shown: Arc<str>,
    tenant: Option<Arc<str>>,
}

impl Who {
    /// The operator, as the audit log tells of him.
    #[must_use]
    pub fn operator(shown: &Arc<str>) -> Self {
        Self {
            shown: Arc::clone(shown),
            tenant: None,
        }
    }

    /// A tenant, by one of its tokens, counted from 1.
    #[must_use]
    pub fn of_tenant(tenant: &Arc<str>, token: usize) -> Self {
        Self {
            shown: format!("tenant {tenant}, token {token}").into(),
            tenant: Some(Arc::clone(tenant)),
        }
    }

    /// The host itself, which goes back from a version that fails.
    pub(super) fn host() -> Self {
        Self::operator(&Arc::from("host"))
    }

    /// The tenant, if it is one.
    #[must_use]
    pub fn tenant(&self) -> Option<&Arc<str>> {
        self.tenant.as_ref()
    }

    /// Whether what this tenant owns, or nobody, is there for him. A tenant has what is its own.
    #[must_use]
    pub fn sees(&self, owner: Option<&str>) -> bool {
        self.tenant.is_none() || self.tenant.as_deref() == owner
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}
