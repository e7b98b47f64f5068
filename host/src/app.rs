//! Settings in, running host out: the order of start, drain and end.

mod certificates;
mod notify;
mod numbers;
mod reload;
mod start;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use futures_util::future::OptionFuture;
use http::{Request, Response};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::{JoinSet, spawn_blocking};

pub use reload::{Follower, Owners, Subject};
pub use start::{AdminPlan, Plan, Serves, start};

use crate::capabilities::Services;
use crate::catalog::Catalog;
use crate::client::Client;
use crate::gate::Gate;
use crate::limits::{self, DoorLimits};
use crate::networks::Networks;
use crate::observe::access_log::{AccessLog, Format};
use crate::observe::metrics::{Metrics, Requests};
use crate::observe::{Ledger, Lifecycle, LineQueue, Output, Phase, log};
use crate::request::{Failure, Pages, Pipeline, ResponseBody};
use crate::server::{self, Certificates, Counters, HeadFault, Listener, ListenerConfig, Upload};
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
    /// The access log's format.
    pub access_log: Format,
    /// A file for it. None: stdout.
    pub access_log_file: Option<PathBuf>,
    /// How and where the host's own log is written.
    pub log: log::Settings,
    /// From the request to stop until what is in flight is cut.
    pub drain: Duration,
    /// The proxies that are believed.
    pub trusted_proxies: Networks,
}

/// What can be seen of a host.
pub struct Watched {
    /// Its numbers.
    pub metrics: Arc<Metrics>,
    /// How far it is.
    pub lifecycle: Arc<Lifecycle>,
    requests: Arc<Requests>,
    /// Somebody wants files looked at.
    look: Arc<Notify>,
}

impl Watched {
    /// A host that starts.
    #[must_use]
    pub fn new() -> Self {
        let requests = Arc::new(Requests::default());
        Self {
            metrics: Arc::new(Metrics::new(Arc::clone(&requests))),
            lifecycle: Arc::default(),
            requests,
            look: Arc::default(),
        }
    }
}

impl Default for Watched {
    fn default() -> Self {
        Self::new()
    }
}

