//! Deployed versions: catalog and state directory, changed together.
//!
//! A deploy is: wait for nobody else on this name, receive, look, make, and in one step write down and put in place.
//! What fails before that step has changed nothing. The step holds the deployer's lock while the disk is written, so
//! what serves is what a restart gives, and who is told that it is done is told the truth.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use super::deployer::Change;
use super::of_files::{BUSY, OfFiles};
use super::ownership::Away;
use super::record::{Action, AuditLine, Record, Version};
use super::store::{Kept, Staging, Store, StoreError};
use super::{
    Awaited, Deployer, Entry, Handler, HandlerName, HandlerSpec, Origin, Refused, Route,
    RouteError, Source, Taken, TenantSpec, WarmUp, Who, ownership, rights,
};
use crate::components::{self, Reach};
use crate::engine::GuestSettings;
use crate::gate::{Gate, Permit};
use crate::limits;
use crate::secret::Secret;
use crate::values::counted;

/// Deploys, and remembers what it deployed.
pub struct Versions {
    pub(super) deployer: Arc<Deployer>,
    pub(super) store: Arc<Store>,
    pub(super) of_files: OfFiles,
    pub(super) template: HandlerSpec,
    component_bytes: u64,
    serving: Handle,
    busy: Arc<Mutex<BTreeSet<HandlerName>>>,
    uploads: Arc<Semaphore>,
    pub(super) deploys_of_tenants: Gate,
    /// True while the rest of a start is made: what is restored waits for that.
    is_held_back: watch::Sender<bool>,
    /// Handlers whose tenant there is not: kept and not served.
    pub(super) away: Mutex<BTreeMap<HandlerName, Away>>,
}

/// What a deploy asks for besides its component. What is not asked for stays as it was.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Who shall own it: of a new handler only, and only the operator says so.
    pub tenant: Option<String>,
    /// All its routes.
    pub routes: Vec<Route>,
    /// For all its routes: the guest sees paths without what comes before the wildcard.
    pub strip_prefix: Option<bool>,
    /// All its environment variables.
    pub environment: Vec<(String, Secret)>,
    /// Time to the response's headers, and a body's without a byte.
    pub timeout: Option<Duration>,
    /// CPU time of one request.
    pub cpu: Option<Duration>,
    /// Bytes of one instance.
    pub memory: Option<usize>,
    /// All the handlers that it may call.
    pub calls: Option<Vec<HandlerName>>,
    /// What it must answer before it is put in place, or nothing any more.
    pub warm_up: Option<Option<WarmUp>>,
    /// It may want what the version before did not.
    pub allow_new_imports: bool,
}

/// What somebody expects to change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Expected {
    /// Whatever is there, or nothing.
    #[default]
    Anything,
    /// Nothing of this name.
    Nothing,
    /// Something of this name.
    Something,
    /// A state of this name, one of these tags.
    Tags(Vec<String>),
}

/// A change that was made, or was not needed.
#[derive(Debug)]
pub struct Deployed {
    /// What is there now.
    pub record: Arc<Record>,
    /// It was so before.
    pub is_unchanged: bool,
    /// There was nothing of this name.
    pub is_new: bool,
}

/// How far a deploy has come.
#[derive(Debug, Clone)]
pub enum Step {
    /// The component is on disk.
    Received {
        /// Its SHA-256, in hex.
        digest: String,
        /// Its bytes.
        size: u64,
    },
    /// It is compiled, linked, and an instance of it could be made.
    Compiled,
}

/// A handler, wherever it comes from.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: HandlerName,
    /// Its routes.
    pub routes: Vec<Route>,
    /// The digest of its component.
    pub digest: String,
    /// It answers requests. One that could not be made at the start of the host does not.
    pub is_serving: bool,
    /// It will: it is still being made since the start of the host.
    pub is_starting: bool,
    /// What is remembered of it. None if it is served from a file and its version is not written down.
    pub record: Option<Arc<Record>>,
    /// The file that it is served from, if it was not deployed. A tenant knows no place of the host.
    pub file: Option<PathBuf>,
    /// Who owns it. None: the operator.
    pub tenant: Option<String>,
    /// What serves under its name now, if it does: what it may reach stands there.
    pub handler: Option<Arc<Handler>>,
}

/// Why a change was not made. Nothing has changed.
#[derive(Debug)]
pub enum NotDone {
    /// What was asked for makes no sense, all of it.
    Mistakes(Vec<String>),
    /// Nothing of this name is deployed.
    Absent(HandlerName),
    /// There is no such version to go back to.
    NoVersion(String),
    /// Somebody else changes it just now.
    Busy(HandlerName),
    /// The name, or routes, are somebody else's.
    Taken(Refused),
    /// The same, told to who may not know whose; or a handler is to change its owner.
    Occupied(String),
    /// A tenant may not do that by itself, all of it.
    Forbidden(Vec<String>),
    /// A tenant has as much as it may have.
    NoRoom(String),
    /// It is not as it was expected to be; how it is, if it is there.
    Outdated(HandlerName, Option<String>),
    /// The component cannot be served, or not as it is.
    Unfit(String),
    /// Too many components arrive at once, or too many are deployed.
    TooMany(String),
    /// The state directory would not.
    Store(StoreError),
}

