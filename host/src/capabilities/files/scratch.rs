//! A directory of an instance's own, with a quota, gone with it. Room is counted by what could at most be taken: each
//! write is charged what it can add before it is made, and nothing is given back until there is no room, when all that
//! there is is counted again, while nobody writes. So what is counted is never less than what is there.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::sync::{OwnedRwLockReadGuard, RwLock, Semaphore};

use wasmtime_wasi::filesystem::{Descriptor, Dir};
use wasmtime_wasi::{FsPerms, OpenMode};

use super::open::{How, open};
use super::{blocking, place};
use crate::capabilities::share::{Held, Share, Shared, Sharer};
use crate::limits;

/// The scratch directory of one instance.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// The directory itself.
    root: Arc<File>,
    quota: u64,
    /// What it takes, at most.
    taken: Mutex<Room>,
    /// Whether it may take less than that.
    may_be_less: AtomicBool,
    /// Held together by those who write, and alone by who counts.
    turns: Arc<RwLock<()>>,
    /// What is open in it, by its place in memory, which is nobody else's for as long as it is here.
    open: Mutex<HashMap<usize, Weak<File>>>,
    removal: Option<Removal>,
}

/// What things in a directory take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) bytes: u64,
    pub(super) files: u64,
    pub(super) directories: u64,
}

impl Room {
    pub(super) const FILE: Self = Self {
        bytes: 0,
        files: 1,
        directories: 0,
    };
    pub(super) const DIRECTORY: Self = Self {
        bytes: 0,
        files: 1,
        directories: 1,
    };

    fn and(self, more: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(more.bytes),
            files: self.files.saturating_add(more.files),
            directories: self.directories.saturating_add(more.directories),
        }
    }
}

/// A turn in which somebody else changes something in it. It is to be dropped when that is done, whoever waits for it.
#[derive(Debug)]
pub(super) struct Turn {
    scratch: Arc<Scratch>,
    _writing: OwnedRwLockReadGuard<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.scratch.may_be_less();
    }
}

/// Where in a file bytes are written.
#[derive(Debug, Clone, Copy)]
pub(super) enum At {
    End,
    Offset(u64),
}

impl Scratch {
    /// What a guest gets of it: a descriptor of its own.
    pub(super) fn descriptor(&self) -> io::Result<Descriptor> {
        let mode = OpenMode::READ | OpenMode::WRITE;
        let mut root = Dir::new(self.root.try_clone()?, FsPerms::ReadWrite, mode, false);
        // Not the copy that `Dir` wants a file of its own for: however many descriptors a guest gets, the directory is open once.
        root.dir = Arc::clone(&self.root);
        self.register(&root.dir);
        Ok(Descriptor::Dir(root))
    }

    /// Whether this was opened in it.
    pub(super) fn holds(&self, file: &Arc<File>) -> bool {
        self.opened().contains_key(&place(file))
    }

