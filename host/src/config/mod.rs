//! What the operator wrote, as typed values: one file for the whole host, and manifests beside components.
//!
//! Separate from the command line because a file has places. Nothing is refused at the first mistake: each is noted
//! with its place, and all of them come out in one run. What is read is one typed value a room; no room sees the file.

mod directory;
mod fixed;
mod handler;
mod host;
mod keys;
mod keyvalue;
mod limits;
mod listener;
mod mistake;
mod name;
mod outbound;
mod policy;
mod reader;
mod route;
mod schema;
mod secret;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use directory::{Listing, Wrong};
pub use fixed::Fixed;
pub use handler::{Defaults, HandlerConfig};
pub use host::{Admin, Door, Log, State, Tenant};
pub use mistake::Mistakes;
pub use schema::{manifest_schema, schema};

use crate::capabilities::keyvalue::StoreKind;
use crate::catalog::{HandlerSpec, Route, Router, Spellings, TenantSpec, Unrepeated, Wanted};
use crate::components;
use crate::files;
use crate::limits::{CONFIG_BYTES, SOCKET_MODE};
use crate::server::{ListenerConfig, Place, Tls};
use crate::values::{self, counted};
use keys::{EVERY_ROUTE, HANDLER, HOST, LIMITS, LISTEN, LOG, MANIFEST, STATE, TENANT};
use limits::Limits;
use name::{checked, name};
use reader::{Needed, Reader, Table};
use secret::Outside;

/// A whole host.
#[derive(Debug, Clone)]
pub struct Config {
    /// The public door.
    pub door: Door,
    /// The operator's door, if it is open.
    pub admin: Option<Admin>,
    /// What is remembered.
    pub state: State,
    /// Where buckets can be, by name.
    pub stores: BTreeMap<Arc<str>, StoreKind>,
    /// Where and how it writes logs.
    pub log: Log,
    /// Who owns handlers, by name.
    pub tenants: Vec<Tenant>,
    /// What is deployed, by name.
    pub handlers: Vec<HandlerConfig>,
    /// Routes that need no guest, in the order of the file.
    pub fixed: Vec<Fixed>,
    /// What holds for handlers that are written elsewhere.
    pub defaults: Defaults,
    /// Other files whose contents are a part of it: passwords, pages.
    pub parts: Vec<PathBuf>,
}

impl Config {
    /// What a handler gets that says nothing: one that is deployed through the operator's door.
    #[must_use]
    pub fn template(&self) -> HandlerSpec {
        self.defaults.template()
    }

    /// Who owns handlers, and what they may use together.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantSpec> {
        let mut of_files: HashMap<&str, usize> = HashMap::new();
        for tenant in self.handlers.iter().filter_map(|it| it.tenant.as_deref()) {
            *of_files.entry(tenant).or_default() += 1;
        }
        let spec = |tenant: &Tenant| {
            let has = of_files.get(&*tenant.name);
            tenant.spec(has.copied().unwrap_or(0))
        };
        self.tenants.iter().map(spec).collect()
    }

    /// What it wants deployed.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let own = self.fixed.iter();
        Wanted {
            handlers: self.handlers.iter().map(HandlerConfig::spec).collect(),
            own: own
                .map(|fixed| (fixed.route.clone(), fixed.answer.clone()))
                .collect(),
            kept: Vec::new(),
            every: self.defaults.every.clone(),
        }
    }
}

/// Reads the file of a host.
///
/// # Errors
/// With everything that is wrong with it.
pub fn load(path: &Path) -> Result<Config, Mistakes> {
    let text = text_of(path)?;
    let reader = Reader::new(path, &text, &Outside::REAL);
    let config = config(&reader);
    reader.end(Some(config))
}

/// The same, with a look at each component, that it is there and can be served, and at what the doors need: certificates, and
/// places for sockets. Nothing is compiled.
///
/// # Errors
/// With everything that is wrong with the file, the components that it names and what its doors need.
pub fn check(path: &Path) -> Result<Config, Mistakes> {
    let text = text_of(path)?;
    let reader = Reader::new(path, &text, &Outside::REAL);
    let config = config(&reader);
    look_at_components(&reader, &config.handlers);
    look_at_doors(&reader, &config);
    reader.end(Some(config))
}

/// Reads a manifest: the keys of one handler, whose name is the file's and whose component lies beside it.
///
/// # Errors
/// With everything that is wrong with it.
pub fn manifest(path: &Path, text: &str, defaults: &Defaults) -> Result<HandlerConfig, Mistakes> {
    read_manifest(path, text, defaults, &Outside::REAL)
}

/// The same for a manifest on disk, with nothing said elsewhere.
///
/// # Errors
/// As [`manifest`], and when the file cannot be read.
pub fn check_manifest(path: &Path) -> Result<HandlerConfig, Mistakes> {
    manifest(path, &text_of(path)?, &Defaults::default())
}

