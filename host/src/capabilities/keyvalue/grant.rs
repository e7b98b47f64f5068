//! A bucket that a handler may use, as it was granted.

use std::sync::Arc;
use std::time::Duration;

use super::store::{Error, Totals};
use crate::limits;

/// A bucket that a handler may use. Handlers of one tenant that are granted a bucket of the same name, in the same store,
/// share it; those of different tenants never do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketGrant {
    /// What the guest calls it, and its name in the store.
    pub name: Arc<str>,
    /// The store that it is in, by name.
    pub store: Arc<str>,
    /// How much may be in it.
    pub quota: Quota,
    /// When what was written is on disk.
    pub durability: Durability,
}

/// How much may be in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Keys.
    pub keys: u64,
    /// Bytes of one value.
    pub value: u64,
    /// Bytes of all keys and values together.
    pub bytes: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            keys: limits::KEYVALUE_KEYS,
            value: limits::KEYVALUE_VALUE,
            bytes: limits::KEYVALUE_BYTES,
        }
    }
}

impl Quota {
    /// Whether a bucket may become so. What does not make it larger may be done to a bucket that is too large already.
    pub(super) fn allows(self, now: &Totals, after: &Totals) -> Result<(), Error> {
        if after.keys > self.keys && after.keys > now.keys {
            return Err(self.no_more_keys());
        }
        if after.bytes > self.bytes && after.bytes > now.bytes {
            return Err(self.no_more_bytes());
        }
        Ok(())
    }

    pub(super) fn no_more_keys(self) -> Error {
        Error::Full(format!(
            "the bucket has no room for another key: it may have {}",
            self.keys
        ))
    }

    pub(super) fn no_more_bytes(self) -> Error {
        Error::Full(format!(
            "the bucket has no room for that: it may have {} bytes",
            self.bytes
        ))
    }
}

/// When an acknowledged write is on disk, in a store that is a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before it is acknowledged.
    #[default]
    EachWrite,
    /// At most so much later.
    Within(Duration),
}
