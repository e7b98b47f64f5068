//! Every interface that the host links, and what a guest could reach through it.
//!
//! One table, so that an import nobody provides is found, named and compared with what exists before anything is
//! compiled. That the engine links all of it is normal: a guest's *grants* decide what its calls do, not the linker.

use crate::engine::Generation;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Something outside the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// Other HTTP servers.
    OutboundHttp,
    /// Directories of this machine.
    Files,
    /// Containers of large values.
    Blobstore,
    /// TCP, UDP and name lookup.
    Sockets,
    /// Environment variables and arguments.
    Environment,
    /// Values by key.
    Configuration,
    /// Standard output, standard error and records: the handler's log.
    Output,
    /// The time of day and elapsed time.
    Clocks,
    /// Random numbers.
    Randomness,
    /// Buckets of keys and values.
    KeyValue,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reach::OutboundHttp => "outbound HTTP",
            Reach::Files => "files",
            Reach::Blobstore => "containers",
            Reach::Sockets => "sockets",
            Reach::Environment => "environment",
            Reach::Configuration => "configuration",
            Reach::Output => "stdout and stderr",
            Reach::Clocks => "clocks",
            Reach::Randomness => "randomness",
            Reach::KeyValue => "key-value buckets",
        })
    }
}

/// What wasmtime-wasi 48, wasmtime-wasi-http 48 and `capabilities` add to a linker, and the interfaces that hold only types, each with its
/// *track*: the versions that the linker takes one for another, 0.2.0 to 0.2.x. A draft or candidate is taken for no other
/// version and stands with its whole name. Unstable interfaces (`wasi:clocks/timezone`) are not linked.
const PROVIDED: &[(&str, Option<Reach>)] = &[
    ("wasi:http/types@0.2", None),
    ("wasi:http/outgoing-handler@0.2", Some(Reach::OutboundHttp)),
    ("wasi:cli/environment@0.2", Some(Reach::Environment)),
    ("wasi:config/store@0.2.0-rc.1", Some(Reach::Configuration)),
    ("wasi:config/store@0.2.0-draft", Some(Reach::Configuration)),
    (
        "wasi:config/store@0.2.0-draft-2024-09-27",
        Some(Reach::Configuration),
    ),
    (
        "wasi:config/runtime@0.2.0-draft",
        Some(Reach::Configuration),
    ),
    ("wasi:cli/stdout@0.2", Some(Reach::Output)),
    ("wasi:cli/stderr@0.2", Some(Reach::Output)),
    ("wasi:cli/exit@0.2", None),
    ("wasi:cli/stdin@0.2", None),
    ("wasi:cli/terminal-input@0.2", None),
    ("wasi:cli/terminal-output@0.2", None),
    ("wasi:cli/terminal-stdin@0.2", None),
    ("wasi:cli/terminal-stdout@0.2", None),
    ("wasi:cli/terminal-stderr@0.2", None),
    ("wasi:clocks/monotonic-clock@0.2", Some(Reach::Clocks)),
    ("wasi:clocks/wall-clock@0.2", Some(Reach::Clocks)),
    ("wasi:filesystem/types@0.2", Some(Reach::Files)),
    ("wasi:filesystem/preopens@0.2", Some(Reach::Files)),
    ("wasi:io/error@0.2", None),
    ("wasi:io/poll@0.2", None),
    ("wasi:io/streams@0.2", None),
    ("wasi:random/random@0.2", Some(Reach::Randomness)),
    ("wasi:random/insecure@0.2", Some(Reach::Randomness)),
    ("wasi:random/insecure-seed@0.2", Some(Reach::Randomness)),
    ("wasi:sockets/network@0.2", Some(Reach::Sockets)),
    ("wasi:sockets/instance-network@0.2", Some(Reach::Sockets)),
    ("wasi:sockets/ip-name-lookup@0.2", Some(Reach::Sockets)),
    ("wasi:sockets/tcp@0.2", Some(Reach::Sockets)),
    ("wasi:sockets/tcp-create-socket@0.2", Some(Reach::Sockets)),
    ("wasi:sockets/udp@0.2", Some(Reach::Sockets)),
    ("wasi:sockets/udp-create-socket@0.2", Some(Reach::Sockets)),
    ("wasi:logging/logging@0.1.0-draft", Some(Reach::Output)),
    ("wasi:blobstore/types@0.2.0-draft", None),
    (
        "wasi:blobstore/container@0.2.0-draft",
        Some(Reach::Blobstore),
    ),
    (
        "wasi:blobstore/blobstore@0.2.0-draft",
        Some(Reach::Blobstore),
    ),
    ("wasi:keyvalue/store@0.2.0-draft", Some(Reach::KeyValue)),
    ("wasi:keyvalue/atomics@0.2.0-draft", Some(Reach::KeyValue)),
    ("wasi:keyvalue/batch@0.2.0-draft", Some(Reach::KeyValue)),
    ("wasi:keyvalue/store@0.2.0-draft2", Some(Reach::KeyValue)),
    ("wasi:keyvalue/atomics@0.2.0-draft2", Some(Reach::KeyValue)),
    ("wasi:keyvalue/batch@0.2.0-draft2", Some(Reach::KeyValue)),
    ("wasi:http/types@0.3", None),
    ("wasi:http/client@0.3", Some(Reach::OutboundHttp)),
    ("wasi:cli/environment@0.3", Some(Reach::Environment)),
    ("wasi:cli/stdout@0.3", Some(Reach::Output)),
    ("wasi:cli/stderr@0.3", Some(Reach::Output)),
    ("wasi:cli/exit@0.3", None),
    ("wasi:cli/stdin@0.3", None),
    ("wasi:cli/types@0.3", None),
    ("wasi:cli/terminal-input@0.3", None),
    ("wasi:cli/terminal-output@0.3", None),
    ("wasi:cli/terminal-stdin@0.3", None),
    ("wasi:cli/terminal-stdout@0.3", None),
    ("wasi:cli/terminal-stderr@0.3", None),
    ("wasi:clocks/types@0.3", Some(Reach::Clocks)),
    ("wasi:clocks/monotonic-clock@0.3", Some(Reach::Clocks)),
    ("wasi:clocks/system-clock@0.3", Some(Reach::Clocks)),
    ("wasi:filesystem/types@0.3", Some(Reach::Files)),
    ("wasi:filesystem/preopens@0.3", Some(Reach::Files)),
    ("wasi:random/random@0.3", Some(Reach::Randomness)),
    ("wasi:random/insecure@0.3", Some(Reach::Randomness)),
    ("wasi:random/insecure-seed@0.3", Some(Reach::Randomness)),
    ("wasi:sockets/types@0.3", Some(Reach::Sockets)),
    ("wasi:sockets/ip-name-lookup@0.3", Some(Reach::Sockets)),
];

