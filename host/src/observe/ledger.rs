//! Where exchanges are noted when they end: a line in the access log, and one more in the numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::access_log::AccessLog;
use super::metrics::Requests;

/// The access log, and the numbers of requests.
#[derive(Debug)]
pub struct Ledger {
    /// A line for each exchange.
    pub access_log: AccessLog,
    /// How many there were.
    pub requests: Arc<Requests>,
    /// The host itself cuts what is in flight.
    is_cutting: AtomicBool,
}

impl Ledger {
    /// Notes exchanges in both.
    #[must_use]
    pub fn new(access_log: AccessLog, requests: Arc<Requests>) -> Self {
        Self {
            access_log,
            requests,
            is_cutting: AtomicBool::new(false),
        }
    }

    /// From now on an exchange that breaks off was cut by the host, which stops, and not by its client.
    pub fn cut_off(&self) {
        self.is_cutting.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_cutting(&self) -> bool {
        self.is_cutting.load(Ordering::Relaxed)
    }
}
