//! What is remembered of a deployed handler: where it is, what it was given, and its versions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{HandlerName, HandlerSpec, Route, RouteError, Source, WarmUp};
use crate::components::Stamp;
use crate::limits::{self, HandlerLimits, Reuse};
use crate::secret::Secret;

/// A handler that was deployed: through the admin door, or by its file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub name: HandlerName,
    /// Who owns it, for as long as it is deployed. None: the operator, or whom its file says, if it is served from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Its versions, the latest deployed last. At most [`limits::VERSIONS`].
    pub versions: Vec<Version>,
    /// The number of the version that serves.
    pub current: u64,
    /// The file that it is served from, as it was when its latest version was made. None: it was deployed through the door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<SeenFile>,
    /// That file was taken away, and what is kept of it is for when it comes back.
    #[serde(
        default,
        rename = "is_gone",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub was_taken_away: bool,
    /// The number of this state among all of the state directory. No other has it, nor had it, also not one of a handler of
    /// this name that is gone.
    pub revision: u64,
}

/// A file that a version was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenFile {
    /// Where it is.
    pub path: PathBuf,
    /// Which it was.
    pub(super) stamp: Stamp,
}

/// All that was deployed under a name at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Counts the deploys of the name, from 1.
    pub number: u64,
    /// SHA-256 of the component, in hex. Its file has this name.
    pub digest: String,
    /// Bytes of the component.
    pub size: u64,
    /// Its routes.
    #[serde(with = "routes")]
    pub routes: Vec<Route>,
    /// What it was given; for the rest it has what the host gives everybody.
    pub settings: Settings,
    /// All limits that it had, if it was made of a file. Then `settings` has names of variables without their values: those
    /// are written where the file says, and nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<FileLimits>,
    /// When, in RFC 3339.
    pub deployed_at: String,
    /// By whom.
    pub by: String,
    /// What it reaches for outside the sandbox, and gets only if it is granted; in words.
    pub wants: Vec<String>,
    /// The number of the version that served when it was deployed: what a rollback takes again.
    pub follows: Option<u64>,
}

/// The limits of a handler of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLimits {
    /// What it may use.
    pub(super) handler: HandlerLimits,
    /// Bytes of a set of header fields that it makes.
    pub(super) fields: usize,
    /// How often an instance is used.
    pub(super) reuse: Reuse,
}

/// What a handler was given of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Environment variables.
    #[serde(with = "environment")]
    pub environment: BTreeMap<String, Secret>,
    /// Keys of `wasi:config`, without their values, if it was made of a file.
    #[serde(default)]
    pub config: Option<BTreeSet<String>>,
    /// Time to the response's headers, and a body's without a byte.
    pub timeout: Option<Duration>,
    /// CPU time of one request.
    pub cpu: Option<Duration>,
    /// Bytes of one instance.
    pub memory: Option<usize>,
    /// Handlers that it may call.
    #[serde(default)]
    pub calls: Vec<HandlerName>,
    /// Destinations that it might send requests to when it was deployed: to be shown. What it may now, the files say.
    #[serde(default)]
    pub outbound: Vec<String>,
    /// What it must answer before it is put in place.
    #[serde(default)]
    pub warm_up: Option<WarmUp>,
}

impl Record {
    /// Nothing is deployed yet.
    pub(super) fn new(name: HandlerName) -> Self {
        Self {
            name,
            tenant: None,
            versions: Vec::new(),
            current: 0,
            file: None,
            was_taken_away: false,
            revision: 0,
        }
    }

    /// Its version of a number, if that is kept.
    #[must_use]
    pub fn version(&self, number: u64) -> Option<&Version> {
        self.versions
            .iter()
            .find(|version| version.number == number)
    }

    /// Its version that serves.
    #[must_use]
    pub fn current(&self) -> Option<&Version> {
        self.version(self.current)
    }

    /// The version that served when the one that serves now was deployed.
    #[must_use]
    pub fn former(&self) -> Option<&Version> {
        self.version(self.current()?.follows?)
    }

