//! A container that a handler may use, as it was granted.

use std::sync::Arc;

use crate::limits;

/// A container that a handler may use. Handlers of one tenant that are granted one of the same name share it; those of different
/// tenants never do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerGrant {
    /// What the guest calls it.
    pub name: Arc<str>,
    /// How much may be in it.
    pub quota: Quota,
}

/// How much may be in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Objects.
    pub objects: u64,
    /// Bytes of one object.
    pub object: u64,
    /// Bytes of all objects together.
    pub bytes: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            objects: limits::BLOBS,
            object: limits::BLOB_BYTES,
            bytes: limits::BLOBS_BYTES,
        }
    }
}
