//! What a guest prints or logs while it serves one exchange: lines of the host's log, cut and counted.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::RequestId;
use super::line_queue::on_account_of;
use crate::account::Account;
use crate::limits::{KIB, LOG_CONTEXT, OUTPUT_BYTES, OUTPUT_LINE, OUTPUT_LINES, OUTPUT_TAIL};

/// Lines of all guests that were dropped since the start.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Whose guest it is that prints.
#[derive(Debug)]
pub struct Speaker {
    handler: Arc<str>,
    tenant: Option<Arc<str>>,
    /// How the digest of its component begins.
    version: Arc<str>,
    /// Who pays for what it prints.
    account: Arc<Account>,
}

impl Speaker {
    /// The guest of a handler and a tenant. Of the component's digest the beginning is told; it may not be known yet.
    #[must_use]
    pub fn new(
        handler: Arc<str>,
        tenant: Option<Arc<str>>,
        digest: &str,
        account: Arc<Account>,
    ) -> Arc<Self> {
        let version = digest.get(..DIGEST_SHOWN).unwrap_or(digest);
        Arc::new(Self {
            handler,
            tenant,
            version: Arc::from(version),
            account,
        })
    }
}

/// As many digits as the rest of the program says of a digest.
const DIGEST_SHOWN: usize = 12;

/// The output of the guest of one exchange.
#[derive(Debug)]
pub struct GuestOutput {
    speaker: Arc<Speaker>,
    request_id: RequestId,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    unfinished: [Vec<u8>; 2],
    printed: u32,
    bytes: usize,
    dropped: u64,
    /// The last lines, if somebody will ask for them.
    tail: Option<VecDeque<String>>,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl fmt::Display for GuestStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// How much a guest thinks of what it logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestLevel {
    /// What its variables are and where it is.
    Trace,
    /// For who looks for a mistake.
    Debug,
    /// For who watches it.
    Info,
    /// It may go wrong.
    Warn,
    /// It went wrong.
    Error,
    /// It cannot go on.
    Critical,
}

impl GuestOutput {
    /// For one exchange; `keep_tail` for those who ask for [`Self::tail`].
    #[must_use]
    pub fn new(speaker: Arc<Speaker>, request_id: RequestId, keep_tail: bool) -> Self {
        let lines = Lines {
            tail: keep_tail.then(VecDeque::new),
            ..Lines::default()
        };
        Self {
            speaker,
            request_id,
            lines: Mutex::new(lines),
        }
    }

    /// Lines that were dropped since the start, of all guests, because one exchange had too many.
    #[must_use]
    pub fn dropped() -> u64 {
        DROPPED.load(Ordering::Relaxed)
    }

    /// Takes bytes as the guest writes them. Never waits.
    pub fn write(&self, stream: GuestStream, bytes: &[u8]) {
        on_account_of(&self.speaker.account, || self.take(stream, bytes));
    }

    fn take(&self, stream: GuestStream, bytes: &[u8]) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            lines.extend(stream, &rest[..end]);
            self.print(&mut lines, stream);
            rest = &rest[end + 1..];
        }
        lines.extend(stream, rest);
    }

    /// Takes a record that the guest logs. What the host's log would not show at this level costs nothing, and is not
    /// counted. Never waits.
    pub fn log(&self, level: GuestLevel, context: &str, message: &str) {
        let is_shown = match level {
            GuestLevel::Trace => tracing::enabled!(target: "guest", tracing::Level::TRACE),
            GuestLevel::Debug => tracing::enabled!(target: "guest", tracing::Level::DEBUG),
            GuestLevel::Info => tracing::enabled!(target: "guest", tracing::Level::INFO),
            GuestLevel::Warn => tracing::enabled!(target: "guest", tracing::Level::WARN),
            GuestLevel::Error | GuestLevel::Critical => {
                tracing::enabled!(target: "guest", tracing::Level::ERROR)
            }
        };
        if !is_shown {
            return;
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if !lines.take() {
            return;
        }
        let message = printable(message.as_bytes());
        let context = printable_within(context.as_bytes(), LOG_CONTEXT);
        let context = Some(context).filter(|context| !context.is_empty());
        let speaker = &self.speaker;
        macro_rules! record {
            ($level:ident $(, $critical:ident)?) => {
                tracing::$level!(
                    target: "guest",
                    handler = &*speaker.handler, tenant = speaker.tenant.as_deref(), version = &*speaker.version,
                    request_id = self.request_id.as_str(), context = context.as_deref(), $($critical = true,)?
                    "{message}"
                )
            };
        }
        on_account_of(&speaker.account, || match level {
            GuestLevel::Trace => record!(trace),
            GuestLevel::Debug => record!(debug),
            GuestLevel::Info => record!(info),
            GuestLevel::Warn => record!(warn),
            GuestLevel::Error => record!(error),
            GuestLevel::Critical => record!(error, critical),
        });
        lines.keep(message);
    }

    /// Prints what has no end of line yet, and how much was dropped.
    pub fn end(&self) {
        on_account_of(&self.speaker.account, || self.tell_end());
    }

    fn tell_end(&self) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in [GuestStream::Stdout, GuestStream::Stderr] {
            if !lines.unfinished[stream as usize].is_empty() {
                self.print(&mut lines, stream);
            }
        }
        let dropped = std::mem::take(&mut lines.dropped);
        if dropped > 0 {
            DROPPED.fetch_add(dropped, Ordering::Relaxed);
            let speaker = &self.speaker;
            tracing::warn!(
                handler = &*speaker.handler,
                tenant = speaker.tenant.as_deref(),
                version = &*speaker.version,
                request_id = self.request_id.as_str(),
                dropped,
                "the guest printed more than {OUTPUT_LINES} lines or {} KiB: the rest was dropped",
                OUTPUT_BYTES / KIB
            );
        }
    }

    /// The last lines, oldest first.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        self.end();
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.tail.iter().flatten().cloned().collect()
    }

    fn print(&self, lines: &mut Lines, stream: GuestStream) {
        let bytes = std::mem::take(&mut lines.unfinished[stream as usize]);
        if !lines.take() {
            return;
        }
        let line = printable(&bytes);
        let speaker = &self.speaker;
        tracing::info!(
            target: "guest",
            handler = &*speaker.handler, tenant = speaker.tenant.as_deref(), version = &*speaker.version,
            request_id = self.request_id.as_str(), %stream,
            "{line}"
        );
        lines.keep(line);
    }
}

