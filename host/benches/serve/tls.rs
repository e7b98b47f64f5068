//! HTTPS: handshakes in full and resumed, requests over HTTP/1.1 and HTTP/2, and what an idle connection takes, beside nginx.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::attacks::{IDLE, PATIENT, raise_open_files};
use crate::contender::{Contender, Installed};
use crate::guests::Guests;
use crate::hello::{WARM_UP, micros};
use crate::load::{self, CONNECTIONS, HELLO, Load};
use crate::report::{Section, Table};
use crate::server::Server;
use crate::spread::Spread;
use crate::turn;

/// What is done over TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// A connection for each request, which a server has never seen.
    Full,
    /// The same by clients that were there before.
    Resumed,
    H1,
    /// One stream on each connection.
    H2,
    /// A hundred on one.
    H2Streams,
}

/// Streams at once on one connection.
const STREAMS: usize = 100;

const ALL: [Work; 5] = [
    Work::Full,
    Work::Resumed,
    Work::H1,
    Work::H2,
    Work::H2Streams,
];

impl Work {
    fn name(self) -> String {
        match self {
            Self::Full => "full handshakes".to_owned(),
            Self::Resumed => "resumed handshakes".to_owned(),
            Self::H1 => format!("HTTP/1.1, {CONNECTIONS} connections"),
            Self::H2 => format!("HTTP/2, {CONNECTIONS} connections"),
            Self::H2Streams => format!("HTTP/2, {STREAMS} streams on one connection"),
        }
    }
}

struct Row {
    work: Work,
    contender: Contender,
    /// Per second, and CPU time of the server for each in µs.
    samples: Vec<(f64, f64)>,
}

impl Row {
    fn median(&self, value: fn(&(f64, f64)) -> f64) -> Option<f64> {
        Some(Spread::of(self.samples.iter().map(value))?.median)
    }
}

pub(crate) fn measure(
    rounds: u32,
    period: Duration,
    guests: &Guests,
    installed: &Installed,
) -> anyhow::Result<Section> {
    let own = Own::make(installed.cache().parent().context("no directory")?)?;
    let mut notes = Vec::new();
    let mut rows = Vec::new();
    for work in ALL {
        let contenders = [Some(own.host(installed, guests)), own.nginx(installed)?];
        rows.extend(contenders.into_iter().flatten().map(|contender| Row {
            work,
            contender,
            samples: Vec::new(),
        }));
    }
    for round in 1..=rounds {
        for row in &mut rows {
            let name = row.work.name();
            eprintln!("tls, round {round} of {rounds}: {}, {name}", row.contender);
            let sample = own.sample(&row.contender, row.work, period);
            row.samples
                .extend(turn(round, &row.contender, sample, &mut notes));
        }
    }
    match own.idle(installed, guests) {
        Ok((host, nginx)) => {
            let nginx = nginx.map_or_else(String::new, |it| format!(", and {it} of nginx's"));
            notes.push(format!(
                "{IDLE} idle connections, each of which has had an answer over HTTP/1.1, take {host} bytes of the host's \
                 memory each{nginx}."
            ));
        }
        Err(why) => notes.push(format!("idle connections: {why:#}")),
    }
    Ok(Section {
        title: "TLS",
        made: format!(
            "TLS 1.3, an ECDSA P-256 certificate, the same answer as above: `host serve --max-instance-reuse-count 1000` \
             gets it from its guest, nginx from its configuration. A handshake is a connection with one request; a resumed \
             one shows the ticket of the one before, without which it fails here. {rounds} rounds of {period:?} after \
             {WARM_UP:?}; median (least–most). CPU time is the server's alone, in µs for each."
        ),
        table: table(&rows),
        notes,
    })
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "server",
        "a second",
        "CPU µs",
        "a second: nginx",
        "CPU: nginx",
    ]);
    for row in rows {
        let nginx = rows
            .iter()
            .find(|it| it.work == row.work && it.contender.program != row.contender.program)
            .filter(|_| row.contender.program == HOST);
        let ratio = |value: fn(&(f64, f64)) -> f64| {
            let ratio = row.median(value)? / nginx?.median(value)?;
            Some(format!("{ratio:.2}"))
        };
        let cell = |value: fn(&(f64, f64)) -> f64| {
            Spread::of(row.samples.iter().map(value))
                .map_or_else(|| "failed".to_owned(), |spread| spread.to_string())
        };
        table.row([
            format!("{}, {}", row.contender.program, row.work.name()),
            cell(|it| it.0),
            cell(|it| it.1),
            ratio(|it| it.0).unwrap_or_default(),
            ratio(|it| it.1).unwrap_or_default(),
        ]);
    }
    table
}

const HOST: &str = "host serve";

/// A certificate of our own, and who believes it.
struct Own {
    cert: PathBuf,
    key: PathBuf,
    roots: RootCertStore,
}