    /// Its version that was deployed last.
    #[must_use]
    pub fn latest(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// An earlier version serves than the latest.
    #[must_use]
    pub fn is_rolled_back(&self) -> bool {
        self.latest()
            .is_some_and(|latest| latest.number != self.current)
    }

    /// Tells this state of the record from every other, as an entity tag does.
    #[must_use]
    pub fn tag(&self) -> String {
        let digest = self.current().map_or("", |version| &version.digest);
        format!("\"{digest}.{}\"", self.revision)
    }

    /// The number of the next version.
    pub(super) fn next_number(&self) -> u64 {
        self.versions.last().map_or(1, |version| version.number + 1)
    }

    /// Makes a new version the one that serves. If there are too many the oldest goes, but for the one that served
    /// until now.
    pub(super) fn put(&mut self, version: Version) {
        let former = std::mem::replace(&mut self.current, version.number);
        self.versions.push(version);
        while self.versions.len() > limits::VERSIONS {
            let oldest = usize::from(self.versions[0].number == former);
            self.versions.remove(oldest);
        }
    }
}

impl Settings {
    /// Keys of `wasi:config` that one of both has and the other has not. None, if it is not known of one of them.
    fn keys_that_differ(&self, former: Option<&Self>) -> Vec<String> {
        let none = BTreeSet::new();
        let of_former = former.map_or(Some(&none), |former| former.config.as_ref());
        let (Some(own), Some(others)) = (&self.config, of_former) else {
            return Vec::new();
        };
        let differ = own.symmetric_difference(others);
        differ.map(|key| format!("config.{key}")).collect()
    }
}

impl Version {
    /// What a new handler has that asks for nothing.
    pub(super) fn first(name: &HandlerName) -> Result<Self, RouteError> {
        let mut route: Route = format!("/{name}/*").parse()?;
        route.strip_prefix = true;
        Ok(Self {
            number: 1,
            digest: String::new(),
            size: 0,
            routes: vec![route],
            settings: Settings::default(),
            limits: None,
            deployed_at: String::new(),
            by: String::new(),
            wants: Vec::new(),
            follows: None,
        })
    }

    /// What a file's handler is, without the values of its variables.
    pub(super) fn of_file(spec: &HandlerSpec, routes: &[Route], digest: &str) -> Self {
        let names = spec.guest.environment.iter().map(|(name, _)| name.clone());
        let keys = spec.guest.grants.config.iter();
        let calls = spec.guest.grants.calls.iter();
        let outbound = spec.guest.grants.outbound.allow.iter();
        Self {
            number: 1,
            digest: digest.to_owned(),
            size: 0,
            // What the host does around them is the files', and no version's.
            routes: routes
                .iter()
                .map(|route| Route {
                    policy: None,
                    ..route.clone()
                })
                .collect(),
            settings: Settings {
                environment: names.map(|name| (name, String::new().into())).collect(),
                config: Some(keys.map(|(key, _)| key.clone()).collect()),
                timeout: Some(spec.limits.deadline),
                cpu: Some(spec.limits.cpu),
                memory: Some(spec.limits.memory),
                calls: calls.filter_map(|name| name.parse().ok()).collect(),
                outbound: outbound.map(|it| it.to.to_string()).collect(),
                warm_up: spec.warm_up.clone(),
            },
            limits: Some(FileLimits {
                handler: spec.limits.clone(),
                fields: spec.guest.fields,
                reuse: spec.guest.reuse.clone(),
            }),
            deployed_at: String::new(),
            by: FILES.to_owned(),
            wants: Vec::new(),
            follows: None,
        }
    }

