//! From a component's file to a handler that serves: load, link, try, swap. The only writer of the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use super::hot::Hot;
use super::loader::Loader;
use super::router::Router;
use super::{
    Alike, Awaited, Catalog, Conflict, Entry, Handler, HandlerName, HandlerSpec, OwnAnswer, Policy,
    Route, Service, Spellings, Target, Tenants, Unrepeated,
};
use crate::account::Account;
use crate::capabilities::Services;
use crate::capabilities::share::Shared;
use crate::components::{Compiled, Components};
use crate::engine::{Guests, Instances, Room};
use crate::gate::Gate;
use crate::limits;

/// Makes handlers and puts them in place.
pub struct Deployer {
    catalog: Arc<ArcSwap<Catalog>>,
    loader: Arc<Loader>,
    hot: Arc<Hot>,
    /// Handlers that are being made.
    places: Shared,
    deploys: Deploys,
    /// Handlers without which the host is not ready.
    required: Mutex<BTreeSet<HandlerName>>,
    /// Held from reading the catalog to replacing it.
    writer: Mutex<()>,
}

/// What became of handlers that should be put in place, since the start.
#[derive(Debug, Default)]
pub struct Deploys {
    deployed: [AtomicU64; 2],
    refused: [AtomicU64; 2],
}

impl Deploys {
    /// Handlers that were put in place, of one source.
    #[must_use]
    pub fn deployed(&self, of: Origin) -> u64 {
        self.deployed[of as usize].load(Ordering::Relaxed)
    }

    /// Those that were not.
    #[must_use]
    pub fn refused(&self, of: Origin) -> u64 {
        self.refused[of as usize].load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self, of: Origin) {
        self.refused[of as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Why a handler is not served without which the host is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unready {
    /// It has not been made, or is gone.
    NotDeployed,
    /// It was deployed before the host was started, and is still being made.
    Starting,
    /// See [`Service::Quarantined`].
    Quarantined,
    /// See [`Service::Unloadable`].
    Unloadable,
}

impl Unready {
    /// What it is, for a sentence.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotDeployed => "not deployed",
            Self::Starting => "starting",
            Self::Quarantined => "quarantined",
            Self::Unloadable => "cannot be loaded",
        }
    }
}

/// What one step changes in the catalog.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) put: Vec<(Vec<Route>, Arc<Handler>)>,
    pub(super) remove: Vec<HandlerName>,
    pub(super) own: Option<Vec<(Route, OwnAnswer)>>,
    pub(super) every: Option<Option<Arc<Policy>>>,
    /// Handlers that served before the host was started, with the routes that they had; who served last comes first. Names
    /// and routes are kept for them until they are put or removed.
    pub(super) awaited: Vec<(HandlerName, Awaited)>,
    /// Of those, some that cannot be made.
    pub(super) failed: Vec<HandlerName>,
    /// Others, for whom nothing is kept any more.
    pub(super) let_go: Vec<HandlerName>,
    /// Whether handlers are still to come that were there before.
    pub(super) is_incomplete: Option<bool>,
    /// Where the handlers come from that it puts and removes.
    pub(super) origin: Origin,
}

impl Change {
    /// Of what is deployed through the admin door.
    pub(super) fn of_door() -> Self {
        Self {
            origin: Origin::Admin,
            ..Self::default()
        }
    }
}

/// Where a handler comes from. Nobody else replaces or removes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// Files: the one that is served, or those of a directory.
    #[default]
    Files,
    /// Those who deploy through the admin door.
    Admin,
}

/// A handler that was not put in place; nothing has changed.
#[derive(Debug)]
pub struct Refused {
    /// Its name, or who else wanted a route.
    pub name: Arc<str>,
    /// What is in the way.
    pub conflicts: Vec<Conflict>,
    /// Who has the name, if it is that.
    pub taken: Option<Taken>,
}

