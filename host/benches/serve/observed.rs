//! What being watched costs: measuring the guest, the metrics and the access log, of a hello request.

use std::hint::black_box;
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

/// Polls of a guest that are measured for each: a hello is there after one or two.
const POLLS: usize = 3;
/// Bytes of its instance.
const INSTANCE: usize = 1 << 20;

/// What is asked of metrics and log together, of the CPU time of a request.
const CEILING: f64 = 0.08;
/// What is asked of the accounting: measuring the guest, and the metrics with their sums by handler and tenant.
const ACCOUNTING: f64 = 0.03;

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
        "of pairs",
        "measuring",
        "metrics",
        "log",
        "metrics and log",
        "accounting",
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
    let measured = Spread::of((0..rounds).map(|_| of_meters()));
    let measured = measured.map_or(0.0, |spread| spread.median);

    let often = "--max-instance-reuse-count=1000";
    for (case, guest, flags) in [
        ("0.2, defaults", &guests.hello, &[][..]),
        ("0.2, reuse 1000", &guests.hello, &[often][..]),
        ("0.3, defaults", &guests.hello_p3, &[][..]),
    ] {
        let silent = installed.host("no log", guest, &[flags, &["--access-log=off"]].concat());
        let host = installed.host(case, guest, flags);
        let (mut with, mut without, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=rounds {
            let [logged, silent] = [&host, &silent].map(|host| {
                eprintln!("observed, round {round} of {rounds}: {host}");
                turn(round, host, of_request(host, period, installed), &mut notes)
            });
            with.extend(logged);
            without.extend(silent);
            let difference = logged.zip(silent);
            pairs.extend(difference.map(|(logged, silent)| (logged - silent) / logged * 100.0));
        }
        let (Some(request), Some(silent)) = (Spread::of(with), Spread::of(without)) else {
            continue;
        };
        let part = |ns: f64| ns / 1e3 / request.median;
        let percent = |part: f64| format!("{} %", number(part * 100.0));
        let accounting = part(measured + metrics);
        if accounting > ACCOUNTING {
            notes.push(format!(
                "**Missed** {case}: the accounting takes {} of a request, where {} is asked.",
                percent(accounting),
                percent(ACCOUNTING)
            ));
        }
        table.row([
            case.to_owned(),
            request.to_string(),
            silent.to_string(),
            Spread::of(pairs).map_or_else(String::new, |it| {
                let Spread {
                    median,
                    least,
                    most,
                } = it;
                format!("{median:+.1} % ({least:+.1} to {most:+.1})")
            }),
            percent(part(measured)),
            percent(part(metrics)),
            percent(part(line)),
            format!("{} (≤ {})", percent(part(metrics + line)), percent(CEILING)),
            format!("{} (≤ {})", percent(accounting), percent(ACCOUNTING)),
        ]);
    }
    notes.insert(
        0,
        format!(
            "An exchange that is noted nowhere takes {} ns, its metrics {} ns more, its line in the access log (`combined`, \
             to a file) {} ns. To measure its guest, in {POLLS} polls, takes {} ns.",
            number(unnoted),
            number(metrics),
            number(line),
            number(measured)
        ),
    );
    Ok(Section {
        title: "Observed",
        made: format!(
            "CPU time of a request as in the first table, with metrics and access log. What they take of it is measured in this \
             process, where nothing else is: the CPU time of all its threads over {EXCHANGES} exchanges, with the thread that \
             writes, against exchanges that are not noted. Measuring is a meter for each exchange, {POLLS} polls on its clock, and the \
             looks at its account's credit; accounting is measuring and metrics. Medians of {rounds}. Of pairs is what a round with the log \
             takes more than the one without it that comes next: where that reaches from less than nothing to more, it is the \
             machine that differs and not the log, and the parts tell more."
        ),
        table,
        notes,
    })
}

fn of_request(host: &Contender, period: Duration, installed: &Installed) -> anyhow::Result<f64> {
    let server = Server::start(host)?;
    load::run(server.address, WARM_UP)?;
    let before = server.cpu();
    let load = installed.load(server.address, period, &["/".to_owned()])?;
    Ok(hello::micros(server.cpu() - before) / load.requests as f64)
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
    let [handler, tenant, route] = ["hello", "acme", "/*"].map(Arc::<str>::from);
    let meter = Arc::new(Meter::new(Duration::from_secs(1), Account::new()));
    meter.holds(INSTANCE);
    let before = cpu();
    for nth in 1..=EXCHANGES {
        let mut exchange = Exchange::begin(&request, &client, Arc::clone(&ledger));
        exchange.is_noted = is_noted;
        exchange.handler = Some(Arc::clone(&handler));
        exchange.tenant = Some(Arc::clone(&tenant));
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

/// CPU time of this process for measuring the guest of each exchange, in nanoseconds.
fn of_meters() -> f64 {
    let account = Account::new();
    // Its share is counted then, too.
    account.set_among_others(true);
    let before = cpu();
    for _ in 0..EXCHANGES {
        let meter = Meter::new(Duration::from_secs(1), Arc::clone(&account));
        let meter = black_box(Arc::new(meter));
        black_box(account.has_credit());
        for _ in 0..POLLS {
            meter.measure(|| black_box(0));
            meter.waits();
            black_box(meter.is_burning());
        }
        meter.holds(black_box(INSTANCE));
    }
    let took = cpu() - before;
    took.as_nanos() as f64 / EXCHANGES as f64
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        now.tv_sec.try_into().unwrap_or_default(),
        now.tv_nsec.try_into().unwrap_or_default(),
    )
}
