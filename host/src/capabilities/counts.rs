//! How often guests did what with what they were granted, and what became of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits;

/// A handler and its tenant.
pub type Whose = (Arc<str>, Option<Arc<str>>);

/// By handler.
#[derive(Debug, Default)]
pub struct Counts<T>(Mutex<HashMap<Whose, Arc<T>>>);

impl<T: Default> Counts<T> {
    /// What a handler's guests do is counted here, also after it was replaced.
    pub(super) fn of_handler(&self, handler: &Arc<str>, tenant: Option<&Arc<str>>) -> Arc<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let whose = (Arc::clone(handler), tenant.cloned());
        if !all.contains_key(&whose) && all.len() >= limits::METRIC_SERIES {
            return Arc::default();
        }
        Arc::clone(all.entry(whose).or_default())
    }

    /// All of them, by name. Those of handlers of which `is_there` says that they are gone are forgotten, unless somebody still
    /// counts: a handler that is being put in place does already.
    pub fn all(&self, is_there: impl Fn(&Whose) -> bool) -> Vec<(Whose, Arc<T>)> {
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

/// Operation, outcome, and how often; what never happened is left out.
pub(super) fn counted<const OPERATIONS: usize, const OUTCOMES: usize>(
    operations: [&'static str; OPERATIONS],
    outcomes: [&'static str; OUTCOMES],
    counts: &[[AtomicU64; OUTCOMES]; OPERATIONS],
) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
    let rows = operations.into_iter().zip(counts);
    rows.flat_map(move |(operation, counts)| {
        let counts = outcomes.into_iter().zip(counts);
        counts.filter_map(move |(outcome, count)| {
            let count = count.load(Ordering::Relaxed);
            (count > 0).then_some((operation, outcome, count))
        })
    })
}
