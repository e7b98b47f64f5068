//! An instance of a 0.3 guest that serves several requests at once, for handlers that ask for it.
//!
//! It has a task of its own, since no single request can drive it. What it saves in instances it
//! costs in isolation: a trap takes every request in the instance with it, and CPU time is charged to
//! everyone who is in it while it is used.
//!
//! Nobody can tell in whose task an instance has trapped. So each in it is told that it was somebody ([`Blame`]), and whoever
//! can be called again is, alone (`call.rs`). Who was alone from the beginning did it himself.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Request;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::{mpsc, oneshot};
use wasmtime::component::Accessor;

use super::background::Background;
use super::call::{Answer, Call};
use super::caution::{Caution, Uses};
use super::clearing::InUse;
use super::fault::{CpuBudgetSpent, Fault, Stage, classify};
use super::guest::{Exports, Guest, IdlePlace, Instance};
use super::running::{Blame, Ending, Outcome, Running};
use super::state::State;
use super::{FaultKind, HttpError, p3};
use crate::capabilities::calls::{Broken, Caller};
use crate::capabilities::config::Values;
use crate::limits;
use crate::meter::Meter;
use crate::observe::GuestOutput;

/// One request on its way into an instance.
pub(super) struct Job {
    pub(super) request: Request<UnsyncBoxBody<Bytes, HttpError>>,
    pub(super) answer: Answer,
    pub(super) ending: Ending,
    pub(super) call: Call,
    /// Held until the guest is done with the request.
    pub(super) held: Box<dyn Send>,
}

/// The other half of a [`Seat`].
struct Place {
    taken: Taken,
    /// Ends when the seat is left.
    left: oneshot::Receiver<()>,
}

