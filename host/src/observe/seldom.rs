//! What happens to many requests at once is told once, with how many they were: a line for each would be a flood.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Counts, and says when it is time to tell.
#[derive(Debug)]
pub struct Seldom {
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    told: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// Tells at most once in `pause`.
    #[must_use]
    pub fn new(pause: Duration) -> Self {
        Self {
            pause,
            state: Mutex::default(),
        }
    }

    /// One more. Gives how many are to be told, if it is time.
    pub fn count(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.untold += 1;
        if state.told.is_some_and(|told| told.elapsed() < self.pause) {
            return None;
        }
        state.told = Some(Instant::now());
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_told_at_once_and_the_others_together() {
        let pause = Duration::from_secs(10);
        let seldom = Seldom::new(pause);
        assert_eq!(seldom.count(), Some(1));
        assert_eq!(seldom.count(), None);
        assert_eq!(seldom.count(), None);
        tokio::time::advance(pause).await;
        assert_eq!(seldom.count(), Some(3));
        assert_eq!(seldom.count(), None);
    }
}
