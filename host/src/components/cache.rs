//! Artifacts of earlier runs, on disk.
//!
//! An artifact is machine code that we will run, so an entry is trusted only where nobody but us could have written it.
//! Whatever is wrong with an entry or with the disk, the component is compiled again: a cache is never an error.

use super::config::CacheConfig;
use super::platform;
use super::sealed::{self, Label};
use super::trust::{Untrusted, is_ours, open_ours};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Seek};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A directory that was found to be ours alone.
#[derive(Debug)]
pub(super) struct Cache {
    directory: PathBuf,
    ceiling: u64,
}

/// What an entry is looked up by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a> {
    /// Of the component.
    pub(super) digest: &'a str,
    /// Of all engines: which of them a component is for is not known before it is read.
    pub(super) build: &'a str,
}

impl Key<'_> {
    /// Shortened: the label has both in full.
    fn file_name(&self) -> String {
        format!("{:.40}-{:.16}{ENTRY}", self.digest, self.build)
    }
}

const ENTRY: &str = ".cwasm";
const DRAFT: &str = ".draft-";

/// A draft this old was left by a process that died while it wrote.
const DRAFT_AGE: Duration = Duration::from_secs(3600);

impl Cache {
    /// Makes the directory if need be and checks that it is ours alone.
    pub(super) fn open(config: CacheConfig) -> Result<Cache, Untrusted> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.directory)?;
        let cache = Cache {
            directory: config.directory.canonicalize()?,
            ceiling: config.ceiling,
        };
        cache.check()?;
        Ok(cache)
    }

    /// Where the entries are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether there is an entry, which may prove not to be whole.
    pub(super) fn holds(&self, key: Key<'_>) -> bool {
        self.directory.join(key.file_name()).is_file()
    }

    fn check(&self) -> Result<(), Untrusted> {
        is_ours(&fs::symlink_metadata(&self.directory)?)
    }

    /// An entry that is whole and ours, or None. Any other is removed: the next one is written in its place.
    pub(super) fn find(&self, key: Key<'_>) -> Option<(File, Label)> {
        let path = self.directory.join(key.file_name());
        match self.check().and_then(|()| read_entry(&path)) {
            Ok((_, label)) if !label.fits() => {
                tracing::warn!(entry = %path.display(), "cached component was made by another engine, compiling it again")
            }
            Ok((file, label)) if label.digest == key.digest => {
                // The order of eviction. On a read-only disk nothing is evicted either.
                let _ = file.set_modified(SystemTime::now());
                return Some((file, label));
            }
            Ok(_) => {
                tracing::warn!(entry = %path.display(), "cached component is of another guest, compiling this one")
            }
            Err(Untrusted::Io(error)) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(reason) => {
                tracing::warn!(entry = %path.display(), %reason, "cached component is not used, compiling it again")
            }
        }
        let _ = fs::remove_file(&path);
        None
    }

    /// Copies a sealed artifact into the cache, whole or not at all, and gives the copy.
    pub(super) fn keep(&self, key: Key<'_>, mut sealed: &File) -> Result<File, Untrusted> {
        self.check()?;
        let size = sealed.metadata()?.len();
        if size > self.ceiling {
            return Err(Untrusted::TooLarge {
                size,
                ceiling: self.ceiling,
            });
        }
        let mut draft = tempfile::Builder::new()
            .prefix(DRAFT)
            .tempfile_in(&self.directory)?;
        sealed.rewind()?;
        io::copy(&mut sealed, draft.as_file_mut())?;
        let path = self.directory.join(key.file_name());
        draft.persist(&path).map_err(|failed| failed.error)?;
        self.evict(&path);
        // Opened anew so that the handle we map from cannot write.
        let (file, _) = open_ours(&path)?;
        if platform::can_hold_code(&file) {
            Ok(file)
        } else {
            Err(Untrusted::NoExec)
        }
    }

    /// Removes the entries that were used longest ago until the rest fits. What is mapped stays mapped.
    fn evict(&self, newest: &Path) {
        let mut entries: Vec<_> = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .filter_map(Entry::of)
            .collect();
        let now = SystemTime::now();
        let is_abandoned = |entry: &Entry| {
            now.duration_since(entry.used)
                .is_ok_and(|age| age > DRAFT_AGE)
        };
        for draft in entries.extract_if(.., |entry| entry.is_draft) {
            if is_abandoned(&draft) {
                let _ = fs::remove_file(&draft.path);
            }
        }
        entries.sort_by_key(|entry| entry.used);
        let mut total: u64 = entries.iter().map(|entry| entry.size).sum();
        for entry in entries.iter().filter(|entry| entry.path != newest) {
            if total <= self.ceiling {
                return;
            }
            match fs::remove_file(&entry.path) {
                Ok(()) => total -= entry.size,
                Err(error) => {
                    tracing::debug!(entry = %entry.path.display(), %error, "cached component not removed")
                }
            }
        }
    }
}

