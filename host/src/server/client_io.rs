//! The client's bytes as hyper sees them; what moves of them is noted in `progress`, what hyper may read of HTTP/1 is for
//! `intake` to say, and how many frames of HTTP/2 a client may send for nothing, for `frames`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::HeadFault;
use super::batch::Batched;
use super::frames::Frames;
use super::intake::Intake;
use super::progress::Progress;
use super::wire::Wire;

/// Reads and writes for a client's connection.
pub(super) struct ClientIo {
    wire: Wire,
    progress: Arc<Progress>,
    /// For HTTP/1, which hyper reads too generously
    intake: Option<Intake>,
    /// For HTTP/2, where h2 answers too patiently
    frames: Option<Box<Frames>>,
    batched: Batched,
}

impl ClientIo {
    pub(super) fn new(
        wire: Wire,
        progress: Arc<Progress>,
        intake: Option<Intake>,
        frames: Option<Box<Frames>>,
    ) -> Self {
        ClientIo {
            wire,
            progress,
            intake,
            frames,
            batched: Batched::default(),
        }
    }

    /// Reads until there is something that hyper may have, which is all it is given.
    fn poll_intake(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let Some(intake) = &mut self.intake else {
                return self.poll_frames(cx, buffer);
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
            ready!(self.wire.poll_read(cx, buffer))?;
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

    /// Reads frames, and looks whether the client sends too many that move nothing, and whether h2 can read its headers.
    fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            let Some(frames) = &mut self.frames else {
                return self.wire.poll_read(cx, buffer);
            };
            frames.lists.give(buffer);
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            ready!(self.wire.poll_read(cx, buffer))?;
            if buffer.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            let mut seen = frames.came(&buffer.filled()[before..]);
            if seen.is_ok() {
                seen = frames.lists.look(buffer, before);
            }
            self.progress.in_head(frames.is_in_head());
            if let Err(violation) = seen {
                self.progress.violated(violation);
                if let Some(goodbye) = frames.goodbye(violation) {
                    // If there is no room for it, the client does not read anyway.
                    let goodbye = [IoSlice::new(&goodbye)];
                    let _ = self.wire.poll_write(cx, &self.progress, &goodbye);
                    let _ = self.wire.poll_flush(cx, &self.progress);
                }
                buffer.set_filled(before);
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
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
        if self.batched.is_waiting() && self.intake.is_some() {
            // hyper would take an end for a client that has left, whose answer it holds.
            // What `intake` had, hyper has: nothing waits where it holds something.
            if self.wire.has_unread(cx) {
                self.batched.read_next();
            }
            return Poll::Pending;
        }
        self.poll_intake(cx, buffer)
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let is_over = this.intake.as_ref().is_none_or(|intake| {
            intake.is_between() && !this.progress.is_in_flight() && !this.progress.may_upgrade()
        });
        ready!(this.batched.poll(cx, &this.progress, is_over));
        let sent = ready!(this.wire.poll_write(cx, &this.progress, buffers))?;
        if let Some(frames) = &mut this.frames {
            let mut left = sent;
            for piece in buffers {
                let part = left.min(piece.len());
                left -= part;
                this.progress.unheard(frames.went(&piece[..part]));
            }
        }
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.wire.poll_flush(cx, &this.progress)
    }

    /// hyper calls it when nothing broke off. The socket stays open: `connection` closes, which knows whether to linger.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.wire.poll_end(cx, &this.progress)
    }
}