    /// What is opened in it is told apart from other files by this.
    pub(super) fn register(&self, file: &Arc<File>) {
        let mut open = self.opened();
        open.retain(|_, file| file.strong_count() > 0);
        open.insert(place(file), Arc::downgrade(file));
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<usize, Weak<File>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something in it went, or became shorter.
    pub(super) fn may_be_less(&self) {
        self.may_be_less.store(true, Ordering::Release);
    }

    /// Opens something in it.
    pub(super) async fn open(
        self: &Arc<Self>,
        work: &Share,
        directory: Arc<File>,
        path: String,
        how: How,
    ) -> io::Result<Option<(File, bool)>> {
        self.with_room(work, move |scratch| {
            let there = How {
                create: false,
                // It is created for writing.
                write: how.write || how.create,
                read: how.read || !how.write,
                ..how
            };
            if !how.exclusive || !how.create {
                match open(&directory, &path, if how.create { there } else { how }) {
                    Err(error) if how.create && error.kind() == io::ErrorKind::NotFound => {}
                    found => {
                        if how.truncate && found.is_ok() {
                            scratch.may_be_less();
                        }
                        return found;
                    }
                }
            }
            scratch.take(Room::FILE)?;
            open(&directory, &path, how)
        })
        .await
    }

    /// Writes all of the bytes.
    pub(super) async fn write(
        self: Arc<Self>,
        work: &Share,
        file: Arc<File>,
        at: At,
        bytes: Bytes,
    ) -> io::Result<usize> {
        self.with_room(work, move |scratch| {
            let length = bytes.len() as u64;
            let growth = match at {
                At::End => length,
                At::Offset(from) => {
                    let to = from.checked_add(length).ok_or(Errno::FBIG)?;
                    to.saturating_sub(file.metadata()?.len())
                }
            };
            scratch.take(Room {
                bytes: growth,
                ..Room::default()
            })?;
            write_all(&file, at, &bytes)
        })
        .await
    }

    /// Makes a file longer or shorter.
    pub(super) async fn set_size(
        self: &Arc<Self>,
        work: &Share,
        file: Arc<File>,
        size: u64,
    ) -> io::Result<()> {
        self.with_room(work, move |scratch| {
            let length = file.metadata()?.len();
            if size < length {
                scratch.may_be_less();
            }
            let growth = size.saturating_sub(length);
            scratch.take(Room {
                bytes: growth,
                ..Room::default()
            })?;
            file.set_len(size)
        })
        .await
    }

    /// Room for one thing that somebody else puts there, for as long as the turn is held.
    pub(super) async fn room(self: &Arc<Self>, work: &Share, room: Room) -> io::Result<Turn> {
        let writing = self.writing().await;
        if self.take(room).is_ok() {
            return Ok(self.begun(writing));
        }
        drop(writing);
        self.count(work).await?;
        let writing = self.writing().await;
        self.take(room)?;
        Ok(self.begun(writing))
    }

    /// A turn to remove or to move something.
    pub(super) async fn turn(self: &Arc<Self>) -> Turn {
        let writing = self.writing().await;
        self.begun(writing)
    }

    fn begun(self: &Arc<Self>, writing: OwnedRwLockReadGuard<()>) -> Turn {
        Turn {
            scratch: Arc::clone(self),
            _writing: writing,
        }
    }

    async fn writing(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.turns).read_owned().await
    }

    /// Does what takes room. If there is none, counts what there is and tries again.
    async fn with_room<R: Send + 'static>(
        self: &Arc<Self>,
        share: &Share,
        work: impl Fn(&Self) -> io::Result<R> + Send + Sync + 'static,
    ) -> io::Result<R> {
        let work = Arc::new(work);
        let done = self.in_turn(share, &work).await;
        if !matches!(&done, Err(error) if error.kind() == io::ErrorKind::StorageFull) {
            return done;
        }
        self.count(share).await?;
        self.in_turn(share, &work).await
    }

    async fn in_turn<R: Send + 'static>(
        self: &Arc<Self>,
        share: &Share,
        work: &Arc<impl Fn(&Self) -> io::Result<R> + Send + Sync + 'static>,
    ) -> io::Result<R> {
        let turn = self.writing().await;
        let (scratch, work) = (Arc::clone(self), Arc::clone(work));
        blocking(share, move || {
            let done = work(&scratch);
            drop(turn);
            done
        })
        .await
    }

    fn take(&self, more: Room) -> io::Result<()> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let with = taken.and(more);
        let fits = with.bytes <= self.quota
            && with.files <= limits::SCRATCH_FILES
            && with.directories <= limits::SCRATCH_DIRECTORIES;
        if !fits {
            return Err(Errno::NOSPC.into());
        }
        *taken = with;
        // It may come to nothing, and two who write to one place have both taken it.
        if more != Room::default() {
            self.may_be_less();
        }
        Ok(())
    }

    /// Counts what there is, while nobody writes.
    ///
    /// # Errors
    /// That there is no room, if nothing can have become less since it was counted last.
    async fn count(self: &Arc<Self>, work: &Share) -> io::Result<()> {
        let alone = Arc::clone(&self.turns).write_owned().await;
        if !self.may_be_less.load(Ordering::Acquire) {
            return Err(Errno::NOSPC.into());
        }
        let scratch = Arc::clone(self);
        blocking(work, move || {
            // Not before: whoever waits for a thread may give up.
            scratch.may_be_less.swap(false, Ordering::AcqRel);
            let room = scratch.there().inspect_err(|_| scratch.may_be_less())?;
            *scratch.taken.lock().unwrap_or_else(PoisonError::into_inner) = room;
            drop(alone);
            Ok(())
        })
        .await
    }

    /// What there is, as long as nobody writes.
    fn there(&self) -> io::Result<Room> {
        let root = rustix::fs::openat(&*self.root, ".", DIRECTORY, Mode::empty())?;
        let mut found = HashSet::new();
        let mut room = walk(root, &mut found, 0)?;
        let open: Vec<_> = self.opened().values().filter_map(Weak::upgrade).collect();
        for file in open {
            let metadata = file.metadata()?;
            if metadata.nlink() == 0 && found.insert(metadata.ino()) {
                room.bytes = room.bytes.saturating_add(metadata.len());
                room.files += 1;
                // It goes when it is closed, which a stream does without a word.
                self.may_be_less();
            }
        }
        Ok(room)
    }
}

