//! A Unix socket that clients find by its path. Whoever clears a directory may take the path away while the host listens, and nobody
//! comes in any more: then it is bound again. It is looked at now and then, since directories of sockets change all the time.

use std::io;
use std::os::unix::net;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, Sleep, sleep};

use super::listener::SocketFile;
use crate::limits;

/// A socket that listens, and its path if that is ours.
type Bound = (net::UnixListener, SocketFile);

/// Binds the path, or says why that cannot be done.
pub(super) type Bind = Box<dyn Fn() -> anyhow::Result<Bound> + Send + Sync>;

/// A listener on a Unix socket.
pub struct UnixSocket {
    // Dropped before the listener: until then nobody else can have its inode.
    path: Option<OwnPath>,
    listener: UnixListener,
}

struct OwnPath {
    file: SocketFile,
    bind: Bind,
    next_look: Pin<Box<Sleep>>,
    /// It was told that the path cannot be had.
    is_told: bool,
}

impl UnixSocket {
    /// Listens on what is bound, which `bind` can bind again. To be called within a runtime.
    ///
    /// # Errors
    /// When the system can watch no more sockets.
    pub fn new((listener, file): Bound, bind: Bind) -> io::Result<Self> {
        let path = OwnPath {
            file,
            bind,
            next_look: Box::pin(sleep(limits::SOCKET_LOOK)),
            is_told: false,
        };
        Ok(Self {
            listener: listening(listener)?,
            path: Some(path),
        })
    }

    /// Listens on what somebody else has bound, whose path it is. To be called within a runtime.
    pub(super) fn of_others(listener: net::UnixListener) -> io::Result<Self> {
        Ok(Self {
            listener: listening(listener)?,
            path: None,
        })
    }

    /// The next client. One task at a time is woken.
    ///
    /// # Errors
    /// What the system says.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        loop {
            // Those who have found it come first: with the listener they would be gone.
            if let Poll::Ready(accepted) = self.listener.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
            let Some(path) = &mut self.path else {
                return Poll::Pending;
            };
            ready!(path.next_look.as_mut().poll(cx));
            if let Some(again) = path.look() {
                self.listener = again;
            }
        }
    }
}

impl OwnPath {
    /// A new listener, if the path is not this one's any more. What somebody else has there that answers is left to him.
    fn look(&mut self) -> Option<UnixListener> {
        if self.file.is_there() {
            self.is_told = false;
            self.look_again_in(limits::SOCKET_LOOK);
            return None;
        }
        let bound = (self.bind)().and_then(|(listener, file)| Ok((listening(listener)?, file)));
        match bound {
            Ok((listener, file)) => {
                tracing::warn!(
                    "`unix:{}` was taken away: it is bound again",
                    file.path().display()
                );
                (self.file, self.is_told) = (file, false);
                self.look_again_in(limits::SOCKET_LOOK);
                Some(listener)
            }
            Err(why) => {
                if !self.is_told {
                    tracing::error!(
                        "`unix:{}` was taken away, and is bound again as soon as that can be: {why:#}",
                        self.file.path().display()
                    );
                }
                self.is_told = true;
                self.look_again_in(limits::SOCKET_TAKEN_LOOK);
                None
            }
        }
    }

    fn look_again_in(&mut self, time: Duration) {
        self.next_look.as_mut().reset(Instant::now() + time);
    }
}

fn listening(listener: net::UnixListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}