/// Dropped when the guest is done with the request, or the instance has failed, and why is known: then the seat is free, and who
/// sat there is told.
struct Taken {
    instance: Arc<Shared>,
    _done: oneshot::Sender<()>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.instance.seated.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The way into an instance.
pub(super) struct Shared {
    jobs: mpsc::Sender<(Job, Place)>,
    /// What it was told.
    values: Arc<Values>,
    seated: AtomicU32,
    taken: AtomicU32,
    /// Nobody else is let in: it failed, was cut off, or has served enough.
    retired: AtomicBool,
    /// Nobody else is let in for now: they would wait for whoever burns in it.
    burns: AtomicBool,
}

/// A place in an instance. Leaving before the end retires the instance.
pub(super) struct Seat {
    instance: Arc<Shared>,
    done: oneshot::Receiver<()>,
    over: bool,
    _here: oneshot::Sender<()>,
}

impl Seat {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let done = Pin::new(&mut self.done).poll(cx);
        self.over |= done.is_ready();
        done.map(drop)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.over {
            self.instance.retired.store(true, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn is_empty(&self) -> bool {
        self.seated.load(Ordering::Relaxed) == 0
    }

    fn take(&self, uses: Uses) -> bool {
        let is_full = self.seated.load(Ordering::Relaxed) >= uses.at_once;
        let burns = self.burns.load(Ordering::Relaxed);
        if self.retired.load(Ordering::Relaxed) || burns || is_full {
            return false;
        }
        self.seated.fetch_add(1, Ordering::Relaxed);
        if self.taken.fetch_add(1, Ordering::Relaxed) + 1 >= uses.in_all {
            self.retired.store(true, Ordering::Relaxed);
        }
        true
    }
}

impl Guest {
    /// Seats a request in an instance that has a place, or in a new one.
    pub(super) async fn seat(self: &Arc<Self>, job: Job) -> Result<Seat, Fault> {
        let values = self.values().await;
        let instance = match self.vacancy(&values) {
            Some(instance) => instance,
            None => self.start_shared(values, &job.call).await?,
        };
        let (of_taken, done) = oneshot::channel();
        let (here, left) = oneshot::channel();
        let taken = Taken {
            instance: Arc::clone(&instance),
            _done: of_taken,
        };
        let seat = Seat {
            instance: Arc::clone(&instance),
            done,
            over: false,
            _here: here,
        };
        let place = Place { taken, left };
        // As many may queue as may sit, so that this fails only when the instance is gone.
        instance.jobs.try_send((job, place)).map_err(|error| {
            let (job, _) = error.into_inner();
            let fault = came_too_late();
            let _ = job.ending.set(cut_off(&fault, Blame::Others));
            fault
        })?;
        Ok(seat)
    }

    /// Nobody else is let into an instance that was told something else.
    fn vacancy(&self, values: &Arc<Values>) -> Option<Arc<Shared>> {
        let uses = self.caution.now();
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|instance| {
            if !Arc::ptr_eq(&instance.values, values) {
                instance.retired.store(true, Ordering::Relaxed);
            }
            !instance.retired.load(Ordering::Relaxed) && !instance.jobs.is_closed()
        });
        shared.iter().find(|instance| instance.take(uses)).cloned()
    }

    /// In front, or in the background if it burns.
    async fn start(
        self: &Arc<Self>,
        values: &Arc<Values>,
        meter: &Arc<Meter>,
        output: &Arc<GuestOutput>,
    ) -> Result<Instance, Fault> {
        let (guest, values, output) = (Arc::clone(self), Arc::clone(values), Arc::clone(output));
        let (of_start, background) = (Arc::clone(meter), Arc::clone(&self.engine.background));
        let (sender, mut started) = oneshot::channel();
        let start = Box::pin(async move {
            let instance = guest.instantiate(values, &of_start, output).await;
            // Nobody takes it if he has left.
            if let Err(Ok(instance)) = sender.send(instance) {
                guest.engine.background.clearing.clear(instance, ());
            }
        });
        let ending = Ending::default();
        let running = Running::new(start, ending, Arc::clone(meter), background);
        running.finish().await?;
        meter.returns_to_front();
        started.try_recv().unwrap_or_else(|_| Err(came_too_late()))
    }

    async fn start_shared(
        self: &Arc<Self>,
        values: Arc<Values>,
        call: &Call,
    ) -> Result<Arc<Shared>, Fault> {
        let account = Arc::clone(call.meter.account());
        let meter = Arc::new(Meter::new(call.meter.budget(), account));
        let _ticking = self.engine.epoch.ticking();
        let began = Instant::now();
        let started = self.start(&values, &meter, &call.output).await;
        // Who needed it first pays for it.
        call.meter.charge(meter.used());
        let instance = started?;
        call.meter.instantiated(began.elapsed());
        let (jobs, queue) = mpsc::channel(self.caution.granted().at_once as usize);
        let shared = Arc::new(Shared {
            jobs,
            values,
            seated: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            burns: AtomicBool::new(false),
        });
        shared.take(self.caution.now());
        self.shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&shared));
        let driven = drive(
            Arc::clone(self),
            instance,
            Arc::clone(&meter),
            queue,
            Arc::clone(&shared),
        );
        let (background, instance) = (Arc::clone(&self.engine.background), Arc::clone(&shared));
        tokio::spawn(async move {
            let mut driven: Driven = Box::pin(driven);
            loop {
                let is_over = poll_fn(|cx| {
                    // As for one that is alone (`running.rs`): all that are in it go.
                    if !meter.account().may_be_in_front() {
                        return Poll::Ready(false);
                    }
                    match driven.as_mut().poll(cx) {
                        Poll::Pending if meter.is_burning() || meter.is_over_share() => {
                            Poll::Ready(false)
                        }
                        polled => polled.map(|()| true),
                    }
                });
                if is_over.await {
                    return;
                }
                let comes_back = in_background(driven, Arc::clone(&meter), &instance, &background);
                match comes_back.await {
                    Some(back) => driven = back,
                    None => return,
                }
                meter.returns_to_front();
            }
        });
        Ok(shared)
    }
}

type Driven = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Drives an instance in the background until it only waits and its account has credit again: then it is given back.
/// It goes on there also when nobody waits for that.
async fn in_background(
    mut driven: Driven,
    meter: Arc<Meter>,
    instance: &Arc<Shared>,
    background: &Background,
) -> Option<Driven> {
    let (sender, back) = oneshot::channel();
    let (of_driven, instance) = (Arc::clone(&meter), Arc::clone(instance));
    instance.burns.store(meter.is_sliced(), Ordering::Relaxed);
    let until_it_waits = async move {
        let is_over = poll_fn(|cx| {
            if driven.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            let burns = of_driven.is_sliced();
            instance.burns.store(burns, Ordering::Relaxed);
            if burns || !of_driven.account().has_credit() {
                return Poll::Pending;
            }
            Poll::Ready(false)
        });
        if !is_over.await {
            // The other end is there as long as the threads that serve are.
            let _ = sender.send(driven);
        }
    };
    drop(background.spawn(Box::pin(until_it_waits), meter));
    back.await.ok()
}

/// Who is in an instance.
#[derive(Default)]
struct Seated {
    entries: Mutex<Vec<Entry>>,
    /// All that have ever been in it.
    entered: AtomicU32,
    /// What was held by those who left before their end: until the instance is cleared away, which ends for that.
    left_behind: Mutex<Vec<Box<dyn Send>>>,
}

