//! What all handlers have together, and how much of it one of them may have at a time: threads that wait for a disk or for the
//! addresses of a name, scratch directories, open files, bytes that wait in a queue, places to be made in, compilers. Who has his
//! share waits among his own, and takes no place of others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, spawn_blocking};

use crate::gate::leaves_some;
use crate::limits;
use crate::meter::Meter;

/// Who has a share: a tenant with all of its handlers, or a handler that is no tenant's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Sharer {
    /// By name.
    Tenant(Arc<str>),
    /// By name.
    Handler(Arc<str>),
}

impl Sharer {
    /// Somebody who has nobody to share with.
    pub(crate) fn alone() -> Self {
        Self::Handler(Arc::from(""))
    }

    /// Who the handler of this name shares with.
    pub(crate) fn of(handler: &Arc<str>, tenant: Option<&Arc<str>>) -> Self {
        match tenant {
            Some(tenant) => Self::Tenant(Arc::clone(tenant)),
            None => Self::Handler(Arc::clone(handler)),
        }
    }
}

/// Places of all together.
#[derive(Debug)]
pub(crate) struct Shared {
    all: Arc<Semaphore>,
    /// Of one who has a share.
    most: u32,
    by_sharer: Mutex<Shares>,
}

/// Of those who have one.
#[derive(Debug, Default)]
struct Shares {
    own: HashMap<Sharer, Weak<Semaphore>>,
    /// How many there may be before it is looked who is gone: as many again as were left, so that no one of thousands looks at all
    /// the others.
    most: usize,
}

impl Shares {
    fn sweep(&mut self) {
        if self.own.len() >= self.most {
            self.own.retain(|_, own| own.strong_count() > 0);
            self.most = 2 * self.own.len() + 1;
        }
    }
}

impl Shared {
    /// So many, of which one may have a [`limits::SHARE`]th.
    pub(crate) fn new(places: usize) -> Self {
        Self::with(places, places.div_ceil(limits::SHARE))
    }

    /// So many, of which one may have what [`Share::try_take_fairly`] gives him.
    pub(crate) fn fair(places: usize) -> Self {
        let places = places.min(u32::MAX as usize);
        Self::with(places, places)
    }

    fn with(places: usize, most: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(places)),
            most: u32::try_from(most).unwrap_or(u32::MAX),
            by_sharer: Mutex::default(),
        }
    }

    /// One's share, the same for all of his handlers, and for one that takes another's place.
    pub(crate) fn share(&self, sharer: &Sharer) -> Share {
        let shares = self.by_sharer.lock();
        let mut shares = shares.unwrap_or_else(PoisonError::into_inner);
        let own = shares.own.get(sharer).and_then(Weak::upgrade);
        let own = own.unwrap_or_else(|| {
            shares.sweep();
            let own = Arc::new(Semaphore::new(self.most as usize));
            shares.own.insert(sharer.clone(), Arc::downgrade(&own));
            own
        });
        drop(shares);
        Share {
            own,
            all: Arc::clone(&self.all),
            most: self.most,
            front: Handle::try_current().ok(),
            meter: None,
        }
    }
}

/// One's share of them.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
    most: u32,
    /// The threads that serve.
    front: Option<Handle>,
    /// What the CPU time of its work is charged to.
    meter: Option<Arc<Meter>>,
}

/// Places, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    _places: [Option<OwnedSemaphorePermit>; 2],
}

impl Share {
    /// The same share; the CPU time of what is done by this one is charged there.
    pub(super) fn charged_to(&self, meter: &Arc<Meter>) -> Self {
        Self {
            meter: Some(Arc::clone(meter)),
            ..self.clone()
        }
    }

    /// Waits for so many places: for the whole share, if that has fewer.
    pub(crate) async fn take(&self, places: usize) -> Held {
        let places = u32::try_from(places).unwrap_or(u32::MAX).min(self.most);
        // His own first: who waits for it takes none of the others'. Neither is ever closed.
        let own = Arc::clone(&self.own).acquire_many_owned(places).await;
        let all = Arc::clone(&self.all).acquire_many_owned(places).await;
        Held {
            _places: [own.ok(), all.ok()],
        }
    }

    /// So many places that are free now, of the share and of all: the whole share, if that has fewer.
    pub(crate) fn try_take(&self, places: usize) -> Option<Held> {
        let places = u32::try_from(places).unwrap_or(u32::MAX).min(self.most);
        let own = Arc::clone(&self.own).try_acquire_many_owned(places).ok()?;
        let all = Arc::clone(&self.all).try_acquire_many_owned(places).ok()?;
        Some(Held {
            _places: [Some(own), Some(all)],
        })
    }

    /// So many more places, if who has them leaves enough to the others: see [`limits::FAIR`].
    pub(crate) fn try_take_fairly(&self, places: usize) -> Option<Held> {
        // As if they were taken one by one: whoever may have the last may have those before it.
        let before_last = places.saturating_sub(1);
        let held = (self.most as usize).saturating_sub(self.own.available_permits());
        let left = self.all.available_permits().saturating_sub(before_last);
        if !leaves_some(held + before_last, left) {
            return None;
        }
        self.try_take(places)
    }

