//! The host's own log, to stderr.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use super::line_queue::{Flush, LineQueue};

/// How much the host says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verbosity {
    /// Errors only, and nothing of what guests print.
    Quiet,
    /// What an operator should know, and what guests print.
    #[default]
    Normal,
    /// Everything.
    Verbose,
}

/// Starts the log. Keep the guard until the end.
///
/// `NO_COLOR` and a stderr that is no terminal make it plain.
pub fn start(verbosity: Verbosity) -> Flush {
    let (writer, guard) = LineQueue::start(std::io::stderr());
    let filter = match verbosity {
        Verbosity::Quiet => "error,guest=off",
        Verbosity::Normal => "warn,host=info,guest=info",
        Verbosity::Verbose => "info,host=debug,guest=info",
    };
    // A second start, as in tests, keeps the first log.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(move || writer.clone())
        .with_ansi(has_colours())
        .try_init();
    guard
}

/// Whether what is said on stderr may have colours: on a terminal, and without `NO_COLOR`.
#[must_use]
pub fn has_colours() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
