//! What the system says of this process, under the names that Prometheus' own libraries use.

use std::fmt;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::names::{
    PROCESS_CPU, PROCESS_FDS, PROCESS_FDS_MAX, PROCESS_MEMORY, PROCESS_START, PROCESS_THREADS,
    PROCESS_VIRTUAL,
};
use super::{Page, Source};

/// This process. What the system does not tell is left out.
#[derive(Debug)]
pub(super) struct Process;

impl Source for Process {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        if !page.view.is_all() {
            return Ok(());
        }
        // `/proc/self/stat` has it by clock ticks, of which a short start takes none.
        let used = clock_gettime(ClockId::ProcessCPUTime);
        page.one(&PROCESS_CPU, used.tv_sec as f64 + used.tv_nsec as f64 / 1e9)?;
        if let Some(stat) = fs::read_to_string("/proc/self/stat")
            .ok()
            .as_deref()
            .and_then(Stat::parse)
        {
            let ticks = clock_ticks_per_second() as f64;
            page.one(&PROCESS_MEMORY, stat.pages * page_size() as u64)?;
            page.one(&PROCESS_VIRTUAL, stat.virtual_bytes)?;
            page.one(&PROCESS_THREADS, stat.threads)?;
            if let Some(started) = started(stat.started_ticks as f64 / ticks) {
                page.one(&PROCESS_START, started)?;
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // The one that looks is among them.
            page.one(&PROCESS_FDS, open.count().saturating_sub(1))?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            page.one(&PROCESS_FDS_MAX, most)?;
        }
        Ok(())
    }
}

/// Unix time, from seconds after the machine's start.
fn started(after_boot: f64) -> Option<f64> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let age = Duration::try_from_secs_f64(uptime - after_boot).ok()?;
    // A clock tick is no finer.
    Some((now.saturating_sub(age).as_secs_f64() * 100.0).round() / 100.0)
}

/// Fields of `/proc/self/stat`, see proc(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    threads: u64,
    started_ticks: u64,
    virtual_bytes: u64,
    pages: u64,
}

impl Stat {
    /// The name of the program, in brackets, may have anything in it.
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // The third field of the page is the first of these.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            threads: field(20)?,
            started_ticks: field(22)?,
            virtual_bytes: field(23)?,
            pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_anything_in_it_moves_no_field() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 5 0 99 4096 11 18446744073709551615";
        assert_eq!(
            Stat::parse(stat),
            Some(Stat {
                threads: 5,
                started_ticks: 99,
                virtual_bytes: 4096,
                pages: 11
            })
        );
        assert_eq!(Stat::parse("7 (a) S 1"), None);
    }
}
