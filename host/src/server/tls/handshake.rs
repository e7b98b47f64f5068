//! How a connection over TLS begins.

use std::io;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use rustls::server::{ServerConfig, ServerConnection};
use rustls::{Error, HandshakeKind};
use tokio::io::Interest;

use super::session::{Raw, Session};
use crate::server::socket::Socket;

/// Why there is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Fault {
    /// The client speaks HTTP, and not within TLS.
    Clear,
    /// It is gone.
    Left,
    /// It knows no version, cipher or protocol that we know.
    NothingInCommon,
    /// It does not accept our certificate, or something else of ours.
    Refused,
    /// It has shown no certificate, or none that is good.
    ClientCertificate,
    /// It does not speak TLS.
    Malformed,
}

/// Reads and writes until both sides know each other. There is no deadline in it. `early` is what has been read already.
pub(in crate::server) async fn shake_hands(
    socket: &Socket,
    mut early: Bytes,
    config: Arc<ServerConfig>,
) -> Result<Session, Fault> {
    let connection = ServerConnection::new(config).map_err(|_| Fault::Malformed)?;
    let mut connection = Box::new(connection);
    if early.is_empty() {
        early = first_piece(socket).await.map_err(|_| Fault::Left)?;
    }
    match early.first() {
        None => return Err(Fault::Left),
        // All methods that are in use begin so, and no record of TLS does.
        Some(b'A'..=b'Z') => return Err(Fault::Clear),
        Some(_) => {}
    }
    loop {
        while connection.wants_write() {
            write(socket, &mut connection)
                .await
                .map_err(|_| Fault::Left)?;
        }
        if !connection.is_handshaking() {
            connection.set_buffer_limit(Some(SEALED_AT_ONCE));
            return Ok(Session::new(connection));
        }
        let read = if early.is_empty() {
            read(socket, &mut connection).await
        } else {
            connection.read_tls(&mut (&mut early).reader())
        };
        if !matches!(read, Ok(1..)) {
            return Err(Fault::Left);
        }
        if let Err(error) = connection.process_new_packets() {
            // The client is told what was wrong, if it has room for that.
            let _ = connection.write_tls(&mut Raw(socket));
            tracing::debug!("no TLS with a client: {error}");
            return Err(fault_of(&error));
        }
    }
}

impl Session {
    /// Whether a session of before was taken up.
    pub(in crate::server) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// What the client has chosen, if it was asked to: HTTP/2, or not.
    pub(in crate::server) fn is_h2(&self) -> Option<bool> {
        self.connection.alpn_protocol().map(|it| it == super::H2)
    }
}

async fn first_piece(socket: &Socket) -> io::Result<Bytes> {
    socket.ready(Interest::READABLE).await?;
    loop {
        // Behind an await the buffer would be part of every connection's task.
        let mut buffer = [0; 2048];
        match socket.try_read(&mut buffer) {
            Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {}
            read => {
                let read = read?;
                return Ok(Bytes::copy_from_slice(
                    buffer.get(..read).unwrap_or_default(),
                ));
            }
        }
        socket.ready(Interest::READABLE).await?;
    }
}

async fn read(socket: &Socket, connection: &mut ServerConnection) -> io::Result<usize> {
    loop {
        socket.ready(Interest::READABLE).await?;
        match connection.read_tls(&mut Raw(socket)) {
            Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

async fn write(socket: &Socket, connection: &mut ServerConnection) -> io::Result<usize> {
    loop {
        socket.ready(Interest::WRITABLE).await?;
        match connection.write_tls(&mut Raw(socket)) {
            Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {}
            written => return written,
        }
    }
}

fn fault_of(error: &Error) -> Fault {
    match error {
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Fault::NothingInCommon,
        Error::NoCertificatesPresented | Error::InvalidCertificate(_) => Fault::ClientCertificate,
        Error::AlertReceived(_) => Fault::Refused,
        _ => Fault::Malformed,
    }
}

/// What a client hears that speaks HTTP in the clear, so that its user knows what is wrong.
pub(in crate::server) const IN_THE_CLEAR: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\ncontent-length: 47\r\nconnection: close\r\n\r\n\
    this port speaks HTTPS: write `https://` to it\n";

/// Bytes that are sealed and wait for the socket: some records, so that a system call carries many.
const SEALED_AT_ONCE: usize = 64 * 1024;
