//! Places for connections that several share. A connection that waits for its next request gives way to who needs its place,
//! whoever keeps it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pool::{Sites, close_one_idle};

/// So many connections may be open at once.
#[derive(Debug)]
pub(super) struct Ceiling {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Those who keep connections, in turn. They leave when they keep none.
    pools: Mutex<VecDeque<Weak<Mutex<Sites>>>>,
}

impl Ceiling {
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            pools: Mutex::default(),
        }
    }

    fn pools(&self) -> MutexGuard<'_, VecDeque<Weak<Mutex<Sites>>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these may have to give way.
    pub(super) fn join(&self, sites: &Arc<Mutex<Sites>>) {
        let mut pools = self.pools();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push_back(Arc::downgrade(sites));
        drop(pools);
        // Who looked before these were here waits.
        if self.waiting() > 0 {
            self.close_one_idle();
        }
    }

    pub(super) fn leave(&self, sites: &Arc<Mutex<Sites>>) {
        let sites = Arc::downgrade(sites);
        self.pools().retain(|pool| !pool.ptr_eq(&sites));
    }

    /// A place that is free now.
    pub(super) fn try_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Waits for one, first come first served.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let _waiting = Waiting::one_of(&self.waiting);
        self.close_one_idle();
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// How many wait for one.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// One of the pool whose turn it is, or else of the next that has one.
    fn close_one_idle(&self) {
        let mut pools = self.pools();
        let in_turn = pools.clone();
        let first = pools.pop_front();
        pools.extend(first);
        drop(pools);
        for sites in in_turn.iter().filter_map(Weak::upgrade) {
            if close_one_idle(&sites) {
                return;
            }
        }
    }
}

/// One of those who wait, as long as it is not dropped.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    pub(super) fn one_of(all: &'a AtomicUsize) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(all)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Empty};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use wasmtime_wasi_http::WasiBody;

    use super::super::client::{Stage, connections_of_all};
    use super::super::destination::Origin;
    use super::super::grant::OutboundGrant;
    use super::super::pool::Pool;
    use super::super::{Client, Destination, OutboundGrants, Pattern};
    use super::*;
    use crate::capabilities::lookups::Lookups;
    use crate::capabilities::share::Sharer;
    use crate::gate::Gate;
    use crate::limits;

    /// Answers everybody, and keeps connections.
    async fn upstream() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
                        if head.ends_with(b"\r\n\r\n") {
                            head.clear();
                            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                            stream.write_all(answer).await.expect("sent");
                        }
                    }
                });
            }
        });
        address
    }

    fn grant(handler: &str, to: SocketAddr, client: &Arc<Client>) -> Arc<OutboundGrant> {
        let to: Pattern = format!("http://{to}").parse().expect("a pattern");
        let grants = OutboundGrants {
            allow: vec![to.into()],
            ..OutboundGrants::default()
        };
        let handler = Arc::from(handler);
        let lookups = Lookups::default().share(&Sharer::of(&handler, None));
        Arc::new(OutboundGrant::new(handler, None, &grants, client, lookups))
    }

    async fn get(grant: Arc<OutboundGrant>, from: SocketAddr) -> Response<WasiBody> {
        let body = Empty::<Bytes>::new().map_err(|never| match never {});
        let request = Request::get(format!("http://{from}/")).body(body.boxed_unsync());
        let gate = Gate::new(1, 0, Duration::ZERO);
        let permit = gate.try_admit().expect("a place");
        let sent = grant.send(request.expect("a request"), None, permit);
        sent.await.expect("a response")
    }

    #[tokio::test]
    async fn a_connection_that_waits_gives_way_to_another_handlers() {
        let mut client = Client::default();
        client.connections = Arc::new(Ceiling::new(1));
        let (client, at) = (Arc::new(client), upstream().await);
        let (one, two) = (grant("one", at, &client), grant("two", at, &client));
        let of_one = get(Arc::clone(&one), at).await;
        of_one.into_body().collect().await.expect("a body");
        let of_two = get(two, at).await;
        // Who waits before a connection is given back has its place too.
        let next = tokio::spawn(get(one, at));
        while client.connections.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        of_two.into_body().collect().await.expect("a body");
        next.await.expect("no panic");
    }

    #[tokio::test]
    async fn who_needs_a_new_connection_keeps_nobody_from_one_that_is_given_back() {
        let at = upstream().await;
        let to: Pattern = format!("http://{at}").parse().expect("a pattern");
        let mut said = Destination::from(to);
        said.connections = Some(1);
        let grants = OutboundGrants {
            allow: vec![said],
            ..OutboundGrants::default()
        };
        let one: Arc<str> = Arc::from("one");
        let lookups = Lookups::default().share(&Sharer::of(&one, None));
        let grant = Arc::new(OutboundGrant::new(
            one,
            None,
            &grants,
            &Arc::default(),
            lookups,
        ));
        let origin =
            Origin::of(&format!("http://{at}/").parse().expect("a URI")).expect("an origin");
        let site = grant
            .pool
            .site(&grants.allow[0], 0, &origin)
            .expect("a place");
        let stage = Stage::default();
        let connection = |is_fresh| {
            Box::pin(Pool::connection(
                &grant, 0, &origin, &site, is_fresh, &stage,
            ))
        };
        let lease = connection(false).await.expect("a connection");
        let (mut fresh, mut next) = (connection(true), connection(false));
        assert!(futures_util::poll!(&mut fresh).is_pending());
        assert!(futures_util::poll!(&mut next).is_pending());
        Pool::give_back(&grant, lease, ());
        let both = async {
            let lease = fresh.await.expect("a connection");
            assert!(!lease.is_reused());
            Pool::give_back(&grant, lease, ());
            next.await.expect("a connection")
        };
        let patience = Duration::from_secs(10);
        tokio::time::timeout(patience, both).await.expect("in time");
    }

    #[test]
    fn a_tenant_has_its_share_of_the_hosts_places_and_leaves_others_theirs() {
        let client = Client::default();
        let share = |tenant: Option<&str>| client.share(tenant.map(Arc::from));
        let acme = share(Some("acme"));
        let held: Vec<_> = std::iter::from_fn(|| acme.try_place()).collect();
        let all = connections_of_all();
        assert_eq!(held.len(), all.div_ceil(limits::SHARE));
        assert!(share(Some("acme")).try_place().is_none());
        for other in [Some("other"), None] {
            assert!(share(other).try_place().is_some(), "{other:?}");
        }
    }
}