impl Own {
    fn make(directory: &Path) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        fs::write(&cert, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&cert)?)?;
        Ok(Self { cert, key, roots })
    }

    fn host(&self, installed: &Installed, guests: &Guests) -> Contender {
        let (cert, key) = (
            self.cert.display().to_string(),
            self.key.display().to_string(),
        );
        let flags = [
            "--tls-cert",
            &cert,
            "--tls-key",
            &key,
            "--max-instance-reuse-count=1000",
        ];
        installed.host("TLS", &guests.hello, &flags)
    }

    fn nginx(&self, installed: &Installed) -> anyhow::Result<Option<Contender>> {
        let settings = format!(
            "ssl_certificate {}; ssl_certificate_key {}; keepalive_timeout 600s;",
            self.cert.display(),
            self.key.display()
        );
        installed.nginx_with("TLS", "ssl http2", &settings)
    }

    fn connector(&self, protocol: &[u8], is_resuming: bool) -> TlsConnector {
        let mut config = ClientConfig::builder()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_owned()];
        if !is_resuming {
            config.resumption = Resumption::disabled();
        }
        TlsConnector::from(Arc::new(config))
    }

    fn sample(
        &self,
        contender: &Contender,
        work: Work,
        period: Duration,
    ) -> anyhow::Result<(f64, f64)> {
        let server = Server::start(contender)?;
        let address = server.address;
        self.run(work, address, WARM_UP)?;
        let before = server.cpu();
        let load = self.run(work, address, period)?;
        let cpu = server.cpu() - before;
        Ok((
            load.requests_per_second(),
            micros(cpu) / load.requests as f64,
        ))
    }

    fn run(&self, work: Work, address: SocketAddr, period: Duration) -> anyhow::Result<Load> {
        let request = load::request("/");
        match work {
            Work::Full | Work::Resumed => {
                load::on_all_threads(CONNECTIONS, period, |share, end| {
                    let asking = (0..share.count).map(|_| {
                        let connector = self.connector(H1, work == Work::Resumed);
                        handshakes(connector, address, end, work == Work::Resumed)
                    });
                    try_join_all(asking)
                })
            }
            Work::H1 => load::on_all_threads(CONNECTIONS, period, |share, end| {
                let connector = self.connector(H1, false);
                let asking = (0..share.count).map(|_| {
                    let connector = connector.clone();
                    let connect = async move || connect(&connector, address).await;
                    load::ask_until(connect, end, std::iter::repeat(&request))
                });
                try_join_all(asking)
            }),
            Work::H2 => load::on_all_threads(CONNECTIONS, period, |share, end| {
                let connector = self.connector(H2, false);
                let asking =
                    (0..share.count).map(move |_| over_h2(connector.clone(), address, 1, end));
                try_join_all(asking)
            }),
            Work::H2Streams => load::on_all_threads(1, period, |_, end| {
                try_join_all([over_h2(self.connector(H2, false), address, STREAMS, end)])
            }),
        }
    }

    /// Memory for each idle connection, of the host and of nginx.
    fn idle(&self, installed: &Installed, guests: &Guests) -> anyhow::Result<(u64, Option<u64>)> {
        raise_open_files()?;
        let mut host = self.host(installed, guests);
        let guest = host.arguments.pop();
        host.arguments.extend(PATIENT.map(str::to_owned));
        host.arguments.extend(guest);
        let nginx = self.nginx(installed)?;
        let nginx = nginx.map(|nginx| self.idle_at(&nginx)).transpose()?;
        Ok((self.idle_at(&host)?, nginx))
    }

    fn idle_at(&self, contender: &Contender) -> anyhow::Result<u64> {
        eprintln!("tls: {IDLE} idle connections at {contender}");
        let server = Server::start(contender)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let before = server.resident_memory();
        let connector = self.connector(H1, false);
        let request = load::request("/");
        runtime.block_on(async {
            let mut idle = Vec::with_capacity(IDLE);
            for _ in 0..IDLE {
                let mut stream = connect(&connector, server.address).await?;
                ensure!(!load::ask(&mut stream, &request).await?, "it closes");
                idle.push(stream);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok((server.resident_memory() - before) / IDLE as u64)
        })
    }
}

const H1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";

async fn connect(
    connector: &TlsConnector,
    address: SocketAddr,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    Ok(connector.connect(name, stream).await?)
}

/// A connection for each request, one after the other.
async fn handshakes(
    connector: TlsConnector,
    address: SocketAddr,
    end: Instant,
    is_resuming: bool,
) -> anyhow::Result<Vec<Duration>> {
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut latencies = Vec::new();
    for nth in 0_u64.. {
        let start = Instant::now();
        if start >= end {
            break;
        }
        let mut stream = connect(&connector, address).await?;
        load::ask(&mut stream, request).await?;
        let kind = stream.get_ref().1.handshake_kind();
        let is_resumed = kind == Some(HandshakeKind::Resumed);
        ensure!(
            is_resumed == (is_resuming && nth > 0),
            "handshake {nth} was {kind:?}"
        );
        latencies.push(start.elapsed());
    }
    Ok(latencies)
}

/// So many streams on one connection.
async fn over_h2(
    connector: TlsConnector,
    address: SocketAddr,
    streams: usize,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let stream = TokioIo::new(connect(&connector, address).await?);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
    let asking = try_join_all((0..streams).map(|_| ask_over_h2(sender.clone(), end)));
    tokio::select! {
        latencies = asking => Ok(latencies?.concat()),
        ended = connection => {
            ended?;
            anyhow::bail!("the connection has ended")
        }
    }
}

async fn ask_over_h2(
    mut sender: SendRequest<Empty<&'static [u8]>>,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    loop {
        let start = Instant::now();
        if start >= end {
            return Ok(latencies);
        }
        sender.ready().await?;
        let request = http::Request::get("https://localhost/").body(Empty::new())?;
        let answer = sender.send_request(request).await?;
        ensure!(answer.status() == 200, "answered {}", answer.status());
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(body == HELLO, "not the answer that was expected");
        latencies.push(start.elapsed());
    }
}
