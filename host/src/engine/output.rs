//! A guest's stdout and stderr, as wasmtime wants them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::limits::OUTPUT_LINE;
use crate::observe::{GuestOutput, GuestStream};

/// Where the output of an instance goes: to the exchange that it serves now.
pub(super) struct Current(Mutex<Arc<GuestOutput>>);

impl Current {
    pub(super) fn new(output: Arc<GuestOutput>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(output)))
    }

    pub(super) fn replace(&self, output: Arc<GuestOutput>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = output;
    }

    pub(super) fn now(&self) -> Arc<GuestOutput> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, stream: GuestStream, bytes: &[u8]) {
        self.now().write(stream, bytes);
    }
}

/// One of the two streams. Writing never waits: what is too much is dropped and counted there.
#[derive(Clone)]
pub(super) struct Stream {
    pub(super) output: Arc<Current>,
    pub(super) stream: GuestStream,
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.output.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.output.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(16 * OUTPUT_LINE)
    }
}
