//! `wasi:blobstore`: large values of guests, in containers that were granted, below the state directory.
//!
//! `bindings.rs` is the interface, and `operations.rs` what is done when a guest calls it; `container.rs` what is on the disk, and
//! `incoming.rs` what is on its way there; `streams.rs` how values go in and out, piece by piece. `work.rs` bounds how many
//! threads wait for the disk, and how long a guest waits. A value is never whole in memory, and an object is there whole or not
//! at all.

mod bindings;
mod container;
mod counts;
mod error;
mod grant;
mod incoming;
mod operations;
mod streams;
mod work;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};

pub(crate) use bindings::link;
pub use counts::OfHandler;
pub use grant::{ContainerGrant, Quota};
pub(crate) use operations::{Blobstore, View};

use super::refusals::Refusals;
use super::unusable;
use crate::capabilities::counts::Counts;
use crate::capabilities::share::{Shared, Sharer};
use crate::limits;
use crate::meter::Meter;
use crate::names::short;
use crate::observe::Seldom;
use container::Container;
use error::Error;
use incoming::Staged;
use work::Lane;

/// The containers of a host. Their directory is taken when the first handler is granted one.
#[derive(Debug, Default)]
pub struct Blobs {
    directory: Option<PathBuf>,
    opened: Mutex<Option<Opened>>,
    /// What guests did.
    pub counts: Counts<OfHandler>,
}

#[derive(Debug)]
struct Opened {
    /// By their directories.
    containers: HashMap<PathBuf, Weak<Container>>,
    /// Threads that wait for the disk.
    work: Shared,
    /// Held as long as the host runs: what another host has on its way in would be removed at the start of this one.
    _lock: File,
}

impl Blobs {
    /// In this directory, if there is one.
    #[must_use]
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self {
            directory,
            ..Self::default()
        }
    }

    /// Containers of the handler of this name and tenant, by the names of their grants.
    fn containers(
        &self,
        handler: &Arc<str>,
        tenant: Option<&Arc<str>>,
        grants: &[ContainerGrant],
    ) -> anyhow::Result<(Vec<Arc<Container>>, Lane, &Path)> {
        let Some(directory) = &self.directory else {
            bail!("there is no place for containers: name one with `--state DIR`");
        };
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = match &mut *opened {
            Some(opened) => opened,
            none => none.insert(
                open(directory)
                    .with_context(|| format!("the containers in `{}`", directory.display()))?,
            ),
        };
        let incoming = directory.join(INCOMING);
        // No name of a tenant begins as another's, and names of both kinds are those of files.
        let of_tenant = match tenant {
            Some(tenant) => directory.join(format!("tenant-{tenant}")),
            None => directory.join("operator"),
        };
        let lane = Lane(opened.work.share(&Sharer::of(handler, tenant)));
        opened.containers.retain(|_, it| it.strong_count() > 0);
        let containers = grants.iter().map(|grant| {
            let place = of_tenant.join(format!("container-{}", grant.name));
            if let Some(there) = opened.containers.get(&place).and_then(Weak::upgrade) {
                return there;
            }
            let container = Arc::new(Container::new(place.clone(), incoming.clone()));
            opened.containers.insert(place, Arc::downgrade(&container));
            container
        });
        Ok((containers.collect(), lane, directory.as_path()))
    }
}

/// Takes the directory, and removes what was on its way when its last host ended.
fn open(directory: &Path) -> anyhow::Result<Opened> {
    let mut private = fs::DirBuilder::new();
    let made = private.recursive(true).mode(0o700).create(directory);
    made.map_err(|error| unusable(directory, &error))?;
    let path = directory.join("lock");
    let lock = File::create(&path).map_err(|error| unusable(&path, &error))?;
    if let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        bail!("another host has them ({error}): give each a directory of its own, with `--state`");
    }
    let incoming = directory.join(INCOMING);
    match fs::remove_dir_all(&incoming) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(unusable(&incoming, &error));
        }
        _ => {}
    }
    fs::create_dir(&incoming).map_err(|error| unusable(&incoming, &error))?;
    Ok(Opened {
        containers: HashMap::new(),
        work: Shared::new(limits::BLOB_WORK),
        _lock: lock,
    })
}