    /// The handler of a file as it was: component, routes and limits. Values of variables, and what the host does on its
    /// routes, are what the files say `now`, and it is granted nothing that they do not grant now.
    ///
    /// # Errors
    /// The names of the variables, and of keys of `wasi:config`, that they do not say any more.
    pub(super) fn instead_of(
        &self,
        now: &HandlerSpec,
        source: Source,
    ) -> Result<HandlerSpec, Vec<String>> {
        let said = |name: &String| now.guest.environment.iter().any(|(said, _)| said == name);
        let names = self.settings.environment.keys();
        let mut unsaid: Vec<String> = names.filter(|name| !said(name)).cloned().collect();
        let config = &now.guest.grants.config;
        let keys = self.settings.config.iter().flatten();
        let unsaid_keys = keys.filter(|key| config.iter().all(|(said, _)| said != *key));
        unsaid.extend(unsaid_keys.map(|key| format!("{key} of `config`")));
        if !unsaid.is_empty() {
            return Err(unsaid);
        }
        let routes = self.routes.iter();
        let mut spec = HandlerSpec {
            routes: routes
                .map(|route| route.with_policy_of(&now.routes))
                .collect(),
            source,
            version: Some(self.number),
            ..now.clone()
        };
        if let Some(limits) = &self.limits {
            spec.limits = limits.handler.clone();
            spec.guest.memory = limits.handler.memory;
            spec.guest.fields = limits.fields;
            spec.guest.reuse = limits.reuse.clone();
        }
        let had = &self.settings;
        spec.warm_up.clone_from(&had.warm_up);
        let guest = &mut spec.guest;
        guest
            .environment
            .retain(|(name, _)| had.environment.contains_key(name));
        if let Some(keys) = &had.config {
            guest.grants.config.retain(|(key, _)| keys.contains(key));
        }
        guest
            .grants
            .calls
            .retain(|name| had.calls.iter().any(|had| had.as_str() == &**name));
        Ok(spec)
    }

    /// Its routes as they are said now, with their methods and what the host does on them. None if one is said no more:
    /// whatever else is said, nobody says who may come in there.
    pub(super) fn routes_as_said(&self, said: &[Route]) -> Option<Vec<Route>> {
        let is_said = |mine: &Route| said.iter().any(|said| said.is_where(mine));
        if !self.routes.iter().all(is_said) {
            return None;
        }
        let as_said = said.iter().filter_map(|said| {
            let mine = self.routes.iter().find(|mine| mine.is_where(said))?;
            let strip_prefix = mine.strip_prefix;
            Some(Route {
                strip_prefix,
                ..said.clone()
            })
        });
        Some(as_said.collect())
    }

    /// What the deployer makes of it: like `template`, but for what is its own.
    pub(super) fn spec(
        &self,
        name: &HandlerName,
        template: &HandlerSpec,
        source: Source,
    ) -> HandlerSpec {
        let mut spec = HandlerSpec {
            name: name.clone(),
            routes: self.routes.clone(),
            source,
            version: Some(self.number),
            ..template.clone()
        };
        let own = &self.settings;
        if let Some(timeout) = own.timeout {
            (spec.limits.deadline, spec.limits.body_deadline) = (timeout, timeout);
        }
        spec.limits.cpu = own.cpu.unwrap_or(spec.limits.cpu);
        if let Some(memory) = own.memory {
            (spec.limits.memory, spec.guest.memory) = (memory, memory);
        }
        let environment = &mut spec.guest.environment;
        environment.retain(|(name, _)| !own.environment.contains_key(name));
        environment.extend(own.environment.clone());
        let calls = own.calls.iter().map(HandlerName::shared);
        spec.guest.grants.calls.extend(calls);
        if own.warm_up.is_some() {
            spec.warm_up.clone_from(&own.warm_up);
        }
        spec
    }

    /// The limits that are no [`Settings`].
    fn rest(&self) -> Option<FileLimits> {
        let unsaid = HandlerLimits::default();
        self.limits.clone().map(|limits| FileLimits {
            handler: HandlerLimits {
                deadline: unsaid.deadline,
                cpu: unsaid.cpu,
                memory: unsaid.memory,
                ..limits.handler
            },
            ..limits
        })
    }

    /// Whether it is the same as another but for its number and when and by whom it was deployed.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.differences(Some(other)).is_empty()
    }

    /// Names what it has that `former` has not, or has otherwise: `component`, `routes`, `timeout`, `env.NAME` and so on. Without
    /// a former version, all that it has of its own.
    #[must_use]
    pub fn differences(&self, former: Option<&Self>) -> Vec<String> {
        let of_host = Settings::default();
        let (own, others) = (
            &self.settings,
            former.map_or(&of_host, |former| &former.settings),
        );
        let facts = [
            (
                "component",
                former.is_none_or(|former| former.digest != self.digest),
            ),
            (
                "routes",
                former.is_none_or(|former| former.routes != self.routes),
            ),
            ("timeout", own.timeout != others.timeout),
            ("cpu", own.cpu != others.cpu),
            ("memory", own.memory != others.memory),
            ("calls", own.calls != others.calls),
            ("outbound", own.outbound != others.outbound),
            ("warm_up", own.warm_up != others.warm_up),
            (
                "limits",
                former.is_some_and(|former| former.rest() != self.rest()),
            ),
        ];
        let facts = facts
            .into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(name, _)| name.to_owned());
        let names = own.environment.keys().chain(others.environment.keys());
        let variables: BTreeSet<&String> = names
            .filter(|name| own.environment.get(*name) != others.environment.get(*name))
            .collect();
        facts
            .chain(variables.into_iter().map(|name| format!("env.{name}")))
            .chain(own.keys_that_differ(former.map(|former| &former.settings)))
            .collect()
    }
}

