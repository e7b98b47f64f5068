//! The bytes of a client within TLS. Readiness, timers and the end are those of the socket beneath.

use std::io::{self, BufRead as _, IoSlice, Read, Write};
use std::task::{Context, Poll, ready};

use rustls::pki_types::CertificateDer;
use rustls::server::ServerConnection;
use tokio::io::ReadBuf;

use crate::server::progress::Progress;
use crate::server::socket::Socket;

/// After the handshake.
pub(in crate::server) struct Session {
    /// Some hundred bytes each: boxed, so that a connection in the clear does without them.
    pub(super) connection: Box<ServerConnection>,
}

impl Session {
    pub(super) fn new(connection: Box<ServerConnection>) -> Self {
        Self { connection }
    }

    /// The client's own, if it was asked for one and has one. It was verified.
    pub(in crate::server) fn client_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.connection.peer_certificates()?.first()
    }

    /// Whether something can be read that has come already.
    pub(in crate::server) fn has_opened(&mut self) -> bool {
        let opened = self.connection.reader().fill_buf().map(<[u8]>::len);
        !opened.is_err_and(|failure| failure.kind() == io::ErrorKind::WouldBlock)
    }

    /// Nothing read is the end, which a client may also leave unsaid: what is cut is seen in HTTP.
    pub(in crate::server) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut opened = self.connection.reader();
            match opened.fill_buf() {
                Ok(there) => {
                    let taken = there.len().min(buffer.remaining());
                    buffer.put_slice(there.get(..taken).unwrap_or_default());
                    opened.consume(taken);
                    return Poll::Ready(Ok(()));
                }
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {}
                Err(failure) if failure.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(()));
                }
                Err(failure) => return Poll::Ready(Err(failure)),
            }
            ready!(socket.poll_read_ready(cx))?;
            match self.connection.read_tls(&mut Raw(socket)) {
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => continue,
                read => drop(read?),
            }
            let looked = self.connection.process_new_packets();
            if self.connection.wants_write() {
                // An answer to the other side's TLS. What does not go now goes before the next that is written.
                let _ = self.connection.write_tls(&mut Raw(socket));
            }
            if let Err(error) = looked {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
        }
    }

    /// Takes something only when all that was taken before has gone, so what waits here has a ceiling.
    pub(in crate::server) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
        progress: &Progress,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx, socket, progress))?;
        let taken = self.connection.writer().write_vectored(pieces)?;
        // It is taken, whether it has gone or not; who writes flushes too.
        if let Poll::Ready(Err(failure)) = self.poll_flush(cx, socket, progress) {
            return Poll::Ready(Err(failure));
        }
        Poll::Ready(Ok(taken))
    }

    pub(in crate::server) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
        progress: &Progress,
    ) -> Poll<io::Result<()>> {
        while self.connection.wants_write() {
            if socket.poll_write_ready(cx)?.is_pending() {
                progress.blocked();
                return Poll::Pending;
            }
            match self.connection.write_tls(&mut Raw(socket)) {
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {}
                written => progress.took(written?),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more will come and that nothing is missing (RFC 8446, 6.1).
    pub(in crate::server) fn say_end(&mut self) {
        self.connection.send_close_notify();
    }

    /// The same, if the client has room for it: nobody waits.
    pub(in crate::server) fn try_end(&mut self, socket: &Socket) {
        self.say_end();
        let _ = self.connection.write_tls(&mut Raw(socket));
    }
}

/// The socket as rustls reads and writes it.
pub(super) struct Raw<'a>(pub(super) &'a Socket);

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
