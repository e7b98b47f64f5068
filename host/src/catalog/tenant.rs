//! What all handlers of a tenant may use together.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Route;
use crate::account::Account;
use crate::capabilities::clocks::Grain;
use crate::engine::{Budget, Common};
use crate::gate::{Full, Gate, Permit};
use crate::limits::{self, HandlerLimits};

/// A tenant as it was said. What is None has no ceiling but those of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantSpec {
    /// Its name.
    pub name: Arc<str>,
    /// Bytes of all its instances together, and what the host holds for them.
    pub memory: Option<u64>,
    /// Requests that its handlers serve at once.
    pub concurrent_requests: Option<usize>,
    /// Requests that its handlers get in a second.
    pub requests_per_second: Option<u32>,
    /// What the clocks of its handlers show at least between two steps.
    pub coarse_clocks: Option<Duration>,
    /// Handlers that it may have, those of files included.
    pub handlers: Option<usize>,
    /// Handlers that it has of files.
    pub handlers_of_files: usize,
    /// Bytes of the components of all versions that were deployed for it at the admin door and are kept.
    pub stored_bytes: Option<u64>,
    /// The routes that it may take by itself: those within one of these.
    pub routes: Vec<Route>,
}

/// Who owns handlers, with what they use now. Its ceilings change while it is used.
pub struct Tenant {
    name: Arc<str>,
    /// None: nobody says any more that there is such a tenant.
    said: ArcSwapOption<TenantSpec>,
    account: Arc<Account>,
    gate: Gate,
    rate: ArcSwapOption<DefaultDirectRateLimiter>,
    memory: Arc<Budget>,
    clocks: Grain,
    /// Deploys and rollbacks by its tokens.
    deploys: Arc<Semaphore>,
}

/// What the handlers of a tenant use together.
#[derive(Debug, Clone, Copy)]
pub struct TenantUsage {
    /// Requests that hold a place.
    pub held: usize,
    /// Requests that wait for one.
    pub waiting: usize,
    /// Places, if there is a ceiling.
    pub most: Option<usize>,
    /// Bytes of its instances, and what the host holds for them.
    pub memory: usize,
    /// What that may be, if there is a ceiling.
    pub most_memory: Option<u64>,
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenant")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Places of a tenant that has no ceiling: more than the host has.
const UNCOUNTED: usize = 1 << 30;

/// Too many requests in a second; how long until there is room for the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOften(pub Duration);

impl Tenant {
    fn new(name: &Arc<str>) -> Self {
        Self {
            name: Arc::clone(name),
            said: ArcSwapOption::empty(),
            account: Account::new(),
            gate: Gate::new(UNCOUNTED, UNCOUNTED, HandlerLimits::default().permit_wait),
            rate: ArcSwapOption::empty(),
            memory: Arc::new(Budget::new(usize::MAX)),
            clocks: Grain::default(),
            deploys: Arc::new(Semaphore::new(limits::TENANT_DEPLOYS)),
        }
    }

    /// What its handlers use now.
    #[must_use]
    pub fn usage(&self) -> TenantUsage {
        let said = self.said.load();
        let said = said.as_ref();
        TenantUsage {
            held: self.gate.taken(),
            waiting: self.gate.waiting(),
            most: said.and_then(|said| said.concurrent_requests),
            memory: self.memory.used(),
            most_memory: said.and_then(|said| said.memory),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What the clocks of its handlers show at least between two steps. None: they are those of this machine.
    #[must_use]
    pub fn coarse_clocks(&self) -> Option<Duration> {
        self.said.load().as_ref()?.coarse_clocks
    }

    /// What its handlers use is charged to.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Counts a request.
    ///
    /// # Errors
    /// When there were too many. The first second of a quiet tenant's may come all at once.
    pub fn count(&self) -> Result<(), TooOften> {
        let rate = self.rate.load();
        let Some(rate) = &*rate else {
            return Ok(());
        };
        rate.check()
            .map_err(|not_until| TooOften(not_until.wait_time_from(DefaultClock::default().now())))
    }

    /// Waits for one of its places.
    ///
    /// # Errors
    /// As [`Gate::admit`].
    pub async fn admit(&self) -> Result<Permit, Full> {
        self.gate.admit().await
    }

    /// One of its places that is free now.
    ///
    /// # Errors
    /// As [`Gate::try_admit`].
    pub fn try_admit(&self) -> Result<Permit, Full> {
        self.gate.try_admit()
    }

    /// What its guests have in common.
    pub(super) fn common(&self) -> Common {
        Common {
            memory: Some(Arc::clone(&self.memory)),
            clocks: Some(self.clocks.clone()),
        }
    }

    /// A place for a deploy or a rollback. None: its places are taken.
    pub(super) fn deploy_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.deploys).try_acquire_owned().ok()
    }

