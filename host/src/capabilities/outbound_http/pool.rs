//! The connections of one handler: kept between requests, shared by its instances, and counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use http::HeaderValue;
use http::uri::Authority;
use hyper::client::conn::{http1, http2};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use wasmtime_wasi_http::Error;

use super::ceiling::{Ceiling, Waiting};
use super::client::{Client, Driver, Fresh, Places, Sender, Stage};
use super::destination::{Origin, Protocol};
use super::grant::{Destination, OutboundGrant};
use super::wire::Heard;
use crate::capabilities::lent::Lent;
use crate::limits;

/// The connections of one handler.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) client: Arc<Client>,
    /// Where connections are driven: a guest may have been moved to the background, and they serve all its instances.
    front: Option<Handle>,
    requests: Arc<Semaphore>,
    ceilings: Ceilings,
    sites: Arc<Mutex<Sites>>,
    is_swept: Arc<AtomicBool>,
}

/// What connections to several hosts and ports have together: those of the handler, of its tenant, of the host.
type Ceilings = [Arc<Ceiling>; 3];

/// By the destination that allowed it, which says how it is reached, and the host and port.
pub(super) type Sites = HashMap<(usize, Origin), Arc<Site>>;

/// One host and port, and the connections to it.
#[derive(Debug)]
pub(super) struct Site {
    /// As requests to it name it.
    pub(super) authority: Authority,
    /// The same, for a header.
    pub(super) host: HeaderValue,
    requests: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    /// Whether it may speak HTTP/2.
    may_share: bool,
    shelf: Mutex<Shelf>,
    /// A connection, or a stream of one, can be had.
    returned: Notify,
    ceilings: Ceilings,
    /// Who wait for a place of each of them.
    waiting: [AtomicUsize; 3],
    /// Who wait for a place here and need a connection that nobody has used.
    fresh: AtomicUsize,
    /// Connections whose response has ended, and which are not quite ready for the next request.
    returning: AtomicUsize,
    /// Held by whoever connects first: the others may share what it gets.
    dialing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// The one used last is the last.
    idle: Vec<Idle>,
    shared: Vec<Arc<Shared>>,
    /// Whether it speaks HTTP/2; unknown until there was a connection.
    is_h2: Option<bool>,
}

/// A connection of HTTP/1.1 that waits.
#[derive(Debug)]
struct Idle {
    line: Line,
    since: Instant,
}

#[derive(Debug)]
struct Line {
    sender: http1::SendRequest<Lent>,
    heard: Heard,
    _driver: Driver,
    born: Instant,
}

/// A connection of HTTP/2.
#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<Lent>,
    heard: Heard,
    /// Requests that its server allows at once.
    room: Arc<AtomicUsize>,
    /// Requests on it now.
    streams: AtomicUsize,
    born: Instant,
    /// When the last of them ended.
    since: Mutex<Instant>,
    /// Something on it took too long, or was given up without a sign of life: it may be stuck.
    is_retired: AtomicBool,
    _driver: Driver,
}

/// The right to use a connection for one request. One of HTTP/1.1 that is not given back is closed.
pub(super) enum Lease {
    H1(OfH1),
    H2(OfH2),
}

pub(super) struct OfH1 {
    line: Line,
    site: Arc<Site>,
    pub(super) is_reused: bool,
}

pub(super) struct OfH2 {
    shared: Arc<Shared>,
    site: Arc<Site>,
    pub(super) is_reused: bool,
    /// How often the connection had delivered something when the request was sent, as long as there is no answer.
    unanswered: Option<usize>,
}

