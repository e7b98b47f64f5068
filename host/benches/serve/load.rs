//! The load: connections that ask, wait for the answer, and ask again.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use crate::answer::Answer;
use crate::spread::percentile;

/// What every server answers.
pub(crate) const HELLO: &str = "Hello from WebAssembly!\n";

pub(crate) const CONNECTIONS: usize = 32;

/// A GET of this target.
pub(crate) fn request(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

/// What came of it.
pub(crate) struct Load {
    pub(crate) requests: usize,
    pub(crate) took: Duration,
    /// The latencies that half of all requests stayed within, and 99 of a hundred.
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Load {
    pub(crate) fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }
}

/// Asks for `/` over all connections at once for so long.
pub(crate) fn run(address: SocketAddr, period: Duration) -> anyhow::Result<Load> {
    run_with(address, period, &[request("/")])
}

/// The same with these requests in turn, each connection from another one on.
///
/// A thread a core with a part of the connections each, as wrk does it: tasks that moved between
/// threads would cost the client, which shares the cores with the server, more than the server costs.
pub(crate) fn run_with(
    address: SocketAddr,
    period: Duration,
    requests: &[Vec<u8>],
) -> anyhow::Result<Load> {
    on_all_threads(CONNECTIONS, period, |share, end| {
        let asking = (0..share.count).map(|index| {
            let from = (share.first + index) * requests.len() / CONNECTIONS;
            let (before, after) = requests.split_at(from % requests.len());
            let turns = after.iter().chain(before).cycle();
            ask_until(|| connect(address), end, turns)
        });
        try_join_all(asking)
    })
}

/// Asks for `target` over so many connections at once for so long, whatever the answers say.
pub(crate) fn run_for(
    address: SocketAddr,
    connections: usize,
    period: Duration,
    target: &str,
) -> anyhow::Result<Load> {
    let request = request(target);
    on_all_threads(connections, period, |share, end| {
        try_join_all((0..share.count).map(|_| ask_again(address, end, &request)))
    })
}

/// Asks until then, and over another connection when one is closed.
async fn ask_again(
    address: SocketAddr,
    end: Instant,
    request: &[u8],
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let mut connection = None;
    while Instant::now() < end {
        let start = Instant::now();
        let stream = match &mut connection {
            Some(stream) => stream,
            none => none.insert(connect(address).await?),
        };
        let answer = ask_for(Answer::new(), stream, request).await?;
        latencies.push(start.elapsed());
        if answer.closes {
            connection = None;
        }
    }
    Ok(latencies)
}

/// The connections of one thread among all.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    pub(crate) first: usize,
    pub(crate) count: usize,
}

/// A thread a core, each of which runs its share of so many connections until the end that it is told.
pub(crate) fn on_all_threads<Asking>(
    connections: usize,
    period: Duration,
    ask: impl Fn(Share, Instant) -> Asking + Sync,
) -> anyhow::Result<Load>
where
    Asking: Future<Output = anyhow::Result<Vec<Vec<Duration>>>>,
{
    let threads = thread::available_parallelism()?.get().min(connections);
    let start = Instant::now();
    let end = start + period;
    let parts: Vec<_> = thread::scope(|scope| {
        let spawn = |index| {
            let first = index * connections / threads;
            let count = (index + 1) * connections / threads - first;
            let ask = &ask;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(async {
                    let all = timeout_at((end + PATIENCE).into(), ask(Share { first, count }, end));
                    let all = all.await.context("a request was not answered")??;
                    anyhow::Ok(all.concat())
                })
            })
        };
        let threads: Vec<_> = (0..threads).map(spawn).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("no panic");
        threads.into_iter().map(join).collect::<anyhow::Result<_>>()
    })?;
    let took = start.elapsed();
    let mut latencies = parts.concat();
    ensure!(!latencies.is_empty(), "nothing was answered");
    latencies.sort_unstable();
    let within = |part| percentile(&latencies, part).unwrap_or_default();
    Ok(Load {
        requests: latencies.len(),
        took,
        p50: within(0.5),
        p99: within(0.99),
    })
}

/// Asks over one connection until then, and over another when it is closed.
pub(crate) async fn ask_until<'a, Stream: AsyncRead + AsyncWrite + Unpin>(
    connect: impl AsyncFn() -> anyhow::Result<Stream>,
    end: Instant,
    mut requests: impl Iterator<Item = &'a Vec<u8>>,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let mut connection = None;
    loop {
        let start = Instant::now();
        if start >= end {
            return Ok(latencies);
        }
        let stream = match &mut connection {
            Some(stream) => stream,
            none => none.insert(connect().await?),
        };
        let closes = ask(stream, requests.next().context("nothing to ask")?).await?;
        latencies.push(start.elapsed());
        if closes {
            connection = None;
        }
    }
}

/// Asks and reads the whole answer. True when the connection closes after it.
pub(crate) async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
) -> anyhow::Result<bool> {
    let answer = ask_for(Answer::new(), stream, request).await?;
    ensure!(
        answer.body == HELLO.len() as u64,
        "not the answer that was expected"
    );
    Ok(answer.closes)
}

/// The same, whatever the answer says.
pub(crate) async fn ask_for(
    mut answer: Answer,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
) -> anyhow::Result<Answer> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut buffer = [0; 4096];
    while {
        let read = stream.read(&mut buffer).await?;
        ensure!(read > 0, "the connection closed before the answer's end");
        !answer.read(&buffer[..read])?
    } {}
    Ok(answer)
}

pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// For the last answers.
const PATIENCE: Duration = Duration::from_secs(10);
