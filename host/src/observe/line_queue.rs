//! A queue of lines to a thread that writes them, so that a slow disk, terminal or pipe stops nobody.
//!
//! Our own because a wake-up and a write for each line cost a quarter of a small request (14 µs of
//! 63): this thread looks a hundred times a second at most, and writes what has gathered.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;

use crate::account::Account;
use crate::gate::leaves_some;
use crate::limits::{LOG_BYTES, LOG_FLUSH, LOG_PAUSE};

/// Takes lines and never waits: with a full queue they are lost and counted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LineQueue(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    ended: Condvar,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// How many of them are on whose account.
    accounts: Vec<(u64, usize)>,
    /// What is to be done behind so many of the bytes.
    turn: Option<(usize, Turn)>,
    closed: bool,
    written: bool,
}

#[derive(Debug)]
enum Turn {
    /// The file is opened anew: it may have been renamed.
    Reopen,
    /// Lines go somewhere else.
    To(Output),
}

/// Dropping it writes what is left, unless nobody reads it, and ends the thread.
#[derive(Debug)]
pub struct Flush(LineQueue);

/// Where lines go.
pub struct Output {
    writer: Box<dyn Write + Send>,
    /// None: it is no file.
    path: Option<PathBuf>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Output {
    /// To the end of a file, which is made if it is not there.
    ///
    /// # Errors
    /// When it can be neither opened nor made.
    pub fn file(path: &Path) -> anyhow::Result<Self> {
        let file = append(path)
            .with_context(|| format!("the log `{}` cannot be opened", path.display()))?;
        Ok(Self {
            writer: Box::new(file),
            path: Some(path.to_owned()),
        })
    }

    /// To something that is no file.
    #[must_use]
    pub fn to(writer: impl Write + Send + 'static) -> Self {
        Self {
            writer: Box::new(writer),
            path: None,
        }
    }

    /// A file that cannot be opened anew stays as it is: better a renamed log than none.
    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match append(path) {
            Ok(file) => self.writer = Box::new(file),
            Err(error) => tracing::error!(
                "the log `{}` cannot be opened anew: {error}; lines go on to the file that is open",
                path.display()
            ),
        }
    }
}

/// What is in it is for the host's own user and group: it tells what clients ask for.
fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640).open(path)
}

impl LineQueue {
    /// A queue to `output`. Without a thread to be had, every line is lost and counted.
    #[must_use]
    pub fn start(output: Output) -> (Self, Flush) {
        let queue = Self(Arc::default());
        let of_thread = queue.clone();
        let thread = std::thread::Builder::new().name("log".into());
        if thread.spawn(move || of_thread.write_out(output)).is_err() {
            let mut waiting = queue.0.waiting();
            (waiting.closed, waiting.written) = (true, true);
        }
        (queue.clone(), Flush(queue))
    }

    /// Takes a line, with its end. One on somebody's account is lost where that has so much of the queue
    /// that too little would be left for the others.
    pub fn push(&self, line: &[u8]) {
        let mut waiting = self.0.waiting();
        if waiting.closed || !waiting.has_room(line.len()) {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if first {
            self.0.arrived.notify_one();
        }
    }

    /// Lines that were lost since the start: the queue was full, or they could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Opens its file anew, behind what was pushed before, and waits until that is done or takes too long.
    pub fn reopen(&self) {
        self.turn(Turn::Reopen);
    }

    /// From now on lines go to `output`.
    pub fn redirect(&self, output: Output) {
        self.turn(Turn::To(output));
    }

    fn turn(&self, turn: Turn) {
        let mut waiting = self.0.waiting();
        if waiting.closed {
            return;
        }
        let at = waiting.bytes.len();
        // Another output that has not had its turn yet is newly opened itself.
        if !matches!(
            (&turn, &waiting.turn),
            (Turn::Reopen, Some((_, Turn::To(_))))
        ) {
            waiting.turn = Some((at, turn));
        }
        self.0.arrived.notify_one();
        // A pipe that nobody reads keeps nobody waiting.
        drop(
            self.0
                .ended
                .wait_timeout_while(waiting, LOG_FLUSH, |waiting| waiting.turn.is_some()),
        );
    }

    fn write_out(&self, output: Output) {
        let mut writing = Writing {
            output,
            is_within_a_line: false,
            fails: false,
        };
        let mut lines = Vec::new();
        loop {
            let mut waiting = self.0.waiting();
            while waiting.bytes.is_empty() && waiting.turn.is_none() && !waiting.closed {
                waiting = self
                    .0
                    .arrived
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut lines, &mut waiting.bytes);
            waiting.accounts.clear();
            let at = waiting.turn.as_ref().map_or(lines.len(), |(at, _)| *at);
            let (turn, closed) = (waiting.turn.take(), waiting.closed);
            drop(waiting);
            let (before, after) = lines.split_at(at);
            let mut lost = writing.write(before);
            match turn {
                Some((_, Turn::Reopen)) => writing.output.reopen(),
                Some((_, Turn::To(output))) => writing.output = output,
                None => {}
            }
            self.0.ended.notify_all();
            lost += writing.write(after);
            self.0.lost.fetch_add(lost, Ordering::Relaxed);
            lines.clear();
            if closed {
                self.0.waiting().written = true;
                return self.0.ended.notify_all();
            }
            std::thread::sleep(LOG_PAUSE);
        }
    }
}

/// What the thread knows of where it writes.
struct Writing {
    output: Output,
    /// What was last written is no whole line.
    is_within_a_line: bool,
    /// What was last tried could not be written, which was told.
    fails: bool,
}

impl Writing {
    /// Writes lines, and gives how many of them could not be.
    fn write(&mut self, lines: &[u8]) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        let (mut rest, mut error) = (lines, None);
        if self.is_within_a_line {
            match self.output.writer.write_all(b"\n") {
                Ok(()) => self.is_within_a_line = false,
                Err(why) => error = Some(why),
            }
        }
        while error.is_none() && !rest.is_empty() {
            match self.output.writer.write(rest) {
                Ok(0) => error = Some(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    self.is_within_a_line = rest[length - 1] != b'\n';
                    rest = &rest[length..];
                }
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                // A terminal or pipe that others have set so.
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(LOG_PAUSE);
                }
                Err(why) => error = Some(why),
            }
        }
        let error = error.or_else(|| self.output.writer.flush().err());
        if let Some(why) = &error
            && !self.fails
        {
            // Serving goes on, and so does trying.
            let place = self.output.path.as_deref();
            let place = place.map_or("-".to_owned(), |path| path.display().to_string());
            tracing::error!(
                "the log `{place}` cannot be written: {why}; its lines are lost until it can"
            );
        }
        self.fails = error.is_some();
        rest.iter().filter(|byte| **byte == b'\n').count() as u64
    }
}

