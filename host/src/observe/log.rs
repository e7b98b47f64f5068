//! The host's own log, to stderr, and the queues that keep log lines from stopping a thread that serves.

use std::io::{BufWriter, IsTerminal as _, Write};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::limits::LOG_LINES;

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

/// A queue to a thread that writes. Keep the guard: dropping it writes what is left.
pub fn queue(writer: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LOG_LINES)
        .finish(BufWriter::with_capacity(64 * 1024, writer))
}

/// Starts the log. Keep the guard until the end.
///
/// `NO_COLOR` and a stderr that is no terminal make it plain.
pub fn start(verbosity: Verbosity) -> WorkerGuard {
    let (writer, guard) = queue(std::io::stderr());
    let filter = match verbosity {
        Verbosity::Quiet => "error,guest=off",
        Verbosity::Normal => "warn,host=info,guest=info",
        Verbosity::Verbose => "info,host=debug,guest=info",
    };
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A second start, as in tests, keeps the first log.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(writer)
        .with_ansi(colours)
        .try_init();
    guard
}
