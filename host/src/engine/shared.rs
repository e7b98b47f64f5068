//! An instance of a 0.3 guest that serves several requests at once, for handlers that ask for it.
//!
//! It has a task of its own, since no single request can drive it. What it saves in instances it
//! costs in isolation: a trap fails every request in the instance, and CPU time is charged to
//! everyone who is in it while it is used.

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

use super::call::{Answer, Call};
use super::epoch::Ticking;
use super::fault::{Fault, Stage, classify};
use super::guest::{Exports, Guest, Instance};
use super::running::{Ending, Outcome};
use super::state::State;
use super::{FaultKind, HttpError, p3};
use crate::capabilities::calls::{Broken, Caller};
use crate::capabilities::config::Values;
use crate::limits;
use crate::meter::Meter;

/// One request on its way into an instance.
pub(super) struct Job {
    pub(super) request: Request<UnsyncBoxBody<Bytes, HttpError>>,
    pub(super) answer: Answer,
    pub(super) ending: Ending,
    pub(super) call: Call,
    /// Held until the guest is done with the request.
    pub(super) held: Box<dyn Send>,
}

/// The way into an instance.
pub(super) struct Shared {
    jobs: mpsc::Sender<(Job, oneshot::Sender<()>)>,
    /// What it was told.
    values: Arc<Values>,
    seated: AtomicU32,
    taken: AtomicU32,
    /// Nobody else is let in: it failed, was cut off, or has served enough.
    retired: AtomicBool,
}

/// A place in an instance. Leaving before the end retires the instance.
pub(super) struct Seat {
    instance: Arc<Shared>,
    done: oneshot::Receiver<()>,
    over: bool,
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
        self.instance.seated.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn is_empty(&self) -> bool {
        self.seated.load(Ordering::Relaxed) == 0
    }

    fn take(self: &Arc<Self>, at_once: u32, uses: u32) -> bool {
        if self.retired.load(Ordering::Relaxed) || self.seated.load(Ordering::Relaxed) >= at_once {
            return false;
        }
        self.seated.fetch_add(1, Ordering::Relaxed);
        if self.taken.fetch_add(1, Ordering::Relaxed) + 1 >= uses {
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
        let (done, ended) = oneshot::channel();
        let seat = Seat {
            instance: Arc::clone(&instance),
            done: ended,
            over: false,
        };
        // As many may queue as may sit, so that this fails only when the instance is gone.
        match instance.jobs.try_send((job, done)) {
            Ok(()) => Ok(seat),
            Err(_) => Err(Fault::new(
                FaultKind::NoRoom,
                "the instance ended as the request came",
            )),
        }
    }

    /// Nobody else is let into an instance that was told something else.
    fn vacancy(&self, values: &Arc<Values>) -> Option<Arc<Shared>> {
        let (at_once, uses) = (self.reuse().concurrent, self.uses());
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|instance| {
            if !Arc::ptr_eq(&instance.values, values) {
                instance.retired.store(true, Ordering::Relaxed);
            }
            !instance.retired.load(Ordering::Relaxed) && !instance.jobs.is_closed()
        });
        shared
            .iter()
            .find(|instance| instance.take(at_once, uses))
            .cloned()
    }

    async fn start_shared(
        self: &Arc<Self>,
        values: Arc<Values>,
        call: &Call,
    ) -> Result<Arc<Shared>, Fault> {
        let meter = Arc::new(Meter::new(call.meter.budget()));
        let ticking = self.engine.epoch.ticking();
        let (began, output) = (Instant::now(), Arc::clone(&call.output));
        let started = {
            let mut starting = pin!(self.instantiate(Arc::clone(&values), &meter, output));
            poll_fn(|cx| meter.measure(|| starting.as_mut().poll(cx))).await
        };
        // Who needed it first pays for it.
        call.meter.charge(meter.used());
        let instance = started?;
        call.meter.instantiated(began.elapsed());
        let (jobs, queue) = mpsc::channel(self.reuse().concurrent as usize);
        let shared = Arc::new(Shared {
            jobs,
            values,
            seated: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            retired: AtomicBool::new(false),
        });
        shared.take(self.reuse().concurrent, self.uses());
        self.shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&shared));
        tokio::spawn(drive(
            instance,
            meter,
            ticking,
            queue,
            Arc::clone(&shared),
            self.reuse().idle,
        ));
        Ok(shared)
    }
}

/// Who is in an instance.
#[derive(Default)]
struct Seated(Mutex<Vec<Entry>>);

