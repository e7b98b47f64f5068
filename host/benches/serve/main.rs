//! `cargo bench --bench serve`: what a request costs `host serve`, beside hyper alone, `wasmtime serve`,
//! nginx and gunicorn with the same answer. The last three take part where they are installed.
//!
//! Servers run one at a time, in turn, over several rounds, each started anew and loaded over 32
//! keep-alive connections by this process, and with small requests by `wrk` where that is installed. The client's own CPU
//! time is not counted.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tables go to stdout, progress to stderr"
)]

mod answer;
mod attacks;
mod chart;
mod contender;
mod crowd;
mod guests;
mod hello;
mod hyper_alone;
mod languages;
mod load;
mod machine;
mod many;
mod memory;
mod neighbours;
mod observed;
mod outbound;
mod quiet;
mod replaced;
mod report;
mod server;
mod site;
mod sleepers;
mod soak;
mod spread;
mod start;
mod stream;
mod tls;
mod usage;
mod wrk;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

use crate::contender::{Contender, Installed};
use crate::guests::Guests;
use crate::languages::Languages;
use crate::report::Section;

/// Measures `host serve` beside other servers, and prints tables.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench serve --", max_term_width = 80)]
struct Options {
    /// How often each server is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each is measured in a round, after a second of warming up.
    #[arg(long, default_value = "4", value_parser = seconds)]
    seconds: Duration,
    /// Handlers in the host that has many. Ten thousand take a quarter of an hour to compile, once for each run.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    handlers: u32,
    /// Measure this alone.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Also write the tables to this file, with what there is to know of the machine.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Also draw what a hello request costs each server, to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// How long the host is soaked.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=1440))]
    minutes: u32,
    #[command(flatten)]
    languages: Languages,

    /// Given by `cargo bench`, and not by `cargo test --benches`, which must not wait for this.
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the server that the others are compared with.
    #[arg(long, hide = true)]
    hyper_alone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Small requests.
    Hello,
    /// 1 GiB up and down.
    Stream,
    /// From the start of the process to the first connection, and to the first byte of an answer.
    Start,
    /// Requests that wait in their guests.
    Sleepers,
    /// A thousand instances that live at once.
    Memory,
    /// Components in JavaScript and Python, which `--javascript` and `--python` name.
    Languages,
    /// Many handlers in one host.
    Many,
    /// Ten thousand requests a second, through a hundred replacements of their handler.
    Replaced,
    /// Requests that a guest sends elsewhere.
    Outbound,
    /// Ten thousand idle connections, and a healthy client beside thousands of slow ones.
    Attacks,
    /// Handshakes and requests over TLS, beside nginx.
    Tls,
    /// What measuring a guest, the metrics and the access log cost.
    Observed,
    /// A quiet tenant beside loud ones.
    Neighbours,
    /// Mixed traffic for `--minutes`, and what is left of it. This is measured alone or not at all.
    Soak,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.hyper_alone {
        return hyper_alone::serve();
    }
    if !options.bench {
        println!("nothing measured: this runs under `cargo bench --bench serve`");
        return Ok(());
    }

    let scratch = tempfile::tempdir().context("making a temporary directory")?;
    server::end_with_signals(scratch.path().to_owned())?;
    let guests = Guests::build()?;
    let installed = Installed::look(scratch.path());
    let report = format!(
        "{}\n{}",
        machine::facts(&installed),
        measure(&options, &guests, &installed)?
    );
    println!("{report}");
    if let Some(file) = &options.markdown {
        write(file, &format!("{HEADING}\n{report}"))?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let file = of_shell(file);
    std::fs::write(&file, text).with_context(|| format!("writing `{}`", file.display()))
}

/// Cargo runs a bench in its package's directory; the shell's is where the person is.
fn of_shell(file: &Path) -> PathBuf {
    std::env::var_os("PWD").map_or_else(|| file.to_owned(), |pwd| PathBuf::from(pwd).join(file))
}

fn measure(options: &Options, guests: &Guests, installed: &Installed) -> anyhow::Result<String> {
    let wanted = |part| options.only.is_none_or(|only| only == part);
    let mut sections: Vec<Section> = Vec::new();
    if wanted(Part::Hello) {
        let (section, bars) = hello::measure(options.rounds, options.seconds, guests, installed);
        sections.push(section);
        if let Some(file) = &options.svg {
            write(file, &chart::svg("CPU time of a hello request, µs", &bars))?;
        }
    } else if options.svg.is_some() {
        eprintln!("no chart is drawn: it is of `--only hello`");
    }
    if wanted(Part::Stream) {
        sections.push(stream::measure(options.rounds, guests, installed));
    }
    if wanted(Part::Start) {
        sections.push(start::measure(guests, installed)?);
    }
    if wanted(Part::Sleepers) {
        sections.push(sleepers::measure(
            options.rounds,
            options.seconds,
            guests,
            installed,
        ));
    }
    if wanted(Part::Memory) {
        sections.push(memory::measure(guests, installed)?);
    }
    if wanted(Part::Languages) {
        sections.push(languages::measure(
            options.rounds,
            options.seconds,
            &options.languages,
            installed,
        )?);
    }
    if wanted(Part::Many) {
        let handlers = options.handlers.try_into()?;
        sections.push(many::measure(
            handlers,
            options.rounds,
            options.seconds,
            guests,
            installed,
        )?);
    }
    if wanted(Part::Replaced) {
        sections.push(replaced::measure(guests, installed)?);
    }
    if wanted(Part::Outbound) {
        sections.push(outbound::measure(
            options.rounds,
            options.seconds,
            guests,
            installed,
        )?);
    }
    if wanted(Part::Attacks) {
        sections.push(attacks::measure(options.seconds, guests, installed)?);
    }
    if wanted(Part::Tls) {
        sections.push(tls::measure(
            options.rounds,
            options.seconds,
            guests,
            installed,
        )?);
    }
    if wanted(Part::Observed) {
        sections.push(observed::measure(
            options.rounds,
            options.seconds,
            guests,
            installed,
        )?);
    }
    if wanted(Part::Neighbours) {
        sections.push(neighbours::measure(
            options.rounds,
            options.seconds,
            guests,
            installed,
        )?);
    }
    if options.only == Some(Part::Soak) {
        sections.push(soak::measure(options.minutes, guests, installed)?);
    }
    Ok(sections
        .iter()
        .map(Section::to_string)
        .collect::<Vec<_>>()
        .join("\n"))
}

/// One server of one round; what goes wrong with it is told and does not end the others' turns.
fn turn<Sample>(
    round: u32,
    contender: &Contender,
    measured: anyhow::Result<Sample>,
    failures: &mut Vec<String>,
) -> Option<Sample> {
    measured
        .inspect_err(|error| {
            let failure = format!("{contender}, round {round}: {error:#}");
            eprintln!("failed: {failure}");
            failures.push(failure);
        })
        .ok()
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds < 3600.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a number of seconds is wanted, such as 4".into()),
    }
}

const HEADING: &str = "\
# Benchmarks

Made by `cargo bench --bench serve -- --markdown host/BENCHMARKS.md`; how it measures is written in
`host/benches/serve/`. Compare the rows of one table, not tables of two machines.
";
