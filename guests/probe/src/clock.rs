//! The clocks, as finely as they show, and randomness.

use crate::asked::Asked;
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::random::random::get_random_bytes;

/// The remainders of both clocks within a millisecond, seen often, and what they say of themselves.
pub(crate) fn clock() -> String {
    let odd = (0..1_000)
        .filter(|_| !monotonic_clock::now().is_multiple_of(1_000_000))
        .count();
    let odd_wall = (0..1_000)
        .filter(|_| !wall_clock::now().nanoseconds.is_multiple_of(1_000_000))
        .count();
    format!(
        "off {odd} {odd_wall} resolution {} {}\n",
        monotonic_clock::resolution(),
        wall_clock::resolution().nanoseconds
    )
}

/// How many short timers, of a microsecond each, go off within so many milliseconds.
pub(crate) fn timer(asked: &Asked) -> String {
    let end = monotonic_clock::now() + asked.number("ms", 50) * 1_000_000;
    let mut times = 0;
    while monotonic_clock::now() < end {
        monotonic_clock::subscribe_duration(1_000).block();
        times += 1;
    }
    format!("{times}\n")
}

/// Seconds since 1970.
pub(crate) fn now() -> String {
    format!("{}\n", wall_clock::now().seconds)
}

/// Asks for so many random bytes: how many there are, and the first of them.
pub(crate) fn random(asked: &Asked) -> String {
    let bytes = get_random_bytes(asked.number("n", 16));
    let first = &bytes[..bytes.len().min(16)];
    format!("{} {first:02x?}\n", bytes.len())
}
