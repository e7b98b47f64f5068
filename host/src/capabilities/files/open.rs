//! Opening what a guest names beneath a directory of its own. The kernel keeps the path beneath it whatever links are
//! swapped meanwhile (`openat2`), and nothing is opened that would make the opening thread wait: pipes and devices are
//! refused.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use wasmtime_wasi::filesystem::{self, Descriptor, Dir};
use wasmtime_wasi::{FsPerms, OpenMode};

use super::scratch::Scratch;
use crate::capabilities::share::Share;

/// How a guest opens.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct How {
    pub(super) follow: bool,
    pub(super) create: bool,
    pub(super) exclusive: bool,
    pub(super) truncate: bool,
    pub(super) directory: bool,
    pub(super) read: bool,
    pub(super) write: bool,
    /// Writes that wait for the disk, which are not supported.
    pub(super) sync: bool,
}

impl How {
    /// Whether it would change something.
    pub(super) fn writes(self) -> bool {
        self.mode().contains(OpenMode::WRITE)
    }

    fn mode(self) -> OpenMode {
        let mut mode = OpenMode::empty();
        mode.set(OpenMode::READ, self.read || !self.write);
        mode.set(OpenMode::WRITE, self.write || self.create || self.truncate);
        mode
    }

    fn flags(self) -> OFlags {
        let mode = self.mode();
        let mut flags = match (
            mode.contains(OpenMode::READ),
            mode.contains(OpenMode::WRITE),
        ) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        };
        flags.set(OFlags::CREATE, self.create);
        flags.set(OFlags::EXCL, self.create && self.exclusive);
        flags.set(OFlags::TRUNC, self.truncate);
        flags.set(OFlags::NOFOLLOW, !self.follow);
        flags | OFlags::NONBLOCK | OFlags::NOCTTY
    }
}

/// What a guest opens in a directory. None where the kernel has no `openat2`.
///
/// # Errors
/// Why not, as a code of the system.
pub(super) async fn descriptor(
    work: &Share,
    directory: Dir,
    scratch: Option<&Arc<Scratch>>,
    path: String,
    how: How,
) -> io::Result<Option<Descriptor>> {
    if how.sync {
        return Err(Errno::NOTSUP.into());
    }
    if how.directory && (how.create || how.exclusive || how.truncate) {
        return Err(Errno::INVAL.into());
    }
    if directory.perms == FsPerms::ReadOnly && how.writes() {
        return Err(Errno::PERM.into());
    }
    let beneath = Arc::clone(&directory.dir);
    let scratch = scratch.filter(|scratch| scratch.holds(&directory.dir));
    let opened = match scratch {
        Some(scratch) => scratch.open(work, beneath, path, how).await,
        None => super::blocking(work, move || open(&beneath, &path, how)).await,
    };
    let Some((opened, is_directory)) = opened? else {
        return Ok(None);
    };
    let (perms, mode) = (directory.perms, how.mode());
    let descriptor = if is_directory {
        Descriptor::Dir(Dir::new(opened, perms, mode, false))
    } else if how.directory {
        return Err(Errno::NOTDIR.into());
    } else {
        Descriptor::File(filesystem::File::new(opened, perms, mode, false))
    };
    if let Some(scratch) = scratch {
        scratch.register(super::inner(&descriptor));
    }
    Ok(Some(descriptor))
}

/// Opens, and says whether it is a directory. None where the kernel has no `openat2`.
pub(super) fn open(directory: &File, path: &str, how: How) -> io::Result<Option<(File, bool)>> {
    let mut look = OFlags::PATH;
    look.set(OFlags::NOFOLLOW, !how.follow);
    // Opening a device alone may already do something.
    match beneath(directory, path, look) {
        Ok(found) => is_directory(&found, true).map(drop)?,
        Err(Errno::NOSYS | Errno::PERM) => return Ok(None),
        Err(Errno::NOENT) if how.create => {}
        Err(error) => return Err(refused(error)),
    }
    // It may be another by now: that one is opened without waiting, and looked at too.
    let opened = beneath(directory, path, how.flags()).map_err(refused)?;
    let is_directory = is_directory(&opened, false)?;
    Ok(Some((File::from(opened), is_directory)))
}

/// Sets times of what is at a path, which is followed and not opened. False where the kernel cannot do that.
pub(super) fn set_times(directory: &File, path: &str, times: &Timestamps) -> io::Result<bool> {
    let found = match beneath(directory, path, OFlags::PATH) {
        Err(Errno::NOSYS | Errno::PERM) => return Ok(false),
        found => found.map_err(refused)?,
    };
    match rustix::fs::utimensat(&found, "", times, AtFlags::EMPTY_PATH) {
        Ok(()) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// A point in time, for [`set_times`].
pub(super) const UNCHANGED: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: rustix::fs::UTIME_OMIT,
};

/// Now, for [`set_times`].
pub(super) const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: rustix::fs::UTIME_NOW,
};

fn beneath(directory: &File, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mode = if flags.contains(OFlags::CREATE) {
        Mode::from_bits_retain(0o666)
    } else {
        Mode::empty()
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let once = || rustix::fs::openat2(directory, path, flags | OFlags::CLOEXEC, mode, resolve);
    // A rename anywhere on the machine may end a look-up, and be no reason to give up.
    (1..RENAMES)
        .map(|_| once())
        .find(|opened| !matches!(opened, Err(Errno::AGAIN)))
        .unwrap_or_else(once)
}

const RENAMES: usize = 8;

/// The path led outside.
fn refused(error: Errno) -> io::Error {
    match error {
        Errno::XDEV => Errno::PERM.into(),
        error => error.into(),
    }
}

fn is_directory(found: &OwnedFd, or_link: bool) -> io::Result<bool> {
    match FileType::from_raw_mode(rustix::fs::fstat(found)?.st_mode) {
        FileType::Directory => Ok(true),
        FileType::RegularFile => Ok(false),
        // Opening it says what is wrong with that.
        FileType::Symlink if or_link => Ok(false),
        _ => Err(Errno::NOTSUP.into()),
    }
}
