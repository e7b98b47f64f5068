//! What is served follows the files: a directory of handlers, or the file of a host and the components that it names.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, sleep, timeout_at};

use super::certificates;
use crate::admin::Keys;
use crate::catalog::{Deployer, Event, HandlerSpec, Policy, Rollout, Versions, Wanted};
use crate::config::{self, Config, Listing, Wrong};
use crate::limits;
use crate::server::Certificates;
use crate::values::counted;

/// Where it is written what should be served.
#[derive(Debug)]
pub enum Subject {
    /// A directory of components.
    Directory {
        /// The directory.
        path: PathBuf,
        /// What each of its handlers gets.
        template: Box<HandlerSpec>,
        /// What the host does on all their routes.
        every: Option<Arc<Policy>>,
    },
    /// The file of a host.
    File {
        /// The file.
        path: PathBuf,
        /// What it said when it last had no mistakes.
        config: Box<Config>,
    },
}

/// Deploys what its subject says, and follows it.
pub struct Follower {
    subject: Subject,
    rollout: Rollout,
    watch: Watch,
    /// What there was when it was last looked at. None if that could not be done, or not all of it could be read.
    seen: Option<Listing>,
    /// What was said of it then: it is told once.
    said: HashSet<Remark>,
    owners: Owners,
    /// What the public door shows, once it is open.
    certificates: Option<Certificates>,
    /// Handlers of tenants that are back.
    bringing_back: JoinSet<()>,
}

/// Where it is known who owns handlers, besides what is deployed of files.
#[derive(Default)]
pub struct Owners {
    /// Who may come in at the admin door.
    pub keys: Option<Arc<Keys>>,
    /// What was deployed there.
    pub versions: Option<Arc<Versions>>,
}

impl Owners {
    /// What `config` says of tenants holds from now on.
    pub fn say(&self, config: &Config, deployer: &Deployer) {
        deployer.tenants().say(&config.tenants());
        if let Some(keys) = &self.keys {
            let tenants = config.tenants.iter();
            keys.say(tenants.map(|tenant| (&tenant.name, &*tenant.admin_tokens)));
        }
    }
}

impl Subject {
    fn path(&self) -> &Path {
        let (Self::Directory { path, .. } | Self::File { path, .. }) = self;
        path
    }

    fn look(&self) -> io::Result<Listing> {
        match self {
            Self::Directory { path, .. } => Listing::of_directory(path),
            Self::File { path, config } => {
                path.metadata()?;
                Ok(Listing::of_files(files(path, config)))
            }
        }
    }

    /// The directories in which something may change.
    fn directories(&self) -> BTreeSet<&Path> {
        match self {
            Self::Directory { path, .. } => BTreeSet::from([&**path]),
            Self::File { path, config } => {
                let directories = files(path, config).map(directory_of);
                directories.take(limits::WATCHED).collect()
            }
        }
    }

    /// What is wanted now, or none if nothing is to change; and what is to be said of it.
    fn read(&mut self, seen: &Listing) -> (Option<Wanted>, Vec<Remark>) {
        match self {
            Self::Directory {
                template, every, ..
            } => {
                let (wanted, wrong) = seen.wanted(template, every.as_ref());
                let wrong = wrong.into_iter().map(Remark::Wrong);
                (Some(wanted), wrong.collect())
            }
            Self::File { path, config } => match config::load(path) {
                Ok(new) => {
                    let mut later = Vec::new();
                    let door = config.door.with_tls_of(&new.door);
                    if new.door != door
                        || new.admin != config.admin
                        || new.state != config.state
                        || new.log != config.log
                        || new.stores != config.stores
                    {
                        later.push(format!(
                            "`{}`: what has changed in `[listen]`, `[listeners]`, `[admin]`, `[state]`, `[log]` or `[stores]` holds after a restart",
                            path.display()
                        ));
                    }
                    if new.template().limits != config.template().limits {
                        later.push(format!(
                            "`{}`: what has changed in `[defaults]` holds after a restart for what was deployed at the admin door",
                            path.display()
                        ));
                    }
                    let wanted = new.wanted();
                    // What holds is what the host was started with.
                    let (admin, state, log, stores) = (
                        config.admin.clone(),
                        config.state.clone(),
                        config.log.clone(),
                        config.stores.clone(),
                    );
                    **config = Config {
                        door,
                        admin,
                        state,
                        log,
                        stores,
                        ..new
                    };
                    let later = later.into_iter().map(Remark::Later);
                    (Some(wanted), later.collect())
                }
                Err(mistakes) => {
                    let wrong = Wrong {
                        what: format!(
                            "`{}` is not taken up, what it said before holds:\n{mistakes}",
                            path.display()
                        ),
                        is_for_now: mistakes.is_for_now(),
                    };
                    (None, vec![Remark::Wrong(wrong)])
                }
            },
        }
    }
}

