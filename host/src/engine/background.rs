//! Threads of low priority for guests that have had their share of the serving threads.
//!
//! Accepting, timers, logs and every guest that is quick never wait behind a guest that burns: after
//! [`limits::FRONT_TIME`](crate::limits::FRONT_TIME) it goes on here, with the time that the others leave, or a tenth of a core where
//! they leave none. Accounts share that, and not guests: who sends more of them gets no more.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::clearing::Clearing;
use crate::account::Account;
use crate::meter::Meter;
use crate::{limits, priority};

/// One for all engines.
pub(crate) struct Background {
    turns: Arc<Turns>,
    pub(super) clearing: Clearing,
    handle: Handle,
    // Taken on drop: a runtime must not be dropped by waiting inside another one.
    runtime: Option<Runtime>,
}

impl Background {
    pub(crate) fn start() -> anyhow::Result<Arc<Self>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("background")
            .on_thread_start(prepare_first(threads, || priority::lower(limits::NICENESS)))
            .enable_all()
            .build()
            .context("starting the background threads")?;
        Ok(Arc::new(Self {
            turns: Arc::new(Turns::new(threads)),
            clearing: Clearing::start()?,
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        }))
    }

    /// Runs a guest, which is measured by `meter` wherever it is polled, to its end: a slice at a time, each when it is its
    /// account's turn.
    pub(super) fn spawn(
        &self,
        mut guest: Pin<Box<dyn Future<Output = ()> + Send>>,
        meter: Arc<Meter>,
    ) -> JoinHandle<()> {
        meter.moves_to_background();
        let turns = Arc::clone(&self.turns);
        let in_turn = async move {
            let mut next = turns.join(meter.account());
            loop {
                let mut turn = next.turn().await;
                let before = meter.used();
                let ended = poll_fn(|cx| Poll::Ready(guest.as_mut().poll(cx).is_ready())).await;
                turn.spent = meter.used().saturating_sub(before);
                if ended {
                    return;
                }
                drop(turn);
                if meter.is_sliced() {
                    // It has woken itself, and stands in line while others of this thread are polled.
                    next = turns.join(meter.account());
                    woken().await;
                } else {
                    meter.waits();
                    woken().await;
                    next = turns.join(meter.account());
                }
            }
        };
        self.handle.spawn(in_turn)
    }
}