/// Who deploys what lies in files.
pub(super) const FILES: &str = "files";

/// A line of the audit log: one change that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// When, in RFC 3339.
    pub at: String,
    /// By whom.
    pub who: String,
    /// What was done.
    pub action: Action,
    /// The handler's name.
    pub handler: HandlerName,
    /// Who owned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The digest that served before, if one did.
    pub from: Option<String>,
    /// The number of that version.
    pub from_version: Option<u64>,
    /// The digest that serves since, if one does.
    pub to: Option<String>,
    /// The number of that version.
    pub to_version: Option<u64>,
}

impl AuditLine {
    /// A change that is made now, from what served to what serves since.
    pub(super) fn now(
        who: String,
        action: Action,
        handler: &HandlerName,
        tenant: Option<String>,
        from: Option<&Record>,
        to: Option<&Record>,
    ) -> Self {
        let digest = |of: Option<&Record>| Some(of?.current()?.digest.clone());
        let number = |of: Option<&Record>| of.map(|record| record.current);
        Self {
            at: jiff::Timestamp::now().to_string(),
            who,
            action,
            handler: handler.clone(),
            tenant,
            from: digest(from),
            from_version: number(from),
            to: digest(to),
            to_version: number(to),
        }
    }
}

/// What can be done to a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// A component was sent.
    Deploy,
    /// A version that had been deployed before was taken again.
    Rollback,
    /// It is gone.
    Undeploy,
}

mod routes {
    use http::Method;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Route;

    #[derive(Serialize, Deserialize)]
    struct Written {
        route: String,
        strip_prefix: bool,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        methods: Vec<String>,
    }

