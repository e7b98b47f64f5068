//! Hosts as people and guests write them: one spelling for each, and patterns of names. HTTP and sockets are granted by these.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A host, in one spelling: a name in lower case and without the dot at its end, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// To be looked up.
    Name(Arc<str>),
    /// One address, however it was written: `127.0.0.1`, `127.1`, `0x7f000001`, `2130706433`, `[::ffff:7f00:1]`.
    Address(IpAddr),
}

impl Host {
    /// None if it is neither a name of DNS nor an address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(IpAddr::V6(address).to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || name.len() > 253 {
            return None;
        }
        if !name.split('.').all(is_label) {
            return None;
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        // As browsers and resolvers have it: what ends in a number is an IPv4 address, or nothing.
        if number(last).is_some() || last.bytes().all(|byte| byte.is_ascii_digit()) {
            return ipv4(name).map(|address| Self::Address(IpAddr::V4(address)));
        }
        Some(Self::Name(name.to_ascii_lowercase().into()))
    }
}

/// Whether a name may have it between two dots.
pub(crate) fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Decimal, octal or hexadecimal, as C has it.
fn number(text: &str) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return match hex {
            "" => Some(0),
            hex if hex.starts_with('+') => None,
            hex => u64::from_str_radix(hex, 16).ok(),
        };
    }
    match text {
        _ if text.starts_with('+') => None,
        "0" => Some(0),
        _ if text.starts_with('0') => u64::from_str_radix(text, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// One to four numbers, of which the last fills what is left.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u64> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = numbers.split_last()?;
    let room = 4_usize.checked_sub(first.len()).filter(|room| *room > 0)?;
    if first.iter().any(|byte| *byte > 255) || *last >= 1 << (8 * room) {
        return None;
    }
    let front = first
        .iter()
        .enumerate()
        .map(|(at, byte)| byte << (8 * (3 - at)))
        .sum::<u64>();
    u32::try_from(front + last).ok().map(Ipv4Addr::from)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Names that are granted by one word, each in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Names {
    One(Arc<str>),
    /// All names below this one, and not itself.
    Below(Arc<str>),
}

impl Names {
    /// All names below this one.
    ///
    /// # Errors
    /// When they would be those of a whole top-level domain: the domain.
    pub(crate) fn below(name: Arc<str>) -> Result<Self, Arc<str>> {
        if name.contains('.') || OF_NOBODY.contains(&&*name) {
            return Ok(Self::Below(name));
        }
        Err(name)
    }

    pub(crate) fn hold(&self, name: &str) -> bool {
        match self {
            Self::One(own) => **own == *name,
            Self::Below(parent) => name
                .strip_suffix(&**parent)
                .is_some_and(|front| front.len() > 1 && front.ends_with('.')),
        }
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => f.write_str(name),
            Self::Below(parent) => write!(f, "*.{parent}"),
        }
    }
}

/// Top-level names that are nobody's on the internet.
const OF_NOBODY: [&str; 6] = ["internal", "local", "localhost", "test", "lan", "home"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_one_however_it_is_spelled() {
        for (spelled, plain) in [
            ("EXAMPLE.com.", "example.com"),
            ("a_b.example.com", "a_b.example.com"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.1", "127.0.0.1"),
            ("127.0.1", "127.0.0.1"),
            ("0x7f.1", "127.0.0.1"),
            ("0x7f000001", "127.0.0.1"),
            ("0X7F000001.", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0177.0.0.01", "127.0.0.1"),
            ("0", "0.0.0.0"),
            ("10.0x10203", "10.1.2.3"),
            ("[::1]", "[::1]"),
            ("[0:0::1]", "[::1]"),
            ("[::ffff:127.0.0.1]", "127.0.0.1"),
            ("[::FFFF:7f00:1]", "127.0.0.1"),
        ] {
            let host = Host::parse(spelled).map(|host| host.to_string());
            assert_eq!(host.as_deref(), Some(plain), "{spelled}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "256.0.0.1",
            "1.2.3.4.5",
            "1.2.3.256",
            "127.0.0.09",
            "4294967296",
            "a.1",
            "ä.example",
            "[::1",
            "::1",
            "[fe80::1%eth0]",
            "[1.2.3.4]",
            "a,b",
            "*",
        ] {
            let found = Host::parse(bad);
            assert!(found.is_none(), "{bad}: {found:?}");
        }
    }
}
