//! One connection from its first byte to its last: which protocol it speaks, who drives it, and how it is closed.

use std::sync::Arc;

use bytes::Bytes;
use hyper::server::conn::http1;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tracing::debug;

use super::client_io::ClientIo;
use super::counters::{Counters, add};
use super::intake::Intake;
use super::preface::{self, Opening};
use super::progress::Progress;
use super::{Client, Config, Handler, h1, h2, linger};
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
    /// A response that could not be completed, and whose length the client does not know
    Cut,
    /// The client takes no bytes
    Stalled,
    /// The client is gone
    Left,
}

/// Serves one connection to its end.
pub(super) async fn serve<H: Handler>(door: Arc<Door<H>>, stream: TcpStream, client: Client) {
    let progress = Arc::new(Progress::default());
    let (replay, is_h2) = match preface::read(&stream, &door.config, &door.shutdown).await {
        Opening::H1(replay) => (replay, false),
        Opening::H2(replay) => (replay, true),
        Opening::TooSlow => {
            progress.lose_patience();
            (Bytes::new(), false)
        }
        Opening::Ended(ending) => {
            let (_, socket) = stream.into_split();
            return close(&door, socket, &client, ending).await;
        }
    };
    let intake = (!is_h2).then(|| Intake::new(&door.config));

    // hyper gets one half and reads and writes through it; the other is our own hold on the same socket, to look
    // whether the client is there and to close it our way.
    let (half, socket) = stream.into_split();
    let io = ClientIo::new(half, replay, Arc::clone(&progress), intake);
    let ending = if is_h2 {
        h2::drive(&door, io, &progress, &client).await
    } else {
        h1::drive(&door, io, &socket, &progress, &client).await
    };
    close(&door, socket, &client, ending).await;
}

async fn close<H: Handler>(
    door: &Door<H>,
    socket: OwnedWriteHalf,
    client: &Client,
    ending: Ending,
) {
    debug!(remote = %client.remote, ?ending, "connection ended");
    let counters = &door.counters;
    match ending {
        Ending::Finished => linger::close(socket, &door.config).await,
        Ending::Unused => {}
        Ending::Idle => add(&counters.idle),
        Ending::Silent => add(&counters.silent),
        Ending::Cut => linger::reset(socket),
        Ending::Stalled => {
            add(&counters.stalled);
            // Otherwise the kernel keeps what the client never took, and goes on offering it for minutes.
            linger::reset(socket);
        }
        Ending::Left => add(&counters.left),
    }
}
