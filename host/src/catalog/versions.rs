//! Deployed versions: catalog and state directory, changed together.
//!
//! A deploy is: wait for nobody else on this name, receive, look, make, and in one step write down and put in place.
//! What fails before that step has changed nothing. The step holds the deployer's lock while the disk is written, so
//! what serves is what a restart gives, and who is told that it is done is told the truth.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};

use super::deployer::Change;
use super::record::{Action, AuditLine, Record, Version};
use super::store::{Kept, Staging, Store, StoreError};
use super::{
    Deployer, Handler, HandlerName, HandlerSpec, Owner, Refused, Route, RouteError, Source,
};
use crate::components::{self, Reach};
use crate::limits;
use crate::secret::Secret;

/// Deploys, and remembers what it deployed.
pub struct Versions {
    deployer: Arc<Deployer>,
    store: Arc<Store>,
    template: HandlerSpec,
    component_bytes: u64,
    serving: Handle,
    busy: Arc<Mutex<BTreeSet<HandlerName>>>,
    uploads: Arc<Semaphore>,
}

/// What a deploy asks for besides its component. What is not asked for stays as it was.
#[derive(Debug, Clone, Default)]
pub struct Ask {
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
    /// What is remembered of it. None if it is served from a file.
    pub record: Option<Arc<Record>>,
    /// The file that it is served from, if it was not deployed.
    pub file: Option<PathBuf>,
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
            Self::Mistakes(mistakes) => f.write_str(&mistakes.join("; ")),
            Self::Absent(name) => write!(
                f,
                "no handler `{name}` is deployed: `host list` shows those that are"
            ),
            Self::NoVersion(why) | Self::Unfit(why) | Self::TooMany(why) => f.write_str(why),
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
    name: HandlerName,
    record: Option<Arc<Record>>,
    busy: Arc<Mutex<BTreeSet<HandlerName>>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.remove(&self.name);
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
            template,
            component_bytes,
            serving,
            busy: Arc::default(),
            uploads: Arc::new(Semaphore::new(limits::ADMIN_UPLOADS)),
        }
    }

    /// Puts in place what was deployed when the host ended. What cannot be is told and stays in the store: another
    /// deploy or rollback of its name brings it back.
    pub async fn restore(&self) {
        let mut making = JoinSet::new();
        let mut change = owned();
        for record in self.store.records() {
            let spec = self.spec(&record);
            match self
                .deployer
                .recall(&spec)
                .filter(|handler| handler.digest == record.current)
            {
                Some(handler) => change.put.push((spec.routes, handler)),
                None => {
                    let deployer = Arc::clone(&self.deployer);
                    making.spawn(async move { (deployer.build(spec).await, record) });
                }
            }
        }
        while let Some(made) = making.join_next().await {
            match made {
                Ok((Ok(handler), record)) if handler.digest == record.current => {
                    change.put.push((record.routes.clone(), handler));
                }
                Ok((Ok(handler), record)) => tracing::error!(
                    "`{}` is not deployed: the file of its component is damaged (it is {}, and was {}): deploy it again",
                    record.name,
                    &handler.digest[..12],
                    record.current
                ),
                Ok((Err(why), record)) => {
                    tracing::error!("`{}` is not deployed: {why:#}", record.name)
                }
                Err(stopped) => tracing::error!("a handler is not deployed: {stopped}"),
            }
        }
        let count = change.put.len();
        let refused = self.deployer.commit(change);
        for refused in &refused {
            tracing::error!("`{}` is not deployed: {refused}", refused.name);
        }
        self.deployer.save_known();
        if count > 0 {
            tracing::info!(
                "deployed again: {} handlers of the state directory",
                count - refused.len()
            );
        }
    }

    /// Every handler, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Listed> {
        let catalog = self.deployer.catalog().load_full();
        let records = self.store.records();
        let of_files = catalog
            .entries
            .iter()
            .filter(|(_, entry)| entry.owner == Owner::Files);
        let mut all: Vec<Listed> = of_files
            .map(|(_, entry)| of_file(&entry.handler, &entry.routes))
            .collect();
        all.extend(records.into_iter().map(|record| self.listed(record)));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The handler of a name.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, name: &HandlerName) -> Result<Listed, NotDone> {
        if let Some(record) = self.store.record(name) {
            return Ok(self.listed(record));
        }
        let catalog = self.deployer.catalog().load_full();
        match catalog.entries.get(name) {
            Some(entry) => Ok(of_file(&entry.handler, &entry.routes)),
            None => Err(NotDone::Absent(name.clone())),
        }
    }

    /// The latest changes, the last one first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn changes(&self, most: usize) -> Result<Vec<AuditLine>, NotDone> {
        let store = Arc::clone(&self.store);
        blocking(move || Ok(store.changes(most)?)).await
    }

    /// Takes the turn to change a name.
    ///
    /// # Errors
    /// When somebody else has it, when the name belongs to a file, or when it is not as expected.
    pub fn begin(&self, name: &HandlerName, expected: &Expected) -> Result<Turn, NotDone> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(name.clone()) {
            return Err(NotDone::Busy(name.clone()));
        }
        drop(busy);
        let mut turn = Turn {
            name: name.clone(),
            record: None,
            busy: Arc::clone(&self.busy),
        };
        turn.record = self.store.record(name);
        let catalog = self.deployer.catalog().load_full();
        if turn.record.is_none() && catalog.owner(name) == Some(Owner::Files) {
            return Err(NotDone::Taken(Refused {
                name: name.shared(),
                conflicts: Vec::new(),
                taken: Some(Owner::Files),
            }));
        }
        let tag = turn.record.as_ref().map(|record| record.tag());
        let is_as_expected = match expected {
            Expected::Anything => true,
            Expected::Nothing => tag.is_none(),
            Expected::Something => tag.is_some(),
            Expected::Tags(tags) => tag.as_ref().is_some_and(|tag| tags.contains(tag)),
        };
        if is_as_expected {
            Ok(turn)
        } else {
            Err(NotDone::Outdated(name.clone(), tag))
        }
    }

    /// Begins to take a component.
    ///
    /// # Errors
    /// When too many arrive already.
    pub fn receive(&self) -> Result<Receiving, NotDone> {
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
        Ok(Receiving {
            chunks,
            writing,
            place,
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
        who: &str,
        tell: impl Fn(Step),
    ) -> Result<Deployed, NotDone> {
        let kept = receiving.finish().await?;
        tell(Step::Received {
            digest: kept.digest.clone(),
            size: kept.size,
        });
        let former = turn.record.clone();
        let mut record = match &former {
            Some(record) => Record::clone(record),
            None => self.new_record(&turn.name)?,
        };
        let allows_new = ask.allow_new_imports;
        self.apply(ask, &mut record)?;
        if let Some(former) = former.clone()
            && former.current == kept.digest
            && (&former.routes, &former.settings) == (&record.routes, &record.settings)
            && self.serves(&former)
        {
            return Ok(Deployed {
                record: former,
                is_unchanged: true,
                is_new: false,
            });
        }
        // The same component with other routes or settings is no new version.
        if record.current != kept.digest {
            let (wants, number) = (look(kept.path()).await?, record.next_number());
            if let Some(current) = record.current().filter(|_| !allows_new) {
                refuse_new(current, number, &wants)?;
            }
            record.put(Version {
                number,
                digest: kept.digest.clone(),
                size: kept.size,
                deployed_at: now(),
                by: who.to_owned(),
                wants,
            });
        }
        record.revision += 1;
        let handler = self.make(&record).await?;
        tell(Step::Compiled);
        let line = line(&turn, Action::Deploy, Some(&record), who);
        self.put(turn, record, handler, kept, line).await
    }

    /// Takes a version again that was deployed before: the one before the current, or one by its number or by how its
    /// digest begins.
    ///
    /// # Errors
    /// With the reason; nothing has changed then.
    pub async fn rollback(
        &self,
        turn: Turn,
        to: Option<&str>,
        who: &str,
    ) -> Result<Deployed, NotDone> {
        let former = turn
            .record
            .clone()
            .ok_or_else(|| NotDone::Absent(turn.name.clone()))?;
        let version = chosen(&former, to)?;
        if version.digest == former.current && self.serves(&former) {
            return Ok(Deployed {
                record: former,
                is_unchanged: true,
                is_new: false,
            });
        }
        let kept = self.store.pin(&version.digest, version.size);
        let mut record = Record::clone(&former);
        record.current.clone_from(&version.digest);
        record.revision += 1;
        let handler = self.make(&record).await?;
        let line = line(&turn, Action::Rollback, Some(&record), who);
        self.put(turn, record, handler, kept, line).await
    }

    /// Goes back from a handler that fails, unless somebody changes it just now or has done so. Its settings stay.
    pub(super) async fn fall_back(&self, failing: &Handler, former: &Handler) {
        let name = &failing.spec.name;
        if failing.digest == former.digest {
            tracing::error!(
                "`{name}` fails with its new settings, and its component is the one before: deploy it with others"
            );
            return;
        }
        let Ok(turn) = self.begin(name, &Expected::Something) else {
            return;
        };
        if turn
            .record
            .as_ref()
            .is_some_and(|record| record.current == failing.digest)
            && let Err(why) = self.rollback(turn, Some(&former.digest), HOST).await
        {
            tracing::error!("`{name}` is not rolled back: {why}");
        }
    }

    /// Takes a handler away, with all its versions.
    ///
    /// # Errors
    /// With the reason; nothing has changed then.
    pub async fn undeploy(&self, turn: Turn, who: &str) -> Result<(), NotDone> {
        if turn.record.is_none() {
            return Err(NotDone::Absent(turn.name.clone()));
        }
        let line = line(&turn, Action::Undeploy, None, who);
        let (deployer, store) = (Arc::clone(&self.deployer), Arc::clone(&self.store));
        blocking(move || {
            let change = Change {
                remove: vec![turn.name.clone()],
                ..owned()
            };
            deployer.commit_sealed(change, || store.remove(&turn.name, &line))?;
            tracing::info!("`{}` is undeployed, by {}", line.handler, line.who);
            Ok(())
        })
        .await
    }

    fn new_record(&self, name: &HandlerName) -> Result<Record, NotDone> {
        if self.store.count() >= limits::HANDLERS {
            return Err(NotDone::TooMany(format!(
                "{} handlers are deployed, and no more can be: undeploy some",
                limits::HANDLERS
            )));
        }
        let mut route: Route = format!("/{name}/*").parse()?;
        route.strip_prefix = true;
        Ok(Record {
            name: name.clone(),
            routes: vec![route],
            settings: super::Settings::default(),
            versions: Vec::new(),
            current: String::new(),
            revision: 0,
        })
    }

    fn apply(&self, ask: Ask, to: &mut Record) -> Result<(), NotDone> {
        let most = self.template.guest.memory;
        if ask.memory.is_some_and(|memory| memory > most) {
            return Err(NotDone::Mistakes(vec![format!(
                "`memory` is more than the {} MiB that this host gives a guest: raise `--memory` of `host serve`, or `memory` in `[defaults]` of its file",
                most / limits::MIB
            )]));
        }
        if !ask.routes.is_empty() {
            to.routes = ask.routes;
        }
        for route in &mut to.routes {
            route.strip_prefix = ask.strip_prefix.unwrap_or(route.strip_prefix);
        }
        let own = &mut to.settings;
        if !ask.environment.is_empty() {
            own.environment = ask.environment.into_iter().collect();
        }
        own.timeout = ask.timeout.or(own.timeout);
        own.cpu = ask.cpu.or(own.cpu);
        own.memory = ask.memory.or(own.memory);
        Ok(())
    }

    /// On the threads that serve, since it runs the guest. Dropping this stops it.
    async fn make(&self, record: &Record) -> Result<Arc<Handler>, NotDone> {
        let (deployer, spec) = (Arc::clone(&self.deployer), self.spec(record));
        let file = format!("`{}`", spec.source.path().display());
        let mut making = JoinSet::new();
        making.spawn_on(async move { deployer.build(spec).await }, &self.serving);
        let made = match making.join_next().await {
            Some(Ok(made)) => made,
            _ => return Err(NotDone::Unfit("the host ends".to_owned())),
        };
        let handler = made.map_err(|why| {
            // Who deploys has sent a component and knows no file.
            let why = format!("{why:#}").replace(&file, "the component");
            NotDone::Unfit(format!("`{}` cannot be served: {why}", record.name))
        })?;
        if handler.digest == record.current {
            Ok(handler)
        } else {
            Err(NotDone::Unfit(format!(
                "the file of version {} of `{}` is damaged: deploy it again",
                &record.current[..record.current.len().min(12)],
                record.name
            )))
        }
    }

    async fn put(
        &self,
        turn: Turn,
        record: Record,
        handler: Arc<Handler>,
        kept: Kept,
        line: AuditLine,
    ) -> Result<Deployed, NotDone> {
        let (deployer, store) = (Arc::clone(&self.deployer), Arc::clone(&self.store));
        blocking(move || {
            let change = Change {
                put: vec![(record.routes.clone(), handler)],
                ..owned()
            };
            let refused = deployer.commit_sealed(change, || store.put(record.clone(), &line))?;
            if let Some(refused) = refused.into_iter().next() {
                return Err(NotDone::Taken(refused));
            }
            // Named by a record now, and no longer by us.
            drop(kept);
            deployer.save_known();
            tracing::info!(
                "`{}` is deployed, {}, by {}",
                record.name,
                &record.current[..12],
                line.who
            );
            Ok(Deployed {
                record: Arc::new(record),
                is_unchanged: false,
                is_new: turn.record.is_none(),
            })
        })
        .await
    }

    fn spec(&self, record: &Record) -> HandlerSpec {
        record.spec(
            &self.template,
            Source::Wasm(self.store.component(&record.current)),
        )
    }

    fn serves(&self, record: &Record) -> bool {
        let catalog = self.deployer.catalog().load_full();
        catalog.entries.get(&record.name).is_some_and(|entry| {
            entry.owner == Owner::Admin && entry.handler.digest == record.current
        })
    }

    fn listed(&self, record: Arc<Record>) -> Listed {
        Listed {
            name: record.name.clone(),
            routes: record.routes.clone(),
            digest: record.current.clone(),
            is_serving: self.serves(&record),
            record: Some(record),
            file: None,
        }
    }
}

/// A component that is arriving. Dropping it leaves nothing.
pub struct Receiving {
    chunks: mpsc::Sender<Bytes>,
    writing: JoinHandle<Result<Staging, StoreError>>,
    place: OwnedSemaphorePermit,
}

/// Pieces that wait for the disk: what a connection reads at once, a few times.
const CHUNKS: usize = 4;

impl Receiving {
    /// The next piece. Pieces after one that could not be written are thrown away: [`Versions::deploy`] says why.
    pub async fn write(&mut self, chunk: Bytes) -> bool {
        self.chunks.send(chunk).await.is_ok()
    }

    async fn finish(self) -> Result<Kept, NotDone> {
        drop(self.chunks);
        let staging = match self.writing.await {
            Ok(written) => written?,
            Err(stopped) => return Err(StoreError::Broken(stopped.to_string()).into()),
        };
        let kept = blocking(move || Ok(staging.keep()?)).await;
        drop(self.place);
        kept
    }
}

/// Who goes back from a version that fails, in the audit log.
const HOST: &str = "host";

fn owned() -> Change {
    Change {
        owner: Owner::Admin,
        ..Change::default()
    }
}

fn of_file(handler: &Handler, routes: &[Route]) -> Listed {
    Listed {
        name: handler.spec.name.clone(),
        routes: routes.to_vec(),
        digest: handler.digest.clone(),
        is_serving: true,
        record: None,
        file: Some(handler.spec.source.path().to_owned()),
    }
}

/// What a component wants that somebody would have to grant, before anything is compiled.
async fn look(file: PathBuf) -> Result<Vec<String>, NotDone> {
    blocking(move || {
        let bytes = std::fs::read(file).map_err(StoreError::from)?;
        let inspection = components::inspect(&bytes)
            .map_err(|refusal| NotDone::Unfit(format!("the component: {refusal}")))?;
        let wants = inspection.wants.iter().map(|wanted| wanted.reach);
        Ok(wants
            .filter(|reach| needs_grant(*reach))
            .map(|reach| reach.to_string())
            .collect())
    })
    .await
}

/// Clocks and the like are everybody's, and a guest has only the variables that it was given.
fn needs_grant(reach: Reach) -> bool {
    match reach {
        Reach::OutboundHttp | Reach::Files | Reach::Sockets => true,
        Reach::Environment | Reach::Output | Reach::Clocks | Reach::Randomness => false,
    }
}

fn refuse_new(current: &Version, number: u64, wants: &[String]) -> Result<(), NotDone> {
    let new: Vec<&str> = wants
        .iter()
        .filter(|want| !current.wants.contains(want))
        .map(String::as_str)
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    Err(NotDone::Unfit(format!(
        "v{number} also wants {}: if it may, deploy it with `--allow-new-imports`",
        new.join(", ")
    )))
}

fn chosen<'a>(record: &'a Record, to: Option<&str>) -> Result<&'a Version, NotDone> {
    let name = &record.name;
    let Some(to) = to else {
        return record.former().ok_or_else(|| {
            NotDone::NoVersion(format!("there is no version of `{name}` before this one"))
        });
    };
    let number = to
        .strip_prefix('v')
        .and_then(|number| number.parse::<u64>().ok());
    let is_it = |version: &&Version| match number {
        Some(number) => version.number == number,
        None => to.len() >= DIGEST_PREFIX && version.digest.starts_with(to),
    };
    let mut found = record.versions.iter().filter(is_it);
    match (found.next(), found.next()) {
        (Some(version), None) => Ok(version),
        (Some(_), Some(_)) => Err(NotDone::Mistakes(vec![
            "`to` is how two digests begin: give more of it".to_owned(),
        ])),
        (None, _) => Err(NotDone::NoVersion(format!(
            "no such version of `{name}` is kept: `host show {name}` shows those that are"
        ))),
    }
}

/// Characters of a digest that name a version: fewer are a typing mistake.
const DIGEST_PREFIX: usize = 4;

fn line(turn: &Turn, action: Action, to: Option<&Record>, who: &str) -> AuditLine {
    AuditLine {
        at: now(),
        who: who.to_owned(),
        action,
        handler: turn.name.clone(),
        from: turn.record.as_ref().map(|record| record.current.clone()),
        to: to.map(|record| record.current.clone()),
    }
}

fn now() -> String {
    format!("{:.0}", Timestamp::now())
}

/// Disks are for threads that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NotDone> + Send + 'static,
) -> Result<T, NotDone> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => Err(StoreError::Broken(stopped.to_string()).into()),
    }
}
