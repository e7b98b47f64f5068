//! A file that is being written. It becomes an object in one step, or is never seen.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::Error;
use crate::files::aside;

/// Bytes of all files that one handler is writing.
#[derive(Debug)]
pub(super) struct Staged {
    most: u64,
    bytes: AtomicU64,
}

impl Staged {
    pub(super) fn new(most: u64) -> Arc<Self> {
        Arc::new(Self {
            most,
            bytes: AtomicU64::new(0),
        })
    }

    fn take(&self, more: u64) -> Result<(), Error> {
        self.bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
                bytes.checked_add(more).filter(|sum| *sum <= self.most)
            })
            .map(drop)
            .map_err(|_| Error::Staged(self.most))
    }

    fn give_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The file. Dropped, it is removed, where that stops nobody.
#[derive(Debug)]
pub(super) struct Incoming {
    path: PathBuf,
    /// None when it is dropped.
    file: Option<File>,
    bytes: AtomicU64,
    kept: AtomicBool,
    staged: Arc<Staged>,
}

impl Incoming {
    /// A new one in this directory, which is emptied when a host starts.
    pub(super) fn create(directory: &Path, staged: &Arc<Staged>) -> Result<Self, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = directory.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        let file = File::create_new(&path).map_err(|error| Error::of(&error))?;
        Ok(Self {
            path,
            file: Some(file),
            bytes: AtomicU64::new(0),
            kept: AtomicBool::new(false),
            staged: Arc::clone(staged),
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Room for more bytes, before they are written.
    pub(super) fn take(&self, more: u64) -> Result<(), Error> {
        self.staged.take(more)?;
        self.bytes.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        self.file()?
            .write_all(bytes)
            .map_err(|error| Error::of(&error))
    }

    /// Takes a piece of another file, at most `most` bytes from where that is. Gives how many there were.
    pub(super) fn copy(&self, from: &File, most: u64) -> Result<u64, Error> {
        let mut from = io::Read::take(from, most);
        let copied = io::copy(&mut from, &mut self.file()?);
        copied.map_err(|error| Error::of(&error))
    }

    /// What was written is on the disk.
    pub(super) fn sync(&self) -> Result<(), Error> {
        let synced = self.file()?.sync_data();
        synced.map_err(|error| Error::of(&error))
    }

    /// Gives it its place, over what is there.
    pub(super) fn keep(&self, at: &Path) -> io::Result<()> {
        fs::rename(&self.path, at)?;
        self.kept.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn file(&self) -> Result<&File, Error> {
        let gone = || Error::Disk("the file is closed".to_owned());
        self.file.as_ref().ok_or_else(gone)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let (path, file) = (std::mem::take(&mut self.path), self.file.take());
        let (staged, bytes) = (Arc::clone(&self.staged), self.bytes());
        let is_kept = self.kept.load(Ordering::Relaxed);
        aside(move || {
            if !is_kept {
                // What stays is removed when a host starts.
                let _ = fs::remove_file(path);
            }
            drop(file);
            staged.give_back(bytes);
        });
    }
}
