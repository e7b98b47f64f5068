//! Clients that mean harm and send next to nothing: what an idle connection costs, and what a healthy client feels of thousands
//! that are slow with their heads, with their bodies, or with what they should read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::contender::Installed;
use crate::crowd;
use crate::guests::Guests;
use crate::quiet::{self, PER_SECOND};
use crate::report::{Section, Table};
use crate::server::Server;

/// Connections that do nothing.
pub(crate) const IDLE: usize = 10_000;
/// Attackers of each kind.
const ATTACKERS: usize = 4_000;
/// How long they may take to be all there.
const GATHERING: Duration = Duration::from_secs(30);
/// How long they are left alone with the host before the healthy client is looked at.
pub(crate) const SETTLING: Duration = Duration::from_secs(3);
/// How often an attacker does something.
const PULSE: Duration = Duration::from_secs(5);
/// How often one sends [`TRICKLE`] that keeps to the default of `--min-body-rate`.
const TRICKLE_PULSE: Duration = Duration::from_millis(800);
const TRICKLE: [u8; 200] = [b'x'; 200];

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
pub(crate) enum Attack {
    Nothing,
    Heads,
    Bodies,
    /// Just faster than they would be cut for.
    Trickles,
    Reads,
    All,
}

impl Attack {
    fn name(self) -> String {
        match self {
            Self::Nothing => "nobody".to_owned(),
            Self::Heads => format!("{ATTACKERS} with slow headers"),
            Self::Bodies => format!("{ATTACKERS} with slow bodies"),
            Self::Trickles => format!("{ATTACKERS} that send 250 B/s"),
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
    let runtime = crowd::runtime()?;

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
        Attack::Trickles,
        Attack::Reads,
        Attack::All,
    ] {
        eprintln!("attacks: {}", attack.name());
        let host = installed.host("attacks", &guests.faults, &["--access-log", "off"]);
        let server = Server::start(&host)?;
        let count = match attack {
            Attack::Nothing => 0,
            _ => ATTACKERS,
        };
        let attackers = runtime.block_on(gather(attack, count, server.address));
        thread::sleep(SETTLING);
        let healthy = quiet::ask(server.address, "/ok", period);
        drop(attackers);
        let requests = match healthy.lost {
            0 => healthy.requests().to_string(),
            lost => format!("{}, {lost} lost", healthy.requests()),
        };
        let [median, p99, most] = healthy.cells();
        table.row([
            attack.name(),
            median,
            p99,
            most,
            requests,
            "p99 ≤ 50".to_owned(),
        ]);
    }
    Ok(Section {
        title: "Attacks",
        made: format!(
            "One client asks `faults` for `/ok` {PER_SECOND} times a second for {period:?}, every other time over a new connection; \
             latencies are from when a request was due. It does so beside attackers that have come within {PULSE:?}, have been \
             there for {SETTLING:?}, and come again when they find that they are closed. They send a byte every {PULSE:?}, or {} \
             every {TRICKLE_PULSE:?}, or ask for 100 MB and read none of it. All limits are the defaults.",
            TRICKLE.len()
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
pub(crate) struct Attackers {
    _tasks: JoinSet<()>,
    is_over: Arc<AtomicBool>,
    there: Arc<AtomicUsize>,
}

impl Attackers {
    /// How many of them have begun.
    pub(crate) fn there(&self) -> usize {
        self.there.load(Ordering::Relaxed)
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Returns when so many are there, or when that takes too long.
pub(crate) async fn gather(attack: Attack, attackers: usize, address: SocketAddr) -> Attackers {
    let mut tasks = JoinSet::new();
    let is_over = Arc::new(AtomicBool::new(false));
    let there = Arc::new(AtomicUsize::new(0));
    for nth in 0..attackers {
        let (is_over, there) = (Arc::clone(&is_over), Arc::clone(&there));
        tasks.spawn(async move {
            // Slow clients do not act in step, and come again as they came. Thousands at one moment are a flood, which is another
            // attack.
            sleep(PULSE * nth as u32 / attackers as u32).await;
            let mut is_first = true;
            while !is_over.load(Ordering::Relaxed) {
                let there = is_first.then_some(&*there);
                is_first = false;
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
        there,
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
    const UPLOAD: &[u8] = b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nx";
    let (first, more, pulse): (&[u8], &[u8], _) = match kind {
        Attack::Heads => (b"GET /ok HTTP/1.1\r\nHost: a\r\nX: ", b"x", PULSE),
        Attack::Bodies => (UPLOAD, b"x", PULSE),
        Attack::Trickles => (UPLOAD, &TRICKLE, TRICKLE_PULSE),
        _ => (
            b"GET /bytes?n=100000000 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"",
            PULSE,
        ),
    };
    stream.write_all(first).await?;
    if let Some(there) = there {
        there.fetch_add(1, Ordering::Relaxed);
    }
    loop {
        sleep(pulse).await;
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

async fn ask(stream: &mut TcpStream, target: &str) -> anyhow::Result<()> {
    stream.write_all(&crate::load::request(target)).await?;
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer).await?;
    let answer = answer[..length].escape_ascii().to_string();
    ensure!(answer.starts_with("HTTP/1.1 200"), "answered `{answer}`");
    Ok(())
}