    /// What holds from now on. What its handlers use already is counted against it.
    fn say(&self, spec: &TenantSpec) {
        let before = self.said.load_full();
        let memory = spec.memory.map(usize::try_from);
        self.memory
            .resize(memory.and_then(Result::ok).unwrap_or(usize::MAX));
        let places = spec.concurrent_requests.unwrap_or(UNCOUNTED).min(UNCOUNTED);
        self.gate.resize(places, places);
        self.clocks.set(spec.coarse_clocks);
        let rate = spec.requests_per_second;
        if before.is_none_or(|before| before.requests_per_second != rate) {
            let limiter = |most| Arc::new(RateLimiter::direct(Quota::per_second(most)));
            self.rate.store(rate.and_then(NonZeroU32::new).map(limiter));
        }
        self.said.store(Some(Arc::new(spec.clone())));
    }

    fn is_in_use(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || Arc::strong_count(&self.memory) > 1
    }
}

/// The tenants of a host. One that nobody speaks of any more is remembered for as long as something of it runs.
#[derive(Debug, Default)]
pub struct Tenants(Mutex<BTreeMap<Arc<str>, Arc<Tenant>>>);

impl Tenants {
    /// These are the tenants from now on, with these ceilings.
    pub fn say(&self, specs: &[TenantSpec]) {
        let mut tenants = self.all();
        for spec in specs {
            let tenant = tenants.entry(Arc::clone(&spec.name));
            tenant
                .or_insert_with(|| Arc::new(Tenant::new(&spec.name)))
                .say(spec);
        }
        let said: HashSet<&Arc<str>> = specs.iter().map(|spec| &spec.name).collect();
        tenants.retain(|name, tenant| {
            let is_said = said.contains(name);
            if !is_said {
                tenant.said.store(None);
            }
            is_said || tenant.is_in_use()
        });
    }

    /// What is said of a tenant. None: there is none of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<TenantSpec>> {
        self.all().get(name)?.said.load_full()
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        let all = self.all();
        let said = all.values().filter(|tenant| tenant.said.load().is_some());
        said.map(|tenant| Arc::clone(&tenant.name)).collect()
    }

    /// Each of them with what it uses now, by name.
    #[must_use]
    pub fn usage(&self) -> Vec<(Arc<str>, TenantUsage)> {
        let all = self.all();
        let said = all.values().filter(|tenant| tenant.said.load().is_some());
        said.map(|tenant| (Arc::clone(&tenant.name), tenant.usage()))
            .collect()
    }

    pub(super) fn get(&self, name: &Arc<str>) -> Arc<Tenant> {
        let mut tenants = self.all();
        let tenant = tenants.entry(Arc::clone(name));
        Arc::clone(tenant.or_insert_with(|| Arc::new(Tenant::new(name))))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Tenant>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str) -> TenantSpec {
        TenantSpec {
            name: Arc::from(name),
            memory: None,
            concurrent_requests: None,
            requests_per_second: None,
            coarse_clocks: None,
            handlers: None,
            handlers_of_files: 0,
            stored_bytes: None,
            routes: Vec::new(),
        }
    }

    #[test]
    fn a_tenant_that_is_said_again_is_the_same_with_other_ceilings() {
        let tenants = Tenants::default();
        let slow = TenantSpec {
            requests_per_second: Some(1),
            ..spec("acme")
        };
        tenants.say(std::slice::from_ref(&slow));
        let acme = tenants.get(&slow.name);
        assert!(acme.count().is_ok() && acme.count().is_err());
        tenants.say(std::slice::from_ref(&slow));
        assert!(acme.count().is_err(), "what it has used stays used");
        tenants.say(&[spec("acme"), spec("other")]);
        assert!(acme.count().is_ok());
        assert_eq!(tenants.names(), [Arc::from("acme"), Arc::from("other")]);

        tenants.say(&[]);
        assert!(tenants.find("acme").is_none() && tenants.names().is_empty());
        assert_eq!(tenants.all().len(), 1, "something of it runs");
        tenants.say(std::slice::from_ref(&slow));
        assert!(Arc::ptr_eq(&acme, &tenants.get(&slow.name)));
    }
}
