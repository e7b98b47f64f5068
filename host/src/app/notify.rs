//! What the service manager is told, where there is one that asked (sd_notify(3)).

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// The service manager, or nobody.
pub(super) struct Manager {
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment names.
    pub(super) fn find() -> Self {
        Self {
            watchdog: sd_notify::watchdog_enabled(),
        }
    }

    /// Requests are served.
    pub(super) fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// Log files are opened anew. Say [`Self::ready`] when that is done; what is served is looked at soon after.
    pub(super) fn reloading(&self) {
        // The manager compares it with its own clock, to tell this from what it was told before.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// What is in flight is finished.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// Says that the host is alive, twice as often as the manager asked, for as long as the value lives. From the threads
    /// that serve, so that the manager notices when they hang.
    pub(super) fn watchdog(&self) -> JoinSet<()> {
        let mut pings = JoinSet::new();
        if let Some(patience) = self.watchdog.filter(|patience| !patience.is_zero()) {
            pings.spawn(async move {
                let mut ticks = interval(patience / 2);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    tell(&[NotifyState::Watchdog]);
                }
            });
        }
        pings
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager cannot be told of the host's state: {error}");
    }
}
