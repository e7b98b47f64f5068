//! Names of handlers and tenants.

use std::sync::Arc;

use super::reader::Named;
use crate::catalog::{BadName, HandlerName};

/// The name that an entry has, if it may have it.
pub(super) fn name(named: &Named<'_>) -> Option<Arc<str>> {
    checked(named.name)
        .map_err(|message| {
            named
                .value
                .reader
                .mistake(named.place.clone(), message.to_string())
        })
        .ok()
}

/// Tenants are named as handlers are.
pub(super) fn checked(name: &str) -> Result<Arc<str>, BadName> {
    name.parse().map(|name: HandlerName| name.shared())
}
