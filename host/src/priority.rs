//! What may wait has a low priority, see [`limits::NICENESS`].

use std::{io, thread};

use tokio::sync::oneshot;

use crate::limits;

/// Of this thread, from now on. On Linux the niceness is the thread's own; elsewhere it would be the whole process's.
#[cfg(target_os = "linux")]
pub(crate) fn lower() {
    if let Err(error) = rustix::process::setpriority_process(None, limits::NICENESS) {
        let thread = thread::current();
        let name = thread.name().unwrap_or_default();
        tracing::debug!("the thread `{name}` keeps the normal priority: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn lower() {}

/// Does work on a thread of its own, of low priority: no thread of others can have that, since it cannot be raised again. The work is
/// done also when nobody waits for it any more.
///
/// # Errors
/// When there is no thread to be had, or the work panics.
pub(crate) async fn work<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (tell, told) = oneshot::channel();
    let of_thread = move || {
        lower();
        let _ = tell.send(work());
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(of_thread)?;
    told.await.map_err(io::Error::other)
}
