//! `wrk` as the client, where it is installed. It has the cores together with the server, whose requests cost more the more of them and
//! of their caches the client takes. Ours takes more.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::load::{CONNECTIONS, Load};

/// What it says of itself; None if it is not there.
pub(crate) fn version() -> Option<String> {
    // It ends with an error when it is only asked for that.
    let told = Command::new("wrk").arg("-v").output().ok()?;
    let text = String::from_utf8(told.stdout).ok()?;
    let (version, _) = text.split_once(" Copyright")?;
    Some(version.to_owned())
}

/// Asks for these targets in turn, over all connections at once for so many whole seconds.
pub(crate) fn run(
    address: SocketAddr,
    period: Duration,
    targets: &[String],
) -> anyhow::Result<Load> {
    // Each has as many connections as the others, so all are opened.
    let cores = thread::available_parallelism()?.get();
    let threads = (1..=cores.min(CONNECTIONS))
        .rfind(|it| CONNECTIONS.is_multiple_of(*it))
        .unwrap_or(1);
    let mut command = Command::new("wrk");
    command
        .arg("--latency")
        .arg(format!("-t{threads}"))
        .arg(format!("-c{CONNECTIONS}"))
        .arg(format!("-d{}s", period.as_secs_f64().ceil()));
    let mut script = tempfile::NamedTempFile::new()?;
    if let [target] = targets {
        command.arg(format!("http://{address}{target}"));
    } else {
        script.write_all(in_turn(targets, threads).as_bytes())?;
        command.arg("-s").arg(script.path());
        command.arg(format!("http://{address}/"));
    }
    let told = command.output().context("starting `wrk`")?;
    let text = [told.stdout, told.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    read(&text).with_context(|| format!("`wrk` says: {}", text.trim()))
}

/// A script for it. Each thread begins with another target.
fn in_turn(targets: &[String], threads: usize) -> String {
    let mut script = "local asks = {".to_owned();
    for target in targets {
        let _ = write!(
            script,
            "'GET {target} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n',"
        );
    }
    script
        + &format!(
            "}}
             local threads = 0
             function setup(thread) thread:set('nth', threads) threads = threads + 1 end
             function init() at = math.floor(nth * #asks / {threads}) end
             function request() at = at % #asks + 1 return asks[at] end\n"
        )
}

fn read(text: &str) -> anyhow::Result<Load> {
    let lines = text.lines().map(str::trim);
    let is_failure = |line: &&str| line.starts_with("Non-2xx") || line.starts_with("Socket errors");
    if let Some(failure) = lines.clone().find(is_failure) {
        bail!("{failure}");
    }
    let after = |start: &str| {
        let found = lines.clone().find_map(|line| line.strip_prefix(start));
        found
            .map(str::trim)
            .with_context(|| format!("no line of `{start}`"))
    };
    let done = lines
        .clone()
        .find_map(|line| line.split_once(" requests in "));
    let requests: usize = done.context("no number of requests")?.0.parse()?;
    ensure!(requests > 0, "nothing was answered");
    let per_second: f64 = after("Requests/sec:")?.parse()?;
    Ok(Load {
        requests,
        // It says how long it took as well, and rounds that more.
        took: Duration::from_secs_f64(requests as f64 / per_second),
        p50: duration(after("50%")?)?,
        p99: duration(after("99%")?)?,
    })
}

/// Such as `482.00us`, `1.60ms`, `2.00s` or `1.00m`. It rounds to 10 µs.
fn duration(text: &str) -> anyhow::Result<Duration> {
    let unit = text.trim_start_matches(|it: char| it.is_ascii_digit() || it == '.');
    let number: f64 = text[..text.len() - unit.len()].parse()?;
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        other => bail!("an unknown unit of time: `{other}`"),
    };
    Ok(Duration::from_secs_f64(number * seconds))
}
