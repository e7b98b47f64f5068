//! Clients that mean harm and send next to nothing: what an idle connection costs, and what a healthy client feels of thousands
//! that are slow with their heads, with their bodies, or with what they should read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::contender::Installed;
use crate::guests::Guests;
use crate::report::{Section, Table};
use crate::server::Server;

/// Connections that do nothing.
pub(crate) const IDLE: usize = 10_000;
/// Attackers of each kind.
const ATTACKERS: usize = 4_000;
/// How long they may take to be all there.
const GATHERING: Duration = Duration::from_secs(30);
/// How long they are left alone with the host before the healthy client is looked at.
const SETTLING: Duration = Duration::from_secs(3);
/// How often an attacker does something.
const PULSE: Duration = Duration::from_secs(5);
/// How often the healthy client asks.
const ASKS: Duration = Duration::from_millis(5);

/// Whoever only holds connections is let.
pub(crate) const PATIENT: [&str; 6] = [
    "--first-byte-timeout",
    "10m",
    "--idle-timeout",
    "10m",
    "--access-log",
    "off",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Attack {
    Nothing,
    Heads,
    Bodies,
    Reads,
    All,
}

impl Attack {
    fn name(self) -> String {
        match self {
            Self::Nothing => "nobody".to_owned(),
            Self::Heads => format!("{ATTACKERS} with slow headers"),
            Self::Bodies => format!("{ATTACKERS} with slow bodies"),
            Self::Reads => format!("{ATTACKERS} that read nothing"),
            Self::All => format!("a third of {ATTACKERS} of each"),
        }
    }

    fn kind(self, nth: usize) -> Self {
        match self {
            Self::All => [Self::Heads, Self::Bodies, Self::Reads][nth % 3],
            one => one,
        }
    }
}

pub(crate) fn measure(
    period: Duration,
    guests: &Guests,
    installed: &Installed,
) -> anyhow::Result<Section> {
    raise_open_files()?;
    let mut table = Table::new(&[
        "beside",
        "median, ms",
        "p99, ms",
        "most, ms",
        "requests",
        "asked",
    ]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;

    eprintln!("attacks: {IDLE} idle connections");
    let host = installed.host("idle connections", &guests.hello, &PATIENT);
    let server = Server::start(&host)?;
    let before = server.resident_memory();
    let idle = runtime.block_on(hold_idle(server.address))?;
    let each = (server.resident_memory() - before) / IDLE as u64;
    drop(idle);
    drop(server);

    for attack in [
        Attack::Nothing,
        Attack::Heads,
        Attack::Bodies,
        Attack::Reads,
        Attack::All,
    ] {
        eprintln!("attacks: {}", attack.name());
        let host = installed.host("attacks", &guests.faults, &["--access-log", "off"]);
        let server = Server::start(&host)?;
        let attackers = runtime.block_on(gather(attack, server.address));
        thread::sleep(SETTLING);
        let (latencies, failures) = healthy(server.address, period)?;
        drop(attackers);
        ensure!(!latencies.is_empty(), "no request was answered");
        let part = |part: f64| {
            let index = (latencies.len() as f64 * part) as usize;
            let latency = latencies[index.min(latencies.len() - 1)];
            format!("{:.1}", latency.as_secs_f64() * 1e3)
        };
        let requests = match failures {
            0 => latencies.len().to_string(),
            _ => format!("{}, {failures} failed", latencies.len()),
        };
        table.row([
            attack.name(),
            part(0.5),
            part(0.99),
            part(1.0),
            requests,
            "p99 ≤ 50".to_owned(),
        ]);
    }
    Ok(Section {
        title: "Attacks",
        made: format!(
            "One client asks `faults` for `/ok` every {ASKS:?} for {period:?}, every other time over a connection of its own, \
             beside attackers that have been there for {SETTLING:?} and come again when they are closed. They send a byte \
             every {PULSE:?}, or ask for 100 MB and read none of it. All limits are the defaults."
        ),
        table,
        notes: vec![format!(
            "{IDLE} idle connections, each of which has had an answer, take {each} bytes of the host's memory each (asked: \
             ≤ 24,000)."
        )],
    })
}

/// Both ends of ten thousand connections are more than most shells allow.
pub(crate) fn raise_open_files() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).context("raising the ceiling of open files")
}

