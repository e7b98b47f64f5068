//! Requests, counted when they end.
//!
//! What clients and guests send decides some of the labels, so there is a ceiling on how many sets of them are told
//! apart: for each handler, for each tenant, and in all. What is beyond it is counted together, with `_OTHER` for its
//! method and route and `2xx` for a status, and for its handler too where a tenant or the host has too many.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::histogram::{OfPart, OfRequest, PART, REQUEST};
use super::names::{
    ACTIVE_REQUESTS, ERROR, Family, GUEST_CPU, GUEST_CPU_AFTER, GUEST_FAULTS, GUEST_MEMORY,
    HANDLER, INSTANTIATION, KIND, METHOD, METRIC_SERIES, METRIC_SERIES_MAX, OUTBOUND_REQUESTS,
    QUEUE_WAIT, RECEIVED, REQUEST_DURATION, ROUTE, SECOND_TRIES, SENT, STATUS, TENANT,
};
use super::{Number, Page, Source, View};
use crate::limits;
use crate::meter::Meter;

/// What has too many values to be told apart, in OpenTelemetry's word.
pub(in crate::observe) const OTHER: &str = "_OTHER";

/// What requests are told apart by. The order is that of the page.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::observe) struct Request {
    pub(in crate::observe) handler: Option<Arc<str>>,
    pub(in crate::observe) tenant: Option<Arc<str>>,
    pub(in crate::observe) route: Option<Arc<str>>,
    /// As [`method`] has it.
    pub(in crate::observe) method: &'static str,
    /// Under 10 it is the first digit of many.
    pub(in crate::observe) status: u16,
    /// The word for what went wrong.
    pub(in crate::observe) error: Option<Cow<'static, str>>,
}

/// How long a request took, and what it used meanwhile. What it never came to is None.
#[derive(Debug, Clone, Copy)]
pub(in crate::observe) struct Cost {
    pub(in crate::observe) total: Duration,
    pub(in crate::observe) waited: Option<Duration>,
    pub(in crate::observe) started: Option<Duration>,
    pub(in crate::observe) cpu: Option<Duration>,
    /// Bytes of its instance, at most.
    pub(in crate::observe) memory: usize,
    /// Bytes of its body that were taken.
    pub(in crate::observe) received: u64,
    /// Bytes of its response's body.
    pub(in crate::observe) sent: u64,
    pub(in crate::observe) is_second_try: bool,
}

/// A handler, none for what the host answers itself, and its tenant.
type Whose = (Option<Arc<str>>, Option<Arc<str>>);

/// All requests of a host so far.
pub struct Requests {
    active: AtomicU64,
    /// By handler: those of one are in one. A shard is replaced when a new set comes, and read without a lock.
    shards: [ArcSwap<Sets>; SHARDS],
    room: Mutex<Room>,
    handlers: RwLock<HashMap<Whose, Arc<OfHandler>>>,
    is_there: OnceLock<IsThere>,
    other: Arc<str>,
    series: AtomicUsize,
}

/// What is told apart.
type Sets = HashMap<Request, Arc<Series>>;

/// Whether there is a handler of this name and tenant.
type IsThere = Box<dyn Fn(&str, Option<&str>) -> bool + Send + Sync>;

/// A new set in one of ten thousand copies a hundred.
const SHARDS: usize = 64;

/// Sets that are told apart, of whom.
#[derive(Debug, Default)]
struct Room {
    of_handler: HashMap<Whose, usize>,
    of_tenant: HashMap<Arc<str>, usize>,
    all: usize,
}

#[derive(Debug)]
struct Series {
    duration: OfRequest,
    handler: Arc<OfHandler>,
}

/// What is counted of a handler as a whole.
#[derive(Debug)]
pub struct OfHandler {
    waited: OfPart,
    started: OfPart,
    cpu: OfPart,
    /// Nanoseconds.
    cpu_after: AtomicU64,
    /// Bytes, each as often as it was there for a second.
    memory: Sum,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    second_tries: AtomicU64,
    faults: Tally,
    calls: Tally,
    sent: Tally,
}

/// Sums what is no whole number.
#[derive(Debug, Default)]
struct Sum(AtomicU64);

