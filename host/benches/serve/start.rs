//! How long it takes until the door is open, and until somebody is answered.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;

use crate::contender::Installed;
use crate::guests::Guests;
use crate::load;
use crate::report::{Section, Table};
use crate::server::Server;
use crate::spread::{Spread, number};

const STARTS: usize = 20;

pub(crate) fn measure(guests: &Guests, installed: &Installed) -> anyhow::Result<Section> {
    let mut table = Table::new(&[
        "guest",
        "first start, ms",
        "later starts, ms",
        "later, to the first byte, ms",
    ]);
    for (name, guest) in [("hello", &guests.hello), ("hello-p3", &guests.hello_p3)] {
        eprintln!("start: {name}");
        let Starts {
            first,
            later,
            answers,
        } = starts(name, guest, installed)?;
        table.row([
            name.into(),
            number(first),
            format!("{later} (≤ 50)"),
            format!("{answers} (≤ 40)"),
        ]);
    }
    Ok(Section {
        title: "Start",
        made: format!(
            "`host serve`, from the start of the process to the line that it listens. The first start compiles \
             the component; {STARTS} later ones find it in the cache: median (least–most). A client that connects then asks for `/`: to \
             the first byte of its answer is from the start of the process, too."
        ),
        table,
        notes: Vec::new(),
    })
}

/// In ms.
struct Starts {
    first: f64,
    later: Spread,
    /// The later ones, until there was an answer.
    answers: Spread,
}

fn starts(name: &'static str, guest: &Path, installed: &Installed) -> anyhow::Result<Starts> {
    // An earlier part may have filled it.
    std::fs::remove_dir_all(installed.cache()).ok();
    let host = installed.host(name, guest, &[]);
    let start = || {
        let server = Server::start(&host)?;
        let asked = Instant::now();
        let mut client = TcpStream::connect(server.address)?;
        client.write_all(&load::request("/"))?;
        client.read_exact(&mut [0])?;
        let answered = server.started_in + asked.elapsed();
        let ms = [server.started_in, answered].map(|took| took.as_secs_f64() * 1e3);
        anyhow::Ok(ms)
    };
    let [first, _] = start()?;
    let later = (0..STARTS)
        .map(|_| start())
        .collect::<Result<Vec<_>, _>>()?;
    let spread = |at: usize| Spread::of(later.iter().map(|ms| ms[at])).context("no start");
    Ok(Starts {
        first,
        later: spread(0)?,
        answers: spread(1)?,
    })
}
