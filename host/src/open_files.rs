//! How many files the process may have open, and those of them that are kept for the operator: his door answers also when clients
//! have all others.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, getrlimit};

use crate::limits;

static OF_PROCESS: LazyLock<usize> = LazyLock::new(|| {
    let most = getrlimit(Resource::Nofile).maximum;
    most.map_or(usize::MAX, |most| {
        usize::try_from(most).unwrap_or(usize::MAX)
    })
});

static ARE_SHORT: AtomicBool = AtomicBool::new(false);

/// How many this process may have open. A guest that is loaded holds one, and so does a connection.
pub(crate) fn of_process() -> usize {
    *OF_PROCESS
}

/// Whether a connection that has just come in has one of those that are kept: the kernel gives the lowest that is free (POSIX,
/// *File Descriptor Allocation*), so all below it are taken.
pub(crate) fn is_kept(connection: RawFd) -> bool {
    let kept = limits::OPEN_FILES_KEPT.min(of_process() / limits::OPEN_FILES_PART);
    usize::try_from(connection).is_ok_and(|number| number >= of_process() - kept)
}

/// Whether one that is opened now has one of those that are kept.
pub(crate) fn is_next_kept() -> bool {
    fcntl_dupfd_cloexec(io::stderr(), 0).map_or(true, |next| is_kept(next.as_raw_fd()))
}

/// Whether clients have all but those that are kept. Guests open no further files and sockets then, and no connections to
/// elsewhere; the directories of a new instance, and containers, are not refused for it.
pub(crate) fn are_short() -> bool {
    ARE_SHORT.load(Ordering::Relaxed)
}

pub(crate) fn set_short(are_short: bool) {
    ARE_SHORT.store(are_short, Ordering::Relaxed);
}
