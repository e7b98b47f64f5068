//! The operator's door: deploys, and tells what is deployed, while the host runs.
//!
//! It has a thread, a listener and ceilings of its own, so it answers however busy the public door is. Guests are made
//! on the threads that serve; what waits for a disk waits in threads of this one. `listen` and `keys` say who may come in,
//! `routes` what can be asked for, `ask` turns text into typed values, `handlers` does it with
//! [`crate::catalog::Versions`], `view` is what is shown and `problem` what is told when something is not done.

mod ask;
mod handlers;
mod keys;
mod listen;
mod openapi;
mod problem;
mod ready;
mod routes;
mod view;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::AbortHandle;

pub use keys::Keys;
pub use listen::{Address, Door, Token};
pub use problem::Problem;
pub use view::{
    BucketView, DirectoryView, GrantsView, HandlerView, HandlersView, ReuseView, RouteView,
    SettingsView, VersionView,
};

use crate::catalog::{Deployer, Versions, Who};
use crate::limits;
use crate::observe::Lifecycle;
use crate::observe::metrics::Metrics;
use crate::shutdown::{self, Shutdown, Trigger};
use handlers::Desk;
use listen::Visitor;

/// What a client accepts that wants a line for each step of a deploy, and what it then gets.
pub const LINES: &str = "application/x-ndjson";

/// The door while it answers. Dropping it closes the door; a deploy that is not written down by then has not happened.
pub struct Running {
    trigger: Trigger,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.trigger.ask();
        if let Some(thread) = self.thread.take() {
            // It has ended, whichever way.
            let _ = thread.join();
        }
    }
}

/// What can be seen of a host at its door, besides what is deployed.
#[derive(Clone)]
pub struct Watched {
    /// Its numbers.
    pub metrics: Arc<Metrics>,
    /// How far it is.
    pub lifecycle: Arc<Lifecycle>,
    /// Which of its handlers are served.
    pub deployer: Arc<Deployer>,
}

/// Answers at the door from now on. While the host starts, whoever asks for handlers waits.
///
/// # Errors
/// When there is no thread to be had.
pub fn serve(door: Door, versions: Arc<Versions>, watched: Watched) -> anyhow::Result<Running> {
    let (trigger, asked) = shutdown::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("admin-disk")
        .build()
        .context("starting the admin door")?;
    let answer = move || {
        if let Err(error) = runtime.block_on(accept(door, versions, watched, asked)) {
            tracing::error!("the admin door is closed: {error}");
        }
        runtime.shutdown_background();
    };
    let thread = thread::Builder::new()
        .name("admin".to_owned())
        .spawn(answer)
        .context("starting the admin door")?;
    Ok(Running {
        trigger,
        thread: Some(thread),
    })
}

async fn accept(
    door: Door,
    versions: Arc<Versions>,
    watched: Watched,
    asked: Shutdown,
) -> std::io::Result<()> {
    let desk = Arc::new(Desk::new(versions, watched, Arc::clone(&door.keys)));
    let mut accepting = door.accepting()?;
    let mut open = Vec::new();
    loop {
        let next = async {
            let visitor = accepting.accept().await;
            make_room(&mut open).await;
            visitor
        };
        let visitor = tokio::select! {
            () = asked.asked() => return Ok(()),
            next = next => next,
        };
        match visitor {
            Ok(visitor) => {
                let (known, address) = (Arc::new(Known::default()), visitor.address);
                let connection = connection(visitor, Arc::clone(&desk), Arc::clone(&known));
                let task = tokio::spawn(connection).abort_handle();
                open.push(Open {
                    task,
                    known,
                    address,
                });
            }
            Err(error) => {
                tracing::warn!("the admin door does not open: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A connection, in the order in which they came.
struct Open {
    task: AbortHandle,
    known: Arc<Known>,
    address: Option<IpAddr>,
}

/// What a connection has shown of who is there.
#[derive(Default)]
struct Known {
    is_tenant: AtomicBool,
    is_operator: AtomicBool,
}

impl Known {
    fn note(&self, who: &Who) {
        let place = match who.tenant() {
            Some(_) => &self.is_tenant,
            None => &self.is_operator,
        };
        place.store(true, Ordering::Relaxed);
    }
}

/// Waits until there is a place. When all are taken, one of those that have shown no token gives up his: of the address that
/// has most of them, who came first, so that a flood closes its own. So does a tenant where tenants have more than half of them.
/// None of these shuts the operator out.
async fn make_room(open: &mut Vec<Open>) {
    loop {
        open.retain(|open| !open.task.is_finished());
        if open.len() < limits::ADMIN_CONNECTIONS {
            return;
        }
        let is_operator = |open: &Open| open.known.is_operator.load(Ordering::Relaxed);
        let is_tenant = |open: &Open| open.known.is_tenant.load(Ordering::Relaxed);
        let strangers = open.iter().enumerate();
        let strangers: Vec<(usize, Option<IpAddr>)> = strangers
            .filter(|(_, it)| !is_operator(it) && !is_tenant(it))
            .map(|(nth, it)| (nth, it.address))
            .collect();
        let as_many =
            |address: Option<IpAddr>| strangers.iter().filter(|(_, it)| *it == address).count();
        // The last of the greatest from behind is the first of them.
        let stranger = strangers
            .iter()
            .rev()
            .max_by_key(|(_, address)| as_many(*address))
            .map(|(nth, _)| *nth);
        let tenants = open.iter().filter(|it| !is_operator(it)).count();
        let tenant = || {
            let first = open.iter().position(|it| !is_operator(it));
            first.filter(|_| tenants > limits::ADMIN_CONNECTIONS / 2)
        };
        match stranger.or_else(tenant) {
            Some(first) => open.remove(first).task.abort(),
            None => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// After a connection that could not be accepted, because descriptors may have run out, or while all places are taken.
const PAUSE: Duration = Duration::from_millis(100);

async fn connection(visitor: Visitor, desk: Arc<Desk>, known: Arc<Known>) {
    let has_tls = visitor.tls.is_some();
    let visitor = match tokio::time::timeout(limits::ADMIN_HEAD_TIME, visitor.shaken()).await {
        Ok(Ok(visitor)) => visitor,
        Ok(Err(error)) => {
            tracing::debug!("a handshake at the admin door: {error}");
            return;
        }
        Err(_) => {
            tracing::debug!("a handshake at the admin door has lasted too long");
            return;
        }
    };
    let (who, needs_token) = (visitor.who, visitor.needs_token);
    if has_tls && !needs_token {
        // He has shown a certificate.
        known.note(&Who::operator(&who));
    }
    let service = service_fn(|request| {
        let (who, known) = (Arc::clone(&who), Arc::clone(&known));
        Arc::clone(&desk).answer(request, who, needs_token, known)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::ADMIN_HEAD_TIME)
        .max_buf_size(limits::ADMIN_HEAD)
        .serve_connection(TokioIo::new(visitor.io), service);
    match tokio::time::timeout(limits::ADMIN_CONNECTION, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a connection to the admin door: {error}"),
        Err(_) => tracing::debug!("a connection to the admin door has lasted too long"),
    }
}
