//! Guests that are loaded: those that were asked for lately.
//!
//! A guest takes about 80 KiB while it is loaded, a file, and what it touches of its code; loading it takes a
//! millisecond. A host may have ten thousand handlers, most of which nobody asks for in an hour.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::HandlerSpec;
use super::loader::Loader;
use super::tenant::Tenant;
use crate::engine::{Guest, Uses};
use crate::limits;
use crate::open_files;

/// All guests of a host that are loaded.
pub(super) struct Hot {
    loader: Arc<Loader>,
    began: Instant,
    loaded: Mutex<Loaded>,
    loads: AtomicUsize,
    /// From how many loads on it is looked how many mappings are left.
    look: AtomicUsize,
    /// A handler has been quarantined.
    sick: Notify,
}

struct Loaded {
    places: Vec<Weak<Place>>,
    most: usize,
}

/// Where a handler has its guest while it is loaded.
pub(super) struct Place {
    hot: Arc<Hot>,
    /// SHA-256 of the component, in hex.
    digest: String,
    guest: ArcSwapOption<Guest>,
    /// It was asked for, and could not be loaded.
    is_broken: AtomicBool,
    /// Whether it is in the list of those that are loaded.
    is_listed: AtomicBool,
    /// Milliseconds from the beginning of the host to the last request.
    used: AtomicU64,
    /// Held by the one who loads.
    turn: tokio::sync::Mutex<()>,
}

impl Hot {
    pub(super) fn new(loader: Arc<Loader>) -> Self {
        Self {
            loader,
            began: Instant::now(),
            loaded: Mutex::new(Loaded {
                places: Vec::new(),
                most: limits::HOT_HANDLERS.min(open_files::of_process() / 2),
            }),
            loads: AtomicUsize::new(0),
            look: AtomicUsize::new(limits::LOADS_LOOK),
            sick: Notify::new(),
        }
    }

    /// A place with this guest in it, or with none.
    pub(super) fn place(self: &Arc<Self>, digest: &str, guest: Option<Arc<Guest>>) -> Arc<Place> {
        let place = Arc::new(Place {
            hot: Arc::clone(self),
            digest: digest.to_owned(),
            guest: ArcSwapOption::empty(),
            is_broken: AtomicBool::new(false),
            is_listed: AtomicBool::new(false),
            used: AtomicU64::new(self.now()),
            turn: tokio::sync::Mutex::default(),
        });
        if let Some(guest) = guest {
            place.put(guest);
        }
        place
    }

    pub(super) fn tenant(&self, spec: &HandlerSpec) -> Option<Arc<Tenant>> {
        self.loader.tenant(spec)
    }

    /// Waits until a handler is quarantined.
    pub(super) async fn sick(&self) {
        self.sick.notified().await;
    }

