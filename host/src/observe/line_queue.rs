//! A queue of lines to a thread that writes them, so that a slow terminal or pipe stops nobody.
//!
//! Our own because a wake-up and a write for each line cost a quarter of a small request (14 µs of
//! 63): this thread looks a hundred times a second at most, and writes what has gathered.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::limits::{LOG_BYTES, LOG_FLUSH, LOG_PAUSE};

/// Takes lines and never waits: with a full queue they are dropped and counted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LineQueue(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    ended: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    closed: bool,
    written: bool,
}

/// Dropping it writes what is left, unless nobody reads it, and ends the thread.
#[derive(Debug)]
pub struct Flush(LineQueue);

impl LineQueue {
    /// A queue to `writer`. Without a thread to be had, every line is dropped and counted.
    pub fn start(writer: impl Write + Send + 'static) -> (Self, Flush) {
        let queue = Self(Arc::default());
        let of_thread = queue.clone();
        let thread = std::thread::Builder::new().name("log".into());
        if thread.spawn(move || of_thread.write_out(writer)).is_err() {
            let mut waiting = queue.0.waiting();
            (waiting.closed, waiting.written) = (true, true);
        }
        (queue.clone(), Flush(queue))
    }

    /// Takes a line, with its end.
    pub fn push(&self, line: &[u8]) {
        let mut waiting = self.0.waiting();
        if waiting.closed || waiting.bytes.len() + line.len() > LOG_BYTES {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if first {
            self.0.arrived.notify_one();
        }
    }

    /// Lines dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    fn write_out(&self, mut writer: impl Write) {
        let mut lines = Vec::new();
        loop {
            let mut waiting = self.0.waiting();
            while waiting.bytes.is_empty() && !waiting.closed {
                waiting = self
                    .0
                    .arrived
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut lines, &mut waiting.bytes);
            let closed = waiting.closed;
            drop(waiting);
            // Whoever read the log has gone; serving goes on.
            let _ = writer.write_all(&lines).and_then(|()| writer.flush());
            lines.clear();
            if closed {
                self.0.waiting().written = true;
                return self.0.ended.notify_all();
            }
            std::thread::sleep(LOG_PAUSE);
        }
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let queue = &self.0.0;
        queue.waiting().closed = true;
        queue.arrived.notify_one();
        // Who has stopped reading the log does not keep the host from ending.
        let _ = queue
            .ended
            .wait_timeout_while(queue.waiting(), LOG_FLUSH, |waiting| !waiting.written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    struct Slow(Sender<Vec<u8>>, Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(bytes.to_vec());
            let _ = self.1.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_hangs_stops_nobody_and_what_is_too_much_is_counted() {
        let (written, read) = channel();
        let (release, released) = channel();
        let (queue, flush) = LineQueue::start(Slow(written, released));
        queue.push(b"first\n");
        assert_eq!(read.recv().expect("written at once"), b"first\n");

        // The writer hangs now.
        queue.push(&vec![b'x'; LOG_BYTES]);
        queue.push(b"too much\n");
        assert_eq!(queue.dropped(), 1);

        drop(release);
        drop(flush);
        assert_eq!(read.recv().expect("written at the end").len(), LOG_BYTES);
    }
}