async fn hold_idle(address: SocketAddr) -> anyhow::Result<Vec<TcpStream>> {
    let mut idle = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        let mut stream = TcpStream::connect(address).await?;
        ask(&mut stream, "/").await?;
        idle.push(stream);
    }
    sleep(Duration::from_secs(1)).await;
    Ok(idle)
}

/// Attackers, until they are dropped.
struct Attackers {
    _tasks: JoinSet<()>,
    is_over: Arc<AtomicBool>,
}

impl Drop for Attackers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

async fn gather(attack: Attack, address: SocketAddr) -> Attackers {
    let mut tasks = JoinSet::new();
    let is_over = Arc::new(AtomicBool::new(false));
    let there = Arc::new(AtomicUsize::new(0));
    let attackers = if attack == Attack::Nothing {
        0
    } else {
        ATTACKERS
    };
    for nth in 0..attackers {
        let (is_over, there) = (Arc::clone(&is_over), Arc::clone(&there));
        tasks.spawn(async move {
            let mut is_first = true;
            while !is_over.load(Ordering::Relaxed) {
                let there = is_first.then_some(&*there);
                is_first = false;
                // It comes again, but not at once: else this would be a flood, which is another attack.
                let _ = harm(attack.kind(nth), address, there).await;
                sleep(Duration::from_millis(500)).await;
            }
        });
    }
    let _ = timeout(GATHERING, async {
        while there.load(Ordering::Relaxed) < attackers {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    Attackers {
        _tasks: tasks,
        is_over,
    }
}

/// Until the host has had enough.
async fn harm(
    kind: Attack,
    address: SocketAddr,
    there: Option<&AtomicUsize>,
) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    // A window as small as a client can have.
    socket.set_recv_buffer_size(4096)?;
    let mut stream = socket.connect(address).await?;
    let (first, more): (&[u8], &[u8]) = match kind {
        Attack::Heads => (b"GET /ok HTTP/1.1\r\nHost: a\r\nX: ", b"x"),
        Attack::Bodies => (
            b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nx",
            b"x",
        ),
        _ => (b"GET /bytes?n=100000000 HTTP/1.1\r\nHost: a\r\n\r\n", b""),
    };
    stream.write_all(first).await?;
    if let Some(there) = there {
        there.fetch_add(1, Ordering::Relaxed);
    }
    loop {
        sleep(PULSE).await;
        stream.write_all(more).await?;
        if more.is_empty() {
            // Whether it is closed; what there is to read stays where it is.
            let mut byte = [0];
            if stream.peek(&mut byte).await? == 0 {
                return Ok(());
            }
        }
    }
}

/// Sorted latencies, and how many requests failed.
fn healthy(address: SocketAddr, period: Duration) -> anyhow::Result<(Vec<Duration>, usize)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut kept = TcpStream::connect(address).await?;
        kept.set_nodelay(true)?;
        let (mut latencies, mut failures) = (Vec::new(), 0);
        let mut clock = tokio::time::interval(ASKS);
        let began = Instant::now();
        for nth in 0_usize.. {
            if began.elapsed() > period {
                break;
            }
            clock.tick().await;
            let start = Instant::now();
            let asked = async {
                if nth.is_multiple_of(2) {
                    ask(&mut kept, "/ok").await
                } else {
                    let mut own = TcpStream::connect(address).await?;
                    own.set_nodelay(true)?;
                    ask(&mut own, "/ok").await
                }
            };
            match timeout(Duration::from_secs(10), asked).await {
                Ok(Ok(())) => latencies.push(start.elapsed()),
                failed => {
                    failures += 1;
                    let why =
                        failed.map_or_else(|_| "no answer".to_owned(), |it| format!("{it:?}"));
                    eprintln!(
                        "attacks: request {nth} failed after {:?}: {why}",
                        start.elapsed()
                    );
                    kept = TcpStream::connect(address).await?;
                }
            }
        }
        latencies.sort_unstable();
        Ok((latencies, failures))
    })
}

async fn ask(stream: &mut TcpStream, target: &str) -> anyhow::Result<()> {
    stream.write_all(&crate::load::request(target)).await?;
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer).await?;
    let answer = answer[..length].escape_ascii().to_string();
    ensure!(answer.starts_with("HTTP/1.1 200"), "answered `{answer}`");
    Ok(())
}
