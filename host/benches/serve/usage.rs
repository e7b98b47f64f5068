//! What a server's processes have used, as the kernel counts it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Pid;

/// The processes of a group.
pub(crate) fn members(group: Pid) -> impl Iterator<Item = Member> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(move |process| Member::read(process.path(), group))
}

/// A process of a server's group.
pub(crate) struct Member {
    /// CPU time so far, with that of its children that have ended.
    pub(crate) cpu: Duration,
    /// Memory that is resident, in bytes.
    pub(crate) memory: u64,
    /// The most that was.
    pub(crate) peak_memory: u64,
    pub(crate) threads: u64,
    /// Open files, sockets and pipes.
    pub(crate) descriptors: u64,
}

impl Member {
    fn read(process: PathBuf, group: Pid) -> Option<Self> {
        let stat = fs::read_to_string(process.join("stat")).ok()?;
        // The name is in parentheses and may hold anything; proc(5) counts state, which follows, as 3.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<i64>().ok();
        if field(5)? != i64::from(group.as_raw_nonzero().get()) {
            return None;
        }
        // In user mode and in the kernel, and the same of its children.
        let ticks = field(14)? + field(15)? + field(16)? + field(17)?;
        let status = fs::read_to_string(process.join("status")).ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let bytes = |name: &str| number(name).map_or(0, |kib| kib * 1024);
        Some(Self {
            cpu: Duration::from_secs(1) * u32::try_from(ticks).ok()? / TICKS_PER_SECOND,
            memory: bytes("VmRSS:"),
            peak_memory: bytes("VmHWM:"),
            threads: number("Threads:").unwrap_or(0),
            descriptors: fs::read_dir(process.join("fd")).map_or(0, |all| all.count() as u64),
        })
    }
}

/// `USER_HZ`, which Linux has fixed for programs whatever the kernel's own tick.
const TICKS_PER_SECOND: u32 = 100;