/// The name of an import or export, taken apart: `wasi:http/types` and the track `0.2`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) interface: &'a str,
    /// None where the version is missing, a pre-release or not of the form 0.y.z or x.y.z: nothing is compatible with it.
    pub(super) track: Option<&'a str>,
}

impl<'a> Name<'a> {
    pub(super) fn parse(full: &'a str) -> Name<'a> {
        match full.split_once('@') {
            Some((interface, version)) => Name {
                interface,
                track: track(version),
            },
            None => Name {
                interface: full,
                track: None,
            },
        }
    }

    pub(super) fn is(&self, interface: &str, track: &str) -> bool {
        self.interface == interface && self.track == Some(track)
    }
}

/// The part of a released version within which the linker takes one for another.
fn track(version: &str) -> Option<&str> {
    let released = version.split('+').next()?;
    let mut parts = released.split('.');
    let (major, minor, patch) = (parts.next()?, parts.next()?, parts.next()?);
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if parts.next().is_some() || ![major, minor, patch].into_iter().all(is_number) {
        return None;
    }
    match (major, minor) {
        ("0", "0") => None,
        ("0", _) => Some(&version[..major.len() + 1 + minor.len()]),
        _ => Some(major),
    }
}

/// What the linker of this generation has: a 0.3 guest is given all of 0.2 as well.
fn linked(generation: Generation) -> impl Iterator<Item = &'static (&'static str, Option<Reach>)> {
    PROVIDED
        .iter()
        .filter(move |(name, _)| generation == Generation::P3 || !name.ends_with("@0.3"))
}

