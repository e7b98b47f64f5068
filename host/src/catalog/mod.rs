//! What is deployed: the handlers, and which of them a request is for.

mod audit;
mod deployer;
mod fall_back;
mod handler;
mod health;
mod hot;
mod loader;
mod of_files;
mod own;
mod ownership;
mod passwords;
mod path;
mod policy;
mod record;
mod rights;
mod rollout;
mod route;
mod router;
mod spec;
mod store;
mod tenant;
mod versions;
mod warm_up;
mod who;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method};

pub use deployer::{Deployer, Deploys, Origin, Refused, Taken, Unready};
pub use fall_back::fall_back;
pub use handler::{Handler, Overload, Service};
pub use health::{Health, Quarantined};
pub use own::OwnAnswer;
pub use passwords::Passwords;
pub(crate) use path::is_dots;
pub use policy::{Access, BasicAuth, Cors, ErrorPages, HeaderChanges, Origins, Policy};
pub use record::{Action, AuditLine, Record, Settings, Version};
pub use rollout::{Event, Rollout};
pub(crate) use route::Unrepeated;
pub use route::{HostPattern, PathPattern, Route, RouteError, Shown};
pub use router::{Conflict, Found, Router};
pub(crate) use spec::Spellings;
pub use spec::{Alike, BadName, HandlerName, HandlerSpec, Source, Wanted};
pub use store::{Store, StoreError};
pub use tenant::{Tenant, TenantSpec, TenantUsage, Tenants, TooOften};
pub use versions::{
    Ask, Deployed, Expected, Listed, NotDone, Receiving, Step, Turn, Versions, not_granted,
};
pub use warm_up::WarmUp;
pub use who::Who;

/// All handlers at one moment. A catalog never changes; it is replaced.
#[derive(Debug, Default)]
pub struct Catalog {
    entries: BTreeMap<HandlerName, Entry>,
    own: Vec<(Route, OwnAnswer)>,
    /// What the host does on routes that say nothing of it, and where there is none.
    every: Option<Arc<Policy>>,
    router: Router<Target>,
    /// Handlers that served before the host was started and do not yet. None of them is among the entries.
    awaited: BTreeMap<HandlerName, Awaited>,
    is_shared: bool,
    is_incomplete: bool,
}

/// What is kept for a handler that served before the host was started, until it does again or is taken away.
#[derive(Debug, Clone)]
struct Awaited {
    tenant: Option<Arc<str>>,
    /// Those that it had; in the catalog, those of them that nobody else has.
    routes: Vec<Route>,
    origin: Origin,
    /// It could not be made.
    has_failed: bool,
}

impl Awaited {
    fn new(tenant: Option<Arc<str>>, routes: Vec<Route>, origin: Origin) -> Self {
        Self {
            tenant,
            routes,
            origin,
            has_failed: false,
        }
    }

    /// See [`Absent::is_starting`].
    fn is_starting(&self, is_incomplete: bool) -> bool {
        self.origin == Origin::Admin && is_incomplete && !self.has_failed
    }

    fn absent(&self, name: &HandlerName, is_incomplete: bool) -> Absent {
        Absent {
            name: name.shared(),
            tenant: self.tenant.clone(),
            is_starting: self.is_starting(is_incomplete),
        }
    }
}

/// A handler and where it is.
#[derive(Debug, Clone)]
struct Entry {
    routes: Vec<Route>,
    handler: Arc<Handler>,
    origin: Origin,
}

/// Who answers.
#[derive(Debug, Clone)]
pub enum Target {
    /// A guest.
    Handler(Arc<Handler>),
    /// The host itself.
    Own(OwnAnswer),
    /// Nobody.
    Awaited(Absent),
}

/// A handler that served before the host was started, and does not yet.
#[derive(Debug, Clone)]
pub struct Absent {
    /// Its name.
    pub name: Arc<str>,
    /// Who owns it.
    pub tenant: Option<Arc<str>>,
    /// Whether it is still being made, see [`Catalog::is_starting`]. If not, it could not be.
    pub is_starting: bool,
}

/// Where a request goes.
#[derive(Debug)]
pub enum Routed<'a> {
    /// To whom the route says.
    To(&'a Target, &'a Route),
    /// Nowhere: the path is there for these methods only, by this route and perhaps others.
    Method(&'a HeaderValue, &'a Route),
    /// Nowhere.
    Nothing,
}

impl Catalog {
    /// Where a request goes, if it had this method.
    #[must_use]
    pub fn route(&self, request: &Parts, method: &Method) -> Routed<'_> {
        let host = request
            .uri
            .authority()
            .map_or("", |authority| authority.as_str());
        // Before this the target was checked to have a path, or to be `*`, which routes to the root.
        let path = match request.uri.path() {
            "" | "*" => "/",
            path => path,
        };
        match self.router.find(host, path, method) {
            Found::Target { target, route } => Routed::To(target, route),
            Found::Method { allow, route } => Routed::Method(allow, route),
            Found::Nothing => Routed::Nothing,
        }
    }

    /// What the host does around the answer to a request that goes there.
    #[must_use]
    pub fn policy<'a>(&'a self, routed: &Routed<'a>) -> Option<&'a Arc<Policy>> {
        let own = match routed {
            // Who is not let in does not learn what is there, either.
            Routed::To(_, route) | Routed::Method(_, route) => route.policy.as_ref(),
            Routed::Nothing => None,
        };
        own.or(self.every.as_ref())
    }

    /// The handler of a name.
    #[must_use]
    pub fn handler(&self, name: &HandlerName) -> Option<&Arc<Handler>> {
        self.entries.get(name).map(|entry| &entry.handler)
    }

    /// The handler that is called so.
    #[must_use]
    pub fn called(&self, name: &str) -> Option<&Arc<Handler>> {
        self.entries.get(name).map(|entry| &entry.handler)
    }

    /// Where the handler of a name comes from.
    #[must_use]
    pub fn origin(&self, name: &HandlerName) -> Option<Origin> {
        self.entries.get(name).map(|entry| entry.origin)
    }

    /// Whether its handlers are of more than one account.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Whether handlers of an earlier start are still being made.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// Whether a handler was deployed before the host was started, and is still being made. Only one of the admin door: a start
    /// waits until those of files are made or refused.
    #[must_use]
    pub fn is_starting(&self, name: &HandlerName) -> bool {
        let awaited = self.awaited.get(name);
        awaited.is_some_and(|awaited| awaited.is_starting(self.is_incomplete))
    }

    /// A handler of this name that is awaited.
    #[must_use]
    pub fn awaited(&self, name: &str) -> Option<Absent> {
        let (name, awaited) = self.awaited.get_key_value(name)?;
        Some(awaited.absent(name, self.is_incomplete))
    }

    /// Whether there is a handler of this name and tenant, or one is awaited.
    #[must_use]
    pub fn knows(&self, name: &str, tenant: Option<&str>) -> bool {
        let owner = match self.called(name) {
            Some(handler) => Some(&handler.spec.tenant),
            None => self.awaited.get(name).map(|awaited| &awaited.tenant),
        };
        owner.is_some_and(|owner| owner.as_deref() == tenant)
    }

    /// Every handler, by name.
    pub fn handlers(&self) -> impl Iterator<Item = &Arc<Handler>> {
        self.entries.values().map(|entry| &entry.handler)
    }
}
