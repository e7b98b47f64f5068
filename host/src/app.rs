//! Settings in, running host out: the order of start, drain and end.

mod certificates;
mod reload;
mod start;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use futures_util::future::OptionFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

pub use reload::{Follower, Owners, Subject};
pub use start::{AdminPlan, Plan, Serves, start};

use crate::catalog::Catalog;
use crate::client::Client;
use crate::gate::Gate;
use crate::limits::{self, DoorLimits};
use crate::observe::LineQueue;
use crate::observe::access_log::{AccessLog, Format};
use crate::request::{Failure, Pages, Pipeline, ResponseBody};
use crate::server::{self, Certificates, Counters, HeadFault, Listener, ListenerConfig};
use crate::shutdown;

/// Ended by a second signal (128 + SIGINT).
const INTERRUPTED: u8 = 130;

/// What the doors need.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where clients come in. There is at least one.
    pub listeners: Vec<ListenerConfig>,
    /// What they let in, all together.
    pub limits: DoorLimits,
    /// The access log's format, on stdout.
    pub access_log: Format,
    /// From the request to stop until what is in flight is cut.
    pub drain: Duration,
}

/// A door that is open but serves nobody yet.
pub struct Door {
    listeners: Vec<Listener>,
    /// What its clients are shown.
    pub certificates: Certificates,
}

impl Door {
    /// Where it listens, as clients write it, with the ports that it got.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.listeners.iter().map(Listener::to_string).collect()
    }
}

/// Opens the public door. Do this when there is a handler, so that nobody is let in to wait.
///
/// # Errors
/// When an address is taken or not ours to take, or a certificate is not good, with what to do.
pub fn open(settings: &Settings) -> anyhow::Result<Door> {
    let listeners = server::open(&settings.listeners)?;
    let certificates = Certificates::of(&listeners);
    Ok(Door {
        listeners,
        certificates,
    })
}

/// Systems give a process few descriptors at first and let it ask for more; each connection takes one.
pub fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!("the number of open files stays as it is: {error}");
    }
}

/// Serves until a signal, and then until what is in flight is done.
///
/// # Errors
/// When the signals cannot be watched.
pub async fn serve(
    door: Door,
    settings: Settings,
    catalog: Arc<ArcSwap<Catalog>>,
    gate: Arc<Gate>,
    pages: Option<Arc<dyn Pages>>,
) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::watch()?;
    let (writer, _written_at_the_end) = LineQueue::start(std::io::stdout());
    let access_log = Arc::new(AccessLog::new(settings.access_log, writer));
    let (trigger, asked) = shutdown::channel();
    let pipeline = Pipeline::new(
        catalog,
        Arc::clone(&gate),
        Arc::clone(&access_log),
        asked.clone(),
        pages,
        settings.limits.clone(),
    );

    let config = door_config(&settings.limits);
    // Ended with what is served.
    let mut following = JoinSet::new();
    following.spawn(certificates::follow(door.certificates));
    let serving = server::serve(
        door.listeners,
        config,
        Arc::new(Counters::default()),
        PublicDoor(pipeline),
        asked,
    );
    // An option, so that what is in flight can be dropped when its time is up.
    let mut serving = std::pin::pin!(OptionFuture::from(Some(serving)));
    tokio::select! {
        _ = &mut serving => return Ok(ExitCode::SUCCESS),
        () = stop.signalled() => trigger.ask(),
    }

    tracing::info!("stopping: requests in flight have {:?}", settings.drain);
    let drained = async {
        (&mut serving).await;
        // Guests that work on after their response hold a permit still.
        gate.close_when_empty().await;
    };
    tokio::select! {
        () = drained => tracing::info!("stopped"),
        () = tokio::time::sleep(settings.drain) => {
            tracing::warn!("stopped with requests in flight: their time was up");
            access_log.cut_off();
            serving.set(None.into());
            let _ = tokio::time::timeout(limits::CUT_OFF, all_told(&access_log)).await;
        }
        () = stop.signalled() => return Ok(ExitCode::from(INTERRUPTED)),
    }
    if access_log.dropped() > 0 {
        tracing::warn!(
            lines = access_log.dropped(),
            "the access log was not read in time: lines are missing"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Each exchange holds the log until it has written its line.
async fn all_told(log: &Arc<AccessLog>) {
    while Arc::strong_count(log) > 1 {
        tokio::time::sleep(limits::TICK).await;
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn watch() -> anyhow::Result<Self> {
        let watch = |kind| signal(kind).context("watching for signals");
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
        })
    }

    async fn signalled(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The door of the people: every request goes down the pipeline.
struct PublicDoor(Arc<Pipeline>);

impl server::Handler for PublicDoor {
    type Body = ResponseBody;

    async fn handle(&self, request: Request<Incoming>, client: Client) -> Response<ResponseBody> {
        self.0.handle(request, client).await
    }

    fn refuse(&self, fault: HeadFault, client: Client) -> Response<ResponseBody> {
        let failure = match fault {
            HeadFault::Malformed(what) => Failure::BadRequest(what),
            HeadFault::TooLarge => Failure::HeadTooLarge,
            HeadFault::TargetTooLong => Failure::TargetTooLong,
            HeadFault::TooSlow => Failure::SlowClient,
        };
        self.0.refuse(&failure, client.remote)
    }
}

fn door_config(of_door: &DoorLimits) -> server::Config {
    server::Config {
        max_connections: of_door.connections,
        first_byte_timeout: of_door.first_byte,
        handshake_timeout: of_door.handshake,
        header_read_timeout: of_door.header_read,
        idle_timeout: of_door.idle,
        write_stall_timeout: of_door.write_stall,
        max_head_bytes: of_door.request_head,
        max_headers: of_door.request_headers,
        linger_timeout: limits::LINGER,
        max_linger_bytes: limits::LINGER_BYTES,
        max_h2_streams: limits::H2_STREAMS,
        h2_window_bytes: limits::H2_WINDOW,
        max_h2_send_bytes: limits::H2_SEND,
        max_h2_pending_resets: limits::H2_PENDING_RESETS,
        h2_ping_interval: limits::H2_PING_INTERVAL,
        h2_ping_timeout: limits::H2_PING_TIMEOUT,
    }
}
