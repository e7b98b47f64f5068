//! Many handlers in one host: how soon it listens, what they take, what a cold one costs, and how much is lost against
//! one handler that gets everything.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::contender::Installed;
use crate::guests::Guests;
use crate::load;
use crate::report::{Section, Table};
use crate::server::Server;
use crate::spread::{Spread, number};

/// Handlers that get a request each before memory is looked at.
const HOT: usize = 100;
/// Requests of a load, drawn once.
const DRAWN: usize = 1 << 16;

pub(crate) fn measure(
    handlers: usize,
    rounds: u32,
    period: Duration,
    guests: &Guests,
    installed: &Installed,
) -> anyhow::Result<Section> {
    let directory = tempfile::tempdir().context("making a temporary directory")?;
    for handler in 0..handlers {
        let wasm = guests.version(&handler.to_string())?;
        fs::write(directory.path().join(format!("h{handler}.wasm")), wasm)
            .context("writing the handlers")?;
    }
    let host = installed.host("many handlers", directory.path(), &[]);

    eprintln!("many: compiling {handlers} handlers");
    let first = Server::start_within(&host, Duration::from_secs(3600))?.started_in;
    let mut starts = Vec::new();
    let mut colds = Vec::new();
    let mut memory = Vec::new();
    let mut speeds = [Vec::new(), Vec::new(), Vec::new()];
    for round in 1..=rounds {
        eprintln!("many: round {round} of {rounds}");
        let server = Server::start(&host)?;
        starts.push(server.started_in.as_secs_f64() * 1e3);
        let spread_out = (0..HOT.min(handlers)).map(|nth| nth * handlers / HOT.min(handlers));
        for handler in spread_out {
            colds.push(ask_once(server.address, handler)?.as_secs_f64() * 1e3);
        }
        memory.push(server.resident_memory() as f64 / 1048576.0);
        let speed = |targets: &[String]| -> anyhow::Result<f64> {
            installed.load(server.address, WARM_UP, targets)?;
            let load = installed.load(server.address, period, targets)?;
            Ok(load.requests_per_second())
        };
        let all = zipf(handlers, round);
        speeds[0].push(speed(&["/h0/".to_owned(), "/h0/".to_owned()])?);
        speeds[1].push(speed(&all)?);
        for handler in 0..handlers {
            ask_once(server.address, handler)?;
        }
        speeds[2].push(speed(&all)?);
    }

    let spread = |values: &[f64]| Spread::of(values.iter().copied()).context("no rounds");
    let [one, all, warm] = [
        spread(&speeds[0])?,
        spread(&speeds[1])?,
        spread(&speeds[2])?,
    ];
    let share = |of: f64| format!("{:.2}", of / one.median);
    let shares = [share(all.median), share(warm.median)];
    let mut table = Table::new(&["of the host", "measured", "asked"]);
    let mut row = |what: &str, measured: String, asked: &str| {
        table.row([what.into(), measured, asked.into()])
    };
    row(
        "first start, which compiles them, s",
        number(first.as_secs_f64()),
        "",
    );
    row("later starts, ms", spread(&starts)?.to_string(), "≤ 2,000");
    row(
        "first request to a cold handler, ms",
        spread(&colds)?.to_string(),
        "≤ 5 at the median",
    );
    row(
        &format!("resident with {HOT} hot, MiB"),
        spread(&memory)?.to_string(),
        "≤ 400",
    );
    row("requests/s, one handler", one.to_string(), "");
    row("requests/s, zipf over all", all.to_string(), "");
    let [of_all, of_warm] = shares;
    row("share of one handler's", of_all, "≥ 0.6");
    row(
        "requests/s, zipf over all, each loaded",
        warm.to_string(),
        "",
    );
    row("share of one handler's", of_warm, "≥ 0.6");
    Ok(Section {
        title: "Many handlers",
        made: format!(
            "`host serve DIRECTORY` with {handlers} components that differ in what they say, {rounds} rounds; median \
             (least–most). Resident memory is looked at when {HOT} handlers, spread over all, had their first request. \
             Then {period:?} of load by {} after {WARM_UP:?} of warming up, as in the first table: on one handler, and on all \
             by Zipf's law (exponent 1): while many handlers get their first request, and again when each has had one.",
            installed.client()
        ),
        table,
        notes: Vec::new(),
    })
}

/// One request on a connection of its own.
fn ask_once(address: SocketAddr, handler: usize) -> anyhow::Result<Duration> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let start = Instant::now();
    stream.write_all(&load::request(&format!("/h{handler}/")))?;
    let mut answer = [0; 1024];
    let read = stream.read(&mut answer)?;
    let took = start.elapsed();
    ensure!(
        answer[..read].starts_with(b"HTTP/1.1 200"),
        "h{handler} did not answer"
    );
    Ok(took)
}

/// Targets of requests to handlers of which the n-th is asked for 1/n as often as the first.
fn zipf(handlers: usize, seed: u32) -> Vec<String> {
    let mut sums: Vec<f64> = Vec::with_capacity(handlers);
    for nth in 1..=handlers {
        sums.push(sums.last().copied().unwrap_or(0.0) + 1.0 / nth as f64);
    }
    let total = sums.last().copied().unwrap_or(1.0);
    // xorshift64: the same requests in every run.
    let mut state = u64::from(seed) | 1 << 40;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..DRAWN)
        .map(|_| {
            let drawn = random() * total;
            let handler = sums.partition_point(|sum| *sum < drawn).min(handlers - 1);
            format!("/h{handler}/")
        })
        .collect()
}

const WARM_UP: Duration = Duration::from_secs(2);
