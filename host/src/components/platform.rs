//! What differs between Linux and the other Unixes: our own program, files without a name, and ceilings.

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::limits;

/// The program that is running now, even if its file has been replaced since: a newer compiler would write artifacts
/// that this process cannot read.
pub(super) fn own_program() -> PathBuf {
    if cfg!(target_os = "linux") {
        return PathBuf::from("/proc/self/exe");
    }
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("host"))
}

/// A file that nobody else can open and that goes when its last handle does. On Linux it lies in memory, so neither a
/// full disk nor a `/tmp` mounted noexec keeps a component from being served.
pub(super) fn nameless_file() -> io::Result<File> {
    #[cfg(target_os = "linux")]
    if let Ok(file) = rustix::fs::memfd_create("component", rustix::fs::MemfdFlags::CLOEXEC) {
        return Ok(File::from(file));
    }
    tempfile::tempfile()
}

/// Whether code may be mapped from the file: not if its file system is mounted noexec.
pub(super) fn can_hold_code(file: &File) -> bool {
    #[cfg(target_os = "linux")]
    if let Ok(mount) = rustix::fs::fstatvfs(file) {
        return !mount.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC);
    }
    let _ = file;
    true
}

/// What one compiler may use. Set by the compiler's process on itself, before it reads a byte of the component.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessCeilings {
    pub(super) memory: u64,
    pub(super) cpu_seconds: u64,
    pub(super) output: u64,
}

impl ProcessCeilings {
    pub(super) fn impose(self) -> io::Result<()> {
        limit(Resource::Core, 0)?;
        limit(Resource::Cpu, self.cpu_seconds)?;
        limit(Resource::Fsize, self.output)?;
        // Memory that is written to. The address space is allowed twice as much: allocators reserve far more than they
        // use, the more so the more threads there are.
        limit(Resource::Data, self.memory)?;
        #[cfg(not(target_os = "openbsd"))]
        limit(Resource::As, self.memory.saturating_mul(2))?;
        // Neither is worth giving up for: a compiler that is not nice is still a compiler.
        let _ = nice(limits::NICENESS);
        #[cfg(target_os = "linux")]
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        Ok(())
    }
}

/// Never above the ceiling we run under ourselves, which only root could raise. The hard ceiling is one higher: at a hard
/// ceiling on CPU time the kernel kills without saying why.
fn limit(resource: Resource, wanted: u64) -> io::Result<()> {
    let allowed = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let (current, maximum) = (wanted.min(allowed), wanted.saturating_add(1).min(allowed));
    Ok(setrlimit(
        resource,
        Rlimit {
            current: Some(current),
            maximum: Some(maximum),
        },
    )?)
}
