//! The streams of an HTTP/2 connection: their tasks, and a timer for each whose client gives it no window. A stream
//! that waits for its handler is not stalled, however long; only one whose client does not take what is ready.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error};

use super::counters::{Counters, add};
use super::pace::{PACE, Pace};
use super::watch::Alarm;
use crate::client::Stall;

/// The streams of one connection; dropping it ends them.
pub(super) struct Streams {
    tasks: Arc<Mutex<JoinSet<()>>>,
    counters: Arc<Counters>,
    stall_timeout: Duration,
    stall: Stall,
}

impl Streams {
    pub(super) fn new(counters: Arc<Counters>, stall_timeout: Duration, stall: Stall) -> Self {
        Streams {
            tasks: Arc::default(),
            counters,
            stall_timeout,
            stall,
        }
    }

    pub(super) fn spawner(&self) -> Spawner {
        Spawner {
            tasks: Arc::downgrade(&self.tasks),
            counters: Arc::clone(&self.counters),
            stall_timeout: self.stall_timeout,
            stall: self.stall.clone(),
        }
    }

    /// How many are open; the task is woken when one ends.
    pub(super) fn poll_open(&self, cx: &mut Context<'_>) -> usize {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while let Poll::Ready(Some(ended)) = tasks.poll_join_next(cx) {
            if let Err(failure) = ended
                && failure.is_panic()
            {
                add(&self.counters.panics);
                error!(%failure, "a stream panicked");
            }
        }
        tasks.len()
    }
}

/// Starts the streams of a connection. hyper keeps a copy in each of them, hence the weak hold: a strong one would
/// let them outlive the connection.
#[derive(Clone)]
pub(super) struct Spawner {
    tasks: Weak<Mutex<JoinSet<()>>>,
    counters: Arc<Counters>,
    stall_timeout: Duration,
    stall: Stall,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, stream: F) {
        let Some(tasks) = self.tasks.upgrade() else {
            return;
        };
        tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .spawn(StreamTask {
                stream,
                pace: Arc::new(Pace::new(self.stall.of_stream())),
                turn: 0,
                deadline: None,
                alarm: None,
                stall_timeout: self.stall_timeout,
                counters: Arc::clone(&self.counters),
            });
    }
}

pin_project! {
    /// A stream with its timer. That it ends early drops hyper's future, which resets the stream and nothing else.
    struct StreamTask<F> {
        #[pin]
        stream: F,
        pace: Arc<Pace>,
        turn: u64,
        deadline: Option<Instant>,
        alarm: Option<Alarm>,
        stall_timeout: Duration,
        counters: Arc<Counters>,
    }
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let pace = Arc::clone(this.pace);
        if PACE.sync_scope(pace, || this.stream.poll(cx)).is_ready() {
            return Poll::Ready(());
        }
        let turn = this.pace.turn();
        if turn.is_multiple_of(2) {
            return Poll::Pending;
        }
        if *this.turn != turn {
            *this.turn = turn;
            *this.deadline = None;
        }
        let deadline = *this
            .deadline
            .get_or_insert_with(|| Instant::now() + *this.stall_timeout);
        let alarm = this.alarm.get_or_insert_with(|| Alarm::at(deadline));
        // Somebody may wait for the place of a client that takes nothing.
        let began = deadline - *this.stall_timeout;
        let wanted = this.pace.stall.wanted().given(cx);
        let is_wanted = wanted.is_some_and(|after| alarm.poll(cx, began + after).is_ready());
        if !is_wanted {
            ready!(alarm.poll(cx, deadline));
        }
        add(&this.counters.stalled_streams);
        this.pace.stall.cut();
        debug!("resetting a stream: its client gives no window");
        Poll::Ready(())
    }
}