impl fmt::Display for NotDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mistakes(all) | Self::Forbidden(all) => f.write_str(&all.join("; ")),
            Self::Absent(name) => write!(
                f,
                "no handler `{name}` is deployed: `host list` shows those that are"
            ),
            Self::NoVersion(why)
            | Self::Unfit(why)
            | Self::TooMany(why)
            | Self::Occupied(why)
            | Self::NoRoom(why) => f.write_str(why),
            Self::Busy(name) => write!(
                f,
                "`{name}` is being changed by somebody else: look at the outcome, then try again"
            ),
            Self::Taken(refused) => refused.fmt(f),
            Self::Outdated(name, Some(tag)) => {
                write!(
                    f,
                    "`{name}` has changed meanwhile: it is {tag} now; look at it, then try again"
                )
            }
            Self::Outdated(name, None) => {
                write!(f, "`{name}` is not deployed, and was expected to be")
            }
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NotDone {}

impl From<StoreError> for NotDone {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<RouteError> for NotDone {
    fn from(error: RouteError) -> Self {
        Self::Mistakes(vec![error.to_string()])
    }
}

/// The right to change one name. Dropping it lets the next one.
pub struct Turn {
    pub(super) name: HandlerName,
    pub(super) who: Who,
    pub(super) record: Option<Arc<Record>>,
    /// Nobody else has it meanwhile.
    is_taken: bool,
    busy: Arc<Mutex<BTreeSet<HandlerName>>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.lay_down();
    }
}

impl Turn {
    /// Lets others have it, and remembers how the handler was.
    fn lay_down(&mut self) {
        if std::mem::take(&mut self.is_taken) {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.remove(&self.name);
        }
    }

    /// The same, if what is there is what somebody expects.
    pub(super) fn if_expected(self, expected: &Expected) -> Result<Self, NotDone> {
        let tag = self.record.as_ref().map(|record| record.tag());
        let is_as_expected = match expected {
            Expected::Anything => true,
            Expected::Nothing => tag.is_none(),
            Expected::Something => tag.is_some(),
            Expected::Tags(tags) => tag.as_ref().is_some_and(|tag| tags.contains(tag)),
        };
        if is_as_expected {
            Ok(self)
        } else {
            Err(NotDone::Outdated(self.name.clone(), tag))
        }
    }
}

impl Versions {
    /// Components of at most `component_bytes` are taken. Handlers get what `template` says unless they ask for
    /// something else. Guests are made on the threads of `serving`; everything else is done where it is called.
    #[must_use]
    pub fn new(
        store: Store,
        deployer: Arc<Deployer>,
        template: HandlerSpec,
        component_bytes: u64,
        serving: Handle,
    ) -> Self {
        Self {
            deployer,
            store: Arc::new(store),
            of_files: OfFiles::default(),
            template,
            component_bytes,
            serving,
            busy: Arc::default(),
            uploads: Arc::new(Semaphore::new(limits::ADMIN_UPLOADS)),
            deploys_of_tenants: Gate::new(
                limits::TENANTS_DEPLOYS,
                limits::ADMIN_CONNECTIONS,
                limits::TENANTS_DEPLOYS_WAIT,
            ),
            is_held_back: watch::Sender::new(false),
            away: Mutex::default(),
        }
    }

    /// Puts in place what was deployed when the host ended. What has to be made anew is waited for `patience` at most, and
    /// comes later otherwise. What cannot be is told and stays in the store: another deploy or rollback of its name brings it
    /// back. For as long as it is there, it keeps its name and its routes.
    pub async fn restore(self: &Arc<Self>, patience: Duration) {
        let mut making = JoinSet::new();
        let mut change = Change::of_door();
        for record in last_first(self.store.records()) {
            let of_door = record.current().filter(|_| record.file.is_none());
            let Some(version) = of_door else {
                continue;
            };
            if self.tenant_is_away(&record) {
                self.put_away(&record);
                continue;
            }
            let spec = self.spec(&record, version);
            let (tenant, routes) = (spec.tenant.clone(), spec.routes.clone());
            let awaited = Awaited::new(tenant, routes, Origin::Admin);
            change.awaited.push((record.name.clone(), awaited));
            let digest = version.digest.clone();
            match self
                .deployer
                .recall(&spec)
                .filter(|handler| handler.digest == digest)
            {
                Some(handler) => change.put.push((spec.routes, handler)),
                None => {
                    let (deployer, store) = (Arc::clone(&self.deployer), Arc::clone(&self.store));
                    let number = version.number;
                    let mut held_back = self.is_held_back.subscribe();
                    making.spawn(async move {
                        let name = spec.name.clone();
                        // Stopped, and begun anew, if the start needs the compilers meanwhile.
                        let mut made = loop {
                            let _ = held_back.wait_for(|is_held_back| !*is_held_back).await;
                            tokio::select! {
                                // It answered its warm-up when it was deployed.
                                made = deployer.build_again(spec.clone()) => break made,
                                Ok(_) = held_back.wait_for(|is_held_back| *is_held_back) => {}
                            }
                        };
                        let then = format!(
                            "`host rollback {name} --to v{number}` or a restart brings it back"
                        );
                        if made.is_err()
                            && let Some(wrong) = wrong_with(&store, &digest, &then).await
                        {
                            let file = store.component(&digest);
                            made = Err(anyhow!("`{}` {wrong}", file.display()));
                        }
                        (made, name, digest)
                    });
                }
            }
        }
        let mut failed = Vec::new();
        let deadline = Instant::now() + patience;
        while let Ok(Some(made)) = timeout_at(deadline, making.join_next()).await {
            match restored(made) {
                Ok(handler) => change.put.push((handler.spec.routes.clone(), handler)),
                Err(name) => failed.extend(name),
            }
        }
        if self.store.is_of_earlier() {
            change.awaited.retain(|(name, _)| !failed.contains(name));
        }
        change.is_incomplete = Some(!making.is_empty());
        let count = change.put.len();
        let refused = self.deployer.commit(change);
        for refused in &refused {
            tracing::error!("`{}` is not deployed: {refused}", refused.name);
            failed.extend(refused.name.parse().ok());
        }
        self.note_failed(failed);
        self.deployer.save_known();
        if count > 0 {
            tracing::info!(
                "deployed again: {} of the state directory",
                counted(count - refused.len(), "handler")
            );
        }
        if making.is_empty() {
            return;
        }
        tracing::warn!(
            "still being made: {} of the state directory, served as soon as that is done",
            counted(making.len(), "handler")
        );
        let this = Arc::clone(self);
        tokio::spawn(async move {
            // Each by itself: one whose name is being changed waits, and the others do not.
            let mut late = JoinSet::new();
            while let Some(made) = making.join_next().await {
                match restored(made) {
                    Ok(handler) => {
                        let this = Arc::clone(&this);
                        late.spawn(async move { this.restore_late(handler).await });
                    }
                    Err(name) => this.note_failed(name.into_iter().collect()),
                }
            }
            while late.join_next().await.is_some() {}
            this.deployer.commit(Change {
                is_incomplete: Some(false),
                ..Change::of_door()
            });
        });
    }

