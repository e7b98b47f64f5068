//! What a server's processes have used, as the kernel counts it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
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

/// The memory of one process, in bytes. A page that several of its mappings share counts once.
#[derive(Clone, Copy)]
pub(crate) struct Footprint {
    pub(crate) all: u64,
    /// Of that, in linear memories of a pool.
    pub(crate) guests: u64,
}

impl Footprint {
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let file = format!("/proc/{process}/smaps");
        let smaps = fs::read_to_string(&file).with_context(|| format!("reading `{file}`"))?;
        let mappings = Mapping::all(&smaps);
        Ok(Self {
            all: mappings.iter().map(|mapping| mapping.bytes).sum(),
            guests: in_pool(&mappings),
        })
    }

    /// What is not in linear memories.
    pub(crate) fn beyond(self) -> u64 {
        self.all.saturating_sub(self.guests)
    }
}

struct Mapping {
    start: u64,
    end: u64,
    /// It may be read or written.
    is_open: bool,
    /// In memory, by its share of pages that others map too.
    bytes: u64,
}

impl Mapping {
    fn all(smaps: &str) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for line in smaps.lines() {
            if let Some(mapping) = Self::begin(line) {
                all.push(mapping);
            } else if let (Some(last), Some(pss)) = (all.last_mut(), line.strip_prefix("Pss:")) {
                let kib = pss.split_whitespace().next().and_then(|it| it.parse().ok());
                last.bytes = kib.unwrap_or(0) * 1024;
            }
        }
        all
    }

    /// `7f0000000000-7f0000010000 rw-p …` begins one.
    fn begin(line: &str) -> Option<Self> {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        Some(Self {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            is_open: !rest.starts_with("---"),
            bytes: 0,
        })
    }
}

/// Bytes of what lies open between two closed pieces that are as large as only a pool of linear memories leaves them: behind
/// each memory are some gigabytes in which no access is checked.
fn in_pool(mappings: &[Mapping]) -> u64 {
    let (mut sum, mut end) = (0, 0);
    let mut since: Option<u64> = None;
    for mapping in mappings {
        if mapping.start != end {
            since = None;
        }
        end = mapping.end;
        let is_large = mapping.end - mapping.start >= LARGE;
        since = match (mapping.is_open, is_large) {
            (true, false) => since.map(|bytes| bytes + mapping.bytes),
            (false, true) => {
                sum += since.unwrap_or(0);
                Some(0)
            }
            // The pool of tables is open as a whole, and the stacks are apart by a page.
            (true, true) | (false, false) => None,
        };
    }
    sum
}

/// Bytes of a closed piece behind a memory, at least, and more than any memory has here.
const LARGE: u64 = 1 << 30;

/// `USER_HZ`, which Linux has fixed for programs whatever the kernel's own tick.
const TICKS_PER_SECOND: u32 = 100;
