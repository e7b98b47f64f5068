//! One connection from its first byte to its last: which protocol it speaks, who drives it, and how it is closed.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::timeout;
use tracing::debug;

use super::client_io::ClientIo;
use super::counters::{Counters, add};
use super::preface::{self, Opening};
use super::progress::Progress;
use super::{Client, Config, Handler, HeadFault, h1, h2, linger};
use crate::shutdown::Shutdown;

/// What the connections of a door share.
pub(super) struct Door<H> {
    pub(super) config: Config,
    pub(super) counters: Arc<Counters>,
    pub(super) handler: H,
    pub(super) shutdown: Shutdown,
    pub(super) h1: http1::Builder,
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
        }
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
    /// A head that no request came of
    Refused(HeadFault),
    /// A response that could not be completed, and whose length the client does not know
    Cut,
    /// The client takes no bytes
    Stalled,
    /// The client is gone
    Left,
}

/// Serves one connection to its end.
pub(super) async fn serve<H: Handler>(door: Arc<Door<H>>, stream: TcpStream, client: Client) {
    let (replay, is_h2) = match preface::read(&stream, &door.config, &door.shutdown).await {
        Opening::H1(replay) => (replay, false),
        Opening::H2(replay) => (replay, true),
        Opening::Ended(ending) => {
            let (_, socket) = stream.into_split();
            return close(&door, socket, client, ending).await;
        }
    };

    // hyper gets one half and reads and writes through it; the other is our own hold on the same socket, to look
    // whether the client is there and to close it our way.
    let (half, socket) = stream.into_split();
    let progress = Arc::new(Progress::default());
    let io = ClientIo::new(half, replay, Arc::clone(&progress));
    let ending = if is_h2 {
        h2::drive(&door, io, &progress, client).await
    } else {
        h1::drive(&door, io, &socket, &progress, client).await
    };
    close(&door, socket, client, ending).await;
}

async fn close<H: Handler>(
    door: &Door<H>,
    mut socket: OwnedWriteHalf,
    client: Client,
    ending: Ending,
) {
    debug!(remote = %client.remote, ?ending, "connection ended");
    let counters = &door.counters;
    match ending {
        Ending::Finished => linger::close(socket, &door.config).await,
        Ending::Unused => {}
        Ending::Idle => add(&counters.idle),
        Ending::Silent => add(&counters.silent),
        Ending::Refused(HeadFault::TooSlow) => {
            add(&counters.slow_heads);
            door.handler.refused(client, HeadFault::TooSlow);
            // So few bytes fit into the socket's buffer; if they do not, nobody reads them.
            let _ = timeout(REQUEST_TIMEOUT_GRACE, socket.write_all(REQUEST_TIMEOUT)).await;
            linger::close(socket, &door.config).await;
        }
        Ending::Refused(fault) => {
            add(&counters.bad_heads);
            door.handler.refused(client, fault);
            linger::close(socket, &door.config).await;
        }
        Ending::Cut => linger::reset(socket),
        Ending::Stalled => {
            add(&counters.stalled);
            // Otherwise the kernel keeps what the client never took, and goes on offering it for minutes.
            linger::reset(socket);
        }
        Ending::Left => add(&counters.left),
    }
}

const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Enough for a write that only copies.
const REQUEST_TIMEOUT_GRACE: Duration = Duration::from_millis(100);