impl Sum {
    fn add(&self, some: f64) {
        let more = |bits| Some((f64::from_bits(bits) + some).to_bits());
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    fn now(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Counts by a word, of which there are some dozens. Few come here.
#[derive(Debug, Default)]
struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    fn add(&self, word: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(counts.insert(word.to_owned(), 1)),
        }
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.clone()
    }
}

impl OfHandler {
    fn new() -> Self {
        Self {
            waited: OfPart::new(PART),
            started: OfPart::new(PART),
            cpu: OfPart::new(PART),
            cpu_after: AtomicU64::new(0),
            memory: Sum::default(),
            bytes_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            second_tries: AtomicU64::new(0),
            faults: Tally::default(),
            calls: Tally::default(),
            sent: Tally::default(),
        }
    }

    /// Its guest did something wrong: the word of the table of failures for it.
    pub fn fault(&self, label: &str) {
        self.faults.add(label);
    }

    /// Its guest has worked for so long after a response, and has used what this says.
    pub fn after(&self, meter: &Meter, took: Duration) {
        let cpu = u64::try_from(meter.used_after().as_nanos()).unwrap_or(u64::MAX);
        add(&self.cpu_after, cpu);
        self.memory.add(meter.memory() as f64 * took.as_secs_f64());
    }

    /// Its guest sent a request elsewhere: the word for what went wrong with it, empty if nothing did.
    pub fn sent(&self, label: &str) {
        self.sent.add(label);
    }

    /// Its guest called another handler, and what went wrong with that, if anything did.
    pub(in crate::observe) fn call(&self, label: Option<&str>) {
        self.calls.add(label.unwrap_or(""));
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            active: AtomicU64::new(0),
            shards: std::array::from_fn(|_| ArcSwap::default()),
            room: Mutex::default(),
            handlers: RwLock::default(),
            is_there: OnceLock::new(),
            other: Arc::from(OTHER),
            series: AtomicUsize::new(0),
        }
    }
}

impl Requests {
    /// What is counted of handlers of which `is_there` says that they are gone is forgotten when the page is written.
    pub fn of_those_that_are_there(
        &self,
        is_there: impl Fn(&str, Option<&str>) -> bool + Send + Sync + 'static,
    ) {
        let _ = self.is_there.set(Box::new(is_there));
    }

    /// The handlers that requests were for, with their tenants.
    #[must_use]
    pub fn handlers(&self) -> Vec<(Arc<str>, Option<Arc<str>>)> {
        let handlers = self.handlers.read().unwrap_or_else(PoisonError::into_inner);
        let named = handlers.keys().filter_map(|(handler, tenant)| {
            let handler = handler.as_ref().filter(|it| ***it != *OTHER)?;
            Some((Arc::clone(handler), tenant.clone()))
        });
        let mut named: Vec<_> = named.collect();
        named.sort_unstable();
        named
    }

