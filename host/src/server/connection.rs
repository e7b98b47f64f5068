//! One connection from its first byte to its last: which protocol it speaks, who drives it, and how it is closed.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::addresses::{Addresses, Counted};
use super::client_io::ClientIo;
use super::counters::{Counters, add};
use super::frames::Frames;
use super::intake::Intake;
use super::listener::{Terms, canonical};
use super::preface::{self, Opening};
use super::progress::Progress;
use super::proxy_protocol::{self, Unheard};
use super::socket::Socket;
use super::tls::{self, Session, Tls};
use super::upload::Upload;
use super::wire::Wire;
use super::{Config, Handler, h1, h2, linger};
use crate::client::{Client, Peer};
use crate::shutdown::Shutdown;

/// What the connections of a door share.
pub(super) struct Door<H> {
    pub(super) config: Config,
    pub(super) counters: Arc<Counters>,
    pub(super) handler: H,
    pub(super) shutdown: Shutdown,
    pub(super) h1: http1::Builder,
    pub(super) addresses: Arc<Addresses>,
}

impl<H> Door<H> {
    pub(super) fn new(
        config: Config,
        counters: Arc<Counters>,
        handler: H,
        shutdown: Shutdown,
    ) -> Self {
        let h1 = h1::builder(&config);
        Door {
            config,
            counters,
            handler,
            shutdown,
            h1,
            addresses: Arc::default(),
        }
    }
}

impl<H: Handler> Door<H> {
    /// Counts a connection to its address, where addresses have a ceiling.
    fn enter(&self, client: &Client) -> Result<Option<Counted>, Ending> {
        let (Some(most), Peer::Address(address)) =
            (self.config.max_connections_per_address, client.remote)
        else {
            return Ok(None);
        };
        match self.addresses.enter(address.ip(), most) {
            Some(counted) => Ok(Some(counted)),
            None => {
                add(&self.counters.too_many_of_address);
                Err(Ending::Unused)
            }
        }
    }

    pub(super) async fn handle(
        &self,
        request: Request<Incoming>,
        client: Client,
    ) -> Response<H::Body> {
        let (head, body) = request.into_parts();
        let (body, answered) = Upload::new(body, &self.config, &self.counters);
        let request = Request::from_parts(head, body);
        let response = self.handler.handle(request, client).await;
        answered.now();
        response
    }
}

/// How a connection came to its end, which decides how it is closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// All is said
    Finished,
    /// Without a request for too long
    Idle,
    /// Nothing is owed, and we wish to close
    Unused,
    /// No first byte in time
    Silent,
    /// A response that could not be completed, and whose length the client does not know
    Cut,
    /// The client takes no bytes
    Stalled,
    /// The client sent frames of HTTP/2 for nothing, of a wrong length or out of place, or headers that are no HPACK
    Violated,
    /// A list of HTTP/2 headers was not complete in time
    SlowHead,
    /// The client of HTTP/2 did not say in time that it is there
    Unanswered,
    /// The client is gone
    Left,
}

/// Serves one connection to its end.
pub(super) async fn serve<H: Handler>(
    door: Arc<Door<H>>,
    terms: Arc<Terms>,
    socket: Socket,
    mut client: Client,
) {
    // hyper reads and writes through it; we look whether the client is there, and close it our way.
    let socket = Arc::new(socket);
    // It counts until it is closed, however it begins.
    let mut of_address = None;
    let begun = begin(&door, &terms, &socket, &mut client, &mut of_address).await;
    let ending = match begun {
        Ok(begun) => speak(&door, begun, &socket, &client).await,
        Err(ending) => ending,
    };
    close(&door, &socket, &client, ending).await;
}

/// A connection on which HTTP comes next.
struct Begun {
    wire: Wire,
    /// What TLS has settled on: HTTP/2, or not
    is_h2: Option<bool>,
    /// Until when its first byte may come
    deadline: Instant,
}

/// What comes before HTTP: for whom a proxy speaks, and TLS.
async fn begin<H: Handler>(
    door: &Door<H>,
    terms: &Terms,
    socket: &Arc<Socket>,
    client: &mut Client,
    of_address: &mut Option<Counted>,
) -> Result<Begun, Ending> {
    let in_time = || Instant::now() + door.config.first_byte_timeout;
    let deadline = in_time();
    let mut early = Bytes::new();
    if terms.proxy_protocol {
        early = hear_proxy(door, socket, deadline, client).await?;
    }
    *of_address = door.enter(client)?;
    let Some(tls) = &terms.tls else {
        return Ok(Begun {
            wire: Wire::clear(Arc::clone(socket), early),
            is_h2: None,
            deadline,
        });
    };
    let session = shake_hands(door, tls, socket, early, client).await?;
    Ok(Begun {
        is_h2: session.is_h2(),
        wire: Wire::sealed(Arc::clone(socket), session),
        deadline: in_time(),
    })
}

