//! A new handler that is quarantined before it has proved itself gives way to what served before it.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::deployer::Change;
use super::{Deployer, Entry, Handler, HandlerName, Origin, Versions};
use crate::limits;

/// A way back.
struct Way {
    failing: Arc<Handler>,
    /// Until it is tried again, when it could not be taken.
    pause: Duration,
    tries: u32,
}

impl Way {
    /// It still serves, and still only fails.
    fn is_wanted(&self, deployer: &Deployer) -> bool {
        self.failing.fall_back().is_some() && serves(deployer, &self.failing)
    }
}

/// Puts the handler back that served before, where the new one is quarantined and has not proved itself: by way of `versions`, which
/// write it down, if they have it. What cannot be done is tried again later, [`limits::FALL_BACKS`] times. One that is slow to
/// come back keeps no other waiting. Runs until it is dropped.
pub async fn fall_back(deployer: Arc<Deployer>, versions: Option<Arc<Versions>>) {
    let mut later: BTreeMap<HandlerName, (Instant, Way)> = BTreeMap::new();
    let mut going: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let mut ways: HashMap<Id, Way> = HashMap::new();
    loop {
        let can_go = later
            .values()
            .filter(|(_, way)| !has_its_share(&ways, &way.failing));
        let next = can_go.map(|(at, _)| *at).min();
        tokio::select! {
            () = deployer.sick() => {}
            () = until(next), if going.len() < limits::DEPLOYS => {}
            Some(ended) = going.join_next_with_id() => {
                let (task, went) = ended.unwrap_or_else(|stopped| (stopped.id(), Err(stopped.into())));
                if let Some(way) = ways.remove(&task).filter(|way| way.is_wanted(&deployer)) {
                    let why = went.err().unwrap_or_else(|| anyhow!("it still serves"));
                    put_off(way, &why, &mut later);
                }
            }
        }
        later.retain(|_, (_, way)| way.is_wanted(&deployer));
        let catalog = deployer.catalog().load_full();
        for (name, entry) in &catalog.entries {
            if going.len() >= limits::DEPLOYS {
                break;
            }
            let Some(former) = entry.handler.fall_back() else {
                continue;
            };
            let is_early = later.get(name).is_some_and(|(at, _)| *at > Instant::now());
            let is_going = ways.values().any(|way| way.failing.spec.name == *name);
            if is_early || is_going || has_its_share(&ways, &entry.handler) {
                continue;
            }
            let way = later.remove(name).map_or_else(
                || {
                    tracing::error!(
                        handler = &*former.name,
                        "the new version fails again and again: falling back to the one before, {:.12}",
                        former.digest
                    );
                    Way {
                        failing: Arc::clone(&entry.handler),
                        pause: limits::FALL_BACK_PAUSE,
                        tries: 0,
                    }
                },
                |(_, way)| way,
            );
            let (deployer, versions) = (Arc::clone(&deployer), versions.clone());
            let entry = entry.clone();
            let task = going
                .spawn(async move { go_back(&deployer, versions.as_ref(), &entry, former).await });
            ways.insert(task.id(), way);
        }
    }
}

/// Whether as many ways back are taken as there may be of whoever pays for this handler.
fn has_its_share(ways: &HashMap<Id, Way>, of: &Handler) -> bool {
    let of_account = ways
        .values()
        .filter(|way| Arc::ptr_eq(&way.failing.account, &of.account));
    of_account.count() >= limits::DEPLOYS / limits::SHARE
}

/// Tries it again later, or never.
fn put_off(mut way: Way, why: &anyhow::Error, later: &mut BTreeMap<HandlerName, (Instant, Way)>) {
    let name = way.failing.spec.name.clone();
    way.tries += 1;
    if way.tries >= limits::FALL_BACKS {
        tracing::error!(
            "`{name}` is not rolled back, and that is tried no more: {why}: deploy a version that works"
        );
        way.failing.forget_former();
        return;
    }
    tracing::warn!(
        "`{name}` is not rolled back yet: {why}; tried again in {:?}",
        way.pause
    );
    let at = Instant::now() + way.pause;
    way.pause = (way.pause * 2).min(limits::FALL_BACK_PAUSE_MOST);
    later.insert(name, (at, way));
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
    match (from.origin, versions) {
        (Origin::Admin, Some(versions)) => Ok(versions.fall_back(&from.handler, &former).await?),
        (Origin::Admin, None) => Ok(()),
        (Origin::Files, _) => {
            if let Some(versions) = versions
                && versions.fall_back_of_file(&from.handler, &former).await?
            {
                return Ok(());
            }
            // It may have been replaced or removed meanwhile.
            if !serves(deployer, &from.handler) {
                return Ok(());
            }
            let refused = deployer.commit(Change {
                put: vec![(from.routes.clone(), former)],
                ..Change::default()
            });
            refused
                .into_iter()
                .next()
                .map_or(Ok(()), |refused| Err(refused.into()))
        }
    }
}