fn places(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn new(
        client: Arc<Client>,
        tenant: Option<Arc<str>>,
        requests: usize,
        connections: usize,
    ) -> Self {
        let ceilings = [
            Arc::new(Ceiling::new(connections)),
            client.share(tenant),
            Arc::clone(&client.connections),
        ];
        Self {
            client,
            front: Handle::try_current().ok(),
            requests: places(requests),
            ceilings,
            sites: Arc::default(),
            is_swept: Arc::default(),
        }
    }

    fn front(&self) -> Handle {
        self.front.clone().unwrap_or_else(Handle::current)
    }

    /// The place of a host and port, which is made for the first request to it.
    pub(super) fn site(
        &self,
        said: &Destination,
        at: usize,
        origin: &Origin,
    ) -> Result<Arc<Site>, Error> {
        let mut sites = lock(&self.sites);
        let key = (at, origin.clone());
        if let Some(site) = sites.get(&key) {
            return Ok(Arc::clone(site));
        }
        if sites.len() >= limits::OUTBOUND_SITES {
            sites.retain(|_, site| Arc::strong_count(site) > 1 || !lock(&site.shelf).is_empty());
        }
        if sites.len() >= limits::OUTBOUND_SITES {
            // Connections that wait can be had again.
            let unused = sites.iter().find(|(_, site)| Arc::strong_count(site) == 1);
            let Some(key) = unused.map(|(key, _)| key.clone()) else {
                return Err(Error::ConnectionLimitReached);
            };
            sites.remove(&key);
        }
        let (requests, connections) = (said.requests, said.connections);
        let name = origin.authority();
        let site = Arc::new(Site {
            host: HeaderValue::try_from(&name).map_err(|_| Error::HttpRequestUriInvalid)?,
            authority: Authority::try_from(name).map_err(|_| Error::HttpRequestUriInvalid)?,
            requests: places(requests.unwrap_or(limits::OUTBOUND_REQUESTS)),
            connections: places(connections.unwrap_or(limits::OUTBOUND_HOST_CONNECTIONS)),
            may_share: origin.protocol == Protocol::Https || said.has_h2,
            shelf: Mutex::default(),
            returned: Notify::new(),
            ceilings: self.ceilings.clone(),
            waiting: Default::default(),
            fresh: AtomicUsize::new(0),
            returning: AtomicUsize::new(0),
            dialing: tokio::sync::Mutex::default(),
        });
        sites.insert(key, Arc::clone(&site));
        Ok(site)
    }

    /// One more request, if the handler, and the host and port, may have one now.
    pub(super) fn try_admit(&self, site: &Site) -> Option<[OwnedSemaphorePermit; 2]> {
        let of_site = Arc::clone(&site.requests).try_acquire_owned().ok()?;
        let of_handler = Arc::clone(&self.requests).try_acquire_owned().ok()?;
        Some([of_site, of_handler])
    }

    /// Waits until the handler, and the host and port, may have one more request.
    pub(super) async fn admit(&self, site: &Site) -> Option<[OwnedSemaphorePermit; 2]> {
        // In this order: who waits for a busy destination takes no place from others.
        let of_site = Arc::clone(&site.requests).acquire_owned().await.ok()?;
        let of_handler = Arc::clone(&self.requests).acquire_owned().await.ok()?;
        Some([of_site, of_handler])
    }

    /// A connection when none is kept: a new one, or one that is given back meanwhile. With `is_fresh`, a new one.
    pub(super) async fn connection(
        grant: &Arc<OutboundGrant>,
        at: usize,
        origin: &Origin,
        site: &Arc<Site>,
        is_fresh: bool,
        stage: &Stage,
    ) -> Result<Lease, Error> {
        let pool = &grant.pool;
        // Who has read a response to its end may be quicker than the task that drives the connection.
        let until = Instant::now() + limits::OUTBOUND_RETURN;
        while !is_fresh && site.returning.load(Ordering::Acquire) > 0 {
            let returned = timeout_at(until, site.returned.notified()).await;
            if let Some(lease) = site.take(is_fresh) {
                return Ok(lease);
            }
            if returned.is_err() {
                break;
            }
        }
        loop {
            if let Some(lease) = site.take(is_fresh) {
                return Ok(lease);
            }
            // Who needs a fresh one waits for a place, and in nobody's way.
            let may_share = !is_fresh && lock(&site.shelf).is_h2.unwrap_or(site.may_share);
            let turn = if may_share {
                let turn = site.dialing.lock().await;
                if let Some(lease) = site.take(is_fresh) {
                    return Ok(lease);
                }
                // Who was before has found out that each needs its own.
                (lock(&site.shelf).is_h2 != Some(false)).then_some(turn)
            } else {
                None
            };
            let Some(places) = pool.places(site, is_fresh).await else {
                continue;
            };
            let fresh = pool.dial(grant, at, origin, places, stage).await?;
            let lease = site.put(fresh);
            drop(turn);
            pool.sweep();
            return Ok(lease);
        }
    }

    /// In a task of its own, so that what drives the connection is on the threads that serve.
    async fn dial(
        &self,
        grant: &Arc<OutboundGrant>,
        at: usize,
        origin: &Origin,
        places: Places,
        stage: &Stage,
    ) -> Result<Fresh, Error> {
        let (grant, origin, stage) = (Arc::clone(grant), origin.clone(), stage.clone());
        let client = Arc::clone(&self.client);
        let mut dialing = Dialing(self.front().spawn(async move {
            let reach = grant.reach(at).ok_or(Error::HttpRequestDenied)?;
            client.connect(&origin, reach, &grant, places, &stage).await
        }));
        (&mut dialing.0)
            .await
            .unwrap_or(Err(Error::InternalError(None)))
    }

    /// The places of one more connection. None if meanwhile one was given back. Who needs a fresh one is not told of those:
    /// they are for others, or make room.
    async fn places(&self, site: &Site, is_fresh: bool) -> Option<Places> {
        let returned = || async {
            if is_fresh {
                std::future::pending().await
            } else {
                site.returned.notified().await
            }
        };
        let of_site = {
            let _waiting = is_fresh.then(|| Waiting::one_of(&site.fresh));
            if is_fresh && site.connections.available_permits() == 0 {
                // One that waits gives way, and not under the lock.
                let closed = lock(&site.shelf).pop_oldest();
                drop(closed);
            }
            tokio::select! {
                biased;
                place = Arc::clone(&site.connections).acquire_owned() => place.ok()?,
                () = returned() => return None,
            }
        };
        let mut places = vec![of_site];
        for (ceiling, own) in self.ceilings.iter().zip(&site.waiting) {
            let place = match ceiling.try_place() {
                Some(place) => place,
                None => {
                    let _waiting = (!is_fresh).then(|| Waiting::one_of(own));
                    tokio::select! {
                        biased;
                        place = ceiling.place() => place?,
                        () = returned() => return None,
                    }
                }
            };
            places.push(place);
        }
        Some(places)
    }

    /// Keeps a connection for the next request, if it can be used again.
    pub(super) fn give_back(grant: &Arc<OutboundGrant>, lease: Lease, held: impl Send + 'static) {
        let Lease::H1(mut lease) = lease else {
            return; // a stream ends by being dropped
        };
        if lease.line.sender.is_ready() {
            return grant.pool.keep(lease);
        }
        if lease.line.sender.is_closed() {
            return;
        }
        // It is a moment behind, or still writes a request whose answer has ended.
        let grant = Arc::clone(grant);
        let site = Arc::clone(&lease.site);
        site.returning.fetch_add(1, Ordering::AcqRel);
        grant.pool.front().spawn(async move {
            let ready = timeout(limits::OUTBOUND_LINGER, lease.line.sender.ready()).await;
            drop(held);
            if matches!(ready, Ok(Ok(()))) {
                grant.pool.keep(lease);
            }
            site.returning.fetch_sub(1, Ordering::AcqRel);
            site.returned.notify_one();
        });
    }

    fn keep(&self, lease: OfH1) {
        let OfH1 { line, site, .. } = lease;
        let mut shelf = lock(&site.shelf);
        if site.gives_way() || line.born.elapsed() > limits::OUTBOUND_AGE {
            return;
        }
        shelf.idle.push(Idle {
            line,
            since: Instant::now(),
        });
        drop(shelf);
        site.returned.notify_one();
        self.sweep();
    }

    /// Closes what nobody has used for a while, for as long as there is something. Until then it may have to give way.
    pub(super) fn sweep(&self) {
        if self.is_swept.swap(true, Ordering::AcqRel) {
            return;
        }
        let join = |ceilings: &Ceilings, sites: &Arc<Mutex<Sites>>| {
            for ceiling in ceilings {
                ceiling.join(sites);
            }
        };
        join(&self.ceilings, &self.sites);
        let (sites, is_swept) = (Arc::downgrade(&self.sites), Arc::clone(&self.is_swept));
        let ceilings = self.ceilings.clone();
        self.front().spawn(async move {
            loop {
                sleep(limits::OUTBOUND_IDLE / 2).await;
                let Some(sites) = Weak::upgrade(&sites) else {
                    return;
                };
                if expire(&sites) {
                    continue;
                }
                for ceiling in &ceilings {
                    ceiling.leave(&sites);
                }
                is_swept.store(false, Ordering::Release);
                // Something may have been kept meanwhile by who thought that this goes on.
                if !expire(&sites) || is_swept.swap(true, Ordering::AcqRel) {
                    return;
                }
                join(&ceilings, &sites);
            }
        });
    }
}

