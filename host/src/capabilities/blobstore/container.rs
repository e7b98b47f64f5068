//! A container: a directory, with a file for each object. Everything here may wait for a disk.
//!
//! The name of a file is the name of its object in base64, so that no name has a meaning to a file system, and no two are one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as NAMES;
use rustix::fs::{Mode, OFlags};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::error::Error;
use super::grant::Quota;
use super::incoming::Incoming;
use super::work::in_time;
use crate::limits;

/// The directory, shared by all handlers of a tenant that were granted it.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) directory: PathBuf,
    /// Where files are on their way in, and directories out.
    incoming: PathBuf,
    /// Held by the one who changes something.
    totals: Arc<Mutex<Option<Totals>>>,
}

/// What is in it. None before it was counted.
pub(super) type Counted = OwnedMutexGuard<Option<Totals>>;

/// How much is in a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) objects: u64,
    pub(super) bytes: u64,
}

/// The name of an object's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name(String);

impl Name {
    pub(super) fn of(object: &str) -> Result<Self, Error> {
        if object.is_empty() || object.len() > limits::BLOB_NAME {
            return Err(Error::Name);
        }
        Ok(Self(NAMES.encode(object)))
    }
}

/// What is known of an object, or of a container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Info {
    /// Seconds since 1970.
    pub(super) created: u64,
    pub(super) bytes: u64,
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

impl Container {
    pub(super) fn new(directory: PathBuf, incoming: PathBuf) -> Self {
        Self {
            directory,
            incoming,
            totals: Arc::default(),
        }
    }

    /// The turn to change something. It is waited for before a place among those who work: who waits holds none.
    pub(super) async fn turn(&self) -> Result<Counted, Error> {
        in_time(Arc::clone(&self.totals).lock_owned()).await
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.directory.join(&name.0)
    }

    pub(super) fn create(&self, mut counted: Counted) -> Result<(), Error> {
        if let Some(tenant) = self.directory.parent() {
            fs::create_dir_all(tenant).map_err(|error| Error::of(&error))?;
        }
        match fs::create_dir(&self.directory) {
            Ok(()) => {
                *counted = Some(Totals::default());
                self.sync()
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::ContainerExists)
            }
            Err(error) => Err(Error::of(&error)),
        }
    }

    pub(super) fn exists(&self) -> Result<bool, Error> {
        fs::exists(&self.directory).map_err(|error| Error::of(&error))
    }

    pub(super) fn info(&self) -> Result<Info, Error> {
        let about = fs::metadata(&self.directory);
        let about = about.map_err(|error| Error::of_container(&error))?;
        // Not every file system knows when something was made.
        let created = about.created().or_else(|_| about.modified());
        Ok(Info {
            created: created.map_or(0, seconds),
            bytes: 0,
        })
    }

    /// Takes it out of sight in one step, and removes it while others have their turn. What is left of it after a crash is removed
    /// at the next start.
    pub(super) fn delete(&self, mut counted: Counted) -> Result<(), Error> {
        let aside = tempfile::Builder::new()
            .prefix("deleted-")
            .tempdir_in(&self.incoming)
            .map_err(|error| Error::of(&error))?
            .keep();
        match fs::rename(&self.directory, &aside) {
            Ok(()) => {
                *counted = None;
                self.sync()?;
            }
            // Who deletes what is not there has what he wants.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let _ = fs::remove_dir(&aside);
                return Err(Error::of(&error));
            }
        }
        drop(counted);
        fs::remove_dir_all(aside).map_err(|error| Error::of(&error))
    }

    pub(super) fn open(&self, name: &Name) -> Result<(File, Info), Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(self.path(name), flags, Mode::empty());
        let file = File::from(file.map_err(|error| self.why(&error.into()))?);
        let about = file.metadata().map_err(|error| Error::of(&error))?;
        Ok((file, of_object(&about)))
    }

    /// None if there is no such object.
    pub(super) fn look(&self, name: &Name) -> Result<Option<Info>, Error> {
        match fs::symlink_metadata(self.path(name)) {
            Ok(about) => Ok(Some(of_object(&about))),
            Err(error) => match self.why(&error) {
                Error::NoObject => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Why an object could not be reached: it may be the container that is gone.
    fn why(&self, error: &io::Error) -> Error {
        match Error::of_object(error) {
            Error::NoObject if !self.directory.exists() => Error::NoContainer,
            error => error,
        }
    }

    /// Whether an object of so many bytes would fit, as things are now.
    pub(super) fn fits(
        &self,
        counted: &mut Counted,
        name: &Name,
        bytes: u64,
        quota: &Quota,
    ) -> Result<Room, Error> {
        let now = self.totals(counted)?;
        let replaced = self.look(name)?;
        let after = Totals {
            objects: now.objects + u64::from(replaced.is_none()),
            bytes: now.bytes + bytes - replaced.map_or(0, |it| it.bytes).min(now.bytes),
        };
        if bytes > quota.object {
            return Err(Error::Object(quota.object));
        }
        // What makes it no larger may be done to one that is too large already, since its quota was lowered.
        if after.objects > quota.objects && after.objects > now.objects {
            return Err(Error::Objects(quota.objects));
        }
        if after.bytes > quota.bytes && after.bytes > now.bytes {
            return Err(Error::Bytes(quota.bytes));
        }
        let others = after.bytes - bytes;
        Ok(Room {
            after,
            most: quota.object.min(quota.bytes.saturating_sub(others)),
        })
    }

    /// Makes an object of what has come in, in place of one that has its name.
    pub(super) fn put(
        &self,
        mut counted: Counted,
        name: &Name,
        incoming: &Incoming,
        quota: &Quota,
    ) -> Result<(), Error> {
        let room = self.fits(&mut counted, name, incoming.bytes(), quota)?;
        incoming
            .keep(&self.path(name))
            .map_err(|error| Error::of_container(&error))?;
        *counted = Some(room.after);
        self.sync_own()
    }

    /// Removes an object, if it is there.
    pub(super) fn remove(&self, counted: &mut Counted, name: &Name) -> Result<(), Error> {
        let now = self.totals(counted)?;
        let Some(found) = self.look(name)? else {
            return Ok(());
        };
        fs::remove_file(self.path(name)).map_err(|error| self.why(&error))?;
        **counted = Some(Totals {
            objects: now.objects.saturating_sub(1),
            bytes: now.bytes.saturating_sub(found.bytes),
        });
        Ok(())
    }

    /// Moves an object to another name, or into another container, whose turn is `into`.
    pub(super) fn rename(
        &self,
        mut counted: Counted,
        name: &Name,
        to: &Container,
        into: Option<Counted>,
        new_name: &Name,
        quota: &Quota,
    ) -> Result<(), Error> {
        let Some(moved) = self.look(name)? else {
            return Err(Error::NoObject);
        };
        let now = self.totals(&mut counted)?;
        let (from, at) = (self.path(name), to.path(new_name));
        let Some(mut into) = into else {
            if name == new_name {
                return Ok(());
            }
            let replaced = self.look(new_name)?;
            fs::rename(from, at).map_err(|error| self.why(&error))?;
            *counted = Some(Totals {
                objects: now.objects.saturating_sub(replaced.is_some().into()),
                bytes: now
                    .bytes
                    .saturating_sub(replaced.map_or(0, |replaced| replaced.bytes)),
            });
            return self.sync_own();
        };
        let room = to.fits(&mut into, new_name, moved.bytes, quota)?;
        fs::rename(from, at).map_err(|error| to.why(&error))?;
        *into = Some(room.after);
        *counted = Some(Totals {
            objects: now.objects.saturating_sub(1),
            bytes: now.bytes.saturating_sub(moved.bytes),
        });
        to.sync_own()?;
        self.sync_own()
    }

    /// Removes everything.
    pub(super) fn clear(&self, mut counted: Counted) -> Result<(), Error> {
        // Counted anew by the next, however far this comes.
        *counted = None;
        for object in self.read()? {
            let object = object.map_err(|error| Error::of(&error))?;
            fs::remove_file(object.path()).map_err(|error| Error::of(&error))?;
        }
        self.sync_own()
    }

    pub(super) fn read(&self) -> Result<fs::ReadDir, Error> {
        fs::read_dir(&self.directory).map_err(|error| Error::of_container(&error))
    }

    pub(super) fn totals(&self, counted: &mut Counted) -> Result<Totals, Error> {
        if let Some(totals) = **counted {
            return Ok(totals);
        }
        let mut totals = Totals::default();
        for object in self.read()? {
            let about = object.and_then(|object| object.metadata());
            totals.objects += 1;
            totals.bytes += about.map_err(|error| Error::of(&error))?.len();
        }
        **counted = Some(totals);
        Ok(totals)
    }

    /// What was renamed in it stays so, whatever happens to the machine.
    fn sync_own(&self) -> Result<(), Error> {
        sync(&self.directory)
    }

    fn sync(&self) -> Result<(), Error> {
        self.directory.parent().map_or(Ok(()), sync)
    }
}

/// What a container will have in it.
pub(super) struct Room {
    after: Totals,
    /// Bytes that the object could have.
    pub(super) most: u64,
}

fn sync(directory: &Path) -> Result<(), Error> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Error::of(&error))
}

