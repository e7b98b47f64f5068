//! Two tenants of one host: what the requests of a quiet one feel of what a loud one does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use crate::attacks::{self, Attack, Attackers, SETTLING, raise_open_files};
use crate::contender::Installed;
use crate::crowd::{self, Answers, BROKEN, Clients, Counts, Crowd};
use crate::guests::{Guests, ballast};
use crate::load;
use crate::quiet::{self, PER_SECOND, Quiet, ms};
use crate::report::{Section, Table};
use crate::server::Server;
use crate::site::{Door, Site, TOKEN};
use crate::turn;

/// What is asked of the quiet one's p99: so many times its own alone, or so much, whichever is more.
const TIMES: u32 = 2;
const FLOOR: Duration = Duration::from_millis(5);
/// Components that are on their way at once. The door lets two of a tenant be compiled, and refuses the others.
const UPLOADERS: u32 = 16;
/// Of the loud one, between two requests that it answers: so it is not quarantined.
const FAULTS: usize = 9;

/// What the loud one does.
struct Neighbour {
    name: &'static str,
    /// Requests that the host serves at once, and of those the loud handler.
    places: [u32; 2],
    act: Act,
}

enum Act {
    Nothing,
    /// Its handler is asked for this.
    Ask {
        clients: u32,
        every: Option<Duration>,
        target: String,
    },
    /// Its clients read nothing.
    Stall(usize),
    /// It deploys so many large components.
    Upload(u32),
}

/// As many as there are by default.
const PLACES: [u32; 2] = [1_000, 250];

fn neighbours(silent: SocketAddr) -> Vec<Neighbour> {
    let plain = |name, act| Neighbour {
        name,
        places: PLACES,
        act,
    };
    let ask = |name, clients, every, target: &str| {
        let target = target.to_owned();
        plain(
            name,
            Act::Ask {
                clients,
                every,
                target,
            },
        )
    };
    // Of each client, so that there are so many faults of all in a second.
    let faults = |clients: u32, per_second: u32| {
        let requests = per_second + per_second / FAULTS as u32;
        Some(Duration::from_secs(clients.into()) / requests)
    };
    vec![
        plain("nobody", Act::Nothing),
        ask("64 spinning requests", 64, None, "/spin"),
        ask("16 burns of 20 ms at once", 16, None, "/burn?ms=20"),
        Neighbour {
            places: [1_000, 750],
            ..ask(
                "700 that burn 0.2 ms again and again",
                700,
                None,
                "/flutter?n=100&us=200",
            )
        },
        ask("8 that allocate to the limit", 8, None, "/grow"),
        ask("5,000 traps a second", 64, faults(64, 5_000), "/trap"),
        ask("8 that flood stdout", 8, None, "/flood"),
        ask(
            "500 a second that spin after their response",
            64,
            faults(64, 500),
            "/spin-after-response",
        ),
        plain("2,000 stalled readers", Act::Stall(2_000)),
        plain("50 uploads of large components", Act::Upload(50)),
        Neighbour {
            places: [4_000, 1_000],
            ..ask(
                "1,000 connections to a silent server",
                1_000,
                None,
                &format!("/outbound?to={silent}"),
            )
        },
        Neighbour {
            places: [1_000, 1_000],
            ..ask(
                "1,100 that want every place of the host",
                1_100,
                None,
                "/sleep?ms=20000",
            )
        },
    ]
}

/// A neighbour and its rounds.
struct Row {
    neighbour: Neighbour,
    quiet: Quiet,
    /// What the loud one was answered.
    done: Counts,
    /// The most places that it held at the end of a round, and connections where they are the point.
    places: usize,
    connections: usize,
    /// Of the host.
    cpu: Duration,
    took: Duration,
}

/// One round.
struct Sample {
    quiet: Quiet,
    done: Counts,
    places: usize,
    connections: usize,
    cpu: Duration,
    took: Duration,
}

