//! What is deployed: the handlers, and which of them a request is for.

mod deployer;
mod handler;
mod route;
mod router;

use std::sync::Arc;

use http::request::Parts;

pub use deployer::{Deployer, HandlerSpec, Source};
pub use handler::Handler;
pub use route::{HostPattern, PathPattern, Route, RouteError, Shown};
pub use router::{Conflict, Found, Router};

/// All handlers at one moment. A catalog never changes; it is replaced.
#[derive(Debug)]
pub struct Catalog {
    root: Arc<Handler>,
}

impl Catalog {
    /// A catalog with one handler for every path.
    #[must_use]
    pub fn of_one(handler: Arc<Handler>) -> Self {
        Self { root: handler }
    }

    /// The handler that a request is for.
    #[must_use]
    pub fn route(&self, _: &Parts) -> Option<&Arc<Handler>> {
        Some(&self.root)
    }

    /// Every handler.
    pub fn handlers(&self) -> impl Iterator<Item = &Arc<Handler>> {
        std::iter::once(&self.root)
    }
}
