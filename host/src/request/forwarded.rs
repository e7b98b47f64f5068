//! Who sent a request, where proxies stand between: what is believed of the fields in which they say it.
//!
//! Each proxy adds at the right, so what is right is what the nearest said. It is walked from there: every address that
//! is a trusted proxy's vouches for the next, and the first that is not is the client. What it said itself, further left,
//! is nobody's word. A part that cannot be read ends the walk, and the client is then the last proxy that could be.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{FORWARDED, GetAll};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::X_REQUEST_ID;
use crate::client::{Client, ClientCertificate, Peer};
use crate::limits::FORWARDED_HOPS;
use crate::networks::Networks;
use crate::observe::RequestId;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Whence a request comes, as far as it can be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// Who sent it first.
    pub(super) client: Peer,
    /// How he sent it.
    pub(super) scheme: Scheme,
    /// Our end of the connection that it came on.
    pub(super) local: Peer,
    /// What he has shown of himself, if it was he who connected and not a proxy for him.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// The Host that he asked for, where a proxy has put another in its place. Not looked at yet.
    pub(super) host: Option<HeaderValue>,
    /// What a proxy calls the request.
    pub(super) id: Option<RequestId>,
    /// Whether the trace that it is a part of is what a proxy says.
    is_traced: bool,
}

impl Origin {
    /// Of a request that came over this connection with these headers.
    pub(super) fn of(connection: &Client, headers: &HeaderMap, trusted: &Networks) -> Self {
        let remote = canonical(connection.remote);
        let mut origin = Self {
            client: remote,
            scheme: connection.scheme.clone(),
            local: connection.local,
            certificate: connection.certificate.clone(),
            host: None,
            id: None,
            is_traced: false,
        };
        if !trusted.hold(&remote) {
            return origin;
        }
        // Nearly every proxy writes `x-forwarded-*`, and passes on what its clients put into `forwarded`. So where
        // there are both, `forwarded` is a client's.
        let of_x = [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST];
        if of_x.iter().any(|name| headers.contains_key(name)) {
            origin.believe_x_forwarded(headers, trusted);
        } else {
            origin.believe_forwarded(headers.get_all(FORWARDED), trusted);
        }
        if origin.client != remote {
            origin.certificate = None;
        }
        origin.id = only(headers, &X_REQUEST_ID).and_then(RequestId::accepted);
        origin.is_traced = only(headers, &TRACEPARENT).is_some_and(is_traceparent);
        origin
    }

    fn believe_x_forwarded(&mut self, headers: &HeaderMap, trusted: &Networks) {
        let mut nodes = from_the_right(headers.get_all(X_FORWARDED_FOR));
        while trusted.hold(&self.client)
            && let Some(client) = nodes.next().and_then(address)
        {
            self.client = client;
        }
        // Of these the nearest proxy knows the client's, or has it from the one before.
        let nearest = |name| from_the_right(headers.get_all(name)).next();
        if let Some(scheme) = nearest(X_FORWARDED_PROTO).and_then(scheme) {
            self.scheme = scheme;
        }
        self.host = nearest(X_FORWARDED_HOST).map(value);
    }

    /// RFC 7239. What an element says of scheme and host is of the request that its proxy got, so the last that is
    /// believed, the client's own, has the last word.
    fn believe_forwarded(&mut self, fields: GetAll<'_, HeaderValue>, trusted: &Networks) {
        let mut elements = from_the_right(fields);
        while trusted.hold(&self.client)
            && let Some(element) = elements.next().and_then(Element::of)
        {
            if let Some(scheme) = element.proto.and_then(scheme) {
                self.scheme = scheme;
            }
            if let Some(host) = element.host {
                self.host = Some(value(host));
            }
            match element.node.and_then(address) {
                Some(client) => self.client = client,
                None => break,
            }
        }
    }

    /// Makes of what proxies say, and of what clients say as if they were proxies, the one set that a guest sees.
    pub(super) fn tell(&self, id: &RequestId, headers: &mut HeaderMap) {
        forget(headers, self.is_traced);
        tell(self.client, &self.scheme, id, headers);
    }
}

