//! Requests that wait in their guests: whether anything is taken by them but their own time.

use std::thread;
use std::time::Duration;

use crate::contender::{Contender, Installed};
use crate::guests::Guests;
use crate::hello::{WARM_UP, micros};
use crate::load;
use crate::quiet::ms;
use crate::report::{Section, Table};
use crate::server::Server;
use crate::spread::{Spread, number};
use crate::turn;

/// Requests at once.
const SLEEPERS: usize = 100;
/// How long each waits in its guest: what `TARGET` says.
const SLEEP: Duration = Duration::from_millis(100);
const TARGET: &str = "/sleep?ms=100";
/// What is asked of the answers in a second, of as many as there would be if nothing else took time.
const FLOOR: f64 = 0.95;

/// One round.
struct Sample {
    /// Per second.
    answers: f64,
    p50: Duration,
    p99: Duration,
    /// Of the server, per answer.
    cpu_micros: f64,
    /// Of the server, before the first sleeper, in the midst of them and after the last.
    threads: [u64; 3],
}

pub(crate) fn measure(
    rounds: u32,
    period: Duration,
    guests: &Guests,
    installed: &Installed,
) -> Section {
    let mut notes = Vec::new();
    let mut table = Table::new(&[
        "guest",
        "answers/s",
        "of the ideal",
        "p50, ms",
        "p99, ms",
        "CPU µs",
        "threads before",
        "meanwhile",
        "after",
    ]);
    let ideal = SLEEPERS as f64 / SLEEP.as_secs_f64();
    for (name, guest) in [("0.2", &guests.faults), ("0.3", &guests.faults_p3)] {
        let host = installed.host(name, guest, &[]);
        let mut samples = Vec::new();
        for round in 1..=rounds {
            eprintln!("sleepers, round {round} of {rounds}: {name}");
            samples.extend(turn(round, &host, sample(&host, period), &mut notes));
        }
        let spread = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value));
        let (Some(answers), Some(cpu)) = (
            spread(|sample| sample.answers),
            spread(|sample| sample.cpu_micros),
        ) else {
            continue;
        };
        let most = |value: fn(&Sample) -> Duration| samples.iter().map(value).max();
        let [p50, p99] = [most(|sample| sample.p50), most(|sample| sample.p99)];
        let threads = |at: usize| samples.iter().map(|sample| sample.threads[at]).max();
        let [before, meanwhile, after] = [0, 1, 2].map(|at| threads(at).unwrap_or(0));
        let part = answers.median / ideal;
        if part < FLOOR {
            notes.push(format!(
                "**Missed** {name}: {part:.3} of the ideal, where {FLOOR} is asked."
            ));
        }
        if meanwhile.max(after) > before {
            notes.push(format!(
                "**Missed** {name}: {before} threads before, {meanwhile} meanwhile and {after} after, where as many are asked."
            ));
        }
        table.row([
            name.to_owned(),
            answers.to_string(),
            format!("{part:.3} (≥ {FLOOR})"),
            ms(p50.unwrap_or_default()),
            ms(p99.unwrap_or_default()),
            number(cpu.median),
            before.to_string(),
            meanwhile.to_string(),
            after.to_string(),
        ]);
    }
    Section {
        title: "Sleepers",
        made: format!(
            "{SLEEPERS} connections ask `faults` for what it answers after {SLEEP:?} of waiting, {rounds} rounds of {period:?} after \
             {WARM_UP:?} of one connection alone; median (least–most), and the most of the rounds where one number stands. Ideal are \
             {ideal} answers a second."
        ),
        table,
        notes,
    }
}

fn sample(host: &Contender, period: Duration) -> anyhow::Result<Sample> {
    let server = Server::start(host)?;
    load::run_for(server.address, 1, WARM_UP, TARGET)?;
    let (before, cpu) = (server.threads(), server.cpu());
    let (load, meanwhile) = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            thread::sleep(period / 2);
            server.threads()
        });
        let load = load::run_for(server.address, SLEEPERS, period, TARGET);
        (load, looking.join().expect("no panic"))
    });
    let (load, after) = (load?, server.threads());
    let cpu = server.cpu().saturating_sub(cpu);
    let answers = load.requests as f64;
    Ok(Sample {
        answers: load.requests_per_second(),
        p50: load.p50,
        p99: load.p99,
        cpu_micros: micros(cpu) / answers,
        threads: [before, meanwhile, after],
    })
}
