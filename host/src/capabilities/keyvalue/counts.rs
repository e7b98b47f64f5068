//! What guests did with buckets.

use std::sync::atomic::{AtomicU64, Ordering};

use super::store::{Changed, Error};
use crate::capabilities::counts::counted;

/// What guests of one handler did: by operation and outcome.
#[derive(Debug, Default)]
pub struct OfHandler([[AtomicU64; OUTCOMES.len()]; OPERATIONS.len()]);

#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    Open,
    Get,
    Exists,
    Set,
    Delete,
    ListKeys,
    Increment,
    Swap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Denied,
    OverQuota,
    Invalid,
    Stale,
    Unavailable,
    Timeout,
}

const OPERATIONS: [&str; 8] = [
    "open",
    "get",
    "exists",
    "set",
    "delete",
    "list-keys",
    "increment",
    "swap",
];

const OUTCOMES: [&str; 7] = [
    "ok",
    "denied",
    "over-quota",
    "invalid",
    "stale",
    "unavailable",
    "timeout",
];

impl Outcome {
    pub(super) fn of_error(error: &Error) -> Self {
        match error {
            Error::Full(_) => Self::OverQuota,
            Error::Invalid(_) => Self::Invalid,
            Error::Unavailable(_) => Self::Unavailable,
        }
    }

    pub(super) fn of_change(changed: &Changed) -> Self {
        match changed {
            Changed::Stale(_) => Self::Stale,
            Changed::Done | Changed::Sum(_) => Self::Ok,
        }
    }
}

impl OfHandler {
    pub(super) fn add(&self, operation: Operation, outcome: Outcome) {
        self.0[operation as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Operation, outcome, and how often; what never happened is left out.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        counted(OPERATIONS, OUTCOMES, &self.0)
    }
}
