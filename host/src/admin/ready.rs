//! Whether the host should get requests, and whether one handler is served, for probes.

use http::StatusCode;
use serde::Serialize;

use crate::catalog::{Deployer, Handler, HandlerName, Service, Unready, Who};
use crate::observe::{Lifecycle, Phase};

/// What a probe is told.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handlers: Option<Vec<NotReady>>,
}

/// A handler that is not served.
#[derive(Debug, Serialize)]
struct NotReady {
    name: HandlerName,
    why: &'static str,
}

impl Ready {
    fn new(is_ready: bool) -> Self {
        Self {
            status: if is_ready { "ready" } else { "not ready" },
            phase: None,
            handlers: None,
        }
    }

    /// The whole host. Why not is said to who asks for it, and handlers are named to who may see them: none to `None`.
    pub(super) fn of_host(
        lifecycle: &Lifecycle,
        deployer: &Deployer,
        is_verbose: bool,
        who: Option<&Who>,
    ) -> Self {
        let (phase, unready) = (lifecycle.phase(), deployer.unready());
        let mut ready = Self::new(phase == Phase::Serving && unready.is_empty());
        if is_verbose {
            ready.phase = Some(phase.as_str());
            ready.handlers = who.map(|who| seen(unready, deployer, who));
        }
        ready
    }

    /// One handler.
    pub(super) fn of_handler(lifecycle: &Lifecycle, handler: &Handler) -> Self {
        let phase = lifecycle.phase();
        let service = handler.service();
        let mut ready = Self::new(phase == Phase::Serving && service == Service::Ready);
        ready.phase = Some(phase.as_str());
        let why = match service {
            Service::Ready => return ready,
            Service::Quarantined => Unready::Quarantined,
            Service::Unloadable => Unready::Unloadable,
        };
        ready.because(&handler.spec.name, why)
    }

    /// One handler that is still being made since the start.
    pub(super) fn of_starting(lifecycle: &Lifecycle, name: &HandlerName) -> Self {
        let mut ready = Self::new(false);
        ready.phase = Some(lifecycle.phase().as_str());
        ready.because(name, Unready::Starting)
    }

    fn because(mut self, name: &HandlerName, why: Unready) -> Self {
        self.handlers = Some(vec![NotReady {
            name: name.clone(),
            why: why.as_str(),
        }]);
        self
    }

    pub(super) fn code(&self) -> StatusCode {
        match self.status {
            "ready" => StatusCode::OK,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Whose a handler is that is not deployed is not known, so the operator alone sees it.
fn seen(unready: Vec<(HandlerName, Unready)>, deployer: &Deployer, who: &Who) -> Vec<NotReady> {
    let catalog = deployer.catalog().load_full();
    let is_seen = |name: &HandlerName| match catalog.handler(name) {
        Some(handler) => who.sees(handler.spec.tenant.as_deref()),
        None => who.tenant().is_none(),
    };
    let seen = unready.into_iter().filter(|(name, _)| is_seen(name));
    seen.map(|(name, why)| NotReady {
        name,
        why: why.as_str(),
    })
    .collect()
}