/// Whether there was one.
pub(super) fn close_one_idle(sites: &Mutex<Sites>) -> bool {
    let all = lock(sites);
    let closed = all.values().find_map(|site| lock(&site.shelf).pop_oldest());
    drop(all);
    // Dropped here, and not under a lock.
    closed.is_some()
}

/// Whether anything is left.
fn expire(sites: &Mutex<Sites>) -> bool {
    // Looked at where they are: one of which there is another handle is in use, to who looks for a place.
    let mut all = lock(sites);
    let old: Vec<_> = all
        .values()
        .map(|site| lock(&site.shelf).take_old())
        .collect();
    all.retain(|_, site| Arc::strong_count(site) > 1 || !lock(&site.shelf).is_empty());
    let is_left = all.values().any(|site| !lock(&site.shelf).is_empty());
    drop(all);
    // Not under a lock.
    drop(old);
    is_left
}

impl Site {
    /// Whether somebody waits for the place of a connection who has no use for one of this host and port: a new connection
    /// costs more than one that is kept. Asked under the lock of the shelf, under which who waits has looked for one.
    fn gives_way(&self) -> bool {
        let mut all = self.ceilings.iter().zip(&self.waiting);
        self.fresh.load(Ordering::Relaxed) > 0
            || all.any(|(ceiling, own)| ceiling.waiting() > own.load(Ordering::Relaxed))
    }

