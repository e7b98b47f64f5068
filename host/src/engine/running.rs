//! A guest that runs: polled where it was asked for, moved to the background when it burns.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use super::background::Background;
use super::nudge::Nudge;
use super::{Fault, shared};
use crate::meter::Meter;

/// How a guest's call ended.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Whether it returned, or what it did wrong.
    pub(super) result: Result<(), Fault>,
    /// It ended without finishing its response's body, which must not look complete.
    pub(super) body_unfinished: bool,
    /// Whose doing it was, if it went wrong.
    pub(super) blame: Blame,
}

/// Whose doing it was that a call failed. Wasmtime says that an instance has trapped, and not in the task of which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// Its own: nobody else was ever in its instance at the same time, or it is known.
    Own,
    /// That of somebody whom its instance has served, which may be itself.
    Somebody,
    /// That of others: the guest has not seen it.
    Others,
}

/// Where the outcome of a call is known before its store is dropped: dropping the store closes the
/// body, and whoever sees it close must know why.
pub(super) type Ending = Arc<OnceLock<Outcome>>;

/// The call of a guest in progress. Dropping it cancels the guest.
pub struct Running {
    place: Place,
    ending: Ending,
    meter: Arc<Meter>,
    background: Arc<Background>,
}

enum Place {
    /// In the task that reads from and writes to the client: no hop and no queue.
    Front(Pin<Box<dyn Future<Output = ()> + Send>>, Nudge),
    /// On a thread of low priority.
    Background(AbortOnDrop),
    /// In an instance that serves others too, driven by a task of its own.
    Shared(shared::Seat),
    /// Over.
    Ended,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Running {
    /// `guest` sets `ending` before it drops its store. One whose account has no credit begins in the background.
    pub(super) fn new(
        guest: Pin<Box<dyn Future<Output = ()> + Send>>,
        ending: Ending,
        meter: Arc<Meter>,
        background: Arc<Background>,
    ) -> Self {
        let mut running = Self {
            place: Place::Front(guest, Nudge::new()),
            ending,
            meter,
            background,
        };
        if !running.meter.account().has_credit() {
            running.move_to_background();
        }
        running
    }

    /// A call that another task drives.
    pub(super) fn shared(
        seat: shared::Seat,
        ending: Ending,
        meter: Arc<Meter>,
        background: Arc<Background>,
    ) -> Self {
        Self {
            place: Place::Shared(seat),
            ending,
            meter,
            background,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Of many that wait in front, each could do what one has done.
        if !self.meter.account().may_be_in_front() {
            self.move_to_background();
        }
        let ended = match &mut self.place {
            Place::Front(guest, nudge) => nudge.poll(cx, &self.meter, guest.as_mut()).is_ready(),
            Place::Background(task) => Pin::new(&mut task.0).poll(cx).is_ready(),
            Place::Shared(seat) => seat.poll(cx).is_ready(),
            Place::Ended => true,
        };
        if ended {
            self.place = Place::Ended;
            return Poll::Ready(());
        }
        let is_in_front = matches!(self.place, Place::Front(..));
        if is_in_front && (self.meter.is_burning() || self.meter.is_over_share()) {
            self.move_to_background();
            return self.poll(cx);
        }
        Poll::Pending
    }

    /// Where that will be known, for who outlives this.
    pub(super) fn ending(&self) -> Ending {
        Arc::clone(&self.ending)
    }

    /// How the call ended, once it has.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.ending.get()
    }

    /// Lets a guest whose response is complete work on until it returns.
    ///
    /// # Errors
    /// What it did wrong after its response.
    pub async fn finish(mut self) -> Result<(), Fault> {
        poll_fn(|cx| self.poll(cx)).await;
        self.outcome()
            .map_or(Ok(()), |outcome| outcome.result.clone())
    }

    /// Unless it is there, or is driven by another task, or is over.
    fn move_to_background(&mut self) {
        let Place::Front(guest, _) = &mut self.place else {
            return;
        };
        let mut guest = std::mem::replace(guest, Box::pin(std::future::pending()));
        let meter = Arc::clone(&self.meter);
        let metered = poll_fn(move |cx| meter.measure(|| guest.as_mut().poll(cx)));
        let task = self
            .background
            .spawn(Box::pin(metered), Arc::clone(&self.meter));
        self.place = Place::Background(AbortOnDrop(task));
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::account::Account;
    use crate::limits::{FRONT_UNSTOPPED, FRONT_UNSTOPPED_TICKS};
    use crate::meter::tick;

    /// The name of the thread that polls it when it has waited.
    async fn where_it_goes_on(wait: oneshot::Receiver<()>, seen: oneshot::Sender<String>) {
        let _ = wait.await;
        let thread = std::thread::current();
        let _ = seen.send(thread.name().unwrap_or_default().to_owned());
    }

    /// As a fill of much memory does, which no tick stops.
    async fn burn() {
        let meter = Meter::new(Duration::MAX, Account::new());
        (0..FRONT_UNSTOPPED_TICKS).for_each(|_| tick());
        while meter.used() < FRONT_UNSTOPPED * 2 {
            meter.work(|| {
                for turn in 0..1_000 {
                    black_box(turn);
                }
            });
        }
    }

    #[tokio::test]
    async fn after_one_that_could_not_be_stopped_no_guest_of_its_account_is_polled_in_front() {
        let background = Background::start().expect("threads");
        let [burns, other] = [Account::new(), Account::new()];
        let start = |account: &Arc<Account>, wait| {
            let (tell, seen) = oneshot::channel();
            let meter = Arc::new(Meter::new(Duration::from_secs(5), Arc::clone(account)));
            let guest = where_it_goes_on(wait, tell);
            let background = Arc::clone(&background);
            (
                Running::new(Box::pin(guest), Ending::default(), meter, background),
                seen,
            )
        };
        let (go, wait) = oneshot::channel();
        let (mut waits, seen) = start(&burns, wait);
        assert!(poll_fn(|cx| Poll::Ready(waits.poll(cx).is_pending())).await);

        let meter = Arc::new(Meter::new(Duration::from_secs(5), Arc::clone(&burns)));
        let burns_now = Box::pin(burn());
        let first = Running::new(burns_now, Ending::default(), meter, Arc::clone(&background));
        first.finish().await.expect("no fault");

        drop(go);
        waits.finish().await.expect("no fault");
        assert_eq!(seen.await.expect("it was polled"), "background");
        for (account, is_away) in [(&burns, true), (&other, false)] {
            let (_, wait) = oneshot::channel();
            let (next, seen) = start(account, wait);
            next.finish().await.expect("no fault");
            let thread = seen.await.expect("it was polled");
            assert_eq!(thread == "background", is_away, "{thread}");
        }
    }
}
