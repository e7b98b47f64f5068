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
mod routes;
mod view;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use keys::Keys;
pub use listen::{Address, Door, Token};
pub use problem::Problem;
pub use view::{HandlerView, HandlersView, RouteView, SettingsView, VersionView};

use crate::catalog::Versions;
use crate::limits;
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

/// Answers at the door from now on.
///
/// # Errors
/// When there is no thread to be had.
pub fn serve(door: Door, versions: Arc<Versions>) -> anyhow::Result<Running> {
    let (trigger, asked) = shutdown::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("admin-disk")
        .build()
        .context("starting the admin door")?;
    let answer = move || {
        if let Err(error) = runtime.block_on(accept(&door, versions, asked)) {
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

async fn accept(door: &Door, versions: Arc<Versions>, asked: Shutdown) -> std::io::Result<()> {
    let accepting = door.accepting()?;
    let desk = Arc::new(Desk::new(
        versions,
        Arc::clone(&door.keys),
        door.needs_token(),
    ));
    let places = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, accepting.accept().await)
        };
        let (place, visitor) = tokio::select! {
            () = asked.asked() => return Ok(()),
            next = next => next,
        };
        match (place, visitor) {
            (Ok(place), Ok(visitor)) => {
                tokio::spawn(connection(visitor, Arc::clone(&desk), place));
            }
            (_, Err(error)) => {
                tracing::warn!("the admin door does not open: {error}");
                tokio::time::sleep(PAUSE).await;
            }
            // Nobody closes the semaphore.
            (Err(_), _) => return Ok(()),
        }
    }
}

/// After a connection that could not be accepted: descriptors may have run out.
const PAUSE: Duration = Duration::from_millis(100);

async fn connection(visitor: Visitor, desk: Arc<Desk>, _place: OwnedSemaphorePermit) {
    let who = visitor.who;
    let service = service_fn(|request| Arc::clone(&desk).answer(request, Arc::clone(&who)));
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