async fn hear_proxy<H: Handler>(
    door: &Door<H>,
    socket: &Socket,
    deadline: Instant,
    client: &mut Client,
) -> Result<Bytes, Ending> {
    if !door.config.trusted_proxies.hold(&client.remote) {
        add(&door.counters.bad_proxy_headers);
        debug!(remote = %client.remote, "refused: it is none of `trusted_proxies`");
        return Err(Ending::Cut);
    }
    let heard = tokio::select! {
        heard = timeout_at(deadline, proxy_protocol::read(socket)) => heard,
        () = door.shutdown.asked() => return Err(Ending::Unused),
    };
    match heard {
        Err(_) => Err(Ending::Silent),
        Ok(Err(Unheard::Left)) => Err(Ending::Finished),
        Ok(Err(Unheard::Malformed(what))) => {
            add(&door.counters.bad_proxy_headers);
            debug!(remote = %client.remote, "refused: {what}");
            Err(Ending::Cut)
        }
        Ok(Ok(told)) => {
            if let Some((from, to)) = told.ends {
                let [from, to] = [from, to].map(canonical);
                (client.remote, client.local) = (Peer::Address(from), Peer::Address(to));
            }
            Ok(told.rest)
        }
    }
}

async fn shake_hands<H: Handler>(
    door: &Door<H>,
    tls: &Tls,
    socket: &Socket,
    early: Bytes,
    client: &mut Client,
) -> Result<Session, Ending> {
    let counters = &door.counters.handshakes;
    let deadline = door.config.handshake_timeout;
    // Boxed: what it takes is not needed afterwards.
    let shaking = Box::pin(tls::shake_hands(socket, early, tls.server()));
    let shaken = tokio::select! {
        shaken = timeout(deadline, shaking) => shaken,
        () = door.shutdown.asked() => return Err(Ending::Unused),
    };
    let session = match shaken {
        Ok(Ok(session)) => session,
        Ok(Err(fault)) => {
            counters.failed(fault);
            debug!(remote = %client.remote, ?fault, "no TLS");
            // Otherwise an alert is on its way.
            if fault == tls::Fault::Clear {
                let _ = socket.try_write(tls::IN_THE_CLEAR);
            }
            return Err(Ending::Finished);
        }
        Err(_) => {
            add(&counters.slow);
            return Err(Ending::Unused);
        }
    };
    add(if session.is_resumed() {
        &counters.resumed
    } else {
        &counters.full
    });
    client.scheme = Scheme::HTTPS;
    if let Some(shown) = session.client_certificate() {
        let Some(certificate) = tls::certificate_of(shown) else {
            add(&counters.client_certificate);
            debug!(remote = %client.remote, "a certificate that cannot be told to a guest");
            return Err(Ending::Unused);
        };
        client.certificate = Some(Arc::new(certificate));
    }
    Ok(session)
}

/// HTTP, to its end.
async fn speak<H: Handler>(
    door: &Arc<Door<H>>,
    begun: Begun,
    socket: &Socket,
    client: &Client,
) -> Ending {
    let progress = Arc::new(Progress::default());
    let Begun {
        mut wire,
        is_h2,
        deadline,
    } = begun;
    let is_h2 = match preface::read(&mut wire, &door.config, deadline, &door.shutdown).await {
        Opening::H1 => is_h2.unwrap_or(false),
        Opening::H2 => is_h2.unwrap_or(true),
        Opening::TooSlow if is_h2 == Some(true) => return Ending::SlowHead,
        Opening::TooSlow => {
            progress.lose_patience();
            is_h2.unwrap_or(false)
        }
        Opening::Ended(ending) => {
            wire.try_end();
            return ending;
        }
    };
    let intake = (!is_h2).then(|| Intake::new(&door.config));
    let frames = is_h2.then(|| Box::new(Frames::new(&door.config)));
    let io = ClientIo::new(wire, Arc::clone(&progress), intake, frames);
    if is_h2 {
        h2::drive(door, io, &progress, client).await
    } else {
        h1::drive(door, io, socket, &progress, client).await
    }
}

async fn close<H: Handler>(door: &Door<H>, socket: &Socket, client: &Client, ending: Ending) {
    debug!(remote = %client.remote, ?ending, "connection ended");
    let counters = &door.counters;
    match ending {
        Ending::Finished => linger::close(socket, &door.config).await,
        Ending::Unused => {}
        Ending::Idle => add(&counters.idle),
        Ending::Silent => add(&counters.silent),
        Ending::Cut => socket.reset_at_close(),
        Ending::Stalled => {
            add(&counters.stalled);
            // Otherwise the kernel keeps what the client never took, and goes on offering it for minutes.
            socket.reset_at_close();
        }
        Ending::Violated => {
            add(&counters.violations);
            linger::close(socket, &door.config).await;
        }
        Ending::SlowHead => add(&counters.slow_heads),
        Ending::Unanswered => {
            add(&counters.unanswered_pings);
            linger::close(socket, &door.config).await;
        }
        Ending::Left => add(&counters.left),
    }
}
