//! A day in small: mixed traffic with faults, deploys and slow clients, and whether the host has more after it than after its
//! first minute.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::runtime::Runtime;

use crate::attacks::{self, Attack, raise_open_files};
use crate::contender::Installed;
use crate::crowd::{self, Clients, Counts, Crowd};
use crate::guests::Guests;
use crate::load;
use crate::report::{Section, Table};
use crate::server::Server;
use crate::site::{Door, Metrics, Site};
use crate::spread::number;

/// After which the host is looked at for the first time.
const FIRST: Duration = Duration::from_secs(60);
/// Between two deploys.
const DEPLOYS: Duration = Duration::from_secs(1);
/// Clients with slow heads, slow bodies, and that read nothing.
const SLOW: usize = 300;
/// How long the last requests may go on when their clients have left: guests that spin have 5 s of CPU time each.
const ENDING: Duration = Duration::from_secs(120);
/// From then until the host is looked at: handlers that nobody asks for stay loaded for 60 s, and what their instances have left
/// is given back 10 s later.
const RESTING: Duration = Duration::from_secs(80);
/// The part of its memory that the host may have more or less of.
const MEMORY: f64 = 0.05;

/// Asked in turn with `/ok`, each 2 times a second.
const FAULTS: &[&str] = &[
    "/trap",
    "/panic",
    "/abort",
    "/overflow",
    "/grow",
    "/table",
    "/hoard",
    "/burn?ms=20",
    "/after?ms=200",
    "/no-response",
    "/length-short",
    "/big-head",
    "/trap-mid-body",
    "/drop-body",
    "/leak-body",
    "/bytes?n=1000000",
    "/flood",
    "/outbound",
    "/error/internal-error",
];
/// Asked once in 20 s: each takes seconds of CPU time, or a place for half a minute.
const DEAR: &[&str] = &[
    "/spin",
    "/spin-after-headers",
    "/spin-after-response",
    "/never",
];

/// What deploys are answered that are done: the first, and another.
const DEPLOYED: &[u16] = &[201, 200];

/// What must be the same, by the names of the metrics.
const METRICS: &[(&str, &str)] = &[
    ("requests under way", "http_server_active_requests"),
    ("places taken", "host_permits{host_state=\"held\"}"),
    (
        "instances that run",
        "host_instances{host_state=\"running\"}",
    ),
    ("instances kept", "host_instances{host_state=\"idle\"}"),
    ("bytes of instances", "host_instance_memory_bytes"),
    ("connections", "host_connections"),
    ("handlers loaded", "host_handlers_loaded"),
];

/// What the host has when nobody asks anything of it.
struct Sample {
    memory: u64,
    /// Names and numbers that must be the same.
    others: Vec<(&'static str, f64)>,
}

pub(crate) fn measure(
    minutes: u32,
    guests: &Guests,
    installed: &Installed,
) -> anyhow::Result<Section> {
    raise_open_files()?;
    let site = Site::new("soak", &host_file(guests), installed)?;
    let server = Server::start(&site.host)?;
    let mut soak = Soak {
        runtime: crowd::runtime()?,
        server: &server,
        door: &site.door,
        guests,
        versions: 0,
        deploys: Counts::default(),
        innocent: Counts::default(),
        faulty: Counts::default(),
    };
    soak.deploy()?;
    ensure!(
        soak.deploys.others_than(DEPLOYED) == 0,
        "a deploy failed: {}",
        soak.deploys
    );
    eprintln!("soak: the first minute");
    soak.live(FIRST)?;
    let first = soak.at_rest()?;
    let rest = Duration::from_secs(60) * minutes.saturating_sub(1);
    eprintln!("soak: {} minutes more", minutes - 1);
    soak.live(rest)?;
    let last = soak.at_rest()?;

    let (table, mut notes) = compare(&first, &last);
    for (what, failed) in [
        (
            "requests of the innocent part",
            soak.innocent.others_than(&[200]),
        ),
        ("deploys", soak.deploys.others_than(DEPLOYED)),
    ] {
        if failed > 0 {
            notes.push(format!("**Missed** {failed} {what} failed."));
        }
    }
    if notes.is_empty() {
        notes.push("Nothing that is asked was missed.".to_owned());
    }
    notes.push(format!("Answers to the innocent part: {}.", soak.innocent));
    notes.push(format!("To those that ask for faults: {}.", soak.faulty));
    notes.push(format!("To deploys: {}.", soak.deploys));
    Ok(Section {
        title: "Soak",
        made: format!(
            "{minutes} minutes of traffic: `hello`, `hello-p3`, `echo` (64 KiB) and a handler that is deployed anew \
             every {DEPLOYS:?} are asked 100 times a second each; beside them `faults` and `faults-p3` for everything that they do \
             wrong, and {SLOW} slow clients. After {FIRST:?} and at the end all clients leave, and {RESTING:?} after the last request \
             the host is looked at."
        ),
        table,
        notes,
    })
}

/// Rows, and what was missed.
fn compare(first: &Sample, last: &Sample) -> (Table, Vec<String>) {
    let mut table = Table::new(&[
        "of the host",
        "after the first minute",
        "at the end",
        "difference",
        "asked",
    ]);
    let mut missed = Vec::new();
    let mut row = |name: &str, first: f64, last: f64, most: f64| {
        let part = match first {
            0.0 => last.min(1.0),
            first => last / first - 1.0,
        };
        let asked = match most {
            0.0 => "the same".to_owned(),
            most => format!("± {:.0} %", most * 100.0),
        };
        if part.abs() > most {
            missed.push(format!(
                "**Missed** {name}: {} and then {}.",
                said(first),
                said(last)
            ));
        }
        table.row([
            name.to_owned(),
            said(first),
            said(last),
            format!("{:+.1} %", part * 100.0),
            asked,
        ]);
    };
    let mib = |bytes: u64| bytes as f64 / 1048576.0;
    row(
        "resident memory, MiB",
        mib(first.memory),
        mib(last.memory),
        MEMORY,
    );
    for ((name, first), (_, last)) in first.others.iter().zip(&last.others) {
        row(name, *first, *last, 0.0);
    }
    (table, missed)
}

struct Soak<'a> {
    /// Of all clients.
    runtime: Runtime,
    server: &'a Server,
    door: &'a Door,
    guests: &'a Guests,
    /// Versions that were deployed.
    versions: u32,
    deploys: Counts,
    innocent: Counts,
    faulty: Counts,
}

