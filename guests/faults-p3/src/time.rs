//! Waiting, working too long, and working on after the answer.

use crate::answer::{answer, start};
use crate::crashes::spin;
use std::hint::black_box;
use wasip3::clocks::monotonic_clock::{now, wait_for};
use wasip3::http::types::Response;
use wasip3::spawn_local;

pub(crate) const MILLISECOND: u64 = 1_000_000;

/// Waits in the host, at no cost.
pub(crate) async fn pause(ms: u64) {
    wait_for(ms.saturating_mul(MILLISECOND)).await;
}

/// Some 290 years.
pub(crate) async fn never() -> ! {
    loop {
        wait_for(u64::MAX / 2).await;
    }
}

pub(crate) fn spin_after_headers() -> Response {
    let (response, mut body) = start(200, &[]);
    spawn_local(async move {
        body.write(b"partial".to_vec()).await.ok();
        spin()
    });
    response
}

pub(crate) fn spin_after_response() -> Response {
    let (response, mut body) = start(200, &[("content-type", "text/plain")]);
    spawn_local(async move {
        body.write(b"answered\n".to_vec()).await.ok();
        body.finish(None).await;
        spin()
    });
    response
}

pub(crate) async fn sleep(ms: u64) -> Response {
    pause(ms).await;
    answer("slept\n")
}

pub(crate) fn after(ms: u64) -> Response {
    let (response, mut body) = start(200, &[("content-type", "text/plain")]);
    spawn_local(async move {
        body.write(b"answered\n".to_vec()).await.ok();
        body.finish(None).await;
        pause(ms).await;
        println!("work done");
    });
    response
}

pub(crate) fn burn(ms: u64) -> Response {
    let end = now().saturating_add(ms.saturating_mul(MILLISECOND));
    while now() < end {
        for turn in 0..100_000 {
            black_box(turn);
        }
    }
    answer("burnt\n")
}

/// A little work, and a wait after it, again and again.
pub(crate) async fn flutter(n: u64, us: u64) -> Response {
    for _ in 0..n {
        let end = now().saturating_add(us.saturating_mul(1_000));
        while now() < end {
            for turn in 0..1_000 {
                black_box(turn);
            }
        }
        pause(1).await;
    }
    answer("fluttered\n")
}

/// The wait comes before each byte.
pub(crate) fn drip(n: u64, ms: u64) -> Response {
    let (response, mut body) = start(200, &[]);
    spawn_local(async move {
        for _ in 0..n {
            pause(ms).await;
            if body.write(b".".to_vec()).await.is_err() {
                return; // the client left
            }
        }
        body.finish(None).await;
    });
    response
}
