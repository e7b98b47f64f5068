//! Files that somebody else chose, and those that nobody needs any more.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _};
use std::iter;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Opens a file to read it, and never waits for the other end of a pipe: whoever names a file may name a FIFO.
///
/// # Errors
/// When it cannot be opened, or is neither a file nor a directory, of which reading gives the error.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_dir() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

/// What is in a file of at most so many bytes.
///
/// # Errors
/// As [`open`], and when it is longer.
pub(crate) fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other(format!("more than {most} bytes")));
    }
    Ok(bytes)
}

/// Whether something could not be opened because nothing can be for now: no descriptor is left, or no memory. That says nothing
/// of the thing.
pub(crate) fn is_for_now(error: &(dyn Error + 'static)) -> bool {
    iter::successors(Some(error), |&error| error.source())
        .filter_map(|error| match error.downcast_ref::<Errno>() {
            // As wasmtime has it when it maps memory.
            Some(&code) => Some(code),
            None => Errno::from_io_error(error.downcast_ref()?),
        })
        .any(|code| [Errno::MFILE, Errno::NFILE, Errno::NOMEM].contains(&code))
}

/// Does what is left to do when something is dropped, where that stops nobody: to remove a large file takes a disk its time, and
/// the last who has it open closes it.
pub(crate) fn aside(work: impl FnOnce() + Send + 'static) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_or_never_begins_is_not_opened() {
        let directory = tempfile::tempdir().expect("directory");
        let fifo = directory.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).expect("made");
        for path in [&*fifo, Path::new("/dev/zero")] {
            let refused = open(path).expect_err("no file");
            assert!(refused.to_string().contains("no regular file"), "{refused}");
        }
    }

    #[test]
    fn that_nothing_can_be_opened_is_told_from_what_is_wrong_with_a_file() {
        for (code, is_so) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOMEM, true),
            (Errno::NOENT, false),
            (Errno::ACCESS, false),
        ] {
            assert_eq!(is_for_now(&code), is_so, "{code}, as it is");
            let error = io::Error::from(code);
            assert_eq!(is_for_now(&error), is_so, "{code}");
            let within = anyhow::Error::new(error).context("`a` cannot be read");
            assert_eq!(is_for_now(within.as_ref()), is_so, "{code}, beneath");
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(1 << 40).expect("long");
        let error = read(file.path(), 1_000).expect_err("too large");
        assert_eq!(error.to_string(), "more than 1000 bytes");
    }
}
