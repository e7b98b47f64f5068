//! A guest ready to serve, with its name, its limits and its gate.

use std::fmt;
use std::sync::Arc;

use super::HandlerSpec;
use super::hot::{Hot, Place};
use crate::engine::{Fault, FaultKind, Guest};
use crate::gate::Gate;
use crate::limits::{self, HandlerLimits};
use crate::observe::Seldom;

/// A handler.
pub struct Handler {
    /// Its name in logs.
    pub name: Arc<str>,
    /// What was asked for. Its routes may have changed since, which makes no new handler.
    pub spec: HandlerSpec,
    /// SHA-256 of its component, in hex.
    pub digest: String,
    /// Who may run.
    pub gate: Gate,
    /// Those who may not.
    pub overload: Seldom,
    /// What runs.
    place: Arc<Place>,
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Handler {
    /// A handler whose guest is loaded, or will be when it is asked for. Call it inside a runtime: a task looks after
    /// the guest while it is loaded.
    pub(super) fn new(spec: HandlerSpec, digest: String, guest: Option<Guest>, hot: &Arc<Hot>) -> Arc<Self> {
        let place = hot.place(guest);
        let limits = &spec.limits;
        let gate = Gate::new(
            limits.concurrent_requests,
            limits.waiting_requests,
            limits.permit_wait,
        );
        Arc::new(Self {
            name: spec.name.shared(),
            digest,
            gate,
            overload: Seldom::new(limits::OVERLOAD_PAUSE),
            place,
            spec,
        })
    }

    /// What runs. One that has cooled is loaded, off the threads that serve, in some milliseconds.
    ///
    /// # Errors
    /// A start that failed: its file has changed or is gone, and so is what was made of it.
    pub async fn guest(&self) -> Result<Arc<Guest>, Fault> {
        let loaded = self.place.guest(&self.spec, &self.digest).await;
        loaded.map_err(|error| Fault::new(FaultKind::StartFailed, format!("{error:#}")))
    }

    /// Whether `other` would answer as this one does.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest && self.spec.makes_the_same(&other.spec)
    }

    /// What it may use.
    #[must_use]
    pub fn limits(&self) -> &HandlerLimits {
        &self.spec.limits
    }
}
