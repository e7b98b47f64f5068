//! Closes a connection so that the client can read the last response. A socket closed with unread bytes, or to which
//! bytes still come, answers with a reset, and the client's system then throws away what the client has not read
//! (RFC 9112, 9.6): so only our half is closed, and what comes is thrown away for a while.

use std::io;
use tokio::io::Interest;
use tokio::time::timeout;

use super::Config;
use super::socket::Socket;

/// Says that nothing more will come, then listens until the client closes too, or the limits of `config` are reached.
pub(super) async fn close(socket: &Socket, config: &Config) {
    if socket.close_our_half().is_err() {
        return;
    }
    let _ = timeout(
        config.linger_timeout,
        discard(socket, config.max_linger_bytes),
    )
    .await;
}

async fn discard(socket: &Socket, max_bytes: usize) -> io::Result<()> {
    let mut discarded = 0;
    while discarded < max_bytes {
        socket.ready(Interest::READABLE).await?;
        // Behind an await the buffer would be part of every connection's task.
        let mut buffer = [0; 16 * 1024];
        match socket.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(bytes) => discarded += bytes,
            Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}
