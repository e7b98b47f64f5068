//! What moves on a connection. hyper says nothing of its state, so the timers go by what passes through the socket and
//! the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use http::{Request, Version};
use http_body::Body;

use super::watch::Phase;

/// What the socket and the service tell the watch of a connection. One task writes and reads it; atomics only because
/// that task moves between threads.
#[derive(Default)]
pub(super) struct Progress {
    /// Requests handed to the handler so far
    requests: AtomicU64,
    /// Those whose response is not complete
    in_flight: AtomicU64,
    /// Whether bytes came since the last request was handed on, and while none was in flight
    has_heard: AtomicBool,
    /// Whether the last request had a body, of which bytes may still come
    had_body: AtomicBool,
    /// Whether it was of HTTP/1.0, where the end of the connection may be the end of the body
    is_http_10: AtomicBool,
    /// Whether the socket took no more
    is_blocked: AtomicBool,
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
    pub(super) fn begin<B: Body>(self: &Arc<Self>, request: &Request<B>) -> InFlight {
        self.count_request();
        self.in_flight.fetch_add(1, Relaxed);
        self.has_heard.store(false, Relaxed);
        self.had_body
            .store(!request.body().is_end_stream(), Relaxed);
        self.is_http_10
            .store(request.version() == Version::HTTP_10, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Where an HTTP/1 connection stands, with a number that changes when it moves on within the same phase.
    pub(super) fn h1_phase(&self) -> (Phase, u64) {
        let requests = self.requests.load(Relaxed);
        if self.is_blocked.load(Relaxed) {
            (Phase::Blocked, self.taken.load(Relaxed))
        } else if self.is_in_flight() {
            (Phase::Busy, requests)
        } else if self.has_heard.load(Relaxed) {
            (Phase::Head, requests)
        } else {
            (Phase::Idle, requests)
        }
    }

    /// The same for HTTP/2, which has `streams` open.
    pub(super) fn h2_phase(&self, streams: usize) -> (Phase, u64) {
        if self.is_blocked.load(Relaxed) {
            (Phase::Blocked, self.taken.load(Relaxed))
        } else if streams > 0 {
            (Phase::Busy, 0)
        } else {
            (Phase::Idle, self.requests.load(Relaxed))
        }
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.load(Relaxed) > 0
    }

    pub(super) fn had_body(&self) -> bool {
        self.had_body.load(Relaxed)
    }

    pub(super) fn is_http_10(&self) -> bool {
        self.is_http_10.load(Relaxed)
    }

    /// Bytes came.
    pub(super) fn heard(&self) {
        if !self.is_in_flight() {
            self.has_heard.store(true, Relaxed);
        }
    }

    /// The socket takes no more for now.
    pub(super) fn blocked(&self) {
        self.is_blocked.store(true, Relaxed);
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
