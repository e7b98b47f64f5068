//! Which requests a handler gets, as an operator says it.

use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use http::Method;

use super::{Policy, path};
use crate::limits;

/// Requests for a host, a path and some methods. Its text, `[HOST]/PATH`, says the first two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The hosts.
    pub host: HostPattern,
    /// The paths.
    pub path: PathPattern,
    /// The methods; none means every method. Where GET is listed, HEAD is too.
    pub methods: Vec<Method>,
    /// The guest sees the path without what comes before the first parameter or wildcard.
    pub strip_prefix: bool,
    /// What the host does around the answer. None: what it does on every route.
    pub policy: Option<Arc<Policy>>,
}

impl Route {
    /// Every request.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            host: HostPattern::default(),
            path: PathPattern::everything(),
            methods: Vec::new(),
            strip_prefix: false,
            policy: None,
        }
    }

    /// The same with what the host does on the one of `others` that says the same, on the first that it lies within, or
    /// else on the first of them all.
    #[must_use]
    pub(super) fn with_policy_of(&self, others: &[Self]) -> Self {
        let is_same = |other: &&Self| self.is_within(other) && other.is_within(self);
        let found = others.iter().find(is_same);
        let found = found.or_else(|| others.iter().find(|other| self.is_within(other)));
        Self {
            policy: found.or(others.first()).and_then(|it| it.policy.clone()),
            ..self.clone()
        }
    }

    /// Whether it is for the same hosts and paths as another, in any spelling.
    pub(super) fn is_where(&self, other: &Self) -> bool {
        self.host == other.host && self.path.form == other.path.form
    }

    /// Whether every request on this route is one on `other` too: the same host or one below its wildcard, a path that
    /// begins as its does, and none but its methods.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.host.is_within(&other.host)
            && self.path.is_within(&other.path)
            && are_within(&self.methods, &other.methods)
    }

    /// The path and query that the guest sees of those of a request on this route. It begins with `/`; where nothing
    /// can be stripped, since the whole path is the route's own text, it is all of it.
    #[must_use]
    pub fn stripped<'a>(&self, path_and_query: &'a str) -> &'a str {
        if !self.strip_prefix {
            return path_and_query;
        }
        self.path.rest_of(path_and_query).unwrap_or(path_and_query)
    }

    /// Whether this, which is for the same host and path as `other`, says the same in another spelling.
    fn is_respelled(&self, other: &Self) -> bool {
        self.path.is_respelled(&other.path)
            && (&self.methods, self.strip_prefix, &self.policy)
                == (&other.methods, other.strip_prefix, &other.policy)
    }
}

/// Goes through the routes of one handler. One that says the same as another in another spelling is left out: both may be
/// from before spellings were one. One that is written alike stays, and is a conflict.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unrepeated<'a>(HashMap<(&'a HostPattern, &'a str), Vec<&'a Route>>);

impl<'a> Unrepeated<'a> {
    /// Whether it is not another spelling of one before it.
    pub(crate) fn is_new(&mut self, route: &'a Route) -> bool {
        let before = self.0.entry((&route.host, &*route.path.form)).or_default();
        let is_new = !before.iter().any(|other| route.is_respelled(other));
        before.push(route);
        is_new
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host.0 {
            Hosts::Any => write!(f, "{}", self.path),
            _ => write!(f, "{}{}", self.host, self.path),
        }
    }
}

impl FromStr for Route {
    type Err = RouteError;

    /// `[HOST]/PATH`: `/shop/*`, `example.com/`, `*.example.com/api/{id}`.
    fn from_str(text: &str) -> Result<Self, RouteError> {
        let Some(slash) = text.find('/') else {
            return Err(RouteError::NoPath(Shown::of(text)));
        };
        let (host, path) = text.split_at(slash);
        if host.ends_with(':') && path.starts_with("//") {
            return Err(RouteError::Scheme(Shown::of(text)));
        }
        Ok(Self {
            host: match host {
                "" => HostPattern::default(),
                host => host.parse()?,
            },
            path: path.parse()?,
            methods: Vec::new(),
            strip_prefix: false,
            policy: None,
        })
    }
}

