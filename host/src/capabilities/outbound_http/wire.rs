//! The bytes of a connection, watched: an upstream that sends much and moves nothing is cut off.
//!
//! HTTP's parsers bound a head and a frame, and not how many of those come that bring nobody anything: interim responses,
//! PING and SETTINGS frames, empty DATA. So bytes are counted from one thing that was delivered to the next.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits;

/// What has come on a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Bytes that have come for nothing so far.
    idle_bytes: AtomicUsize,
    /// Heads of responses, and pieces of their bodies.
    delivered: AtomicUsize,
}

impl Heard {
    /// Something was asked for.
    pub(super) fn is_asked(&self) {
        self.0.idle_bytes.store(0, Ordering::Relaxed);
    }

    /// Something of use has come.
    pub(super) fn delivers(&self) {
        self.0.idle_bytes.store(0, Ordering::Relaxed);
        self.0.delivered.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something of use has come.
    pub(super) fn delivered(&self) -> usize {
        self.0.delivered.load(Ordering::Relaxed)
    }
}

/// A connection, and what is held as long as it is open.
pub(super) struct Wire<T, H> {
    inner: T,
    heard: Heard,
    _held: H,
}

impl<T, H> Wire<T, H> {
    pub(super) fn new(inner: T, heard: Heard, held: H) -> Self {
        Self {
            inner,
            heard,
            _held: held,
        }
    }
}

impl<T: AsyncRead + Unpin, H: Unpin> AsyncRead for Wire<T, H> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let bytes = buffer.filled().len().saturating_sub(before);
        let idle = &self.heard.0.idle_bytes;
        let heard = idle.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if heard > limits::OUTBOUND_IDLE_BYTES {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it sends much that is part of no response",
            )));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin, H: Unpin> AsyncWrite for Wire<T, H> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