/// How a directory is opened that is only looked at.
pub(super) const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Adds up what is in a directory. It goes by descriptors, so that no link leads it out.
fn walk(directory: OwnedFd, found: &mut HashSet<u64>, depth: u64) -> io::Result<Room> {
    let mut room = Room::default();
    if depth > limits::SCRATCH_DIRECTORIES {
        return Ok(room);
    }
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let stat = rustix::fs::statat(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
        room = room.and(Room::FILE);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                room.directories += 1;
                let inner = rustix::fs::openat(directory.as_fd(), name, DIRECTORY, Mode::empty())?;
                room = room.and(walk(inner, found, depth + 1)?);
            }
            // A file with two names takes its bytes once.
            _ if found.insert(stat.st_ino) => {
                room.bytes = room.bytes.saturating_add(stat.st_size.unsigned_abs());
            }
            _ => {}
        }
    }
    Ok(room)
}

pub(super) fn write_all(file: &File, at: At, bytes: &[u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = [io::IoSlice::new(&bytes[done..])];
        let (offset, flags) = match at {
            At::End => (0, ReadWriteFlags::APPEND),
            At::Offset(from) => (from + done as u64, ReadWriteFlags::empty()),
        };
        match rustix::io::pwritev2(file, &rest, offset, flags) {
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

/// Where the scratch directories of a host are: in the system's directory for temporary files, `$TMPDIR` or `/tmp`.
#[derive(Debug)]
pub struct Scratches {
    home: Mutex<Option<Arc<Home>>>,
    next: AtomicU64,
    places: Shared,
    removers: Arc<Semaphore>,
}

impl Default for Scratches {
    fn default() -> Self {
        Self {
            home: Mutex::default(),
            next: AtomicU64::new(0),
            places: Shared::new(limits::SCRATCHES),
            removers: Arc::new(Semaphore::new(2)),
        }
    }
}

/// What this process has there. The lock says that it lives.
#[derive(Debug)]
struct Home {
    path: PathBuf,
    _lock: File,
}

#[derive(Debug)]
struct Removal {
    removers: Arc<Semaphore>,
    _place: Place,
    _home: Arc<Home>,
}

/// Of a directory, and of a descriptor that has it open.
pub(crate) type Place = (Held, Held);

/// The scratch directories of one handler's instances.
#[derive(Debug)]
pub struct ScratchShare {
    scratches: Arc<Scratches>,
    /// With the other handlers of its tenant.
    places: Share,
    work: Share,
    descriptors: Share,
}

impl ScratchShare {
    /// For a handler that has none yet.
    pub(in crate::capabilities) fn new(
        scratches: &Arc<Scratches>,
        sharer: &Sharer,
        work: Share,
        descriptors: Share,
    ) -> Self {
        Self {
            scratches: Arc::clone(scratches),
            places: scratches.places.share(sharer),
            work,
            descriptors,
        }
    }

    /// A place for one more, if there is any.
    pub(crate) fn place(&self) -> Option<Place> {
        Some((
            self.places.try_take(1)?,
            self.descriptors.try_take_fairly(1)?,
        ))
    }

    /// A new directory with room for so many bytes. It is made on a thread that may wait for a disk.
    ///
    /// # Errors
    /// When none can be made.
    pub(crate) async fn make(&self, quota: u64, place: Place) -> io::Result<Arc<Scratch>> {
        let scratches = Arc::clone(&self.scratches);
        blocking(&self.work, move || {
            let home = scratches.home()?;
            let nth = scratches.next.fetch_add(1, Ordering::Relaxed);
            let path = home.path.join(nth.to_string());
            DirBuilder::new().mode(0o700).create(&path)?;
            // Nobody would remove it before the host ends.
            let root = File::open(&path).inspect_err(|_| {
                let _ = fs::remove_dir(&path);
            })?;
            Ok(Arc::new(Scratch {
                root: Arc::new(root),
                path,
                quota,
                taken: Mutex::default(),
                may_be_less: AtomicBool::new(false),
                turns: Arc::new(RwLock::with_max_readers((), limits::SCRATCH_WRITERS)),
                open: Mutex::default(),
                removal: Some(Removal {
                    removers: Arc::clone(&scratches.removers),
                    _place: place,
                    _home: home,
                }),
            }))
        })
        .await
    }
}

impl Scratches {
    fn home(&self) -> io::Result<Arc<Home>> {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(home) = &*home {
            return Ok(Arc::clone(home));
        }
        let all = everybody();
        match DirBuilder::new().mode(0o700).create(&all) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => trusted(&all)?,
        }
        let made = Arc::new(Home::new(&all)?);
        *home = Some(Arc::clone(&made));
        Ok(made)
    }
}

impl Home {
    fn new(all: &Path) -> io::Result<Self> {
        for _ in 0..8 {
            let made = tempfile::Builder::new().prefix("host-").tempdir_in(all)?;
            let lock = File::open(made.path())?;
            // Another host that starts now may have taken it for one that is left over.
            if is_locked(&lock)? && made.path().is_dir() {
                return Ok(Self {
                    path: made.keep(),
                    _lock: lock,
                });
            }
        }
        Err(io::Error::other("others remove it as soon as it is made"))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn is_locked(directory: &File) -> io::Result<bool> {
    match rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The directory of all hosts of this user, which nobody else can write to.
fn everybody() -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    std::env::temp_dir().join(format!("host-scratch-{user}"))
}

/// # Errors
/// When it is somebody else's, who could have put links there.
fn trusted(all: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(all)?;
    let user = rustix::process::geteuid().as_raw();
    if found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "`{}` is not this user's alone: remove it, or set `TMPDIR`",
        all.display()
    )))
}

/// Removes what hosts have left over that were killed. Takes as long as the disk does.
///
/// # Errors
/// When the directory of temporary files cannot be used.
pub fn sweep() -> io::Result<()> {
    let all = everybody();
    match trusted(&all) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        trusted => trusted?,
    }
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        let Ok(found) = rustix::fs::open(&path, DIRECTORY, Mode::empty()) else {
            continue;
        };
        if is_locked(&File::from(found))? {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        let Some(removal) = self.removal.take() else {
            return;
        };
        let remove = move || {
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!("`{}` cannot be removed: {error}: remove it", path.display());
            }
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return remove();
        };
        runtime.spawn(async move {
            let _turn = removal.removers.acquire().await;
            let _ = tokio::task::spawn_blocking(remove).await;
            drop(removal._place);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_has_its_share_of_scratch_directories_and_leaves_others_theirs() {
        let scratches = Arc::<Scratches>::default();
        let handler = |name: &str| {
            let sharer = Sharer::of(&Arc::from(name), None);
            let (work, open) = (Shared::new(1), Shared::fair(2 * limits::SCRATCHES));
            ScratchShare::new(
                &scratches,
                &sharer,
                work.share(&sharer),
                open.share(&sharer),
            )
        };
        let greedy = handler("a");
        let held: Vec<_> = std::iter::from_fn(|| greedy.place()).collect();
        assert_eq!(held.len(), limits::SCRATCHES.div_ceil(limits::SHARE));
        assert!(handler("b").place().is_some());
        drop(held);
        assert!(greedy.place().is_some());
    }

    /// A directory, and the one thread that may wait for its disk.
    async fn made() -> (Arc<Scratch>, Share) {
        let sharer = Sharer::of(&Arc::from("a"), None);
        let work = Shared::new(1).share(&sharer);
        let open = Shared::fair(4).share(&sharer);
        let share = ScratchShare::new(&Arc::default(), &sharer, work.clone(), open);
        let place = share.place().expect("a place");
        let scratch = share.make(1_000, place).await.expect("a directory");
        (scratch, work)
    }

    #[tokio::test]
    async fn what_went_is_counted_by_the_next_when_somebody_gives_up_counting() {
        let (scratch, work) = made().await;
        scratch.may_be_less();
        let busy = work.take(1).await;
        let mut count = Box::pin(scratch.count(&work));
        assert!(futures_util::poll!(&mut count).is_pending());
        drop((count, busy));
        scratch.count(&work).await.expect("counted");
    }

    #[tokio::test]
    async fn who_counts_waits_for_what_is_done_and_what_was_given_up_takes_no_room() {
        let (scratch, work) = made().await;
        let turn = scratch.room(&work, Room::DIRECTORY).await.expect("room");
        let mut count = Box::pin(scratch.count(&work));
        assert!(futures_util::poll!(&mut count).is_pending());
        // Nothing was made in it.
        drop(turn);
        count.await.expect("counted");
        assert_eq!(*scratch.taken.lock().expect("whole"), Room::default());
    }
}
