//! Whether a file could have been written by anyone but us.
//!
//! The user we run as is trusted, and so is root; a group is not. Apart from the cache because it is the one rule that
//! stands between a directory and code that we run.

use super::refusal::Bytes;
use super::sealed;
use rustix::fs::{Mode, OFlags};
use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Never through a symbolic link, and never waiting for the other end of a pipe.
pub(super) fn open_ours(path: &Path) -> Result<(File, Metadata), Untrusted> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)?);
    let metadata = file.metadata()?;
    is_ours(&metadata)?;
    Ok((file, metadata))
}

pub(super) fn is_ours(metadata: &Metadata) -> Result<(), Untrusted> {
    let us = rustix::process::geteuid().as_raw();
    if metadata.uid() != us {
        return Err(Untrusted::Owner {
            owner: metadata.uid(),
            us,
        });
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(Untrusted::Writable {
            mode: metadata.mode() & 0o777,
        });
    }
    Ok(())
}

/// Why a directory or an entry is not used.
#[derive(Debug)]
pub(super) enum Untrusted {
    Owner { owner: u32, us: u32 },
    Writable { mode: u32 },
    NotAFile,
    NoExec,
    TooLarge { size: u64, ceiling: u64 },
    Broken(sealed::Broken),
    Io(io::Error),
}

impl From<io::Error> for Untrusted {
    fn from(error: io::Error) -> Untrusted {
        Untrusted::Io(error)
    }
}

impl From<sealed::Broken> for Untrusted {
    fn from(broken: sealed::Broken) -> Untrusted {
        Untrusted::Broken(broken)
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Untrusted::Owner { owner, us } => write!(
                f,
                "it belongs to user {owner}, we are user {us}: give it to us with `chown`"
            ),
            Untrusted::Writable { mode } => write!(
                f,
                "others may write to it (mode {mode:o}): take that away with `chmod go-w`"
            ),
            Untrusted::NotAFile => f.write_str("it is no regular file: remove it"),
            Untrusted::NoExec => f.write_str("its file system is mounted noexec"),
            Untrusted::TooLarge { size, ceiling } => {
                write!(
                    f,
                    "{} are more than the cache may hold ({})",
                    Bytes(*size),
                    Bytes(*ceiling)
                )
            }
            Untrusted::Broken(sealed::Broken::Foreign) => f.write_str("it has no seal of ours"),
            Untrusted::Broken(sealed::Broken::Damaged) => f.write_str("it is damaged"),
            Untrusted::Broken(sealed::Broken::Unreadable(error)) | Untrusted::Io(error) => {
                error.fmt(f)
            }
        }
    }
}
