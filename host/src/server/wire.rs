//! A client's bytes, as its socket has them or within TLS.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::ReadBuf;

use super::progress::Progress;
use super::socket::Socket;
use super::tls::Session;

/// What is read and written of one client.
pub(super) struct Wire {
    socket: Arc<Socket>,
    session: Option<Session>,
    /// Read already, and to be read again
    unread: Bytes,
}

impl Wire {
    /// `unread` is what came first, and is in the clear.
    pub(super) fn clear(socket: Arc<Socket>, unread: Bytes) -> Self {
        Wire {
            socket,
            session: None,
            unread,
        }
    }

    pub(super) fn sealed(socket: Arc<Socket>, session: Session) -> Self {
        Wire {
            socket,
            session: Some(session),
            unread: Bytes::new(),
        }
    }

    /// Gives back what was read last.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        self.unread = bytes;
    }

    /// Reads what there is, once there is something. 0 is the end.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        poll_fn(|cx| self.poll_read(cx, &mut buffer)).await?;
        Ok(buffer.filled().len())
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let bytes = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(bytes));
            return Poll::Ready(Ok(()));
        }
        match &mut self.session {
            None => self.socket.poll_read(cx, buffer),
            Some(session) => session.poll_read(cx, &self.socket, buffer),
        }
    }

    /// Whether something can be read, an end or an error too. If not, what comes wakes the task.
    pub(super) fn has_unread(&mut self, cx: &mut Context<'_>) -> bool {
        let is_opened = self.session.as_mut().is_some_and(Session::has_opened);
        !self.unread.is_empty() || is_opened || self.socket.poll_read_ready(cx).is_ready()
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        progress: &Progress,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(session) = &mut self.session {
            return session.poll_write(cx, &self.socket, progress, pieces);
        }
        loop {
            if self.socket.poll_write_ready(cx)?.is_pending() {
                progress.blocked();
                return Poll::Pending;
            }
            match self.socket.try_write_vectored(pieces) {
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {}
                Ok(bytes) => {
                    progress.took(bytes);
                    return Poll::Ready(Ok(bytes));
                }
                failed => return Poll::Ready(failed),
            }
        }
    }

    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        progress: &Progress,
    ) -> Poll<io::Result<()>> {
        match &mut self.session {
            None => Poll::Ready(Ok(())),
            Some(session) => session.poll_flush(cx, &self.socket, progress),
        }
    }

    /// Says within TLS that all was said. The socket is closed elsewhere.
    pub(super) fn poll_end(
        &mut self,
        cx: &mut Context<'_>,
        progress: &Progress,
    ) -> Poll<io::Result<()>> {
        let Some(session) = &mut self.session else {
            return Poll::Ready(Ok(()));
        };
        session.say_end();
        ready!(session.poll_flush(cx, &self.socket, progress))?;
        Poll::Ready(Ok(()))
    }

    /// The same, without waiting for a client that takes nothing.
    pub(super) fn try_end(&mut self) {
        if let Some(session) = &mut self.session {
            session.try_end(&self.socket);
        }
    }
}
