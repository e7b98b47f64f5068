//! Look-ups of names on behalf of all guests, by sockets and for requests. Each holds a thread until its resolver has answered,
//! so they are shared: who asks for slow names leaves others some.

use super::share::{Share, Shared, Sharer};
use crate::limits;

/// Those of a host.
#[derive(Debug)]
pub(crate) struct Lookups(Shared);

impl Default for Lookups {
    fn default() -> Self {
        Self(Shared::new(limits::LOOKUPS))
    }
}

impl Lookups {
    pub(super) fn share(&self, sharer: &Sharer) -> Share {
        self.0.share(sharer)
    }
}
