//! Replacements under load: ten thousand requests a second for a minute, while the handler that they ask is replaced a hundred
//! times.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::contender::Installed;
use crate::crowd::{self, Clients, Counts, Crowd};
use crate::guests::Guests;
use crate::load;
use crate::report::{Section, Table};
use crate::server::Server;
use crate::site::Site;
use crate::spread::{Spread, number};

/// Clients, and how often each asks: together [`PER_SECOND`].
const CLIENTS: u32 = 40;
/// See [`CLIENTS`].
const EVERY: Duration = Duration::from_millis(4);
const PER_SECOND: u32 = 10_000;
/// Replacements, and in what time they are due. A machine that cannot compile so many in it takes longer, and is asked so long.
const REPLACEMENTS: u32 = 100;
/// See [`REPLACEMENTS`].
const PERIOD: Duration = Duration::from_secs(60);
/// The part of the requests that must have been asked: the last ones are on their way.
const ASKED: f64 = 0.99;

pub(crate) fn measure(guests: &Guests, installed: &Installed) -> anyhow::Result<Section> {
    let site = Site::new("replaced", "", installed)?;
    let server = Server::start(&site.host)?;
    let runtime = crowd::runtime()?;
    let deploy = |version: u32| {
        let component = guests.version(&version.to_string())?;
        runtime.block_on(site.door.deploy("/handlers/changing", None, &component))
    };
    let first = deploy(0)?;
    ensure!(first == 201, "the first deploy was answered {first}");

    eprintln!("replaced: {REPLACEMENTS} replacements in {PERIOD:?}");
    let mut crowd = Crowd::default();
    let clients = Clients {
        count: CLIENTS,
        every: Some(EVERY),
        requests: vec![load::request("/changing/")],
    };
    crowd.add(runtime.handle(), server.address, &clients);
    let (start, mut deploys, mut took) = (Instant::now(), Counts::default(), Vec::new());
    for nth in 1..=REPLACEMENTS {
        let due = start + PERIOD / REPLACEMENTS * nth;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let began = Instant::now();
        deploys.count(deploy(nth)?);
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let (answers, period) = (crowd.take(), start.elapsed());

    let a_second = answers.others_than(&[]) as f64 / period.as_secs_f64();
    let failed = answers.others_than(&[200]);
    let refused = deploys.others_than(&[200]);
    let mut table = Table::new(&["of the host", "measured", "asked"]);
    let mut row = |what: &str, measured: String, asked: String| {
        table.row([what.into(), measured, asked]);
    };
    row(
        "requests/s",
        number(a_second),
        number(f64::from(PER_SECOND)),
    );
    row(
        "for so long, s",
        number(period.as_secs_f64()),
        format!("≥ {}", PERIOD.as_secs()),
    );
    row(
        "replacements",
        (u64::from(REPLACEMENTS) - refused).to_string(),
        REPLACEMENTS.to_string(),
    );
    row("failed requests", failed.to_string(), "0".to_owned());
    if let Some(took) = Spread::of(took) {
        row("a replacement, ms", took.to_string(), String::new());
    }
    let mut notes = Vec::new();
    if failed > 0 {
        notes.push(format!("**Missed** requests were answered {answers}."));
    }
    if refused > 0 {
        notes.push(format!("**Missed** deploys were answered {deploys}."));
    }
    if a_second < f64::from(PER_SECOND) * ASKED {
        notes.push("**Missed** not as many were asked: the machine is too slow.".to_owned());
    }
    Ok(Section {
        title: "Replacements under load",
        made: format!(
            "{CLIENTS} clients ask `hello` once in {EVERY:?} each, over kept connections, and who is late catches up. Meanwhile it is \
             deployed {REPLACEMENTS} times at the operator's door, each time another component, which is sent, compiled and put in \
             place. Median (least–most)."
        ),
        table,
        notes,
    })
}
