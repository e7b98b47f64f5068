//! A server elsewhere that answers as a test says, byte by byte.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::{Authority, PATIENCE, Signed};

/// What a test does with a request: its head, as it came, and the connection behind it. An error ends the connection.
type Answer = dyn Fn(&str, &mut Wire) -> io::Result<()> + Send + Sync;

/// It listens on a port of 127.0.0.1 until it is dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    heads: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

/// A connection, in the clear or over TLS.
pub(crate) enum Wire {
    Clear(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Upstream {
    /// In the clear.
    pub(crate) fn new(
        answer: impl Fn(&str, &mut Wire) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::serve(None, Arc::new(answer))
    }

    /// Over TLS, with a certificate for `localhost`; clients show one of `clients`, if it is said.
    pub(crate) fn tls(
        own: &Signed,
        clients: Option<&Authority>,
        answer: impl Fn(&str, &mut Wire) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                let ca = CertificateDer::from_pem_slice(clients.pem().as_bytes()).expect("PEM");
                roots.add(ca).expect("an authority");
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let cert = CertificateDer::from_pem_slice(own.cert.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("PEM");
        let config = builder.with_single_cert(vec![cert], key).expect("a pair");
        Self::serve(Some(Arc::new(config)), Arc::new(answer))
    }

    /// Answers `200` with `hello` to everybody, and keeps connections.
    pub(crate) fn hello() -> Self {
        Self::new(|_, wire| wire.hello())
    }

    fn serve(tls: Option<Arc<ServerConfig>>, answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let seen: Arc<Seen> = Arc::default();
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.is_over.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                stream.set_read_timeout(Some(PATIENCE)).expect("set");
                stream.set_write_timeout(Some(PATIENCE)).expect("set");
                shared.connections.fetch_add(1, Ordering::AcqRel);
                let open = shared.open.fetch_add(1, Ordering::AcqRel) + 1;
                shared.most_open.fetch_max(open, Ordering::AcqRel);
                let (tls, answer, shared) = (tls.clone(), Arc::clone(&answer), Arc::clone(&shared));
                thread::spawn(move || {
                    // How a connection ends is the test's affair.
                    let _ = connection(stream, tls, &*answer, &shared);
                    shared.open.fetch_sub(1, Ordering::AcqRel);
                });
            }
        });
        Self { address, seen }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `SCHEME://localhost:PORT`.
    pub(crate) fn named(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}", self.address.port())
    }

    /// Connections that were made.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Acquire)
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.seen.open.load(Ordering::Acquire)
    }

    /// Connections that were open at once.
    pub(crate) fn most_open(&self) -> usize {
        self.seen.most_open.load(Ordering::Acquire)
    }

    /// Heads of the requests that came.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.seen.heads.lock().expect("no panic").clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.seen.is_over.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
    }
}

fn connection(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    answer: &Answer,
    seen: &Seen,
) -> io::Result<()> {
    let mut wire = match tls {
        None => Wire::Clear(stream),
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(io::Error::other)?;
            Wire::Tls(Box::new(StreamOwned::new(connection, stream)))
        }
    };
    while let Some(head) = wire.head()? {
        seen.heads.lock().expect("no panic").push(head.clone());
        answer(&head, &mut wire)?;
        wire.flush()?;
    }
    Ok(())
}

impl Wire {
    /// Up to the empty line. None at the end.
    fn head(&mut self) -> io::Result<Option<String>> {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            if self.read(&mut byte)? == 0 {
                return Ok(None);
            }
            head.push(byte[0]);
        }
        Ok(Some(String::from_utf8_lossy(&head).into_owned()))
    }

    pub(crate) fn hello(&mut self) -> io::Result<()> {
        self.say("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n")
    }

    pub(crate) fn say(&mut self, text: &str) -> io::Result<()> {
        self.write_all(text.as_bytes())?;
        self.flush()
    }

    /// Waits for so long, or until the other side says something or closes.
    pub(crate) fn pause(&mut self, time: Duration) -> io::Result<()> {
        let stream = self.stream();
        stream.set_read_timeout(Some(time))?;
        let _ = stream.peek(&mut [0]);
        stream.set_read_timeout(Some(PATIENCE))
    }

    /// Says the same for ever. What the other side answers is read, so that it goes on listening.
    pub(crate) fn flood(&mut self, with: &[u8]) -> io::Result<()> {
        let many = with.repeat(1_000);
        loop {
            self.write_all(&many)?;
            self.flush()?;
            self.stream().set_nonblocking(true)?;
            let answered = io::copy(self, &mut io::sink());
            self.stream().set_nonblocking(false)?;
            match answered {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It has closed, or broken off.
                ended => return ended.map(drop),
            }
        }
    }

    fn stream(&self) -> &TcpStream {
        match self {
            Self::Clear(stream) => stream,
            Self::Tls(tls) => &tls.sock,
        }
    }

    /// Reads until the other side closes.
    pub(crate) fn until_closed(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(drop)
    }

    /// A body in chunks, with what follows it.
    pub(crate) fn chunked(&mut self) -> io::Result<String> {
        let (mut text, mut byte) = (Vec::new(), [0]);
        while !text.ends_with(b"\r\n\r\n") || !is_whole(&text) {
            self.read_exact(&mut byte)?;
            text.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Closes it with what has not been read.
    pub(crate) fn close(&mut self) -> io::Error {
        let _ = self.stream().shutdown(Shutdown::Both);
        io::ErrorKind::ConnectionAborted.into()
    }
}

/// The last chunk has come.
fn is_whole(text: &[u8]) -> bool {
    text.starts_with(b"0\r\n") || text.windows(5).any(|part| part == b"\r\n0\r\n")
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