    pub(super) fn serialize<S: Serializer>(routes: &[Route], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(routes.iter().map(|route| Written {
            route: route.to_string(),
            strip_prefix: route.strip_prefix,
            methods: route.methods.iter().map(Method::to_string).collect(),
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Route>, D::Error> {
        let written = Vec::<Written>::deserialize(from)?;
        let parse = |one: Written| {
            let mut route: Route = one.route.parse().map_err(D::Error::custom)?;
            route.strip_prefix = one.strip_prefix;
            let methods = one.methods.iter().map(|method| method.parse::<Method>());
            route.methods = methods
                .collect::<Result<_, _>>()
                .map_err(D::Error::custom)?;
            Ok(route)
        };
        written.into_iter().map(parse).collect()
    }
}

/// The one place that writes the values of variables down: in the state directory, which only its owner can read.
mod environment {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Secret;

    pub(super) fn serialize<S: Serializer>(
        of: &BTreeMap<String, Secret>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_map(of.iter().map(|(name, value)| (name, value.reveal())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<String, Secret>, D::Error> {
        let read = BTreeMap::<String, String>::deserialize(from)?;
        Ok(read
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;

    pub(in crate::catalog) fn version(number: u64, digest: &str) -> Version {
        Version {
            number,
            digest: digest.to_owned(),
            size: 3,
            routes: vec!["example.com/shop/*".parse().expect("a route")],
            settings: Settings {
                environment: BTreeMap::from([("KEY".to_owned(), Secret::from("value".to_owned()))]),
                timeout: Some(Duration::from_millis(1_500)),
                ..Settings::default()
            },
            limits: None,
            deployed_at: "2026-01-01T00:00:00Z".to_owned(),
            by: "uid 0".to_owned(),
            wants: Vec::new(),
            follows: None,
        }
    }

    pub(in crate::catalog) fn record(name: &str) -> Record {
        let mut record = Record::new(name.parse().expect("a name"));
        record.put(version(1, "aa"));
        record
    }

    fn deploy(record: &mut Record) {
        let number = record.next_number();
        record.put(Version {
            follows: Some(record.current),
            ..version(number, "bb")
        });
    }

    #[test]
    fn what_is_written_down_is_what_is_read() {
        let mut record = record("shop");
        let route = &mut record.versions[0].routes[0];
        route.strip_prefix = true;
        route.methods = vec![http::Method::GET, "PURGE".parse().expect("a method")];
        let written = serde_json::to_string(&record).expect("written");
        assert_eq!(
            serde_json::from_str::<Record>(&written).expect("read"),
            record
        );
        assert!(
            serde_json::from_str::<Record>(&written.replace("\"shop\"", "\"../shop\"")).is_err()
        );
        assert!(serde_json::from_str::<Record>(&written.replace("PURGE", "PUR GE")).is_err());
    }

    #[test]
    fn a_way_back_leads_to_what_served_and_the_oldest_that_nobody_needs_goes() {
        let mut record = record("shop");
        (0..3).for_each(|_| deploy(&mut record));
        record.current = 2;
        deploy(&mut record);
        let former = |record: &Record| record.former().map(|former| former.number);
        assert_eq!((record.current, former(&record)), (5, Some(2)));
        (5..limits::VERSIONS).for_each(|_| deploy(&mut record));
        assert_eq!(record.versions.len(), limits::VERSIONS);
        record.current = 1;
        deploy(&mut record);
        assert_eq!(record.versions.len(), limits::VERSIONS);
        assert_eq!(former(&record), Some(1), "it served until now");
        assert!(record.version(2).is_none());
        deploy(&mut record);
        assert!(record.version(1).is_none());
    }

    #[test]
    fn routes_are_as_they_are_said_now_or_not_at_all() {
        let route = |text: &str| text.parse::<Route>().expect(text);
        let with = |text: &str, methods: &[http::Method]| Route {
            methods: methods.to_vec(),
            policy: Some(Arc::default()),
            ..route(text)
        };
        let mut version = version(1, "aa");
        let mut stripped = route("/api/{id}");
        stripped.strip_prefix = true;
        version.routes = vec![route("/*"), stripped];
        let get = with("/%61pi/{name}", &[http::Method::GET]);
        let post = with("/api/{id}", &[http::Method::POST]);
        let said = [route("/*"), route("/new/*"), get.clone(), post.clone()];
        let [get, post] = [get, post].map(|said| Route {
            strip_prefix: true,
            ..said
        });
        assert_eq!(
            version.routes_as_said(&said),
            Some(vec![route("/*"), get, post])
        );
        for said in [
            vec![route("/*")],
            vec![route("/*"), route("/api/*")],
            vec![route("/*"), route("a.example/api/{id}")],
        ] {
            assert_eq!(version.routes_as_said(&said), None, "{said:?}");
        }
    }

    #[test]
    fn what_differs_is_named_and_values_are_not() {
        let (one, mut other) = (version(1, "aa"), version(2, "aa"));
        assert!(other.is_like(&one));
        let of_first = ["component", "routes", "timeout", "env.KEY"];
        assert_eq!(one.differences(None), of_first);
        let own = &mut other.settings;
        own.environment
            .insert("KEY".to_owned(), Secret::from("another".to_owned()));
        own.environment
            .insert("NEW".to_owned(), Secret::from(String::new()));
        own.timeout = None;
        own.memory = Some(1);
        own.calls.push(HandlerName::like("cart"));
        own.warm_up = "/ready".parse().ok();
        own.config = Some(BTreeSet::from(["theme".to_owned()]));
        other.routes[0].strip_prefix = true;
        let differences = other.differences(Some(&one));
        assert_eq!(
            differences,
            [
                "routes", "timeout", "memory", "calls", "warm_up", "env.KEY", "env.NEW"
            ]
        );
        assert_eq!(other.differences(Some(&other)), [""; 0]);
        // Of what was kept before keys were, nothing is known.
        let mut with_another = other.clone();
        with_another.settings.config = Some(BTreeSet::from(["size".to_owned()]));
        assert_eq!(
            with_another.differences(Some(&other)),
            ["config.size", "config.theme"]
        );
    }
}
