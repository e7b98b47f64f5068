//! What may wait has a low priority.

use std::{io, thread};

use rustix::io::Errno;
use tokio::sync::oneshot;

/// Makes this thread so much nicer than the process is, see [`crate::limits::NICENESS`]. On Linux that is the thread's own; elsewhere it would
/// be the whole process's.
#[cfg(target_os = "linux")]
pub(crate) fn lower(by: i32) {
    if let Err(error) = rustix::process::nice(by) {
        let thread = thread::current();
        let name = thread.name().unwrap_or_default();
        tracing::debug!("the thread `{name}` keeps the normal priority: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn lower(_by: i32) {}

/// Does work on a thread of its own, of low priority: no thread of others can have that, since it cannot be raised again. The work is
/// done also when nobody waits for it any more.
///
/// # Errors
/// When there is no thread to be had, or the work panics.
pub(crate) async fn work<T: Send + 'static>(
    name: &str,
    nicer_by: i32,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (tell, told) = oneshot::channel();
    let of_thread = move || {
        lower(nicer_by);
        let _ = tell.send(work());
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(of_thread)
        // Too many threads are a lack of room for now, and say nothing of the work.
        .map_err(|_| Errno::NOMEM)?;
    told.await
        .map_err(|_| io::Error::other(format!("the thread `{name}` has panicked")))
}