    /// One that is kept, or shared. With `is_fresh`, none.
    pub(super) fn take(self: &Arc<Self>, is_fresh: bool) -> Option<Lease> {
        let mut shelf = lock(&self.shelf);
        shelf.shared.retain(|shared| !shared.is_over());
        if is_fresh {
            return None;
        }
        let least = shelf
            .shared
            .iter()
            .min_by_key(|shared| shared.streams.load(Ordering::Relaxed));
        if let Some(shared) = least.filter(|it| it.has_room()) {
            shared.streams.fetch_add(1, Ordering::Relaxed);
            return Some(Lease::H2(OfH2 {
                shared: Arc::clone(shared),
                site: Arc::clone(self),
                is_reused: true,
                unanswered: None,
            }));
        }
        // Those that the other side has closed are dropped on the way.
        while let Some(Idle { line, .. }) = shelf.idle.pop() {
            if line.sender.is_ready() {
                return Some(Lease::H1(OfH1 {
                    line,
                    site: Arc::clone(self),
                    is_reused: true,
                }));
            }
        }
        None
    }

    fn put(self: &Arc<Self>, fresh: Fresh) -> Lease {
        let Fresh {
            sender,
            heard,
            driver,
        } = fresh;
        let born = Instant::now();
        let mut shelf = lock(&self.shelf);
        match sender {
            Sender::H1(sender) => {
                shelf.is_h2 = Some(false);
                Lease::H1(OfH1 {
                    line: Line {
                        sender,
                        heard,
                        _driver: driver,
                        born,
                    },
                    site: Arc::clone(self),
                    is_reused: false,
                })
            }
            Sender::H2(sender, room) => {
                shelf.is_h2 = Some(true);
                let shared = Arc::new(Shared {
                    sender,
                    heard,
                    room,
                    streams: AtomicUsize::new(1),
                    born,
                    since: Mutex::new(born),
                    is_retired: AtomicBool::new(false),
                    _driver: driver,
                });
                shelf.shared.push(Arc::clone(&shared));
                Lease::H2(OfH2 {
                    shared,
                    site: Arc::clone(self),
                    is_reused: false,
                    unanswered: None,
                })
            }
        }
    }
}

impl Shelf {
    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.shared.is_empty()
    }

    fn take_old(&mut self) -> (Vec<Idle>, Vec<Arc<Shared>>) {
        let is_old = |since: Instant| since.elapsed() >= limits::OUTBOUND_IDLE;
        let fresh = self.idle.partition_point(|idle| is_old(idle.since));
        let idle = self.idle.drain(..fresh).collect();
        let shared = self
            .shared
            .extract_if(.., |shared| {
                shared.is_over() || (shared.is_idle() && is_old(*lock(&shared.since)))
            })
            .collect();
        (idle, shared)
    }

    fn pop_oldest(&mut self) -> Option<(Option<Idle>, Option<Arc<Shared>>)> {
        if !self.idle.is_empty() {
            return Some((Some(self.idle.remove(0)), None));
        }
        let at = self.shared.iter().position(|shared| shared.is_idle())?;
        Some((None, Some(self.shared.remove(at))))
    }
}