struct Entry {
    path: PathBuf,
    used: SystemTime,
    size: u64,
    is_draft: bool,
}

impl Entry {
    /// None for what we did not put there.
    fn of(entry: io::Result<fs::DirEntry>) -> Option<Entry> {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let is_draft = name.starts_with(DRAFT);
        if !is_draft && !name.ends_with(ENTRY) {
            return None;
        }
        let metadata = entry.metadata().ok()?;
        Some(Entry {
            path: entry.path(),
            used: metadata.modified().ok()?,
            size: metadata.len(),
            is_draft,
        })
    }
}

fn read_entry(path: &Path) -> Result<(File, Label), Untrusted> {
    let (file, metadata) = open_ours(path)?;
    if !metadata.is_file() {
        return Err(Untrusted::NotAFile);
    }
    let label = sealed::unseal(&file)?;
    if platform::can_hold_code(&file) {
        return Ok((file, label));
    }
    let mut copy = platform::nameless_file()?;
    io::copy(&mut &file, &mut copy)?;
    Ok((copy, label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_another_engine_made_is_removed() {
        let directory = tempfile::tempdir().expect("directory");
        let cache = Cache::open(CacheConfig::at(directory.path())).expect("ours");
        let text = r#"(component (instance $h) (export "wasi:http/incoming-handler@0.2.0" (instance $h)))"#;
        let wasm = wat::parse_str(text).expect("test component");
        let inspection = crate::components::inspect(&wasm).expect("accepted");
        let own = crate::engine::fingerprint(inspection.target());
        for (fingerprint, is_found) in [(own, true), ("another".to_owned(), false)] {
            let label = Label {
                digest: sealed::digest(&wasm),
                fingerprint,
                inspection: inspection.clone(),
            };
            let key = Key {
                digest: &label.digest,
                build: "b",
            };
            let mut file = tempfile::tempfile().expect("file");
            sealed::seal(&mut file, &label).expect("sealed");
            cache.keep(key, &file).expect("kept");
            assert_eq!(cache.find(key).is_some(), is_found);
            assert_eq!(cache.holds(key), is_found);
        }
    }

    #[test]
    fn what_was_used_longest_ago_is_evicted_first() {
        let directory = tempfile::tempdir().expect("directory");
        let file = |name: &str, age: u64| {
            let path = directory.path().join(name);
            fs::write(&path, [0; 100]).expect("written");
            let used = SystemTime::now() - Duration::from_secs(age);
            File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_modified(used))
                .expect("aged");
            path
        };
        let (oldest, older, newest) = (
            file("a.cwasm", 30),
            file("b.cwasm", 20),
            file("c.cwasm", 40),
        );
        let (abandoned, in_use) = (file(".draft-a", 7200), file(".draft-b", 5));
        let not_ours = file("README", 9_999_999);
        let cache = Cache::open(CacheConfig {
            directory: directory.path().to_owned(),
            ceiling: 250,
        })
        .expect("ours");
        cache.evict(&newest);
        let left: Vec<_> = [&oldest, &older, &newest, &abandoned, &in_use, &not_ours]
            .map(|path| path.exists())
            .into();
        assert_eq!(left, [false, true, true, false, true, true]);
    }
}
