//! Where clients come in: an address, a Unix socket, or a socket that systemd has opened, each with or without TLS and
//! with or without a proxy in front that says for whom it speaks.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use anyhow::Context as _;
use http::uri::Scheme;
use socket2::{Domain, Protocol, Type};
use tokio::net::TcpListener;

use super::inherited;
use super::socket::Socket;
use super::tls::{Tls, TlsConfig};
use super::unix::{Bind, UnixSocket};
use crate::client::{Client, Peer, Stall};
use crate::limits;
use crate::values;

/// A listener to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Where.
    pub place: Place,
    /// Whether all who come are proxies that begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// None: in the clear.
    pub tls: Option<TlsConfig>,
}

impl ListenerConfig {
    /// In the clear, for everybody.
    #[must_use]
    pub fn at(place: Place) -> Self {
        Self {
            place,
            proxy_protocol: false,
            tls: None,
        }
    }
}

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// TCP; port 0 is any free one. `[::]` takes IPv4 too, unless there is another listener for that.
    Address(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Who may connect: the rights of its file.
        mode: u32,
    },
    /// Every socket that systemd passes under this name (`FileDescriptorName=`).
    Systemd(String),
}

impl FromStr for Place {
    type Err = String;

    /// `127.0.0.1:8080`, `unix:/run/host.sock`, `systemd:web`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("unix", "")) => Err("a Unix socket has a path: write `unix:PATH`".to_owned()),
            Some(("unix", path)) => Ok(Self::Unix {
                path: path.into(),
                mode: limits::SOCKET_MODE,
            }),
            Some(("systemd", "")) => {
                Err("a socket of systemd has a name: write `systemd:NAME`".to_owned())
            }
            Some(("systemd", name)) => Ok(Self::Systemd(name.to_owned())),
            _ => values::address(text).map(Self::Address),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// A listener that is open.
pub struct Listener {
    /// Where it was asked for.
    pub place: Place,
    socket: Kind,
    at: At,
    pub(super) terms: Arc<Terms>,
}

enum Kind {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// Where it is, now that it is known.
enum At {
    Address(SocketAddr),
    Unix(PathBuf),
}

/// What holds for whoever comes in here.
pub(super) struct Terms {
    pub(super) proxy_protocol: bool,
    pub(super) tls: Option<Arc<Tls>>,
}

/// Opens all of them, or none. To be called within a runtime.
///
/// # Errors
/// When one cannot be had, or its certificates cannot, with what to do.
pub fn open(listeners: &[ListenerConfig]) -> anyhow::Result<Vec<Listener>> {
    let mut open = Vec::new();
    for one in listeners {
        let tls = one.tls.clone().map(Tls::load).transpose()?.map(Arc::new);
        let terms = Arc::new(Terms {
            proxy_protocol: one.proxy_protocol,
            tls,
        });
        for (socket, at) in one.place.open(listeners)? {
            open.push(Listener {
                place: one.place.clone(),
                socket,
                at,
                terms: Arc::clone(&terms),
            });
        }
    }
    Ok(open)
}

impl Place {
    /// There is at least one. `beside` are all listeners of the host.
    fn open(&self, beside: &[ListenerConfig]) -> anyhow::Result<Vec<(Kind, At)>> {
        let failed = |source| BindError {
            place: self.clone(),
            source,
        };
        let one = match self {
            Self::Address(address) => {
                let has_other = |it: &ListenerConfig| match it.place {
                    Self::Address(other) => other.is_ipv4() && other.port() == address.port(),
                    _ => false,
                };
                let only_v6 = address.is_ipv6() && beside.iter().any(has_other);
                let listener = bind(*address, only_v6).map_err(failed)?;
                let address = listener.local_addr().map_err(failed)?;
                (Kind::Tcp(listener), At::Address(address))
            }
            Self::Unix { path, mode } => {
                let (at, mode) = (path.clone(), *mode);
                let bind: Bind = Box::new(move || Ok(bind_unix(&at, mode)?));
                let door = UnixSocket::new(bind()?, bind).map_err(failed)?;
                (Kind::Unix(door), At::Unix(path.clone()))
            }
            Self::Systemd(name) => {
                let sockets = inherited::take(name)?;
                let sockets = sockets.into_iter().map(of_systemd);
                return sockets
                    .collect::<io::Result<_>>()
                    .with_context(|| format!("the sockets `{name}` of systemd cannot be used"));
            }
        };
        Ok(vec![one])
    }
}

fn bind(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the last connections of its predecessor to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    if only_v6 {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn of_systemd(socket: inherited::Socket) -> io::Result<(Kind, At)> {
    match socket {
        inherited::Socket::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((
                Kind::Tcp(TcpListener::from_std(listener)?),
                At::Address(address),
            ))
        }
        inherited::Socket::Unix(listener) => {
            let address = listener.local_addr()?;
            let path = address.as_pathname().unwrap_or(Path::new("")).to_owned();
            Ok((Kind::Unix(UnixSocket::of_others(listener)?), At::Unix(path)))
        }
    }
}

impl Listener {
    /// Its address, with the port that it got. None: it is a Unix socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self.at {
            At::Address(address) => Some(address),
            At::Unix(_) => None,
        }
    }

    /// What it has for TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.terms.tls.as_ref()
    }

