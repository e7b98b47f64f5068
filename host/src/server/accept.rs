//! A door: the listener and its loop. The loop never waits on a connection, and no error of `accept` ends it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use socket2::{Domain, Protocol, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use super::connection::{self, Door};
use super::counters::{Counters, add};
use super::socket::Socket;
use super::{Config, Handler};
use crate::client::{Client, Peer, Stall};
use crate::shutdown::Shutdown;

/// Listens on `addr`. To be called within a runtime.
pub fn bind(addr: SocketAddr) -> Result<TcpListener, BindError> {
    listen(addr).map_err(|source| BindError { addr, source })
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        socket2::Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the last connections of its predecessor to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves the connections of `listener` until shutdown is asked and the last of them has ended.
///
/// Once asked, it accepts no more, closes idle connections at once and lets requests in flight finish. Dropping the
/// future aborts what is left.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    config: Config,
    counters: Arc<Counters>,
    handler: H,
    shutdown: Shutdown,
) {
    let door = Arc::new(Door::new(config, counters, handler, shutdown));
    let mut connections = JoinSet::new();
    let mut accepting = Accepting::default();

    while !door.shutdown.is_asked() {
        // The place is taken before the connection: beyond the ceiling the kernel's backlog waits, not our memory.
        let has_room = connections.len() < door.config.max_connections;
        tokio::select! {
            biased;
            () = door.shutdown.asked() => break,
            Some(ended) = connections.join_next() => note_end(&door.counters, ended),
            accepted = accepting.next(&listener), if has_room => match accepted {
                Ok((stream, remote)) => open(&mut connections, &door, stream, remote),
                Err(failure) => accepting.back_off(&door.counters, &failure),
            },
        }
    }

    drop(listener);
    while let Some(ended) = connections.join_next().await {
        note_end(&door.counters, ended);
    }
}

fn open<H: Handler>(
    connections: &mut JoinSet<()>,
    door: &Arc<Door<H>>,
    stream: TcpStream,
    remote: SocketAddr,
) {
    // A client that is already gone has no local address.
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let socket = Socket::Tcp(stream);
    if let Err(failure) = socket.send_at_once() {
        debug!(%remote, %failure, "setting TCP_NODELAY");
    }
    let counted = door.counters.open();
    let door = Arc::clone(door);
    connections.spawn(async move {
        let _counted = counted;
        connection::serve(
            door,
            socket,
            Client {
                remote: Peer::Address(remote),
                local: Peer::Address(local),
                scheme: Scheme::HTTP,
                stall: Stall::default(),
            },
        )
        .await;
    });
}

fn note_end(counters: &Counters, ended: Result<(), JoinError>) {
    if let Err(failure) = ended
        && failure.is_panic()
    {
        add(&counters.panics);
        error!(%failure, "a connection panicked");
    }
}

/// How accepting goes: an error makes it pause, longer each time, until a connection comes through.
#[derive(Default)]
struct Accepting {
    pause: Option<Pause>,
}

/// The end is kept, not the rest: the loop drops the wait whenever a connection ends.
#[derive(Clone, Copy)]
struct Pause {
    length: Duration,
    until: Instant,
}

impl Accepting {
    async fn next(&mut self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        if let Some(pause) = self.pause {
            sleep_until(pause.until).await;
        }
        let accepted = listener.accept().await?;
        if self.pause.take().is_some() {
            info!("accepting connections again");
        }
        Ok(accepted)
    }

    fn back_off(&mut self, counters: &Counters, failure: &io::Error) {
        add(&counters.accept_errors);
        // The client gave up while it waited. It has left the backlog, so trying again at once cannot spin.
        if matches!(
            failure.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
        ) {
            debug!(%failure, "a client left before it was accepted");
            return;
        }
        let length = match self.pause {
            None => {
                warn!(%failure, "accepting no connections for now");
                FIRST_PAUSE
            }
            Some(pause) => LONGEST_PAUSE.min(pause.length * 2),
        };
        self.pause = Some(Pause {
            length,
            until: Instant::now() + length,
        });
    }
}

/// Why a door did not open.
#[derive(Debug)]
pub struct BindError {
    /// Where it should have been
    pub addr: SocketAddr,
    /// What the system said
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addr = self.addr;
        match self.source.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on `{addr}`: another program does: stop it or choose another port"
            ),
            io::ErrorKind::PermissionDenied => write!(
                f,
                "may not listen on `{addr}`: choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE"
            ),
            io::ErrorKind::AddrNotAvailable => write!(
                f,
                "cannot listen on `{addr}`: no interface of this machine has that address"
            ),
            _ => write!(f, "cannot listen on `{addr}`: {}", self.source),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Connections the kernel may hold for us; it cuts this to `net.core.somaxconn`, whose default is the same.
const BACKLOG: i32 = 4096;

/// Descriptors come free within milliseconds on a busy host; a spin would take the time of those who free them.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// A second of refusal is what a client's retry survives.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
