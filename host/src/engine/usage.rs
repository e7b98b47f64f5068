//! What the instances of an engine take, all together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counted as instances come, grow and go.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub(super) instances: AtomicUsize,
    /// Bytes of memories and tables.
    pub(super) memory: AtomicUsize,
}

/// The instances of a host at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Instances {
    /// Those that are there.
    pub all: usize,
    /// Of those, the ones that wait for their next request.
    pub idle: usize,
    /// Bytes of their memories and tables.
    pub memory: usize,
}

impl Instances {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            all: self.all + other.all,
            idle: self.idle + other.idle,
            memory: self.memory + other.memory,
        }
    }
}

impl Usage {
    pub(super) fn with_idle(&self, idle: usize) -> Instances {
        let all = self.instances.load(Ordering::Relaxed);
        Instances {
            all,
            idle: idle.min(all),
            memory: self.memory.load(Ordering::Relaxed),
        }
    }
}
