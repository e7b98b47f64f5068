//! Small requests: what the host itself costs.

use std::time::Duration;

use crate::chart::Bar;
use crate::contender::{Contender, Installed};
use crate::guests::Guests;
use crate::load::{self, CONNECTIONS};
use crate::report::{Section, Table};
use crate::server::Server;
use crate::spread::{Spread, number};
use crate::turn;

/// The part of `wasmtime serve`'s CPU time per request that `host serve` may take.
const CEILINGS: [(&str, f64); 3] = [(FRESH, 0.25), (FRESH_P3, 0.25), (REUSED_P3, 1.0)];

const NO_GUEST: &str = "no guest";
const FRESH: &str = "0.2, defaults";
const REUSED: &str = "0.2, reuse 1000";
const FRESH_P3: &str = "0.3, reuse 1";
const REUSED_P3: &str = "0.3, defaults";

/// One server in one round.
struct Sample {
    /// Per second.
    requests: f64,
    /// Of the server, per request.
    cpu_micros: f64,
    p50_micros: f64,
    p99_micros: f64,
    peak_memory: u64,
}

/// A server and its rounds.
struct Row {
    contender: Contender,
    samples: Vec<Sample>,
}

impl Row {
    fn spread(&self, value: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().map(value))
    }

    fn cpu(&self) -> Option<f64> {
        Some(self.spread(|sample| sample.cpu_micros)?.median)
    }

    fn name(&self) -> String {
        let Contender { case, program, .. } = self.contender;
        if case == NO_GUEST {
            program.into()
        } else {
            format!("{program}, {case}")
        }
    }

    fn bar(&self) -> Option<Bar> {
        Some(Bar {
            name: self.name(),
            value: self.cpu()?,
            is_ours: self.contender.program == "host serve",
        })
    }
}

pub(crate) fn measure(
    rounds: u32,
    period: Duration,
    guests: &Guests,
    installed: &Installed,
) -> (Section, Vec<Bar>) {
    let mut notes = installed.absent();
    let row = |contender| Row {
        contender,
        samples: Vec::new(),
    };
    let mut rows: Vec<_> = contenders(guests, installed, &mut notes)
        .into_iter()
        .map(row)
        .collect();
    for round in 1..=rounds {
        for row in &mut rows {
            eprintln!("hello, round {round} of {rounds}: {}", row.contender);
            let sample = sample(&row.contender, period, installed);
            row.samples
                .extend(turn(round, &row.contender, sample, &mut notes));
        }
    }
    let section = Section {
        title: "Hello",
        made: format!(
            "`GET /` over {CONNECTIONS} connections with keep-alive by {}, {rounds} rounds of {period:?} after {WARM_UP:?} of \
             warming up; median (least–most). CPU time is the server's alone, in µs per request; the ratios \
             are of its medians, with what is asked of `host serve` in brackets. Latencies are in µs, from a \
             client that shares the cores. `host serve` runs with its limits and deadlines and writes its \
             access log to a file, as does nginx. (`wrk` counts requests that it would have sent during a late one \
             into its latencies.)",
            installed.client()
        ),
        table: table(&rows),
        notes,
    };
    (section, rows.iter().filter_map(Row::bar).collect())
}

fn contenders(guests: &Guests, installed: &Installed, notes: &mut Vec<String>) -> Vec<Contender> {
    let mut all = Vec::new();
    for made in [
        installed.hyper(NO_GUEST).map(Some),
        installed.nginx(NO_GUEST),
        installed.gunicorn(NO_GUEST),
    ] {
        match made {
            Ok(contender) => all.extend(contender),
            Err(error) => notes.push(format!("{error:#}")),
        }
    }
    let once = "--max-instance-reuse-count=1";
    let often = "--max-instance-reuse-count=1000";
    let mut pair = |case, guest, flags: &[&str], p3: &[&str]| {
        all.push(installed.host(case, guest, flags));
        all.extend(installed.wasmtime(case, guest, &[flags, p3].concat()));
    };
    pair(FRESH, &guests.hello, &[], &[]);
    pair(REUSED, &guests.hello, &[often], &[]);
    pair(FRESH_P3, &guests.hello_p3, &[once], &WASMTIME_P3);
    pair(REUSED_P3, &guests.hello_p3, &[], &WASMTIME_P3);
    all
}

fn sample(
    contender: &Contender,
    period: Duration,
    installed: &Installed,
) -> anyhow::Result<Sample> {
    let server = Server::start(contender)?;
    // Our own client looks at each answer, and `wrk` at none.
    load::run(server.address, WARM_UP)?;
    let before = server.cpu();
    let load = installed.load(server.address, period, &["/".to_owned()])?;
    let cpu = server.cpu() - before;
    Ok(Sample {
        requests: load.requests_per_second(),
        cpu_micros: micros(cpu) / load.requests as f64,
        p50_micros: micros(load.p50),
        p99_micros: micros(load.p99),
        peak_memory: server.peak_memory(),
    })
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "server",
        "requests/s",
        "CPU µs",
        "p50",
        "p99",
        "peak MiB",
        "CPU: hyper",
        "CPU: wasmtime",
    ]);
    let cpu_of = |program: &str, case: &str| {
        rows.iter()
            .find(|row| row.contender.program == program && row.contender.case == case)?
            .cpu()
    };
    let hyper = cpu_of("hyper alone", NO_GUEST);
    for row in rows {
        let Contender { case, program, .. } = row.contender;
        let cell = |value: fn(&Sample) -> f64| {
            row.spread(value)
                .map_or_else(|| "failed".into(), |spread| spread.to_string())
        };
        let middle = |value: fn(&Sample) -> f64| {
            row.spread(value)
                .map_or_else(String::new, |spread| number(spread.median))
        };
        let ratio = |other: Option<f64>| Some(format!("{:.2}", row.cpu()? / other?));
        let ceiling = CEILINGS.iter().find(|(of, _)| *of == case);
        let ceiling = ceiling.map_or_else(String::new, |(_, ceiling)| format!(" (≤ {ceiling})"));
        let to_wasmtime = (program == "host serve")
            .then(|| ratio(cpu_of("wasmtime serve", case)))
            .flatten();
        let peak = row.samples.iter().map(|sample| sample.peak_memory).max();
        table.row([
            row.name(),
            cell(|sample| sample.requests),
            cell(|sample| sample.cpu_micros),
            middle(|sample| sample.p50_micros),
            middle(|sample| sample.p99_micros),
            peak.map_or_else(String::new, |peak| (peak >> 20).to_string()),
            ratio(hyper).unwrap_or_default(),
            to_wasmtime.map_or_else(String::new, |ratio| ratio + &ceiling),
        ]);
    }
    table
}

pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Caches filled, instances pooled, connections accepted.
pub(crate) const WARM_UP: Duration = Duration::from_secs(1);

/// `wasmtime serve` has wasi:http 0.3 behind flags.
pub(crate) const WASMTIME_P3: [&str; 2] = ["-Sp3", "-Wcomponent-model-async"];
