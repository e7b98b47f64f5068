//! What tests stand on: the real program, the guests, clients that tidy nothing up.

pub(crate) mod exposition;
pub(crate) mod frames;
pub(crate) mod guests;
pub(crate) mod h1;
pub(crate) mod h2c;
pub(crate) mod host;
pub(crate) mod operator;
pub(crate) mod program;
pub(crate) mod tls;
pub(crate) mod turns;
pub(crate) mod upstream;
pub(crate) mod wat;

use std::io::Write as _;
use std::time::{Duration, Instant};

pub(crate) use guests::{
    BOTH_CONFIGS, BOTH_ECHOES, BOTH_FAULTS, BOTH_HELLOS, BOTH_RELAYS, BUCKETS, COUNTER, FAULTS,
    FAULTS_P3, GREEDY, GUESTBOOK, Guest, HELLO, PROBE, PROBE_P3, RELAY, RELAY_P3,
};
pub(crate) use h1::{Connection, Reply};
pub(crate) use h2c::H2;
pub(crate) use host::{Access, TestHost, cache};
pub(crate) use program::{Ended, Program, host, host_with_env};
pub(crate) use tls::{Authority, Signed, TlsClient};
pub(crate) use turns::alone;

/// How long anything may take that should take no time: generous, for machines under load.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `found` finds something. The only place that pauses.
pub(crate) fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(it) = found() {
            return it;
        }
        assert!(start.elapsed() < PATIENCE, "in vain waited for {what}");
        // A poll is a request as often as not, and takes CPU time from who is waited for.
        let pause = start.elapsed() / 16;
        std::thread::sleep(pause.clamp(Duration::from_millis(2), Duration::from_millis(25)));
    }
}

/// Says that what a test claims was not tried here, or not all of it, and what would let it be, to whoever looks on.
pub(crate) fn skipped(what: &str) {
    let line = format!("SKIPPED: {what}\n");
    // `eprintln!` is kept back when the test is well, as this one is.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// A directory that goes with the test.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory")
}

/// `--name path`, for a path without spaces.
pub(crate) fn flag(name: &str, path: &std::path::Path) -> String {
    format!("{name} {}", path.display())
}