    pub(in crate::observe) fn begin(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::observe) fn end(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a request that has ended. `fault` is the word for what its guest did wrong.
    pub(in crate::observe) fn count(&self, request: Request, cost: Cost, fault: Option<&str>) {
        let shard = self.shard(&request).load();
        if let Some(series) = shard.get(&request) {
            return series.count(cost, fault);
        }
        drop(shard);
        self.place(request).count(cost, fault);
    }

    /// What is counted of a handler as a whole.
    #[must_use]
    pub fn of_handler(&self, handler: &Arc<str>, tenant: Option<&Arc<str>>) -> Arc<OfHandler> {
        self.whole(&(Some(Arc::clone(handler)), tenant.cloned()))
    }

    fn shard(&self, request: &Request) -> &ArcSwap<Sets> {
        // FNV: a name has a dozen bytes, and whoever chooses them gains nothing.
        let name = request.handler.as_deref().unwrap_or("");
        let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, add);
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    fn find(&self, request: &Request) -> Option<Arc<Series>> {
        self.shard(request).load().get(request).cloned()
    }

    /// Where a request is counted whose labels are new.
    fn place(&self, request: Request) -> Arc<Series> {
        // Whoever sends ever new labels comes this far, and must not come to the lock.
        let of_handler = self.together(&request, request.handler.as_ref(), request.tenant.as_ref());
        let of_tenant = self.together(&request, Some(&self.other), request.tenant.as_ref());
        let of_all = self.together(&request, Some(&self.other), None);
        for together in [&of_handler, &of_tenant, &of_all] {
            if let Some(series) = self.find(together) {
                return series;
            }
        }
        let mut room = self.room();
        if let Some(series) = self.find(&request) {
            return series;
        }
        let together = match room.take(&request) {
            Ok(()) => {
                self.series.store(room.all, Ordering::Relaxed);
                return self.insert(request);
            }
            Err(TooMany::OfHandler) => of_handler,
            Err(TooMany::OfTenant) => of_tenant,
            Err(TooMany::InAll) => of_all,
        };
        match self.find(&together) {
            Some(series) => series,
            None => self.insert(together),
        }
    }

    /// The labels that a request has together with others.
    fn together(
        &self,
        request: &Request,
        handler: Option<&Arc<str>>,
        tenant: Option<&Arc<str>>,
    ) -> Request {
        Request {
            handler: handler.cloned(),
            tenant: tenant.cloned(),
            route: Some(Arc::clone(&self.other)),
            method: OTHER,
            status: request.status / 100,
            error: request.error.as_ref().map(|_| Cow::Borrowed(OTHER)),
        }
    }

    /// Call it with the lock on the room.
    fn insert(&self, labels: Request) -> Arc<Series> {
        let handler = self.whole(&(labels.handler.clone(), labels.tenant.clone()));
        let duration = OfRequest::new(REQUEST);
        let series = Arc::new(Series { duration, handler });
        let shard = self.shard(&labels);
        let mut sets = Sets::clone(&shard.load());
        sets.insert(labels, Arc::clone(&series));
        shard.store(Arc::new(sets));
        series
    }

    fn whole(&self, whose: &Whose) -> Arc<OfHandler> {
        let handlers = self.handlers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(handler) = handlers.get(whose) {
            return Arc::clone(handler);
        }
        let is_full = handlers.len() >= limits::METRIC_SERIES;
        drop(handlers);
        let whose = if is_full {
            (Some(Arc::clone(&self.other)), None)
        } else {
            whose.clone()
        };
        let mut handlers = self
            .handlers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(OfHandler::new());
        Arc::clone(handlers.entry(whose).or_insert_with(new))
    }

    /// Forgets what belongs to handlers that are gone.
    fn forget_the_gone(&self) {
        let Some(is_there) = self.is_there.get() else {
            return;
        };
        let is_gone = |handler: Option<&Arc<str>>, tenant: Option<&Arc<str>>| {
            handler.is_some_and(|name| {
                **name != *OTHER && !is_there(name, tenant.map(|tenant| &**tenant))
            })
        };
        let mut room = self.room();
        let (mut left, mut is_less) = (Room::default(), false);
        for shard in &self.shards {
            let sets = shard.load();
            let stays =
                |labels: &Request| !is_gone(labels.handler.as_ref(), labels.tenant.as_ref());
            if !sets.keys().all(stays) {
                is_less = true;
                shard.store(Arc::new(only(&sets, stays)));
            }
            let staying = sets.keys().filter(|labels| stays(labels));
            staying.for_each(|labels| left.note(labels));
        }
        if is_less {
            // There is room again: what was counted together for want of it is so no more.
            for shard in &self.shards {
                let sets = shard.load();
                let is_own = |labels: &Request| labels.handler.as_deref() != Some(OTHER);
                if !sets.keys().all(is_own) {
                    shard.store(Arc::new(only(&sets, is_own)));
                }
            }
        }
        self.series.store(left.all, Ordering::Relaxed);
        *room = left;
        drop(room);
        let mut handlers = self
            .handlers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        handlers.retain(|(handler, tenant), _| !is_gone(handler.as_ref(), tenant.as_ref()));
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self, view: &View) -> Vec<(Request, Arc<Series>)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let sets = shard.load();
            let seen = sets.iter();
            let seen = seen.filter(|(labels, _)| view.sees(labels.tenant.as_deref()));
            all.extend(seen.map(|(labels, series)| (labels.clone(), Arc::clone(series))));
        }
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    fn wholes(&self, view: &View) -> Vec<(Whose, Arc<OfHandler>)> {
        let handlers = self.handlers.read().unwrap_or_else(PoisonError::into_inner);
        let seen = handlers
            .iter()
            .filter(|((_, tenant), _)| view.sees(tenant.as_deref()));
        let mut all: Vec<_> = seen
            .map(|(whose, handler)| (whose.clone(), Arc::clone(handler)))
            .collect();
        drop(handlers);
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }
}

