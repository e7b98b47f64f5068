//! Values on their way, a piece at a time.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::Place;
use super::counts::OfHandler;
use super::error::Error;
use super::incoming::Incoming;
use super::operations::Room;
use super::work::Lane;
use crate::files::aside;
use crate::limits::BODY_CHUNK;

/// A part of an object that is being read. The file stays as it was, also when the object is deleted.
pub(super) struct Part {
    /// None when it is dropped.
    file: Option<Arc<File>>,
    at: u64,
    pub(super) left: u64,
    lane: Lane,
    counts: Arc<OfHandler>,
    _open: Room,
}

impl Part {
    pub(super) fn new(file: File, at: u64, left: u64, place: &Place, open: Room) -> Self {
        Self {
            file: Some(Arc::new(file)),
            at,
            left,
            lane: place.lane.clone(),
            counts: Arc::clone(&place.counts),
            _open: open,
        }
    }

    /// The next bytes, at most so many; none at the end.
    pub(super) fn next(
        &mut self,
        most: usize,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send + use<> {
        let bytes = usize::try_from(self.left).map_or(most, |left| left.min(most));
        let (file, lane, at) = (self.file.clone(), self.lane.clone(), self.at);
        let counts = Arc::clone(&self.counts);
        self.at += bytes as u64;
        self.left -= bytes as u64;
        async move {
            let read = move || {
                let mut buffer = BytesMut::zeroed(bytes);
                if let Some(file) = file {
                    file.read_exact_at(&mut buffer, at)
                        .map_err(|error| Error::of(&error))?;
                }
                Ok(buffer.freeze())
            };
            let read = lane.run(read).await?;
            counts.add_read(read.len());
            Ok(read)
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let file = self.file.take();
        aside(move || drop(file));
    }
}

/// What a guest reads of an object.
pub(super) struct Reader {
    part: Part,
    state: Reading,
}

enum Reading {
    Idle,
    Busy(JoinHandle<Result<Bytes, Error>>),
    Ready(Bytes),
    Failed(Error),
    Ended,
}

impl Reader {
    pub(super) fn new(part: Part) -> Self {
        Self {
            part,
            state: Reading::Idle,
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        if matches!(self.state, Reading::Idle) {
            if self.part.left == 0 {
                self.state = Reading::Ended;
                return;
            }
            self.state = Reading::Busy(tokio::spawn(self.part.next(BODY_CHUNK)));
        }
        if let Reading::Busy(reading) = &mut self.state {
            self.state = match reading.await {
                Ok(Ok(bytes)) => Reading::Ready(bytes),
                Ok(Err(error)) => Reading::Failed(error),
                Err(error) => Reading::Failed(Error::Disk(error.to_string())),
            };
        }
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match &mut self.state {
            Reading::Idle if self.part.left == 0 => Err(StreamError::Closed),
            Reading::Idle if size > 0 => {
                self.state = Reading::Busy(tokio::spawn(self.part.next(BODY_CHUNK)));
                Ok(Bytes::new())
            }
            Reading::Idle | Reading::Busy(_) => Ok(Bytes::new()),
            Reading::Ready(bytes) => {
                let piece = bytes.split_to(bytes.len().min(size));
                if bytes.is_empty() {
                    self.state = Reading::Idle;
                }
                Ok(piece)
            }
            Reading::Failed(error) => {
                let error = StreamError::LastOperationFailed(error.clone().into());
                self.state = Reading::Ended;
                Err(error)
            }
            Reading::Ended => Err(StreamError::Closed),
        }
    }

    async fn cancel(&mut self) {}
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Reading::Busy(reading) = &self.state {
            reading.abort();
        }
    }
}

/// A value that is being written, by its stream and for who finishes it.
pub(super) struct Upload {
    pub(super) incoming: Arc<Incoming>,
    lane: Lane,
    counts: Arc<OfHandler>,
    /// Bytes that it may have.
    most: AtomicU64,
    state: Mutex<Writing>,
    _open: Room,
}

enum Writing {
    Idle,
    Busy(JoinHandle<Result<(), Error>>),
    Failed(Error),
}

impl Upload {
    pub(super) fn new(incoming: Incoming, place: &Place, open: Room) -> Self {
        Self {
            incoming: Arc::new(incoming),
            lane: place.lane.clone(),
            counts: Arc::clone(&place.counts),
            most: AtomicU64::new(place.most),
            state: Mutex::new(Writing::Idle),
            _open: open,
        }
    }

    /// From now on it may have no more.
    pub(super) fn allow(&self, most: u64) {
        self.most.fetch_min(most, Ordering::Relaxed);
    }

    /// Waits until what was written has arrived.
    pub(super) async fn arrived(&self) -> Result<(), Error> {
        let state = std::mem::replace(&mut *self.state(), Writing::Idle);
        match state {
            Writing::Idle => Ok(()),
            Writing::Failed(error) => Err(error),
            Writing::Busy(writing) => ended(writing.await),
        }
    }

    fn write(&self, bytes: Bytes) -> Result<(), Error> {
        let more = bytes.len() as u64;
        let most = self.most.load(Ordering::Relaxed);
        if self.incoming.bytes() + more > most {
            return Err(Error::Object(most));
        }
        self.incoming.take(more)?;
        let (lane, incoming) = (self.lane.clone(), Arc::clone(&self.incoming));
        let counts = Arc::clone(&self.counts);
        let writing = async move {
            let length = bytes.len();
            let written = lane.run(move || incoming.write(&bytes)).await;
            if written.is_ok() {
                counts.add_written(length);
            }
            written
        };
        *self.state() = Writing::Busy(tokio::spawn(writing));
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, Writing> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    ended.unwrap_or_else(|error| Err(Error::Disk(error.to_string())))
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Writing::Busy(writing) = &*self.state() {
            writing.abort();
        }
    }
}

/// Where a guest writes a value.
pub(super) struct Writer {
    upload: Arc<Upload>,
    is_closed: bool,
}

impl Writer {
    pub(super) fn new(upload: Arc<Upload>) -> Self {
        Self {
            upload,
            is_closed: false,
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| {
            let mut state = self.upload.state();
            let Writing::Busy(writing) = &mut *state else {
                return std::task::Poll::Ready(());
            };
            let done = std::task::ready!(std::pin::Pin::new(writing).poll(cx));
            *state = match ended(done) {
                Ok(()) => Writing::Idle,
                Err(error) => Writing::Failed(error),
            };
            std::task::Poll::Ready(())
        })
        .await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if self.check_write()? < bytes.len() {
            return Err(StreamError::trap(
                "more was written than is allowed at once",
            ));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.upload.write(bytes).map_err(|error| {
            // Whoever finishes it hears of it too.
            *self.upload.state() = Writing::Failed(error.clone());
            self.is_closed = true;
            StreamError::LastOperationFailed(error.into())
        })
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.check_write().map(drop)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.is_closed {
            return Err(StreamError::Closed);
        }
        match &*self.upload.state() {
            Writing::Idle => Ok(BODY_CHUNK),
            Writing::Busy(_) => Ok(0),
            Writing::Failed(error) => {
                self.is_closed = true;
                Err(StreamError::LastOperationFailed(error.clone().into()))
            }
        }
    }
}
