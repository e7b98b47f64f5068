//! A guest ready to serve, with its name, its limits and its gate.

use std::fmt;
use std::sync::{Arc, Weak};

use super::HandlerSpec;
use crate::engine::Guest;
use crate::gate::Gate;
use crate::limits::{self, HandlerLimits};
use crate::observe::Seldom;

/// A handler.
pub struct Handler {
    /// Its name in logs.
    pub name: Arc<str>,
    /// What it may use.
    pub limits: HandlerLimits,
    /// Who may run.
    pub gate: Gate,
    /// Those who may not.
    pub overload: Seldom,
    /// What runs.
    pub guest: Arc<Guest>,
    /// What its guest prints is kept for the pages of `host dev`.
    pub keep_output: bool,
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Handler {
    /// Makes a guest ready to serve. Call it inside a runtime: a task of the handler drops the
    /// instances that nobody uses, for as long as the guest lives.
    #[must_use]
    pub fn new(spec: HandlerSpec, guest: Guest) -> Arc<Self> {
        let HandlerSpec {
            name,
            limits,
            keep_output,
            ..
        } = spec;
        let guest = Arc::new(guest);
        tokio::spawn(expire_idle(Arc::downgrade(&guest)));
        let gate = Gate::new(
            limits.concurrent_requests,
            limits.waiting_requests,
            limits.permit_wait,
        );
        Arc::new(Self {
            name,
            limits,
            gate,
            overload: Seldom::new(limits::OVERLOAD_PAUSE),
            guest,
            keep_output,
        })
    }
}

async fn expire_idle(guest: Weak<Guest>) {
    while let Some(guest) = guest.upgrade() {
        let pause = guest.expire_idle();
        drop(guest);
        tokio::time::sleep(pause).await;
    }
}