impl Soak<'_> {
    /// Everybody asks for so long, and leaves.
    fn live(&mut self, period: Duration) -> anyhow::Result<()> {
        let (innocent, faulty) = (self.innocent(), self.faulty());
        let gathering = attacks::gather(Attack::All, SLOW, self.server.address);
        let _slow = self.runtime.block_on(gathering);
        let end = Instant::now() + period;
        while Instant::now() < end {
            let next = Instant::now() + DEPLOYS;
            self.deploy()?;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        self.innocent.add(innocent.take());
        self.faulty.add(faulty.take());
        Ok(())
    }

    fn innocent(&self) -> Crowd {
        let post =
            format!("POST /echo/ HTTP/1.1\r\nhost: localhost\r\ncontent-length: {ECHOED}\r\n\r\n");
        let requests = [
            load::request("/hello/"),
            load::request("/hello-p3/"),
            load::request("/changing/"),
            [post.as_bytes(), &[b'x'; ECHOED]].concat(),
        ];
        self.crowd(requests.map(|request| Clients {
            count: 8,
            every: Some(Duration::from_millis(80)),
            requests: vec![request],
        }))
    }

    fn faulty(&self) -> Crowd {
        let asked = |target: &&str, count, every| {
            ["", "/p3"].map(|guest| Clients {
                count,
                every: Some(every),
                requests: ["/ok", *target]
                    .map(|target| load::request(&format!("{guest}{target}")))
                    .to_vec(),
            })
        };
        let cheap = FAULTS
            .iter()
            .flat_map(|target| asked(target, 2, Duration::from_millis(500)));
        let dear = DEAR
            .iter()
            .flat_map(|target| asked(target, 1, Duration::from_secs(10)));
        self.crowd(cheap.chain(dear))
    }

    fn crowd(&self, all: impl IntoIterator<Item = Clients>) -> Crowd {
        let mut crowd = Crowd::default();
        for clients in all {
            crowd.add(self.runtime.handle(), self.server.address, &clients);
        }
        crowd
    }

    fn deploy(&mut self) -> anyhow::Result<()> {
        self.versions += 1;
        let component = self.guests.version(&self.versions.to_string())?;
        let deploying = self.door.deploy("/handlers/changing", None, &component);
        self.deploys.count(self.runtime.block_on(deploying)?);
        Ok(())
    }

    /// Waits until the last request has ended, and a little more.
    fn at_rest(&self) -> anyhow::Result<Sample> {
        let patience = Instant::now() + ENDING;
        while Instant::now() < patience {
            let metrics = self.metrics()?;
            let permits = metrics.value("host_permits{host_state=\"held\"}")?;
            if permits + metrics.value("host_connections")? == 0.0 {
                break;
            }
            thread::sleep(Duration::from_millis(200));
        }
        thread::sleep(RESTING);
        let memory = self.server.resident_memory();
        let mut others = vec![
            ("file descriptors", self.server.descriptors() as f64),
            ("threads", self.server.threads() as f64),
        ];
        let metrics = self.metrics()?;
        for &(name, metric) in METRICS {
            others.push((name, metrics.value(metric)?));
        }
        Ok(Sample { memory, others })
    }

    fn metrics(&self) -> anyhow::Result<Metrics> {
        self.runtime.block_on(self.door.metrics())
    }
}

/// A count, or a measure.
fn said(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        number(value)
    }
}

/// Bytes that are sent and come back.
const ECHOED: usize = 64 * 1024;

fn host_file(guests: &Guests) -> String {
    let handlers = [
        ("hello", &guests.hello, "\"/hello/*\""),
        ("hello-p3", &guests.hello_p3, "\"/hello-p3/*\""),
        ("echo", &guests.echo, "\"/echo/*\""),
        ("faults", &guests.faults, "\"/*\""),
        (
            "faults-p3",
            &guests.faults_p3,
            "{ path = \"/p3/*\", strip_prefix = true }",
        ),
    ];
    let table = |(name, guest, route): (&str, &PathBuf, &str)| {
        let source = guest.display().to_string();
        format!("[handlers.{name}]\nsource = {source:?}\nroutes = [{route}]\n")
    };
    handlers.map(table).concat()
}