/// Who has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Another source of handlers has this very name.
    By(Origin),
    /// There is a handler whose name differs in upper and lower case only.
    Alike(Alike),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.taken {
            Some(Taken::By(Origin::Files)) => {
                return write!(
                    f,
                    "`{}` is served from a file: remove that, or take another name",
                    self.name
                );
            }
            Some(Taken::By(Origin::Admin)) => {
                return write!(
                    f,
                    "`{}` was deployed through the admin door: undeploy it, or take another name",
                    self.name
                );
            }
            Some(Taken::Alike(alike)) => return write!(f, "{alike}"),
            None => {}
        }
        for (nth, conflict) in self.conflicts.iter().enumerate() {
            let between = if nth == 0 { "" } else { "; " };
            write!(f, "{between}{conflict}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

impl Deployer {
    /// A deployer whose engines have room for so many requests at once, of all handlers together.
    #[must_use]
    pub fn new(
        components: Components,
        requests: usize,
        guests: Guests,
        services: Arc<Services>,
    ) -> Self {
        let idle = limits::IDLE_INSTANCES.min(requests);
        let room = Room {
            instances: requests + idle + limits::SPARE_INSTANCES,
            idle,
            guests,
            parts: limits::PARTS,
        };
        let loader = Arc::new(Loader::new(components, room, services));
        Self {
            catalog: Arc::default(),
            hot: Arc::new(Hot::new(Arc::clone(&loader))),
            loader,
            places: Shared::new(limits::DEPLOYS),
            deploys: Deploys::default(),
            required: Mutex::default(),
            writer: Mutex::default(),
        }
    }

    /// The same, with what the host does on every route.
    #[must_use]
    pub fn with_policy(self, every: Option<Arc<Policy>>) -> Self {
        self.catalog.store(Arc::new(Catalog {
            every,
            ..Catalog::default()
        }));
        self
    }

    /// What guests reach through the host.
    #[must_use]
    pub fn services(&self) -> &Arc<Services> {
        self.loader.services()
    }

    /// What is deployed: nothing at first.
    #[must_use]
    pub fn catalog(&self) -> Arc<ArcSwap<Catalog>> {
        Arc::clone(&self.catalog)
    }

    /// Without these the host is not ready, from now on.
    pub fn require(&self, names: impl IntoIterator<Item = HandlerName>) {
        *self.required() = names.into_iter().collect();
    }

    /// Handlers without which the host is not ready and that are not served, by name.
    #[must_use]
    pub fn unready(&self) -> Vec<(HandlerName, Unready)> {
        let catalog = self.catalog.load();
        let why = |name: &HandlerName| match catalog.handler(name) {
            None if catalog.is_starting(name) => Some(Unready::Starting),
            None => Some(Unready::NotDeployed),
            Some(handler) => match handler.service() {
                Service::Ready => None,
                Service::Quarantined => Some(Unready::Quarantined),
                Service::Unloadable => Some(Unready::Unloadable),
            },
        };
        let required = self.required();
        let unready = required
            .iter()
            .filter_map(|name| Some((name.clone(), why(name)?)));
        unready.collect()
    }

    pub(super) fn required(&self) -> MutexGuard<'_, BTreeSet<HandlerName>> {
        self.required.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What became of handlers so far.
    #[must_use]
    pub fn deploys(&self) -> &Deploys {
        &self.deploys
    }

    /// The instances of all handlers.
    #[must_use]
    pub fn instances(&self) -> Instances {
        self.loader.instances()
    }

    /// How many handlers have their guest loaded.
    #[must_use]
    pub fn loaded(&self) -> usize {
        self.hot.loaded()
    }

    /// What was compiled since the start.
    #[must_use]
    pub fn compiled(&self) -> Compiled {
        self.loader.compiled()
    }

    /// Who owns handlers, as it is said now.
    #[must_use]
    pub fn tenants(&self) -> &Arc<Tenants> {
        self.loader.tenants()
    }

    /// Makes a handler and puts it in place of the one before, whose requests in flight go on.
    ///
    /// # Errors
    /// As [`Self::build`], and when somebody else has one of its routes; nothing has changed then.
    pub async fn deploy(&self, spec: HandlerSpec) -> anyhow::Result<()> {
        let routes = spec.routes.clone();
        let handler = self.build(spec).await?;
        let put = vec![(routes, handler)];
        let refused = self.commit(Change {
            put,
            ..Change::default()
        });
        match refused.into_iter().next() {
            None => Ok(()),
            Some(refused) => Err(refused.into()),
        }
    }

    /// Makes a handler: loads and compiles, resolves the imports, makes one instance to see that it can be made, and
    /// asks it what it must answer.
    ///
    /// # Errors
    /// With the file's name, what is wrong with it, and what to do.
    pub async fn build(&self, spec: HandlerSpec) -> anyhow::Result<Arc<Handler>> {
        self.make(spec, false).await
    }

    /// The same for one that was deployed before, which is not asked again what it had to answer then.
    pub(super) async fn build_again(&self, spec: HandlerSpec) -> anyhow::Result<Arc<Handler>> {
        self.make(spec, true).await
    }

    async fn make(&self, spec: HandlerSpec, has_answered: bool) -> anyhow::Result<Arc<Handler>> {
        let _place = self.places.share(&spec.sharer()).take(1).await;
        let payer = self.account_of(&spec);
        let (guest, digest) = self.loader.make(&spec, &payer, has_answered).await?;
        let (gate, account) = (self.gate_of(&spec), self.account_of(&spec));
        let guest = Some(guest);
        Ok(Handler::new(spec, digest, guest, gate, account, &self.hot))
    }

    /// Who pays: its tenant, or if it has none whoever paid for the version before, so that nobody comes to new credit, or a
    /// second share, by deploying again.
    fn account_of(&self, spec: &HandlerSpec) -> Arc<Account> {
        if let Some(tenant) = self.loader.tenant(spec) {
            return Arc::clone(tenant.account());
        }
        let catalog = self.catalog.load();
        let former = catalog.handler(&spec.name);
        former
            .filter(|former| former.tenant.is_none())
            .map_or_else(Account::new, |former| Arc::clone(&former.account))
    }

    /// Versions of a handler share its places: those of the one before may run for long after it was replaced.
    fn gate_of(&self, spec: &HandlerSpec) -> Arc<Gate> {
        let catalog = self.catalog.load();
        let former = catalog.handler(&spec.name);
        former
            .filter(|former| former.spec.limits.are_the_same_places(&spec.limits))
            .map_or_else(
                || Arc::new(Gate::of(&spec.limits)),
                |former| Arc::clone(&former.gate),
            )
    }

    /// A handler that was made before, with the same component and settings: its guest is loaded when the first request
    /// comes. None if it must be made.
    pub(super) fn recall(&self, spec: &HandlerSpec) -> Option<Arc<Handler>> {
        let digest = self.loader.known(spec)?;
        let (gate, account) = (self.gate_of(spec), self.account_of(spec));
        let spec = spec.clone();
        Some(Handler::new(spec, digest, None, gate, account, &self.hot))
    }

    /// Waits until a handler is quarantined.
    pub(super) async fn sick(&self) {
        self.hot.sick().await;
    }

    /// Notes on disk what was made, for [`Self::recall`].
    pub(super) fn save_known(&self) {
        self.loader.save_known();
    }

    /// Changes the catalog in one step: no request sees a part of it. A handler whose routes are somebody else's is
    /// refused, and what was there under its name stays.
    pub(super) fn commit(&self, change: Change) -> Vec<Refused> {
        let commit = || match self.commit_sealed(change, || Ok::<_, Infallible>(())) {
            Ok(refused) => refused,
            Err(never) => match never {},
        };
        // Somebody else may be waiting for his disk under the lock, and requests are served on this thread.
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => block_in_place(commit),
            _ => commit(),
        }
    }

    /// The same, once `seal` has written it down. It is asked when nothing is in the way, and if it fails nothing has
    /// changed. It may wait for a disk, so call this where that is allowed.
    pub(super) fn commit_sealed<E>(
        &self,
        change: Change,
        seal: impl FnOnce() -> Result<(), E>,
    ) -> Result<Vec<Refused>, E> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.catalog.load_full();
        let mut base = now.entries.clone();
        let mut awaited = now.awaited.clone();
        let origin = change.origin;
        for name in &change.remove {
            if base.get(name).is_some_and(|entry| entry.origin == origin) {
                base.remove(name);
            }
            if awaited.get(name).is_some_and(|it| it.origin == origin) {
                awaited.remove(name);
            }
        }
        for name in &change.failed {
            if let Some(awaited) = awaited.get_mut(name) {
                awaited.has_failed = true;
            }
        }
        for name in &change.let_go {
            awaited.remove(name);
        }
        let mut put: BTreeMap<HandlerName, Entry> = BTreeMap::new();
        let mut own = change.own;
        if !change.awaited.is_empty() {
            // The host's own answers give way, where they may.
            let of_own: &[_] = if own.is_none() { &now.own } else { &[] };
            keep_for(&mut awaited, &base, of_own, change.awaited);
        }
        let is_incomplete = change.is_incomplete.unwrap_or(now.is_incomplete);
        let mut refused: Vec<Refused> = Vec::new();
        for (routes, handler) in change.put {
            let name = handler.spec.name.clone();
            let of_awaited = || awaited.get(&name).map(|it| it.origin);
            match base.get(&name).map(|it| it.origin).or_else(of_awaited) {
                Some(other) if other != origin => refused.push(Refused {
                    name: name.shared(),
                    conflicts: Vec::new(),
                    taken: Some(Taken::By(other)),
                }),
                _ => {
                    let entry = Entry {
                        routes,
                        handler,
                        origin,
                    };
                    put.insert(name, entry);
                }
            }
        }
        let (entries, own, router) = loop {
            let (entries, alike) = together(&base, &awaited, &put);
            let answers = own.as_ref().unwrap_or(&now.own);
            let conflicts = match table(&entries, &awaited, answers, is_incomplete) {
                Ok(router) => {
                    put.retain(|name, _| entries.contains_key(name));
                    refused.extend(alike.into_iter().map(|alike| Refused {
                        name: Arc::clone(&alike.name),
                        conflicts: Vec::new(),
                        taken: Some(Taken::Alike(alike)),
                    }));
                    break (entries, answers.clone(), router);
                }
                Err(conflicts) => conflicts,
            };
            // The host's own answers give way, each for itself; of handlers, who is there already stays, and of two that
            // come together the one that had the route before the host was started, or the first by name.
            let of_own = |conflict: &&Conflict| *conflict.first == *OWN || *conflict.second == *OWN;
            let newcomer = conflicts.iter().find_map(|conflict| {
                let of =
                    |owner: &Arc<str>| put.keys().find(|name| name.shared() == *owner).cloned();
                let had = |name: &HandlerName| {
                    let mut routes = awaited.get(name).into_iter().flat_map(|it| &it.routes);
                    routes.any(|route| clash(route, &conflict.route))
                };
                let (first, second) = (of(&conflict.first), of(&conflict.second));
                match second {
                    Some(second) if first.is_none() || !had(&second) => Some(second),
                    _ => first,
                }
            });
            let name = if let Some(own) = own
                .as_mut()
                .filter(|_| conflicts.iter().any(|it| of_own(&it)))
            {
                let of_own: Vec<&Conflict> = conflicts.iter().filter(of_own).collect();
                own.retain(|(route, _)| {
                    of_own.iter().all(|conflict| !clash(route, &conflict.route))
                });
                Arc::from(OWN)
            } else if let Some(name) = newcomer {
                put.remove(&name);
                name.shared()
            } else {
                return Ok(refused);
            };
            let conflicts = conflicts
                .into_iter()
                .filter(|conflict| conflict.first == name || conflict.second == name);
            refused.push(Refused {
                conflicts: conflicts.collect(),
                name,
                taken: None,
            });
        };
        if refused.is_empty() {
            seal()?;
        }
        for (name, entry) in &put {
            let former = now.handler(name);
            if former.is_none_or(|former| !Arc::ptr_eq(former, &entry.handler)) {
                self.deploys.deployed[origin as usize].fetch_add(1, Ordering::Relaxed);
            }
            if let Some(former) = former {
                entry.handler.follows(former);
            }
        }
        let mut accounts = entries.values().map(|entry| &entry.handler.account);
        let first = accounts.next();
        let is_shared = accounts.any(|other| first.is_some_and(|first| !Arc::ptr_eq(first, other)));
        for entry in entries.values() {
            entry.handler.account.set_among_others(is_shared);
        }
        awaited.retain(|name, _| !entries.contains_key(name));
        self.catalog.store(Arc::new(Catalog {
            is_shared,
            entries,
            awaited,
            own,
            every: change.every.unwrap_or_else(|| now.every.clone()),
            is_incomplete,
            router,
        }));
        Ok(refused)
    }
}

