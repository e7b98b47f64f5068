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

use http::HeaderValue;
use http::request::Parts;

pub use deployer::{Deployer, Deploys, Owner, Refused, Unready};
pub use fall_back::fall_back;
pub use handler::{Handler, Service};
pub use health::{Health, Quarantined};
pub use own::OwnAnswer;
pub use record::{Action, AuditLine, Record, Settings, Version};
pub use rollout::{Event, Rollout};
pub use route::{HostPattern, PathPattern, Route, RouteError, Shown};
pub use router::{Conflict, Found, Router};
pub use spec::{BadName, HandlerName, HandlerSpec, Source, Wanted};
pub use store::{Store, StoreError};
pub use tenant::{Tenant, TenantSpec, TenantUsage, Tenants, TooOften};
pub use versions::{Ask, Deployed, Expected, Listed, NotDone, Receiving, Step, Turn, Versions};
pub use warm_up::WarmUp;
pub use who::Who;

/// All handlers at one moment. A catalog never changes; it is replaced.
#[derive(Debug, Default)]
pub struct Catalog {
    entries: BTreeMap<HandlerName, Entry>,
    own: Vec<(Route, OwnAnswer)>,
    router: Router<Target>,
}

/// A handler and where it is.
#[derive(Debug, Clone)]
struct Entry {
    routes: Vec<Route>,
    handler: Arc<Handler>,
    owner: Owner,
}

/// Who answers.
#[derive(Debug, Clone)]
pub enum Target {
    /// A guest.
    Handler(Arc<Handler>),
    /// The host itself.
    Own(OwnAnswer),
}

/// Where a request goes.
#[derive(Debug)]
pub enum Routed<'a> {
    /// To whom the route says.
    To(&'a Target, &'a Route),
    /// Nowhere: the path is there for these methods only.
    Method(&'a HeaderValue),
    /// Nowhere.
    Nothing,
}

impl Catalog {
    /// Where a request goes.
    #[must_use]
    pub fn route(&self, request: &Parts) -> Routed<'_> {
        let host = request
            .uri
            .authority()
            .map_or("", |authority| authority.as_str());
        // Before this the target was checked to have a path, or to be `*`, which routes to the root.
        let path = match request.uri.path() {
            "" | "*" => "/",
            path => path,
        };
        match self.router.find(host, path, &request.method) {
            Found::Target { target, route } => Routed::To(target, route),
            Found::Method { allow } => Routed::Method(allow),
            Found::Nothing => Routed::Nothing,
        }
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

    /// Whose the handler of a name is.
    #[must_use]
    pub fn owner(&self, name: &HandlerName) -> Option<Owner> {
        self.entries.get(name).map(|entry| entry.owner)
    }

    /// Every handler, by name.
    pub fn handlers(&self) -> impl Iterator<Item = &Arc<Handler>> {
        self.entries.values().map(|entry| &entry.handler)
    }
}
