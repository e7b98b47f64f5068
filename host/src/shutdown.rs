//! Asked to stop, and done.

use tokio::sync::watch;

/// The one who can ask. Dropping it asks too.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// Known to everyone who has to stop.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// A pair of the one who asks and what everyone else watches.
#[must_use]
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Asks everyone to stop. Asking twice is the same as once.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Resolves once stopping was asked for, at once if it already was.
    pub async fn asked(&self) {
        // An error means that the trigger is gone, which asks as well.
        let _ = self.0.clone().wait_for(|asked| *asked).await;
    }

    /// Whether stopping was asked for.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}
