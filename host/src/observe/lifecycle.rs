//! Where a host is between its start and its end.

use tokio::sync::watch;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It makes handlers, and its public door is closed.
    Starting,
    /// It serves.
    Serving,
    /// It was asked to stop, and finishes what is in flight.
    Draining,
}

impl Phase {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// The phase, for whoever sets it and whoever asks.
#[derive(Debug)]
pub struct Lifecycle(watch::Sender<Phase>);

impl Default for Lifecycle {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }
}

impl Lifecycle {
    /// It has come so far. There is no way back.
    pub fn reach(&self, phase: Phase) {
        let is_later = |now: &mut Phase| {
            let is_later = phase > *now;
            *now = phase.max(*now);
            is_later
        };
        self.0.send_if_modified(is_later);
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits for the end of the start.
    pub async fn started(&self) {
        let mut phases = self.0.subscribe();
        // The sender lives as long as this.
        let _ = phases.wait_for(|phase| *phase > Phase::Starting).await;
    }
}
