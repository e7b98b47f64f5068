//! What a guest may reach: one interface, one grant, one file.
//!
//! Everything is linked, so that a guest whose runtime merely imports an interface can run; what
//! is not granted answers with the error that its interface has for that.

pub mod calls;
pub mod clocks;
pub mod config;
pub mod judge;
pub mod logging;
pub mod outbound_http;

use std::sync::Arc;

use crate::secret::Secret;
use calls::CallGrant;

/// What a guest may reach, as it was written. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Handlers that it may call, by name.
    pub calls: Vec<Arc<str>>,
    /// What `wasi:config` gives it, by key. Of two of a key the later one holds.
    pub config: Vec<(String, Secret)>,
}

impl Grants {
    /// Grants what is granted to every handler too.
    pub fn add(&mut self, every: &Self) {
        self.calls.splice(0..0, every.calls.iter().cloned());
        self.config.splice(0..0, every.config.iter().cloned());
    }
}

/// What the handlers of a host reach through it, each as far as it was granted.
#[derive(Debug, Default)]
pub struct Services {}

/// What a handler was granted, ready for its instances, which share it.
#[derive(Debug)]
pub struct Granted {
    pub(crate) calls: CallGrant,
}

impl Granted {
    /// For the handler of this name.
    #[must_use]
    pub fn new(handler: Arc<str>, grants: &Grants, _: &Services) -> Self {
        Self {
            calls: CallGrant::new(handler, grants.calls.clone()),
        }
    }
}
