//! Streams into files.

use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wasmtime::StoreContextMut;
use wasmtime::component::{Source, StreamConsumer, StreamResult};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};
use wasmtime_wasi::p3::bindings::filesystem::types::ErrorCode;

use super::blocking;
use super::pieces::Pieces;
use super::scratch::{At, Scratch, write_all};
use crate::capabilities::descriptors::OneOpen;
use crate::capabilities::share::Share;
use crate::limits::BODY_CHUNK;

/// Where what is written goes.
#[derive(Clone)]
pub(super) enum Target {
    /// A file of a scratch directory, which has a quota.
    Scratch(Arc<Scratch>, Share),
    /// One of a granted directory.
    Granted(Share),
}

impl Target {
    async fn write(self, file: Arc<File>, at: At, bytes: Bytes) -> io::Result<usize> {
        match self {
            Self::Scratch(scratch, work) => scratch.write(&work, file, at, bytes).await,
            Self::Granted(work) => blocking(&work, move || write_all(&file, at, &bytes)).await,
        }
    }
}

/// A file, and how far it was written.
pub(super) struct Sink {
    pub(super) target: Target,
    pub(super) file: Arc<File>,
    pub(super) at: At,
    pub(super) pieces: Pieces,
    pub(super) _open: Option<Arc<OneOpen>>,
}

impl Sink {
    /// Writes the next bytes, as many as there is room for.
    fn next(&self, bytes: Bytes) -> impl Future<Output = io::Result<usize>> + Send + use<> {
        let (target, file, at) = (self.target.clone(), Arc::clone(&self.file), self.at);
        let piece = self.pieces.hold(bytes.len());
        async move {
            let _piece = piece;
            target.write(file, at, bytes).await
        }
    }
}

/// Of 0.2.
pub(super) struct Written {
    sink: Sink,
    state: State,
}

enum State {
    Ready,
    Writing(JoinHandle<io::Result<usize>>),
    Failed(io::Error),
    Closed,
}

impl Written {
    pub(super) fn new(sink: Sink) -> Self {
        Self {
            sink,
            state: State::Ready,
        }
    }

    /// The last error, once.
    fn failed(&mut self) -> Result<(), StreamError> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => Err(StreamError::Closed),
            State::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
            other => {
                self.state = other;
                Ok(())
            }
        }
    }
}

impl At {
    fn advance(&mut self, by: usize) {
        if let Self::Offset(offset) = self {
            *offset += by as u64;
        }
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Written {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.failed()?;
        if !matches!(self.state, State::Ready) || bytes.len() > BODY_CHUNK {
            let message = "a write that was not permitted";
            return Err(StreamError::Trap(wasmtime::Error::msg(message)));
        }
        self.state = State::Writing(tokio::spawn(self.sink.next(bytes)));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        self.failed()
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        self.failed()?;
        Ok(match self.state {
            State::Ready => BODY_CHUNK,
            _ => 0,
        })
    }

    async fn cancel(&mut self) {
        // Who closes streams faster than a disk writes waits for it.
        self.ready().await;
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Written {
    async fn ready(&mut self) {
        let State::Writing(writing) = &mut self.state else {
            return;
        };
        let written = writing.await;
        self.state = match written {
            Ok(Ok(written)) => {
                self.sink.at.advance(written);
                State::Ready
            }
            Ok(Err(error)) => State::Failed(error),
            Err(_) => State::Failed(io::ErrorKind::Interrupted.into()),
        };
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // What a disk has begun is finished; what waits for its turn is not begun.
        if let State::Writing(writing) = &self.state {
            writing.abort();
        }
    }
}

/// Of 0.3.
pub(super) struct Consumed {
    sink: Sink,
    end: Option<oneshot::Sender<Result<(), ErrorCode>>>,
    writing: Option<Writing>,
}

type Writing = Pin<Box<dyn Future<Output = io::Result<usize>> + Send>>;

impl Consumed {
    pub(super) fn new(sink: Sink, end: oneshot::Sender<Result<(), ErrorCode>>) -> Self {
        Self {
            sink,
            end: Some(end),
            writing: None,
        }
    }

    fn end(&mut self, with: Result<(), ErrorCode>) {
        if let Some(end) = self.end.take() {
            // The guest may not care.
            let _ = end.send(with);
        }
    }
}

impl<D> StreamConsumer<D> for Consumed {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, u8>,
        _: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut source = source.as_direct(store);
        let me = &mut *self;
        let writing = me.writing.get_or_insert_with(|| {
            let bytes = source.remaining();
            let bytes = Bytes::copy_from_slice(&bytes[..bytes.len().min(BODY_CHUNK)]);
            Box::pin(me.sink.next(bytes))
        });
        let written = ready!(writing.as_mut().poll(cx));
        me.writing = None;
        Poll::Ready(Ok(match written {
            Ok(written) => {
                source.mark_read(written);
                me.sink.at.advance(written);
                StreamResult::Completed
            }
            Err(error) => {
                me.end(Err(error.into()));
                StreamResult::Dropped
            }
        }))
    }
}

impl Drop for Consumed {
    fn drop(&mut self) {
        self.end(Ok(()));
    }
}