/// Hosts: every one (`*`, the default), one name or address, or all names below one (`*.example.com`). A port is not
/// part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct HostPattern(pub(super) Hosts);

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) enum Hosts {
    #[default]
    Any,
    /// As a request's host is after it was normalised.
    Exact(Box<str>),
    /// What comes after `*.`.
    Below(Box<str>),
}

impl HostPattern {
    fn is_within(&self, other: &Self) -> bool {
        let is_below = |name: &str, parent: &str| {
            name.strip_suffix(parent)
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        };
        match (&self.0, &other.0) {
            (_, Hosts::Any) => true,
            (Hosts::Exact(name), Hosts::Exact(other)) => name == other,
            (Hosts::Exact(name), Hosts::Below(other)) => is_below(name, other),
            (Hosts::Below(name), Hosts::Below(other)) => name == other || is_below(name, other),
            (Hosts::Any, _) | (Hosts::Below(_), Hosts::Exact(_)) => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Hosts::Any => f.write_str("*"),
            Hosts::Exact(name) => f.write_str(name),
            Hosts::Below(name) => write!(f, "*.{name}"),
        }
    }
}

impl FromStr for HostPattern {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        if text == "*" {
            return Ok(Self::default());
        }
        if let Some(address) = bracketed(text) {
            let address: Ipv6Addr = address
                .parse()
                .map_err(|_| RouteError::HostAddress(Shown::of(text)))?;
            return Ok(Self(Hosts::Exact(format!("[{address}]").into())));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(RouteError::HostEmpty);
        }
        if name.len() > HOST_NAME {
            return Err(RouteError::HostTooLong(Shown::of(text)));
        }
        let (name, is_below) = match name.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (name, false),
        };
        check_name(name, is_below).map_err(|error| error(Shown::of(text)))?;
        let name = name.to_ascii_lowercase().into();
        Ok(Self(if is_below {
            Hosts::Below(name)
        } else {
            Hosts::Exact(name)
        }))
    }
}

/// No methods are all of them, and HEAD comes with GET.
fn are_within(mine: &[Method], others: &[Method]) -> bool {
    let is_listed = |method: &Method| {
        others.contains(method) || (*method == Method::HEAD && others.contains(&Method::GET))
    };
    others.is_empty() || (!mine.is_empty() && mine.iter().all(is_listed))
}

fn bracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

fn check_name(name: &str, is_below: bool) -> Result<(), fn(Shown) -> RouteError> {
    if !name.is_ascii() {
        return Err(RouteError::HostNotAscii);
    }
    if name.contains(':') {
        return Err(RouteError::HostColon);
    }
    if name.contains('*') {
        return Err(RouteError::HostWildcard);
    }
    let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !name.bytes().all(is_of_names) {
        return Err(RouteError::HostCharacter);
    }
    if name
        .split('.')
        .any(|label| label.is_empty() || label.len() > HOST_LABEL)
    {
        return Err(RouteError::HostLabel);
    }
    // As browsers have it, what ends in a number is an address.
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && (is_below || name.parse::<Ipv4Addr>().is_err()) {
        return Err(RouteError::HostAddress);
    }
    Ok(())
}

/// Paths, compared with those of requests in the form that all spellings have: `/%61` is `/a`, and `%2F` is no `/`.
/// `{name}` is any one segment, `{*name}` at the end is one or more, `*` at the end is everything from there on, also
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: Arc<str>,
    /// What is compared: the same for all patterns of the same paths.
    form: Arc<str>,
    /// Bytes of the form before the slash of the first parameter or wildcard; all, if there is none.
    prefix: usize,
}

impl PathPattern {
    /// `/*`: every path.
    #[must_use]
    pub fn everything() -> Self {
        let text: Arc<str> = Arc::from("/*");
        Self {
            form: Arc::clone(&text),
            text,
            prefix: 0,
        }
    }