/// Those of some sets that stay.
fn only(sets: &Sets, stays: impl Fn(&Request) -> bool) -> Sets {
    let staying = sets.iter().filter(|(labels, _)| stays(labels));
    staying
        .map(|(labels, series)| (labels.clone(), Arc::clone(series)))
        .collect()
}

/// Of whom there are too many sets to tell another one apart.
enum TooMany {
    OfHandler,
    OfTenant,
    InAll,
}

impl Room {
    fn take(&mut self, request: &Request) -> Result<(), TooMany> {
        let whose = (request.handler.clone(), request.tenant.clone());
        let of_handler = self.of_handler.get(&whose).copied().unwrap_or(0);
        let of_tenant = request.tenant.as_ref();
        let of_tenant = of_tenant.and_then(|tenant| self.of_tenant.get(tenant));
        let a_share = limits::METRIC_SERIES / limits::SHARE;
        // What needs no handler has as many as there are routes for it.
        let most = match &request.handler {
            Some(_) => limits::METRIC_SERIES_OF_HANDLER,
            None => a_share,
        };
        if of_handler >= most {
            return Err(TooMany::OfHandler);
        }
        if of_tenant.is_some_and(|has| *has >= a_share) {
            return Err(TooMany::OfTenant);
        }
        if self.all >= limits::METRIC_SERIES {
            return Err(TooMany::InAll);
        }
        self.note(request);
        Ok(())
    }

    fn note(&mut self, request: &Request) {
        if request.status < 10 {
            return;
        }
        let whose = (request.handler.clone(), request.tenant.clone());
        *self.of_handler.entry(whose).or_default() += 1;
        if let Some(tenant) = &request.tenant {
            *self.of_tenant.entry(Arc::clone(tenant)).or_default() += 1;
        }
        self.all += 1;
    }
}

impl Series {
    fn count(&self, cost: Cost, fault: Option<&str>) {
        self.duration.count(cost.total);
        let of_handler = &self.handler;
        for (histogram, time) in [
            (&of_handler.waited, cost.waited),
            (&of_handler.started, cost.started),
            (&of_handler.cpu, cost.cpu),
        ] {
            if let Some(time) = time {
                histogram.count(time);
            }
        }
        if cost.memory > 0 {
            // While it waited it had no instance.
            let held = cost.total.saturating_sub(cost.waited.unwrap_or_default());
            let memory = cost.memory as f64 * held.as_secs_f64();
            of_handler.memory.add(memory);
        }
        add(&of_handler.bytes_received, cost.received);
        add(&of_handler.bytes_sent, cost.sent);
        add(&of_handler.second_tries, cost.is_second_try.into());
        if let Some(fault) = fault {
            of_handler.fault(fault);
        }
    }
}

/// Most often there is nothing to add.
fn add(sum: &AtomicU64, some: u64) {
    if some > 0 {
        sum.fetch_add(some, Ordering::Relaxed);
    }
}

fn count_in(sum: &AtomicU64) -> Number {
    sum.load(Ordering::Relaxed).into()
}

type Read = fn(&OfHandler) -> Number;

/// Sums of a handler.
static SUMS: [(&Family, Read); 5] = [
    (&GUEST_CPU_AFTER, |handler| {
        (handler.cpu_after.load(Ordering::Relaxed) as f64 / 1e9).into()
    }),
    (&GUEST_MEMORY, |handler| handler.memory.now().into()),
    (&RECEIVED, |handler| count_in(&handler.bytes_received)),
    (&SENT, |handler| count_in(&handler.bytes_sent)),
    (&SECOND_TRIES, |handler| count_in(&handler.second_tries)),
];

/// What of a handler a family is made of.
type Part<T> = fn(&OfHandler) -> &T;

