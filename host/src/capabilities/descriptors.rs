//! Files, directories and sockets that guests have open. Connections and components take descriptors of the same process, so guests
//! have a part of them, and nobody who has much of that part gets more, in however many instances.

use std::sync::Arc;

use super::share::{Held, Share, Shared, Sharer};
use crate::{limits, open_files};

/// Those that the guests of a host may have.
#[derive(Debug)]
pub(crate) struct Descriptors(Shared);

impl Default for Descriptors {
    fn default() -> Self {
        Self(Shared::fair(
            open_files::of_process() / limits::OPEN_FILES_PART,
        ))
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
    /// One more, if there is any in the share, and if clients leave any.
    pub(super) fn one(&self, share: &Share) -> Option<OneOpen> {
        if open_files::are_short() {
            return None;
        }
        Some(OneOpen {
            _held: share.try_take_fairly(1)?,
            _of_instance: Arc::clone(&self.0),
        })
    }

    pub(super) fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}
