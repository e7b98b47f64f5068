//! Components that bring an interpreter with them, ten and twenty megabytes of it: what a fresh instance for each request costs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::contender::{Contender, Installed};
use crate::hello::{WARM_UP, micros};
use crate::load::{self, CONNECTIONS};
use crate::report::{Section, Table};
use crate::server::Server;
use crate::spread::{Spread, number};
use crate::{of_shell, turn};

/// The part of `wasmtime serve`'s CPU time per request that `host serve` may take.
const CEILING: f64 = 0.5;
/// `wasmtime serve` compiles a component each time that it starts.
const STARTS: Duration = Duration::from_secs(600);

/// Components of `wasi:http` 0.2 that answer `GET /` with 200. None is made here: their compilers are not Rust's.
#[derive(Debug, Args)]
pub(crate) struct Languages {
    /// A component in JavaScript, measured beside `wasmtime serve`.
    #[arg(long, value_name = "GUEST.WASM", env = "HOST_BENCH_JAVASCRIPT")]
    javascript: Option<PathBuf>,
    /// The same in Python.
    #[arg(long, value_name = "GUEST.WASM", env = "HOST_BENCH_PYTHON")]
    python: Option<PathBuf>,
}

/// One server in one round.
struct Sample {
    /// Per second.
    requests: f64,
    /// Of the server, per request.
    cpu_micros: f64,
    p99: Duration,
    peak_memory: u64,
}

pub(crate) fn measure(
    rounds: u32,
    period: Duration,
    languages: &Languages,
    installed: &Installed,
) -> anyhow::Result<Section> {
    let mut notes = Vec::new();
    let mut table = Table::new(&[
        "server",
        "component, MB",
        "requests/s",
        "CPU µs",
        "p99, ms",
        "peak MiB",
        "CPU: wasmtime",
    ]);
    for (name, flag, file) in [
        ("JavaScript", "--javascript", &languages.javascript),
        ("Python", "--python", &languages.python),
    ] {
        let Some(file) = file else {
            let skipped = format!(
                "**Skipped** {name}: no component was given; make one and say `{flag} GUEST.WASM`."
            );
            eprintln!("{skipped}");
            notes.push(skipped);
            continue;
        };
        let file = of_shell(file);
        let size = std::fs::metadata(&file)
            .with_context(|| format!("reading `{}`", file.display()))?
            .len();
        let mut rows: Vec<(Contender, Vec<Sample>)> =
            vec![(installed.host(name, &file, &[]), Vec::new())];
        match installed.wasmtime(name, &file, &[]) {
            Some(wasmtime) => rows.push((wasmtime, Vec::new())),
            None => notes.push(format!(
                "**Skipped** `wasmtime serve` beside {name}: it is not installed."
            )),
        }
        for round in 1..=rounds {
            for (contender, samples) in &mut rows {
                eprintln!("languages, round {round} of {rounds}: {contender}");
                let sample = sample(contender, period);
                samples.extend(turn(round, contender, sample, &mut notes));
            }
        }
        let cpu = |samples: &[Sample]| Spread::of(samples.iter().map(|it| it.cpu_micros));
        let of_wasmtime = rows.get(1).and_then(|(_, samples)| cpu(samples));
        for (nth, (contender, samples)) in rows.iter().enumerate() {
            let (Some(cpu), Some(requests)) = (
                cpu(samples),
                Spread::of(samples.iter().map(|it| it.requests)),
            ) else {
                continue;
            };
            let ratio = of_wasmtime.filter(|_| nth == 0);
            let ratio = ratio.map(|wasmtime| cpu.median / wasmtime.median);
            if let Some(ratio) = ratio.filter(|ratio| *ratio > CEILING) {
                notes.push(format!(
                    "**Missed** {name}: {ratio:.2} of `wasmtime serve`, where {CEILING} is asked."
                ));
            }
            let p99 = samples.iter().map(|it| it.p99).max().unwrap_or_default();
            let peak = samples.iter().map(|it| it.peak_memory).max().unwrap_or(0);
            table.row([
                format!("{}, {name}", contender.program),
                number(size as f64 / 1e6),
                requests.to_string(),
                cpu.to_string(),
                number(p99.as_secs_f64() * 1e3),
                (peak >> 20).to_string(),
                ratio.map_or_else(String::new, |ratio| format!("{ratio:.2} (≤ {CEILING})")),
            ]);
        }
    }
    Ok(Section {
        title: "Languages",
        made: format!(
            "`GET /` over {CONNECTIONS} connections, a fresh instance for each request, {rounds} rounds of {period:?} after {WARM_UP:?} \
             of warming up; median (least–most). CPU time is the server's alone, in µs per request."
        ),
        table,
        notes,
    })
}

fn sample(contender: &Contender, period: Duration) -> anyhow::Result<Sample> {
    let server = Server::start_within(contender, STARTS)?;
    load::run_for(server.address, CONNECTIONS, WARM_UP, "/")?;
    let before = server.cpu();
    let load = load::run_for(server.address, CONNECTIONS, period, "/")?;
    let cpu = server.cpu().saturating_sub(before);
    let requests = load.requests as f64;
    Ok(Sample {
        requests: load.requests_per_second(),
        cpu_micros: micros(cpu) / requests,
        p99: load.p99,
        peak_memory: server.peak_memory(),
    })
}
