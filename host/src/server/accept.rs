//! A door: its listeners and their loop. The loop never waits on a connection, and no error of `accept` ends it.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Sleep, sleep};
use tracing::{debug, error, info, warn};

use super::connection::{self, Door};
use super::counters::{Counters, add};
use super::listener::{Listener, Terms};
use super::socket::Socket;
use super::{Config, Handler};
use crate::client::Client;
use crate::shutdown::Shutdown;
use crate::{limits, open_files};

/// Serves the connections of `listeners` until shutdown is asked and the last of them has ended. The ceilings of `config`
/// are those of all of them together.
///
/// Once asked, it accepts no more, closes idle connections at once and lets requests in flight finish. Dropping the
/// future aborts what is left.
pub async fn serve<H: Handler>(
    listeners: Vec<Listener>,
    config: Config,
    counters: Arc<Counters>,
    handler: H,
    shutdown: Shutdown,
) {
    let door = Arc::new(Door::new(config, counters, handler, shutdown));
    let mut connections = JoinSet::new();
    let mut accepting = Accepting::on(listeners);
    let mut is_short = false;
    let mut told: Option<Instant> = None;

    while !door.shutdown.is_asked() {
        // The place is taken before the connection: beyond the ceiling the kernel's backlog waits, not our memory.
        let has_room = connections.len() < door.config.max_connections && !is_short;
        open_files::set_short(is_short);
        let look = sleep(limits::OPEN_FILES_LOOK);
        tokio::select! {
            biased;
            () = door.shutdown.asked() => break,
            Some(ended) = connections.join_next() => {
                is_short = is_short && open_files::is_next_kept();
                note_end(&door.counters, ended);
            }
            // Others than clients close files too.
            () = look, if is_short => is_short = open_files::is_next_kept(),
            (terms, socket, client) = accepting.next(&door.counters), if has_room => {
                is_short = open_files::is_kept(socket.as_raw_fd());
                if is_short && told.is_none_or(|told| told.elapsed() > BETWEEN_WARNINGS) {
                    warn!(
                        "clients have all open files but those that are kept for the operator: others wait; raise the hard limit (`ulimit -Hn`), or lower `--max-concurrent-connections`"
                    );
                    told = Some(Instant::now());
                }
                open(&mut connections, &door, terms, socket, client);
            }
        }
    }

    open_files::set_short(false);
    drop(accepting);
    while let Some(ended) = connections.join_next().await {
        note_end(&door.counters, ended);
    }
}

fn open<H: Handler>(
    connections: &mut JoinSet<()>,
    door: &Arc<Door<H>>,
    terms: Arc<Terms>,
    socket: Socket,
    client: Client,
) {
    if let Err(failure) = socket.send_at_once() {
        debug!(remote = %client.remote, %failure, "setting TCP_NODELAY");
    }
    let counted = door.counters.open();
    let door = Arc::clone(door);
    connections.spawn(async move {
        let _counted = counted;
        connection::serve(door, terms, socket, client).await;
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

/// All listeners of a door, of which each gets its turn.
struct Accepting {
    doors: Vec<OneListener>,
    /// Who is asked first.
    first: usize,
}

impl Accepting {
    fn on(listeners: Vec<Listener>) -> Self {
        let one = |listener| OneListener {
            listener,
            pause: None,
        };
        Self {
            doors: listeners.into_iter().map(one).collect(),
            first: 0,
        }
    }

    /// The next client, whoever it comes to.
    async fn next(&mut self, counters: &Counters) -> (Arc<Terms>, Socket, Client) {
        poll_fn(|cx| {
            let count = self.doors.len();
            for turn in 0..count {
                let asked = (self.first + turn) % count;
                let Some(door) = self.doors.get_mut(asked) else {
                    continue;
                };
                if let Poll::Ready((socket, client)) = door.poll_next(cx, counters) {
                    self.first = asked + 1;
                    return Poll::Ready((Arc::clone(&door.listener.terms), socket, client));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// A listener, and how accepting goes there: an error makes it pause, longer each time, until a connection comes through.
struct OneListener {
    listener: Listener,
    pause: Option<Pause>,
}

/// It is kept until one has come through; the loop drops the wait whenever a connection ends.
struct Pause {
    length: Duration,
    end: Pin<Box<Sleep>>,
}

impl OneListener {
    fn poll_next(&mut self, cx: &mut Context<'_>, counters: &Counters) -> Poll<(Socket, Client)> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.end.as_mut().poll(cx));
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok(accepted) => {
                    if self.pause.take().is_some() {
                        info!("accepting connections again on {}", self.listener);
                    }
                    return Poll::Ready(accepted);
                }
                Err(failure) => self.back_off(counters, &failure),
            }
        }
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
        let length = match &self.pause {
            None => {
                warn!(%failure, "accepting no connections for now on {}", self.listener);
                FIRST_PAUSE
            }
            Some(pause) => LONGEST_PAUSE.min(pause.length * 2),
        };
        self.pause = Some(Pause {
            length,
            end: Box::pin(sleep(length)),
        });
    }
}

/// It may be so many times in a second, as connections end and others come.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

/// Descriptors come free within milliseconds on a busy host; a spin would take the time of those who free them.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// A second of refusal is what a client's retry survives.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