    /// The next client. One task at a time is woken.
    pub(super) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Socket, Client)>> {
        let (socket, remote, local) = match &mut self.socket {
            Kind::Tcp(listener) => {
                let (stream, remote) = ready!(listener.poll_accept(cx))?;
                // A client that is already gone has no local address.
                let local = stream.local_addr().map_err(|_| GONE)?;
                let [remote, local] = [remote, local].map(canonical);
                (
                    Socket::Tcp(stream),
                    Peer::Address(remote),
                    Peer::Address(local),
                )
            }
            Kind::Unix(door) => {
                let stream = ready!(door.poll_accept(cx))?;
                (Socket::Unix(stream), Peer::Unix, Peer::Unix)
            }
        };
        let client = Client {
            remote,
            local,
            scheme: Scheme::HTTP,
            certificate: None,
            stall: Stall::default(),
        };
        Poll::Ready(Ok((socket, client)))
    }
}

/// One of IPv4 that has come to a socket of both families, as it is written elsewhere.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

const GONE: io::ErrorKind = io::ErrorKind::ConnectionAborted;

/// As a client writes it.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.terms.tls.is_some() {
            "https"
        } else {
            "http"
        };
        match &self.at {
            At::Address(address) => write!(f, "{scheme}://{address}/"),
            At::Unix(path) if scheme == "https" => {
                write!(f, "unix:{} (https)", path.display())
            }
            At::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Connections the kernel may hold for us; it cuts this to `net.core.somaxconn`, whose default is the same.
const BACKLOG: i32 = 4096;

/// The file of a Unix socket. It goes with this value, unless another has taken its place.
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its path still leads to it. No other has its inode for as long as somebody listens.
    pub(super) fn is_there(&self) -> bool {
        inode(&self.path).is_ok_and(|now| now == self.inode)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            // A name that stays is replaced by the next host.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let there = fs::symlink_metadata(path)?;
    Ok((there.dev(), there.ino()))
}

/// Whether somebody listens there. It does not wait.
fn knock(path: &Path) -> io::Result<()> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&socket2::SockAddr::unix(path)?)
}

/// Listens on a Unix socket with these rights. It is made under another name, where nobody else can reach it before it
/// has them; then it takes the place of what a dead process has left there.
///
/// # Errors
/// When a live process has the socket, when something else is there, or when the place is not ours.
pub fn bind_unix(
    path: &Path,
    mode: u32,
) -> Result<(std::os::unix::net::UnixListener, SocketFile), UnixError> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(UnixError::NoSocket(path.to_owned()));
        }
        Ok(_) => match knock(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // It has no room for one more just now.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                return Err(UnixError::Failed(path.to_owned(), error));
            }
            Ok(()) | Err(_) => return Err(UnixError::InUse(path.to_owned())),
        },
        Err(_) => {}
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let open = || {
        let own = tempfile::Builder::new()
            .prefix(".a")
            .rand_bytes(6)
            .tempdir_in(parent)?;
        let made = own.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&made)?;
        fs::set_permissions(&made, fs::Permissions::from_mode(mode))?;
        let inode = inode(&made)?;
        fs::rename(made, path)?;
        let path = path.to_owned();
        Ok((listener, SocketFile { path, inode }))
    };
    open().map_err(|error| UnixError::Failed(path.to_owned(), error))
}

/// Why there is no Unix socket.
#[derive(Debug)]
pub enum UnixError {
    /// There is something else at its place.
    NoSocket(PathBuf),
    /// Somebody listens there.
    InUse(PathBuf),
    /// What the system said.
    Failed(PathBuf, io::Error),
}

impl fmt::Display for UnixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSocket(path) => write!(
                f,
                "cannot listen on `unix:{}`: it is there and is no socket: choose another path",
                path.display()
            ),
            Self::InUse(path) => write!(
                f,
                "cannot listen on `unix:{}`: another program does: stop it or choose another path",
                path.display()
            ),
            Self::Failed(path, error) if error.kind() == io::ErrorKind::NotFound => write!(
                f,
                "cannot listen on `unix:{}`: its directory is not there: make it first",
                path.display()
            ),
            Self::Failed(path, error) => {
                write!(f, "cannot listen on `unix:{}`: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for UnixError {}

/// Why a listener on an address did not open.
#[derive(Debug)]
struct BindError {
    place: Place,
    source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.place;
        match self.source.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on `{place}`: another program does: stop it or choose another port"
            ),
            io::ErrorKind::PermissionDenied => write!(
                f,
                "may not listen on `{place}`: choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE"
            ),
            io::ErrorKind::AddrNotAvailable => write!(
                f,
                "cannot listen on `{place}`: no interface of this machine has that address"
            ),
            _ => write!(f, "cannot listen on `{place}`: {}", self.source),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_a_path_or_a_name() {
        let unix = Place::Unix {
            path: "a:b.sock".into(),
            mode: limits::SOCKET_MODE,
        };
        assert_eq!("unix:a:b.sock".parse(), Ok(unix));
        assert_eq!("systemd:web".parse(), Ok(Place::Systemd("web".to_owned())));
        for address in ["127.0.0.1:80", "[::1]:80"] {
            let place: Place = address.parse().expect(address);
            assert_eq!(place.to_string(), address);
        }
        for bad in ["unix:", "systemd:", "127.0.0.1", "here"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_successors_socket_stays_when_its_predecessor_goes() {
        let here = tempfile::tempdir().expect("a directory");
        let path = here.path().join("s");
        let (first, file) = bind_unix(&path, 0o600).expect("bound");
        assert!(matches!(bind_unix(&path, 0o600), Err(UnixError::InUse(_))));
        // As a host that stops: it listens no more, and its file is still there.
        drop(first);
        let (_second, of_second) = bind_unix(&path, 0o600).expect("bound");
        drop(file);
        assert!(path.exists());
        drop(of_second);
        assert!(!path.exists());
    }
}