struct Entry {
    ending: Ending,
    charged: Arc<Meter>,
    caller: Option<Arc<dyn Caller>>,
}

impl Seated {
    fn enter(&self, entry: Entry) {
        self.entries().push(entry);
    }

    /// On whose behalf the instance calls others, since nobody can tell for whom it does: of the requests that are
    /// deepest in calls, so that it cannot go round for ever, the one that came last.
    fn caller(&self) -> Option<Arc<dyn Caller>> {
        let entries = self.entries();
        let callers = entries.iter().filter_map(|entry| entry.caller.as_ref());
        callers.max_by_key(|caller| caller.depth()).cloned()
    }

    fn leave(&self, ending: &Ending, outcome: Outcome) {
        let _ = ending.set(outcome);
        self.entries()
            .retain(|entry| !Arc::ptr_eq(&entry.ending, ending));
    }

    /// Everyone leaves for the same reason.
    fn fail(&self, fault: &Fault) {
        for entry in self.entries().drain(..) {
            let _ = entry.ending.set(cut_off(fault));
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

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.fail(&Fault::new(FaultKind::Trap, "the instance was cut off"));
    }
}

/// What an instance was writing when it ended has broken off. Dropped before the instance.
struct CutOff(Broken);

impl Drop for CutOff {
    fn drop(&mut self) {
        self.0.set();
    }
}

fn cut_off(fault: &Fault) -> Outcome {
    Outcome {
        result: Err(fault.clone()),
        body_unfinished: true,
    }
}

/// Runs an instance until it is retired and empty, or nobody comes.
async fn drive(
    mut instance: Instance,
    meter: Arc<Meter>,
    _ticking: Ticking,
    mut queue: mpsc::Receiver<(Job, oneshot::Sender<()>)>,
    shared: Arc<Shared>,
    patience: Duration,
) {
    let Exports::P3(service) = &instance.exports else {
        return;
    };
    let seated = Seated::default();
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
                    }
                    job = next => match job {
                        Ok(Some((job, done))) => calls.push(one(accessor, service, job, done, &seated)),
                        // A seat that is taken means a job that is on its way.
                        Ok(None) | Err(_) if calls.is_empty() && shared.is_empty() => return Ok(()),
                        Ok(None) | Err(_) => {}
                    },
                }
                if calls.is_empty() && shared.retired.load(Ordering::Relaxed) && shared.is_empty() {
                    return Ok(());
                }
            }
        }));
        poll_fn(|cx| {
            let before = meter.used();
            let ended = meter.measure(|| run.as_mut().poll(cx));
            seated.settle(&meter, meter.used().saturating_sub(before));
            ended
        })
        .await
    };
    shared.retired.store(true, Ordering::Relaxed);
    queue.close();
    let fault = match ended.flatten() {
        Err(error) => classify(&error, instance.store.data(), Stage::Call),
        Ok(()) => Fault::new(FaultKind::NoRoom, "the instance ended as the request came"),
    };
    // Told before the store is dropped, which closes their bodies.
    seated.fail(&fault);
    while let Ok((job, _)) = queue.try_recv() {
        let _ = job.ending.set(cut_off(&fault));
    }
}

async fn one(
    accessor: &Accessor<State>,
    service: &wasmtime_wasi_http::p3::bindings::Service,
    job: Job,
    mut done: oneshot::Sender<()>,
    seated: &Seated,
) -> wasmtime::Result<()> {
    let _held = job.held;
    let Call {
        meter,
        output,
        caller,
    } = job.call;
    seated.enter(Entry {
        ending: Arc::clone(&job.ending),
        charged: meter,
        caller,
    });
    accessor.with(|mut store| {
        let state = store.data_mut();
        state.output.replace(output);
        state.outbound_http.caller = seated.caller();
        state.outbound_http.is_shared = true;
    });
    let handled = p3::handle(accessor, service, job.request, job.answer);
    let outcome = tokio::select! {
        handled = handled => {
            handled?;
            Outcome { result: Ok(()), body_unfinished: false }
        }
        // The seat is empty and the instance retired: what the guest still does for it ends with both.
        () = done.closed() => cut_off(&Fault::new(FaultKind::Trap, "the call was cut off")),
    };
    seated.leave(&job.ending, outcome);
    accessor.with(|mut store| store.data_mut().outbound_http.caller = seated.caller());
    let _ = done.send(());
    Ok(())
}
