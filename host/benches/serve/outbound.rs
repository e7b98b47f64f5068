//! Requests that a guest sends elsewhere: over connections that are kept, and over one for each request.
//!
//! A guest sends many requests for each that it gets, so that what is measured is the way out and not the way in. The upstream
//! is hyper, in this process; it closes connections where it is asked to.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::NoServerSessionStorage;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::answer::Answer;
use crate::contender::{Contender, Installed};
use crate::guests::Guests;
use crate::load::HELLO;
use crate::report::{Section, Table};
use crate::server::Server;
use crate::spread::Spread;
use crate::turn;

/// Connections to the host, and requests that its guest sends for each that it gets.
const CLIENTS: usize = 8;
const AT_ONCE: usize = 50;

/// A way out: how it is called, where it goes, and the part of which other way's requests are asked of it at least.
struct Way {
    name: &'static str,
    url: String,
    beside: Option<(usize, &'static str)>,
}

pub(crate) fn measure(
    rounds: u32,
    period: Duration,
    guests: &Guests,
    installed: &Installed,
) -> anyhow::Result<Section> {
    let upstream = Upstream::start()?;
    let file = host_file(&guests.faults, &upstream.ca)?;
    let host = installed.host("outbound", &file, &[]);
    let ways = upstream.ways();
    let mut samples: Vec<Vec<f64>> = ways.iter().map(|_| Vec::new()).collect();
    let mut notes = Vec::new();
    for round in 1..=rounds {
        for (way, samples) in ways.iter().zip(&mut samples) {
            eprintln!("outbound, round {round} of {rounds}: {}", way.name);
            samples.extend(turn(round, &host, sample(&host, way, period), &mut notes));
        }
    }
    Ok(Section {
        title: "Outbound requests",
        made: format!(
            "A 0.2 guest sends {AT_ONCE} requests in a row to a local upstream for each that it gets, and reads each answer to its \
             end, over {CLIENTS} connections at once, {rounds} rounds of {period:?} after a second of warming up; median \
             (least–most). The upstream is hyper in the process that measures, and shares the cores. One that closes says so in \
             each answer. A connection for one request over TLS has a whole handshake, in which the certificate is verified, \
             unless sessions are taken up."
        ),
        table: table(&ways, &samples),
        notes,
    })
}

fn sample(host: &Contender, way: &Way, period: Duration) -> anyhow::Result<f64> {
    let server = Server::start(host)?;
    load(server.address, way, Duration::from_secs(1))?;
    load(server.address, way, period)
}

/// Requests that arrived at the upstream, a second.
fn load(address: SocketAddr, way: &Way, period: Duration) -> anyhow::Result<f64> {
    let start = Instant::now();
    let end = start + period;
    let request = format!(
        "GET /fetch-many?n={AT_ONCE}&url={} HTTP/1.1\r\nhost: localhost\r\n\r\n",
        way.url
    );
    let request = &request;
    let asked: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(move || ask_until(address, end, request)))
            .collect();
        let join = |client: thread::ScopedJoinHandle<'_, _>| client.join().expect("no panic");
        clients.into_iter().map(join).sum::<anyhow::Result<usize>>()
    })?;
    Ok((asked * AT_ONCE) as f64 / start.elapsed().as_secs_f64())
}

fn ask_until(address: SocketAddr, end: Instant, request: &str) -> anyhow::Result<usize> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let whole = format!("{AT_ONCE} of {AT_ONCE}\n");
    let mut buffer = [0; 4096];
    let mut asked = 0;
    while Instant::now() < end {
        stream.write_all(request.as_bytes())?;
        let mut answer = Answer::new();
        let mut last = Vec::new();
        while {
            let read = stream.read(&mut buffer)?;
            ensure!(read > 0, "the connection closed before the answer's end");
            last.extend_from_slice(&buffer[..read]);
            !answer.read(&buffer[..read])?
        } {}
        let is_whole = String::from_utf8_lossy(&last).contains(&whole);
        ensure!(is_whole, "{}", String::from_utf8_lossy(&last));
        asked += 1;
    }
    Ok(asked)
}