fn of_object(about: &fs::Metadata) -> Info {
    Info {
        created: about.modified().map_or(0, seconds),
        bytes: about.len(),
    }
}

/// The name of the object whose file this is; none if it is no object's.
pub(super) fn object(file: &fs::DirEntry) -> Option<String> {
    let bytes = NAMES.decode(file.file_name().to_str()?).ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;
    use crate::capabilities::blobstore::work::Lane;
    use crate::capabilities::share::{Shared, Sharer};

    /// How many files and directories are in one.
    fn count(directory: &Path) -> usize {
        fs::read_dir(directory).expect("a directory").count()
    }

    /// Begins something with a container that has an object, and gives it up. Gives where what is removed goes, and what is left in the
    /// container, if that is there.
    async fn given_up(
        change: impl FnOnce(Arc<Container>, Counted) -> Result<(), Error> + Send + 'static,
    ) -> (usize, Option<usize>) {
        let state = tempfile::tempdir().expect("a directory");
        let (incoming, directory) = (state.path().join("incoming"), state.path().join("box"));
        fs::create_dir_all(&incoming).expect("made");
        fs::create_dir_all(&directory).expect("made");
        fs::write(directory.join("object"), "value").expect("written");
        let container = Arc::new(Container::new(directory.clone(), incoming.clone()));
        let lane = Lane(Shared::new(1).share(&Sharer::of(&Arc::from("handler"), None)));
        let turn = container.turn().await.expect("nobody has it");
        let changed = Arc::clone(&container);
        let mut changing = Box::pin(lane.run(move || change(changed, turn)));
        assert!(poll!(&mut changing).is_pending());
        drop(changing);
        // Whoever works has a place until it is done.
        drop(lane.0.take(1).await);
        (
            count(&incoming),
            directory.exists().then(|| count(&directory)),
        )
    }

    #[tokio::test]
    async fn what_is_deleted_or_cleared_is_gone_also_if_nobody_waits_for_it() {
        let deleted = given_up(|container, turn| container.delete(turn)).await;
        assert_eq!(deleted, (0, None));
        let cleared = given_up(|container, turn| container.clear(turn)).await;
        assert_eq!(cleared, (0, Some(0)));
    }
}