    /// As it was written. It is one of few, so it can be a metric's label where a request's path cannot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// What comes after the literal part of a target on it, as it was sent.
    fn rest_of<'a>(&self, target: &'a str) -> Option<&'a str> {
        let prefix = &self.form[..self.prefix];
        let sent = target.split('?').next().unwrap_or(target);
        // No spelling has more slashes than another.
        let (at, _) = sent.match_indices('/').nth(prefix.matches('/').count())?;
        (path::form(&sent[..at]) == prefix).then(|| &target[at..])
    }

    /// Whether another pattern of the same paths spells one of its literal segments otherwise.
    pub(super) fn is_respelled(&self, other: &Self) -> bool {
        let mut both = self.text.split('/').zip(other.text.split('/'));
        self.form == other.form
            && both.any(|(mine, other)| {
                mine != other && matches!(Segment::of(mine), Segment::Literal(_))
            })
    }

    /// As the router matches: a parameter is never empty, `{*name}` neither, and `*` may be.
    fn is_within(&self, other: &Self) -> bool {
        let (mut mine, mut others) = (self.segments(), other.segments());
        loop {
            let (mine, other) = (mine.next(), others.next());
            match (mine, other) {
                (mine, Some(Segment::Everything)) => return mine.is_some(),
                (mine, Some(Segment::Rest(_))) => {
                    return match mine {
                        Some(Segment::Literal(text)) => !text.is_empty(),
                        Some(Segment::Parameter(_) | Segment::Rest(_)) => true,
                        Some(Segment::Everything) | None => false,
                    };
                }
                (Some(Segment::Literal(text)), Some(Segment::Parameter(_))) if !text.is_empty() => {
                }
                (Some(Segment::Parameter(_)), Some(Segment::Parameter(_))) => {}
                (Some(Segment::Literal(mine)), Some(Segment::Literal(other))) if mine == other => {}
                (None, None) => return true,
                _ => return false,
            }
        }
    }

    /// In the form that is compared, where parameters have no names.
    pub(super) fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        self.form.split('/').skip(1).map(Segment::of)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for PathPattern {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        check_path(text).map_err(|error| error(Shown::of(text)))?;
        let (mut form, mut prefix) = (String::with_capacity(text.len()), None);
        for segment in text.split('/').skip(1) {
            let before = form.len();
            form.push('/');
            match Segment::of(segment) {
                Segment::Literal(text) => {
                    form.push_str(&path::form(text));
                    continue;
                }
                Segment::Parameter(_) => form.push_str("{}"),
                Segment::Rest(_) => form.push_str("{*}"),
                Segment::Everything => form.push('*'),
            }
            prefix.get_or_insert(before);
        }
        let shared: Arc<str> = Arc::from(text);
        Ok(Self {
            prefix: prefix.unwrap_or(form.len()),
            form: if form == text {
                Arc::clone(&shared)
            } else {
                Arc::from(form)
            },
            text: shared,
        })
    }
}

fn check_path(path: &str) -> Result<(), fn(Shown) -> RouteError> {
    let Some(below) = path.strip_prefix('/') else {
        return Err(RouteError::PathStart);
    };
    if path.len() > limits::ROUTE_PATH {
        return Err(RouteError::PathTooLong);
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(RouteError::PathCharacter);
    }
    if path.contains(['?', '#']) {
        return Err(RouteError::PathQuery);
    }
    let mut names = Vec::new();
    let mut segments = below.split('/').peekable();
    while let Some(text) = segments.next() {
        let segment = Segment::of(text);
        check_segment(&segment, segments.peek().is_none())?;
        if let Segment::Parameter(name) | Segment::Rest(name) = segment {
            if names.contains(&name) {
                return Err(RouteError::ParameterTwice);
            }
            names.push(name);
        }
    }
    Ok(())
}

