//! What a guest may reach: one interface, one grant, one file.
//!
//! Everything is linked, so that a guest whose runtime merely imports an interface can run; what
//! is not granted answers with the error that its interface has for that.

pub mod blobstore;
pub mod calls;
pub mod clocks;
pub mod config;
pub mod judge;
pub mod logging;
pub mod outbound_http;

use std::sync::Arc;

use crate::secret::Secret;
use blobstore::{Blobs, ContainerGrant, Containers};
use calls::CallGrant;
use outbound_http::{OutboundGrant, OutboundGrants};

/// What a guest may reach, as it was written. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Handlers that it may call, by name.
    pub calls: Vec<Arc<str>>,
    /// What `wasi:config` gives it, by key. Of two of a key the later one holds.
    pub config: Vec<(String, Secret)>,
    /// Containers that it may use.
    pub blobstore: Vec<ContainerGrant>,
    /// Destinations that it may send requests to.
    pub outbound: OutboundGrants,
}

impl Grants {
    /// Grants what is granted to every handler too.
    pub fn add(&mut self, every: &Self) {
        self.calls.splice(0..0, every.calls.iter().cloned());
        self.config.splice(0..0, every.config.iter().cloned());
        // What it says itself of a container holds.
        for container in &every.blobstore {
            if !self.blobstore.iter().any(|own| own.name == container.name) {
                self.blobstore.push(container.clone());
            }
        }
        self.outbound.add(&every.outbound);
    }
}

/// What the handlers of a host reach through it, each as far as it was granted.
#[derive(Debug, Default)]
pub struct Services {
    /// Where containers are.
    pub blobs: Blobs,
    /// What is shared by all who send requests elsewhere.
    pub outbound: Arc<outbound_http::Client>,
}

/// What a handler was granted, ready for its instances, which share it.
#[derive(Debug)]
pub struct Granted {
    pub(crate) calls: CallGrant,
    pub(crate) containers: Containers,
    pub(crate) outbound: Arc<OutboundGrant>,
}

impl Granted {
    /// For the handler of this name and tenant. It may wait for a disk.
    ///
    /// # Errors
    /// When something that was granted cannot be had.
    pub fn new(
        handler: Arc<str>,
        tenant: Option<Arc<str>>,
        grants: &Grants,
        services: &Services,
    ) -> anyhow::Result<Self> {
        let blobs = &services.blobs;
        let of_tenant = tenant.as_deref();
        Ok(Self {
            containers: Containers::new(Arc::clone(&handler), of_tenant, &grants.blobstore, blobs)?,
            calls: CallGrant::new(Arc::clone(&handler), grants.calls.clone()),
            outbound: Arc::new(OutboundGrant::new(
                handler,
                &grants.outbound,
                &services.outbound,
            )),
        })
    }
}
