//! What all handlers of a tenant may use together.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::engine::Budget;
use crate::gate::{Full, Gate, Permit};
use crate::limits::{self, HandlerLimits};

/// A tenant as it was said.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TenantSpec {
    /// Its name.
    pub name: Arc<str>,
    /// Bytes of all its instances together.
    pub memory: Option<u64>,
    /// Requests that its handlers serve at once.
    pub concurrent_requests: Option<usize>,
    /// Requests that its handlers get in a second.
    pub requests_per_second: Option<u32>,
}

/// Who owns handlers, with what they use now.
pub struct Tenant {
    spec: TenantSpec,
    gate: Option<Gate>,
    rate: Option<DefaultDirectRateLimiter>,
    memory: Option<Arc<Budget>>,
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

/// Too many requests in a second; how long until there is room for the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOften(pub Duration);

impl Tenant {
    fn new(spec: TenantSpec) -> Self {
        let unsaid = HandlerLimits::default();
        Self {
            gate: spec
                .concurrent_requests
                .map(|most| Gate::new(most, most, unsaid.permit_wait)),
            rate: spec
                .requests_per_second
                .and_then(NonZeroU32::new)
                .map(|most| RateLimiter::direct(Quota::per_second(most))),
            memory: spec
                .memory
                .map(|most| Arc::new(Budget::new(usize::try_from(most).unwrap_or(usize::MAX)))),
            spec,
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// When there were too many. The first second of a quiet tenant's may come all at once.
    pub fn count(&self) -> Result<(), TooOften> {
        let Some(rate) = &self.rate else {
            return Ok(());
        };
        rate.check()
            .map_err(|not_until| TooOften(not_until.wait_time_from(DefaultClock::default().now())))
    }

    /// Waits for one of its places, if they are counted.
    ///
    /// # Errors
    /// As [`Gate::admit`].
    pub async fn admit(&self) -> Result<Option<Permit>, Full> {
        match &self.gate {
            Some(gate) => gate.admit().await.map(Some),
            None => Ok(None),
        }
    }

    /// One of its places that is free now, if they are counted.
    ///
    /// # Errors
    /// As [`Gate::try_admit`].
    pub fn try_admit(&self) -> Result<Option<Permit>, Full> {
        self.gate.as_ref().map(Gate::try_admit).transpose()
    }

    /// Whether handlers of this one and of `other` belong together, whatever ceilings are said of it meanwhile.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.spec.name == other.spec.name
    }

    fn is_in_use(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
            || self
                .memory
                .as_ref()
                .is_some_and(|memory| Arc::strong_count(memory) > 1)
    }

    /// What its instances may take together.
    pub(super) fn memory(&self) -> Option<Arc<Budget>> {
        self.memory.clone()
    }
}

/// The tenants of a host, as they were said. While the handlers of one are made anew because its ceilings have changed,
/// the old ones count by themselves.
#[derive(Debug, Default)]
pub(super) struct Tenants(Mutex<HashMap<TenantSpec, Arc<Tenant>>>);

impl Tenants {
    pub(super) fn get(&self, spec: &TenantSpec) -> Arc<Tenant> {
        let mut tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = tenants.get(spec) {
            return Arc::clone(tenant);
        }
        // Those of whom nothing is left, also no instance: only when there are many, since one whose handlers are being
        // made is held by nobody yet.
        if tenants.len() >= limits::HANDLERS {
            tenants.retain(|_, tenant| tenant.is_in_use());
        }
        let tenant = Arc::new(Tenant::new(spec.clone()));
        tenants.insert(spec.clone(), Arc::clone(&tenant));
        tenant
    }
}
