//! Which protocol a connection speaks: HTTP/2 with prior knowledge starts with 24 bytes that are no HTTP/1 request
//! (RFC 9113, 3.4). hyper-util can tell them apart too, but waits for a silent client for ever.

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::Config;
use super::connection::Ending;
use super::wire::Wire;
use crate::shutdown::Shutdown;

/// How a connection starts. The bytes that were read to find out are still to be read.
pub(super) enum Opening {
    /// An HTTP/1 request, or something that hyper refuses as one
    H1,
    /// The preface of HTTP/2
    H2,
    /// A first line that did not get further in time
    TooSlow,
    /// Neither, and it never will
    Ended(Ending),
}

/// Reads until the protocol is known; the first byte has until `deadline`.
pub(super) async fn read(
    wire: &mut Wire,
    config: &Config,
    deadline: Instant,
    shutdown: &Shutdown,
) -> Opening {
    let mut buffer = [0; FIRST_READ_BYTES];
    let first = tokio::select! {
        read = timeout_at(deadline, wire.read(&mut buffer)) => read,
        () = shutdown.asked() => return Opening::Ended(Ending::Unused),
    };
    let mut filled = match first {
        Err(_) => return Opening::Ended(Ending::Silent),
        Ok(Err(_) | Ok(0)) => return Opening::Ended(Ending::Finished),
        Ok(Ok(bytes)) => bytes,
    };

    let deadline = Instant::now() + config.header_read_timeout;
    loop {
        let read = &buffer[..filled];
        let is_h2 = read.starts_with(PREFACE);
        if is_h2 || !PREFACE.starts_with(read) {
            wire.unread(Bytes::copy_from_slice(read));
            return if is_h2 { Opening::H2 } else { Opening::H1 };
        }
        match timeout_at(deadline, wire.read(&mut buffer[filled..])).await {
            Err(_) => return Opening::TooSlow,
            Ok(Err(_) | Ok(0)) => return Opening::Ended(Ending::Finished),
            Ok(Ok(bytes)) => filled += bytes,
        }
    }
}

pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Most heads fit, and then hyper needs no read of its own; it lies in the task until the protocol is known.
const FIRST_READ_BYTES: usize = 1024;
