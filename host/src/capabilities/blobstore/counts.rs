//! What guests did with containers.

use std::sync::atomic::{AtomicU64, Ordering};

use super::error::Error;
use crate::capabilities::counts::counted;

/// What guests of one handler did: by operation and outcome, and bytes.
#[derive(Debug, Default)]
pub struct OfHandler {
    operations: [[AtomicU64; OUTCOMES.len()]; OPERATIONS.len()],
    read: AtomicU64,
    written: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    CreateContainer,
    GetContainer,
    DeleteContainer,
    ContainerExists,
    Info,
    GetData,
    WriteData,
    Finish,
    ListObjects,
    DeleteObjects,
    HasObject,
    ObjectInfo,
    Clear,
    CopyObject,
    MoveObject,
}

const OPERATIONS: [&str; 15] = [
    "create-container",
    "get-container",
    "delete-container",
    "container-exists",
    "info",
    "get-data",
    "write-data",
    "finish",
    "list-objects",
    "delete-objects",
    "has-object",
    "object-info",
    "clear",
    "copy-object",
    "move-object",
];

#[derive(Debug, Clone, Copy)]
enum Outcome {
    Ok,
    Denied,
    NotFound,
    OverQuota,
    Invalid,
    Unavailable,
    Timeout,
}

const OUTCOMES: [&str; 7] = [
    "ok",
    "denied",
    "not-found",
    "over-quota",
    "invalid",
    "unavailable",
    "timeout",
];

impl Outcome {
    fn of<T>(result: &Result<T, Error>) -> Self {
        let Err(error) = result else {
            return Self::Ok;
        };
        match error {
            Error::Denied => Self::Denied,
            Error::NoContainer | Error::NoObject => Self::NotFound,
            Error::Objects(_) | Error::Bytes(_) | Error::Object(_) | Error::Staged(_) => {
                Self::OverQuota
            }
            Error::ContainerExists
            | Error::Name
            | Error::Range
            | Error::Value(_)
            | Error::Open
            | Error::Files
            | Error::TooMany(_)
            | Error::TooLarge => Self::Invalid,
            Error::NoSpace | Error::Disk(_) => Self::Unavailable,
            Error::Late => Self::Timeout,
        }
    }
}

impl OfHandler {
    pub(super) fn add<T>(&self, operation: Operation, result: &Result<T, Error>) {
        let row = &self.operations[operation as usize];
        row[Outcome::of(result) as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_read(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Operation, outcome, and how often; what never happened is left out.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        counted(OPERATIONS, OUTCOMES, &self.operations)
    }

    /// Bytes that were read out of objects, and written into them.
    pub fn bytes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let bytes = [("read", &self.read), ("write", &self.written)];
        bytes.into_iter().filter_map(|(operation, bytes)| {
            let bytes = bytes.load(Ordering::Relaxed);
            (bytes > 0).then_some((operation, bytes))
        })
    }
}
