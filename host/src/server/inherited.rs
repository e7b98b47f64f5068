//! Sockets that systemd has opened and passes on (`sd_listen_fds(3)`): they are there before the host is, and stay while
//! it restarts.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::bail;
use listenfd::ListenFd;
use socket2::SockRef;

/// One of them.
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    fn listens(&self) -> bool {
        let socket = match self {
            Self::Tcp(listener) => SockRef::from(listener),
            Self::Unix(listener) => SockRef::from(listener),
        };
        socket.is_listener().unwrap_or(false)
    }
}

/// The descriptors that this process was born with. There is one such set, and each is taken once.
static INHERITED: OnceLock<Mutex<Inherited>> = OnceLock::new();

struct Inherited {
    sockets: ListenFd,
    /// In the order of the descriptors.
    names: Vec<String>,
}

/// Notes what there is. Once, before there are threads: it takes `LISTEN_PID` and `LISTEN_FDS` away, without which no child
/// takes them for its own.
pub fn note_inherited() {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    INHERITED.get_or_init(|| {
        Mutex::new(Inherited {
            sockets: ListenFd::from_env(),
            names: names.split(':').map(str::to_owned).collect(),
        })
    });
}

/// Those of this name. There is at least one.
pub(super) fn take(name: &str) -> anyhow::Result<Vec<Socket>> {
    let Some(inherited) = INHERITED.get() else {
        bail!("systemd has passed no socket `{name}`: start the host by a `.socket` unit");
    };
    let mut inherited = inherited.lock().unwrap_or_else(PoisonError::into_inner);
    let Inherited { sockets, names } = &mut *inherited;
    let named = names.iter().take(sockets.len());
    let places: Vec<_> = named
        .enumerate()
        .filter(|(_, it)| *it == name)
        .map(|(place, _)| place)
        .collect();
    let mut found = Vec::new();
    for place in places {
        if let Ok(Some(socket)) = sockets.take_tcp_listener(place) {
            found.push(Socket::Tcp(socket));
        } else if let Ok(Some(socket)) = sockets.take_unix_listener(place) {
            found.push(Socket::Unix(socket));
        }
    }
    if !found.iter().all(Socket::listens) {
        bail!(
            "the socket `{name}` of systemd does not listen: its unit needs `ListenStream=`, and `Accept=no`"
        );
    }
    if found.is_empty() {
        let there: Vec<_> = names
            .iter()
            .take(sockets.len())
            .map(String::as_str)
            .collect();
        if there.is_empty() {
            bail!("systemd has passed no socket `{name}`: start the host by a `.socket` unit");
        }
        bail!(
            "systemd has passed no socket `{name}`, or it is taken: there are `{}`: name one, or set `FileDescriptorName={name}` in the `.socket` unit",
            there.join("`, `")
        );
    }
    Ok(found)
}