fn read_manifest(
    path: &Path,
    text: &str,
    defaults: &Defaults,
    outside: &Outside<'_>,
) -> Result<HandlerConfig, Mistakes> {
    let reader = Reader::new(path, text, outside);
    let tree = reader.tree();
    let table = Table::open(&reader, &MANIFEST, tree.get_ref(), 0..0);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = checked(&stem)
        .map_err(|message| table.mistake(format!("the name of this file: {message}")))
        .ok();
    let beside = path.with_extension("wasm");
    let name = name.unwrap_or_default();
    let handler = HandlerConfig::read(name, &table, Some(beside), defaults);
    reader.end(handler)
}

fn text_of(path: &Path) -> Result<String, Mistakes> {
    let shown = path.display();
    let unreadable = |message| Mistakes::unreadable(path, message);
    let bytes = files::read(path, CONFIG_BYTES).map_err(|error| {
        let mut mistakes = unreadable(format!("`{shown}` cannot be read: {error}"));
        mistakes.heed(&error);
        mistakes
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        unreadable(format!(
            "`{shown}` is not UTF-8 at byte {at}: save it as UTF-8"
        ))
    })
}

fn config(reader: &Reader<'_>) -> Config {
    let tree = reader.tree();
    let file = Table::open(reader, &HOST, tree.get_ref(), 0..0);
    let listen = file.table("listen", &LISTEN);
    let admin = file.value("admin").and_then(Admin::read);
    let state = file.table("state", &STATE);
    let log = file.table("log", &LOG);
    let limits = file.table("defaults", &LIMITS);
    let (tenants, names) = tenants(&file);
    let stores = keyvalue::stores(&file);
    let mut door = listen.as_ref().map(Door::read).unwrap_or_default();
    if let Some(listeners) = listener::listeners(&file, listen.as_ref()) {
        no_door_at_a_listener(&file, admin.as_ref(), &listeners);
        door.listeners = listeners;
    }
    let limits = limits.map(|table| Limits::read(&table)).unwrap_or_default();
    let every = file.table("every_route", &EVERY_ROUTE);
    let every = every.and_then(|table| policy::policy(&table, None));
    let share = Limits::share_of(door.concurrent_requests);
    let defaults = Defaults {
        limits: limits.or(&share),
        tenants: names,
        stores: stores.clone(),
        every: every.clone(),
    };
    let handlers = handlers(&file, &defaults);
    no_tenant_has_too_many(&file, &tenants, &handlers);
    no_token_twice(reader, admin.as_ref(), &tenants);
    let fixed: Vec<_> = file
        .list("routes")
        .iter()
        .filter_map(|it| fixed::fixed(it, every.as_ref()))
        .collect();
    no_route_twice(reader, &handlers, &fixed);
    Config {
        door,
        admin,
        stores,
        state: state.map(|table| State::read(&table)).unwrap_or_default(),
        log: log.map(|table| Log::read(&table)).unwrap_or_default(),
        tenants,
        handlers,
        fixed,
        defaults,
        parts: reader.parts(),
    }
}

fn tenants(file: &Table<'_>) -> (Vec<Tenant>, BTreeSet<Arc<str>>) {
    let (mut tenants, mut names) = (Vec::new(), BTreeSet::new());
    for named in file.named("tenants") {
        // A tenant with a mistake is a tenant: no second mistake is made of who names it.
        names.insert(Arc::from(named.name));
        if let Some(table) = named.value.table(&TENANT) {
            tenants.extend(Tenant::read(&named, &table));
        }
    }
    (tenants, names)
}

fn handlers(file: &Table<'_>, defaults: &Defaults) -> Vec<HandlerConfig> {
    let mut spellings = Spellings::default();
    let named = file.named("handlers").into_iter();
    named
        .filter_map(|named| {
            let name = name(&named);
            if let Some(name) = &name
                && let Err(alike) = spellings.take(name)
            {
                let place = named.place.clone();
                named.value.reader.mistake(place, alike.to_string());
            }
            let table = named.value.table(&HANDLER)?;
            HandlerConfig::read(name.unwrap_or_default(), &table, None, defaults)
        })
        .collect()
}

/// No tenant has more handlers than it may.
fn no_tenant_has_too_many(file: &Table<'_>, tenants: &[Tenant], handlers: &[HandlerConfig]) {
    let mut has: HashMap<&str, usize> = HashMap::new();
    for tenant in handlers.iter().filter_map(|it| it.tenant.as_deref()) {
        *has.entry(tenant).or_default() += 1;
    }
    let may = tenants.iter();
    let may: HashMap<&str, usize> = may
        .filter_map(|tenant| Some((&*tenant.name, tenant.max_handlers?)))
        .collect();
    for named in file.named("tenants") {
        if let (Some(has), Some(may)) = (has.get(named.name), may.get(named.name))
            && has > may
        {
            named.value.mistake(format_args!(
                "it has {} and may have {may}: raise its `max_handlers`",
                counted(*has, "handler")
            ));
        }
    }
}

