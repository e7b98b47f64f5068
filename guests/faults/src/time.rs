//! Waiting, working too long, and working on after the answer.

use crate::answer::{answer, start};
use crate::crashes::spin;
use std::hint::black_box;
use wasip2::clocks::monotonic_clock::{now, subscribe_duration};
use wasip2::http::types::ResponseOutparam;

pub(crate) const MILLISECOND: u64 = 1_000_000;

/// Waits in the host, at no cost.
pub(crate) fn pause(ms: u64) {
    subscribe_duration(ms.saturating_mul(MILLISECOND)).block();
}

/// Some 290 years.
pub(crate) fn never() -> ! {
    loop {
        subscribe_duration(u64::MAX / 2).block();
    }
}

pub(crate) fn spin_after_headers(out: ResponseOutparam) -> ! {
    let mut body = start(out, 200, &[]);
    body.write(b"partial").ok();
    spin()
}

pub(crate) fn spin_after_response(out: ResponseOutparam) -> ! {
    answer(out, "answered\n");
    spin()
}

pub(crate) fn sleep(out: ResponseOutparam, ms: u64) {
    pause(ms);
    answer(out, "slept\n");
}

pub(crate) fn after(out: ResponseOutparam, ms: u64) {
    answer(out, "answered\n");
    pause(ms);
    println!("work done");
}

pub(crate) fn burn(out: ResponseOutparam, ms: u64) {
    let end = now().saturating_add(ms.saturating_mul(MILLISECOND));
    while now() < end {
        for turn in 0..100_000 {
            black_box(turn);
        }
    }
    answer(out, "burnt\n");
}

/// A little work, and a wait after it, again and again.
pub(crate) fn flutter(out: ResponseOutparam, n: u64, us: u64) {
    for _ in 0..n {
        let end = now().saturating_add(us.saturating_mul(1_000));
        while now() < end {
            for turn in 0..1_000 {
                black_box(turn);
            }
        }
        pause(1);
    }
    answer(out, "fluttered\n");
}

/// The wait comes before each byte.
pub(crate) fn drip(out: ResponseOutparam, n: u64, ms: u64) {
    let mut body = start(out, 200, &[]);
    for _ in 0..n {
        pause(ms);
        if body.write(b".").is_err() {
            return; // the client left
        }
    }
    body.finish(None);
}
