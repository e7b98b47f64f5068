//! Where the operator's door is, and who comes through it.

use std::fmt;
use std::fs;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use tokio::io::{AsyncRead, AsyncWrite};

use super::keys::Keys;
use crate::limits;
use crate::secret::Secret;
use crate::server::{SocketFile, Tls, TlsConfig, UnixError, UnixSocket, bind_unix, counted_as};
use crate::values;

/// Where the operator's door is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket: whoever may open it may come in.
    Unix(PathBuf),
    /// TCP: whoever has the token, or a certificate that is known, may come in.
    Tcp(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "http://{address}/"),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    /// `/run/host/admin.sock`, `unix:admin.sock`, `127.0.0.1:9000`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("a Unix socket has a path: write `unix:PATH`".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None if text.contains('/') => Ok(Self::Unix(text.into())),
            None => values::address(text)
                .map(Self::Tcp)
                .map_err(|_| "neither a socket nor an address: write a path with a `/` in it, or `127.0.0.1:9000`".to_owned()),
        }
    }
}

/// What tells the host who a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(Secret);

impl Token {
    /// What stands in a file, without the space around it.
    ///
    /// # Errors
    /// When it cannot be read, or what is in it can be guessed.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let shown = file.display();
        let text =
            fs::read_to_string(file).with_context(|| format!("reading the token in `{shown}`"))?;
        Self::new(text.trim().to_owned().into(), &format!("`{shown}`"))
    }

    /// A text that is kept at `place`.
    ///
    /// # Errors
    /// When it can be guessed.
    pub fn new(token: Secret, place: &str) -> anyhow::Result<Self> {
        let text = token.reveal();
        if text.len() < limits::ADMIN_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!(
                "{place} has no token: write one line of {} characters or more into it, as `openssl rand -hex 32` makes it",
                limits::ADMIN_TOKEN
            );
        }
        Ok(Self(token))
    }

    /// The text, for the header that shows it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

/// A door that is open but answers nobody yet. Its socket goes with it.
pub struct Door {
    /// Where it is: the port that it got, if any was asked for.
    pub address: Address,
    /// Who may come in.
    pub keys: Arc<Keys>,
    /// What it has for TLS.
    pub tls: Option<Arc<Tls>>,
    listener: Listener,
}

/// As a client writes it.
impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp(address) if self.tls.is_some() => write!(f, "https://{address}/"),
            address => address.fmt(f),
        }
    }
}

/// From the standard library: the runtime that will wait on it does not exist yet.
enum Listener {
    Unix(PathBuf, (std::os::unix::net::UnixListener, SocketFile)),
    Tcp(std::net::TcpListener),
}

impl Door {
    /// Opens the door. A Unix socket is for its owner alone; one that a dead host left is replaced.
    ///
    /// # Errors
    /// When a live host has the socket, the address cannot be had, a certificate is not good, or there is neither a token
    /// nor a known certificate for TCP.
    pub fn open(
        address: &Address,
        token: Option<Token>,
        tls: Option<TlsConfig>,
    ) -> anyhow::Result<Self> {
        let knows_certificates = tls
            .as_ref()
            .is_some_and(|tls| tls.client_certificates.is_some());
        let tls = tls.map(Tls::load_for_http_1).transpose()?.map(Arc::new);
        let keys = Arc::new(Keys::new(token.as_ref()));
        match address {
            Address::Unix(path) => {
                if tls.is_some() {
                    bail!(
                        "an admin door on a Unix socket has no TLS: leave it out, or name an address"
                    );
                }
                Ok(Self {
                    listener: Listener::Unix(path.clone(), bind(path)?),
                    address: address.clone(),
                    keys,
                    tls,
                })
            }
            Address::Tcp(at) => {
                if token.is_none() && !knows_certificates {
                    bail!(
                        "an admin door on TCP is everybody's: protect it with `--admin-token-file`, or with `--admin-tls-cert` and `--admin-client-ca`, or use a Unix socket"
                    );
                }
                let listener = std::net::TcpListener::bind(at)
                    .with_context(|| format!("the admin door cannot be opened on `{at}`"))?;
                Ok(Self {
                    address: Address::Tcp(
                        listener
                            .local_addr()
                            .context("asking for the address of the admin door")?,
                    ),
                    listener: Listener::Tcp(listener),
                    keys,
                    tls,
                })
            }
        }
    }