/// Waits until what was polled before in this task wakes it.
async fn woken() {
    let mut is_woken = false;
    poll_fn(|_| {
        if std::mem::replace(&mut is_woken, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// As many as threads; the next is of the account that has used least.
struct Turns(Mutex<Accounts>);

#[derive(Default)]
struct Accounts {
    free: usize,
    /// What the account has used that was served last: who comes anew begins there, and has nothing saved up.
    now: u64,
    come: u64,
    /// Those that have a turn or wait for one.
    lines: BTreeMap<u64, Line>,
}

#[derive(Default)]
struct Line {
    /// Nanoseconds.
    used: u64,
    taken: usize,
    waiting: BTreeMap<u64, oneshot::Sender<Turn>>,
}

struct Turn {
    turns: Arc<Turns>,
    account: u64,
    spent: Duration,
}

impl Turns {
    fn new(threads: usize) -> Self {
        Self(Mutex::new(Accounts {
            free: threads,
            ..Accounts::default()
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>, account: &Account) -> Waiting {
        let account = account.id();
        let (sender, called) = oneshot::channel();
        let mut accounts = self.lock();
        accounts.come += 1;
        let (nth, now) = (accounts.come, accounts.now);
        let line = accounts.lines.entry(account).or_default();
        line.used = line.used.max(now);
        line.waiting.insert(nth, sender);
        drop(accounts);
        self.call();
        Waiting {
            turns: Arc::clone(self),
            account,
            nth,
            called,
        }
    }

    /// Gives turns to those who wait, as long as there are any.
    fn call(self: &Arc<Self>) {
        loop {
            let Some((account, waiter)) = self.lock().next() else {
                return;
            };
            // Not under the lock: a turn that nobody takes comes back at once.
            drop(waiter.send(Turn {
                turns: Arc::clone(self),
                account,
                spent: Duration::ZERO,
            }));
        }
    }
}

impl Accounts {
    fn next(&mut self) -> Option<(u64, oneshot::Sender<Turn>)> {
        if self.free == 0 {
            return None;
        }
        let waiting = self
            .lines
            .iter_mut()
            .filter(|(_, it)| !it.waiting.is_empty());
        // Of accounts that have used the same, the one that has fewer turns now.
        let (account, line) = waiting.min_by_key(|(_, it)| (it.used, it.taken))?;
        let (_, waiter) = line.waiting.pop_first()?;
        line.taken += 1;
        self.free -= 1;
        self.now = self.now.max(line.used);
        Some((*account, waiter))
    }

    /// What an account has used is remembered for as long as it is more than the others have.
    fn forget(&mut self) {
        let now = self.now;
        let is_here = |line: &Line| line.taken > 0 || !line.waiting.is_empty();
        let is_any_here = self.lines.values().any(is_here);
        self.lines
            .retain(|_, line| is_here(line) || is_any_here && line.used > now);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut accounts = self.turns.lock();
        accounts.free += 1;
        if let Some(line) = accounts.lines.get_mut(&self.account) {
            line.taken -= 1;
            let spent = u64::try_from(self.spent.as_nanos()).unwrap_or(u64::MAX);
            line.used = line.used.saturating_add(spent);
        }
        accounts.forget();
        drop(accounts);
        self.turns.call();
    }
}

/// A place in the line; leaving it is dropping it.
struct Waiting {
    turns: Arc<Turns>,
    account: u64,
    nth: u64,
    called: oneshot::Receiver<Turn>,
}

impl Waiting {
    async fn turn(mut self) -> Turn {
        match (&mut self.called).await {
            Ok(turn) => turn,
            // The sender goes with the one who waits, or with a turn in it.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut accounts = self.turns.lock();
        let line = accounts.lines.get_mut(&self.account);
        let left = line.and_then(|line| line.waiting.remove(&self.nth));
        accounts.forget();
        drop(accounts);
        drop(left);
    }
}

/// Has each of the first threads of a runtime, its workers, do what wasmtime would do for the first guest that runs there: it allocates
/// a stack for signals, and a machine that has no memory for it just then would end the process. Threads that wait for disks need none.
pub(crate) fn prepare_first(workers: usize, besides: fn()) -> impl Fn() + Send + Sync + 'static {
    let started = AtomicUsize::new(0);
    move || {
        besides();
        if started.fetch_add(1, Ordering::Relaxed) < workers {
            wasmtime::Engine::tls_eager_initialize();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;

    use futures_util::StreamExt as _;
    use futures_util::stream::FuturesUnordered;

    use super::*;

    /// Polls until so many turns were given, each used for a millisecond, and gives how many each account had.
    async fn shares(turns: &Arc<Turns>, waiting: &[usize], given: usize) -> Vec<usize> {
        let accounts: Vec<_> = waiting.iter().map(|_| Account::new()).collect();
        let counts: Vec<_> = waiting.iter().map(|_| AtomicUsize::new(0)).collect();
        let left = AtomicUsize::new(given);
        let tasks = FuturesUnordered::new();
        for (at, guests) in waiting.iter().enumerate() {
            for _ in 0..*guests {
                let (counts, left, account) = (&counts, &left, &accounts[at]);
                tasks.push(async move {
                    loop {
                        let mut turn = turns.join(account).turn().await;
                        let go_on = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
                        if go_on.is_err() {
                            return;
                        }
                        counts[at].fetch_add(1, SeqCst);
                        tokio::task::yield_now().await;
                        turn.spent = Duration::from_millis(1);
                        drop(turn);
                        tokio::task::yield_now().await;
                    }
                });
            }
        }
        tasks.collect::<()>().await;
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[tokio::test]
    async fn accounts_share_the_background_and_not_guests() {
        for threads in [1, 2] {
            let turns = Arc::new(Turns::new(threads));
            let had = shares(&turns, &[64, 2, 2], 300).await;
            assert!(had.iter().all(|had| (95..=105).contains(had)), "{had:?}");
            assert_eq!(turns.lock().free, threads);
            assert_eq!(turns.lock().lines.len(), 0, "who is gone is forgotten");
        }
    }

    #[tokio::test]
    async fn who_gives_up_waiting_loses_nobody_a_turn() {
        let turns = Arc::new(Turns::new(1));
        let [one, other] = std::array::from_fn(|_| Account::new());
        let turn = turns.join(&one).turn().await;
        let wait = |account| Box::pin(turns.join(account).turn());
        let (mut gone, mut next) = (wait(&one), wait(&other));
        assert!(futures_util::poll!(&mut gone).is_pending());
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(turn);
        drop(gone);
        drop(next.await);
        assert_eq!(turns.lock().free, 1);
    }
}