/// What is said of files that have changed.
#[derive(PartialEq, Eq, Hash)]
enum Remark {
    /// It is not taken up.
    Wrong(Wrong),
    /// It holds after a restart.
    Later(String),
}

/// The file of a host, and all others that it names and that may change.
fn files<'a>(path: &'a Path, config: &'a Config) -> impl Iterator<Item = &'a Path> {
    let sources = config.handlers.iter().map(|handler| &*handler.source);
    let parts = config.parts.iter().map(|path| &**path);
    [path].into_iter().chain(parts).chain(sources)
}

pub(super) fn directory_of(file: &Path) -> &Path {
    file.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

impl Follower {
    /// Nothing is deployed yet. Who notifies `look` wants it to look, although it has heard of no change.
    #[must_use]
    pub fn new(subject: Subject, rollout: Rollout, owners: Owners, look: Arc<Notify>) -> Self {
        Self {
            owners,
            certificates: None,
            bringing_back: JoinSet::new(),
            watch: Watch::new(look),
            seen: None,
            said: HashSet::new(),
            subject,
            rollout,
        }
    }

    /// Deploys what is there, and waits until it is in place or refused.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.watch.follow(&self.subject.directories());
        let path = self.subject.path().to_owned();
        let seen = self.subject.look();
        let seen = seen.map_err(|error| anyhow!("`{}` cannot be read: {error}", path.display()))?;
        self.take_up(seen);
        let events = self.rollout.settle().await;
        self.heed(&events);
        let deployed = self.rollout.deployed();
        let deployed = counted(deployed, "handler");
        tracing::info!("{deployed} of `{}` deployed", path.display());
        Ok(())
    }

    /// Follows what changes, until it is dropped. What a file says of certificates is for the door that shows these.
    pub async fn follow(mut self, certificates: Certificates) {
        self.certificates = Some(certificates);
        let mut look = Instant::now() + limits::FILES_LOOK;
        loop {
            let changed = tokio::select! {
                Some(events) = self.rollout.next() => {
                    self.heed(&events);
                    self.rollout.save();
                    continue;
                }
                changed = timeout_at(look, self.watch.changed()) => changed.is_ok(),
            };
            look = Instant::now() + limits::FILES_LOOK;
            self.watch.follow(&self.subject.directories());
            match self.settled(changed).await {
                Some(seen) if self.seen.as_ref() != Some(&seen) => self.take_up(seen),
                _ => self.rollout.retry().iter().for_each(tell),
            }
            self.heed_tenants().await;
        }
    }

    /// Tells what became of handlers. What could not be read for now is read again at the next look.
    fn heed(&mut self, events: &[Event]) {
        events.iter().for_each(tell);
        if events.iter().any(Event::is_for_now) {
            self.seen = None;
        }
    }

    /// What goes, goes at once. What comes back may have to be compiled, and nothing waits for that.
    async fn heed_tenants(&mut self) {
        let Some(versions) = &self.owners.versions else {
            return;
        };
        versions.put_away_of_tenants().await;
        while self.bringing_back.try_join_next().is_some() {}
        if self.bringing_back.is_empty() {
            let versions = Arc::clone(versions);
            self.bringing_back
                .spawn(async move { versions.bring_back_of_tenants().await });
        }
    }

    /// What there is once nobody writes any more; what there is by then, if somebody goes on and on.
    async fn settled(&mut self, changed: bool) -> Option<Listing> {
        let mut before = self.look();
        if !changed && before == self.seen {
            return before;
        }
        for _ in 0..ROUNDS {
            sleep(limits::FILES_SETTLE).await;
            let now = self.look();
            if now == before {
                break;
            }
            before = now;
        }
        before
    }

    /// What is away says nothing of its handlers: they stay.
    fn look(&mut self) -> Option<Listing> {
        match block_in_place(|| self.subject.look()) {
            Ok(seen) => Some(seen),
            Err(error) => {
                if self.seen.take().is_some() {
                    let path = self.subject.path().display();
                    tracing::error!(
                        "`{path}` cannot be read: {error}; what is deployed goes on serving"
                    );
                }
                None
            }
        }
    }

    fn take_up(&mut self, seen: Listing) {
        // Disks may take their time, and others are served on this thread.
        let (wanted, said) = block_in_place(|| self.subject.read(&seen));
        for one in said.iter().filter(|one| !self.said.contains(*one)) {
            match one {
                Remark::Wrong(wrong) => tracing::error!("{}", wrong.what),
                Remark::Later(what) => tracing::warn!("{what}"),
            }
        }
        let is_for_now = |one: &Remark| matches!(one, Remark::Wrong(wrong) if wrong.is_for_now);
        let to_read_again = said.iter().any(is_for_now);
        self.said = said.into_iter().collect();
        if let Some(wanted) = wanted {
            if let Subject::File { path, config } = &self.subject {
                self.owners.say(config, self.rollout.deployer());
                if let Some(shown) = &self.certificates {
                    block_in_place(|| certificates::want(shown, &config.door.listeners));
                }
                tracing::info!("`{}` is taken up", path.display());
            }
            let events = block_in_place(|| self.rollout.want(wanted));
            events.iter().for_each(tell);
            self.watch.follow(&self.subject.directories());
        }
        self.seen = (!to_read_again).then_some(seen);
    }
}