fn table(ways: &[Way], samples: &[Vec<f64>]) -> Table {
    let mut table = Table::new(&["connections", "requests/s", "times the other"]);
    let spread = |samples: &[f64]| Spread::of(samples.iter().copied());
    for (way, own) in ways.iter().zip(samples) {
        let own = spread(own);
        let ratio = way.beside.and_then(|(other, asked)| {
            let (own, other) = (own.as_ref()?, spread(samples.get(other)?)?);
            Some(format!("{:.1} {asked}", own.median / other.median))
        });
        table.row([
            way.name.to_owned(),
            own.map_or_else(|| "failed".into(), |own| own.to_string()),
            ratio.unwrap_or_default(),
        ]);
    }
    table
}

/// The file of a host whose guest may reach the upstream. It lies beside the authority's certificate.
fn host_file(guest: &Path, ca: &Path) -> anyhow::Result<PathBuf> {
    let file = ca.with_file_name("host.toml");
    let text = format!(
        "[listen]\naccess_log = \"off\"\n[handlers.faults]\nsource = {:?}\nroutes = [\"/*\"]\n[handlers.faults.limits]\nmax_instance_reuse_count = 1000\n\
         [handlers.faults.outbound]\nallow = [\"http://127.0.0.1:*\", {{ to = \"https://127.0.0.1:*\", ca = {:?} }}]\n",
        guest.display().to_string(),
        ca.display().to_string(),
    );
    fs::write(&file, text).with_context(|| format!("writing `{}`", file.display()))?;
    Ok(file)
}

/// Servers of the same answer. Its threads end with it.
struct Upstream {
    _runtime: Runtime,
    _directory: tempfile::TempDir,
    ca: PathBuf,
    clear: SocketAddr,
    /// TLS with HTTP/1.1, whose sessions can be taken up again.
    tls: SocketAddr,
    /// The same without.
    tls_anew: SocketAddr,
    h2: SocketAddr,
}

impl Upstream {
    fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let directory = tempfile::tempdir()?;
        let ca = directory.path().join("ca.pem");
        fs::write(&ca, certified.cert.pem())?;
        let acceptor = |protocol: &str, keeps_sessions| {
            tls(&certified, protocol, keeps_sessions).map(|config| Some(TlsAcceptor::from(config)))
        };
        let _in_runtime = runtime.enter();
        Ok(Self {
            clear: runtime.block_on(listen(None, false))?,
            tls: runtime.block_on(listen(acceptor("http/1.1", true)?, false))?,
            tls_anew: runtime.block_on(listen(acceptor("http/1.1", false)?, false))?,
            h2: runtime.block_on(listen(acceptor("h2", true)?, true))?,
            ca,
            _directory: directory,
            _runtime: runtime,
        })
    }

    fn ways(&self) -> Vec<Way> {
        let way = |name, scheme: &str, address: SocketAddr, path: &str, beside| Way {
            name,
            url: format!("{scheme}://{address}/{path}"),
            beside,
        };
        vec![
            way("one each, in the clear", "http", self.clear, "close", None),
            way(
                "kept, in the clear",
                "http",
                self.clear,
                "keep",
                Some((0, "(≥ 2)")),
            ),
            way("one each, TLS", "https", self.tls_anew, "close", None),
            way(
                "one each, TLS, sessions taken up",
                "https",
                self.tls,
                "close",
                Some((2, "")),
            ),
            way("kept, TLS", "https", self.tls, "keep", Some((2, "(≥ 10)"))),
            way(
                "kept, TLS, HTTP/2",
                "https",
                self.h2,
                "keep",
                Some((2, "(≥ 10)")),
            ),
        ]
    }
}

fn tls(
    certified: &CertifiedKey<KeyPair>,
    protocol: &str,
    keeps_sessions: bool,
) -> anyhow::Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der())
        .map_err(anyhow::Error::msg)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)?;
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    if !keeps_sessions {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

async fn listen(acceptor: Option<TlsAcceptor>, is_h2: bool) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            stream.set_nodelay(true).ok();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match acceptor {
                    None => serve(stream, is_h2).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve(stream, is_h2).await;
                        }
                    }
                }
            });
        }
    });
    Ok(address)
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, is_h2: bool) {
    let io = TokioIo::new(stream);
    // How a connection ends is the client's affair.
    if is_h2 {
        let builder = http2::Builder::new(TokioExecutor::new());
        builder.serve_connection(io, service_fn(answer)).await.ok();
    } else {
        let builder = http1::Builder::new();
        builder.serve_connection(io, service_fn(answer)).await.ok();
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let mut response = Response::new(Full::from(HELLO));
    if request.uri().path() == "/close" {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Ok(response)
}

/// For an answer: many requests are in it.
const PATIENCE: Duration = Duration::from_secs(20);
