//! What happened to the connections of a door, in numbers that only grow, except for the connections open now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::HeadFault;

/// Counts of one door since it opened.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections open now
    pub open: AtomicU64,
    /// Connections accepted
    pub accepted: AtomicU64,
    /// Errors of `accept`, most often for want of file descriptors
    pub accept_errors: AtomicU64,
    /// Clients that sent nothing in time
    pub silent: AtomicU64,
    /// Clients that did not finish a head in time
    pub slow_heads: AtomicU64,
    /// Connections closed for want of requests
    pub idle: AtomicU64,
    /// Connections closed because the client took no bytes
    pub stalled: AtomicU64,
    /// HTTP/2 streams reset because the client gave them no window
    pub stalled_streams: AtomicU64,
    /// Heads of which no request came, other than the slow ones
    pub bad_heads: AtomicU64,
    /// HTTP/1 clients that left with a request in flight
    pub left: AtomicU64,
    /// Panics of a handler; each ended its connection or its stream, and nothing else
    pub panics: AtomicU64,
}

impl Counters {
    /// One more connection, for as long as the value lives.
    pub(super) fn open(self: &Arc<Self>) -> OpenConnection {
        add(&self.accepted);
        add(&self.open);
        OpenConnection(Arc::clone(self))
    }

    pub(super) fn refused(&self, fault: HeadFault) {
        add(match fault {
            HeadFault::TooSlow => &self.slow_heads,
            _ => &self.bad_heads,
        });
    }
}

/// A connection in the count of those open; dropping it takes it out, also when its task panics or is aborted.
pub(super) struct OpenConnection(Arc<Counters>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One more.
pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
