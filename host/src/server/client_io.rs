//! The socket as hyper sees it; what moves on it is noted in `progress`, and what hyper may read of HTTP/1 is for `intake`
//! to say.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::HeadFault;
use super::intake::Intake;
use super::progress::Progress;
use super::socket::Socket;

/// Reads and writes a client's socket.
pub(super) struct ClientIo {
    socket: Arc<Socket>,
    /// What was read to tell the protocol; hyper reads it first
    replay: Bytes,
    progress: Arc<Progress>,
    /// For HTTP/1, which hyper reads too generously
    intake: Option<Intake>,
}

impl ClientIo {
    pub(super) fn new(
        socket: Arc<Socket>,
        replay: Bytes,
        progress: Arc<Progress>,
        intake: Option<Intake>,
    ) -> Self {
        ClientIo {
            socket,
            replay,
            progress,
            intake,
        }
    }

    fn poll_socket(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.replay.is_empty() {
            return self.socket.poll_read(cx, buffer);
        }
        let bytes = self.replay.len().min(buffer.remaining());
        buffer.put_slice(&self.replay.split_to(bytes));
        Poll::Ready(Ok(()))
    }

    /// Reads until there is something that hyper may have, which is all it is given.
    fn poll_intake(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let Some(intake) = &mut self.intake else {
                return self.poll_socket(cx, buffer);
            };
            if self.progress.is_out_of_patience() && !intake.has_refused() {
                self.progress.refused(intake.refuse(HeadFault::TooSlow));
            }
            intake.give(buffer);
            if !buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            if intake.is_lost() {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            if intake.has_refused() {
                // Neither bytes nor an end: hyper closes when it has answered.
                return Poll::Pending;
            }
            ready!(self.poll_socket(cx, buffer))?;
            let (false, Some(intake)) = (buffer.filled().is_empty(), &mut self.intake) else {
                return Poll::Ready(Ok(()));
            };
            let refusal = intake.look(buffer);
            self.progress.in_head(intake.is_in_head());
            if let Some(refusal) = refusal {
                self.progress.refused(refusal);
            }
            if !buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.socket.poll_write_ready(cx)?.is_pending() {
                self.progress.blocked();
                return Poll::Pending;
            }
            match write() {
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {}
                Ok(bytes) => {
                    self.progress.took(bytes);
                    return Poll::Ready(Ok(bytes));
                }
                failed => return Poll::Ready(failed),
            }
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_intake(cx, buffer)
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = &self.socket;
        self.poll_write_with(cx, || socket.try_write(buffer))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let socket = &self.socket;
        self.poll_write_with(cx, || socket.try_write_vectored(buffers))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Nothing: `connection` closes, which knows whether to linger.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