pub(crate) fn measure(
    rounds: u32,
    period: Duration,
    guests: &Guests,
    installed: &Installed,
) -> anyhow::Result<Section> {
    raise_open_files()?;
    let bench = Bench {
        runtime: crowd::runtime()?,
        guests,
        ballast: ballast()?,
        period,
    };
    let silent = bench.runtime.block_on(Silent::listen())?;
    let row = |neighbour| Row {
        neighbour,
        quiet: Quiet::default(),
        done: Counts::default(),
        places: 0,
        connections: 0,
        cpu: Duration::ZERO,
        took: Duration::ZERO,
    };
    let mut rows: Vec<_> = neighbours(silent.address).into_iter().map(row).collect();
    let mut notes = Vec::new();
    for round in 1..=rounds {
        for row in &mut rows {
            let name = row.neighbour.name;
            eprintln!("neighbours, round {round} of {rounds}: {name}");
            let text = host_file(guests, row.neighbour.places, silent.address);
            let site = Site::new(name, &text, installed)?;
            let sample = bench.sample(round, &site, &row.neighbour.act, &silent);
            if let Some(sample) = turn(round, &site.host, sample, &mut notes) {
                row.quiet.add(sample.quiet);
                row.done.add(sample.done);
                row.places = row.places.max(sample.places);
                row.connections = row.connections.max(sample.connections);
                row.cpu += sample.cpu;
                row.took += sample.took;
            }
        }
    }
    let alone = rows.first().context("no rows")?.quiet.percentile(0.99);
    let asked = (alone * TIMES).max(FLOOR);
    let missed = rows
        .iter()
        .filter(|row| row.quiet.lost > 0 || row.quiet.percentile(0.99) > asked);
    notes.extend(missed.map(|row| row.missed(asked)));
    if notes.is_empty() {
        notes.push("Nothing that is asked was missed.".to_owned());
    }
    Ok(Section {
        title: "Neighbours",
        made: format!(
            "The handler `hello` of one tenant is asked {PER_SECOND} times a second, each request when it is due and every other one \
             over a new connection, {rounds} rounds of {period:?} each in a host of its own, while another tenant has been doing \
             something for {SETTLING:?}. Latencies are in ms and from when a request was due. Anything but 200 in time is lost. The \
             loud one's handler is `faults`; one request in ten is answered, so that it is not quarantined. Its clients share the \
             cores. Limits are the defaults, other than places: 750 of the host's 1,000 are the loud one's in the row of the 700, and in the last two 1,000 of 4,000 and all \
             1,000."
        ),
        table: table(&rows, alone, asked),
        notes,
    })
}

fn table(rows: &[Row], alone: Duration, asked: Duration) -> Table {
    let mut table = Table::new(&[
        "beside",
        "requests",
        "lost (0)",
        "median",
        "p99",
        "most",
        "p99 alone",
        "asked of p99",
        "host's cores",
        "the loud one meanwhile",
    ]);
    for row in rows {
        let [median, p99, most] = row.quiet.cells();
        let cores = row.cpu.as_secs_f64() / row.took.as_secs_f64().max(f64::MIN_POSITIVE);
        table.row([
            row.neighbour.name.to_owned(),
            row.quiet.requests().to_string(),
            row.quiet.lost.to_string(),
            median,
            p99,
            most,
            ms(alone),
            format!("≤ {}", ms(asked)),
            format!("{cores:.2}"),
            row.meanwhile(),
        ]);
    }
    table
}

impl Row {
    /// What shows that the loud one was loud.
    fn meanwhile(&self) -> String {
        let held = [(self.places, "places"), (self.connections, "connections")];
        let held = held.iter().filter(|(count, _)| *count > 0);
        let mut said: Vec<_> = held
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        said.extend(self.done.a_second(self.took));
        said.join(", ")
    }

    fn missed(&self, asked: Duration) -> String {
        format!(
            "**Missed** beside {}: {} of {} lost, p99 {} ms, where none and ≤ {} are asked.",
            self.neighbour.name,
            self.quiet.lost,
            self.quiet.requests(),
            ms(self.quiet.percentile(0.99)),
            ms(asked)
        )
    }
}

/// What all rounds share.
struct Bench<'a> {
    /// Of the loud one's clients.
    runtime: Runtime,
    guests: &'a Guests,
    ballast: Vec<u8>,
    period: Duration,
}

/// What a loud one does, until this is dropped.
struct Loud {
    crowd: Crowd,
    attackers: Option<Attackers>,
}

