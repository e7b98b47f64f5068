//! `wasi:keyvalue`: what guests remember, in named buckets.
//!
//! `bindings.rs` is the interface, in both of its versions; `store.rs` what a store can do, and the rules that hold in each;
//! `memory.rs`, `file.rs` and `redis.rs` are the stores, and `answers.rs` bounds what a Redis says. Every wait for a store has an
//! end, and what a guest hears of one that is broken names nothing of the host's.

mod answers;
mod bindings;
mod caught;
mod counts;
mod file;
mod grant;
mod memory;
mod redis;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;

pub(crate) use bindings::{KeyValue, View, add_to_linker};
pub use counts::OfHandler;
pub use grant::{BucketGrant, Durability, Quota};

use super::refusals::Refusals;
use crate::capabilities::counts::Counts;
use crate::capabilities::share::{Shared, Sharer};
use crate::limits;
use crate::secret::Secret;
use file::FileStore;
use memory::Memory;
use redis::Redis;
pub(crate) use redis::check as check_redis;
use store::{Error, Place, Store};

/// The store of a bucket of which nothing is said: a file.
pub const FILE: &str = "file";
/// The store that is the host's memory.
pub const MEMORY: &str = "memory";

/// A store, as it was defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// A file in the state directory.
    File,
    /// The memory of the host.
    Memory,
    /// A Redis or Valkey, at this URL.
    Redis(Secret),
}

/// A store that is open, and what handlers share of it.
#[derive(Debug)]
struct Opened {
    store: Arc<dyn Store>,
    room: Shared,
    readers: Shared,
}

/// The stores of a host: those that were defined, and [`FILE`] and [`MEMORY`]. One is opened when the first handler needs it.
#[derive(Debug, Default)]
pub struct Stores {
    /// Where files are.
    directory: Option<PathBuf>,
    defined: BTreeMap<Arc<str>, StoreKind>,
    /// Those that are opened at the start.
    needed: Vec<Arc<str>>,
    open: Mutex<HashMap<Arc<str>, Arc<Opened>>>,
    /// What guests did.
    pub counts: Counts<OfHandler>,
}

impl Stores {
    /// With files in this directory, if there is one; those that are `needed` are opened at the start.
    #[must_use]
    pub fn new(
        directory: Option<PathBuf>,
        defined: BTreeMap<Arc<str>, StoreKind>,
        needed: Vec<Arc<str>>,
    ) -> Self {
        Self {
            directory,
            defined,
            needed,
            ..Self::default()
        }
    }

    /// Opens those that are needed. It waits for disks, and for no server.
    ///
    /// # Errors
    /// When there is none of a name, or its file cannot be had.
    pub fn open_needed(&self) -> anyhow::Result<()> {
        self.needed
            .iter()
            .try_for_each(|name| self.store(name).map(drop))
    }

    fn store(&self, name: &Arc<str>) -> anyhow::Result<Arc<Opened>> {
        let mut open = self.opened();
        if let Some(opened) = open.get(name) {
            return Ok(Arc::clone(opened));
        }
        let store: Arc<dyn Store> = match self.kind(name) {
            Some(StoreKind::Memory) => Arc::new(Memory::default()),
            Some(StoreKind::File) => {
                let directory = self.directory.as_ref().with_context(|| {
                    format!("there is no place for the store `{name}`: name one with `--state DIR`")
                })?;
                let opened = FileStore::open(directory, name);
                Arc::new(opened.with_context(|| format!("the store `{name}`"))?)
            }
            Some(StoreKind::Redis(url)) => Arc::new(Redis::new(name, &url)?),
            None => anyhow::bail!(
                "there is no store `{name}`: write a table `[stores.{name}]`, which is taken up at the next start"
            ),
        };
        let opened = Arc::new(Opened {
            store,
            room: Shared::new(limits::KEYVALUE_QUEUE_BYTES),
            readers: Shared::new(limits::KEYVALUE_READERS),
        });
        open.insert(Arc::clone(name), Arc::clone(&opened));
        Ok(opened)
    }

    fn kind(&self, name: &str) -> Option<StoreKind> {
        match name {
            FILE => Some(StoreKind::File),
            MEMORY => Some(StoreKind::Memory),
            name => self.defined.get(name).cloned(),
        }
    }

    /// All that was acknowledged is on disk, as far as there is one. Waits for that.
    pub fn close(&self) {
        let open = std::mem::take(&mut *self.opened());
        open.values().for_each(|opened| opened.store.close());
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Opened>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The buckets that a handler may use, each in its store.
#[derive(Debug)]
pub(crate) struct Buckets {
    by_name: BTreeMap<Arc<str>, Arc<Bucket>>,
    refused: Refusals,
    counts: Arc<OfHandler>,
}

/// A bucket that can be used.
#[derive(Debug)]
struct Bucket {
    store: Arc<dyn Store>,
    place: Place,
    counts: Arc<OfHandler>,
}

impl Buckets {
    /// Those of the handler of this name and tenant. It may wait for a disk.
    ///
    /// # Errors
    /// When there is no store of a name, or its file cannot be had.
    pub(crate) fn new(
        handler: Arc<str>,
        tenant: Option<Arc<str>>,
        grants: &[BucketGrant],
        stores: &Stores,
    ) -> anyhow::Result<Self> {
        let counts = stores.counts.of_handler(&handler, tenant.as_ref());
        let sharer = Sharer::of(&handler, tenant.as_ref());
        let mut by_name = BTreeMap::new();
        for grant in grants {
            let opened = stores.store(&grant.store)?;
            let bucket = Bucket {
                store: Arc::clone(&opened.store),
                place: Place {
                    bucket: Place::of(tenant.as_deref(), &grant.name),
                    quota: grant.quota,
                    durability: grant.durability,
                    room: opened.room.share(&sharer),
                    readers: opened.readers.share(&sharer),
                },
                counts: Arc::clone(&counts),
            };
            by_name.insert(Arc::clone(&grant.name), Arc::new(bucket));
        }
        Ok(Self {
            by_name,
            refused: Refusals::of(handler),
            counts,
        })
    }

    /// The bucket that a guest calls so. Many ask for one without a name, and mean the default.
    fn find(&self, name: &str) -> Option<Arc<Bucket>> {
        let name = if name.is_empty() { DEFAULT } else { name };
        if let Some(bucket) = self.by_name.get(name) {
            return Some(Arc::clone(bucket));
        }
        let name = crate::names::short(name).escape_debug().to_string();
        self.refused.tell(format_args!(
            "may not use the bucket `{name}`: write a table `keyvalue.{name}` for it, or say `--keyvalue {name}`"
        ));
        None
    }
}

/// What the bucket is called of guests that give it no name.
const DEFAULT: &str = "default";

/// For the guest: the log says what is wrong.
fn unavailable() -> Error {
    Error::Unavailable("the store is not available now: try again later".to_owned())
}

fn too_much() -> Error {
    Error::Invalid(format!(
        "the values are more than {} bytes: ask for fewer at once",
        limits::KEYVALUE_BATCH_BYTES
    ))
}
