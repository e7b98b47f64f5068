//! Work with files, off the threads that serve. A disk may be slow for as long as it likes: so many threads wait for it, of one
//! handler or tenant fewer, and who asks waits in his own task.

use super::error::Error;
use crate::capabilities::share::Share;
use crate::limits;

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
        let ended = in_time(self.0.run(work)).await?;
        // The work does not panic.
        ended.unwrap_or_else(|error| Err(Error::Disk(error.to_string())))
    }
}

/// Waits for the disk, or for who has it, but not for ever.
pub(super) async fn in_time<T>(waited_for: impl Future<Output = T>) -> Result<T, Error> {
    let waited = tokio::time::timeout(limits::BLOB_TIME, waited_for).await;
    waited.map_err(|_| Error::Late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_disk_for_ever() {
        assert_eq!(
            in_time(std::future::pending::<()>()).await,
            Err(Error::Late)
        );
        assert_eq!(in_time(async { 1 }).await, Ok(1));
    }
}