    /// Does first what a start waits for besides. What is still being made since [`Self::restore`] is begun anew after it: one
    /// that compiles for minutes would hold a place until then.
    pub async fn give_way<T>(&self, first: impl Future<Output = T>) -> T {
        self.is_held_back.send_replace(true);
        let done = first.await;
        self.is_held_back.send_replace(false);
        done
    }

    /// Notes that what served before the start cannot be made. It keeps its name and its routes, but for those that an earlier
    /// host may have given to others.
    fn note_failed(&self, failed: Vec<HandlerName>) {
        if failed.is_empty() {
            return;
        }
        let mut change = Change::of_door();
        if self.store.is_of_earlier() {
            change.let_go = failed;
        } else {
            change.failed = failed;
        }
        self.deployer.commit(change);
    }

    /// Puts in place what took long to make, unless somebody has changed it meanwhile: who is about to may be refused.
    async fn restore_late(&self, handler: Arc<Handler>) {
        let name = &handler.spec.name;
        let begin = || self.begin(name, Action::Rollback, &Expected::Anything, &Who::host());
        let turn = loop {
            match begin() {
                Ok(turn) => break turn,
                Err(NotDone::Busy(_)) => tokio::time::sleep(BUSY).await,
                Err(why) => {
                    tracing::error!("`{name}` is not deployed: {why}");
                    return;
                }
            }
        };
        let Some(record) = &turn.record else {
            return;
        };
        let is_current = Some(record.current) == handler.spec.version;
        if !is_current || self.serves(record) || self.tenant_is_away(record) {
            return;
        }
        let name = name.clone();
        let change = Change {
            put: vec![(handler.spec.routes.clone(), handler)],
            ..Change::of_door()
        };
        match self.deployer.commit(change).into_iter().next() {
            None => tracing::info!("`{name}` is deployed again"),
            Some(refused) => {
                tracing::error!("`{name}` is not deployed: {refused}");
                self.note_failed(vec![name]);
            }
        }
        self.deployer.save_known();
    }

    /// Every handler that is there for somebody, by name.
    #[must_use]
    pub fn all(&self, who: &Who) -> Vec<Listed> {
        let catalog = self.deployer.catalog().load_full();
        let entries = catalog.entries.values();
        let of_files = entries.filter(|entry| entry.origin == Origin::Files);
        let mut all: Vec<Listed> = of_files.map(|entry| self.listed_file(entry)).collect();
        let records = self.store.records().into_iter();
        let of_door = records.filter(|record| record.file.is_none());
        all.extend(of_door.map(|record| self.listed(record)));
        all.retain(|listed| who.sees(listed.tenant.as_deref()));
        if who.tenant().is_some() {
            all.iter_mut().for_each(|listed| listed.file = None);
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The handler of a name.
    ///
    /// # Errors
    /// When there is none for him who asks.
    pub fn find(&self, name: &HandlerName, who: &Who) -> Result<Listed, NotDone> {
        let listed = self.listed_of(name);
        let mut listed = listed
            .filter(|listed| who.sees(listed.tenant.as_deref()))
            .ok_or_else(|| NotDone::Absent(name.clone()))?;
        if who.tenant().is_some() {
            listed.file = None;
        }
        Ok(listed)
    }

    pub(super) fn listed_of(&self, name: &HandlerName) -> Option<Listed> {
        if let Some(record) = self.of_door(name) {
            return Some(self.listed(record));
        }
        let catalog = self.deployer.catalog().load_full();
        let entry = catalog.entries.get(name)?;
        Some(self.listed_file(entry))
    }

    /// The latest changes, before a time if one is given, that he who asks may see, the last one first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn changes(
        &self,
        most: usize,
        before: Option<jiff::Timestamp>,
        who: &Who,
    ) -> Result<Vec<AuditLine>, NotDone> {
        let (store, who) = (Arc::clone(&self.store), who.clone());
        blocking(move || Ok(store.changes(most, before, &who)?)).await
    }

    /// What was deployed under a name through the door.
    fn of_door(&self, name: &HandlerName) -> Option<Arc<Record>> {
        let record = self.store.record(name);
        record.filter(|record| record.file.is_none())
    }

    /// The turn to change a name, before anything is known of it.
    pub(super) fn turn(&self, name: &HandlerName, who: &Who) -> Result<Turn, NotDone> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(name.clone()) {
            return Err(NotDone::Busy(name.clone()));
        }
        Ok(Turn {
            name: name.clone(),
            who: who.clone(),
            record: None,
            is_taken: true,
            busy: Arc::clone(&self.busy),
        })
    }