/// Who has the routes that need no guest, in messages.
pub(super) const OWN: &str = "[[routes]]";

/// Keeps the names and the routes of these for them, so far as nobody has them.
fn keep_for(
    awaited: &mut BTreeMap<HandlerName, Awaited>,
    base: &BTreeMap<HandlerName, Entry>,
    own: &[(Route, OwnAnswer)],
    all: Vec<(HandlerName, Awaited)>,
) {
    let names = base.keys().chain(awaited.keys());
    let mut spellings: Spellings = names.map(HandlerName::shared).collect();
    let mut taken = Router::default();
    let of_base = base.iter().map(|(name, entry)| (name, &entry.routes));
    let of_awaited = awaited.iter().map(|(name, it)| (name, &it.routes));
    for (name, routes) in of_base.chain(of_awaited) {
        for route in routes {
            taken.take(route.clone(), name.shared(), ());
        }
    }
    for (route, _) in own {
        taken.take(route.clone(), Arc::from(OWN), ());
    }
    for (name, mut new) in all {
        let is_there = base.contains_key(&name) || awaited.contains_key(&name);
        if is_there || spellings.take(&name.shared()).is_err() {
            continue;
        }
        new.routes
            .retain(|route| taken.take(route.clone(), name.shared(), ()).is_empty());
        awaited.insert(name, new);
    }
}