struct Entry {
    ending: Ending,
    charged: Arc<Meter>,
    caller: Option<Arc<dyn Caller>>,
    held: Box<dyn Send>,
    _taken: Taken,
}

impl Seated {
    fn enter(&self, entry: Entry) {
        self.entered.fetch_add(1, Ordering::Relaxed);
        self.entries().push(entry);
    }

    /// On whose behalf the instance calls others, since nobody can tell for whom it does: of the requests that are
    /// deepest in calls, so that it cannot go round for ever, the one that came last.
    fn caller(&self) -> Option<Arc<dyn Caller>> {
        let entries = self.entries();
        let callers = entries.iter().filter_map(|entry| entry.caller.as_ref());
        callers.max_by_key(|caller| caller.depth()).cloned()
    }

    /// Gives what it had, which tells it that it is out when that is dropped.
    fn leave(&self, ending: &Ending, outcome: Outcome) -> Option<Entry> {
        let _ = ending.set(outcome);
        let mut entries = self.entries();
        let is_it = |entry: &Entry| Arc::ptr_eq(&entry.ending, ending);
        let place = entries.iter().position(is_it);
        place.map(|place| entries.remove(place))
    }

    /// Everyone leaves for the same reason.
    fn fail(&self, fault: &Fault, blame: Blame) {
        for entry in self.entries().drain(..) {
            let _ = entry.ending.set(cut_off(fault, blame));
            self.left_behind().push(entry.held);
        }
    }

    fn left_behind(&self) -> MutexGuard<'_, Vec<Box<dyn Send>>> {
        let left_behind = self.left_behind.lock();
        left_behind.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose doing it is when the instance fails. What somebody has left behind who is gone can be why, too.
    fn blame(&self) -> Blame {
        if self.entered.load(Ordering::Relaxed) == 1 {
            Blame::Own
        } else {
            Blame::Somebody
        }
    }

    /// Charges everyone for what the instance has used, and gives it what the poorest has left.
    fn settle(&self, instance: &Meter, used: Duration) {
        let entries = self.entries();
        // Nobody pays for what a guest does between its requests.
        let mut left = if entries.is_empty() {
            limits::FRONT_TIME
        } else {
            Duration::MAX
        };
        for entry in &*entries {
            entry.charged.charge(used);
            entry.charged.holds(instance.memory());
            left = left.min(entry.charged.budget().saturating_sub(entry.charged.used()));
        }
        instance.allow(instance.used().saturating_add(left));
    }

    /// Whether there is somebody, and nobody has anything left: while somebody has, it ends at a tick only, when it works and
    /// does not wait.
    fn are_all_overdrawn(&self) -> bool {
        let entries = self.entries();
        !entries.is_empty() && entries.iter().all(|entry| entry.charged.is_overdrawn())
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let fault = Fault::new(FaultKind::Trap, "the instance was cut off");
        self.fail(&fault, Blame::Own);
    }
}

/// What an instance was writing when it ended has broken off. Dropped before the instance.
struct CutOff(Broken);

impl Drop for CutOff {
    fn drop(&mut self) {
        self.0.set();
    }
}

fn cut_off(fault: &Fault, blame: Blame) -> Outcome {
    Outcome {
        result: Err(fault.clone()),
        body_unfinished: true,
        blame,
    }
}

fn came_too_late() -> Fault {
    Fault::new(FaultKind::NoRoom, "the instance ended as the request came")
}