impl Bench<'_> {
    fn sample(
        &self,
        round: u32,
        site: &Site,
        act: &Act,
        silent: &Silent,
    ) -> anyhow::Result<Sample> {
        let server = Server::start(&site.host)?;
        // Loaded before anybody looks.
        quiet::ask(server.address, QUIET, Duration::from_millis(500));
        let loud = self.begin(round, act, server.address, &site.door)?;
        thread::sleep(SETTLING);
        loud.crowd.take();
        let (before, began) = (server.cpu(), Instant::now());
        let quiet = quiet::ask(server.address, QUIET, self.period);
        Ok(Sample {
            quiet,
            done: loud.crowd.take(),
            cpu: server.cpu().saturating_sub(before),
            took: began.elapsed(),
            places: self.runtime.block_on(places(&site.door)).unwrap_or(0),
            connections: match &loud.attackers {
                Some(attackers) => attackers.there(),
                None => silent.open.load(Ordering::Relaxed),
            },
        })
    }

    fn begin(
        &self,
        round: u32,
        act: &Act,
        address: SocketAddr,
        door: &Door,
    ) -> anyhow::Result<Loud> {
        let mut loud = Loud {
            crowd: Crowd::default(),
            attackers: None,
        };
        match act {
            Act::Nothing => {}
            Act::Ask {
                clients,
                every,
                target,
            } => {
                let faults = std::iter::repeat_n(load::request(target), FAULTS);
                let clients = Clients {
                    count: *clients,
                    every: *every,
                    requests: std::iter::once(load::request("/ok"))
                        .chain(faults)
                        .collect(),
                };
                loud.crowd.add(self.runtime.handle(), address, &clients);
            }
            Act::Stall(readers) => {
                let gathered = attacks::gather(Attack::Reads, *readers, address);
                loud.attackers = Some(self.runtime.block_on(gathered));
            }
            Act::Upload(components) => {
                for first in 0..UPLOADERS {
                    let mine = (first..*components).step_by(UPLOADERS as usize);
                    let mine = mine.map(|nth| anyhow::Ok((nth, self.large(round, nth)?)));
                    let mine = mine.collect::<anyhow::Result<Vec<_>>>()?;
                    let door = door.clone();
                    loud.crowd
                        .spawn(self.runtime.handle(), |answers| upload(door, mine, answers));
                }
            }
        }
        Ok(loud)
    }

    /// A large component that nobody has had before.
    fn large(&self, round: u32, nth: u32) -> anyhow::Result<Vec<u8>> {
        let version = self.guests.version(&format!("{round}-{nth}"))?;
        Ok([version, self.ballast.clone()].concat())
    }
}

/// Each until it is deployed, with those that are refused tried again.
async fn upload(door: Door, components: Vec<(u32, Vec<u8>)>, answers: Arc<Answers>) {
    for (nth, component) in components {
        let target = format!("/handlers/up{nth}?route=/loud/{nth}/*");
        loop {
            let answered = door.deploy(&target, Some(TOKEN), &component).await;
            let status = answered.unwrap_or(BROKEN);
            answers.count(status);
            if status == 201 {
                break;
            }
            sleep(crowd::PAUSE).await;
        }
    }
}

/// That the loud one holds; None if the door does not say in time, which uploads may keep busy.
async fn places(door: &Door) -> Option<usize> {
    let metrics = timeout(Duration::from_secs(2), door.metrics())
        .await
        .ok()?
        .ok()?;
    let held = metrics.value("host_tenant_permits{host_tenant=\"loud\",host_state=\"held\"}");
    Some(held.ok()? as usize)
}

/// A route of the quiet one's.
const QUIET: &str = "/quiet/";

fn host_file(guests: &Guests, [places, of_loud]: [u32; 2], silent: SocketAddr) -> String {
    let [hello, faults] = [&guests.hello, &guests.faults].map(|path| path.display().to_string());
    format!(
        r#"
[listen]
max_concurrent_requests = {places}
[tenants.quiet]
[tenants.loud]
routes = ["/loud/*"]
admin_tokens = [{{ from_file = "tenant.token" }}]
[handlers.quiet]
source = {hello:?}
tenant = "quiet"
routes = ["/quiet/*"]
[handlers.loud]
source = {faults:?}
tenant = "loud"
routes = ["/*"]
[handlers.loud.limits]
max_concurrent_requests = {of_loud}
[handlers.loud.outbound]
allow = [{{ to = "http://{silent}", max_connections = 1000 }}]
networks = ["127.0.0.0/8"]
max_connections = 1000
"#
    )
}

/// A server that takes connections, reads and never answers. It ends with the runtime.
struct Silent {
    address: SocketAddr,
    /// Connections that are open.
    open: Arc<AtomicUsize>,
}

impl Silent {
    async fn listen() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let silent = Self {
            address: listener.local_addr()?,
            open: Arc::default(),
        };
        let open = Arc::clone(&silent.open);
        tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else {
                    continue;
                };
                let open = Arc::clone(&open);
                open.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    tokio::io::copy(&mut stream, &mut tokio::io::sink())
                        .await
                        .ok();
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Ok(silent)
    }
}