/// Tells a guest whence its request comes. It has no other way to know its client's address, so this is there without a
/// proxy too.
pub(super) fn tell(client: Peer, scheme: &Scheme, id: &RequestId, headers: &mut HeaderMap) {
    if let Peer::Address(address) = client {
        headers.insert(X_FORWARDED_FOR, of_address(address.ip()));
    }
    let scheme = match scheme.as_str() {
        "https" => HeaderValue::from_static("https"),
        "http" => HeaderValue::from_static("http"),
        other => value(other),
    };
    headers.insert(X_FORWARDED_PROTO, scheme);
    headers.insert(X_REQUEST_ID, id.header());
}

/// Removes what only a proxy that is believed may say. A trace that a stranger names is none of ours: a guest that keeps
/// traces begins one. This host keeps none, so it makes none up.
pub(super) fn forget(headers: &mut HeaderMap, is_traced: bool) {
    // Most requests have none.
    let found: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_of_proxies(name.as_str()))
        .cloned()
        .collect();
    for name in found {
        headers.remove(name);
    }
    if !is_traced {
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
    }
}

fn is_of_proxies(name: &str) -> bool {
    // What CGI began and WSGI goes on with cannot tell `_` from `-`.
    let plain = match name.contains('_') {
        true => Cow::Owned(name.replace('_', "-")),
        false => Cow::Borrowed(name),
    };
    plain.starts_with("x-forwarded") || OF_PROXIES.contains(&&*plain)
}

/// Besides `x-forwarded*`. Guests and what they are written with take one or another of these for the client's address,
/// scheme, host or name.
const OF_PROXIES: &[&str] = &[
    "forwarded",
    "x-real-ip",
    "x-originating-ip",
    "x-remote-ip",
    "x-remote-addr",
    "x-host",
    "x-original-url",
    "x-rewrite-url",
    "x-vercel-forwarded-for",
    "x-appengine-user-ip",
    "wl-proxy-client-ip",
    "proxy-client-ip",
    "do-connecting-ip",
    "remote-user",
    "x-auth-request-user",
    "x-ssl-client-cert",
    "ssl-client-verify",
    // What CGI makes of it is a setting of its own (httpoxy).
    "proxy",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-proto",
    "x-envoy-external-address",
    "x-remote-user",
    "x-scheme",
    "x-url-scheme",
    "front-end-https",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "fastly-client-ip",
    "fly-client-ip",
    "x-azure-clientip",
];

/// One part of `forwarded`: what one proxy says.
#[derive(Default)]
struct Element<'a> {
    node: Option<&'a str>,
    proto: Option<&'a str>,
    host: Option<&'a str>,
}

impl<'a> Element<'a> {
    /// None if it cannot be read.
    fn of(text: &'a str) -> Option<Self> {
        let mut element = Self::default();
        let mut rest = text;
        loop {
            let (name, after) = rest.split_once('=')?;
            let (value, after) = parameter(after)?;
            let place = match name.trim() {
                name if name.eq_ignore_ascii_case("for") => Some(&mut element.node),
                name if name.eq_ignore_ascii_case("proto") => Some(&mut element.proto),
                name if name.eq_ignore_ascii_case("host") => Some(&mut element.host),
                _ => None,
            };
            if let Some(place) = place
                && place.replace(value).is_some()
            {
                return None;
            }
            match after.trim_start() {
                "" => return Some(element),
                after => rest = after.strip_prefix(';')?,
            }
        }
    }
}

/// A token or a quoted string, whose escapes are left as they are, and what comes after it.
fn parameter(text: &str) -> Option<(&str, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = text.split_at(text.find(';').unwrap_or(text.len()));
        let value = value.trim_end();
        return (!value.is_empty() && !value.contains('"')).then_some((value, after));
    };
    let end = quoted.match_indices('"').map(|(at, _)| at);
    let end = end
        .into_iter()
        .find(|&at| !is_escaped(quoted.as_bytes(), at))?;
    Some((&quoted[..end], &quoted[end + 1..]))
}

