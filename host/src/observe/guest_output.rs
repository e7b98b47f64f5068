//! What a guest prints while it serves one exchange: lines of the host's log, cut and counted.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::RequestId;
use crate::limits::{OUTPUT_LINE, OUTPUT_LINES, OUTPUT_TAIL};

/// Lines of all guests that were dropped since the start.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Whose guest it is that prints.
#[derive(Debug)]
pub struct Speaker {
    handler: Arc<str>,
    tenant: Option<Arc<str>>,
    /// How the digest of its component begins.
    version: Arc<str>,
}

impl Speaker {
    /// The guest of a handler and a tenant. Of the component's digest the beginning is told; it may not be known yet.
    #[must_use]
    pub fn new(handler: Arc<str>, tenant: Option<Arc<str>>, digest: &str) -> Arc<Self> {
        let version = digest.get(..DIGEST_SHOWN).unwrap_or(digest);
        Arc::new(Self {
            handler,
            tenant,
            version: Arc::from(version),
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
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            lines.extend(stream, &rest[..end]);
            self.print(&mut lines, stream);
            rest = &rest[end + 1..];
        }
        lines.extend(stream, rest);
    }

    /// Prints what has no end of line yet, and how much was dropped.
    pub fn end(&self) {
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
                "the guest printed more than {OUTPUT_LINES} lines: the rest was dropped"
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
        if lines.printed >= OUTPUT_LINES {
            lines.dropped += 1;
            return;
        }
        lines.printed += 1;
        let line = printable(&bytes);
        let speaker = &self.speaker;
        tracing::info!(
            target: "guest",
            handler = &*speaker.handler, tenant = speaker.tenant.as_deref(), version = &*speaker.version,
            request_id = self.request_id.as_str(), %stream,
            "{line}"
        );
        if let Some(tail) = &mut lines.tail {
            if tail.len() == OUTPUT_TAIL {
                tail.pop_front();
            }
            tail.push_back(line);
        }
    }
}

impl Drop for GuestOutput {
    fn drop(&mut self) {
        self.end();
    }
}

impl Lines {
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
    let cut = bytes.len() > OUTPUT_LINE;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(OUTPUT_LINE)]);
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
            Speaker::new(Arc::from("shop"), None, ""),
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