    /// Takes the turn to do something to a name, which is no file's.
    ///
    /// # Errors
    /// When somebody else has it, when the name belongs to a file, or when it is not as expected. What is not there for
    /// him who asks is absent, and may not be deployed.
    pub fn begin(
        &self,
        name: &HandlerName,
        action: Action,
        expected: &Expected,
        who: &Who,
    ) -> Result<Turn, NotDone> {
        // Before anything else, so that nothing else tells him of it.
        self.is_there(name, action, who)?;
        let catalog = self.deployer.catalog().load_full();
        if self.of_door(name).is_none() && catalog.origin(name) == Some(Origin::Files) {
            return Err(NotDone::Taken(Refused {
                name: name.shared(),
                conflicts: Vec::new(),
                taken: Some(Taken::By(Origin::Files)),
            }));
        }
        let mut turn = self.turn(name, who)?;
        self.is_there(name, action, who)?;
        turn.record = self.of_door(name);
        turn.if_expected(expected)
    }

    /// Takes a turn up again that was laid down, if the handler is as it was then.
    fn resume(&self, turn: &Turn) -> Result<Turn, NotDone> {
        let resumed = self.begin(&turn.name, Action::Deploy, &Expected::Anything, &turn.who)?;
        let tag = |turn: &Turn| turn.record.as_ref().map(|record| record.tag());
        if tag(&resumed) == tag(turn) {
            Ok(resumed)
        } else {
            Err(NotDone::Busy(turn.name.clone()))
        }
    }

    /// Begins to take a component, if what is asked for with it can be. Others may change the handler while it arrives:
    /// a client that sends slowly holds up nobody, and is told in the end.
    ///
    /// # Errors
    /// When too many arrive already, and as [`Self::deploy`] where that needs no look at the component.
    pub async fn receive(&self, turn: &mut Turn, ask: &Ask) -> Result<Receiving, NotDone> {
        let tenant = self.tenant_of(turn, ask)?;
        let former = turn.record.as_ref().and_then(|record| record.current());
        let version = self.asked(ask.clone(), &turn.name, former)?;
        self.check(turn, tenant.as_deref(), &version)?;
        if let Some(tenant) = tenant.filter(|_| turn.record.is_none()) {
            rights::room_for_another(&tenant, self.store.of_tenant(&tenant.name).len())?;
        }
        let of_tenant = self.places_of(&turn.who).await?;
        let place = Arc::clone(&self.uploads).try_acquire_owned().map_err(|_| {
            NotDone::TooMany(format!(
                "{} components arrive already: try again in a moment",
                limits::ADMIN_UPLOADS
            ))
        })?;
        let (chunks, mut arriving) = mpsc::channel::<Bytes>(CHUNKS);
        let (store, limit) = (Arc::clone(&self.store), self.component_bytes);
        let writing = spawn_blocking(move || {
            let mut staging = store.stage(limit)?;
            while let Some(chunk) = arriving.blocking_recv() {
                staging.write(&chunk)?;
            }
            Ok(staging)
        });
        turn.lay_down();
        Ok(Receiving {
            chunks,
            writing,
            places: (place, of_tenant),
        })
    }

    /// Deploys what arrived, and tells how far it is.
    ///
    /// # Errors
    /// With the reason; nothing has changed then.
    pub async fn deploy(
        &self,
        turn: Turn,
        ask: Ask,
        receiving: Receiving,
        tell: impl Fn(Step),
    ) -> Result<Deployed, NotDone> {
        let deployed = self.try_deploy(turn, ask, receiving, tell).await;
        if deployed.is_err() {
            self.deployer.deploys().refuse(Origin::Admin);
        }
        deployed
    }

