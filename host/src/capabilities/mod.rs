//! What a guest may reach: one interface, one grant, one file.
//!
//! Everything is linked, so that a guest whose runtime merely imports an interface can run; what
//! is not granted answers with the error that its interface has for that.

pub mod blobstore;
pub mod calls;
pub mod clocks;
pub mod config;
pub mod counts;
mod descriptors;
pub mod files;
pub mod hosts;
pub mod judge;
pub mod keyvalue;
pub(crate) mod lent;
pub mod logging;
mod lookups;
pub mod outbound_http;
mod refusals;
pub(crate) mod share;
pub mod sockets;

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::secret::Secret;
use blobstore::{Blobs, ContainerGrant, Containers};
use calls::CallGrant;
use descriptors::Descriptors;
use files::{FileWork, ScratchShare, Scratches};
use keyvalue::{BucketGrant, Buckets, Stores};
use lookups::Lookups;
use outbound_http::{OutboundGrant, OutboundGrants};
use refusals::Refusals;
use share::{Share, Sharer};
use sockets::{SocketGrant, SocketRule};

/// What a guest may reach, as it was written: in a manifest, by flags, or for every handler in the file of the host. It can be
/// compared, and opens nothing: see [`Granted`]. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Handlers that it may call, by name.
    pub calls: Vec<Arc<str>>,
    /// What `wasi:config` gives it, by key. Of two of a key the later one holds.
    pub config: Vec<(String, Secret)>,
    /// Destinations that it may send requests to.
    pub outbound: OutboundGrants,
    /// Buckets that it may use.
    pub keyvalue: Vec<BucketGrant>,
    /// Containers that it may use.
    pub blobstore: Vec<ContainerGrant>,
    /// Where its sockets may send something.
    pub sockets: Vec<SocketRule>,
}

impl Grants {
    /// Grants what is granted to every handler too.
    pub fn add(&mut self, every: &Self) {
        self.calls.splice(0..0, every.calls.iter().cloned());
        self.config.splice(0..0, every.config.iter().cloned());
        self.outbound.add(&every.outbound);
        // What it says itself of a bucket holds.
        for bucket in &every.keyvalue {
            if !self.keyvalue.iter().any(|own| own.name == bucket.name) {
                self.keyvalue.push(bucket.clone());
            }
        }
        // What it says itself of a container holds.
        for container in &every.blobstore {
            if !self.blobstore.iter().any(|own| own.name == container.name) {
                self.blobstore.push(container.clone());
            }
        }
        self.sockets.splice(0..0, every.sockets.iter().cloned());
    }
}

/// What the handlers of a host reach through it, each as far as it was granted.
#[derive(Debug, Default)]
pub struct Services {
    /// What is shared by all who send requests elsewhere.
    pub(crate) outbound: Arc<outbound_http::Client>,
    /// Where buckets are.
    pub keyvalue: Stores,
    /// Where containers are.
    pub blobs: Blobs,
    pub(crate) scratches: Arc<Scratches>,
    pub(crate) lookups: Lookups,
    pub(crate) file_work: FileWork,
    pub(crate) descriptors: Descriptors,
}

/// [`Grants`] made ready for one handler: its stores are open, its connections are kept here, and it knows whose guest it is
/// for the log. All instances of the handler share it, and it goes with the last of them. What is counted for one instance
/// alone is in the interface's own type, such as [`OutboundHttp`](outbound_http::OutboundHttp).
#[derive(Debug)]
pub struct Granted {
    pub(crate) calls: CallGrant,
    pub(crate) outbound: Arc<OutboundGrant>,
    pub(crate) buckets: Buckets,
    pub(crate) containers: Containers,
    pub(crate) sockets: SocketGrant,
    pub(crate) scratches: ScratchShare,
    file_work: Share,
    /// To write in a directory that it may read.
    refused_writes: Refusals,
    /// Of what guests may have open.
    pub(crate) descriptors: Share,
    /// With whom it shares what all have together.
    pub(crate) sharer: Sharer,
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
        let stores = &services.keyvalue;
        let sharer = Sharer::of(&handler, tenant.as_ref());
        let file_work = services.file_work.share(&sharer);
        let descriptors = services.descriptors.share(&sharer);
        let lookups = services.lookups.share(&sharer);
        let (outbound, client) = (&grants.outbound, &services.outbound);
        Ok(Self {
            containers: Containers::new(
                Arc::clone(&handler),
                tenant.as_ref(),
                &grants.blobstore,
                &services.blobs,
            )?,
            scratches: ScratchShare::new(
                &services.scratches,
                &sharer,
                file_work.clone(),
                descriptors.clone(),
            ),
            file_work,
            refused_writes: Refusals::of(Arc::clone(&handler)),
            descriptors,
            sockets: SocketGrant::new(
                Arc::clone(&handler),
                grants.sockets.clone(),
                lookups.clone(),
            ),
            buckets: Buckets::new(
                Arc::clone(&handler),
                tenant.clone(),
                &grants.keyvalue,
                stores,
            )?,
            calls: CallGrant::new(Arc::clone(&handler), grants.calls.clone()),
            outbound: Arc::new(OutboundGrant::new(
                handler, tenant, outbound, client, lookups,
            )),
            sharer,
        })
    }
}

/// Why a place below the state directory cannot be had.
fn unusable(path: &Path, error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!(
        "`{}` cannot be used: {error}: see to it, or name another directory with `--state`",
        path.display()
    )
}
