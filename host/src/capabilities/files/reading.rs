//! Streams out of files.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wasmtime::StoreContextMut;
use wasmtime::component::{Destination, StreamProducer, StreamResult};
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError};
use wasmtime_wasi::p3::bindings::filesystem::types::ErrorCode;

use super::blocking;
use super::pieces::{Piece, Pieces};
use crate::capabilities::descriptors::OneOpen;
use crate::capabilities::share::Share;
use crate::limits::BODY_CHUNK;

/// A file, and how far it was read.
pub(super) struct Source {
    pub(super) work: Share,
    pub(super) file: Arc<File>,
    pub(super) at: u64,
    pub(super) pieces: Pieces,
    pub(super) _open: Option<Arc<OneOpen>>,
}

/// Bytes, and that they are here.
type Held = (Bytes, Piece);

impl Source {
    /// The next bytes, at most so many; none at the end. What is not asked for is not read: it may be written meanwhile.
    fn next(&self, most: usize) -> impl Future<Output = io::Result<Held>> + Send + use<> {
        let (work, file, at) = (self.work.clone(), Arc::clone(&self.file), self.at);
        let pieces = self.pieces.clone();
        let read = move || {
            let most = most.min(BODY_CHUNK);
            let piece = pieces.hold(most);
            let mut buffer = BytesMut::zeroed(most);
            let bytes = loop {
                match file.read_at(&mut buffer, at) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
            buffer.truncate(bytes);
            Ok((buffer.freeze(), piece))
        };
        async move { blocking(&work, read).await }
    }
}

/// Of 0.2.
pub(super) struct Read {
    source: Source,
    state: State,
}

enum State {
    Idle,
    Reading(JoinHandle<io::Result<Held>>),
    Ready(Held),
    Failed(io::Error),
    Closed,
}

impl Read {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            state: State::Idle,
        }
    }

    fn begin(&mut self, most: usize) {
        self.state = State::Reading(tokio::spawn(self.source.next(most)));
    }

    /// Waits for what was begun.
    async fn done(&mut self) {
        if let State::Reading(reading) = &mut self.state {
            let read = reading.await;
            self.take(read.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())));
        }
    }

    fn take(&mut self, read: io::Result<Held>) {
        self.state = match read {
            Ok((bytes, _)) if bytes.is_empty() => State::Closed,
            Ok(held) => {
                self.source.at += held.0.len() as u64;
                State::Ready(held)
            }
            Err(error) => State::Failed(error),
        };
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for Read {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {
                if size > 0 {
                    self.begin(size);
                }
                Ok(Bytes::new())
            }
            State::Reading(reading) => {
                self.state = State::Reading(reading);
                Ok(Bytes::new())
            }
            State::Ready((mut bytes, piece)) => {
                let taken = bytes.split_to(bytes.len().min(size));
                if !bytes.is_empty() {
                    self.state = State::Ready((bytes, piece));
                }
                Ok(taken)
            }
            State::Failed(error) => {
                self.state = State::Closed;
                Err(StreamError::LastOperationFailed(error.into()))
            }
            State::Closed => {
                self.state = State::Closed;
                Err(StreamError::Closed)
            }
        }
    }

    async fn blocking_read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        self.done().await;
        if matches!(self.state, State::Idle) && size > 0 {
            let read = self.source.next(size).await;
            self.take(read);
        }
        self.read(size)
    }

    async fn cancel(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl Pollable for Read {
    async fn ready(&mut self) {
        if matches!(self.state, State::Idle) {
            self.begin(UNASKED);
        }
        self.done().await;
    }
}

/// Bytes that are read for a guest that waits and has not said how many it wants.
const UNASKED: usize = 4096;

impl Drop for Read {
    fn drop(&mut self) {
        if let State::Reading(reading) = &self.state {
            reading.abort();
        }
    }
}

/// Of 0.3.
pub(super) struct Produced {
    source: Source,
    end: Option<oneshot::Sender<Result<(), ErrorCode>>>,
    reading: Option<Reading>,
}

type Reading = Pin<Box<dyn Future<Output = io::Result<Held>> + Send>>;

impl Produced {
    pub(super) fn new(source: Source, end: oneshot::Sender<Result<(), ErrorCode>>) -> Self {
        Self {
            source,
            end: Some(end),
            reading: None,
        }
    }

    fn end(&mut self, with: Result<(), ErrorCode>) {
        if let Some(end) = self.end.take() {
            // The guest may not care.
            let _ = end.send(with);
        }
    }
}

impl<D> StreamProducer<D> for Produced {
    type Item = u8;
    type Buffer = Bytes;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, Self::Item, Self::Buffer>,
        is_cancelled: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let most = destination.remaining(&mut store).unwrap_or(BODY_CHUNK);
        // Whether there is more is known when it is read.
        if most == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let me = &mut *self;
        let reading = me
            .reading
            .get_or_insert_with(|| Box::pin(me.source.next(most)));
        let read = reading.as_mut().poll(cx);
        if is_cancelled && read.is_pending() {
            return Poll::Ready(Ok(StreamResult::Cancelled));
        }
        let read = ready!(read);
        me.reading = None;
        Poll::Ready(Ok(match read {
            Ok((bytes, _)) if !bytes.is_empty() => {
                me.source.at += bytes.len() as u64;
                destination.set_buffer(bytes);
                StreamResult::Completed
            }
            read => {
                me.end(read.map(drop).map_err(ErrorCode::from));
                StreamResult::Dropped
            }
        }))
    }
}

impl Drop for Produced {
    fn drop(&mut self) {
        self.end(Ok(()));
    }
}
