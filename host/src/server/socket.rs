//! A client's socket. Who drives a connection and who watches and closes it hold the same one: all that is done with it
//! needs no more than `&self`.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};

/// Of either kind.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The same call on either.
macro_rules! on {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
        }
    };
}

/// So many are sooner copied than described to the kernel piece by piece.
const FEW_BYTES: usize = 512;

fn joined<'a>(pieces: &[IoSlice<'_>], few: &'a mut [u8; FEW_BYTES]) -> Option<&'a [u8]> {
    let mut length = 0;
    for piece in pieces {
        let end = length + piece.len();
        few.get_mut(length..end)?.copy_from_slice(piece);
        length = end;
    }
    Some(&few[..length])
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        on!(self, stream => stream.as_raw_fd())
    }
}

impl Socket {
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        on!(self, stream => stream.try_read(buffer))
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        on!(self, stream => stream.try_write(bytes))
    }

    pub(super) fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if let [one] = pieces {
            return self.try_write(one);
        }
        let mut few = [0; FEW_BYTES];
        match joined(pieces, &mut few) {
            Some(bytes) => self.try_write(bytes),
            None => on!(self, stream => stream.try_write_vectored(pieces)),
        }
    }

    /// One task at a time is woken.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, stream => stream.poll_read_ready(cx))
    }

    /// One task at a time is woken.
    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, stream => stream.poll_write_ready(cx))
    }

    pub(super) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        on!(self, stream => stream.ready(interest).await)
    }

    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining();
        loop {
            ready!(self.poll_read_ready(cx))?;
            let mut read = 0;
            let asked = on!(self, stream => stream.try_io(Interest::READABLE, || {
                read = stream.try_read_buf(buffer)?;
                // Less than there was room for was all that there was. To say so here saves the system call that would find it.
                match read {
                    1.. if read < room => Err(io::ErrorKind::WouldBlock.into()),
                    _ => Ok(()),
                }
            }));
            match asked {
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock && read == 0 => {}
                Err(failure) if failure.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(failure));
                }
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Reads what there is, once there is something. 0 is the end.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.ready(Interest::READABLE).await?;
            match self.try_read(buffer) {
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// hyper writes whole messages: waiting to fill a segment would only add latency. And what the system holds for the client
    /// is bounded, or a steady reader of megabytes would look as if it took nothing for seconds.
    pub(super) fn send_at_once(&self) -> io::Result<()> {
        let Self::Tcp(stream) = self else {
            return Ok(());
        };
        #[cfg(target_os = "linux")]
        SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES)?;
        stream.set_nodelay(true)
    }

    /// Says that nothing more will come.
    pub(super) fn close_our_half(&self) -> io::Result<()> {
        on!(self, stream => SockRef::from(stream).shutdown(Shutdown::Write))
    }

    /// Makes the close a reset, where there is one: what the client has not taken is thrown away at both ends.
    pub(super) fn reset_at_close(&self) {
        if let Self::Tcp(stream) = self {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Bytes that wait in the system to be sent, beyond what is on its way: beside it a reader of 100 kB/s moves each second.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_joined_as_far_as_they_are_few_bytes() {
        let (half, more) = ([1; FEW_BYTES / 2], [2; FEW_BYTES / 2 + 1]);
        let [half, more, empty] = [&half[..], &more, &[]].map(IoSlice::new);
        let mut few = [0; FEW_BYTES];
        assert_eq!(joined(&[], &mut few), Some(&[][..]));
        let whole = joined(&[half, empty, half], &mut few);
        assert_eq!(whole, Some(&[1; FEW_BYTES][..]));
        assert_eq!(joined(&[half, more], &mut few), None);
    }
}