    async fn try_deploy(
        &self,
        turn: Turn,
        ask: Ask,
        receiving: Receiving,
        tell: impl Fn(Step),
    ) -> Result<Deployed, NotDone> {
        // The places are held until the handler is made: a tenant's deploys take the compiler and the door from nobody.
        let (kept, _places) = receiving.finish().await?;
        let turn = self.resume(&turn)?;
        let tenant = self.tenant_of(&turn, &ask)?;
        tell(Step::Received {
            digest: kept.digest.clone(),
            size: kept.size,
        });
        let mut record = match &turn.record {
            Some(record) => Record::clone(record),
            None => self.new_record(&turn.name, tenant.as_deref())?,
        };
        let allows_new = ask.allow_new_imports;
        let former = record.current().cloned();
        let mut version = Version {
            digest: kept.digest.clone(),
            size: kept.size,
            ..self.asked(ask, &turn.name, former.as_ref())?
        };
        self.check(&turn, tenant.as_deref(), &version)?;
        let is_like_former = former
            .as_ref()
            .is_some_and(|former| version.is_like(former));
        if let Some(record) = turn.record.clone()
            && is_like_former
            && self.serves(&record)
        {
            return Ok(Deployed {
                record,
                is_unchanged: true,
                is_new: false,
            });
        }
        // One that does not serve, because its file was damaged or the host could not make it, is mended.
        if !is_like_former {
            if former
                .as_ref()
                .is_none_or(|former| former.digest != version.digest)
            {
                version.wants = look(kept.path()).await?;
            }
            version.number = record.next_number();
            version.follows = former.as_ref().map(|former| former.number);
            (version.deployed_at, version.by) = (now(), turn.who.to_string());
            if let Some(former) = former.filter(|_| !allows_new) {
                refuse_new(&former, &version)?;
            }
            record.put(version);
        }
        // Said before the compiler is asked, and looked at again when it is done.
        if let Some(tenant) = &tenant {
            ownership::room(&self.store, tenant, turn.record.as_deref(), &mut record)?;
        }
        let version = record.current().ok_or_else(|| no_version(&record.name))?;
        let next = Next {
            spec: self.spec(&record, version),
            replaces: None,
            kept,
            line: line(&turn, Action::Deploy, Some(&record)),
            record,
        };
        self.take(turn, next, || tell(Step::Compiled)).await
    }

    /// Takes a version again that was deployed before: the one that served before the current was deployed, or one by its
    /// number or by how its digest begins. It comes back as it was, with its routes and its settings.
    ///
    /// # Errors
    /// With the reason; nothing has changed then.
    pub async fn rollback(&self, turn: Turn, to: Option<&str>) -> Result<Deployed, NotDone> {
        let former = turn
            .record
            .clone()
            .ok_or_else(|| NotDone::Absent(turn.name.clone()))?;
        if former.file.is_some() && !self.serves(&former) {
            return Err(NotDone::NoVersion(format!(
                "what serves of `{}` is no version: the state directory could not take it, and the host's log says why",
                former.name
            )));
        }
        let version = chosen(&former, to)?;
        let _places = self.places_of(&turn.who).await?;
        let tenant = self.tenant_of(&turn, &Ask::default())?;
        self.check(&turn, tenant.as_deref(), version)?;
        if version.number == former.current && self.serves(&former) {
            return Ok(Deployed {
                record: former,
                is_unchanged: true,
                is_new: false,
            });
        }
        let (spec, replaces) = match &former.file {
            None => (self.spec(&former, version), None),
            Some(_) => {
                let (spec, replaced) = self.of_file(&former, version)?;
                (spec, Some(replaced))
            }
        };
        let (store, digest, size) = (
            Arc::clone(&self.store),
            version.digest.clone(),
            version.size,
        );
        let kept = blocking(move || Ok(store.pin(&digest, size))).await?;
        let mut record = Record::clone(&former);
        record.current = version.number;
        let next = Next {
            spec,
            replaces,
            kept,
            line: line(&turn, Action::Rollback, Some(&record)),
            record,
        };
        self.take(turn, next, || {}).await
    }

