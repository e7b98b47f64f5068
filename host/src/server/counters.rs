//! What happened to the connections of a door, in numbers that only grow, except for the connections open now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::HeadFault;
use super::tls::Fault;

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
    /// Request bodies that came too slowly
    pub slow_bodies: AtomicU64,
    /// Connections closed at once because their address had too many
    pub too_many_of_address: AtomicU64,
    /// Connections closed for want of requests
    pub idle: AtomicU64,
    /// Connections closed because the client took no bytes
    pub stalled: AtomicU64,
    /// HTTP/2 streams reset because the client gave them no window
    pub stalled_streams: AtomicU64,
    /// Heads of which no request came, other than the slow ones
    pub bad_heads: AtomicU64,
    /// HTTP/2 connections ended for a flood of frames that move nothing, for a frame of a wrong length or out of place, or for
    /// headers that are no HPACK. What else is wrong in HTTP/2 is answered by h2, which tells nobody
    pub violations: AtomicU64,
    /// HTTP/2 connections closed because the client answered no PING
    pub unanswered_pings: AtomicU64,
    /// HTTP/1 clients that left with a request in flight
    pub left: AtomicU64,
    /// Connections that had to begin with a PROXY header and began with something else
    pub bad_proxy_headers: AtomicU64,
    /// How TLS began
    pub handshakes: Handshakes,
    /// Panics of a handler; each ended its connection or its stream, and nothing else
    pub panics: AtomicU64,
}

/// Handshakes of TLS: those that were done, and those that were not by why.
#[derive(Debug, Default)]
pub struct Handshakes {
    /// From the beginning
    pub full: AtomicU64,
    /// With a ticket of a session before
    pub resumed: AtomicU64,
    /// Not done in time
    pub slow: AtomicU64,
    /// The client was gone before it was done
    pub left: AtomicU64,
    /// The client spoke HTTP in the clear
    pub clear: AtomicU64,
    /// No version, cipher or protocol that both know
    pub nothing_in_common: AtomicU64,
    /// The client refused ours: most often it does not trust the certificate
    pub refused: AtomicU64,
    /// The client has shown no certificate where one is required, or one that is not good
    pub client_certificate: AtomicU64,
    /// Something else than TLS, or TLS that is wrong
    pub malformed: AtomicU64,
}

impl Handshakes {
    /// How many went how.
    #[must_use]
    pub fn outcomes(&self) -> Vec<(&'static str, u64)> {
        let all = [
            ("full", &self.full),
            ("resumed", &self.resumed),
            ("slow", &self.slow),
            ("left", &self.left),
            ("clear", &self.clear),
            ("nothing-in-common", &self.nothing_in_common),
            ("refused", &self.refused),
            ("client-certificate", &self.client_certificate),
            ("malformed", &self.malformed),
        ];
        all.map(read).to_vec()
    }

    pub(super) fn failed(&self, fault: Fault) {
        add(match fault {
            Fault::Clear => &self.clear,
            Fault::Left => &self.left,
            Fault::NothingInCommon => &self.nothing_in_common,
            Fault::Refused => &self.refused,
            Fault::ClientCertificate => &self.client_certificate,
            Fault::Malformed => &self.malformed,
        });
    }
}

impl Counters {
    /// Connections and streams that ended early, by why: all counters but those of connections that are open, that were
    /// accepted, and that could not be.
    #[must_use]
    pub fn events(&self) -> Vec<(&'static str, u64)> {
        let all = [
            ("silent", &self.silent),
            ("slow-head", &self.slow_heads),
            ("slow-body", &self.slow_bodies),
            ("too-many-of-address", &self.too_many_of_address),
            ("idle", &self.idle),
            ("stalled", &self.stalled),
            ("stalled-stream", &self.stalled_streams),
            ("bad-head", &self.bad_heads),
            ("http2-violation", &self.violations),
            ("unanswered-ping", &self.unanswered_pings),
            ("left", &self.left),
            ("bad-proxy-header", &self.bad_proxy_headers),
            ("panic", &self.panics),
        ];
        all.map(read).to_vec()
    }

    /// One more connection, for as long as the value lives.
    pub(super) fn open(self: &Arc<Self>) -> OpenConnection {
        // In this order: who sees it counted sees it open.
        add(&self.open);
        add(&self.accepted);
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

fn read((what, count): (&'static str, &AtomicU64)) -> (&'static str, u64) {
    (what, count.load(Ordering::Relaxed))
}

/// One more.
pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
