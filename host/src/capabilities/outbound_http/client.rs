//! From a destination to a connection: names are looked up, addresses judged, TCP, TLS and HTTP set up. One for the host.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use rustls::RootCertStore;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::Error;

use super::ceiling::Ceiling;
use super::destination::{Origin, Protocol};
use super::grant::{OutboundGrant, Reach};
use super::wire::{Heard, Wire};
use super::{error, tls};
use crate::capabilities::hosts::Host;
use crate::capabilities::judge::judge;
use crate::capabilities::lent::Lent;
use crate::{limits, open_files};

/// What all handlers share when they reach others over HTTP. Connections are each handler's own: who may reach less than
/// another never gets one of his.
#[derive(Debug)]
pub struct Client {
    pub(super) connections: Arc<Ceiling>,
    /// Of those, what each tenant may have.
    shares: Mutex<HashMap<Arc<str>, Weak<Ceiling>>>,
    system_roots: OnceLock<Arc<RootCertStore>>,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            connections: Arc::new(Ceiling::new(connections_of_all())),
            shares: Mutex::default(),
            system_roots: OnceLock::new(),
        }
    }
}

/// Connections of all handlers at once.
pub(super) fn connections_of_all() -> usize {
    let of_process = open_files::of_process() / limits::OPEN_FILES_PART;
    limits::OUTBOUND_CONNECTIONS_OF_ALL.min(of_process)
}

/// The places that a connection has: of its host and port, of its handler, of its tenant, of the host.
pub(super) type Places = Vec<OwnedSemaphorePermit>;

/// How far a connection has come, for who gives up waiting for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Stage(Arc<AtomicU8>);

impl Stage {
    const LOOKUP: u8 = 1;
    const CONNECT: u8 = 2;

    fn is(&self, stage: u8) {
        self.0.store(stage, Ordering::Relaxed);
    }

    /// What took too long.
    pub(super) fn error(&self) -> Error {
        match self.0.load(Ordering::Relaxed) {
            Self::LOOKUP => Error::DnsTimeout,
            Self::CONNECT => Error::ConnectionTimeout,
            _ => Error::ConnectionLimitReached,
        }
    }
}

/// The tasks that drive a connection. They end with their owner, also if the other side takes nothing any more.
#[derive(Debug)]
pub(super) struct Driver {
    driver: JoinHandle<()>,
    helpers: Helpers,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.driver.abort();
        self.helpers.tasks().abort_all();
    }
}

/// What HTTP/2 runs beside: the connection itself, and the bodies of requests.
#[derive(Debug, Clone, Default)]
struct Helpers(Arc<Mutex<JoinSet<()>>>);

impl Helpers {
    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Executor<F> for Helpers
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move { drop(task.await) });
    }
}

/// A connection that nobody has used.
pub(super) struct Fresh {
    pub(super) sender: Sender,
    pub(super) heard: Heard,
    pub(super) driver: Driver,
}

pub(super) enum Sender {
    H1(http1::SendRequest<Lent>),
    /// And how many requests its server allows at once.
    H2(http2::SendRequest<Lent>, Arc<AtomicUsize>),
}

impl Client {
    /// Whom this system trusts. `SSL_CERT_FILE` and `SSL_CERT_DIR` say otherwise. The first call waits for a disk.
    pub(super) fn system_roots(&self) -> Arc<RootCertStore> {
        let roots = self.system_roots.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let why = found.errors.first().map(ToString::to_string);
                tracing::warn!(
                    "this system trusts no authority, so no TLS to elsewhere: install `ca-certificates`, set SSL_CERT_FILE, or name a `ca` ({})",
                    why.as_deref().unwrap_or("none found")
                );
            }
            Arc::new(roots)
        });
        Arc::clone(roots)
    }

    /// What the handlers of a tenant have together of the host's connections. A handler of nobody has as much alone.
    pub(super) fn share(&self, tenant: Option<Arc<str>>) -> Arc<Ceiling> {
        let most = connections_of_all().div_ceil(limits::SHARE);
        let Some(tenant) = tenant else {
            return Arc::new(Ceiling::new(most));
        };
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.retain(|_, share| share.strong_count() > 0);
        if let Some(share) = shares.get(&tenant).and_then(Weak::upgrade) {
            return share;
        }
        let share = Arc::new(Ceiling::new(most));
        shares.insert(tenant, Arc::downgrade(&share));
        share
    }

    pub(super) async fn connect(
        &self,
        to: &Origin,
        reach: &Reach,
        grant: &OutboundGrant,
        places: Places,
        stage: &Stage,
    ) -> Result<Fresh, Error> {
        if open_files::are_short() {
            return Err(error::of_connect(&Errno::MFILE.into()));
        }
        stage.is(Stage::LOOKUP);
        let addresses = addresses(to, grant).await?;
        stage.is(Stage::CONNECT);
        let stream = dial(&addresses)
            .await
            .map_err(|error| error::of_connect(&error))?;
        // Requests are written whole: waiting for more to send gains nothing.
        let _ = stream.set_nodelay(true);
        let heard = Heard::default();
        match to.protocol {
            Protocol::Http => {
                let wire = Wire::new(stream, heard.clone(), places);
                speak(wire, reach.said.has_h2, heard).await
            }
            Protocol::Https => {
                let name = tls::name(&to.host).ok_or(Error::HttpRequestUriInvalid)?;
                let connector = TlsConnector::from(reach.tls(self)?);
                // Watched beneath TLS: what is no record of it, or an endless one, is nothing either.
                let stream = connector
                    .connect(name, Wire::new(stream, heard.clone(), places))
                    .await
                    .map_err(|error| error::of_handshake(&error))?;
                let is_h2 = stream.get_ref().1.alpn_protocol() == Some(tls::H2);
                speak(stream, is_h2, heard).await
            }
        }
    }
}

