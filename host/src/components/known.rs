//! Which component a file was, when it was last deployed: so that a host with thousands of handlers starts without
//! reading them.
//!
//! It lies in the cache's directory, which nobody else can write to. What it says of a file holds as long as the file's
//! stamp is the same. A list that is lost or damaged costs time and nothing else.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::stamp::Stamp;
use super::trust::open_ours;
use crate::limits;

const FILE: &str = "known.json";

/// A list that is kept on disk.
#[derive(Debug)]
pub(super) struct Known {
    directory: PathBuf,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    files: HashMap<PathBuf, Seen>,
    is_changed: bool,
    /// What earlier hosts have left in it was looked at.
    is_swept: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    stamp: Stamp,
    /// SHA-256 of the component, in hex.
    digest: String,
    /// What it was tried with.
    tried: String,
}

impl Known {
    /// Reads the list of a directory that is ours alone.
    pub(super) fn open(directory: &Path) -> Self {
        let read = || {
            let (mut file, _) = open_ours(&directory.join(FILE)).ok()?;
            let mut text = Vec::new();
            file.read_to_end(&mut text).ok()?;
            serde_json::from_slice(&text).ok()
        };
        let list = List {
            files: read().unwrap_or_default(),
            ..List::default()
        };
        Self {
            directory: directory.to_owned(),
            list: Mutex::new(list),
        }
    }

    /// The digest of a file that was found good with the settings `tried`, and has not changed since.
    pub(super) fn digest(&self, path: &Path, stamp: Stamp, tried: &str) -> Option<String> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = list.files.get(path)?;
        (seen.stamp == stamp && seen.tried == tried).then(|| seen.digest.clone())
    }

    pub(super) fn remember(&self, path: &Path, stamp: Stamp, digest: &str, tried: &str) {
        let seen = Seen {
            stamp,
            digest: digest.to_owned(),
            tried: tried.to_owned(),
        };
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.files.get(path) == Some(&seen) {
            return;
        }
        let has_room =
            |list: &List| list.files.len() < limits::HANDLERS || list.files.contains_key(path);
        // Files that are gone make room first.
        if !has_room(&list) {
            list.files.retain(|path, _| path.exists());
        }
        if has_room(&list) {
            list.files.insert(path.to_owned(), seen);
            list.is_changed = true;
        }
    }

    /// Writes the list, if it has changed: whole or not at all. The first time without files that are gone by now, or the list
    /// of a host that is started on ever new files would grow, and every start with it.
    pub(super) fn save(&self) -> std::io::Result<()> {
        let text = {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            if !std::mem::take(&mut list.is_changed) {
                return Ok(());
            }
            if !std::mem::replace(&mut list.is_swept, true) {
                list.files.retain(|path, _| path.exists());
            }
            serde_json::to_vec(&list.files)?
        };
        let written = self.write(&text);
        if written.is_err() {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            list.is_changed = true;
        }
        written
    }

    fn write(&self, text: &[u8]) -> std::io::Result<()> {
        let mut draft = tempfile::NamedTempFile::new_in(&self.directory)?;
        draft.write_all(text)?;
        draft
            .persist(self.directory.join(FILE))
            .map_err(|failed| failed.error)?;
        Ok(())
    }

    /// Forgets a file whose artifact is gone.
    pub(super) fn forget(&self, path: &Path) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.is_changed |= list.files.remove(path).is_some();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_remembered_holds_until_the_file_changes_and_a_damaged_list_is_empty() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("a.wasm");
        fs::write(&file, "one").expect("written");
        let stamp = Stamp::of(&file).expect("a file");
        let known = Known::open(directory.path());
        known.remember(&file, stamp, "digest", "settings");
        known.save().expect("saved");

        let known = Known::open(directory.path());
        let digest = |stamp, tried| known.digest(&file, stamp, tried);
        assert_eq!(digest(stamp, "settings").as_deref(), Some("digest"));
        assert_eq!(digest(stamp, "others"), None);
        fs::write(&file, "other").expect("written");
        assert_eq!(digest(Stamp::of(&file).expect("a file"), "settings"), None);

        fs::remove_file(&file).expect("removed");
        let other = directory.path().join("b.wasm");
        fs::write(&other, "other").expect("written");
        let known = Known::open(directory.path());
        known.remember(&other, stamp, "digest", "settings");
        known.save().expect("saved");
        let known = Known::open(directory.path());
        assert_eq!(known.digest(&file, stamp, "settings"), None, "it is gone");
        let digest = known.digest(&other, stamp, "settings");
        assert_eq!(digest.as_deref(), Some("digest"));

        fs::write(directory.path().join(FILE), "{damaged").expect("written");
        let known = Known::open(directory.path());
        assert_eq!(known.digest(&other, stamp, "settings"), None);
    }

    #[test]
    fn a_full_list_follows_what_it_knows_and_is_kept_at_the_second_try() {
        let directory = tempfile::tempdir().expect("directory");
        let (file, cache) = (
            directory.path().join("a.wasm"),
            directory.path().join("cache"),
        );
        fs::write(&file, "one").expect("written");
        let stamp = Stamp::of(&file).expect("a file");
        let known = Known::open(&cache);
        let remember = |path: &Path, digest| known.remember(path, stamp, digest, "settings");
        remember(&file, "former");
        for nth in 1..limits::HANDLERS {
            remember(&directory.path().join(nth.to_string()), "another");
        }
        remember(&file, "digest");
        let count = || known.list.lock().expect("no panic").files.len();
        assert_eq!(count(), limits::HANDLERS, "nothing has to make room");
        known.save().expect_err("no directory");
        fs::create_dir(&cache).expect("made");
        known.save().expect("saved");
        let digest = Known::open(&cache).digest(&file, stamp, "settings");
        assert_eq!(digest.as_deref(), Some("digest"));
        // Of one more, those that are not there give way.
        remember(directory.path(), "more");
        assert_eq!(count(), 2);
    }
}
