//! Work with files, off the threads that serve. A disk may be slow for as long as it likes: so many threads wait for it, of one
//! handler or tenant fewer, and who asks waits in his own task.

use super::error::Error;
use crate::capabilities::share::Share;

/// What a handler may have of the threads that wait for the disk of the containers.
#[derive(Debug, Clone)]
pub(super) struct Lane(pub(super) Share);

impl Lane {
    /// Does it. Work that has begun is finished, also if nobody waits for it any more.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Error> + Send + 'static,
    {
        // The work does not panic.
        let ended = self.0.run(work).await;
        ended.unwrap_or_else(|error| Err(Error::Disk(error.to_string())))
    }
}

/// Does what is left to do when something is dropped, where that stops nobody: to remove a large file takes a disk its time, and
/// the last who has it open closes it.
pub(super) fn aside(work: impl FnOnce() + Send + 'static) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => work(),
    }
}