/// A door that is open but serves nobody yet.
pub struct Door {
    listeners: Vec<Listener>,
    access_log: Output,
    stop: Stop,
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
/// From here on a signal ends the host in order: whoever reads its address may stop it at once.
///
/// # Errors
/// When an address is taken or not ours to take, a certificate is not good, or signals cannot be watched, with what to do.
///
/// # Panics
/// Outside of tokio's runtime.
pub fn open(settings: &Settings) -> anyhow::Result<Door> {
    let stop = Stop::watch()?;
    let access_log = match &settings.access_log_file {
        Some(path) => Output::file(path)?,
        None => Output::to(std::io::stdout()),
    };
    let listeners = server::open(&settings.listeners)?;
    let certificates = Certificates::of(&listeners);
    Ok(Door {
        listeners,
        access_log,
        stop,
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

/// What guests were told is kept is on disk, however late it may be there.
pub async fn close(services: &Arc<Services>) {
    let services = Arc::clone(services);
    let closed = spawn_blocking(move || services.keyvalue.close());
    if tokio::time::timeout(limits::STATE_CLOSES, closed)
        .await
        .is_err()
    {
        tracing::warn!("what guests have written last may be lost: the disk takes it too slowly");
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
    watched: &Watched,
) -> anyhow::Result<ExitCode> {
    let mut stop = door.stop;
    let (lines, _written_at_the_end) = LineQueue::start(door.access_log);
    let access_log = AccessLog::new(settings.access_log, lines.clone());
    let ledger = Arc::new(Ledger::new(access_log, Arc::clone(&watched.requests)));
    let (trigger, asked) = shutdown::channel();
    let pipeline = Pipeline::new(
        catalog,
        Arc::clone(&gate),
        Arc::clone(&ledger),
        asked.clone(),
        pages,
        settings.limits.clone(),
        settings.trusted_proxies.clone(),
    );

    let config = door_config(&settings);
    // Ended with what is served.
    let mut following = JoinSet::new();
    let counters = Arc::new(Counters::default());
    watched.metrics.add(Arc::new(numbers::OfDoor {
        gate: Arc::clone(&gate),
        counters: Arc::clone(&counters),
        access_log: lines.clone(),
        certificates: door.certificates.clone(),
    }));
    following.spawn(certificates::follow(door.certificates));
    let handler = PublicDoor(pipeline);
    let serving = server::serve(door.listeners, config, counters, handler, asked);
    watched.lifecycle.reach(Phase::Serving);
    let manager = notify::Manager::find();
    let reloads = reload(&manager, &lines, &watched.look)?;
    manager.ready();
    let _watchdog = manager.watchdog();
    // An option, so that what is in flight can be dropped when its time is up.
    let mut serving = std::pin::pin!(OptionFuture::from(Some(serving)));
    tokio::select! {
        _ = &mut serving => return Ok(ExitCode::SUCCESS),
        () = reloads => {}
        () = stop.signalled() => {
            watched.lifecycle.reach(Phase::Draining);
            manager.stopping();
            trigger.ask();
        }
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
            ledger.cut_off();
            serving.set(None.into());
            let _ = tokio::time::timeout(limits::CUT_OFF, all_told(&ledger)).await;
        }
        () = stop.signalled() => return Ok(ExitCode::from(INTERRUPTED)),
    }
    if lines.lost() > 0 {
        tracing::warn!(
            lines = lines.lost(),
            "the access log was not read in time: lines are missing"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// SIGHUP, which from now on ends the host no more. Where somebody watches at a terminal there is none to be waited for: it
/// says that the terminal is gone, and ends the host.
fn hangup() -> anyhow::Result<Option<Signal>> {
    let is_watched = std::io::stderr().is_terminal();
    let hangup = (!is_watched).then(|| signal(SignalKind::hangup()));
    hangup.transpose().context("watching for signals")
}

/// At each SIGHUP the logs are opened anew, and files are looked at.
fn reload<'a>(
    manager: &'a notify::Manager,
    access_log: &'a LineQueue,
    look: &'a Notify,
) -> anyhow::Result<impl Future<Output = ()> + use<'a>> {
    let mut hangup = hangup()?;
    Ok(async move {
        while let Some(hangup) = &mut hangup {
            if hangup.recv().await.is_none() {
                break;
            }
            manager.reloading();
            let access_log = access_log.clone();
            let reopen = move || {
                access_log.reopen();
                log::reopen();
            };
            let _ = spawn_blocking(reopen).await;
            look.notify_one();
            tracing::info!("SIGHUP: the logs are opened anew");
            manager.ready();
        }
        std::future::pending().await
    })
}

/// Each exchange holds the ledger until it is noted.
async fn all_told(ledger: &Arc<Ledger>) {
    while Arc::strong_count(ledger) > 1 {
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
    type Body = Box<ResponseBody>;

    fn handle(
        &self,
        request: Request<Upload>,
        client: Client,
    ) -> impl Future<Output = Response<Box<ResponseBody>>> + Send {
        self.0.handle(request, client)
    }

    fn refuse(&self, fault: HeadFault, client: Client) -> Response<Box<ResponseBody>> {
        let failure = match fault {
            HeadFault::Malformed(what) => Failure::BadRequest(what),
            HeadFault::TooLarge => Failure::HeadTooLarge,
            HeadFault::TargetTooLong => Failure::TargetTooLong,
            HeadFault::TooSlow => Failure::SlowClient,
        };
        self.0.refuse(&failure, client.remote)
    }
}

fn door_config(settings: &Settings) -> server::Config {
    let of_door = &settings.limits;
    server::Config {
        trusted_proxies: settings.trusted_proxies.clone(),
        max_connections: of_door.connections,
        max_connections_per_address: of_door.connections_per_address,
        first_byte_timeout: of_door.first_byte,
        handshake_timeout: of_door.handshake,
        header_read_timeout: of_door.header_read,
        min_body_rate: of_door.body_rate,
        body_grace: limits::BODY_GRACE,
        idle_timeout: of_door.idle,
        write_stall_timeout: of_door.write_stall,
        max_head_bytes: of_door.request_head,
        max_headers: of_door.request_headers,
        linger_timeout: limits::LINGER,
        max_linger_bytes: limits::LINGER_BYTES,
        max_h2_streams: limits::H2_STREAMS,
        h2_window_bytes: limits::H2_WINDOW,
        h2_connection_window_bytes: limits::H2_CONNECTION_WINDOW,
        max_h2_send_bytes: limits::H2_SEND,
        max_h2_pending_resets: limits::H2_PENDING_RESETS,
        max_h2_provoked_resets: limits::H2_PROVOKED_RESETS,
        h2_control_frames: limits::H2_CONTROL_FRAMES,
        h2_control_frames_per_second: limits::H2_CONTROL_FRAMES_PER_SECOND,
        h2_ping_interval: limits::H2_PING_INTERVAL,
        h2_ping_timeout: limits::H2_PING_TIMEOUT,
    }
}
