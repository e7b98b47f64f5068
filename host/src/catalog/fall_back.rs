//! A new handler that fails and has never answered gives way to what served before it.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::deployer::Change;
use super::{Deployer, Entry, Handler, HandlerName, Owner, Versions};
use crate::limits;

/// A way back that could not be taken.
struct Later {
    failing: Arc<Handler>,
    at: Instant,
    pause: Duration,
    tries: u32,
}

impl Later {
    /// It still serves, and still only fails.
    fn is_wanted(&self, deployer: &Deployer) -> bool {
        self.failing.fall_back().is_some() && serves(deployer, &self.failing)
    }
}

/// Puts the handler back that served before, where the new one fails and has never answered: by way of `versions`, which
/// write it down, if they have it. What cannot be done is tried again later, [`limits::FALL_BACKS`] times. Runs until it is
/// dropped.
pub async fn fall_back(deployer: Arc<Deployer>, versions: Option<Arc<Versions>>) {
    let mut later: BTreeMap<HandlerName, Later> = BTreeMap::new();
    loop {
        let next = later.values().map(|later| later.at).min();
        tokio::select! {
            () = deployer.sick() => {}
            () = until(next) => {}
        }
        later.retain(|_, later| later.is_wanted(&deployer));
        let catalog = deployer.catalog().load_full();
        for (name, entry) in &catalog.entries {
            let Some(former) = entry.handler.fall_back() else {
                continue;
            };
            if later
                .get(name)
                .is_some_and(|later| later.at > Instant::now())
            {
                continue;
            }
            if !later.contains_key(name) {
                tracing::error!(
                    handler = &*former.name,
                    "the new version fails and has never answered: falling back to the one before, {:.12}",
                    former.digest
                );
            }
            let Err(why) = go_back(&deployer, versions.as_ref(), entry, former).await else {
                later.remove(name);
                continue;
            };
            let before = later.remove(name);
            let (pause, tries) = before.map_or((limits::FALL_BACK_PAUSE, 1), |before| {
                let pause = (before.pause * 2).min(limits::FALL_BACK_PAUSE_MOST);
                (pause, before.tries + 1)
            });
            if tries >= limits::FALL_BACKS {
                tracing::error!("`{name}` is not rolled back, and that is tried no more: {why}");
                entry.handler.forget_former();
                continue;
            }
            tracing::warn!("`{name}` is not rolled back yet: {why}; tried again in {pause:?}");
            let waits = Later {
                failing: Arc::clone(&entry.handler),
                at: Instant::now() + pause,
                pause,
                tries,
            };
            later.insert(name.clone(), waits);
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

fn serves(deployer: &Deployer, handler: &Arc<Handler>) -> bool {
    let catalog = deployer.catalog().load_full();
    let now = catalog.handler(&handler.spec.name);
    now.is_some_and(|now| Arc::ptr_eq(now, handler))
}

async fn go_back(
    deployer: &Deployer,
    versions: Option<&Arc<Versions>>,
    from: &Entry,
    former: Arc<Handler>,
) -> anyhow::Result<()> {
    match (from.owner, versions) {
        (Owner::Admin, Some(versions)) => Ok(versions.fall_back(&from.handler, &former).await?),
        (Owner::Admin, None) => Ok(()),
        (Owner::Files, _) => {
            if let Some(versions) = versions
                && versions.fall_back_of_file(&from.handler, &former).await?
            {
                return Ok(());
            }
            // It may have been replaced or removed meanwhile.
            if serves(deployer, &from.handler) {
                deployer.commit(Change {
                    put: vec![(from.routes.clone(), former)],
                    ..Change::default()
                });
            }
            Ok(())
        }
    }
}