/// The addresses of a destination that may be reached, each with its port.
async fn addresses(to: &Origin, grant: &OutboundGrant) -> Result<Vec<SocketAddr>, Error> {
    let found = match &to.host {
        // An address that stands in `allow` as it is was meant.
        Host::Address(address) if grant.names_address(to) => {
            return Ok(vec![(*address, to.port).into()]);
        }
        Host::Address(address) => vec![(*address, to.port).into()],
        Host::Name(name) => look_up(Arc::clone(name), to.port, grant).await?,
    };
    let mut denied = None;
    let judged = |address: &SocketAddr| {
        let judged = judge(address.ip(), &grant.networks);
        judged.map_err(|why| denied = Some(why)).is_ok()
    };
    let allowed: Vec<_> = found.into_iter().filter(judged).collect();
    match denied {
        Some(denied) if allowed.is_empty() => {
            grant.tell_denied(to, denied);
            Err(Error::DestinationIpProhibited)
        }
        _ if allowed.is_empty() => Err(no_address()),
        _ => Ok(in_turn(allowed)),
    }
}

async fn look_up(
    name: Arc<str>,
    port: u16,
    grant: &OutboundGrant,
) -> Result<Vec<SocketAddr>, Error> {
    let addresses = move || (&*name, port).to_socket_addrs().map(Vec::from_iter);
    match grant.lookups.run(addresses).await {
        Ok(Ok(found)) => Ok(found),
        _ => Err(no_address()),
    }
}

fn no_address() -> Error {
    Error::DnsError {
        rcode: Some("no address".to_owned()),
        info_code: None,
    }
}

/// One family after the other, beginning with the first one's: what is broken is most often a family.
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_first = addresses.first().map(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| Some(address.is_ipv6()) == is_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turn = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            turn.truncate(limits::ADDRESSES_TRIED);
            return turn;
        }
        turn.extend(pair.into_iter().flatten());
    }
}

/// The first address that answers (RFC 8305): the next one is tried as well when one has not for a moment.
async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut rest = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = None;
    loop {
        match rest.next() {
            Some(next) => attempts.push(TcpStream::connect(*next)),
            None if attempts.is_empty() => {
                return Err(failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
            }
            None => {}
        }
        let pause = if rest.as_slice().is_empty() {
            Duration::MAX
        } else {
            limits::ADDRESS_HEAD_START
        };
        tokio::select! {
            biased;
            Some(attempt) = attempts.next() => match attempt {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = Some(error),
            },
            () = sleep(pause) => {}
        }
    }
}

/// HTTP over bytes. The connection is driven by a task of its own, on the runtime of who calls.
async fn speak<T>(io: T, is_h2: bool, heard: Heard) -> Result<Fresh, Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = TokioIo::new(io);
    if is_h2 {
        let helpers = Helpers::default();
        let (sender, connection) = http2::Builder::new(helpers.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(limits::OUTBOUND_H2_WINDOW)
            .initial_connection_window_size(limits::OUTBOUND_H2_CONNECTION_WINDOW)
            .max_header_list_size(limits::OUTBOUND_HEAD as u32)
            .max_send_buf_size(limits::H2_SEND)
            .keep_alive_interval(limits::H2_PING_INTERVAL)
            .keep_alive_timeout(limits::H2_PING_TIMEOUT)
            .handshake(io)
            .await
            .map_err(|error| error::of_head(&error))?;
        let room = Arc::new(AtomicUsize::new(limits::OUTBOUND_H2_STREAMS));
        let told = Arc::clone(&room);
        let mut connection = Box::pin(connection);
        let driver = tokio::spawn(async move {
            let ended = poll_fn(|cx| {
                let ended = connection.as_mut().poll(cx);
                told.store(connection.current_max_send_streams(), Ordering::Relaxed);
                ended
            });
            if let Err(error) = ended.await {
                tracing::debug!("a connection to elsewhere ended: {error}");
            }
        });
        return Ok(Fresh {
            sender: Sender::H2(sender, room),
            heard,
            driver: Driver { driver, helpers },
        });
    }
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(limits::OUTBOUND_HEAD)
        .handshake(io)
        .await
        .map_err(|error| error::of_head(&error))?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a connection to elsewhere ended: {error}");
        }
    });
    Ok(Fresh {
        sender: Sender::H1(sender),
        heard,
        driver: Driver {
            driver,
            helpers: Helpers::default(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_up_hears_how_far_it_came() {
        let stage = Stage::default();
        assert_eq!(error::code_name(&stage.error()), "connection-limit-reached");
        for (at, code) in [
            (Stage::LOOKUP, "DNS-timeout"),
            (Stage::CONNECT, "connection-timeout"),
        ] {
            stage.is(at);
            assert_eq!(error::code_name(&stage.error()), code);
        }
    }

    #[test]
    fn families_take_turns_and_no_more_are_tried_than_may_be() {
        let of = |text: &str| SocketAddr::new(text.parse().expect(text), 80);
        let turn = in_turn(["::1", "::2", "::3", "1.1.1.1"].map(of).to_vec());
        assert_eq!(turn, ["::1", "1.1.1.1", "::2", "::3"].map(of));
        let many: Vec<_> = (0..200).map(|at| of(&format!("10.0.0.{at}"))).collect();
        assert_eq!(in_turn(many).len(), limits::ADDRESSES_TRIED);
    }
}
