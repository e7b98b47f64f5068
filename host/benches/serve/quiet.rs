//! A client that asks 200 times a second, whatever becomes of its requests.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::answer::Answer;
use crate::load;
use crate::spread::percentile;

pub(crate) const PER_SECOND: u32 = 200;
/// Threads that ask in turn.
const THREADS: u32 = 4;
/// For an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What it was answered.
#[derive(Default)]
pub(crate) struct Quiet {
    /// From when a request was due until its answer was whole; sorted.
    latencies: Vec<Duration>,
    /// Requests that were answered anything but 200, or not whole, or not in time.
    pub(crate) lost: usize,
}

impl Quiet {
    pub(crate) fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.latencies.sort_unstable();
        self.lost += other.lost;
    }

    pub(crate) fn requests(&self) -> usize {
        self.latencies.len() + self.lost
    }

    /// The latency that this part of all answers stayed within.
    pub(crate) fn percentile(&self, part: f64) -> Duration {
        percentile(&self.latencies, part).unwrap_or(PATIENCE)
    }

    /// Median, p99 and most, in ms.
    pub(crate) fn cells(&self) -> [String; 3] {
        [0.5, 0.99, 1.0].map(|part| ms(self.percentile(part)))
    }
}

pub(crate) fn ms(latency: Duration) -> String {
    format!("{:.1}", latency.as_secs_f64() * 1e3)
}

/// Asks for `target` for so long: each request when it is due, however late the ones before it are, and every other one over a
/// new connection.
pub(crate) fn ask(address: SocketAddr, target: &str, period: Duration) -> Quiet {
    let start = Instant::now();
    let requests = (period.as_secs_f64() * f64::from(PER_SECOND)) as u32;
    let request = &load::request(target);
    thread::scope(|scope| {
        let spawn =
            |first| scope.spawn(move || ask_in_turn(address, request, start, first..requests));
        let threads: Vec<_> = (0..THREADS).map(spawn).collect();
        let mut all = Quiet::default();
        for thread in threads {
            all.add(thread.join().expect("no panic"));
        }
        all
    })
}

/// A thread that sleeps wakes within a tenth of a millisecond; timers of tokio step by a whole one.
fn ask_in_turn(address: SocketAddr, request: &[u8], start: Instant, turns: Range<u32>) -> Quiet {
    let mut quiet = Quiet::default();
    let mut connection = None;
    let mut is_new = false;
    for nth in turns.step_by(THREADS as usize) {
        let due = start + Duration::from_secs(1) / PER_SECOND * nth;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        is_new = !is_new;
        if is_new {
            connection = None;
        }
        let asked = if due.elapsed() < PATIENCE {
            ask_once(&mut connection, address, request)
        } else {
            Err(anyhow::anyhow!("those before it were too late"))
        };
        match asked {
            Ok(()) => quiet.latencies.push(due.elapsed()),
            Err(why) => {
                // The first of each thread says enough.
                if quiet.lost == 0 {
                    eprintln!("request {nth} was lost after {:?}: {why:#}", due.elapsed());
                }
                quiet.lost += 1;
                connection = None;
            }
        }
    }
    quiet
}

fn ask_once(
    connection: &mut Option<TcpStream>,
    address: SocketAddr,
    request: &[u8],
) -> anyhow::Result<()> {
    let stream = match &mut *connection {
        Some(stream) => stream,
        none => none.insert(connect(address)?),
    };
    stream.write_all(request)?;
    let (mut buffer, mut answer) = ([0; 4096], Answer::new());
    while {
        let read = stream.read(&mut buffer)?;
        ensure!(read > 0, "the connection closed before the answer's end");
        !answer.read(&buffer[..read])?
    } {}
    if answer.closes {
        *connection = None;
    }
    Ok(())
}

fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