/// Runs an instance until it is retired and empty, or nobody comes. While nobody is in it, it has an [`IdlePlace`].
async fn drive(
    guest: Arc<Guest>,
    instance: Instance,
    meter: Arc<Meter>,
    mut queue: mpsc::Receiver<(Job, Place)>,
    shared: Arc<Shared>,
) {
    let _ticking = guest.engine.epoch.ticking();
    let (caution, patience) = (&guest.caution, guest.reuse().idle);
    let mut in_use = InUse::new(
        instance,
        Vec::<Box<dyn Send>>::new(),
        &guest.engine.background.clearing,
    );
    let Some(instance) = &mut in_use.instance else {
        return; // it is there until the end
    };
    let Exports::P3(service) = &instance.exports else {
        return;
    };
    let seated = Seated::default();
    let mut idle = None;
    let _cut_off = CutOff(instance.store.data().outbound_http.broken.clone());
    let store = &mut instance.store;
    let ended = {
        let mut run = pin!(store.run_concurrent(async |accessor| {
            let mut calls = FuturesUnordered::new();
            loop {
                let next = tokio::time::timeout(patience, queue.recv());
                tokio::select! {
                    biased;
                    Some(ended) = calls.next() => {
                        let wasmtime::Result::<()>::Ok(()) = ended else { return ended };
                        if calls.is_empty() {
                            accessor.with(|mut store| store.data_mut().settle_holdings());
                        }
                    }
                    job = next => match job {
                        Ok(Some((job, place))) => {
                            calls.push(one(accessor, service, job, place, &seated, caution));
                        }
                        // A seat that is taken means a job that is on its way.
                        Ok(None) | Err(_) if calls.is_empty() && shared.is_empty() => return Ok(()),
                        Ok(None) | Err(_) => {}
                    },
                }
                if !calls.is_empty() || !shared.is_empty() {
                    idle = None;
                    continue;
                }
                idle = idle.take().or_else(|| IdlePlace::take(&guest.engine));
                if idle.is_none() {
                    shared.retired.store(true, Ordering::Relaxed);
                }
                if shared.retired.load(Ordering::Relaxed) && shared.is_empty() {
                    // What goes on after the answers, unless somebody left, has as long as one that waits.
                    if idle.is_some() && seated.left_behind().is_empty() {
                        let works = poll_fn(|cx| accessor.poll_no_interesting_tasks(cx));
                        let _ = tokio::time::timeout(patience, works).await;
                    }
                    return Ok(());
                }
            }
        }));
        let mut settled = meter.used();
        poll_fn(|cx| {
            let ended = meter.measure(|| run.as_mut().poll(cx));
            if ended.is_pending() && !meter.is_sliced() {
                meter.waits();
            }
            // What the host did for it meanwhile is in it too.
            let used = meter.used();
            seated.settle(&meter, used.saturating_sub(settled));
            settled = used;
            // What is charged to those in it, and not to the instance, which may have served many before.
            if ended.is_pending() && seated.are_all_overdrawn() {
                return Poll::Ready(Err(CpuBudgetSpent.into()));
            }
            ended
        })
        .await
    };
    shared.retired.store(true, Ordering::Relaxed);
    queue.close();
    if let Err(error) = ended.flatten() {
        let fault = classify(&error, instance.store.data(), Stage::Call);
        // In this order: who is called again finds that fewer share an instance now.
        if fault.kind.ends_instance() {
            caution.failed(&fault);
        }
        // Told before the store is dropped, which closes their bodies.
        seated.fail(&fault, seated.blame());
    }
    let fault = came_too_late();
    // To the end: who has a place in the closed queue may not have put his job there yet.
    while let Some((job, _place)) = queue.recv().await {
        let _ = job.ending.set(cut_off(&fault, Blame::Others));
    }
    let mut held = std::mem::take(&mut *seated.left_behind());
    held.push(Box::new(idle));
    in_use.held = Some(held);
}

async fn one(
    accessor: &Accessor<State>,
    service: &wasmtime_wasi_http::p3::bindings::Service,
    job: Job,
    place: Place,
    seated: &Seated,
    caution: &Caution,
) -> wasmtime::Result<()> {
    let Call {
        meter,
        output,
        caller,
    } = job.call;
    seated.enter(Entry {
        ending: Arc::clone(&job.ending),
        charged: meter,
        caller,
        held: job.held,
        _taken: place.taken,
    });
    accessor.with(|mut store| {
        let state = store.data_mut();
        // Before it works, and not after the poll: an idle instance has next to nothing, which would be all it gets in its first.
        seated.settle(state.memory.meter(), Duration::ZERO);
        state.output.replace(output);
        state.outbound_http.caller = seated.caller();
        state.outbound_http.is_shared = true;
    });
    let handled = p3::handle(accessor, service, job.request, job.answer);
    let mut is_gone = false;
    let outcome = tokio::select! {
        handled = handled => match handled {
            Ok(()) => {
                caution.served();
                Outcome { result: Ok(()), body_unfinished: false, blame: Blame::Own }
            }
            Err(error) => {
                // It ends the instance, and here it is known who did it.
                let named = |state: &State| classify(&error, state, Stage::Call);
                let fault = accessor.with(|mut store| named(store.data_mut()));
                if let Some(entry) = seated.leave(&job.ending, cut_off(&fault, Blame::Own)) {
                    seated.left_behind().push(entry.held);
                }
                return Err(error);
            }
        },
        // The seat is empty and the instance retired: what the guest still does for it ends with both.
        _ = place.left => {
            is_gone = true;
            cut_off(&Fault::new(FaultKind::Trap, "the call was cut off"), Blame::Own)
        }
    };
    let entry = seated.leave(&job.ending, outcome);
    accessor.with(|mut store| store.data_mut().outbound_http.caller = seated.caller());
    match entry {
        Some(entry) if is_gone => seated.left_behind().push(entry.held),
        entry => drop(entry),
    }
    Ok(())
}