fn check_segment(segment: &Segment<'_>, is_last: bool) -> Result<(), fn(Shown) -> RouteError> {
    match *segment {
        Segment::Literal("") if !is_last => Err(RouteError::PathEmptySegment),
        Segment::Literal(text) => check_literal(text),
        Segment::Rest(_) | Segment::Everything if !is_last => Err(RouteError::PathWildcard),
        Segment::Parameter(name) | Segment::Rest(name) if !is_name(name) => {
            Err(RouteError::ParameterName)
        }
        Segment::Parameter(_) | Segment::Rest(_) | Segment::Everything => Ok(()),
    }
}

fn check_literal(text: &str) -> Result<(), fn(Shown) -> RouteError> {
    if text.contains('*') {
        return Err(RouteError::PathWildcard);
    }
    if text.contains(['{', '}']) {
        return Err(RouteError::PathBrace);
    }
    // Clients resolve them before they send a path, and who does not is refused.
    if path::is_dots(text) {
        return Err(RouteError::PathDots);
    }
    let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let mut after = text.split('%').skip(1).map(str::as_bytes);
    if !after.all(|after| is_hex(after.first()) && is_hex(after.get(1))) {
        return Err(RouteError::PathPercent);
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    let is_start = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    text.bytes().next().is_some_and(is_start)
        && text
            .bytes()
            .all(|byte| is_start(byte) || byte.is_ascii_digit())
}

/// What stands between two slashes of a pattern.
pub(super) enum Segment<'a> {
    Literal(&'a str),
    Parameter(&'a str),
    Rest(&'a str),
    Everything,
}

impl<'a> Segment<'a> {
    fn of(text: &'a str) -> Self {
        let in_braces = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'));
        match in_braces {
            _ if text == "*" => Self::Everything,
            None => Self::Literal(text),
            Some(name) => match name.strip_prefix('*') {
                Some(name) => Self::Rest(name),
                None => Self::Parameter(name),
            },
        }
    }
}

/// Why a text is no route. Each has the text, or the host or path in it that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteError {
    /// There is no `/`.
    NoPath(Shown),
    /// There is an `http://`.
    Scheme(Shown),
    /// There is no host.
    HostEmpty,
    /// More than 253 bytes, what DNS can hold (RFC 1035, section 2.3.4).
    HostTooLong(Shown),
    /// Names outside ASCII reach a server as `xn--` names (RFC 5890).
    HostNotAscii(Shown),
    /// A port, or an IPv6 address without brackets.
    HostColon(Shown),
    /// A `*` that is not the whole first label.
    HostWildcard(Shown),
    /// A character that no host name has.
    HostCharacter(Shown),
    /// A label that is empty or has more than 63 bytes.
    HostLabel(Shown),
    /// It looks like an address and is none.
    HostAddress(Shown),
    /// It does not begin with `/`.
    PathStart(Shown),
    /// More than [`limits::ROUTE_PATH`] bytes.
    PathTooLong(Shown),
    /// A character that is not visible ASCII.
    PathCharacter(Shown),
    /// A `?` or `#`.
    PathQuery(Shown),
    /// Two slashes in a row.
    PathEmptySegment(Shown),
    /// A segment that clients resolve and never send.
    PathDots(Shown),
    /// A `%` without two hexadecimal digits.
    PathPercent(Shown),
    /// A wildcard that is not the whole last segment.
    PathWildcard(Shown),
    /// A brace that belongs to no parameter, or a parameter that is not a whole segment.
    PathBrace(Shown),
    /// A parameter's name that is not `[a-z_][a-z0-9_]*`.
    ParameterName(Shown),
    /// Two parameters of one name.
    ParameterTwice(Shown),
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, what) = match self {
            Self::NoPath(text) => (
                text,
                "is no route: write `[HOST]/PATH`, as in `example.com/shop/*`",
            ),
            Self::Scheme(text) => (
                text,
                "has a scheme: leave it out, a route is for every scheme",
            ),
            Self::HostEmpty => return f.write_str("a host is empty: write `*` for every host"),
            Self::HostTooLong(text) => (
                text,
                "has more than the 253 bytes of a host name: shorten it",
            ),
            Self::HostNotAscii(text) => (
                text,
                "has characters that are not ASCII: write its `xn--` form",
            ),
            Self::HostColon(text) => (
                text,
                "has a `:`: leave a port out, since a route is for every port, and write an IPv6 address in brackets",
            ),
            Self::HostWildcard(text) => (
                text,
                "has a `*` that is not the whole first label: write `*.` and a name, or `*` alone for every host",
            ),
            Self::HostCharacter(text) => (
                text,
                "has a character that no host name has: use letters, digits, `-`, `_` and `.`",
            ),
            Self::HostLabel(text) => (
                text,
                "has a label that is empty or too long: between dots there must be 1 to 63 characters",
            ),
            Self::HostAddress(text) => (
                text,
                "looks like an address and is none: write all of it, as in `127.0.0.1` or `[::1]`",
            ),
            Self::PathStart(text) => (text, "does not begin with `/`: put one before it"),
            Self::PathTooLong(text) => {
                return write!(
                    f,
                    "{text} has more than {} bytes: shorten it, or end it early with `/*`",
                    limits::ROUTE_PATH
                );
            }
            Self::PathCharacter(text) => (
                text,
                "has a character that is not visible ASCII: write it as clients send it, as in `caf%C3%A9`",
            ),
            Self::PathQuery(text) => (
                text,
                "has a `?` or `#`: end it before, since a route is for every query, or write `%3F` or `%23`",
            ),
            Self::PathEmptySegment(text) => (text, "has two slashes in a row: leave one out"),
            Self::PathDots(text) => (
                text,
                "has a segment `.` or `..`, which clients never send: write the path that it leads to",
            ),
            Self::PathPercent(text) => (
                text,
                "has a `%` without two hexadecimal digits: write the sign itself as `%25`",
            ),
            Self::PathWildcard(text) => (
                text,
                "has a wildcard that is not the whole last segment: write `{name}` for one segment, or `%2A` for the sign",
            ),
            Self::PathBrace(text) => (
                text,
                "has a brace that is not around a whole segment: write `/{name}/`, or `%7B` and `%7D` for the signs",
            ),
            Self::ParameterName(text) => (
                text,
                "has a parameter with another name than letters `a` to `z`, digits and `_` make: rename it",
            ),
            Self::ParameterTwice(text) => (text, "has two parameters of one name: rename one"),
        };
        write!(f, "{text} {what}")
    }
}

