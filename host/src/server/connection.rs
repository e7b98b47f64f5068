//! One connection from its first byte to its last: which protocol it speaks, who drives it, and how it is closed.

use std::sync::Arc;

use bytes::Bytes;
use hyper::server::conn::http1;
use tracing::debug;

use super::client_io::ClientIo;
use super::counters::{Counters, add};
use super::intake::Intake;
use super::preface::{self, Opening};
use super::progress::Progress;
use super::socket::Socket;
use super::{Config, Handler, h1, h2, linger};
use crate::client::Client;
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
pub(super) async fn serve<H: Handler>(door: Arc<Door<H>>, socket: Socket, client: Client) {
    let progress = Arc::new(Progress::default());
    let (replay, is_h2) = match preface::read(&socket, &door.config, &door.shutdown).await {
        Opening::H1(replay) => (replay, false),
        Opening::H2(replay) => (replay, true),
        Opening::TooSlow => {
            progress.lose_patience();
            (Bytes::new(), false)
        }
        Opening::Ended(ending) => {
            return close(&door, &socket, &client, ending).await;
        }
    };
    let intake = (!is_h2).then(|| Intake::new(&door.config));
    // hyper reads and writes through it; we look whether the client is there, and close it our way.
    let socket = Arc::new(socket);
    let io = ClientIo::new(Arc::clone(&socket), replay, Arc::clone(&progress), intake);
    let ending = if is_h2 {
        h2::drive(&door, io, &progress, &client).await
    } else {
        h1::drive(&door, io, &socket, &progress, &client).await
    };
    close(&door, &socket, &client, ending).await;
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
        Ending::Left => add(&counters.left),
    }
}
