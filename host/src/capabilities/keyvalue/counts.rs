//! How often guests did what with buckets, and what became of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::store::{Changed, Error};
use crate::limits;

/// A handler and its tenant.
pub type Whose = (Arc<str>, Option<Arc<str>>);

/// By handler.
#[derive(Debug, Default)]
pub struct Counts(Mutex<HashMap<Whose, Arc<OfHandler>>>);

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
        let rows = OPERATIONS.into_iter().zip(&self.0);
        rows.flat_map(|(operation, counts)| {
            let counts = OUTCOMES.into_iter().zip(counts);
            counts.filter_map(move |(outcome, count)| {
                let count = count.load(Ordering::Relaxed);
                (count > 0).then_some((operation, outcome, count))
            })
        })
    }
}

impl Counts {
    /// What a handler's guests do is counted here, also after it was replaced.
    pub(super) fn of_handler(
        &self,
        handler: &Arc<str>,
        tenant: Option<&Arc<str>>,
    ) -> Arc<OfHandler> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let whose = (Arc::clone(handler), tenant.cloned());
        if !all.contains_key(&whose) && all.len() >= limits::METRIC_SERIES {
            return Arc::default();
        }
        Arc::clone(all.entry(whose).or_default())
    }

    /// All of them, by name. Those of handlers of which `is_there` says that they are gone are forgotten, unless somebody still
    /// counts: a handler that is being put in place does already.
    pub fn all(&self, is_there: impl Fn(&Whose) -> bool) -> Vec<(Whose, Arc<OfHandler>)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|whose, counts| is_there(whose) || Arc::strong_count(counts) > 1);
        let mut all: Vec<_> = all
            .iter()
            .map(|(whose, counts)| (whose.clone(), Arc::clone(counts)))
            .collect();
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }
}