impl std::error::Error for RouteError {}

/// What someone wrote, in a form that fits into a message: cut, and without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    /// Enough to find it again.
    const CHARACTERS: usize = 60;

    pub(super) fn of(text: &str) -> Self {
        match text.char_indices().nth(Self::CHARACTERS) {
            Some((end, _)) => Self(format!("{}…", text[..end].escape_debug())),
            None => Self(text.escape_debug().to_string()),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

/// Bytes of a host name (RFC 1035, section 2.3.4, without the root and the length bytes).
pub(super) const HOST_NAME: usize = 253;
/// Bytes of one label (RFC 1035, section 2.3.4).
const HOST_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_shown_as_a_person_writes_it() {
        let same = [
            "/",
            "/*",
            "/shop/*",
            "/shop/",
            "/a/{id}/b/{_x1}",
            "/files/{*rest}",
            "/caf%C3%A9/~x;v=1,2:@!$&'()+",
            "example.com/",
            "example.com/shop/*",
            "*.example.com/",
            "*.com/x",
            "localhost/",
            "_acme.xn--bcher-kva.example/",
            "127.0.0.1/",
            "[::1]/x",
        ];
        let other = [
            ("*/x", "/x"),
            ("Example.COM./Shop", "example.com/Shop"),
            ("*.Example.com./", "*.example.com/"),
            ("[0:0::0:1]/", "[::1]/"),
            ("[2001:DB8::A]/", "[2001:db8::a]/"),
        ];
        let same = same.map(|text| (text, text));
        for (written, shown) in same.into_iter().chain(other) {
            let route: Route = written.parse().expect(written);
            assert_eq!(route.to_string(), shown);
            assert_eq!(route.to_string().parse(), Ok(route));
        }
        assert_eq!("/*".parse(), Ok(Route::everything()));
        assert_eq!("*".parse(), Ok(HostPattern::default()));
        assert_eq!(HostPattern::default().to_string(), "*");
    }

    #[test]
    fn a_route_is_within_another_if_no_request_on_it_is_outside() {
        for (route, other) in [
            ("/acme/", "/acme/*"),
            ("/%61cme/", "/acme/*"),
            ("/caf%c3%a9/x", "/caf%C3%A9/*"),
            ("/acme/*", "/acme/*"),
            ("/acme/shop/*", "/acme/*"),
            ("/acme/{id}/x", "/acme/*"),
            ("/acme/{*rest}", "/acme/*"),
            ("a.example/acme/*", "/acme/*"),
            ("*.example/acme/*", "/acme/*"),
            ("/acme", "/acme"),
            ("/anything/{id}", "/*"),
            ("/*", "/*"),
            ("/acme/{*rest}", "/acme/{*all}"),
            ("/acme/{id}/*", "/acme/{*all}"),
            ("/acme/x", "/acme/{*all}"),
            ("/acme/{other}", "/acme/{id}"),
            ("/acme/x/{y}", "/acme/{id}/{*all}"),
            ("acme.example/*", "ACME.example./*"),
            ("acme.example/shop/{id}", "acme.example/*"),
            ("a.acme.example/*", "*.acme.example/*"),
            ("a.b.acme.example/*", "*.acme.example/*"),
            ("*.acme.example/x", "*.acme.example/*"),
            ("*.a.acme.example/x", "*.acme.example/*"),
            ("[0::1]/x", "[::1]/*"),
        ] {
            let [route, other] = [route, other].map(|text| text.parse::<Route>().expect(text));
            assert!(route.is_within(&other), "{route} in {other}");
        }
        for (route, other) in [
            ("/*", "/acme/*"),
            ("/acme", "/acme/*"),
            ("/acmex/", "/acme/*"),
            ("/Acme/", "/acme/*"),
            ("/acme%2Fx", "/acme/*"),
            ("/{id}/x", "/acme/*"),
            ("/{*rest}", "/acme/*"),
            ("/{id}", "/acme"),
            ("/acme/x/y", "/acme/{id}"),
            ("/acme/{*rest}", "/acme/{id}"),
            ("/acme/", "/acme/{id}"),
            ("/acme/*", "/acme/{*all}"),
            ("/acme/", "/acme/{*all}"),
            ("/acme/{*rest}", "/acme/{id}/*"),
            ("/acme/x", "/acme/"),
            ("/acme/", "/acme"),
            ("/*", "acme.example/*"),
            ("acme.example/*", "*.acme.example/*"),
            ("*.acme.example/*", "acme.example/*"),
            ("*.example/*", "*.acme.example/*"),
            ("notacme.example/*", "*.acme.example/*"),
            ("acme.example.evil/*", "*.acme.example/*"),
            ("x-acme.example/*", "acme.example/*"),
            ("127.0.0.1/*", "127.0.0.2/*"),
        ] {
            let [route, other] = [route, other].map(|text| text.parse::<Route>().expect(text));
            assert!(!route.is_within(&other), "{route} not in {other}");
        }
        let with = |methods: &[Method]| Route {
            methods: methods.to_vec(),
            ..Route::everything()
        };
        let (get, head, both) = (
            with(&[Method::GET]),
            with(&[Method::HEAD]),
            with(&[Method::GET, Method::POST]),
        );
        assert!(get.is_within(&both) && head.is_within(&get) && get.is_within(&with(&[])));
        assert!(!both.is_within(&get) && !with(&[]).is_within(&both) && !get.is_within(&head));
    }

    #[test]
    fn a_guest_sees_the_path_without_the_literal_part() {
        for (route, seen, stripped) in [
            ("/shop/*", "/shop/cart?x=1", "/cart?x=1"),
            ("/shop/*", "/shop/", "/"),
            ("/shop/*", "/shop/?x=/shop/", "/?x=/shop/"),
            ("/shop/*", "/shop//x", "//x"),
            ("/*", "/shop/cart", "/shop/cart"),
            ("/a/b/{*rest}", "/a/b/c/d", "/c/d"),
            ("/a/{id}/b", "/a/7/b?c", "/7/b?c"),
            ("/{id}/b", "/7/b", "/7/b"),
            ("/shop", "/shop?x=1", "/shop?x=1"),
            ("/shop/", "/shop/", "/shop/"),
            ("/", "/?x", "/?x"),
            ("/shop/*", "/%73ho%70/c%61rt%2f?x=%61", "/c%61rt%2f?x=%61"),
            ("/%73hop/*", "/sho%70/cart", "/cart"),
            ("/a|b/{id}", "/a%7cb/%37", "/%37"),
            ("/a%2Fb/*", "/a%2fb/c", "/c"),
            ("/shop/*", "/sh?p/cart", "/sh?p/cart"),
            ("/shop/*", "/shopping", "/shopping"),
            ("/shop/*", "/", "/"),
        ] {
            let mut route: Route = route.parse().expect(route);
            assert_eq!(route.stripped(seen), seen, "{route} does not strip");
            route.strip_prefix = true;
            assert_eq!(route.stripped(seen), stripped, "{route}");
        }
    }

    #[test]
    fn what_is_no_route_is_refused_with_what_to_do() {
        let long_label = format!("{}.example/", "a".repeat(64));
        let long_name = format!("{}/", "a.".repeat(127) + "b");
        let long_path = format!("/{}", "a".repeat(limits::ROUTE_PATH));
        let megabyte = "a".repeat(1 << 20);
        for (text, what) in [
            ("", "write `[HOST]/PATH`"),
            ("example.com", "write `[HOST]/PATH`"),
            (&megabyte, "write `[HOST]/PATH`"),
            (
                "http://example.com/",
                "leave it out, a route is for every scheme",
            ),
            ("./x", "write `*` for every host"),
            (&long_name, "shorten it"),
            ("bücher.example/", "write its `xn--` form"),
            ("ex\u{430}mple.com/", "write its `xn--` form"),
            ("example.com:80/", "leave a port out"),
            ("[::1]:80/", "leave a port out"),
            ("::1/", "in brackets"),
            ("a.*.example/", "write `*.` and a name"),
            ("*a.example/", "write `*.` and a name"),
            ("**/", "write `*.` and a name"),
            ("*.*.example/", "write `*.` and a name"),
            ("ex ample/", "use letters, digits"),
            ("user@example.com/", "use letters, digits"),
            ("ex\0ample/", "use letters, digits"),
            ("a\n/", "use letters, digits"),
            ("{x}.example/", "use letters, digits"),
            ("a..b/", "1 to 63 characters"),
            (".a/", "1 to 63 characters"),
            ("a../", "1 to 63 characters"),
            ("*./", "write `*.` and a name"),
            (&long_label, "1 to 63 characters"),
            ("127.0.0/", "write all of it"),
            ("127.0.0.256/", "write all of it"),
            ("*.0.0.1/", "write all of it"),
            ("[::1/", "leave a port out"),
            ("[::x]/", "write all of it"),
            ("[fe80::1%eth0]/", "write all of it"),
            (&long_path, "has more than 1024 bytes"),
            ("/a b", "not visible ASCII"),
            ("/caf\u{e9}", "not visible ASCII"),
            ("/a\tb", "not visible ASCII"),
            ("/\u{7f}", "not visible ASCII"),
            ("/a?b", "end it before"),
            ("/a#b", "end it before"),
            ("//", "leave one out"),
            ("/a//b", "leave one out"),
            ("/.", "the path that it leads to"),
            ("/a/../b", "the path that it leads to"),
            ("/a/%2e%2E/b", "the path that it leads to"),
            ("/.%2e", "the path that it leads to"),
            ("/100%", "write the sign itself as `%25`"),
            ("/%4", "write the sign itself as `%25`"),
            ("/%g0", "write the sign itself as `%25`"),
            ("/a/*/b", "write `{name}` for one segment"),
            ("/a*", "write `{name}` for one segment"),
            ("/**", "write `{name}` for one segment"),
            ("/{*rest}/a", "write `{name}` for one segment"),
            ("/{*rest}/", "write `{name}` for one segment"),
            ("/a-{id}", "around a whole segment"),
            ("/{id}.png", "around a whole segment"),
            ("/{a/b}", "around a whole segment"),
            ("/}", "around a whole segment"),
            ("/{}", "rename it"),
            ("/{*}", "rename it"),
            ("/{{id}}", "rename it"),
            ("/{a}{b}", "rename it"),
            ("/{Id}", "rename it"),
            ("/{1}", "rename it"),
            ("/{**a}", "rename it"),
            ("/{a}/{a}", "rename one"),
            ("/{a}/{*a}", "rename one"),
        ] {
            let refused = text.parse::<Route>().expect_err(text).to_string();
            assert!(refused.contains(what), "{refused}");
            assert!(refused.len() < 400, "{refused}");
            assert!(!refused.contains(char::is_control), "{refused:?}");
        }
        let refused = "shop".parse::<PathPattern>().expect_err("no slash");
        assert_eq!(
            refused.to_string(),
            "`shop` does not begin with `/`: put one before it"
        );
        let refused = "".parse::<HostPattern>().expect_err("no host");
        assert_eq!(refused, RouteError::HostEmpty);
    }

    #[test]
    fn a_route_whose_characters_grow_when_they_are_encoded_is_read_as_long_as_it_was_written() {
        for sign in ["|", "\"", "^"] {
            let written = format!("/{}", sign.repeat(999));
            let route: Route = written.parse().expect("a thousand bytes");
            assert_eq!(route.to_string(), written);
            assert_eq!(route.to_string().parse(), Ok(route));
        }
    }

    #[test]
    fn one_that_only_spells_another_otherwise_is_not_new() {
        let routes = |texts: &[&str]| -> Vec<Route> {
            let routes = texts.iter().map(|text| text.parse().expect(text));
            routes.collect()
        };
        let are_new = |routes: &[Route]| -> Vec<bool> {
            let mut before = Unrepeated::default();
            routes.iter().map(|route| before.is_new(route)).collect()
        };
        let mut two = routes(&["/%67reet/{id}", "/greet/{name}"]);
        assert_eq!(are_new(&two), [true, false]);
        two.reverse();
        assert_eq!(are_new(&two), [true, false]);
        two[1].strip_prefix = true;
        assert_eq!(are_new(&two), [true, true], "it says something else");
        two[1].strip_prefix = false;
        two[1].methods = vec![Method::GET];
        assert_eq!(are_new(&two), [true, true], "it says something else");
        for others in [
            ["/greet/*", "/greet/*"],
            ["/greet/{id}", "/greet/{name}"],
            ["/greet/*", "a.example/%67reet/*"],
            ["/greet/*", "/%67reet/{*rest}"],
            ["/a%2Fb", "/a/b"],
        ] {
            assert_eq!(are_new(&routes(&others)), [true, true], "{others:?}");
        }
    }

    #[test]
    fn the_longest_that_is_allowed_is_a_route() {
        let name = "a.".repeat(126) + "b";
        let label = "a".repeat(63);
        let path = "a".repeat(limits::ROUTE_PATH - 1);
        for text in [format!("{name}./"), format!("{label}/"), format!("/{path}")] {
            assert!(text.parse::<Route>().is_ok(), "{text}");
        }
    }
}
