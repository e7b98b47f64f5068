//! Records for the host's log.

use crate::Asked;
use crate::bindings::wasi::logging::logging::{Level, log};

const LEVELS: [(Level, &str); 6] = [
    (Level::Trace, "trace"),
    (Level::Debug, "debug"),
    (Level::Info, "info"),
    (Level::Warn, "warn"),
    (Level::Error, "error"),
    (Level::Critical, "critical"),
];

/// One record, as the query says.
pub(crate) fn one(asked: &Asked) -> String {
    let context = asked.text("context").unwrap_or_default();
    let message = asked.text("message").unwrap_or_default();
    log(Level::Warn, context, message);
    "logged\n".to_owned()
}

/// A record of each level.
pub(crate) fn levels() -> String {
    for (level, name) in LEVELS {
        log(level, "levels", &format!("of the level {name}"));
    }
    "logged\n".to_owned()
}

/// A record that would be two, clear the screen, and pass for the host's.
pub(crate) fn control_characters() -> String {
    let forged = "\u{1b}[2Jbefore\nWARN host: forged\r";
    log(Level::Error, forged, forged);
    "logged\n".to_owned()
}

/// So many records, and as many that nobody wants to see.
pub(crate) fn flood(n: u64) -> String {
    for i in 0..n {
        log(Level::Trace, "", "not shown");
        log(Level::Info, "", &format!("record {i}"));
    }
    "logged\n".to_owned()
}

/// So many records of a megabyte, each with a context as long.
pub(crate) fn bytes(n: u64) -> String {
    let long = "\u{7}".repeat(1 << 20);
    for _ in 0..n {
        log(Level::Info, &long, &long);
    }
    "logged\n".to_owned()
}