/// Looks at files that change all the time before they are taken as they are.
const ROUNDS: usize = 20;

fn tell(event: &Event) {
    match event {
        Event::Deployed(handler) => {
            tracing::info!("`{}` is deployed, {:.12}", handler.name, handler.digest);
        }
        Event::Removed(name) => tracing::info!("`{name}` is undeployed"),
        Event::Refused {
            name,
            why,
            has_former: true,
        } => tracing::error!("`{name}` is not replaced: {why:#}; the one before goes on serving"),
        Event::Refused { name, why, .. } => tracing::error!("`{name}` is not deployed: {why:#}"),
    }
}

fn is_look(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
}

/// Says that something in some directories has changed, and not what.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    changed: Arc<Notify>,
    /// By path; the inode, because another directory may come under the name.
    watched: HashMap<PathBuf, u64>,
}

impl Watch {
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        let told = Arc::clone(&changed);
        let tell = move |event: notify::Result<notify::Event>| {
            // Looking is no change: it would be told of our own looks.
            if !event.is_ok_and(|event| is_look(event.kind)) {
                told.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(tell)
            .inspect_err(|error| {
                tracing::warn!(
                    "changes are seen within {:?} only: {error}",
                    limits::FILES_LOOK
                );
            })
            .ok();
        Self {
            watcher,
            changed,
            watched: HashMap::new(),
        }
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Watches these directories, as they are now, and no others.
    pub(super) fn follow(&mut self, directories: &BTreeSet<&Path>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let inode = |path: &Path| path.metadata().ok().map(|metadata| metadata.ino());
        self.watched.retain(|path, watched| {
            let stays = directories.contains(&**path) && inode(path) == Some(*watched);
            if !stays {
                // Its watch has gone with the directory, if that has gone.
                let _ = watcher.unwatch(path);
            }
            stays
        });
        for directory in directories {
            let Some(inode) = inode(directory).filter(|_| !self.watched.contains_key(*directory))
            else {
                continue;
            };
            match watcher.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert((*directory).to_owned(), inode);
                }
                Err(error) => tracing::warn!(
                    "watching `{}`: {error}: changes are seen within {:?}",
                    directory.display(),
                    limits::FILES_LOOK
                ),
            }
        }
    }
}