    /// How many guests are loaded.
    pub(super) fn loaded(&self) -> usize {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let places = loaded.places.iter().filter_map(Weak::upgrade);
        places.filter(|place| place.is_loaded()).count()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Counts one more, and lets the one go that nobody has asked for longest if they are too many.
    fn admit(&self, new: &Arc<Place>) {
        if new.is_listed.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.places.push(Arc::downgrade(new));
        if loaded.places.len() <= loaded.most {
            return;
        }
        let stays = |place: &Arc<Place>| {
            let is_loaded = place.is_loaded();
            place.is_listed.store(is_loaded, Ordering::Relaxed);
            is_loaded
        };
        loaded
            .places
            .retain(|place| place.upgrade().is_some_and(|place| stays(&place)));
        // A tenth at once, so that not every load looks at all of them.
        let goal = loaded.most - loaded.most / 10;
        let used = |place: &Weak<Place>| {
            let place = place.upgrade();
            place.map_or(0, |place| place.used.load(Ordering::Relaxed))
        };
        loaded.places.sort_by_cached_key(used);
        let coldest = loaded.places.len().saturating_sub(goal);
        let coldest: Vec<_> = loaded.places.drain(..coldest).collect();
        drop(loaded);
        // Unmapping a thousand guests takes a while.
        tokio::task::spawn_blocking(move || {
            for place in coldest.iter().filter_map(Weak::upgrade) {
                place.is_listed.store(false, Ordering::Relaxed);
                place.let_go();
            }
        });
    }

    /// Notes that a guest was loaded, and looks whether there can be more if it may be that there cannot.
    fn note_load(self: &Arc<Self>) {
        let loads = self.loads.fetch_add(1, Ordering::Relaxed) + 1;
        let is_due = loads >= self.look.load(Ordering::Relaxed);
        // One at a time looks, and says when the next does.
        if is_due && self.look.swap(usize::MAX, Ordering::Relaxed) != usize::MAX {
            let hot = Arc::clone(self);
            tokio::task::spawn_blocking(move || {
                let left = hot.look_at_mappings().unwrap_or(0);
                let loads = (left / limits::LOAD_MAPPINGS).max(limits::LOADS_LOOK);
                let next = hot.loads.load(Ordering::Relaxed) + loads;
                hot.look.store(next, Ordering::Relaxed);
            });
        }
    }

    /// Loads no more than now if the kernel's mappings of this process run out: each guest takes some, and without them
    /// no instance can be made either. Gives how many are left to be loaded with, if that can be seen.
    fn look_at_mappings(&self) -> Option<usize> {
        let number = |text: String| text.trim().parse::<usize>().ok();
        let most = std::fs::read_to_string("/proc/sys/vm/max_map_count")
            .ok()
            .and_then(number)?;
        let has = std::fs::read("/proc/self/maps").ok()?;
        let has = has.iter().filter(|byte| **byte == b'\n').count();
        let left = (most / 4 * 3).saturating_sub(has);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if left == 0 && loaded.places.len() < loaded.most {
            loaded.most = loaded.places.len().max(1);
            tracing::warn!(
                loaded = loaded.most,
                "no more handlers are kept loaded at once: raise `vm.max_map_count`, which is {most}"
            );
        }
        Some(left)
    }
}

impl Place {
    /// The guest, loaded if need be.
    ///
    /// # Errors
    /// When it cannot be loaded any more: its file has changed, or is gone with what was made of it.
    pub(super) async fn guest(self: &Arc<Self>, spec: &HandlerSpec) -> anyhow::Result<Arc<Guest>> {
        self.used.store(self.hot.now(), Ordering::Relaxed);
        if let Some(guest) = self.guest.load_full() {
            return Ok(guest);
        }
        let _turn = self.turn.lock().await;
        if let Some(guest) = self.guest.load_full() {
            return Ok(guest);
        }
        let loaded = self.hot.loader.again(spec, &self.digest).await;
        self.is_broken.store(loaded.is_err(), Ordering::Relaxed);
        let guest = Arc::new(loaded?);
        self.put(Arc::clone(&guest));
        self.hot.note_load();
        Ok(guest)
    }

    fn put(self: &Arc<Self>, guest: Arc<Guest>) {
        let of = Arc::downgrade(&guest);
        self.guest.store(Some(guest));
        self.hot.admit(self);
        tokio::spawn(look_after(Arc::downgrade(self), of));
    }

    /// Says that the handler is quarantined.
    pub(super) fn tell_sick(&self) {
        self.hot.sick.notify_one();
    }

    /// Whether it could not be loaded when it was last asked for.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    /// How many requests an instance serves now, and without faults, while the guest is loaded.
    pub(super) fn uses(&self) -> Option<(Uses, Uses)> {
        self.guest.load_full().map(|guest| guest.uses())
    }

    fn is_loaded(&self) -> bool {
        self.guest.load().is_some()
    }

    /// Requests in flight keep the guest until they are done. One that could not be loaded again stays. Whether it is
    /// gone.
    pub(super) fn let_go(&self) -> bool {
        let can_come_back = self.hot.loader.keeps(&self.digest);
        if can_come_back {
            self.guest.store(None);
        }
        can_come_back
    }

    /// How long it is until nobody has asked for it for so long that it is let go.
    fn cools_in(&self) -> Duration {
        let last = Duration::from_millis(self.used.load(Ordering::Relaxed));
        (last + limits::HANDLER_COOLS).saturating_sub(self.hot.began.elapsed())
    }
}

/// Drops instances that nobody uses, and in the end the guest. Ends when it is there no more.
async fn look_after(place: Weak<Place>, of: Weak<Guest>) {
    while let Some(place) = place.upgrade() {
        let is_it = |guest: &Arc<Guest>| ptr::eq(Arc::as_ptr(guest), of.as_ptr());
        let Some(guest) = place.guest.load_full().filter(is_it) else {
            return;
        };
        let pause = guest.expire_idle();
        let mut cools_in = place.cools_in();
        if cools_in.is_zero() {
            if place.let_go() {
                return;
            }
            cools_in = limits::HANDLER_COOLS;
        }
        drop((place, guest));
        tokio::time::sleep(pause.min(cools_in)).await;
    }
}