    /// Made inside the runtime that will wait on it.
    pub(super) fn accepting(self) -> io::Result<Accepting> {
        Ok(match self.listener {
            Listener::Unix(path, bound) => {
                let again = Box::new(move || bind(&path));
                Accepting::Unix(UnixSocket::new(bound, again)?)
            }
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                Accepting::Tcp(listener, self.tls)
            }
        })
    }
}

/// A door that lets in.
pub(super) enum Accepting {
    Unix(UnixSocket),
    Tcp(tokio::net::TcpListener, Option<Arc<Tls>>),
}

/// A connection, and who is at its other end as far as is known.
pub(super) struct Visitor {
    pub(super) io: Box<dyn Io>,
    pub(super) who: Arc<str>,
    /// It is not known yet: a token must be shown.
    pub(super) needs_token: bool,
    /// With whom hands are shaken first.
    pub(super) tls: Option<Arc<Tls>>,
    /// Whence he comes, over TCP.
    pub(super) address: Option<IpAddr>,
}

impl Visitor {
    /// Shakes hands, if the door has TLS. Whose certificate is known needs no token.
    pub(super) async fn shaken(self) -> io::Result<Self> {
        let Some(tls) = self.tls else {
            return Ok(self);
        };
        let (io, certificate) = tls.accept(self.io).await?;
        let who = match &certificate {
            Some(shown) => shown
                .subject
                .to_str()
                .map(|it| format!("certificate {it}").into()),
            None => Ok(self.who),
        };
        Ok(Self {
            io: Box::new(io),
            who: who.map_err(|_| io::ErrorKind::InvalidData)?,
            needs_token: certificate.is_none(),
            tls: None,
            address: self.address,
        })
    }
}

/// What bytes come through.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

impl Accepting {
    pub(super) async fn accept(&mut self) -> io::Result<Visitor> {
        Ok(match self {
            Self::Unix(door) => {
                let stream = poll_fn(|cx| door.poll_accept(cx)).await?;
                let uid = stream.peer_cred()?.uid();
                Visitor {
                    io: Box::new(stream),
                    who: format!("uid {uid}").into(),
                    needs_token: false,
                    tls: None,
                    address: None,
                }
            }
            Self::Tcp(listener, tls) => {
                let (stream, from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Visitor {
                    io: Box::new(stream),
                    who: "token".into(),
                    needs_token: true,
                    tls: tls.clone(),
                    address: Some(counted_as(from.ip())),
                }
            }
        })
    }
}

/// For its owner alone, in a directory that is made for it.
fn bind(path: &Path) -> anyhow::Result<(std::os::unix::net::UnixListener, SocketFile)> {
    use std::os::unix::fs::DirBuilderExt as _;
    let shown = path.display();
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent);
    made.with_context(|| format!("the admin door cannot be opened at `{shown}`"))?;
    bind_unix(path, 0o600).map_err(|error| match error {
        UnixError::NoSocket(_) => anyhow!(
            "`{shown}` is there and is no socket: name another place with `--admin`"
        ),
        UnixError::InUse(_) => anyhow!(
            "a host that runs has the admin door `{shown}`: stop it, or name another place with `--admin`"
        ),
        UnixError::Failed(_, error) => {
            anyhow!(error).context(format!("the admin door cannot be opened at `{shown}`"))
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_socket_of_a_dead_host_is_replaced_and_one_of_a_live_host_is_not() {
        let here = tempfile::tempdir().expect("a directory");
        let address = Address::Unix(here.path().join("deep/admin.sock"));
        let Address::Unix(path) = &address else {
            unreachable!()
        };
        let open = || Door::open(&address, None, None);
        let door = open().expect("opened");
        let mode = fs::metadata(path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let refused = open().err().expect("in use").to_string();
        assert!(refused.contains("a host that runs"), "{refused}");
        drop(door);
        assert!(!path.exists());
        // As after `kill -9`: the name stays, and nobody listens.
        let dead = std::os::unix::net::UnixListener::bind(path).expect("bound");
        drop(dead);
        drop(open().expect("replaced"));
        assert!(!path.exists());
        fs::write(path, "a file").expect("written");
        let refused = open().err().expect("no socket").to_string();
        assert!(refused.contains("no socket"), "{refused}");
    }
}