/// Where files are while they are written.
const INCOMING: &str = "incoming";

/// The containers that a handler may use.
#[derive(Debug)]
pub(crate) struct Containers {
    handler: Arc<str>,
    by_name: BTreeMap<Arc<str>, Arc<Granted>>,
    place: Option<Place>,
    refused: Refusals,
    failed: Seldom,
    counts: Arc<OfHandler>,
}

/// What the containers of a handler have in common.
#[derive(Debug, Clone)]
struct Place {
    lane: Lane,
    /// Of all containers of the host.
    directory: PathBuf,
    incoming: PathBuf,
    staged: Arc<Staged>,
    counts: Arc<OfHandler>,
    /// Bytes of the largest object that any of them may have.
    most: u64,
}

impl Place {
    /// The same; the CPU time of what is done there is charged to this.
    fn charged_to(&self, meter: &Arc<Meter>) -> Self {
        Self {
            lane: Lane(self.lane.0.charged_to(meter)),
            ..self.clone()
        }
    }
}

/// A container that a handler may use, and how far.
#[derive(Debug)]
struct Granted {
    container: Arc<Container>,
    name: Arc<str>,
    quota: Quota,
}

impl Containers {
    /// Those of the handler of this name and tenant. It may wait for a disk.
    ///
    /// # Errors
    /// When there is no place for them, or it cannot be had.
    pub(crate) fn new(
        handler: Arc<str>,
        tenant: Option<&Arc<str>>,
        grants: &[ContainerGrant],
        blobs: &Blobs,
    ) -> anyhow::Result<Self> {
        let counts = blobs.counts.of_handler(&handler, tenant);
        let mut granted = Self {
            handler: Arc::clone(&handler),
            by_name: BTreeMap::new(),
            place: None,
            refused: Refusals::of(handler),
            failed: Seldom::new(limits::BLOB_PAUSE),
            counts: Arc::clone(&counts),
        };
        if grants.is_empty() {
            return Ok(granted);
        }
        let (containers, lane, directory) = blobs.containers(&granted.handler, tenant, grants)?;
        let most = |of: fn(&Quota) -> u64| grants.iter().map(|it| of(&it.quota)).max();
        granted.place = Some(Place {
            lane,
            directory: directory.to_owned(),
            incoming: directory.join(INCOMING),
            staged: Staged::new(most(|quota| quota.bytes).unwrap_or(0)),
            counts,
            most: most(|quota| quota.object).unwrap_or(0),
        });
        for (grant, container) in grants.iter().zip(containers) {
            let one = Granted {
                container,
                name: Arc::clone(&grant.name),
                quota: grant.quota,
            };
            granted
                .by_name
                .insert(Arc::clone(&grant.name), Arc::new(one));
        }
        Ok(granted)
    }

    /// The container that a guest calls so.
    fn find(&self, name: &str) -> Result<(&Place, Arc<Granted>), Error> {
        if let (Some(place), Some(granted)) = (&self.place, self.by_name.get(name)) {
            return Ok((place, Arc::clone(granted)));
        }
        let name = short(name).escape_debug().to_string();
        self.refused.tell(format_args!(
            "may not use the container `{name}`: write a table `blobstore.{name}` for it, or say `--blobstore {name}`"
        ));
        Err(Error::Denied)
    }

    /// Where values go before it is said to which container.
    fn place(&self) -> Result<&Place, Error> {
        self.place.as_ref().ok_or_else(|| {
            self.refused.tell(format_args!(
                "may use no container: write a table `blobstore.NAME` for one, or say `--blobstore NAME`"
            ));
            Error::Denied
        })
    }

    /// What a guest is told of an error. Why a disk failed is for the log.
    fn told(&self, error: &Error) -> String {
        let why: &dyn fmt::Display = match error {
            Error::Disk(why) => why,
            Error::NoSpace => &"no space is left",
            Error::Late => &"the disk has not answered in time",
            _ => return error.to_string(),
        };
        if let Some(place) = &self.place
            && let Some(failures) = self.failed.count()
        {
            tracing::warn!(
                handler = &*self.handler,
                failures,
                "`{}` could not use a container: {why}: see to the disk of `{}`",
                self.handler,
                place.directory.display()
            );
        }
        error.to_string()
    }
}
