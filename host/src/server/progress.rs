//! What moves on a connection. hyper says nothing of its state, so the timers go by what passes through the socket and
//! the service.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::HeadFault;
use super::frames::Violation;
use super::intake::RefusedHead;
use super::watch::Phase;
use http::header::UPGRADE;
use http::{Method, Request, Version};

/// What the socket and the service tell the watch of a connection. One task writes and reads it; atomics only because
/// that task moves between threads.
#[derive(Default)]
pub(super) struct Progress {
    /// Requests handed to the handler so far
    requests: AtomicU64,
    /// Those whose response is not complete
    in_flight: AtomicU64,
    /// What a client of HTTP/2 did that ends its connection
    violation: OnceLock<Violation>,
    /// Requests that h2 refused, and nobody has told of yet
    unheard: AtomicU32,
    /// Whether a head has begun and is not complete
    is_in_head: AtomicBool,
    /// Whether the rest of that head is no longer waited for
    is_out_of_patience: AtomicBool,
    /// The head that was refused; none comes after it
    refusal: OnceLock<RefusedHead>,
    /// Whether the last request was of HTTP/1.0, where the end of the connection may be the end of the body
    is_http_10: AtomicBool,
    /// Whether a request has offered to speak something else, which hyper then waits for
    may_upgrade: AtomicBool,
    /// Whether the socket took no more
    is_blocked: AtomicBool,
    /// Whether something is to be written that waits for its turn
    is_waiting: AtomicBool,
    /// Bytes that it took so far
    taken: AtomicU64,
}

impl Progress {
    /// A request is complete but for its body.
    pub(super) fn count_request(&self) {
        self.requests
            .store(self.requests.load(Relaxed) + 1, Relaxed);
    }

    /// The same, and it is in flight as long as the value lives.
    pub(super) fn begin<B>(self: &Arc<Self>, request: &Request<B>) -> InFlight {
        self.count_request();
        self.in_flight.fetch_add(1, Relaxed);
        self.is_http_10
            .store(request.version() == Version::HTTP_10, Relaxed);
        if request.headers().contains_key(UPGRADE) || request.method() == Method::CONNECT {
            self.may_upgrade.store(true, Relaxed);
        }
        InFlight(Arc::clone(self))
    }

    /// Requests so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Where an HTTP/1 connection stands, with a number that changes when it moves on within the same phase.
    pub(super) fn h1_phase(&self) -> (Phase, u64) {
        let requests = self.requests.load(Relaxed);
        if self.is_blocked() {
            (Phase::Blocked, self.taken.load(Relaxed))
        } else if self.is_in_flight() || self.is_waiting.load(Relaxed) {
            (Phase::Busy, requests)
        } else if self.is_in_head.load(Relaxed) {
            (Phase::Head, requests)
        } else {
            (Phase::Idle, requests)
        }
    }

    /// The same for HTTP/2, which has `streams` open.
    pub(super) fn h2_phase(&self, streams: usize) -> (Phase, u64) {
        if self.is_blocked() {
            (Phase::Blocked, self.taken.load(Relaxed))
        } else if self.is_in_head.load(Relaxed) {
            (Phase::Head, self.requests.load(Relaxed))
        } else if streams > 0 || self.is_waiting.load(Relaxed) {
            (Phase::Busy, 0)
        } else {
            (Phase::Idle, self.requests.load(Relaxed))
        }
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.load(Relaxed) > 0
    }

    pub(super) fn may_upgrade(&self) -> bool {
        self.may_upgrade.load(Relaxed)
    }

    pub(super) fn is_http_10(&self) -> bool {
        self.is_http_10.load(Relaxed)
    }

    pub(super) fn in_head(&self, is_in_head: bool) {
        self.is_in_head.store(is_in_head, Relaxed);
    }

    /// The rest of the head is no longer waited for.
    pub(super) fn lose_patience(&self) {
        self.is_out_of_patience.store(true, Relaxed);
    }

    pub(super) fn is_out_of_patience(&self) -> bool {
        self.is_out_of_patience.load(Relaxed)
    }

    /// A head was refused.
    pub(super) fn refused(&self, refusal: RefusedHead) {
        self.in_head(false);
        let _ = self.refusal.set(refusal);
    }

    /// Why the next request to begin is the stand-in of a refused head, if it is.
    pub(super) fn fault_of_next(&self) -> Option<HeadFault> {
        self.refusal
            .get()
            .filter(|refusal| refusal.after == self.requests.load(Relaxed))
            .map(|refusal| refusal.fault)
    }

    /// The connection is over for this.
    pub(super) fn violated(&self, violation: Violation) {
        let _ = self.violation.set(violation);
    }

    pub(super) fn violation(&self) -> Option<Violation> {
        self.violation.get().copied()
    }

    /// So many more requests were refused by h2.
    pub(super) fn unheard(&self, requests: u32) {
        if requests > 0 {
            self.unheard
                .store(self.unheard.load(Relaxed) + requests, Relaxed);
        }
    }

    /// How many there are to tell of.
    pub(super) fn take_unheard(&self) -> u32 {
        let requests = self.unheard.load(Relaxed);
        if requests > 0 {
            self.unheard.store(0, Relaxed);
        }
        requests
    }

    /// The socket takes no more for now.
    pub(super) fn blocked(&self) {
        self.is_blocked.store(true, Relaxed);
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Relaxed)
    }

    /// Something is to be written when its turn has come; or it has.
    pub(super) fn waits(&self, is_waiting: bool) {
        self.is_waiting.store(is_waiting, Relaxed);
    }

    /// The socket took bytes.
    pub(super) fn took(&self, bytes: usize) {
        self.is_blocked.store(false, Relaxed);
        self.taken
            .store(self.taken.load(Relaxed) + bytes as u64, Relaxed);
    }
}

/// A request in flight, until its response is complete or given up.
pub(super) struct InFlight(Arc<Progress>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}
