//! Where a request goes, and the patterns by which that is allowed: scheme, host, port.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;

use crate::capabilities::calls::SUFFIX;
use crate::capabilities::hosts::{Host, Names};
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
    Address(IpAddr),
    Names(Names),
}

/// The word for every destination.
pub const EVERYWHERE: &str = "everywhere";

impl Pattern {
    /// Whether it allows this destination.
    #[must_use]
    pub fn allows(&self, origin: &Origin) -> bool {
        let is_host = match (&self.host, &origin.host) {
            (Hosts::Every, _) => true,
            (Hosts::Address(own), Host::Address(address)) => own == address,
            (Hosts::Names(names), Host::Name(name)) => names.hold(name),
            _ => false,
        };
        is_host
            && self.protocol.is_none_or(|it| it == origin.protocol)
            && self.port.is_none_or(|port| port == origin.port)
    }

    /// The address that it names: what was written so is meant.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self.host {
            Hosts::Address(address) => Some(address),
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
            Hosts::Address(address) => write!(f, "{}", Host::Address(*address))?,
            Hosts::Names(names) => write!(f, "{names}")?,
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
        let shown = shown(text);
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
            let scheme = self::shown(scheme);
            format!("`{scheme}` is no scheme that a guest can use: write `http` or `https`")
        })?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(format!(
                "`{shown}` names a user, or a password: leave them out, for a guest sends such things in a header of its own"
            ));
        }
        if rest.contains(['/', '?', '#']) {
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
            Some(parent) => Hosts::Names(below(parent, &shown)?),
            None => match one(host, &shown)? {
                Host::Name(name) => Hosts::Names(Names::One(name)),
                Host::Address(address) => Hosts::Address(address),
            },
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

/// As it may be quoted: a password stands before an `@`, a token in a query.
fn shown(text: &str) -> String {
    let (user, rest) = match text.rsplit_once('@') {
        Some((_, rest)) => ("***@", rest),
        None => ("", text),
    };
    let (rest, query) = match rest.find(['?', '#']) {
        Some(end) => (&rest[..end], "…"),
        None => (rest, ""),
    };
    format!("{user}{}{query}", short(rest).escape_debug())
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

fn below(parent: &str, shown: &str) -> Result<Names, String> {
    let name = match one(parent, shown)? {
        Host::Name(name) => name,
        Host::Address(_) => {
            return Err(format!(
                "`{shown}`: nothing is below an address: write the address alone, and the network in `networks`"
            ));
        }
    };
    Names::below(name).map_err(|name| {
        format!(
            "`{shown}` would allow every host below `{name}`: write `{EVERYWHERE}` if that is meant, or a name with a domain, such as `*.example.{name}`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(uri: &str) -> Option<Origin> {
        Origin::of(&uri.parse().expect(uri))
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
            ("https://me@example.com", "names a user, or a password"),
            ("https://example.com?key", "leave the rest out"),
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
        for bad in [
            "https://me:hunter2@example.com",
            "https://me:hunt?hunter2@example.com/v1",
            "https://hunter2:me@*",
            "me:hunter2@example.com",
            "hunter2@x://example.com",
            "ftp://me:hunter2@example.com",
            "https://example.com/?key=hunter2",
            "https://example.com#hunter2",
        ] {
            let error = bad.parse::<Pattern>().expect_err(bad);
            assert!(!error.contains("hunter2"), "{error}");
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