    /// Goes back from a handler that fails to the version that served before it, unless it serves no more.
    ///
    /// # Errors
    /// With the reason; nothing has changed then, and it may be tried again.
    pub(super) async fn fall_back(
        &self,
        failing: &Arc<Handler>,
        former: &Handler,
    ) -> Result<(), NotDone> {
        let name = &failing.spec.name;
        let turn = self.begin(name, Action::Rollback, &Expected::Anything, &Who::host())?;
        let catalog = self.deployer.catalog().load_full();
        let serves = catalog.handler(name);
        match former.spec.version {
            Some(number) if serves.is_some_and(|serves| Arc::ptr_eq(serves, failing)) => {
                let to = format!("v{number}");
                self.rollback(turn, Some(&to)).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Takes a handler away, with all its versions.
    ///
    /// # Errors
    /// With the reason; nothing has changed then.
    pub async fn undeploy(&self, turn: Turn) -> Result<(), NotDone> {
        if turn.record.is_none() {
            return Err(NotDone::Absent(turn.name.clone()));
        }
        let line = line(&turn, Action::Undeploy, None);
        let (deployer, store) = (Arc::clone(&self.deployer), Arc::clone(&self.store));
        blocking(move || {
            let change = Change {
                remove: vec![turn.name.clone()],
                ..Change::of_door()
            };
            deployer.commit_sealed(change, || store.remove(&turn.name, &line))?;
            tracing::info!("`{}` is undeployed, by {}", line.handler, line.who);
            Ok(())
        })
        .await
    }

    fn new_record(
        &self,
        name: &HandlerName,
        tenant: Option<&TenantSpec>,
    ) -> Result<Record, NotDone> {
        if self.store.count() >= limits::HANDLERS {
            return Err(NotDone::TooMany(format!(
                "{} handlers are deployed, and no more can be: undeploy some",
                limits::HANDLERS
            )));
        }
        Ok(Record {
            tenant: tenant.map(|tenant| tenant.name.to_string()),
            ..Record::new(name.clone())
        })
    }

    /// The former version, if there is one, with what is asked for in place of what it had.
    fn asked(
        &self,
        ask: Ask,
        name: &HandlerName,
        former: Option<&Version>,
    ) -> Result<Version, NotDone> {
        let most = self.template.guest.memory;
        if ask.memory.is_some_and(|memory| memory > most) {
            return Err(NotDone::Mistakes(vec![format!(
                "`memory` is more than the {} MiB that this host gives a guest: raise `--memory` of `host serve`, or `memory` in `[defaults]` of its file",
                most / limits::MIB
            )]));
        }
        let mut version = match former {
            Some(former) => former.clone(),
            None => Version::first(name)?,
        };
        if !ask.routes.is_empty() {
            version.routes = ask.routes;
        }
        for route in &mut version.routes {
            route.strip_prefix = ask.strip_prefix.unwrap_or(route.strip_prefix);
        }
        let own = &mut version.settings;
        if !ask.environment.is_empty() {
            own.environment = ask.environment.into_iter().collect();
        }
        own.timeout = ask.timeout.or(own.timeout);
        own.cpu = ask.cpu.or(own.cpu);
        own.memory = ask.memory.or(own.memory);
        own.warm_up = ask.warm_up.unwrap_or(own.warm_up.take());
        own.calls = ask.calls.unwrap_or(std::mem::take(&mut own.calls));
        Ok(version)
    }

    /// Makes a version, writes it down and puts it in place.
    async fn take(
        &self,
        turn: Turn,
        next: Next,
        is_made: impl FnOnce(),
    ) -> Result<Deployed, NotDone> {
        let version = next
            .record
            .current()
            .ok_or_else(|| no_version(&turn.name))?;
        let handler = self.make(next.spec.clone(), version).await?;
        is_made();
        self.put(turn, next, handler).await
    }

    /// On the threads that serve, since it runs the guest. Dropping this stops it.
    pub(super) async fn make(
        &self,
        spec: HandlerSpec,
        version: &Version,
    ) -> Result<Arc<Handler>, NotDone> {
        let (deployer, name) = (Arc::clone(&self.deployer), spec.name.clone());
        let is_file = spec.version.is_none();
        let file = format!("`{}`", spec.source.path().display());
        let mut making = JoinSet::new();
        making.spawn_on(async move { deployer.build(spec).await }, &self.serving);
        let made = match making.join_next().await {
            Some(Ok(made)) => made,
            Some(Err(stopped)) if stopped.is_panic() => {
                return Err(StoreError::Broken(format!("making `{name}`: {stopped}")).into());
            }
            _ => return Err(NotDone::Unfit("the host ends".to_owned())),
        };
        let handler = match made {
            Ok(handler) => handler,
            Err(why) => {
                if !is_file
                    && let Some(wrong) = wrong_with(&self.store, &version.digest, "try again").await
                {
                    tracing::error!("`{name}` cannot be served: {file} {wrong}");
                    return Err(NotDone::Unfit(format!(
                        "the component of v{} of `{name}`, {:.12}, {wrong}",
                        version.number, version.digest
                    )));
                }
                // Who deploys has sent a component and knows no file.
                let why = format!("{why:#}").replace(&file, "the component");
                return Err(NotDone::Unfit(format!("`{name}` cannot be served: {why}")));
            }
        };
        if handler.digest == version.digest {
            Ok(handler)
        } else if is_file {
            Err(NotDone::Unfit(format!(
                "the file of `{name}` is another one by now: look at what it deploys, then try again"
            )))
        } else {
            Err(NotDone::Unfit(format!(
                "the component of v{} of `{name}`, {:.12}, is damaged: deploy it again",
                version.number, version.digest
            )))
        }
    }

    async fn put(
        &self,
        turn: Turn,
        next: Next,
        handler: Arc<Handler>,
    ) -> Result<Deployed, NotDone> {
        let (deployer, store) = (Arc::clone(&self.deployer), Arc::clone(&self.store));
        blocking(move || {
            let Next {
                mut record,
                replaces,
                kept,
                line,
                ..
            } = next;
            let change = Change {
                put: vec![(handler.spec.routes.clone(), Arc::clone(&handler))],
                origin: replaces.as_ref().map_or(Origin::Admin, |_| Origin::Files),
                ..Change::default()
            };
            // Under the lock, so that of two deploys at once the second counts the first.
            let seal = || {
                let catalog = deployer.catalog().load_full();
                let serves = catalog.handler(&record.name);
                let is_there =
                    |replaced| serves.is_some_and(|serves| Arc::ptr_eq(serves, replaced));
                // A newer file may have been deployed meanwhile.
                if !replaces.as_ref().is_none_or(is_there) {
                    return Err(NotDone::Busy(record.name.clone()));
                }
                if let Some(name) = &record.tenant {
                    let Some(tenant) = deployer.tenants().find(name) else {
                        return Err(NotDone::Occupied(format!(
                            "tenant `{name}` is gone meanwhile: nothing has changed"
                        )));
                    };
                    if line.action == Action::Deploy {
                        ownership::room(&store, &tenant, turn.record.as_deref(), &mut record)?;
                    }
                }
                record.revision = store.next_revision();
                Ok(store.put(record.clone(), &line)?)
            };
            let refused = deployer.commit_sealed(change, seal)?;
            if let Some(refused) = refused.into_iter().next() {
                return Err(turn.taken(refused, &deployer));
            }
            // Named by a record now, and no longer by us.
            drop(kept);
            deployer.save_known();
            tracing::info!(
                "`{}` is deployed, v{}, {:.12}, by {}",
                record.name,
                record.current,
                handler.digest,
                line.who
            );
            let version = record.current();
            for missing in version
                .iter()
                .flat_map(|it| not_granted(it, &handler.spec.guest))
            {
                tracing::info!("`{}` wants {missing}", record.name);
            }
            Ok(Deployed {
                record: Arc::new(record),
                is_unchanged: false,
                is_new: turn.record.is_none(),
            })
        })
        .await
    }

    pub(super) fn spec(&self, record: &Record, version: &Version) -> HandlerSpec {
        let component = Source::Wasm(self.store.component(&version.digest));
        HandlerSpec {
            tenant: record.tenant.as_deref().map(Arc::from),
            ..version.spec(&record.name, &self.template, component)
        }
    }

    pub(super) fn serves(&self, record: &Record) -> bool {
        let catalog = self.deployer.catalog().load_full();
        let entry = catalog.entries.get(&record.name);
        entry.is_some_and(|entry| match record.file {
            None => {
                entry.origin == Origin::Admin && entry.handler.spec.version == Some(record.current)
            }
            Some(_) => {
                let is_latest = entry.handler.spec.version.is_none() && !record.is_rolled_back();
                let is_it = is_latest || entry.handler.spec.version == Some(record.current);
                entry.origin == Origin::Files
                    && is_it
                    && digest(Some(record)).as_ref() == Some(&entry.handler.digest)
            }
        })
    }

    fn listed_file(&self, entry: &Entry) -> Listed {
        let handler = &entry.handler;
        let record = self.store.record(&handler.spec.name);
        let record = record.filter(|record| record.file.is_some() && self.serves(record));
        let path = record.as_ref().and_then(|record| record.file.as_ref());
        let path = path.map_or(handler.spec.source.path(), |file| &*file.path);
        Listed {
            name: handler.spec.name.clone(),
            routes: entry.routes.clone(),
            digest: handler.digest.clone(),
            is_serving: true,
            is_starting: false,
            file: Some(path.to_owned()),
            tenant: handler.spec.tenant.as_deref().map(str::to_owned),
            handler: Some(Arc::clone(handler)),
            record,
        }
    }

    fn listed(&self, record: Arc<Record>) -> Listed {
        let current = record.current();
        let is_serving = self.serves(&record);
        let catalog = self.deployer.catalog().load_full();
        let handler = catalog.handler(&record.name).filter(|_| is_serving);
        Listed {
            name: record.name.clone(),
            routes: current.map_or_else(Vec::new, |version| version.routes.clone()),
            digest: current.map_or_else(String::new, |version| version.digest.clone()),
            is_serving,
            is_starting: !is_serving && catalog.is_starting(&record.name),
            handler: handler.cloned(),
            tenant: record.tenant.clone(),
            record: Some(record),
            file: None,
        }
    }
}

/// A version that is about to serve.
struct Next {
    record: Record,
    spec: HandlerSpec,
    /// The handler of a file whose place it takes, and no other's.
    replaces: Option<Arc<Handler>>,
    kept: Kept,
    line: AuditLine,
}

/// A component that is arriving. Dropping it leaves nothing.
pub struct Receiving {
    chunks: mpsc::Sender<Bytes>,
    writing: JoinHandle<Result<Staging, StoreError>>,
    places: Places,
}

/// Of all, and of tenants.
type Places = (OwnedSemaphorePermit, Option<PlacesOfTenant>);

/// Of one tenant, and of all of them.
pub(super) type PlacesOfTenant = (OwnedSemaphorePermit, Permit);

/// Pieces that wait for the disk: what a connection reads at once, a few times.
const CHUNKS: usize = 4;

impl Receiving {
    /// The next piece. Pieces after one that could not be written are thrown away: [`Versions::deploy`] says why.
    pub async fn write(&mut self, chunk: Bytes) -> bool {
        self.chunks.send(chunk).await.is_ok()
    }

    async fn finish(self) -> Result<(Kept, Places), NotDone> {
        drop(self.chunks);
        let staging = match self.writing.await {
            Ok(written) => written?,
            Err(stopped) => return Err(StoreError::Broken(stopped.to_string()).into()),
        };
        let kept = blocking(move || Ok(staging.keep()?)).await?;
        Ok((kept, self.places))
    }
}

/// In the order in which routes are kept for them: of two with one, whose record was written down last had it last.
pub(super) fn last_first(mut records: Vec<Arc<Record>>) -> Vec<Arc<Record>> {
    records.sort_by_key(|record| Reverse(record.revision));
    records
}

/// What was made of a deployed version. If it cannot be, that is said, and here is its name, if it is known.
fn restored(
    made: Result<(anyhow::Result<Arc<Handler>>, HandlerName, String), JoinError>,
) -> Result<Arc<Handler>, Option<HandlerName>> {
    let (made, name, digest) = made.map_err(|stopped| {
        tracing::error!("a handler is not deployed: {stopped}");
        None
    })?;
    match made {
        Ok(handler) if handler.digest == digest => return Ok(handler),
        Ok(handler) => tracing::error!(
            "`{name}` is not deployed: the file of its component is damaged (it is {:.12}, and was {digest}): deploy it again",
            handler.digest,
        ),
        Err(why) => tracing::error!("`{name}` is not deployed: {why:#}"),
    }
    Err(Some(name))
}

/// What is wrong with the file of a component that cannot be served, and what to do. None: it is whole, and something else is.
async fn wrong_with(store: &Arc<Store>, digest: &str, then: &str) -> Option<String> {
    let (store, digest) = (Arc::clone(store), digest.to_owned());
    let is_whole = spawn_blocking(move || store.is_whole(&digest)).await;
    match is_whole.ok()? {
        Ok(true) => None,
        Ok(false) => Some("is damaged: deploy it again".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some("is gone: deploy it again".to_owned())
        }
        Err(error) => Some(format!("cannot be read: {error}: mend that, then {then}")),
    }
}

/// What a component wants that somebody would have to grant, before anything is compiled.
async fn look(file: PathBuf) -> Result<Vec<String>, NotDone> {
    blocking(move || wants_of(&file)).await
}

/// The same, where one may wait for a disk.
pub(super) fn wants_of(file: &Path) -> Result<Vec<String>, NotDone> {
    let bytes = std::fs::read(file).map_err(StoreError::from)?;
    let inspection = components::inspect(&bytes)
        .map_err(|refusal| NotDone::Unfit(format!("the component: {refusal}")))?;
    let wants = inspection.wants.iter().map(|wanted| wanted.reach);
    Ok(wants
        .filter(|reach| needs_grant(*reach))
        .map(|reach| reach.to_string())
        .collect())
}

/// What is wanted now and was not before, in words. None if there is nothing.
pub(super) fn also_wanted(before: &[String], now: &[String]) -> Option<String> {
    let new = now.iter().filter(|want| !before.contains(want));
    let new: Vec<&str> = new.map(String::as_str).collect();
    (!new.is_empty()).then(|| new.join(", "))
}

/// Clocks and the like are everybody's, and a guest has only the variables that it was given.
fn needs_grant(reach: Reach) -> bool {
    match reach {
        Reach::OutboundHttp
        | Reach::Files
        | Reach::Blobstore
        | Reach::KeyValue
        | Reach::Sockets => true,
        Reach::Environment
        | Reach::Configuration
        | Reach::Output
        | Reach::Clocks
        | Reach::Randomness => false,
    }
}

/// What a version can reach for and nobody has granted to its handler, each with what would grant it.
#[must_use]
pub fn not_granted(version: &Version, guest: &GuestSettings) -> Vec<String> {
    let grants = &guest.grants;
    let sends = !grants.calls.is_empty() || !grants.outbound.allow.is_empty();
    let has_files = !guest.directories.is_empty() || guest.scratch.is_some();
    let all = [
        (Reach::OutboundHttp, sends, "--allow-outbound", "outbound"),
        (Reach::Files, has_files, "--dir", "dirs"),
        (
            Reach::Blobstore,
            !grants.blobstore.is_empty(),
            "--blobstore",
            "blobstore",
        ),
        (
            Reach::KeyValue,
            !grants.keyvalue.is_empty(),
            "--keyvalue",
            "keyvalue",
        ),
        (
            Reach::Sockets,
            !grants.sockets.is_empty(),
            "--allow-socket",
            "sockets",
        ),
    ];
    all.into_iter()
        .filter(|(reach, is_granted, ..)| !is_granted && version.wants.contains(&reach.to_string()))
        .map(|(reach, _, flag, key)| {
            format!(
                "{reach}, not granted: add {flag} to `host serve`, or serve it from a file that says `{key}`"
            )
        })
        .collect()
}

fn refuse_new(former: &Version, version: &Version) -> Result<(), NotDone> {
    let Some(new) = also_wanted(&former.wants, &version.wants) else {
        return Ok(());
    };
    Err(NotDone::Unfit(format!(
        "v{} also wants {new}: if it may, deploy it with `--allow-new-imports`",
        version.number
    )))
}

fn chosen<'a>(record: &'a Record, to: Option<&str>) -> Result<&'a Version, NotDone> {
    let name = &record.name;
    let Some(to) = to else {
        return record.former().ok_or_else(|| no_version(name));
    };
    let number = to
        .strip_prefix('v')
        .and_then(|number| number.parse::<u64>().ok());
    let is_it = |version: &&Version| match number {
        Some(number) => version.number == number,
        None => to.len() >= DIGEST_PREFIX && version.digest.starts_with(to),
    };
    // The latest of those that have the component.
    let mut found = record.versions.iter().rev().filter(is_it);
    match found.next() {
        Some(version) if found.all(|other| other.digest == version.digest) => Ok(version),
        Some(_) => Err(NotDone::Mistakes(vec![
            "`to` is how two digests begin: give more of it".to_owned(),
        ])),
        None => Err(NotDone::NoVersion(format!(
            "no such version of `{name}` is kept: `host show {name}` shows those that are"
        ))),
    }
}

pub(super) fn no_version(name: &HandlerName) -> NotDone {
    NotDone::NoVersion(format!(
        "no version of `{name}` before this one is kept: `host show {name}` shows those that are"
    ))
}

/// Characters of a digest that name a version: fewer are a typing mistake.
const DIGEST_PREFIX: usize = 4;

fn digest(of: Option<&Record>) -> Option<String> {
    Some(of?.current()?.digest.clone())
}

fn line(turn: &Turn, action: Action, to: Option<&Record>) -> AuditLine {
    let from = turn.record.as_deref();
    let tenant = from.or(to).and_then(|record| record.tenant.clone());
    AuditLine::now(turn.who.to_string(), action, &turn.name, tenant, from, to)
}

pub(super) fn now() -> String {
    format!("{:.0}", Timestamp::now())
}

/// Disks are for threads that may wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NotDone> + Send + 'static,
) -> Result<T, NotDone> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => Err(StoreError::Broken(stopped.to_string()).into()),
    }
}
