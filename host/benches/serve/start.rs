//! How long it takes until the door is open.

use std::path::Path;

use anyhow::Context as _;

use crate::contender::Installed;
use crate::guests::Guests;
use crate::report::{Section, Table};
use crate::server::Server;
use crate::spread::{Spread, number};

const STARTS: usize = 20;

pub(crate) fn measure(guests: &Guests, installed: &Installed) -> anyhow::Result<Section> {
    let mut table = Table::new(&["guest", "first start, ms", "later starts, ms"]);
    for (name, guest) in [("hello", &guests.hello), ("hello-p3", &guests.hello_p3)] {
        eprintln!("start: {name}");
        let (first, later) = starts(name, guest, installed)?;
        table.row([name.into(), number(first), format!("{later} (≤ 50)")]);
    }
    Ok(Section {
        title: "Start",
        made: format!(
            "`host serve`, from the start of the process to the line that it listens. The first start compiles \
             the component; {STARTS} later ones find it in the cache: median (least–most)."
        ),
        table,
        notes: Vec::new(),
    })
}

fn starts(
    name: &'static str,
    guest: &Path,
    installed: &Installed,
) -> anyhow::Result<(f64, Spread)> {
    // An earlier part may have filled it.
    std::fs::remove_dir_all(installed.cache()).ok();
    let host = installed.host(name, guest, &[]);
    let start = || anyhow::Ok(Server::start(&host)?.started_in.as_secs_f64() * 1e3);
    let first = start()?;
    let later = (0..STARTS)
        .map(|_| start())
        .collect::<Result<Vec<_>, _>>()?;
    Ok((first, Spread::of(later).context("no start")?))
}
