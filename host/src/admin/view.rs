//! Handlers as the operator's door shows them. `host list` and `host show` read the same types.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::catalog::{Handler, Listed, Record, Route, Settings, Version, not_granted};
use crate::secret::Secret;

/// Every handler.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HandlersView {
    /// By name.
    pub handlers: Vec<HandlerView>,
}

/// A handler.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HandlerView {
    /// Its name.
    pub name: String,
    /// Who owns it. Not there: the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Its routes.
    pub routes: Vec<RouteView>,
    /// The digest of the component that serves.
    pub digest: String,
    /// It answers requests.
    pub serving: bool,
    /// It will: it is still being made since the host was started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub starting: bool,
    /// An earlier version serves than the latest.
    #[serde(default)]
    pub rolled_back: bool,
    /// What names its state, for `if-match`. Not there if no versions of it are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The file that it is served from, if it was not deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// How many requests its instances serve, if faults have made it fewer for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse: Option<ReuseView>,
    /// What it was given of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<SettingsView>,
    /// What it may reach now, whoever granted it: its files, its deploy, the flags of the host. Not there if it does not serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<GrantsView>,
    /// What it can reach for and may not, each with what would grant it; of one that was deployed and serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_granted: Vec<String>,
    /// Its versions, the latest deployed last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<VersionView>,
}

/// What a handler may reach. What is empty or not there is not granted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct GrantsView {
    /// Names of environment variables. Their values are not shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Keys of `wasi:config`. Their values are not shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<String>,
    /// Directories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dirs: Vec<DirectoryView>,
    /// Bytes of its scratch directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<u64>,
    /// Where its sockets may send something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<String>,
    /// Handlers that it may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<String>,
    /// Destinations that it may send requests to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbound: Vec<String>,
    /// Networks that are not public and that those destinations may be in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// Buckets of `wasi:keyvalue`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keyvalue: Vec<BucketView>,
    /// Containers of `wasi:blobstore`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobstore: Vec<String>,
    /// What its clocks show at least between two steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coarse_clocks: Option<String>,
}

/// A directory that a handler may use.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DirectoryView {
    /// What the guest calls it. Where it is on the host is not shown.
    pub guest: String,
    /// Whether the guest may write there too.
    pub writable: bool,
}

/// A bucket that a handler may use.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BucketView {
    /// Its name.
    pub name: String,
    /// The store that it is in, `redis` if that has no name.
    pub store: String,
}

/// A route.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RouteView {
    /// `[HOST]/PATH`.
    pub route: String,
    /// The guest sees paths without what comes before the wildcard.
    pub strip_prefix: bool,
}

/// How many requests one instance of a handler serves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReuseView {
    /// At the same time, now.
    pub at_once: u32,
    /// At the same time, when it has not failed for a while.
    pub at_once_granted: u32,
    /// From its beginning to its end, now.
    pub in_all: u32,
    /// From its beginning to its end, when it has not failed for a while.
    pub in_all_granted: u32,
}

/// What a handler was given of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SettingsView {
    /// Names of environment variables. Their values are not shown.
    pub env: Vec<String>,
    /// Keys of `wasi:config`, if its file said them. Their values are not shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<String>,
    /// Time to the response's headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// CPU time of one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Bytes of one instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<usize>,
    /// Handlers that it may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<String>,
    /// Destinations that it may send requests to, as its file says them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbound: Vec<String>,
    /// What it must answer before it is put in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<String>,
}

/// A version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VersionView {
    /// Counts the deploys of the name.
    pub number: u64,
    /// SHA-256 of the component, in hex.
    pub digest: String,
    /// Bytes of the component.
    pub size: u64,
    /// When, in RFC 3339.
    pub deployed_at: String,
    /// By whom.
    pub by: String,
    /// What it can reach for outside the sandbox. Nothing is said of what a file deployed: its files say what it may.
    pub wants: Vec<String>,
    /// Its routes.
    pub routes: Vec<RouteView>,
    /// What it was given of its own.
    pub settings: SettingsView,
    /// The number of the version that served when it was deployed: a rollback from it takes that again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<u64>,
    /// What it has that the one it follows has not, or has otherwise: `component`, `routes`, `timeout`, `cpu`, `memory`,
    /// `calls`, `outbound`, `warm_up`, `limits` for other limits, `env.NAME`. Of one that follows none that is kept, all that it has.
    pub differs: Vec<String>,
    /// It is the one that serves.
    pub current: bool,
}

