//! Saves: that something was written, once it has settled.
//!
//! Directories are watched and not files, because most editors write a new file and rename it. What
//! cargo writes is not watched at all: it would be thousands of files, and none of them a source.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use notify::{EventKind, RecommendedWatcher, RecursiveMode};
use notify_debouncer_full::{DebounceEventResult, DebouncedEvent, Debouncer, RecommendedCache};
use tokio::sync::watch;

use crate::limits;

/// Something that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Sources, in a directory and those below.
    Tree {
        /// The directory.
        root: PathBuf,
        /// Where cargo writes, perhaps inside.
        except: PathBuf,
    },
    /// A file.
    File(PathBuf),
}

/// Watches places until it is dropped.
pub(super) struct Watch {
    debouncer: Debouncer<RecommendedWatcher, RecommendedCache>,
    places: Vec<Place>,
    /// By path; the inode, because a directory that was made anew is not watched.
    watched: HashMap<PathBuf, u64>,
    saved: watch::Receiver<PathBuf>,
}

impl Watch {
    pub(super) fn start(places: Vec<Place>) -> anyhow::Result<Self> {
        let (sender, saved) = watch::channel(PathBuf::new());
        let of = places.clone();
        let tell = move |result: DebounceEventResult| match result {
            Ok(events) => {
                let changed = events
                    .iter()
                    .filter_map(|event| changed(event, &of))
                    .next_back();
                if let Some(path) = changed {
                    sender.send_replace(path);
                }
            }
            Err(errors) => {
                for error in errors {
                    tracing::warn!("watching for saves: {error}");
                }
            }
        };
        let debouncer = notify_debouncer_full::new_debouncer(limits::SAVES_SETTLE, None, tell)
            .context("watching for saves")?;
        let mut watch = Self {
            debouncer,
            places,
            watched: HashMap::new(),
            saved,
        };
        watch.follow()?;
        Ok(watch)
    }

    /// Waits for a save, and says what was saved last. All that were made meanwhile count as one.
    pub(super) async fn saved(&mut self) -> PathBuf {
        match self.saved.changed().await {
            Ok(()) => self.saved.borrow_and_update().clone(),
            // The sender lives in the debouncer, which is ours.
            Err(_) => std::future::pending().await,
        }
    }

    /// Watches the directories that have come.
    pub(super) fn follow(&mut self) -> anyhow::Result<()> {
        for (directory, mode) in self.places.iter().flat_map(Place::directories) {
            let Ok(metadata) = directory.metadata() else {
                continue;
            };
            if self.watched.insert(directory.clone(), metadata.ino()) == Some(metadata.ino()) {
                continue;
            }
            self.debouncer.watch(&directory, mode).with_context(|| {
                format!(
                    "watching `{}`: perhaps fs.inotify.max_user_watches is too low",
                    directory.display()
                )
            })?;
        }
        Ok(())
    }
}

impl Place {
    /// The top of a tree alone, then each directory in it that holds sources, whole.
    fn directories(&self) -> Vec<(PathBuf, RecursiveMode)> {
        let root = match self {
            Self::Tree { root, .. } => root,
            // An absolute path of a file has a parent.
            Self::File(file) => file.parent().unwrap_or(file),
        };
        let mut directories = vec![(root.to_owned(), RecursiveMode::NonRecursive)];
        if let Self::Tree { .. } = self {
            let below = std::fs::read_dir(root).into_iter().flatten().flatten();
            directories.extend(
                below
                    .map(|entry| entry.path())
                    .filter(|path| self.holds(path) && path.is_dir())
                    .map(|path| (path, RecursiveMode::Recursive)),
            );
        }
        directories
    }

    /// Whether a change of this file can change what is served.
    fn holds(&self, path: &Path) -> bool {
        match self {
            Self::File(file) => path == file,
            Self::Tree { root, except } => {
                let Ok(inside) = path.strip_prefix(root) else {
                    return false;
                };
                !path.starts_with(except)
                    && !inside.starts_with("target")
                    && inside != Path::new("Cargo.lock") // which a build writes
                    && inside.iter().all(|part| is_source(&part.to_string_lossy()))
            }
        }
    }
}

/// Editors leave swap files and backups beside what they edit; version control hides its own.
fn is_source(name: &str) -> bool {
    let is_hidden = name.starts_with('.') && name != ".cargo";
    let is_backup = name.ends_with('~') || name.starts_with('#') || name == "4913"; // vim's probe
    !is_hidden && !is_backup
}

fn changed(event: &DebouncedEvent, places: &[Place]) -> Option<PathBuf> {
    // Reading is what the compiler does.
    if matches!(event.kind, EventKind::Access(_)) {
        return None;
    }
    if event.need_rescan() {
        return Some(PathBuf::from("files"));
    }
    let held = |path: &&PathBuf| places.iter().any(|place| place.holds(path));
    event.paths.iter().rfind(held).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_and_editors_leave_behind_is_no_save() {
        let place = Place::Tree {
            root: PathBuf::from("/w/shop"),
            except: PathBuf::from("/w/shop/out"),
        };
        for (path, holds) in [
            ("src/lib.rs", true),
            ("src/pages/front.html", true),
            ("Cargo.toml", true),
            (".cargo/config.toml", true),
            ("build.rs", true),
            ("src/target.rs", true),
            ("src/target/mod.rs", true),
            ("target/guests/release/shop.wasm", false),
            ("out/guests/release/shop.wasm", false),
            (".git/index", false),
            ("src/.lib.rs.swp", false),
            ("src/lib.rs~", false),
            ("src/4913", false),
            ("Cargo.lock", false),
            ("../other/src/lib.rs", false),
        ] {
            let path = Path::new("/w/shop").join(path);
            assert_eq!(place.holds(&path), holds, "{}", path.display());
        }
    }

    #[tokio::test]
    async fn a_burst_of_saves_is_one_and_a_new_directory_is_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().canonicalize().expect("there");
        std::fs::create_dir(root.join("target")).expect("made");
        let except = root.join("target");
        let mut watch = Watch::start(vec![Place::Tree {
            root: root.clone(),
            except,
        }])
        .expect("watching");

        std::fs::create_dir(root.join("src")).expect("made");
        for n in 0..100 {
            std::fs::write(root.join(format!("{n}.rs")), "").expect("written");
        }
        watch.saved().await;
        watch.follow().expect("watching");
        std::fs::write(root.join("src/lib.rs"), "").expect("written");
        while watch.saved().await != root.join("src/lib.rs") {}

        std::fs::write(root.join("target/shop.wasm"), "").expect("written");
        let more = tokio::time::timeout(4 * limits::SAVES_SETTLE, watch.saved()).await;
        assert!(more.is_err(), "{more:?}");
    }
}
