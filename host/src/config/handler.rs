//! A handler as the operator wrote it, in the file of the host or in a manifest.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;

use http::{Method, StatusCode};

use super::keys::{CONTAINER, DIRECTORY, LIMITS, WARM_UP};
use super::keyvalue::{self, buckets};
use super::limits::{Limits, Settled};
use super::name::{checked, name};
use super::outbound::outbound;
use super::reader::{Named, Table, Value};
use super::route::route;
use crate::capabilities::Grants;
use crate::capabilities::blobstore::{ContainerGrant, Quota};
use crate::capabilities::files::SCRATCH;
use crate::capabilities::sockets::SocketRule;
use crate::catalog::{HandlerName, HandlerSpec, Policy, Route, Source, WarmUp};
use crate::engine::{Directory, GuestSettings};
use crate::limits::HandlerLimits;
use crate::names::{most_alike, short};
use crate::secret::Secret;
use crate::values;

/// A handler: where its component is, what is for it, and what it gets.
#[derive(Debug, Clone)]
pub struct HandlerConfig {
    /// Its name in logs.
    pub name: Arc<str>,
    /// The component's file.
    pub source: PathBuf,
    /// Who owns it. None: the operator.
    pub tenant: Option<Arc<str>>,
    /// The requests that are for it. None are said in a manifest that leaves that to its directory.
    pub routes: Vec<Route>,
    /// What it may use.
    pub limits: HandlerLimits,
    /// What its instances get.
    pub guest: GuestSettings,
    /// What it must answer before it is put in place.
    pub warm_up: Option<WarmUp>,
    /// The host is not ready while it cannot be served.
    pub required: bool,
    /// Where `source` is written, for what is found wrong with the file, and each of the routes.
    pub(super) source_place: Range<usize>,
    pub(super) route_places: Vec<Range<usize>>,
}

/// What a handler does not say itself: the host's defaults, and whom it may name.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    pub(super) limits: Limits,
    pub(super) tenants: BTreeSet<Arc<str>>,
    pub(super) stores: keyvalue::Stores,
    /// What the host does on every route.
    pub(super) every: Option<Arc<Policy>>,
}

impl Defaults {
    /// Those of a handler that is said otherwise: on the command line.
    #[must_use]
    pub fn like(handler: &HandlerSpec, every: Option<&Arc<Policy>>) -> Self {
        Self {
            limits: Limits::like(&handler.limits, &handler.guest),
            tenants: BTreeSet::new(),
            stores: keyvalue::Stores::new(),
            every: every.cloned(),
        }
    }
}

impl Defaults {
    /// A handler that says nothing.
    pub(super) fn template(&self) -> HandlerSpec {
        let Settled {
            limits,
            fields,
            reuse,
        } = self.limits.settle();
        HandlerSpec {
            name: HandlerName::like(""),
            tenant: None,
            routes: Vec::new(),
            source: Source::Wasm(PathBuf::new()),
            version: None,
            guest: GuestSettings {
                memory: limits.memory,
                fields,
                reuse,
                ..GuestSettings::default()
            },
            limits,
            warm_up: None,
            quarantine: true,
            required: false,
            keep_output: false,
        }
    }
}

impl HandlerConfig {
    /// The same, to be deployed.
    #[must_use]
    pub fn spec(&self) -> HandlerSpec {
        HandlerSpec {
            name: HandlerName::like(&self.name),
            tenant: self.tenant.clone(),
            routes: self.routes.clone(),
            source: Source::Wasm(self.source.clone()),
            version: None,
            limits: self.limits.clone(),
            guest: self.guest.clone(),
            warm_up: self.warm_up.clone(),
            quarantine: true,
            required: self.required,
            keep_output: false,
        }
    }

    /// `source` is its component if it names none itself.
    pub(super) fn read(
        name: Arc<str>,
        table: &Table<'_>,
        source: Option<PathBuf>,
        defaults: &Defaults,
    ) -> Option<Self> {
        let said = table.path("source");
        let tenant = table.value("tenant");
        let tenant = tenant.and_then(|tenant| tenant.parsed(|name| known(name, &defaults.tenants)));
        let routes = table.list("routes");
        let routes = routes
            .iter()
            .filter_map(|it| Some((route(it, defaults.every.as_ref())?, it.place())));
        let (routes, route_places) = routes.unzip();
        if let Some(value) = table.value("routes")
            && value.is_empty_list()
        {
            value.mistake("a handler without a route is never reached: write one, such as `/*`");
        }
        let own = table.table("limits", &LIMITS);
        let own = own.map(|table| Limits::read(&table)).unwrap_or_default();
        let Settled {
            limits,
            fields,
            reuse,
        } = own.or(&defaults.limits).settle();
        let directories = directories(table);
        let guest = GuestSettings {
            environment: named(table, "env", "a variable"),
            scratch: scratch(table, &directories),
            directories,
            grants: Grants {
                calls: calls(table),
                config: named(table, "config", "a value"),
                outbound: outbound(table, source.is_some()),
                keyvalue: buckets(table, &defaults.stores),
                blobstore: containers(table),
                sockets: sockets(table),
            },
            coarse_clocks: None,
            memory: limits.memory,
            fields,
            reuse,
        };
        let source_place = table.value("source").map_or(table.place(), |it| it.place());
        Some(Self {
            name,
            source: said.or(source)?,
            tenant,
            routes,
            limits,
            guest,
            warm_up: warm_up(table),
            required: table.flag("required"),
            source_place,
            route_places,
        })
    }
}

