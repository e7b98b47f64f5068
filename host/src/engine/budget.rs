//! Memory that several instances share.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that the instances of a tenant may take together, and the host for them.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    most: AtomicUsize,
}

impl Budget {
    /// One of so many bytes, of which none is used.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
        }
    }

    /// From now on it is one of so many bytes. What is taken already stays taken, also if that is more.
    pub fn resize(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes bytes, or none if there are not as many left.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let taken = |used: usize| used.checked_add(bytes).filter(|used| *used <= most);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .is_ok()
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
