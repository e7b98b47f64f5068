//! From a request's host, path and method to whom it is for: a table that is made once and never changes.

use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;
use std::net::Ipv6Addr;
use std::sync::Arc;

use http::{HeaderValue, Method};

use super::path;
use super::route::{HOST_NAME, Hosts, PathPattern, Route, Segment, Shown};

/// All routes at one moment, each with its target.
///
/// The most specific route that accepts a request's method gets it. An exact host goes before `*.example.com`, of which
/// the longest goes first, and that before every host. For one host, the first segment in which two paths differ
/// decides: text before `{name}` before `{*name}` before `*`. For one path, a method that is listed goes before a HEAD
/// that comes with GET, and that before a route that lists none.
#[derive(Debug)]
pub struct Router<T> {
    exact: HashMap<Box<str>, Node<T>>,
    /// By what comes after `*.`.
    below: HashMap<Box<str>, Node<T>>,
    /// Bytes of the longest name in `below`: a host of a hundred labels is not looked up a hundred times.
    longest: usize,
    any: Node<T>,
}

/// Whom a request is for.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a, T> {
    /// A route accepts it.
    Target {
        /// What was put on the route.
        target: &'a T,
        /// The route.
        route: &'a Route,
    },
    /// Routes match the host and the path, and none accepts the method (RFC 9110, section 15.5.6).
    Method {
        /// The methods of the most specific path that matches, for the field `allow`.
        allow: &'a HeaderValue,
        /// The first route of that path.
        route: &'a Route,
    },
    /// No route matches the host and the path.
    Nothing,
}

/// Two routes that are for the same requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who came first.
    pub first: Arc<str>,
    /// Who came second; it may be the same.
    pub second: Arc<str>,
    /// The route of the second. That of the first may have other names of parameters and more methods.
    pub route: Route,
    /// How the path of the first is written, if that is another spelling.
    pub also: Option<Arc<str>>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = Shown::of(&self.route.to_string());
        let (first, second) = (Shown::of(&self.first), Shown::of(&self.second));
        let also = self.also.as_ref();
        let also = also.map_or_else(String::new, |path| format!(", also as {}", Shown::of(path)));
        if self.first == self.second {
            return write!(
                f,
                "{first} has the route {route} twice{also}: leave one out"
            );
        }
        write!(
            f,
            "{first} and {second} both have the route {route}{also}: take it from one of them"
        )
    }
}

impl std::error::Error for Conflict {}

impl<T> Router<T> {
    /// A table of routes, each with its owner, who is named in messages, and its target.
    ///
    /// # Errors
    /// Every pair of a route and one before it that have the same host, the same path but for names of parameters, and a
    /// method that both list, or none listed by either. What is in conflict is not compared with what comes after.
    pub fn build(
        routes: impl IntoIterator<Item = (Route, Arc<str>, T)>,
    ) -> Result<Self, Vec<Conflict>> {
        let mut router = Self::default();
        let mut conflicts = Vec::new();
        for (route, owner, target) in routes {
            conflicts.extend(router.take(route, owner, target));
        }
        if conflicts.is_empty() {
            Ok(router)
        } else {
            Err(conflicts)
        }
    }

    /// Whom a request is for: with its authority and its path without a query, as the client sent them, and its method. A
    /// host that no name or address can be is matched by the routes for every host only.
    #[must_use]
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Found<'_, T> {
        let path = path::form(path);
        let Some(path) = path.strip_prefix('/') else {
            return Found::Nothing;
        };
        let name = HostName::of(host);
        let name = name.as_ref().and_then(HostName::as_str);
        let exact = name.and_then(|name| self.exact.get(name));
        let below = name
            .into_iter()
            .flat_map(parents)
            .filter(|parent| parent.len() <= self.longest)
            .filter_map(|parent| self.below.get(parent));
        let mut search = Search {
            method,
            refused: None,
        };
        for table in exact.into_iter().chain(below).chain([&self.any]) {
            if let Some(Entry { target, route, .. }) = search.within(table, Some(path)) {
                return Found::Target { target, route };
            }
        }
        match search.refused {
            Some((allow, route)) => Found::Method { allow, route },
            None => Found::Nothing,
        }
    }

    /// Adds a route, if it is in no conflict.
    pub(super) fn take(&mut self, route: Route, owner: Arc<str>, target: T) -> Vec<Conflict> {
        let entry = Entry {
            route,
            owner,
            target,
        };
        let table = match &entry.route.host.0 {
            Hosts::Any => &mut self.any,
            Hosts::Exact(name) => self.exact.entry(name.clone()).or_default(),
            Hosts::Below(name) => {
                self.longest = self.longest.max(name.len());
                self.below.entry(name.clone()).or_default()
            }
        };
        table.place(&entry.route.path).insert(entry)
    }
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            below: HashMap::new(),
            longest: 0,
            any: Node::default(),
        }
    }
}