impl Drop for GuestOutput {
    fn drop(&mut self) {
        self.end();
    }
}

impl Lines {
    /// Whether there is room for one more line. It is counted either way.
    fn take(&mut self) -> bool {
        let has_room = self.printed < OUTPUT_LINES && self.bytes < OUTPUT_BYTES;
        if has_room {
            self.printed += 1;
        } else {
            self.dropped += 1;
        }
        has_room
    }

    /// Notes what a line has become, escaped: that is what the log has to hold.
    fn keep(&mut self, line: String) {
        self.bytes += line.len();
        if let Some(tail) = &mut self.tail {
            if tail.len() == OUTPUT_TAIL {
                tail.pop_front();
            }
            tail.push_back(line);
        }
    }

    /// Adds to an unfinished line, of which no more than [`OUTPUT_LINE`] bytes (and one, to show
    /// that it was cut) are held.
    fn extend(&mut self, stream: GuestStream, bytes: &[u8]) {
        let line = &mut self.unfinished[stream as usize];
        let room = (OUTPUT_LINE + 1).saturating_sub(line.len());
        line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Text that cannot move a terminal's cursor or pass for another line.
pub(crate) fn printable(bytes: &[u8]) -> String {
    printable_within(bytes, OUTPUT_LINE)
}

/// The same, of the first `most` bytes.
fn printable_within(bytes: &[u8], most: usize) -> String {
    let cut = bytes.len() > most;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(most)]);
    let mut line = String::with_capacity(text.len());
    for c in text.trim_end_matches('\r').chars() {
        if c.is_control() && c != '\t' {
            line.extend(c.escape_default())
        } else {
            line.push(c)
        }
    }
    if cut {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> GuestOutput {
        GuestOutput::new(
            Speaker::new(Arc::from("shop"), None, "", Account::new()),
            RequestId::none(),
            true,
        )
    }

    #[test]
    fn lines_are_joined_across_writes_and_the_last_needs_no_newline() {
        let output = output();
        output.write(GuestStream::Stdout, b"one\ntw");
        output.write(GuestStream::Stdout, b"o\nthree");
        assert_eq!(output.tail(), ["one", "two", "three"]);
    }

    #[test]
    fn control_characters_cannot_reach_the_terminal() {
        let output = output();
        output.write(GuestStream::Stderr, b"\x1b[2Jclean\x07 \xff\r\n");
        assert_eq!(output.tail(), ["\\u{1b}[2Jclean\\u{7} \u{fffd}"]);
    }

    #[test]
    fn what_is_too_much_in_bytes_is_dropped_like_too_many_lines() {
        let output = output();
        let line = vec![b'\x07'; OUTPUT_LINE];
        for _ in 0..OUTPUT_LINES {
            output.write(GuestStream::Stdout, &line);
            output.write(GuestStream::Stdout, b"\n");
        }
        let lines = output.lines.lock().expect("not poisoned");
        assert!(lines.bytes < OUTPUT_BYTES + 8 * OUTPUT_LINE);
        assert_eq!(
            u64::from(lines.printed) + lines.dropped,
            u64::from(OUTPUT_LINES)
        );
        assert!(lines.dropped > 900);
    }

    #[test]
    fn a_long_line_is_cut_and_a_flood_is_dropped_and_counted() {
        let output = output();
        output.write(GuestStream::Stdout, &vec![b'x'; 3 * OUTPUT_LINE]);
        output.write(GuestStream::Stdout, b"\n");
        let line = output.tail().remove(0);
        assert_eq!(line.chars().count(), OUTPUT_LINE + 1);
        assert!(line.ends_with('…'));

        for _ in 0..OUTPUT_LINES + 10 {
            output.write(GuestStream::Stdout, b"x\n");
        }
        assert_eq!(output.lines.lock().expect("not poisoned").dropped, 11);
    }
}
