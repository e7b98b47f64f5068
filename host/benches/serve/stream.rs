//! Long bodies: 1 GiB sent, and read back while it is sent.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::answer::Answer;
use crate::contender::{Contender, Installed};
use crate::guests::Guests;
use crate::hello::WASMTIME_P3;
use crate::report::{Section, Table};
use crate::server::Server;
use crate::spread::{Spread, number};
use crate::turn;

const MIB: u64 = 1 << 20;
const LENGTH: u64 = 1024 * MIB;

/// The part of hyper's own speed that is asked of `host serve`.
const FLOOR: &str = "≥ 0.33";

/// One transfer.
struct Sample {
    /// MiB per second.
    speed: f64,
    cpu_seconds: f64,
    peak_memory: u64,
}

pub(crate) fn measure(rounds: u32, guests: &Guests, installed: &Installed) -> Section {
    let mut notes = Vec::new();
    let mut rows: Vec<(Contender, Vec<Sample>)> = Vec::new();
    match installed.hyper("echo") {
        Ok(hyper) => rows.push((hyper, Vec::new())),
        Err(error) => notes.push(format!("{error:#}")),
    }
    for (case, guest, p3) in [
        ("echo", &guests.echo, &[][..]),
        ("echo-p3", &guests.echo_p3, &WASMTIME_P3),
    ] {
        let host = installed.host(case, guest, &["--max-body=2GiB"]);
        let contenders = [Some(host), installed.wasmtime(case, guest, p3)];
        rows.extend(
            contenders
                .into_iter()
                .flatten()
                .map(|contender| (contender, Vec::new())),
        );
    }
    for round in 1..=rounds {
        for (contender, samples) in &mut rows {
            eprintln!("stream, round {round} of {rounds}: {contender}");
            samples.extend(turn(round, contender, sample(contender), &mut notes));
        }
    }
    Section {
        title: "Streaming",
        made: format!(
            "`POST /echo` of 1 GiB with a `content-length` over one connection, read back at the same time, {rounds} \
             rounds; median (least–most). Hyper answers with a `content-length`, guests in chunks. CPU time is \
             the server's alone. `host serve` has `--max-body=2GiB`."
        ),
        table: table(&rows),
        notes,
    }
}

fn sample(contender: &Contender) -> anyhow::Result<Sample> {
    let server = Server::start(contender)?;
    echo(server.address, 16 * MIB)?; // to warm up
    let before = server.cpu();
    let took = echo(server.address, LENGTH)?;
    Ok(Sample {
        speed: (LENGTH / MIB) as f64 / took.as_secs_f64(),
        cpu_seconds: (server.cpu() - before).as_secs_f64(),
        peak_memory: server.peak_memory(),
    })
}

/// A thread that sends and one that reads: neither makes the other wait.
fn echo(address: SocketAddr, length: u64) -> anyhow::Result<Duration> {
    let mut reading = TcpStream::connect(address)?;
    reading.set_read_timeout(Some(PATIENCE))?;
    reading.set_write_timeout(Some(PATIENCE))?;
    let mut writing = reading.try_clone()?;
    let start = Instant::now();
    thread::scope(|scope| {
        let sent = scope.spawn(move || {
            write!(
                writing,
                "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
            )?;
            let piece = vec![0; PIECE];
            (0..length / PIECE as u64).try_for_each(|_| writing.write_all(&piece))
        });
        let mut answer = Answer::new();
        let mut buffer = vec![0; PIECE];
        while {
            let read = reading.read(&mut buffer)?;
            ensure!(
                read > 0,
                "the connection closed after {} bytes",
                answer.body
            );
            !answer.read(&buffer[..read])?
        } {}
        sent.join().expect("no panic")?;
        ensure!(answer.body == length, "{} bytes came back", answer.body);
        Ok(start.elapsed())
    })
}

fn table(rows: &[(Contender, Vec<Sample>)]) -> Table {
    let mut table = Table::new(&["server", "MiB/s", "CPU s", "peak MiB", "speed: hyper"]);
    let median = |samples: &[Sample]| Spread::of(samples.iter().map(|sample| sample.speed));
    let hyper = rows.first().and_then(|(_, samples)| median(samples));
    for (contender, samples) in rows {
        let speed = median(samples);
        let cpu = Spread::of(samples.iter().map(|sample| sample.cpu_seconds));
        let peak = samples.iter().map(|sample| sample.peak_memory).max();
        let ratio = speed
            .zip(hyper)
            .map(|(speed, hyper)| speed.median / hyper.median);
        let is_asked = contender.program == "host serve";
        table.row([
            format!("{}, {}", contender.program, contender.case),
            speed.map_or_else(|| "failed".into(), |speed| speed.to_string()),
            cpu.map_or_else(String::new, |cpu| number(cpu.median)),
            peak.map_or_else(String::new, |peak| (peak >> 20).to_string()),
            match ratio {
                Some(ratio) if is_asked => format!("{ratio:.2} ({FLOOR})"),
                Some(ratio) => format!("{ratio:.2}"),
                None => String::new(),
            },
        ]);
    }
    table
}

/// What is sent or read at once. The lengths sent are multiples of it.
const PIECE: usize = 256 * 1024;

/// A healthy transfer never stands still this long.
const PATIENCE: Duration = Duration::from_secs(20);