/// The operator's door is where no client comes in.
fn no_door_at_a_listener(file: &Table<'_>, admin: Option<&Admin>, listeners: &[ListenerConfig]) {
    let place = match admin {
        Some(Admin::Socket(path)) => Place::Unix {
            path: path.clone(),
            mode: SOCKET_MODE,
        },
        Some(Admin::Address { address, .. }) => Place::Address(*address),
        Some(Admin::Off) | None => return,
    };
    if let Some(said) = file.value("admin")
        && listeners.iter().any(|it| listener::meet(&it.place, &place))
    {
        said.mistake(format_args!(
            "a listener is at `{place}` already: give the operator's door a place of its own"
        ));
    }
}

/// A token tells who shows it.
fn no_token_twice(reader: &Reader<'_>, admin: Option<&Admin>, tenants: &[Tenant]) {
    let mut known = HashSet::new();
    if let Some(Admin::Address {
        token: Some(token), ..
    }) = admin
    {
        known.insert(token.reveal());
    }
    for tenant in tenants {
        for (token, place) in tenant.admin_tokens.iter().zip(&tenant.token_places) {
            if !known.insert(token.reveal()) {
                let message = "`admin_tokens`: a token that is somebody's already: make one for each, as `openssl rand -hex 32` does";
                reader.mistake(place.clone(), message.to_owned());
            }
        }
    }
}

/// No two routes are for the same requests.
fn no_route_twice(reader: &Reader<'_>, handlers: &[HandlerConfig], fixed: &[Fixed]) {
    let of_host: Arc<str> = Arc::from("[[routes]]");
    let of_handlers = handlers.iter().flat_map(|handler| {
        let places = handler.route_places.iter();
        let mut before = Unrepeated::default();
        let routes = handler.routes.iter().zip(places);
        let routes = routes.filter(move |&(route, _)| before.is_new(route));
        routes.map(|(route, place)| (route, &handler.name, place))
    });
    let without_guest = fixed
        .iter()
        .map(|fixed| (&fixed.route, &of_host, &fixed.place));
    let all: Vec<_> = of_handlers.chain(without_guest).collect();
    let routes = all
        .iter()
        .map(|&(route, owner, _)| (route.clone(), Arc::clone(owner), ()));
    let Err(conflicts) = Router::build(routes) else {
        return;
    };
    // Of routes that are written alike the last is the second.
    let written = |route: &Route, owner: &Arc<str>| (route.to_string(), Arc::clone(owner));
    let places: HashMap<_, _> = all
        .iter()
        .map(|(route, owner, place)| (written(route, owner), *place))
        .collect();
    for conflict in conflicts {
        if let Some(place) = places.get(&written(&conflict.route, &conflict.second)) {
            reader.mistake((*place).clone(), conflict.to_string());
        }
    }
}

/// Each component is read once, however many handlers are made of it.
fn look_at_components(reader: &Reader<'_>, handlers: &[HandlerConfig]) {
    let mut seen: HashMap<(&PathBuf, usize), Option<String>> = HashMap::new();
    for handler in handlers {
        let memory = handler.limits.memory;
        let wrong = seen.entry((&handler.source, memory)).or_insert_with(|| {
            let limits = components::Limits {
                memory: memory as u64,
                ..components::Limits::default()
            };
            let inspected = components::inspect_file(&handler.source, &limits);
            inspected.err().map(|error| error.to_string())
        });
        if let Some(wrong) = wrong {
            reader.mistake(handler.source_place.clone(), format!("`source`: {wrong}"));
        }
    }
}

fn look_at_doors(reader: &Reader<'_>, config: &Config) {
    let needed = reader.needed();
    // Directories that a start makes before it opens the listeners.
    let of_admin = needed.iter().filter_map(|(_, needed)| match needed {
        Needed::AdminSocket(path) => path.parent(),
        _ => None,
    });
    let of_state = config.state.directory.as_deref();
    let made: Vec<&Path> = of_admin.chain(of_state).collect();
    let is_made = |directory: &Path| made.iter().any(|it| it.starts_with(directory));
    for (place, needed) in &needed {
        let looked = match needed {
            Needed::Certificates(tls) => match Tls::load(tls.clone()) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("`tls`: {error:#}")),
            },
            Needed::Socket(path) | Needed::AdminSocket(path) => match path.parent() {
                Some(parent) if is_made(parent) => values::may_be_directory(parent)
                    .and_then(|()| values::may_be_socket_in_it(path)),
                _ => values::may_be_socket(path),
            },
        };
        if let Err(why) = looked {
            reader.mistake(place.clone(), why);
        }
    }
}

#[cfg(test)]
mod tests;