impl From<&Listed> for HandlerView {
    fn from(listed: &Listed) -> Self {
        let record = listed.record.as_deref();
        let current = record.and_then(Record::current);
        Self {
            name: listed.name.to_string(),
            tenant: listed.tenant.clone(),
            routes: routes(&listed.routes),
            digest: listed.digest.clone(),
            serving: listed.is_serving,
            starting: listed.is_starting,
            rolled_back: record.is_some_and(Record::is_rolled_back),
            etag: record.map(Record::tag),
            file: listed.file.as_ref().map(|file| file.display().to_string()),
            reuse: listed.handler.as_deref().and_then(reuse),
            settings: current.map(|version| settings(&version.settings)),
            grants: listed.handler.as_deref().map(grants),
            not_granted: current
                .zip(listed.handler.as_deref())
                .map(|(version, handler)| not_granted(version, &handler.spec.guest))
                .unwrap_or_default(),
            versions: record.map(versions).unwrap_or_default(),
        }
    }
}

fn reuse(handler: &Handler) -> Option<ReuseView> {
    let (now, granted) = handler.reduced_uses()?;
    Some(ReuseView {
        at_once: now.at_once,
        at_once_granted: granted.at_once,
        in_all: now.in_all,
        in_all_granted: granted.in_all,
    })
}

fn routes(all: &[Route]) -> Vec<RouteView> {
    let shown = |route: &Route| RouteView {
        route: route.to_string(),
        strip_prefix: route.strip_prefix,
    };
    all.iter().map(shown).collect()
}

fn settings(own: &Settings) -> SettingsView {
    let shown = |time: Duration| humantime::format_duration(time).to_string();
    SettingsView {
        env: own.environment.keys().cloned().collect(),
        config: own.config.iter().flatten().cloned().collect(),
        timeout: own.timeout.map(shown),
        cpu: own.cpu.map(shown),
        memory: own.memory,
        calls: own.calls.iter().map(ToString::to_string).collect(),
        outbound: own.outbound.clone(),
        warm_up: own.warm_up.as_ref().map(ToString::to_string),
    }
}

fn grants(of: &Handler) -> GrantsView {
    let guest = &of.spec.guest;
    let granted = &guest.grants;
    let of_tenant = of.tenant.as_ref().and_then(|it| it.coarse_clocks());
    GrantsView {
        env: names(&guest.environment),
        config: names(&granted.config),
        dirs: guest
            .directories
            .iter()
            .map(|directory| DirectoryView {
                guest: directory.guest.clone(),
                writable: directory.writable,
            })
            .collect(),
        scratch: guest.scratch,
        sockets: granted.sockets.iter().map(ToString::to_string).collect(),
        calls: granted.calls.iter().map(ToString::to_string).collect(),
        outbound: granted
            .outbound
            .allow
            .iter()
            .map(|it| it.to.to_string())
            .collect(),
        networks: granted.outbound.networks.written().collect(),
        keyvalue: granted
            .keyvalue
            .iter()
            .map(|bucket| BucketView {
                name: bucket.name.to_string(),
                store: store(&bucket.store).to_owned(),
            })
            .collect(),
        blobstore: granted
            .blobstore
            .iter()
            .map(|container| container.name.to_string())
            .collect(),
        // As coarse as the coarser of the two.
        coarse_clocks: of_tenant
            .max(guest.coarse_clocks)
            .map(|grain| humantime::format_duration(grain).to_string()),
    }
}

/// Each name once, and no value.
fn names(all: &[(String, Secret)]) -> Vec<String> {
    let names: BTreeSet<&String> = all.iter().map(|(name, _)| name).collect();
    names.into_iter().cloned().collect()
}

/// The name of a store. One that a flag says is called after its URL, which is a secret: nothing of that is shown.
fn store(name: &str) -> &str {
    name.split_once(':').map_or(name, |(kind, _)| kind)
}

fn versions(record: &Record) -> Vec<VersionView> {
    let shown = |version: &Version| {
        let followed = version.follows.and_then(|number| record.version(number));
        VersionView {
            number: version.number,
            digest: version.digest.clone(),
            size: version.size,
            deployed_at: version.deployed_at.clone(),
            by: version.by.clone(),
            wants: version.wants.clone(),
            routes: routes(&version.routes),
            settings: settings(&version.settings),
            follows: followed.map(|version| version.number),
            differs: version.differences(followed),
            current: version.number == record.current,
        }
    };
    record.versions.iter().map(shown).collect()
}
