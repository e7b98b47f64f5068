//! Why something could not be done. The interface has a text for it, which a guest may show to anybody: it names nothing of the
//! host's.

use std::fmt;
use std::io;

use crate::limits::{self, MIB};

/// What a guest is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Error {
    /// The container was not granted.
    Denied,
    NoContainer,
    ContainerExists,
    NoObject,
    /// A name that no object can have.
    Name,
    /// A part of an object that it has not.
    Range,
    /// More objects than the container may have.
    Objects(u64),
    /// More bytes than the container may have.
    Bytes(u64),
    /// More bytes than one object may have, or than there is room for.
    Object(u64),
    /// More bytes than may be on their way.
    Staged(u64),
    /// A value that was cut short, or written twice.
    Value(&'static str),
    /// More open at once than an instance may have.
    Open,
    /// More files than are left to it of those that guests may have open.
    Files,
    /// More at once than one call may do.
    TooMany(usize),
    /// More than one list may hold.
    TooLarge,
    /// The disk has not answered in time.
    Late,
    /// The disk is full.
    NoSpace,
    /// The disk, in the words of the system, for the log alone.
    Disk(String),
}

impl Error {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Disk(error.to_string()),
        }
    }

    /// The same, where the name of an object was opened.
    pub(super) fn of_object(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NoObject,
            _ => Self::of(error),
        }
    }

    /// The same, where the name of a container was.
    pub(super) fn of_container(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NoContainer,
            _ => Self::of(error),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("the container is not granted"),
            Self::NoContainer => f.write_str("no such container"),
            Self::ContainerExists => f.write_str("the container exists already"),
            Self::NoObject => f.write_str("no such object"),
            Self::Name => write!(
                f,
                "not the name of an object: it has 1 to {} bytes",
                limits::BLOB_NAME
            ),
            Self::Range => f.write_str("the object has no such part"),
            Self::Objects(most) => write!(f, "the container may have {most} objects"),
            Self::Bytes(most) => write!(f, "the container may have {most} bytes"),
            Self::Object(most) => {
                write!(f, "there is room for an object of {most} bytes")
            }
            Self::Staged(most) => write!(f, "what is being written may have {most} bytes together"),
            Self::Value(why) => f.write_str(why),
            Self::Open => write!(
                f,
                "too many values are open: {} at once are allowed",
                limits::BLOBS_OPEN
            ),
            Self::Files => f.write_str("too many files are open: close some, or try again later"),
            Self::TooMany(most) => write!(f, "too many at once: {most} are allowed"),
            Self::TooLarge => write!(
                f,
                "larger than {} MiB: read it as a stream",
                limits::BLOB_AT_ONCE / MIB
            ),
            Self::Late => write!(
                f,
                "the store has not answered within {:?}; what was asked for may be done yet",
                limits::BLOB_TIME
            ),
            Self::NoSpace => f.write_str("there is no space left"),
            Self::Disk(_) => f.write_str("the store has failed"),
        }
    }
}