/// What the interface lets a guest reach, or None if nobody provides it.
pub(super) fn provided(generation: Generation, import: &str) -> Option<Option<Reach>> {
    let name = on_track(import)?;
    let (_, reach) = linked(generation).find(|(linked, _)| *linked == name)?;
    Some(*reach)
}

/// The name as the table has it: with its track, or whole if it is a draft's. None if it has no version.
fn on_track(full: &str) -> Option<Cow<'_, str>> {
    let Name { interface, track } = Name::parse(full);
    if let Some(track) = track {
        return Some(Cow::Owned(format!("{interface}@{track}")));
    }
    let (_, version) = full.split_once('@')?;
    version.contains('-').then_some(Cow::Borrowed(full))
}

/// Under this likeness a suggestion misleads more than it helps.
const ALIKE: f64 = 0.6;

/// The interface that the author most likely meant.
pub(super) fn nearest(generation: Generation, import: &str) -> Option<String> {
    crate::names::most_alike(
        import,
        linked(generation).map(|(name, _)| (*name).to_owned()),
        ALIKE,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_match_within_their_track() {
        for (import, found) in [
            ("wasi:http/types@0.2.0", true),
            ("wasi:http/types@0.2.99", true),
            ("wasi:http/types@0.2.0+build", true),
            ("wasi:http/types@0.2.0-rc-2023-12-05", false),
            ("wasi:http/types@0.2", false),
            ("wasi:http/types@0.20.0", false),
            ("wasi:http/types", false),
            ("wasi:http/types@0.3.1", true),
            ("wasi:http/types@1.0.0", false),
            ("wasi:clocks/timezone@0.2.0", false),
            ("wasi:logging/logging@0.1.0-draft", true),
            ("wasi:logging/logging@0.1.0", false),
            ("wasi:logging/logging", false),
            ("wasi:keyvalue/store@0.2.0-draft", true),
            ("wasi:keyvalue/store@0.2.0-draft3", false),
            ("wasi:keyvalue/store@0.2.0", false),
            ("types", false),
        ] {
            assert_eq!(
                provided(Generation::P3, import).is_some(),
                found,
                "{import}"
            );
        }
    }

    #[test]
    fn tracks_are_those_of_the_linker() {
        for (version, expected) in [
            ("1.2.3", Some("1")),
            ("0.1.2", Some("0.1")),
            ("0.0.1", None),
            ("0.2.0-rc", None),
            ("x.y.z", None),
        ] {
            assert_eq!(track(version), expected, "{version}");
        }
    }

    #[test]
    fn a_handler_of_0_2_has_no_0_3_imports() {
        assert_eq!(provided(Generation::P2, "wasi:http/client@0.3.0"), None);
        assert_eq!(
            provided(Generation::P3, "wasi:http/client@0.3.0"),
            Some(Some(Reach::OutboundHttp))
        );
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        assert_eq!(
            nearest(Generation::P3, "wasi:http/clinet@0.3.0").as_deref(),
            Some("wasi:http/client@0.3")
        );
        assert_eq!(
            nearest(Generation::P2, "wasi:cli/environment@0.3.0-rc-1").as_deref(),
            Some("wasi:cli/environment@0.2")
        );
        assert_eq!(nearest(Generation::P2, "acme:billing/ledger@1.0.0"), None);
    }

    #[test]
    fn the_worlds_in_wit_import_what_the_table_says() {
        let directory = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit"));
        let mut wit = wit_parser::Resolve::new();
        let (package, _) = wit.push_dir(directory).expect("valid WIT");
        for (world, generation) in [
            ("handler-p2", Generation::P2),
            ("handler-p3", Generation::P3),
        ] {
            let world = wit.select_world(&[package], Some(world)).expect("a world");
            let imports = wit.worlds[world].imports.keys();
            let mut imported: Vec<_> = imports
                .map(|key| wit.name_world_key(key))
                .map(|full| on_track(&full).expect("a version").into_owned())
                .collect();
            let mut table: Vec<_> = linked(generation).map(|(name, _)| *name).collect();
            imported.sort_unstable();
            table.sort_unstable();
            assert_eq!(imported, table);
        }
    }

    #[test]
    fn the_table_holds_no_interface_twice() {
        let mut names: Vec<_> = PROVIDED.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PROVIDED.len());
    }
}
