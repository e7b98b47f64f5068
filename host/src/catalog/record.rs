//! What is remembered of a deployed handler: where it is, what it was given, and its versions.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{HandlerName, HandlerSpec, Route, Source};
use crate::limits;
use crate::secret::Secret;

/// A handler that was deployed through the admin door.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub name: HandlerName,
    /// Its routes.
    #[serde(with = "routes")]
    pub routes: Vec<Route>,
    /// What it was given; for the rest it has what the host gives everybody.
    pub settings: Settings,
    /// Its versions, the latest deployed last. At most [`limits::VERSIONS`].
    pub versions: Vec<Version>,
    /// The digest of the version that serves.
    pub current: String,
    /// Counts its changes, so that two states of it can be told apart.
    pub revision: u64,
}

/// A component that was deployed under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Counts the deploys of the name, from 1.
    pub number: u64,
    /// SHA-256 of the component, in hex. Its file has this name.
    pub digest: String,
    /// Bytes of the component.
    pub size: u64,
    /// When, in RFC 3339.
    pub deployed_at: String,
    /// By whom.
    pub by: String,
    /// What it reaches for outside the sandbox, and gets only if it is granted; in words.
    pub wants: Vec<String>,
}

/// What a handler was given of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Environment variables.
    #[serde(with = "environment")]
    pub environment: BTreeMap<String, Secret>,
    /// Time to the response's headers, and a body's without a byte.
    pub timeout: Option<Duration>,
    /// CPU time of one request.
    pub cpu: Option<Duration>,
    /// Bytes of one instance.
    pub memory: Option<usize>,
}

impl Record {
    /// Its version that serves.
    #[must_use]
    pub fn current(&self) -> Option<&Version> {
        self.versions
            .iter()
            .find(|version| version.digest == self.current)
    }

    /// The version that was deployed before the one that serves.
    #[must_use]
    pub fn former(&self) -> Option<&Version> {
        let at = self
            .versions
            .iter()
            .position(|version| version.digest == self.current)?;
        self.versions.get(at.checked_sub(1)?)
    }

    /// Tells this state of the record from every other, as an entity tag does.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("\"{}.{}\"", self.current, self.revision)
    }

    /// The number of the next version.
    pub(super) fn next_number(&self) -> u64 {
        self.versions.last().map_or(1, |version| version.number + 1)
    }

    /// Makes a version the one that serves. One with the same component gives up its place; the oldest goes if there
    /// are too many.
    pub(super) fn put(&mut self, version: Version) {
        self.versions.retain(|old| old.digest != version.digest);
        self.current.clone_from(&version.digest);
        self.versions.push(version);
        let surplus = self.versions.len().saturating_sub(limits::VERSIONS);
        self.versions.drain(..surplus);
    }

    /// What the deployer makes of it: like `template`, but for what is its own.
    pub(super) fn spec(&self, template: &HandlerSpec, source: Source) -> HandlerSpec {
        let mut spec = HandlerSpec {
            name: self.name.clone(),
            routes: self.routes.clone(),
            source,
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
        spec
    }
}

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
    /// The digest that served before, if one did.
    pub from: Option<String>,
    /// The digest that serves since, if one does.
    pub to: Option<String>,
}

/// What can be done to a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// A component was sent.
    Deploy,
    /// A component that had been sent before was taken again.
    Rollback,
    /// It is gone.
    Undeploy,
}

mod routes {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Route;

    #[derive(Serialize, Deserialize)]
    struct Written {
        route: String,
        strip_prefix: bool,
    }

    pub(super) fn serialize<S: Serializer>(routes: &[Route], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(routes.iter().map(|route| Written {
            route: route.to_string(),
            strip_prefix: route.strip_prefix,
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Route>, D::Error> {
        let written = Vec::<Written>::deserialize(from)?;
        let parse = |one: Written| {
            let mut route: Route = one.route.parse().map_err(D::Error::custom)?;
            route.strip_prefix = one.strip_prefix;
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
    use super::*;

    pub(in crate::catalog) fn version(digest: &str) -> Version {
        Version {
            number: 1,
            digest: digest.to_owned(),
            size: 3,
            deployed_at: "2026-01-01T00:00:00Z".to_owned(),
            by: "uid 0".to_owned(),
            wants: Vec::new(),
        }
    }

    pub(in crate::catalog) fn record(name: &str) -> Record {
        Record {
            name: name.parse().expect("a name"),
            routes: vec!["example.com/shop/*".parse().expect("a route")],
            settings: Settings {
                environment: BTreeMap::from([("KEY".to_owned(), Secret::from("value".to_owned()))]),
                timeout: Some(Duration::from_millis(1_500)),
                ..Settings::default()
            },
            versions: vec![version("aa")],
            current: "aa".to_owned(),
            revision: 1,
        }
    }

    #[test]
    fn what_is_written_down_is_what_is_read() {
        let mut record = record("shop");
        record.routes[0].strip_prefix = true;
        let written = serde_json::to_string(&record).expect("written");
        assert_eq!(
            serde_json::from_str::<Record>(&written).expect("read"),
            record
        );
        assert!(
            serde_json::from_str::<Record>(&written.replace("\"shop\"", "\"../shop\"")).is_err()
        );
    }

    #[test]
    fn a_component_that_comes_back_is_the_latest_and_the_oldest_goes() {
        let mut record = record("shop");
        record.put(version("bb"));
        record.put(version("aa"));
        assert_eq!(
            record.former().map(|former| former.digest.as_str()),
            Some("bb")
        );
        for number in 0..limits::VERSIONS {
            record.put(version(&format!("{number:02x}")));
        }
        assert_eq!(record.versions.len(), limits::VERSIONS);
        assert_eq!(record.versions[0].digest, "00");
    }
}
