//! The load: connections that ask, wait for the answer, and ask again.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::answer::Answer;

/// What every server answers.
pub(crate) const HELLO: &str = "Hello from WebAssembly!\n";

pub(crate) const CONNECTIONS: usize = 32;

/// A GET of this target.
pub(crate) fn request(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

/// What came of it.
pub(crate) struct Load {
    pub(crate) took: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl Load {
    pub(crate) fn requests(&self) -> usize {
        self.latencies.len()
    }

    /// The latency that this part of all requests stayed within.
    pub(crate) fn percentile(&self, part: f64) -> Duration {
        let index = (self.latencies.len() as f64 * part) as usize;
        self.latencies[index.min(self.latencies.len() - 1)]
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
    let threads = thread::available_parallelism()?.get().min(CONNECTIONS);
    let start = Instant::now();
    let parts: Vec<_> = thread::scope(|scope| {
        let spawn = |index| {
            let connections = (CONNECTIONS + index) / threads;
            let turns = Turns {
                requests,
                from: index * requests.len() / threads,
                connections,
            };
            scope.spawn(move || on_this_thread(address, turns, start + period))
        };
        let threads: Vec<_> = (0..threads).map(spawn).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("no panic");
        threads.into_iter().map(join).collect::<anyhow::Result<_>>()
    })?;
    let took = start.elapsed();
    let mut latencies = parts.concat();
    ensure!(!latencies.is_empty(), "nothing was answered");
    latencies.sort_unstable();
    Ok(Load { took, latencies })
}

/// Who asks for what.
#[derive(Clone, Copy)]
struct Turns<'a> {
    requests: &'a [Vec<u8>],
    from: usize,
    connections: usize,
}

fn on_this_thread(
    address: SocketAddr,
    turns: Turns<'_>,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let asking = (0..turns.connections).map(|index| {
            let from = turns.from + index * turns.requests.len() / CONNECTIONS;
            let (before, after) = turns.requests.split_at(from % turns.requests.len());
            ask_until(address, end, after.iter().chain(before).cycle())
        });
        let all = tokio::time::timeout_at((end + PATIENCE).into(), try_join_all(asking));
        let all = all.await.context("a request was not answered")??;
        Ok(all.concat())
    })
}

async fn ask_until<'a>(
    address: SocketAddr,
    end: Instant,
    mut requests: impl Iterator<Item = &'a Vec<u8>>,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let mut buffer = [0; 4096];
    let mut connection = None;
    loop {
        let start = Instant::now();
        if start >= end {
            return Ok(latencies);
        }
        let stream = match &mut connection {
            Some(stream) => stream,
            none => none.insert(connect(address).await?),
        };
        let request = requests.next().context("nothing to ask")?;
        stream.write_all(request).await?;
        let mut answer = Answer::new();
        while {
            let read = stream.read(&mut buffer).await?;
            ensure!(read > 0, "the connection closed before the answer's end");
            !answer.read(&buffer[..read])?
        } {}
        ensure!(
            answer.body == HELLO.len() as u64,
            "not the answer that was expected"
        );
        latencies.push(start.elapsed());
        if answer.closes {
            connection = None;
        }
    }
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// For the last answers.
const PATIENCE: Duration = Duration::from_secs(10);
