//! What an operator may set about components, with the defaults and their reasons.

use super::limits::Limits;
use crate::limits;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// How components are found and made.
#[derive(Clone, Debug)]
pub struct Config {
    /// Artifacts of earlier runs; None compiles at every start.
    pub cache: Option<CacheConfig>,
    /// What a component may ask for.
    pub limits: Limits,
    /// What compiling may use.
    pub ceilings: Ceilings,
    /// Compilers that run at the same time.
    pub compilers: usize,
    /// The program with the hidden subcommand, if not our own.
    pub program: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Config {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Config {
            cache: CacheConfig::of_user(),
            limits: Limits::default(),
            ceilings: Ceilings::default(),
            // One compiler already uses every core it may; a second lets a small handler pass a large one of somebody else.
            compilers: if cores >= 4 { 2 } else { 1 },
            program: None,
        }
    }
}

/// What one compilation may use.
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// Bytes of memory.
    pub memory: u64,
    /// CPU time of all its threads together.
    pub cpu: Duration,
    /// Time on the clock, from the start of the child.
    pub wall: Duration,
    /// Bytes of the artifact.
    pub output: u64,
    /// Threads of the compiler.
    pub threads: usize,
}

impl Default for Ceilings {
    fn default() -> Ceilings {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ceilings {
            memory: limits::COMPILE_MEMORY,
            cpu: limits::COMPILE_CPU,
            wall: limits::COMPILE_TIME,
            output: limits::ARTIFACT_BYTES,
            // More threads than these cost memory and gain little.
            threads: cores.min(8),
        }
    }
}

/// Where artifacts are kept, and how much of them.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// A directory of our own; made if it is missing.
    pub directory: PathBuf,
    /// Bytes of all entries together.
    pub ceiling: u64,
}

impl CacheConfig {
    /// In this directory, with the default ceiling.
    pub fn at(directory: impl Into<PathBuf>) -> CacheConfig {
        CacheConfig {
            directory: directory.into(),
            ceiling: limits::CACHE_BYTES,
        }
    }

    /// Where systemd or the XDG rules put it; None where there is no home either.
    pub fn of_user() -> Option<CacheConfig> {
        directory_from(|name| std::env::var_os(name)).map(CacheConfig::at)
    }
}

fn directory_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // The XDG rules ask for relative paths to be ignored.
    let absolute = |name| {
        variable(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    if let Some(given_by_systemd) = absolute("CACHE_DIRECTORY") {
        return Some(given_by_systemd.join("components"));
    }
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join("host/components"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_found_as_systemd_and_xdg_say() {
        let with = |set: &'static [(&str, &str)]| {
            directory_from(|name| {
                set.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| OsString::from(value))
            })
        };
        let path = |path: &str| Some(PathBuf::from(path));
        assert_eq!(
            with(&[("HOME", "/home/ada")]),
            path("/home/ada/.cache/host/components")
        );
        assert_eq!(
            with(&[("HOME", "/home/ada"), ("XDG_CACHE_HOME", "/c")]),
            path("/c/host/components")
        );
        assert_eq!(
            with(&[("HOME", "/home/ada"), ("XDG_CACHE_HOME", "c")]),
            path("/home/ada/.cache/host/components")
        );
        assert_eq!(
            with(&[("HOME", "/"), ("CACHE_DIRECTORY", "/var/cache/host")]),
            path("/var/cache/host/components")
        );
        assert_eq!(with(&[]), None);
    }
}