/// The tenant with this name.
fn known(name: &str, tenants: &BTreeSet<Arc<str>>) -> Result<Arc<str>, String> {
    if let Some(tenant) = tenants.get(name) {
        return Ok(Arc::clone(tenant));
    }
    let shown = short(name).escape_debug().to_string();
    let names = tenants
        .iter()
        .take(COMPARED)
        .map(|tenant| tenant.to_string());
    Err(match most_alike(name, names, ALIKE) {
        Some(nearest) => format!("no tenant `{shown}`: did you mean `{nearest}`?"),
        None => format!("no tenant `{shown}`: write a table `[tenants.NAME]` for it"),
    })
}

/// A suggestion is not worth a look at every tenant of thousands, for each of thousands of handlers.
const COMPARED: usize = 100;

/// Under this likeness another tenant is not who was meant.
const ALIKE: f64 = 0.6;

/// Texts by name, each said here or kept elsewhere.
fn named(table: &Table<'_>, key: &str, what: &str) -> Vec<(String, Secret)> {
    let texts = table.named(key).into_iter();
    texts
        .filter_map(|text| {
            if !values::is_variable(text.name) {
                let message =
                    format!("not the name of {what}: write one without `=` and control characters");
                text.value.reader.mistake(text.place.clone(), message);
            }
            let value = text.value.variable()?;
            // What `wasi:config` gives has no end but its own.
            if key == "env" && value.reveal().contains('\0') {
                text.value.mistake(values::NUL_IN_VARIABLE);
            }
            Some((text.name.to_owned(), value))
        })
        .collect()
}

fn calls(table: &Table<'_>) -> Vec<Arc<str>> {
    let list = table.list("calls");
    list.iter()
        .filter_map(|name| name.parsed(checked))
        .collect()
}

fn containers(table: &Table<'_>) -> Vec<ContainerGrant> {
    let named = table.named("blobstore");
    named.iter().filter_map(container).collect()
}

fn container(named: &Named<'_>) -> Option<ContainerGrant> {
    let name = name(named);
    let table = named.value.table(&CONTAINER)?;
    let unsaid = Quota::default();
    let objects = table.parsed("max_objects", values::count);
    let object = table.parsed("max_object", values::size);
    let bytes = table.parsed("max_bytes", values::size);
    let bytes = bytes.unwrap_or(unsaid.bytes);
    one_fits_into_all(&table, "max_object", object, bytes);
    Some(ContainerGrant {
        name: name?,
        quota: Quota {
            objects: objects.map_or(unsaid.objects, |objects| objects as u64),
            object: object.unwrap_or(unsaid.object),
            bytes,
        },
    })
}

/// What is said of one thing must fit into `max_bytes` of all of them.
pub(super) fn one_fits_into_all(table: &Table<'_>, key: &str, one: Option<u64>, all: u64) {
    if let Some(value) = table.value(key)
        && one.is_some_and(|one| one > all)
    {
        value.mistake(format_args!(
            "nothing of that size fits into `max_bytes`, which is {all} bytes: raise that, or lower this"
        ));
    }
}

fn sockets(table: &Table<'_>) -> Vec<SocketRule> {
    let list = table.list("sockets");
    let rules = list.iter();
    rules
        .filter_map(|rule| rule.place_elsewhere(SocketRule::from_str))
        .collect()
}

fn scratch(table: &Table<'_>, directories: &[Directory]) -> Option<u64> {
    let said = table.value("scratch")?;
    if directories.iter().any(|it| it.guest == SCRATCH) {
        said.mistake(format_args!(
            "one of its `dirs` is `{SCRATCH}` too, where its scratch directory is: give that one another name"
        ));
    }
    said.parsed(values::scratch)
}

fn warm_up(table: &Table<'_>) -> Option<WarmUp> {
    let said = table.table("warm_up", &WARM_UP)?;
    let path = said.parsed("path", WarmUp::path_of);
    let status = said.parsed("status", WarmUp::status_of);
    let method = said.parsed("method", WarmUp::method_of);
    Some(WarmUp {
        path: path?,
        status: status.unwrap_or(StatusCode::OK),
        method: method.unwrap_or(Method::GET),
    })
}

fn directories(table: &Table<'_>) -> Vec<Directory> {
    let mut directories: Vec<Directory> = Vec::new();
    for value in table.list("dirs") {
        let Some(directory) = directory(&value) else {
            continue;
        };
        let name = |it: &Directory| it.guest.trim_end_matches('/').to_owned();
        if directories.iter().any(|it| name(it) == name(&directory)) {
            value.mistake(format_args!(
                "another of them is `{}` too: give each a `guest` of its own",
                short(&directory.guest)
            ));
        }
        directories.push(directory);
    }
    directories
}

fn directory(value: &Value<'_>) -> Option<Directory> {
    let table = value.table(&DIRECTORY)?;
    let host = table.path("host").filter(|path| {
        values::is_directory(path)
            .map_err(|message| table.value("host").map(|host| host.mistake(message)))
            .is_ok()
    });
    let guest = table.parsed("guest", |guest| match guest {
        "" => Err("an empty name: write one, such as `/public`"),
        guest if !guest.starts_with('/') => {
            Err("not from the guest's root: begin it with `/`, as in `/public`")
        }
        guest => Ok(guest.to_owned()),
    });
    Some(Directory {
        writable: table.flag("writable"),
        host: host?,
        guest: guest?,
    })
}
