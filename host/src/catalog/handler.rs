//! A guest ready to serve, with its name, its limits and its gate.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;

use super::health::Probation;
use super::hot::{Hot, Place};
use super::{HandlerSpec, Health, Tenant};
use crate::account::Account;
use crate::engine::{Fault, FaultKind, Guest, Uses};
use crate::gate::Gate;
use crate::limits::{self, HandlerLimits};
use crate::observe::{Seldom, Speaker};

/// A handler.
pub struct Handler {
    /// Its name in logs.
    pub name: Arc<str>,
    /// What was asked for. Its routes may have changed since, which makes no new handler.
    pub spec: HandlerSpec,
    /// SHA-256 of its component, in hex.
    pub digest: String,
    /// Who owns it, if anybody does.
    pub tenant: Option<Arc<Tenant>>,
    /// Who pays for what it uses.
    pub account: Arc<Account>,
    /// Whose its guest's output is.
    pub speaker: Arc<Speaker>,
    /// Who may run.
    pub gate: Arc<Gate>,
    /// Those who may not.
    pub overload: Overload,
    /// How it does.
    pub health: Health,
    /// What served under its name before, until it has proved itself.
    former: ArcSwapOption<Former>,
    /// What runs.
    place: Arc<Place>,
}

/// What there is to fall back to.
struct Former {
    handler: Arc<Handler>,
    /// How the one does that took its place.
    probation: Probation,
}

/// Requests that found no place, by whose places were all taken. Each is told for itself.
#[derive(Debug)]
pub struct Overload {
    /// The handler's.
    pub of_handler: Seldom,
    /// Its tenant's.
    pub of_tenant: Seldom,
    /// The host's.
    pub of_host: Seldom,
}

impl Default for Overload {
    fn default() -> Self {
        let seldom = || Seldom::new(limits::OVERLOAD_PAUSE);
        Self {
            of_handler: seldom(),
            of_tenant: seldom(),
            of_host: seldom(),
        }
    }
}

/// Whether a handler answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// It does, for all that is known.
    Ready,
    /// It fails again and again, and is not asked.
    Quarantined,
    /// Its guest could not be loaded when it was last asked for.
    Unloadable,
}

impl Service {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Quarantined => "quarantined",
            Self::Unloadable => "unloadable",
        }
    }
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
    pub(super) fn new(
        spec: HandlerSpec,
        digest: String,
        guest: Option<Arc<Guest>>,
        gate: Arc<Gate>,
        account: Arc<Account>,
        hot: &Arc<Hot>,
    ) -> Arc<Self> {
        let place = hot.place(&digest, guest);
        let tenant = hot.tenant(&spec);
        Arc::new(Self {
            name: spec.name.shared(),
            speaker: Speaker::new(
                spec.name.shared(),
                spec.tenant.clone(),
                &digest,
                Arc::clone(&account),
            ),
            digest,
            tenant,
            account,
            gate,
            overload: Overload::default(),
            health: Health::default(),
            former: ArcSwapOption::empty(),
            place,
            spec,
        })
    }

    /// Notes that it has answered.
    pub fn answered(&self) {
        let is_first = !self.health.has_answered();
        self.health.answered();
        let former = self.former.load();
        let Some(former) = &*former else {
            return;
        };
        if former.probation.answered(Instant::now()) {
            self.forget_former();
        } else if is_first {
            // It can be loaded again, and will hardly have to be.
            former.handler.place.let_go();
        }
    }

    /// Notes that it has failed, and says so if it is quarantined for that.
    pub fn failed(&self, why: impl FnOnce() -> String) {
        if self.spec.quarantine && self.health.failed(Instant::now()) {
            let why = why();
            tracing::error!(
                handler = &*self.name,
                "quarantined: it fails again and again, the last time with: {why}; now and then a request tries it again"
            );
            self.place.tell_sick();
        }
    }

    /// Keeps the one whose place it takes, to fall back to.
    pub(super) fn follows(self: &Arc<Self>, former: &Arc<Self>) {
        // Of several that nobody has asked yet, the one before them all is the one that was good.
        let of_former = former.former.swap(None);
        // So it is of one that answered some requests and then failed.
        let good = of_former.filter(|_| !former.health.is_good());
        let good = good.map_or_else(|| Arc::clone(former), |good| Arc::clone(&good.handler));
        // A version that is taken again has itself nothing to fall back to.
        let is_itself = good.spec.version.is_some() && good.spec.version == self.spec.version;
        // A name that has become another tenant's does not go back to the one who had it.
        let is_its_tenants = self.is_of_the_same_tenant(&good);
        if is_its_tenants && !is_itself && !Arc::ptr_eq(&good, self) {
            self.former.store(Some(Arc::new(Former {
                handler: good,
                probation: Probation::default(),
            })));
        }
    }

    /// Stays, however it fails.
    pub(super) fn forget_former(&self) {
        self.former.store(None);
    }

    /// The one to fall back to: it is quarantined, and has not proved itself.
    pub(super) fn fall_back(&self) -> Option<Arc<Self>> {
        let former = self.former.load();
        let former = former.as_ref().filter(|_| self.health.is_quarantined());
        former.map(|former| Arc::clone(&former.handler))
    }

    /// What runs. One that has cooled is loaded, off the threads that serve, in some milliseconds.
    ///
    /// # Errors
    /// A start that failed: its file has changed or is gone, and so is what was made of it.
    pub async fn guest(&self) -> Result<Arc<Guest>, Fault> {
        let loaded = self.place.guest(&self.spec).await;
        loaded.map_err(|error| Fault::new(FaultKind::StartFailed, format!("{error:#}")))
    }

    /// Whether requests are answered now, and why not.
    #[must_use]
    pub fn service(&self) -> Service {
        if self.spec.quarantine && self.health.is_quarantined() {
            Service::Quarantined
        } else if self.place.is_broken() {
            Service::Unloadable
        } else {
            Service::Ready
        }
    }

    /// How many requests an instance serves now, and without faults, if faults have made it fewer.
    #[must_use]
    pub fn reduced_uses(&self) -> Option<(Uses, Uses)> {
        self.place.uses().filter(|(now, granted)| now != granted)
    }

    /// Whether this handler and `other` belong to one tenant, or to none.
    #[must_use]
    pub fn is_of_the_same_tenant(&self, other: &Self) -> bool {
        self.spec.tenant == other.spec.tenant
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
