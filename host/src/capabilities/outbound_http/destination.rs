//! Where a request goes, and the patterns by which that is allowed: scheme, host, port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use http::Uri;

use crate::capabilities::calls::SUFFIX;
use crate::names::short;

/// HTTP, in the clear or over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Protocol {
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            _ if text.eq_ignore_ascii_case("http") => Ok(Self::Http),
            _ if text.eq_ignore_ascii_case("https") => Ok(Self::Https),
            _ => Err(()),
        }
    }
}

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
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
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

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    pub(super) protocol: Protocol,
    pub(super) host: Host,
    pub(super) port: u16,
}

impl Origin {
    /// None if the URI names nobody, a user, or what is no host.
    #[must_use]
    pub fn of(uri: &Uri) -> Option<Self> {
        let protocol: Protocol = uri.scheme_str()?.parse().ok()?;
        let authority = uri.authority()?;
        let rest = authority.as_str().strip_prefix(authority.host())?;
        let port = match rest.strip_prefix(':') {
            // `example.com:` is what it is without the colon.
            Some("") => protocol.port(),
            Some(digits) => port(digits)?,
            None if rest.is_empty() => protocol.port(),
            None => return None,
        };
        Some(Self {
            protocol,
            host: Host::parse(authority.host())?,
            port,
        })
    }

    /// As a request's `host` has it.
    pub(super) fn authority(&self) -> String {
        if self.port == self.protocol.port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn port(digits: &str) -> Option<u16> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| is_number && *port != 0)
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.protocol.as_str(), self.authority())
    }
}

/// Destinations that are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// None: both.
    protocol: Option<Protocol>,
    host: Hosts,
    /// None: every one.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    Every,
    One(Host),
    /// All names below this one, and not itself.
    Below(Arc<str>),
}

/// The word for every destination.
pub const EVERYWHERE: &str = "everywhere";

impl Pattern {
    /// Whether it allows this destination.
    #[must_use]
    pub fn allows(&self, origin: &Origin) -> bool {
        let is_host = match (&self.host, &origin.host) {
            (Hosts::Every, _) => true,
            (Hosts::One(one), host) => one == host,
            (Hosts::Below(parent), Host::Name(name)) => name
                .strip_suffix(&**parent)
                .is_some_and(|front| front.len() > 1 && front.ends_with('.')),
            (Hosts::Below(_), Host::Address(_)) => false,
        };
        is_host
            && self.protocol.is_none_or(|it| it == origin.protocol)
            && self.port.is_none_or(|port| port == origin.port)
    }

    /// The address that it names: what was written so is meant.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self.host {
            Hosts::One(Host::Address(address)) => Some(address),
            _ => None,
        }
    }

    /// Whether it allows requests over TLS.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.protocol != Some(Protocol::Http)
    }

    /// Whether it allows requests in the clear.
    #[must_use]
    pub fn has_clear(&self) -> bool {
        self.protocol != Some(Protocol::Https)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(protocol) = self.protocol else {
            return f.write_str(EVERYWHERE);
        };
        write!(f, "{}://", protocol.as_str())?;
        match &self.host {
            Hosts::Every => f.write_str(EVERYWHERE)?,
            Hosts::One(host) => write!(f, "{host}")?,
            Hosts::Below(parent) => write!(f, "*.{parent}")?,
        }
        match self.port {
            None => f.write_str(":*"),
            Some(port) if port == protocol.port() => Ok(()),
            Some(port) => write!(f, ":{port}"),
        }
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown = short(text).escape_debug().to_string();
        if text == EVERYWHERE {
            return Ok(Self {
                protocol: None,
                host: Hosts::Every,
                port: None,
            });
        }
        let every = || {
            format!(
                "`{shown}` would allow every host: write `{EVERYWHERE}` if that is meant, or a host such as `https://api.example.com`"
            )
        };
        if text == "*" {
            return Err(every());
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!(
                "`{shown}` is no destination: write a scheme, a host and a port if it is not the usual one, such as `https://api.example.com`, or `{EVERYWHERE}`"
            ));
        };
        let protocol: Protocol = scheme.parse().map_err(|()| {
            let scheme = short(scheme).escape_debug().to_string();
            format!("`{scheme}` is no scheme that a guest can use: write `http` or `https`")
        })?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err(format!(
                "`{shown}` has more than a scheme, a host and a port: leave the rest out, for a destination is allowed as a whole"
            ));
        }
        let (host, said) = split_port(rest);
        let port = match said {
            None => Some(protocol.port()),
            Some("*") => None,
            Some(digits) => Some(port(digits).ok_or_else(|| {
                format!(
                    "`{}` is no port: write one from 1 to 65535, or `*` for every one",
                    short(digits).escape_debug()
                )
            })?),
        };
        let host = match host.strip_prefix("*.") {
            _ if host == "*" => return Err(every()),
            Some(parent) => Hosts::Below(below(parent, &shown)?),
            None => Hosts::One(one(host, &shown)?),
        };
        Ok(Self {
            protocol: Some(protocol),
            host,
            port,
        })
    }
}

/// A host, and what stands behind the colon after it.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        // The colons of an IPv6 address are in brackets.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    }
}

