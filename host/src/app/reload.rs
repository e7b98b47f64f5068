//! What is served follows the files: a directory of handlers is looked at when something in it has changed.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use crate::catalog::{Event, HandlerSpec, Rollout};
use crate::config::Listing;
use crate::limits;

/// A directory whose components are served.
pub struct Directory {
    path: PathBuf,
    template: HandlerSpec,
    rollout: Rollout,
    watch: Watch,
    /// What it held when it was last looked at. None if it could not be read.
    listing: Option<Listing>,
}

impl Directory {
    /// Handlers get what `template` says. Nothing is deployed yet.
    #[must_use]
    pub fn new(path: PathBuf, template: HandlerSpec, rollout: Rollout) -> Self {
        Self {
            watch: Watch::new(),
            listing: Some(Listing::default()),
            path,
            template,
            rollout,
        }
    }

    /// Deploys what is there, and waits until it is in place or refused.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.watch.follow(&self.path);
        let listing = Listing::of(&self.path).map_err(|error| {
            anyhow::anyhow!("`{}` cannot be read: {error}", self.path.display())
        })?;
        self.take_up(listing);
        self.rollout.settle().await.iter().for_each(tell);
        let deployed = self.rollout.deployed();
        tracing::info!(
            "{deployed} handlers of `{}` are deployed",
            self.path.display()
        );
        Ok(())
    }

    /// Follows what changes, until it is dropped.
    pub async fn follow(mut self) {
        let mut look = Instant::now() + limits::FILES_LOOK;
        loop {
            let changed = tokio::select! {
                Some(events) = self.rollout.next() => {
                    events.iter().for_each(tell);
                    self.rollout.save();
                    continue;
                }
                changed = timeout_at(look, self.watch.changed()) => changed.is_ok(),
            };
            look = Instant::now() + limits::FILES_LOOK;
            self.watch.follow(&self.path);
            if let Some(listing) = self.settled(changed).await
                && self.listing.as_ref() != Some(&listing)
            {
                self.take_up(listing);
            }
        }
    }

    /// What is in the directory once nobody writes there any more; what it is by then, if somebody goes on and on.
    async fn settled(&mut self, changed: bool) -> Option<Listing> {
        let mut before = self.look();
        if !changed && before == self.listing {
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

    /// A directory that is away says nothing of its handlers: they stay.
    fn look(&mut self) -> Option<Listing> {
        match Listing::of(&self.path) {
            Ok(listing) => Some(listing),
            Err(error) => {
                if self.listing.take().is_some() {
                    tracing::error!(
                        "`{}` cannot be read: {error}; what is deployed goes on serving",
                        self.path.display()
                    );
                }
                None
            }
        }
    }

    fn take_up(&mut self, listing: Listing) {
        match listing.wanted(&self.template) {
            Ok((wanted, unnamed)) => {
                for one in unnamed {
                    tracing::error!("`{}` is not deployed: {}", one.file.display(), one.why);
                }
                self.rollout.want(wanted).iter().for_each(tell);
            }
            Err(error) => tracing::error!("`{}`: {error}", self.path.display()),
        }
        self.listing = Some(listing);
    }
}

/// Looks at files that change all the time before they are taken as they are.
const ROUNDS: usize = 20;

fn tell(event: &Event) {
    match event {
        Event::Deployed(handler) => {
            tracing::info!("`{}` is deployed, {}", handler.name, &handler.digest[..12])
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

/// Says that something in a directory has changed, and not what.
struct Watch {
    watcher: Option<RecommendedWatcher>,
    changed: Arc<Notify>,
    /// The directory that is watched: another may come under its name.
    inode: Option<u64>,
}

impl Watch {
    fn new() -> Self {
        let changed = Arc::new(Notify::new());
        let told = Arc::clone(&changed);
        let watcher = notify::recommended_watcher(move |_| told.notify_one())
            .inspect_err(|error| {
                tracing::warn!(
                    "changes are seen within {:?} only: {error}",
                    limits::FILES_LOOK
                )
            })
            .ok();
        Self {
            watcher,
            changed,
            inode: None,
        }
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Watches the directory that is at `path` now.
    fn follow(&mut self, path: &Path) {
        let inode = path.metadata().ok().map(|metadata| metadata.ino());
        let Some(watcher) = self
            .watcher
            .as_mut()
            .filter(|_| inode.is_some() && inode != self.inode)
        else {
            return;
        };
        let _ = watcher.unwatch(path);
        match watcher.watch(path, RecursiveMode::NonRecursive) {
            Ok(()) => self.inode = inode,
            Err(error) => tracing::warn!(
                "watching `{}`: {error}: changes are seen within {:?}",
                path.display(),
                limits::FILES_LOOK
            ),
        }
    }
}
