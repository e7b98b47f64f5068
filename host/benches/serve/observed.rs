//! What being watched costs: the access log and the metrics, of a hello request.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use host::account::Account;
use host::client::{Client, Peer};
use host::meter::Meter;
use host::observe::access_log::{AccessLog, Format};
use host::observe::metrics::Requests;
use host::observe::{Exchange, Ledger, LineQueue, Output};
use http::uri::Scheme;
use rustix::time::{ClockId, clock_gettime};

use crate::contender::{Contender, Installed};
use crate::guests::Guests;
use crate::hello::{self, WARM_UP};
use crate::load;
use crate::report::{Section, Table};
use crate::server::Server;
use crate::spread::{Spread, number};
use crate::turn;

/// Exchanges that are noted in this process, each time.
const EXCHANGES: usize = 500_000;
/// As many as the queue of the log has room for, and about as many as the thread that writes finds at a time under load.
const BATCH: usize = 10_000;

/// What is asked of both together, of the CPU time of a request.
const CEILING: f64 = 0.08;

pub(crate) fn measure(
    rounds: u32,
    period: Duration,
    guests: &Guests,
    installed: &Installed,
) -> anyhow::Result<Section> {
    let mut notes = Vec::new();
    let mut table = Table::new(&[
        "hello",
        "CPU µs",
        "without log",
        "metrics",
        "log",
        "together",
    ]);
    let scratch = tempfile::tempdir()?;
    let log = scratch.path().join("access.log");
    let samples = |format: Format, is_noted: bool| {
        let ns: anyhow::Result<Vec<f64>> = (0..rounds)
            .map(|_| of_exchanges(format, is_noted, &log))
            .collect();
        anyhow::Ok(Spread::of(ns?).map_or(0.0, |spread| spread.median))
    };
    eprintln!("observed: {EXCHANGES} exchanges, {rounds} times, in this process");
    let unnoted = samples(Format::Off, false)?;
    let counted = samples(Format::Off, true)?;
    let logged = samples(Format::Combined, true)?;
    let (metrics, line) = (counted - unnoted, logged - counted);

    let often = "--max-instance-reuse-count=1000";
    for (case, guest, flags) in [
        ("0.2, defaults", &guests.hello, &[][..]),
        ("0.2, reuse 1000", &guests.hello, &[often][..]),
        ("0.3, defaults", &guests.hello_p3, &[][..]),
    ] {
        let silent = installed.host("no log", guest, &[flags, &["--access-log=off"]].concat());
        let host = installed.host(case, guest, flags);
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            for (host, micros) in [(&host, &mut with), (&silent, &mut without)] {
                eprintln!("observed, round {round} of {rounds}: {host}");
                micros.extend(turn(round, host, of_request(host, period), &mut notes));
            }
        }
        let (Some(request), Some(silent)) = (Spread::of(with), Spread::of(without)) else {
            continue;
        };
        let part = |ns: f64| ns / 1e3 / request.median;
        let percent = |part: f64| format!("{} %", number(part * 100.0));
        table.row([
            case.to_owned(),
            request.to_string(),
            silent.to_string(),
            percent(part(metrics)),
            percent(part(line)),
            format!("{} (≤ {})", percent(part(metrics + line)), percent(CEILING)),
        ]);
    }
    notes.insert(
        0,
        format!(
            "An exchange that is noted nowhere takes {} ns, its metrics {} ns more, its line in the access log (`combined`, \
             to a file) {} ns.",
            number(unnoted),
            number(metrics),
            number(line)
        ),
    );
    Ok(Section {
        title: "Observed",
        made: format!(
            "CPU time of a request as in the first table, with metrics and access log. What they take of it is measured in this \
             process, where nothing else is: the CPU time of all its threads over {EXCHANGES} exchanges, with the thread that \
             writes, against exchanges that are not noted. Medians of {rounds}."
        ),
        table,
        notes,
    })
}

fn of_request(host: &Contender, period: Duration) -> anyhow::Result<f64> {
    let server = Server::start(host)?;
    load::run(server.address, WARM_UP)?;
    let before = server.cpu();
    let load = load::run(server.address, period)?;
    Ok(hello::micros(server.cpu() - before) / load.requests() as f64)
}

/// CPU time of this process for each exchange, in nanoseconds.
fn of_exchanges(format: Format, is_noted: bool, log: &Path) -> anyhow::Result<f64> {
    let (lines, _flush) = LineQueue::start(Output::file(log)?);
    let requests = Arc::new(Requests::default());
    let ledger = Arc::new(Ledger::new(AccessLog::new(format, lines.clone()), requests));
    let peer = Peer::Address(([127, 0, 0, 1], 40_000).into());
    let client = Client {
        remote: peer,
        local: Peer::Address(([127, 0, 0, 1], 8080).into()),
        scheme: Scheme::HTTP,
        certificate: None,
        stall: Default::default(),
    };
    let (request, ()) = http::Request::get("/")
        .header("host", "localhost")
        .body(())?
        .into_parts();
    let (handler, route): (Arc<str>, Arc<str>) = (Arc::from("hello"), Arc::from("/*"));
    let meter = Arc::new(Meter::new(Duration::from_secs(1), Account::new()));
    let before = cpu();
    for nth in 1..=EXCHANGES {
        let mut exchange = Exchange::begin(&request, &client, Arc::clone(&ledger));
        exchange.is_noted = is_noted;
        exchange.handler = Some(Arc::clone(&handler));
        exchange.route = Some(Arc::clone(&route));
        exchange.meter = Some(Arc::clone(&meter));
        exchange.waited = Some(Duration::ZERO);
        (exchange.status, exchange.sent, exchange.complete) = (Some(200), 24, true);
        drop(exchange);
        if nth % BATCH == 0 {
            // Waits until it is written.
            lines.reopen();
        }
    }
    let took = cpu() - before;
    ensure!(lines.lost() == 0, "{} lines were lost", lines.lost());
    Ok(took.as_nanos() as f64 / EXCHANGES as f64)
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        now.tv_sec.try_into().unwrap_or_default(),
        now.tv_nsec.try_into().unwrap_or_default(),
    )
}