impl Source for Requests {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        self.forget_the_gone();
        let view = &page.view.clone();
        page.family(&REQUEST_DURATION, |members| {
            self.all(view).iter().try_for_each(|(labels, series)| {
                let status = match labels.status {
                    class @ 0..10 => format!("{class}xx"),
                    status => status.to_string(),
                };
                let labels = [
                    (METHOD, labels.method),
                    (STATUS, &status),
                    (ROUTE, text(labels.route.as_ref())),
                    (HANDLER, text(labels.handler.as_ref())),
                    (TENANT, text(labels.tenant.as_ref())),
                    (ERROR, labels.error.as_deref().unwrap_or("")),
                ];
                members.add_counted(&labels, &series.duration.counted())
            })
        })?;
        if view.is_all() {
            page.one(&ACTIVE_REQUESTS, self.active.load(Ordering::Relaxed))?;
        }
        let wholes = self.wholes(view);
        let parts: [(_, Part<OfPart>); 3] = [
            (&QUEUE_WAIT, |handler| &handler.waited),
            (&INSTANTIATION, |handler| &handler.started),
            (&GUEST_CPU, |handler| &handler.cpu),
        ];
        for (family, part) in parts {
            page.family(family, |members| {
                for ((handler, tenant), whole) in &wholes {
                    let counted = part(whole).counted();
                    if counted.count > 0 {
                        let labels = [
                            (HANDLER, text(handler.as_ref())),
                            (TENANT, text(tenant.as_ref())),
                        ];
                        members.add_counted(&labels, &counted)?;
                    }
                }
                Ok(())
            })?;
        }
        for &(family, sum) in &SUMS {
            page.family(family, |members| {
                wholes.iter().try_for_each(|((handler, tenant), whole)| {
                    let labels = [
                        (HANDLER, text(handler.as_ref())),
                        (TENANT, text(tenant.as_ref())),
                    ];
                    members.add(&labels, sum(whole))
                })
            })?;
        }
        let tallies: [(_, &[(_, Part<Tally>)]); 2] = [
            (&GUEST_FAULTS, &[("", |handler| &handler.faults)]),
            (
                &OUTBOUND_REQUESTS,
                &[
                    ("call", |handler| &handler.calls),
                    ("http", |handler| &handler.sent),
                ],
            ),
        ];
        for (family, kinds) in tallies {
            page.family(family, |members| {
                for ((handler, tenant), whole) in &wholes {
                    for (kind, tally) in kinds {
                        for (word, count) in tally(whole).counts() {
                            let labels = [
                                (HANDLER, text(handler.as_ref())),
                                (TENANT, text(tenant.as_ref())),
                                (KIND, kind),
                                (ERROR, &*word),
                            ];
                            members.add(&labels, count)?;
                        }
                    }
                }
                Ok(())
            })?;
        }
        if view.is_all() {
            page.one(&METRIC_SERIES, self.series.load(Ordering::Relaxed))?;
            page.one(&METRIC_SERIES_MAX, limits::METRIC_SERIES)?;
        }
        Ok(())
    }
}

fn text(name: Option<&Arc<str>>) -> &str {
    name.map_or("", |name| name)
}

