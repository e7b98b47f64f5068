//! Which tests run at once: any, but for one that measures how long something takes, which runs alone.

use std::cell::OnceCell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

struct Turns {
    running: usize,
    is_one_alone: bool,
    /// Who want to be alone. No other begins before them.
    wait_to_be_alone: usize,
}

static TURNS: Mutex<Turns> = Mutex::new(Turns {
    running: 0,
    is_one_alone: false,
    wait_to_be_alone: 0,
});
static CHANGED: Condvar = Condvar::new();

thread_local! {
    /// Of the test whose thread this is: it ends with the thread.
    static TURN: OnceCell<Turn> = const { OnceCell::new() };
}

/// To be said first in a test: waits until no other runs, and none begins before this one ends.
pub(crate) fn alone() {
    take_turn(true);
}

/// Said for each test that starts the program: waits for the end of one that runs alone.
pub(super) fn beside_others() {
    take_turn(false);
}

fn take_turn(is_alone: bool) {
    // The thread of a test is named after it. Others are begun by a test, whose turn it is.
    let is_test = |name: &str| name.contains("::");
    if thread::current().name().is_some_and(is_test) {
        TURN.with(|turn| {
            let turn = turn.get_or_init(|| Turn::begin(is_alone));
            assert!(turn.is_alone || !is_alone, "it began beside others");
        });
    }
}

struct Turn {
    is_alone: bool,
}

impl Turn {
    fn begin(is_alone: bool) -> Self {
        let mut turns = lock();
        if is_alone {
            turns.wait_to_be_alone += 1;
            turns = wait_while(turns, |it| it.running > 0);
            turns.wait_to_be_alone -= 1;
            turns.is_one_alone = true;
        } else {
            turns = wait_while(turns, |it| it.is_one_alone || it.wait_to_be_alone > 0);
        }
        turns.running += 1;
        Self { is_alone }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = lock();
        turns.running -= 1;
        turns.is_one_alone &= !self.is_alone;
        CHANGED.notify_all();
    }
}

fn lock() -> MutexGuard<'static, Turns> {
    TURNS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_while(
    turns: MutexGuard<'static, Turns>,
    is_too_soon: impl Fn(&Turns) -> bool,
) -> MutexGuard<'static, Turns> {
    CHANGED
        .wait_while(turns, |turns| is_too_soon(turns))
        .unwrap_or_else(PoisonError::into_inner)
}