/// On whose account this thread writes lines while it does `write`.
pub(super) fn on_account_of<T>(account: &Account, write: impl FnOnce() -> T) -> T {
    struct Before(Option<u64>);
    impl Drop for Before {
        fn drop(&mut self) {
            ACCOUNT.set(self.0);
        }
    }
    let _before = Before(ACCOUNT.replace(Some(account.id())));
    write()
}

thread_local! {
    static ACCOUNT: Cell<Option<u64>> = const { Cell::new(None) };
}

impl Waiting {
    /// Whether there is room for so many bytes. Then they are counted.
    fn has_room(&mut self, bytes: usize) -> bool {
        let left = LOG_BYTES.saturating_sub(self.bytes.len());
        let Some(account) = ACCOUNT.get() else {
            return bytes <= left;
        };
        let at = self.accounts.binary_search_by_key(&account, |(id, _)| *id);
        let has = at.map_or(0, |at| self.accounts[at].1);
        let has_room = bytes <= left && leaves_some(has + bytes, left);
        match at {
            _ if !has_room => {}
            Ok(at) => self.accounts[at].1 += bytes,
            Err(at) => self.accounts.insert(at, (account, bytes)),
        }
        has_room
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
        let (queue, flush) = LineQueue::start(Output::to(Slow(written, released)));
        queue.push(b"first\n");
        assert_eq!(read.recv().expect("written at once"), b"first\n");

        // The writer hangs now.
        queue.push(&vec![b'x'; LOG_BYTES]);
        queue.push(b"too much\n");
        assert_eq!(queue.lost(), 1);

        drop(release);
        drop(flush);
        assert_eq!(read.recv().expect("written at the end").len(), LOG_BYTES);
    }

    #[test]
    fn who_writes_much_leaves_room_for_the_lines_of_others() {
        let (written, read) = channel();
        let (release, released) = channel();
        let (queue, flush) = LineQueue::start(Output::to(Slow(written, released)));
        queue.push(b"first\n");
        assert_eq!(read.recv().expect("written at once"), b"first\n");

        let [loud, quiet] = std::array::from_fn(|_| Account::new());
        let line = [&vec![b'x'; LOG_BYTES / 100][..], b"\n"].concat();
        for _ in 0..100 {
            on_account_of(&loud, || queue.push(&line));
        }
        assert!((24..=26).contains(&queue.lost()), "{}", queue.lost());
        let lost = queue.lost();
        on_account_of(&quiet, || queue.push(b"quiet\n"));
        queue.push(b"the host's own\n");
        assert_eq!(queue.lost(), lost);

        drop(release);
        drop(flush);
        let all = read.recv().expect("written at the end");
        assert!(all.ends_with(b"quiet\nthe host's own\n"));
    }

    /// Has room for so many bytes, until somebody makes some.
    struct Full(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().expect("not poisoned");
            let length = bytes.len().min(disk.0);
            if length == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.0 -= length;
            disk.1.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_does_not_fit_on_a_disk_is_counted_and_what_comes_later_is_on_lines_of_its_own() {
        let disk = Arc::new(Mutex::new((7, Vec::new())));
        let mut writing = Writing {
            output: Output::to(Full(Arc::clone(&disk))),
            is_within_a_line: false,
            fails: false,
        };
        assert_eq!(writing.write(b"one\ntwo\nthree\n"), 2);
        assert_eq!(writing.write(b"four\n"), 1);
        disk.lock().expect("not poisoned").0 = 100;
        assert_eq!(writing.write(b"five\n"), 0);
        assert_eq!(disk.lock().expect("not poisoned").1, b"one\ntwo\nfive\n");
    }

    #[test]
    fn a_renamed_file_keeps_what_was_before_and_another_gets_what_comes_after() {
        let here = tempfile::tempdir().expect("a directory");
        let (path, renamed) = (here.path().join("log"), here.path().join("log.1"));
        let (queue, flush) = LineQueue::start(Output::file(&path).expect("opened"));
        queue.push(b"one\n");
        std::fs::rename(&path, &renamed).expect("renamed");
        queue.push(b"two\n");
        queue.reopen();
        queue.push(b"three\n");
        drop(flush);
        let read = |path| std::fs::read_to_string(path).expect("there");
        assert_eq!(
            (read(renamed), read(path)),
            ("one\ntwo\n".to_owned(), "three\n".to_owned())
        );
    }
}
