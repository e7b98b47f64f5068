//! What a thousand instances that live at once take of the host's memory, beyond what their guests touch.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::attacks::raise_open_files;
use crate::contender::Installed;
use crate::crowd::{self, Clients, Crowd};
use crate::guests::Guests;
use crate::load;
use crate::report::{Section, Table};
use crate::server::Server;
use crate::site::Site;
use crate::spread::number;
use crate::usage::Footprint;

const INSTANCES: u32 = 1_000;
/// What they may take beyond that, in bytes.
const CEILING: u64 = 100_000_000;
/// What each is asked: it is answered when all has been looked at.
const TARGET: &str = "/sleep?ms=25000";
/// How long it may take until all live.
const GATHERING: Duration = Duration::from_secs(15);
/// From when they do until the host is looked at.
const SETTLING: Duration = Duration::from_secs(1);

pub(crate) fn measure(guests: &Guests, installed: &Installed) -> anyhow::Result<Section> {
    raise_open_files()?;
    let mut notes = Vec::new();
    let mut table = Table::new(&[
        "guests",
        "host before, MB",
        "with them, MB",
        "of that linear memories, MB",
        "more without these, MB",
        "bytes each",
        "most that was resident, MB",
    ]);
    for (name, guest) in [("0.2", &guests.faults), ("0.3", &guests.faults_p3)] {
        eprintln!("memory: {INSTANCES} instances of {name}");
        let site = Site::new("memory", &host_file(guest), installed)?;
        let server = Server::start(&site.host)?;
        let (before, with) = sample(&site, &server)?;
        let more = with.beyond().saturating_sub(before.beyond());
        if more > CEILING {
            notes.push(format!(
                "**Missed** {name}: {} MB, where {} are asked.",
                mb(more),
                mb(CEILING)
            ));
        }
        table.row([
            name.to_owned(),
            mb(before.all),
            mb(with.all),
            mb(with.guests),
            format!("{} (≤ {})", mb(more), mb(CEILING)),
            (more / u64::from(INSTANCES)).to_string(),
            mb(server.peak_memory()),
        ]);
    }
    Ok(Section {
        title: "Memory of instances",
        made: format!(
            "{INSTANCES} connections ask `faults` for an answer that comes later, each of an instance of its own; that guest stands for \
             `hello`, which cannot be held. {SETTLING:?} after all live, the memory of the host is read page by page from \
             `/proc/PID/smaps`, a page that several mappings share once. Linear memories are what lies open in the address space that \
             is kept for them: what the guests have touched. All the rest is the host's, their connections and stacks included."
        ),
        table,
        notes,
    })
}

/// After one request, and with all of them.
fn sample(site: &Site, server: &Server) -> anyhow::Result<(Footprint, Footprint)> {
    load::run_for(server.address, 1, Duration::from_millis(100), "/ok")?;
    let before = server.footprint()?;
    let runtime = crowd::runtime()?;
    let mut crowd = Crowd::default();
    let clients = Clients {
        count: INSTANCES,
        every: None,
        requests: vec![load::request(TARGET)],
    };
    crowd.add(runtime.handle(), server.address, &clients);
    let patience = Instant::now() + GATHERING;
    loop {
        let metrics = runtime.block_on(site.door.metrics())?;
        let running = metrics.value("host_instances{host_state=\"running\"}")?;
        if running >= f64::from(INSTANCES) {
            break;
        }
        ensure!(
            Instant::now() < patience,
            "only {running} of {INSTANCES} instances live after {GATHERING:?}"
        );
        thread::sleep(Duration::from_millis(100));
    }
    thread::sleep(SETTLING);
    Ok((before, server.footprint()?))
}

fn mb(bytes: u64) -> String {
    number(bytes as f64 / 1e6)
}

fn host_file(guest: &Path) -> String {
    let source = guest.display().to_string();
    format!(
        "[listen]\nmax_concurrent_requests = {INSTANCES}\n\
         [handlers.faults]\nsource = {source:?}\nroutes = [\"/*\"]\n\
         [handlers.faults.limits]\nmax_concurrent_requests = {INSTANCES}\n"
    )
}