impl Shared {
    fn is_idle(&self) -> bool {
        self.streams.load(Ordering::Relaxed) == 0
    }

    fn has_room(&self) -> bool {
        let most = self.room.load(Ordering::Relaxed);
        let streams = self.streams.load(Ordering::Relaxed);
        streams < most.min(limits::OUTBOUND_H2_STREAMS)
    }

    /// No request may come to it any more.
    fn is_over(&self) -> bool {
        self.sender.is_closed()
            || self.is_retired.load(Ordering::Relaxed)
            || self.born.elapsed() > limits::OUTBOUND_AGE
    }
}

impl Lease {
    pub(super) fn is_reused(&self) -> bool {
        match self {
            Self::H1(lease) => lease.is_reused,
            Self::H2(lease) => lease.is_reused,
        }
    }

    pub(super) fn is_h2(&self) -> bool {
        matches!(self, Self::H2(_))
    }

    pub(super) fn heard(&self) -> &Heard {
        match self {
            Self::H1(lease) => &lease.line.heard,
            Self::H2(lease) => &lease.shared.heard,
        }
    }

    /// Its connection gets no further request. One of HTTP/1.1 that is not given back gets none anyway.
    pub(super) fn retire(&self) {
        if let Self::H2(lease) = self {
            lease.retire(&mut lock(&lease.site.shelf));
        }
    }

    /// Sends a request, and waits for the head of its response.
    pub(super) async fn send(
        &mut self,
        request: http::Request<Lent>,
    ) -> Result<http::Response<hyper::body::Incoming>, Unsent> {
        self.heard().is_asked();
        let sent = match self {
            Self::H1(lease) => lease.line.sender.try_send_request(request).await,
            Self::H2(lease) => {
                // A clone of the sender is a handle to the same connection.
                let mut sender = lease.shared.sender.clone();
                lease.unanswered = Some(lease.shared.heard.delivered());
                let sent = sender.try_send_request(request).await;
                lease.unanswered = None;
                sent
            }
        };
        sent.map_err(|mut error| Unsent {
            request: error.take_message().map(Box::new),
            error: error.into_error(),
        })
    }
}

/// A request without a response; the request itself, if nothing of it was written.
pub(super) struct Unsent {
    pub(super) request: Option<Box<http::Request<Lent>>>,
    pub(super) error: hyper::Error,
}

impl OfH2 {
    fn retire(&self, shelf: &mut Shelf) {
        self.shared.is_retired.store(true, Ordering::Relaxed);
        shelf.shared.retain(|it| !it.is_over());
    }
}

impl Drop for OfH2 {
    fn drop(&mut self) {
        *lock(&self.shared.since) = Instant::now();
        // Whoever gives up a request of HTTP/1.1 gives up its connection. This one is kept if it is known to live.
        let is_silent = self.unanswered == Some(self.shared.heard.delivered());
        let mut shelf = lock(&self.site.shelf);
        let is_last = self.shared.streams.fetch_sub(1, Ordering::Relaxed) == 1;
        if is_silent || (is_last && self.site.gives_way()) {
            self.retire(&mut shelf);
        }
        drop(shelf);
        self.site.returned.notify_one();
    }
}

/// Who connects, and gives up with who asked.
struct Dialing(tokio::task::JoinHandle<Result<Fresh, Error>>);

impl Drop for Dialing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::super::destination::{EVERYWHERE, Pattern};
    use super::*;

    #[test]
    fn a_handler_reaches_as_many_hosts_at_once_as_it_may_and_who_is_done_with_makes_room() {
        let everywhere: Pattern = EVERYWHERE.parse().expect("a pattern");
        let said = Destination::from(everywhere);
        let pool = Pool::new(Arc::default(), None, 1, 1);
        let site = |nth: usize| {
            let uri = format!("http://host-{nth}.example.com/");
            let origin = Origin::of(&uri.parse().expect("a URI")).expect("an origin");
            pool.site(&said, 0, &origin)
        };
        let most = limits::OUTBOUND_SITES;
        let held: Vec<_> = (0..most).map(|nth| site(nth).expect("a place")).collect();
        assert!(matches!(site(most), Err(Error::ConnectionLimitReached)));
        assert!(site(0).is_ok(), "it has a place");
        drop(held);
        assert!(site(most).is_ok());
    }
}
