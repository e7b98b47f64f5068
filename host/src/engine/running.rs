//! A guest that runs: polled where it was asked for, moved to the background when it burns.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use super::background::Background;
use super::{Fault, FaultKind};
use crate::limits;
use crate::meter::Meter;

/// How a guest's call ended.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Whether it returned, or what it did wrong.
    pub(super) result: Result<(), Fault>,
    /// It ended without finishing its response's body, which must not look complete.
    pub(super) body_unfinished: bool,
}

/// The call of a guest in progress. Dropping it cancels the guest.
pub struct Running {
    place: Place,
    meter: Arc<Meter>,
    background: Arc<Background>,
}

enum Place {
    /// In the task that reads from and writes to the client: no hop and no queue.
    Front(Pin<Box<dyn Future<Output = Outcome> + Send>>),
    /// On a thread of low priority.
    Background(AbortOnDrop),
}

struct AbortOnDrop(JoinHandle<Outcome>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Running {
    pub(super) fn new(
        guest: impl Future<Output = Outcome> + Send + 'static,
        meter: Arc<Meter>,
        background: Arc<Background>,
    ) -> Self {
        Self {
            place: Place::Front(Box::pin(guest)),
            meter,
            background,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        match &mut self.place {
            Place::Front(guest) => {
                if let Poll::Ready(outcome) = self.meter.measure(|| guest.as_mut().poll(cx)) {
                    return Poll::Ready(outcome);
                }
                if self.meter.used() > limits::FRONT_TIME {
                    self.move_to_background();
                    return self.poll(cx);
                }
                Poll::Pending
            }
            Place::Background(task) => Pin::new(&mut task.0).poll(cx).map(|joined| {
                joined.unwrap_or_else(|error| Outcome {
                    result: Err(Fault::new(
                        FaultKind::Trap,
                        format!("the task of the guest failed: {error}"),
                    )),
                    body_unfinished: true,
                })
            }),
        }
    }

    /// Lets a guest whose response is complete work on until it returns.
    pub async fn finish(mut self) -> Result<(), Fault> {
        std::future::poll_fn(|cx| self.poll(cx)).await.result
    }

    fn move_to_background(&mut self) {
        let Place::Front(guest) = &mut self.place else {
            return;
        };
        let mut guest = std::mem::replace(guest, Box::pin(std::future::pending()));
        let meter = Arc::clone(&self.meter);
        let metered = std::future::poll_fn(move |cx| meter.measure(|| guest.as_mut().poll(cx)));
        self.place = Place::Background(AbortOnDrop(self.background.handle().spawn(metered)));
    }
}
