//! Work with files, off the threads that serve. A disk may be slow for as long as it likes: so many threads wait for it, of one
//! handler fewer, and who asks waits in his own task.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::error::Error;
use crate::limits;

/// Of a host.
#[derive(Debug, Clone)]
pub(super) struct Work(Arc<Semaphore>);

impl Default for Work {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(limits::BLOB_WORK)))
    }
}

/// Of a handler, within that of its host.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    host: Work,
    own: Arc<Semaphore>,
}

impl Lane {
    pub(super) fn of(host: &Work) -> Self {
        Self {
            host: host.clone(),
            own: Arc::new(Semaphore::new(limits::BLOB_WORK_OF_HANDLER)),
        }
    }

    /// Does it. Work that has begun is finished, also if nobody waits for it any more.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Error> + Send + 'static,
    {
        // His own place first: who waits for it takes none of the others'.
        let own = Arc::clone(&self.own).acquire_owned().await;
        let host = Arc::clone(&self.host.0).acquire_owned().await;
        let ended = tokio::task::spawn_blocking(move || {
            let _held = (own, host);
            work()
        });
        // Neither is ever closed, and the work does not panic.
        ended
            .await
            .unwrap_or_else(|error| Err(Error::Disk(error.to_string())))
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