/// The parts of a list, over all its fields, the last first. What is left of one that is not ASCII is not looked at.
fn from_the_right(fields: GetAll<'_, HeaderValue>) -> impl Iterator<Item = &str> {
    let texts = fields.iter().rev().map_while(|field| field.to_str().ok());
    let parts = texts.flat_map(|text| {
        std::iter::successors(Some(split_last(text)), |(before, _)| before.map(split_last))
    });
    parts
        .map(|(_, part)| part.trim())
        .filter(|part| !part.is_empty())
        .take(FORWARDED_HOPS)
}

/// What comes before the last comma that is not in quotes, if there is one, and what comes after it. It is looked for from
/// the right, so that a quote which a client leaves open hides nothing of what a proxy has added.
fn split_last(list: &str) -> (Option<&str>, &str) {
    let mut is_quoted = false;
    for (at, byte) in list.bytes().enumerate().rev() {
        match byte {
            b'"' if !is_escaped(list.as_bytes(), at) => is_quoted = !is_quoted,
            b',' if !is_quoted => return (Some(&list[..at]), &list[at + 1..]),
            _ => {}
        }
    }
    (None, list)
}

fn is_escaped(text: &[u8], at: usize) -> bool {
    let before = text[..at].iter().rev();
    before.take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`. Others have no address: `unknown`,
/// `_hidden`.
fn address(node: &str) -> Option<Peer> {
    let (address, port) = if let Ok(address) = node.parse() {
        (address, "0")
    } else if let Some(bracketed) = node.strip_prefix('[') {
        let (address, after) = bracketed.split_once(']')?;
        let port = match after {
            "" => "0",
            after => after.strip_prefix(':')?,
        };
        (IpAddr::V6(address.parse().ok()?), port)
    } else {
        let (address, port) = node.split_once(':')?;
        (IpAddr::V4(address.parse().ok()?), port)
    };
    // A port may be hidden too.
    let port = match port.strip_prefix('_') {
        Some(_) => 0,
        None => port.parse().ok()?,
    };
    Some(canonical(Peer::Address(SocketAddr::new(address, port))))
}

/// An IPv4 client of a listener for IPv6 is an IPv4 client.
fn canonical(peer: Peer) -> Peer {
    match peer {
        Peer::Address(address) => {
            let ip = address.ip().to_canonical();
            Peer::Address(SocketAddr::new(ip, address.port()))
        }
        Peer::Unix => Peer::Unix,
    }
}

fn scheme(text: &str) -> Option<Scheme> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    // Some say so of a WebSocket's first request.
    if is("https") || is("wss") {
        Some(Scheme::HTTPS)
    } else if is("http") || is("ws") {
        Some(Scheme::HTTP)
    } else {
        None
    }
}

/// W3C Trace Context, section 3.2. Versions to come may have more behind.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.splitn(5, '-');
    let mut hex = |length: usize| {
        parts.next().filter(|part| {
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            part.len() == length && part.bytes().all(is_hex)
        })
    };
    let (version, trace, parent, flags) = (hex(2), hex(32), hex(16), hex(2));
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let is_known = |part: Option<&str>| part.is_some_and(|part| !is_zero(part));
    let (is_first, is_never) = (version == Some("00"), version == Some("ff"));
    version.is_some()
        && !is_never
        && is_known(trace)
        && is_known(parent)
        && flags.is_some()
        && (!is_first || parts.next().is_none())
}

/// The value of a field that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()
}

/// The text of an address, in one allocation, as every request has one.
fn of_address(address: IpAddr) -> HeaderValue {
    let mut text = [0; LONGEST_ADDRESS];
    let mut rest = &mut text[..];
    let _ = write!(rest, "{address}");
    let length = LONGEST_ADDRESS - rest.len();
    HeaderValue::from_bytes(&text[..length]).unwrap_or(HeaderValue::from_static(""))
}

/// Bytes, as C has it (`INET6_ADDRSTRLEN`, without its end).
const LONGEST_ADDRESS: usize = 45;

/// Of a text that was in a header.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Stall;
    use crate::networks::Network;

    fn trusted() -> Networks {
        let all = ["10.0.0.0/8", "fd00::/8", "unix"];
        all.iter()
            .map(|one| one.parse::<Network>().expect(one))
            .collect()
    }

    /// `name: value` a line.
    fn headers(text: &str) -> HeaderMap {
        let fields = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let field = |line: &str| {
            let (name, value) = line.split_once(':').expect("a field");
            let name: HeaderName = name.parse().expect("a name");
            (name, HeaderValue::from_str(value.trim()).expect("a value"))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields.map(field) {
            headers.append(name, value);
        }
        headers
    }

    fn peer(text: &str) -> Peer {
        match text {
            "unix" => Peer::Unix,
            text => Peer::Address((text.parse::<IpAddr>().expect(text), 4321).into()),
        }
    }

    fn origin(remote: &str, text: &str) -> Origin {
        let connection = Client {
            remote: peer(remote),
            local: peer("10.0.0.9"),
            scheme: Scheme::HTTP,
            certificate: None,
            stall: Stall::default(),
        };
        Origin::of(&connection, &headers(text), &trusted())
    }

    /// Of a request by way of the proxy 10.0.0.1: address, scheme, host.
    fn believed(text: &str) -> String {
        let origin = origin("10.0.0.1", text);
        let host = origin
            .host
            .as_ref()
            .map(|host| host.to_str().expect("text"));
        format!(
            "{} {} {}",
            origin.client,
            origin.scheme,
            host.unwrap_or("-")
        )
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxys_is_the_clients() {
        for (fields, seen) in [
            ("", "10.0.0.1 http -"),
            ("x-forwarded-for: 192.0.2.1", "192.0.2.1 http -"),
            ("x-forwarded-for: 6.6.6.6, 192.0.2.1", "192.0.2.1 http -"),
            (
                "x-forwarded-for: 6.6.6.6, 192.0.2.1, 10.0.0.2",
                "192.0.2.1 http -",
            ),
            // Several fields are one list.
            (
                "x-forwarded-for: 6.6.6.6\nx-forwarded-for: 192.0.2.1",
                "192.0.2.1 http -",
            ),
            (
                "x-forwarded-for: 192.0.2.1\nx-forwarded-for: 10.0.0.2, fd00::1",
                "192.0.2.1 http -",
            ),
            // All are proxies: the first of them is the client.
            ("x-forwarded-for: 10.0.0.3, 10.0.0.2", "10.0.0.3 http -"),
            ("x-forwarded-for: 192.0.2.1:1234", "192.0.2.1 http -"),
            ("x-forwarded-for: 2001:db8::1", "2001:db8::1 http -"),
            ("x-forwarded-for: [2001:db8::1]:443", "2001:db8::1 http -"),
            (
                "x-forwarded-for: 6.6.6.6, ::ffff:10.0.0.2",
                "6.6.6.6 http -",
            ),
            ("x-forwarded-for: ::ffff:192.0.2.1", "192.0.2.1 http -"),
            ("x-forwarded-for: , 192.0.2.1, ,", "192.0.2.1 http -"),
            // What cannot be read ends the walk at the last proxy that could be.
            (
                "x-forwarded-for: 6.6.6.6, unknown, 10.0.0.2",
                "10.0.0.2 http -",
            ),
            ("x-forwarded-for: 6.6.6.6, 1.2.3", "10.0.0.1 http -"),
            (
                "x-forwarded-for: 6.6.6.6, 192.0.2.1:99999",
                "10.0.0.1 http -",
            ),
            ("x-forwarded-for: unix:", "10.0.0.1 http -"),
            ("x-forwarded-for: 6.6.6.6 192.0.2.1", "10.0.0.1 http -"),
            ("x-forwarded-for: \"6.6.6.6, 192.0.2.1", "192.0.2.1 http -"),
        ] {
            assert_eq!(believed(fields), seen, "{fields}");
        }
    }

    #[test]
    fn scheme_and_host_are_what_the_nearest_proxy_says() {
        for (fields, seen) in [
            ("x-forwarded-proto: https", "10.0.0.1 https -"),
            ("x-forwarded-proto: HTTPS", "10.0.0.1 https -"),
            ("x-forwarded-proto: wss", "10.0.0.1 https -"),
            (
                "x-forwarded-proto: https\nx-forwarded-proto: http",
                "10.0.0.1 http -",
            ),
            ("x-forwarded-proto: https, http", "10.0.0.1 http -"),
            ("x-forwarded-proto: gopher", "10.0.0.1 http -"),
            ("x-forwarded-host: a.example", "10.0.0.1 http a.example"),
            (
                "x-forwarded-host: evil.example, a.example:81",
                "10.0.0.1 http a.example:81",
            ),
        ] {
            assert_eq!(believed(fields), seen, "{fields}");
        }
    }

    #[test]
    fn forwarded_is_read_where_nothing_says_it_otherwise() {
        for (fields, seen) in [
            ("forwarded: for=192.0.2.1", "192.0.2.1 http -"),
            (
                "forwarded: For=192.0.2.1;Proto=https;by=10.0.0.1;Host=a.example",
                "192.0.2.1 https a.example",
            ),
            (
                "forwarded: for=\"[2001:db8::1]:4711\"",
                "2001:db8::1 http -",
            ),
            (
                "forwarded: for=\"[2001:db8::1]\" ; proto=https",
                "2001:db8::1 https -",
            ),
            ("forwarded: for=\"192.0.2.1:_gazonk\"", "192.0.2.1 http -"),
            (
                "forwarded: for=6.6.6.6;proto=http;host=evil, for=192.0.2.1;proto=https, for=10.0.0.2;host=a",
                "192.0.2.1 https a",
            ),
            (
                "forwarded: for=6.6.6.6\nforwarded: for=192.0.2.1",
                "192.0.2.1 http -",
            ),
            // Its proxy speaks of scheme and host although it hides the client.
            (
                "forwarded: for=6.6.6.6, for=_hidden;proto=https",
                "10.0.0.1 https -",
            ),
            ("forwarded: for=6.6.6.6, for=unknown", "10.0.0.1 http -"),
            ("forwarded: proto=https", "10.0.0.1 https -"),
            // A quote that a client leaves open hides nothing.
            (
                "forwarded: for=\"6.6.6.6, for=192.0.2.1",
                "192.0.2.1 http -",
            ),
            (
                "forwarded: for=\"6.6.6.6\nforwarded: for=192.0.2.1;host=\"a\"",
                "192.0.2.1 http a",
            ),
            (
                "forwarded: for=6.6.6.6, for=192.0.2.1;host=\"a, for=7.7.7.7\"",
                "192.0.2.1 http a, for=7.7.7.7",
            ),
            (
                "forwarded: for=192.0.2.1;host=\"a\\\", for=7.7.7.7\"",
                "192.0.2.1 http a\\\", for=7.7.7.7",
            ),
            // Garbage.
            (
                "forwarded: for=6.6.6.6, for=192.0.2.1;for=10.0.0.2",
                "10.0.0.1 http -",
            ),
            ("forwarded: for=6.6.6.6, for", "10.0.0.1 http -"),
            ("forwarded: for=6.6.6.6, =", "10.0.0.1 http -"),
            (
                "forwarded: for=6.6.6.6, for=2001:db8::1]",
                "10.0.0.1 http -",
            ),
            ("forwarded: for=192.0.2.1\"", "10.0.0.1 http -"),
            ("forwarded: for=192.0.2.1;;", "10.0.0.1 http -"),
            ("forwarded: \"", "10.0.0.1 http -"),
            // Who writes the one passes on the other.
            (
                "forwarded: for=6.6.6.6;host=evil;proto=https\nx-forwarded-for: 192.0.2.1",
                "192.0.2.1 http -",
            ),
            (
                "forwarded: for=6.6.6.6\nx-forwarded-proto: https",
                "10.0.0.1 https -",
            ),
        ] {
            assert_eq!(believed(fields), seen, "{fields}");
        }
    }

    #[test]
    fn a_walk_has_an_end() {
        let chain = vec!["10.0.0.2"; 10_000].join(", ");
        assert_eq!(
            believed(&format!("x-forwarded-for: 6.6.6.6, {chain}")),
            "10.0.0.2 http -"
        );
    }

    #[test]
    fn nobody_else_is_believed() {
        let said = "x-forwarded-for: 192.0.2.1\nx-forwarded-proto: https\nx-forwarded-host: evil\n\
                    x-request-id: mine\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for remote in ["11.0.0.1", "::1", "::ffff:11.0.0.1"] {
            let origin = origin(remote, said);
            assert_eq!(origin.client, canonical(peer(remote)));
            assert_eq!(
                (origin.scheme, origin.host, origin.id),
                (Scheme::HTTP, None, None)
            );
            assert!(!origin.is_traced);
        }
        for remote in ["10.1.1.1", "::ffff:10.1.1.1", "fd00::5", "unix"] {
            let origin = origin(remote, said);
            assert_eq!(origin.client.to_string(), "192.0.2.1");
            assert_eq!(origin.id.expect("an id").as_str(), "mine");
            assert!(origin.is_traced);
        }
    }

    #[test]
    fn a_request_id_is_short_and_can_be_shown_anywhere() {
        let long = "a".repeat(crate::limits::REQUEST_ID + 1);
        for bad in ["", "a b", "<b>", "a\"b", "a,b", "caf\u{e9}", &long] {
            let mut said = HeaderMap::new();
            said.insert(
                X_REQUEST_ID,
                HeaderValue::from_bytes(bad.as_bytes()).expect("bytes"),
            );
            let id = only(&said, &X_REQUEST_ID).and_then(RequestId::accepted);
            assert_eq!(id, None, "{bad}");
        }
        for good in [
            "7f2c",
            "0198a2f3-7c1e-7d4e-8a51-2f4f2f9d1b11",
            "Root=1-67891233-abcdef012345678912345678",
        ] {
            assert!(RequestId::accepted(good).is_some(), "{good}");
        }
        let twice = headers("x-request-id: a\nx-request-id: b");
        assert_eq!(only(&twice, &X_REQUEST_ID), None);
    }

    #[test]
    fn a_trace_is_one_or_none() {
        let trace = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
        for (text, is_one) in [
            (format!("00-{trace}-01"), true),
            (format!("cc-{trace}-01-what-comes"), true),
            (format!("00-{trace}-01-more"), false),
            (format!("ff-{trace}-01"), false),
            (format!("00-{trace}"), false),
            (format!("00-{}-01", trace.to_uppercase()), false),
            (
                format!("00-{}-01", "0".repeat(32) + "-b7ad6b7169203331"),
                false,
            ),
            (
                format!(
                    "00-{}-01",
                    "0af7651916cd43dd8448eb211c80319c-".to_owned() + &"0".repeat(16)
                ),
                false,
            ),
            (String::new(), false),
        ] {
            assert_eq!(is_traceparent(&text), is_one, "{text}");
        }
    }

    #[test]
    fn a_guest_sees_one_set_of_fields() {
        let said = "host: a\nforwarded: for=6.6.6.6\nx-forwarded-for: 6.6.6.6\nx-forwarded-user: root\nx_forwarded_for: 6.6.6.6\n\
                    x-real-ip: 6.6.6.6\ntrue-client-ip: 6.6.6.6\nx-request-id: theirs\ntraceparent: x\ntracestate: a=b\naccept: */*";
        let mut seen = headers(said);
        let id = RequestId::accepted("ours").expect("an id");
        origin("192.0.2.7", said).tell(&id, &mut seen);
        let mut seen: Vec<_> = seen
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        seen.sort();
        assert_eq!(
            seen,
            [
                "accept: */*",
                "host: a",
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-proto: http",
                "x-request-id: ours",
            ]
        );
    }
}