/// The names that a name is below, the longest first.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    let dots = name.match_indices('.').filter(|(at, _)| *at > 0);
    dots.map(|(at, _)| &name[at + 1..])
}

/// A request's host in the form that patterns have: no port, no last dot, lower case, an IPv6 address as it is
/// shortest.
struct HostName {
    bytes: [u8; HOST_NAME],
    length: usize,
}

impl HostName {
    fn of(authority: &str) -> Option<Self> {
        let mut bytes = [0; HOST_NAME];
        let length = if let Some(bracketed) = authority.strip_prefix('[') {
            let (address, _) = bracketed.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            let mut unwritten = &mut bytes[..];
            write!(unwritten, "[{address}]").ok()?;
            HOST_NAME - unwritten.len()
        } else {
            let host = authority.split(':').next().unwrap_or(authority);
            let host = host.strip_suffix('.').unwrap_or(host);
            let place = bytes.get_mut(..host.len())?;
            place.copy_from_slice(host.as_bytes());
            place.make_ascii_lowercase();
            host.len()
        };
        Some(Self { bytes, length })
    }

    fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes[..self.length]).ok()
    }
}

/// The paths of one host, a level for each segment. Not one of the usual trees of routes: they refuse `/{id}` beside
/// `/*` and find one path only, so neither could another method's route answer.
#[derive(Debug)]
struct Node<T> {
    literal: HashMap<Box<str>, Node<T>>,
    parameter: Option<Box<Node<T>>>,
    /// The routes whose path ends here.
    end: Option<Box<Place<T>>>,
    rest: Option<Box<Place<T>>>,
    everything: Option<Box<Place<T>>>,
}

impl<T> Node<T> {
    fn place(&mut self, path: &PathPattern) -> &mut Place<T> {
        let mut node = self;
        for segment in path.segments() {
            node = match segment {
                Segment::Literal(text) => node.literal.entry(Box::from(text)).or_default(),
                Segment::Parameter(_) => node.parameter.get_or_insert_default(),
                Segment::Rest(_) => return node.rest.get_or_insert_default(),
                Segment::Everything => return node.everything.get_or_insert_default(),
            };
        }
        node.end.get_or_insert_default()
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            literal: HashMap::new(),
            parameter: None,
            end: None,
            rest: None,
            everything: None,
        }
    }
}

/// The routes of one host and one path, which differ in their methods.
#[derive(Debug)]
struct Place<T> {
    entries: Vec<Entry<T>>,
    allow: HeaderValue,
}

#[derive(Debug)]
struct Entry<T> {
    route: Route,
    owner: Arc<str>,
    target: T,
}

impl<T> Place<T> {
    /// Puts it in place, if it is in no conflict.
    fn insert(&mut self, entry: Entry<T>) -> Vec<Conflict> {
        let others = self.entries.iter().filter(|other| other.overlaps(&entry));
        let conflict = |other: &Entry<T>| Conflict {
            first: Arc::clone(&other.owner),
            second: Arc::clone(&entry.owner),
            route: entry.route.clone(),
            also: (other.route.path.is_respelled(&entry.route.path))
                .then(|| other.route.path.shared()),
        };
        let conflicts: Vec<Conflict> = others.map(conflict).collect();
        if conflicts.is_empty() {
            self.entries.push(entry);
            self.allow = allow(self.entries.iter().flat_map(|entry| &entry.route.methods));
        }
        conflicts
    }

    fn entry(&self, method: &Method) -> Option<&Entry<T>> {
        let listed = |method: &Method| self.entries.iter().find(|entry| entry.lists(method));
        let with_get = || listed(&Method::GET).filter(|_| *method == Method::HEAD);
        let unlisted = || {
            let mut entries = self.entries.iter();
            entries.find(|entry| entry.route.methods.is_empty())
        };
        listed(method).or_else(with_get).or_else(unlisted)
    }
}

