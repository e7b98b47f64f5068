//! The priority of what may wait.

use crate::limits;

/// Of this thread, from now on. On Linux the niceness is the thread's own; elsewhere it would be the whole process's.
#[cfg(target_os = "linux")]
pub(crate) fn lower() {
    if let Err(error) = rustix::process::setpriority_process(None, limits::NICENESS) {
        let name = std::thread::current().name().unwrap_or("a").to_owned();
        tracing::debug!("the thread `{name}` keeps the normal priority: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn lower() {}