/// What there is, with what comes. Of those who come, who has a name that differs from another's in case only is left out: who is
/// there already or is awaited stays, and of two that come together the first by name.
fn together(
    base: &BTreeMap<HandlerName, Entry>,
    awaited: &BTreeMap<HandlerName, Awaited>,
    put: &BTreeMap<HandlerName, Entry>,
) -> (BTreeMap<HandlerName, Entry>, Vec<Alike>) {
    let (mut entries, mut alike) = (base.clone(), Vec::new());
    if put.is_empty() {
        return (entries, alike);
    }
    let names = base.keys().chain(awaited.keys());
    let mut spellings: Spellings = names.map(HandlerName::shared).collect();
    for (name, entry) in put {
        match spellings.take(&name.shared()) {
            Ok(()) => drop(entries.insert(name.clone(), entry.clone())),
            Err(other) => alike.push(other),
        }
    }
    (entries, alike)
}

/// Whether two routes are for the same requests.
fn clash(one: &Route, other: &Route) -> bool {
    let both = [one, other].map(|route| (route.clone(), Arc::from(""), ()));
    Router::build(both).is_err()
}

/// The routes of one handler, each in one spelling.
fn unrepeated(routes: &[Route]) -> impl Iterator<Item = &Route> {
    let mut before = Unrepeated::default();
    routes.iter().filter(move |&route| before.is_new(route))
}

/// Where requests go. Nobody else gets those of who is awaited, also not by a wider route.
fn table(
    entries: &BTreeMap<HandlerName, Entry>,
    awaited: &BTreeMap<HandlerName, Awaited>,
    own: &[(Route, OwnAnswer)],
    is_incomplete: bool,
) -> Result<Router<Target>, Vec<Conflict>> {
    let of_handlers = entries.iter().flat_map(|(name, entry)| {
        let target = Target::Handler(Arc::clone(&entry.handler));
        let one = move |route: &Route| (route.clone(), name.shared(), target.clone());
        unrepeated(&entry.routes).map(one)
    });
    let of_host = own
        .iter()
        .map(|(route, answer)| (route.clone(), Arc::from(OWN), Target::Own(answer.clone())));
    // One that is put in this very step has its routes among `entries` already.
    let waiting = awaited
        .iter()
        .filter(|(name, _)| !entries.contains_key(*name));
    let of_awaited = waiting.flat_map(|(name, it)| {
        let target = Target::Awaited(it.absent(name, is_incomplete));
        let one = move |route: &Route| (route.clone(), name.shared(), target.clone());
        unrepeated(&it.routes).map(one)
    });
    Router::build(of_handlers.chain(of_host).chain(of_awaited))
}