impl<T> Default for Place<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            allow: HeaderValue::from_static(""),
        }
    }
}

impl<T> Entry<T> {
    fn lists(&self, method: &Method) -> bool {
        self.route.methods.contains(method)
    }

    /// Of one place. Beside a route that lists none, one that lists some takes those.
    fn overlaps(&self, other: &Self) -> bool {
        match self.route.methods.as_slice() {
            [] => other.route.methods.is_empty(),
            methods => methods.iter().any(|method| other.lists(method)),
        }
    }
}

fn allow<'a>(methods: impl Iterator<Item = &'a Method>) -> HeaderValue {
    let mut names: Vec<&str> = methods.map(Method::as_str).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.sort_unstable();
    names.dedup();
    // A method is a token, so it is always a value too.
    HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

/// A walk through the tables from the most specific path to the least. It comes to no node twice, so however routes are
/// made, a lookup costs at worst one step for each segment of each of them.
struct Search<'a, 'm> {
    method: &'m Method,
    /// The methods of the first place that matched the path and not the method, and its first route.
    refused: Option<(&'a HeaderValue, &'a Route)>,
}

impl<'a> Search<'a, '_> {
    /// `path` is what comes after the slash that follows on the node; none if there is no such slash.
    fn within<T>(&mut self, node: &'a Node<T>, path: Option<&str>) -> Option<&'a Entry<T>> {
        let Some(path) = path else {
            return self.at(node.end.as_deref());
        };
        let (segment, after) = match path.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (path, None),
        };
        if let Some(child) = node.literal.get(segment)
            && let Some(found) = self.within(child, after)
        {
            return Some(found);
        }
        if let Some(child) = &node.parameter
            && !segment.is_empty()
            && let Some(found) = self.within(child, after)
        {
            return Some(found);
        }
        let rest = node.rest.as_deref().filter(|_| !path.is_empty());
        self.at(rest)
            .or_else(|| self.at(node.everything.as_deref()))
    }

    fn at<T>(&mut self, place: Option<&'a Place<T>>) -> Option<&'a Entry<T>> {
        let place = place?;
        let found = place.entry(self.method);
        if found.is_none()
            && let Some(first) = place.entries.first()
        {
            self.refused.get_or_insert((&place.allow, &first.route));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(name: &str) -> Method {
        name.parse().expect(name)
    }

    /// `[METHOD[,METHOD]... ]ROUTE`, each the target of itself.
    fn said(text: &'static str) -> (Route, Arc<str>, &'static str) {
        let (methods, route) = text.split_once(' ').unwrap_or(("", text));
        let mut route: Route = route.parse().expect(text);
        let methods = methods.split(',').filter(|name| !name.is_empty());
        route.methods = methods.map(method).collect();
        (route, Arc::from(text), text)
    }

    fn router(routes: &[&'static str]) -> Router<&'static str> {
        Router::build(routes.iter().copied().map(said)).expect("no conflicts")
    }

    /// `METHOD HOST/PATH` → the target, `405 ALLOW`, or `404`.
    fn found(router: &Router<&'static str>, request: &str) -> String {
        let (name, target) = request.split_once(' ').unwrap_or(("GET", request));
        let (host, path) = target.split_at(target.find('/').expect(request));
        match router.find(host, path, &method(name)) {
            Found::Target { target, route } => {
                assert!(target.ends_with(&route.to_string()), "{target}, {route}");
                (*target).to_owned()
            }
            Found::Method { allow, .. } => format!("405 {}", allow.to_str().expect("text")),
            Found::Nothing => "404".to_owned(),
        }
    }

    fn claim(routes: &[&'static str], requests: &[(&str, &str)]) {
        let forwards = router(routes);
        let backwards = router(&routes.iter().copied().rev().collect::<Vec<_>>());
        for (request, expected) in requests {
            assert_eq!(found(&forwards, request), *expected, "{request}");
            assert_eq!(
                found(&backwards, request),
                *expected,
                "{request}, other order"
            );
        }
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        let router = Router::<()>::default();
        assert_eq!(router.find("a", "/", &Method::GET), Found::Nothing);
    }

    #[test]
    fn a_path_is_matched_by_segments() {
        let routes = [
            "/",
            "/a",
            "/b/",
            "/c/{id}",
            "/d/{*rest}",
            "/e/*",
            "/f/{x}/g/{y}",
        ];
        claim(
            &routes,
            &[
                ("x/", "/"),
                ("x/a", "/a"),
                ("x/a/", "404"),
                ("x/A", "404"),
                ("x/%61", "/a"),
                ("x/%41", "404"),
                ("x/%63/1", "/c/{id}"),
                ("x/c/1%2f2", "/c/{id}"),
                ("x/c%2F1", "404"),
                ("x/%65/%2e%2e/a", "/e/*"),
                ("x//a", "404"),
                ("x/b", "404"),
                ("x/b/", "/b/"),
                ("x/c", "404"),
                ("x/c/", "404"),
                ("x/c/1", "/c/{id}"),
                ("x/c/1/", "404"),
                ("x/c/1/2", "404"),
                ("x/d", "404"),
                ("x/d/", "404"),
                ("x/d/1", "/d/{*rest}"),
                ("x/d/1/2/", "/d/{*rest}"),
                ("x/d//", "/d/{*rest}"),
                ("x/e", "404"),
                ("x/e/", "/e/*"),
                ("x/e/1/2//3", "/e/*"),
                ("x/e/../a", "/e/*"),
                ("x/f/1/g/2", "/f/{x}/g/{y}"),
                ("x/f/1/h/2", "404"),
                ("x/f//g/2", "404"),
            ],
        );
        claim(
            &["/*"],
            &[
                ("x/", "/*"),
                ("x//", "/*"),
                ("x/a/b", "/*"),
                ("PURGE x/a", "/*"),
            ],
        );
        assert_eq!(
            router(&["/*"]).find("x", "*", &Method::OPTIONS),
            Found::Nothing
        );
        assert_eq!(router(&["/*"]).find("x", "", &Method::GET), Found::Nothing);
    }

    #[test]
    fn a_path_is_matched_in_every_spelling_of_client_and_operator() {
        claim(
            &["/%67reet/{id}", "/caf%c3%a9", "/a|b", "/%7Bid%7D", "/a%2fb"],
            &[
                ("x/greet/7", "/%67reet/{id}"),
                ("x/%67r%65et/7", "/%67reet/{id}"),
                ("x/caf%C3%A9", "/caf%c3%a9"),
                ("x/caf%C3%a9", "/caf%c3%a9"),
                ("x/café", "/caf%c3%a9"),
                ("x/a|b", "/a|b"),
                ("x/a%7cb", "/a|b"),
                ("x/{id}", "/%7Bid%7D"),
                ("x/%7bid%7d", "/%7Bid%7D"),
                ("x/anything", "404"),
                ("x/a%2Fb", "/a%2fb"),
                ("x/a/b", "404"),
                ("x/a%252fb", "404"),
            ],
        );
    }

    #[test]
    fn the_most_specific_path_goes_first() {
        claim(
            &[
                "/*",
                "/{*rest}",
                "/{id}",
                "/{id}/b",
                "/a",
                "/a/*",
                "/a/",
                "/a/{id}",
                "/a/{*rest}",
                "/a/{id}/c",
            ],
            &[
                ("x/", "/*"),
                ("x/z", "/{id}"),
                ("x/z/z", "/{*rest}"),
                ("x/z/b", "/{id}/b"),
                ("x/a", "/a"),
                ("x/a/", "/a/"),
                ("x/a/b", "/a/{id}"),
                ("x/a/b/c", "/a/{id}/c"),
                ("x/a/b/d", "/a/{*rest}"),
                ("x//", "/{*rest}"),
            ],
        );
        // A branch that ends nowhere is left again.
        claim(
            &["/a/{x}/c", "/{x}/b/d", "/a/b/e"],
            &[
                ("x/a/b/c", "/a/{x}/c"),
                ("x/a/b/d", "/{x}/b/d"),
                ("x/a/b/e", "/a/b/e"),
                ("x/a/b/f", "404"),
            ],
        );
    }

    #[test]
    fn the_most_specific_host_goes_first_and_falls_through() {
        claim(
            &[
                "/*",
                "/robots.txt",
                "example.com/shop/*",
                "*.example.com/*",
                "*.b.example.com/x",
                "a.b.example.com/",
                "*.com/com",
                "127.0.0.1/ip",
                "[::1]/ip",
            ],
            &[
                ("example.com/shop/", "example.com/shop/*"),
                ("EXAMPLE.com:8080/shop/", "example.com/shop/*"),
                ("Example.Com./shop/", "example.com/shop/*"),
                ("example.com.:80/shop/", "example.com/shop/*"),
                ("example.com../shop/", "/*"),
                ("example.com/com", "*.com/com"),
                ("example.com/", "/*"),
                ("example.com/robots.txt", "/robots.txt"),
                ("notexample.com/shop/", "/*"),
                ("www.example.com/robots.txt", "*.example.com/*"),
                (".example.com/", "/*"),
                ("a.b.example.com/", "a.b.example.com/"),
                ("a.b.example.com/x", "*.b.example.com/x"),
                ("a.b.example.com/y", "*.example.com/*"),
                ("b.example.com/x", "*.example.com/*"),
                ("1.2.3.b.example.com/x", "*.b.example.com/x"),
                ("127.0.0.1:8080/ip", "127.0.0.1/ip"),
                ("127.0.0.2/ip", "/*"),
                ("[::1]/ip", "[::1]/ip"),
                ("[::1]:8080/ip", "[::1]/ip"),
                ("[0:0:0:0:0:0:0:1]/ip", "[::1]/ip"),
                ("[::2]/ip", "/*"),
                ("[::1/ip", "/*"),
                ("[]:/ip", "/*"),
                (":80/ip", "/*"),
                ("/ip", "/*"),
            ],
        );
    }

    #[test]
    fn a_host_that_is_too_long_is_matched_by_every_host_only() {
        let longest = format!("{}.example.com", "a".repeat(241));
        let longer = format!("a{longest}");
        let megabyte = "a.".repeat(1 << 19);
        let router = router(&["/*", "*.example.com/*"]);
        assert_eq!(
            found(&router, &format!("{longest}.:80/")),
            "*.example.com/*"
        );
        assert_eq!(found(&router, &format!("{longer}/")), "/*");
        assert_eq!(found(&router, &format!("{megabyte}/")), "/*");
    }

    #[test]
    fn a_method_that_nobody_accepts_is_told_what_is_there() {
        claim(
            &[
                "GET,POST /form",
                "PUT /form",
                "GET /page",
                "PURGE /cache",
                "/all",
                "GET,DELETE /mixed",
                "/mixed",
                "GET /get",
                "HEAD /get",
            ],
            &[
                ("GET x/form", "GET,POST /form"),
                ("HEAD x/form", "GET,POST /form"),
                ("PUT x/form", "PUT /form"),
                ("DELETE x/form", "405 GET, HEAD, POST, PUT"),
                ("get x/page", "405 GET, HEAD"),
                ("OPTIONS x/page", "405 GET, HEAD"),
                ("PURGE x/cache", "PURGE /cache"),
                ("HEAD x/cache", "405 PURGE"),
                ("PURGE x/all", "/all"),
                ("BREW x/all", "/all"),
                ("GET x/mixed", "GET,DELETE /mixed"),
                ("HEAD x/mixed", "GET,DELETE /mixed"),
                ("POST x/mixed", "/mixed"),
                ("HEAD x/get", "HEAD /get"),
                ("DELETE x/nowhere", "404"),
            ],
        );
    }

    #[test]
    fn what_a_refused_method_is_judged_by_is_the_first_route_of_the_most_specific_path() {
        let router = router(&["GET /*", "GET /a/*", "POST /a/*", "POST a.example/a/b"]);
        for (host, path, first) in [
            ("x", "/a/b", "GET /a/*"),
            ("x", "/b", "GET /*"),
            ("a.example", "/a/b", "POST a.example/a/b"),
        ] {
            let Found::Method { route, .. } = router.find(host, path, &Method::DELETE) else {
                panic!("{host}{path} accepts it");
            };
            assert_eq!(format!("{} {route}", route.methods[0]), first);
        }
    }

    #[test]
    fn a_less_specific_route_that_accepts_the_method_answers() {
        claim(
            &[
                "GET example.com/a/b",
                "PUT example.com/a/{id}",
                "POST *.com/a/*",
                "DELETE /a/b",
                "PATCH /{*rest}",
            ],
            &[
                ("GET example.com/a/b", "GET example.com/a/b"),
                ("PUT example.com/a/b", "PUT example.com/a/{id}"),
                ("POST example.com/a/b", "POST *.com/a/*"),
                ("DELETE example.com/a/b", "DELETE /a/b"),
                ("PATCH example.com/a/b", "PATCH /{*rest}"),
                ("OPTIONS example.com/a/b", "405 GET, HEAD"),
                ("OPTIONS other.com/a/b", "405 POST"),
                ("OPTIONS other.org/a/b", "405 DELETE"),
            ],
        );
    }

    #[test]
    fn routes_for_the_same_requests_are_refused_with_both_owners() {
        let said = |owner: &str, text: &'static str| {
            let (route, _, target) = said(text);
            (route, Arc::from(owner), target)
        };
        let refused = Router::build([
            said("shop", "example.com/a/{id}"),
            said("blog", "Example.com./a/{name}"),
            said("blog", "GET example.com/a/{id}"),
            said("shop", "POST example.com/a/{id}"),
            said("blog", "HEAD example.com/a/{id}"),
            said("wiki", "POST,GET example.com/a/{x}"),
            said("wiki", "/a/{id}"),
            said("wiki", "/a/{other}"),
            said("wiki", "/a/*"),
            said("wiki", "/a/{*rest}"),
            said("wiki", "/a/"),
            said("shop", "/a/{*more}"),
            said("sh\nop", "/a/*"),
            said("wiki", "/%61/{*any}"),
            said("shop", "/%61/"),
        ]);
        let refused = refused.expect_err("conflicts");
        let messages: Vec<String> = refused.iter().map(Conflict::to_string).collect();
        assert_eq!(
            messages,
            [
                "`shop` and `blog` both have the route `example.com/a/{name}`: take it from one of them",
                "`blog` and `wiki` both have the route `example.com/a/{x}`: take it from one of them",
                "`shop` and `wiki` both have the route `example.com/a/{x}`: take it from one of them",
                "`wiki` has the route `/a/{other}` twice: leave one out",
                "`wiki` and `shop` both have the route `/a/{*more}`: take it from one of them",
                "`wiki` and `sh\\nop` both have the route `/a/*`: take it from one of them",
                "`wiki` has the route `/%61/{*any}` twice, also as `/a/{*rest}`: leave one out",
                "`wiki` and `shop` both have the route `/%61/`, also as `/a/`: take it from one of them",
            ]
        );
    }

    #[test]
    fn ten_thousand_routes_are_all_found() {
        let owner: Arc<str> = Arc::from("owner");
        let routes = (0..10_000).map(|nth| {
            let text = match nth % 4 {
                0 => format!("h{nth}.example.com/*"),
                1 => format!("example.com/p{nth}/*"),
                2 => format!("/api/{{id}}/p{nth}"),
                _ => format!("*.h{nth}.example.com/p/{{*rest}}"),
            };
            (text.parse().expect("route"), Arc::clone(&owner), nth)
        });
        let router = Router::build(routes).expect("no conflicts");
        for wanted in 0..10_000 {
            let (host, path) = match wanted % 4 {
                0 => (format!("h{wanted}.example.com"), "/x".to_owned()),
                1 => ("example.com:80".to_owned(), format!("/p{wanted}/x")),
                2 => ("other".to_owned(), format!("/api/7/p{wanted}")),
                _ => (format!("a.h{wanted}.example.com"), "/p/x".to_owned()),
            };
            match router.find(&host, &path, &Method::GET) {
                Found::Target { target, .. } => assert_eq!(*target, wanted),
                other => panic!("{host}{path}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_deepest_route_is_found_beside_every_wildcard() {
        let depth = 255;
        let texts = [
            "/a".repeat(depth),
            (0..depth)
                .map(|nth| format!("/{{p{nth}}}"))
                .take(120)
                .collect(),
            format!("{}/*", "/a".repeat(depth - 1)),
        ];
        let routes = texts
            .iter()
            .map(|text| (text.parse().expect("route"), Arc::from("x"), ()));
        let router = Router::build(routes).expect("no conflicts");
        let is_found =
            |path: &str| matches!(router.find("x", path, &Method::GET), Found::Target { .. });
        assert!(is_found(&"/a".repeat(depth)));
        assert!(is_found(&"/a".repeat(120)));
        assert!(is_found(&"/a".repeat(30_000)));
        assert!(!is_found(&format!("/b{}", "/a".repeat(30_000))));
    }
}