    /// Does what waits for a disk or a resolver, on a thread that may. It has a place until it is done, also if nobody waits for it any more.
    ///
    /// # Errors
    /// When it panicked, or the host ends.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let (held, meter) = (self.take(1).await, self.meter.clone());
        let working = move || {
            let _held = held;
            match meter {
                Some(meter) => meter.work(work),
                None => work(),
            }
        };
        // Begun by a thread that serves: one that a background thread begins has its priority, and the place is everybody's.
        let front = self.front.clone().unwrap_or_else(Handle::current);
        let begun = front.spawn(async move { spawn_blocking(working).await });
        begun.await?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::poll;
    use tokio::sync::oneshot;

    use super::*;

    fn handler(name: &str) -> Sharer {
        Sharer::of(&Arc::from(name), None)
    }

    #[tokio::test]
    async fn who_has_his_share_waits_and_others_do_not() {
        let shared = Shared::new(8);
        let (greedy, quiet) = (shared.share(&handler("a")), shared.share(&handler("b")));
        let held = [greedy.take(1).await, greedy.take(1).await];
        let mut third = Box::pin(greedy.take(1));
        assert!(poll!(&mut third).is_pending());
        let mut others = Box::pin(quiet.take(2));
        assert!(poll!(&mut others).is_ready());
        drop(held);
        assert!(poll!(&mut third).is_ready());
    }

    #[test]
    fn who_does_not_wait_gets_no_more_than_his_share_either() {
        let shared = Shared::new(8);
        let (greedy, quiet) = (shared.share(&handler("a")), shared.share(&handler("b")));
        let held = [greedy.try_take(1), greedy.try_take(1)];
        assert!(held.iter().all(Option::is_some) && greedy.try_take(1).is_none());
        assert!(quiet.try_take(9).is_some(), "all of his share");
        drop(held);
        assert!(greedy.try_take(2).is_some());
    }

    #[test]
    fn who_takes_what_he_can_of_what_is_fair_leaves_some_to_the_next() {
        let shared = Shared::fair(16);
        let all = |name: &str| {
            let share = shared.share(&handler(name));
            std::iter::from_fn(|| share.try_take_fairly(1)).collect::<Vec<_>>()
        };
        let greedy = all("a");
        assert_eq!(greedy.len(), 12, "three times what is left");
        assert!(shared.share(&handler("b")).try_take_fairly(4).is_none());
        let next = all("b");
        assert_eq!(next.len(), 3);
        assert!(all("a").is_empty(), "he has more than his share");
        assert_eq!(all("c").len(), 1);
        drop(greedy);
        assert!(!all("a").is_empty());
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let shared = Shared::new(4);
        let here = shared.share(&handler("here"));
        for nth in 0..1_000 {
            shared.share(&handler(&nth.to_string()));
        }
        let shares = shared.by_sharer.lock().expect("nobody panicked");
        assert!(shares.own.len() <= 3, "{}", shares.own.len());
        drop(shares);
        let held = here.try_take(1);
        assert!(shared.share(&handler("here")).try_take(1).is_none());
        drop(held);
    }

    #[tokio::test]
    async fn who_asks_for_more_than_his_share_gets_all_of_it() {
        let shared = Shared::new(8);
        let share = shared.share(&handler("a"));
        let held = share.take(usize::MAX).await;
        assert!(poll!(Box::pin(share.take(1))).is_pending());
        drop(held);
        assert!(poll!(Box::pin(share.take(1))).is_ready());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_has_its_place_until_it_is_done() {
        let share = Shared::new(4).share(&handler("a"));
        let (begun, begins) = oneshot::channel();
        let (end, ended) = mpsc::channel::<()>();
        let mut work = Box::pin(share.run(move || {
            let _ = begun.send(());
            let _ = ended.recv();
        }));
        assert!(poll!(&mut work).is_pending());
        begins.await.expect("a thread");
        drop(work);
        assert!(poll!(Box::pin(share.take(1))).is_pending());
        drop(end);
        share.take(1).await;
    }

    #[tokio::test]
    async fn handlers_of_a_tenant_have_one_share_and_so_has_one_that_is_replaced() {
        let shared = Shared::new(4);
        let tenant = Arc::from("acme");
        let of = |name: &str| shared.share(&Sharer::of(&Arc::from(name), Some(&tenant)));
        let held = of("one").take(1).await;
        assert!(poll!(Box::pin(of("two").take(1))).is_pending());
        // A handler that is called as the tenant is somebody else.
        assert!(poll!(Box::pin(shared.share(&handler("acme")).take(1))).is_ready());
        drop(held);
        assert!(poll!(Box::pin(of("two").take(1))).is_ready());
        assert!(poll!(Box::pin(of("one").take(1))).is_ready());
    }
}
