//! Files, directories and sockets that guests have open. Connections and components take descriptors of the same process, so guests
//! have a part of them, and nobody who has much of that part gets more, in however many instances.

use std::sync::Arc;

use rustix::process::{Resource, getrlimit};

use super::share::{Held, Share, Shared, Sharer};
use crate::limits;

/// How many this process may have open. A guest that is loaded holds one, and so does a connection.
pub(crate) fn of_process() -> usize {
    let most = getrlimit(Resource::Nofile).maximum;
    most.map_or(usize::MAX, |most| {
        usize::try_from(most).unwrap_or(usize::MAX)
    })
}

/// Those that the guests of a host may have.
#[derive(Debug)]
pub(crate) struct Descriptors(Shared);

impl Default for Descriptors {
    fn default() -> Self {
        Self(Shared::fair(of_process() / limits::OPEN_FILES_PART))
    }
}

impl Descriptors {
    pub(super) fn share(&self, sharer: &Sharer) -> Share {
        self.0.share(sharer)
    }
}

/// Those that one instance has.
#[derive(Debug, Default)]
pub(super) struct Count(Arc<()>);

/// One of them, for as long as this is there.
#[derive(Debug)]
pub(super) struct OneOpen {
    _held: Held,
    _of_instance: Arc<()>,
}

impl Count {
    /// One more, if there is any in the share.
    pub(super) fn one(&self, share: &Share) -> Option<OneOpen> {
        Some(OneOpen {
            _held: share.try_take_fairly(1)?,
            _of_instance: Arc::clone(&self.0),
        })
    }

    pub(super) fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}
