//! What may wait has a low priority.

use std::{io, thread};

use rustix::io::Errno;
#[cfg(target_os = "linux")]
use rustix::process::{getpid, getpriority_process, setpriority_process};
use tokio::sync::oneshot;

/// Makes this thread so much nicer than the process's first one, whatever it is already: a thread has what the one had that made it. See
/// [`crate::limits::NICENESS`]. On Linux that is the thread's own; elsewhere it would be the whole process's.
#[cfg(target_os = "linux")]
pub(crate) fn lower(by: i32) {
    let lowered = getpriority_process(Some(getpid()))
        .and_then(|first| setpriority_process(None, (first + by).min(19)));
    if let Err(error) = lowered {
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn who_is_lowered_already_is_lowered_no_further() {
        let niceness = || getpriority_process(None).expect("ours");
        let first = getpriority_process(Some(getpid())).expect("the first thread's");
        let lowered_twice = move || {
            lower(2);
            let once = niceness();
            lower(2);
            (once, niceness())
        };
        let seen = thread::spawn(lowered_twice).join().expect("no panic");
        let expected = (first + 2).min(19);
        assert_eq!(seen, (expected, expected));
    }
}