fn one(host: &str, shown: &str) -> Result<Host, String> {
    if host.contains('*') {
        return Err(format!(
            "`{shown}` has a `*` that is not its first label: `*.example.com` is every name below `example.com`"
        ));
    }
    match Host::parse(host) {
        Some(Host::Name(name)) if name.ends_with(SUFFIX) => Err(format!(
            "`{shown}` is a handler of this host: allow it with `calls`, or `--allow-call`"
        )),
        Some(host) => Ok(host),
        None if host.contains(':') => Err(format!(
            "`{shown}` is no host: write an IPv6 address in `[` and `]`"
        )),
        None if !host.is_ascii() => Err(format!(
            "`{shown}` is no name of DNS: write it as it is looked up, with `xn--`"
        )),
        None => Err(format!(
            "`{shown}` has no host: write a name or an address, such as `https://api.example.com`"
        )),
    }
}

fn below(parent: &str, shown: &str) -> Result<Arc<str>, String> {
    let name = match one(parent, shown)? {
        Host::Name(name) => name,
        Host::Address(_) => {
            return Err(format!(
                "`{shown}`: nothing is below an address: write the address alone, and the network in `networks`"
            ));
        }
    };
    if name.contains('.') || OF_NOBODY.contains(&&*name) {
        return Ok(name);
    }
    Err(format!(
        "`{shown}` would allow every host below `{name}`: write `{EVERYWHERE}` if that is meant, or a name with a domain, such as `*.example.{name}`"
    ))
}

/// Top-level names that are nobody's on the internet.
const OF_NOBODY: [&str; 6] = ["internal", "local", "localhost", "test", "lan", "home"];

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(uri: &str) -> Option<Origin> {
        Origin::of(&uri.parse().expect(uri))
    }

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
            assert!(found.is_none() || bad == "{bad}: {found:?}");
        }
    }

    #[test]
    fn a_uri_names_one_destination_or_none() {
        for (uri, shown) in [
            ("https://API.example.com/a?b", "https://api.example.com"),
            ("https://api.example.com:443/", "https://api.example.com"),
            ("http://api.example.com:443/", "http://api.example.com:443"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
            ("http://0x7f.1:80/", "http://127.0.0.1"),
        ] {
            let found = origin(uri).map(|it| it.to_string());
            assert_eq!(found.as_deref(), Some(shown), "{uri}");
        }
        for none in [
            "http://me@example.com/",
            "http://me:you@example.com/",
            "http://example.com:0/",
            "http://example.com:99999/",
            "ftp://example.com/",
            "/path",
        ] {
            assert_eq!(origin(none), None, "{none}");
        }
    }

    #[test]
    fn a_pattern_allows_what_it_names_and_nothing_else() {
        for (pattern, allowed, denied) in [
            (
                "https://api.example.com",
                &["https://api.example.com/", "https://API.example.com.:443/"][..],
                &[
                    "http://api.example.com/",
                    "https://api.example.com:8443/",
                    "https://x.api.example.com/",
                    "https://api.example.com.evil.com/",
                    "https://example.com/",
                ][..],
            ),
            (
                "https://*.example.com:8443",
                &[
                    "https://a.example.com:8443/",
                    "https://a.b.example.com:8443/",
                ],
                &[
                    "https://example.com:8443/",
                    "https://a.example.com/",
                    "https://aexample.com:8443/",
                    "https://1.2.3.4:8443/",
                ],
            ),
            (
                "http://127.0.0.1:*",
                &[
                    "http://127.1:9/",
                    "http://2130706433/",
                    "http://[::ffff:7f00:1]:80/",
                ],
                &["http://127.0.0.2/", "http://localhost/", "http://[::1]/"],
            ),
            (
                "http://[::1]:80",
                &["http://[::1]/"],
                &["http://127.0.0.1/", "http://[::1]:81/"],
            ),
            (
                "everywhere",
                &["http://a.example.com:1/", "https://10.0.0.1/"],
                &[],
            ),
        ] {
            let parsed: Pattern = pattern.parse().expect(pattern);
            for uri in allowed {
                assert!(parsed.allows(&origin(uri).expect(uri)), "{pattern} {uri}");
            }
            for uri in denied {
                assert!(!parsed.allows(&origin(uri).expect(uri)), "{pattern} {uri}");
            }
        }
    }

    #[test]
    fn a_pattern_that_is_none_is_told_what_to_write() {
        for (bad, told) in [
            ("*", "write `everywhere` if that is meant"),
            ("http://*", "write `everywhere` if that is meant"),
            ("https://*:443", "write `everywhere` if that is meant"),
            ("https://*.com", "every host below `com`"),
            ("api.example.com", "`https://api.example.com`"),
            ("", "no destination"),
            ("ftp://example.com", "write `http` or `https`"),
            ("https://example.com/v1", "leave the rest out"),
            ("https://me@example.com", "leave the rest out"),
            ("https://api.*.com", "not its first label"),
            ("https://a*.example.com", "not its first label"),
            ("https://", "has no host"),
            ("https://:443", "has no host"),
            ("https://example.com:http", "no port"),
            ("https://example.com:0", "no port"),
            ("https://::1", "in `[` and `]`"),
            ("https://*.10.0.0.1", "nothing is below an address"),
            ("https://müller.example", "xn--"),
            ("http://cart.handler.internal", "`calls`"),
        ] {
            let error = bad.parse::<Pattern>().expect_err(bad);
            assert!(error.contains(told), "{bad}: {error}");
        }
        for (written, shown) in [
            ("HTTPS://Example.COM/", "https://example.com"),
            ("http://0x7f.1:80", "http://127.0.0.1"),
            ("https://*.internal:*", "https://*.internal:*"),
            ("everywhere", "everywhere"),
        ] {
            let pattern: Pattern = written.parse().expect(written);
            assert_eq!(pattern.to_string(), shown);
        }
    }
}