/// The method as a label: one of those that HTTP knows, since a client may send any word.
pub(in crate::observe) fn method(method: &http::Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    let known = KNOWN.iter().find(|known| method.as_str() == **known);
    known.unwrap_or(&OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;

    fn request(handler: Option<&str>, tenant: Option<&str>, status: u16) -> Request {
        Request {
            handler: handler.map(Arc::from),
            tenant: tenant.map(Arc::from),
            route: Some(Arc::from("/")),
            method: "GET",
            status,
            error: None,
        }
    }

    const COST: Cost = Cost {
        total: Duration::from_millis(1),
        waited: Some(Duration::ZERO),
        started: None,
        cpu: None,
        memory: 0,
        received: 0,
        sent: 0,
        is_second_try: false,
    };

    fn count(requests: &Requests, request: Request) {
        requests.count(request, COST, None);
    }

    fn counts(requests: &Requests, view: &View) -> Vec<(String, u16, u64)> {
        let all = requests.all(view);
        let shown = |(labels, series): &(Request, Arc<Series>)| {
            let name = text(labels.handler.as_ref()).to_owned();
            (name, labels.status, series.duration.counted().count)
        };
        all.iter().map(shown).collect()
    }

    #[test]
    fn what_requests_cost_is_summed_for_their_handler() {
        let requests = Requests::default();
        let cost = Cost {
            total: Duration::from_millis(600),
            waited: Some(Duration::from_millis(100)),
            memory: 3_000,
            received: 5,
            sent: 7,
            is_second_try: true,
            ..COST
        };
        for status in [200, 404] {
            requests.count(request(Some("shop"), None, status), cost, None);
        }
        requests.count(request(Some("other"), None, 200), COST, None);
        let shop = requests.of_handler(&Arc::from("shop"), None);
        let meter = Meter::new(Duration::ZERO, Account::new());
        meter.holds(1_000);
        meter.note();
        meter.charge(Duration::from_millis(2));
        shop.after(&meter, Duration::from_secs(1));
        let memory = shop.memory.now();
        assert!(
            (memory - (2.0 * 1_500.0 + 1_000.0)).abs() < 1e-6,
            "{memory}"
        );
        let sums = [
            &shop.bytes_received,
            &shop.bytes_sent,
            &shop.second_tries,
            &shop.cpu_after,
        ];
        let sums = sums.map(|sum| sum.load(Ordering::Relaxed));
        assert_eq!(sums, [10, 14, 2, 2_000_000]);
    }

    #[test]
    fn a_handler_with_too_many_sets_is_counted_whole_and_others_are_not() {
        let requests = Requests::default();
        let most = limits::METRIC_SERIES_OF_HANDLER as u16;
        for status in 200..200 + most + 50 {
            count(&requests, request(Some("odd"), None, status));
            count(&requests, request(Some("odd"), None, status));
        }
        count(&requests, request(Some("shop"), None, 200));
        let counts = counts(&requests, &View::All);
        assert_eq!(
            counts.iter().map(|(_, _, count)| count).sum::<u64>(),
            2 * 150 + 1
        );
        let together = ("odd".to_owned(), 3, 2 * 50);
        assert!(counts.contains(&together), "{counts:?}");
        assert_eq!(counts.len(), usize::from(most) + 2);
        assert_eq!(counts.last(), Some(&("shop".to_owned(), 200, 1)));
    }

    #[test]
    fn the_ceiling_of_all_holds_and_is_lifted_when_handlers_go() {
        let requests = Arc::new(Requests::default());
        for nth in 0..limits::METRIC_SERIES + 10 {
            count(&requests, request(Some(&format!("h{nth}")), None, 200));
        }
        assert_eq!(requests.all(&View::All).len(), limits::METRIC_SERIES + 1);
        let other = |requests: &Requests| {
            let counts = counts(requests, &View::All);
            counts.into_iter().find(|(name, _, _)| name == OTHER)
        };
        assert_eq!(other(&requests), Some((OTHER.to_owned(), 2, 10)));

        requests.of_those_that_are_there(|name, _| name == "h1" || name == "new");
        requests.forget_the_gone();
        count(&requests, request(Some("new"), None, 200));
        let names: Vec<String> = counts(&requests, &View::All)
            .into_iter()
            .map(|(name, _, _)| name)
            .collect();
        assert_eq!(names, ["h1", "new"]);
        assert_eq!(requests.handlers().len(), 2);
    }

    #[test]
    fn a_tenant_takes_no_more_than_its_share_and_sees_no_others() {
        let requests = Requests::default();
        let share = limits::METRIC_SERIES / limits::SHARE;
        for nth in 0..share + 5 {
            count(
                &requests,
                request(Some(&format!("h{nth}")), Some("acme"), 200),
            );
        }
        count(&requests, request(Some("shop"), None, 200));
        let of_acme = View::Tenant(Arc::from("acme"));
        assert_eq!(counts(&requests, &of_acme).len(), share + 1);
        let other = counts(&requests, &of_acme).remove(0);
        assert_eq!(other, (OTHER.to_owned(), 2, 5));
        assert!(counts(&requests, &View::Tenant(Arc::from("shop"))).is_empty());
    }

    #[test]
    fn a_method_that_nobody_knows_is_one_of_the_others() {
        let of = |text: &str| method(&text.parse().expect("a method"));
        assert_eq!((of("GET"), of("get"), of("BREW")), ("GET", OTHER, OTHER));
    }
}
