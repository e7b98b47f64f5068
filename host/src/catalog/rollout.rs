//! From what is wanted to what is deployed: what has changed is made, one handler beside the other, and put in place
//! as it is ready. What cannot be made leaves what was there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

use super::deployer::{Change, OWN};
use super::{
    Deployer, Handler, HandlerName, HandlerSpec, Origin, OwnAnswer, Refused, Route, Versions,
    Wanted,
};
use crate::components::{CompileError, LoadError, Stamp, Why};
use crate::engine::{Fault, FaultKind};
use crate::files;

/// Rolls out one source of handlers: a directory, or a file of configuration. Dropping it stops what is being made,
/// and leaves what is deployed.
pub struct Rollout {
    deployer: Arc<Deployer>,
    /// What keeps the versions of what it deploys.
    versions: Option<Arc<Versions>>,
    making: JoinSet<(HandlerName, Made)>,
    /// What was last tried, by name.
    tried: HashMap<HandlerName, Try>,
    /// Handlers whose routes somebody else has: he may be about to give them up.
    waiting: BTreeMap<HandlerName, Waiting>,
    /// What is wanted to be answered without a guest.
    own: Vec<(Route, OwnAnswer)>,
    /// Some of it is not in place.
    own_waits: bool,
    /// That was told.
    own_is_told: bool,
    /// It was told what is wanted.
    has_begun: bool,
}

struct Waiting {
    routes: Vec<Route>,
    handler: Arc<Handler>,
    is_told: bool,
}

/// What came out of making a handler.
enum Made {
    /// It.
    New(Arc<Handler>),
    /// The version that served before the host was started, and why not the new one.
    Former(Arc<Handler>, anyhow::Error),
    /// Nothing.
    Nothing(anyhow::Error),
}

struct Try {
    spec: HandlerSpec,
    stamp: Option<Stamp>,
    /// None when it is over.
    making: Option<AbortHandle>,
}

/// What is to be done for a handler that is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// It goes on, at other routes.
    Routes,
    Making,
}

/// The plan for one handler, of what was tried last and what is wanted now, and of nothing else.
fn due(tried: Option<&Try>, spec: &HandlerSpec, stamp: Option<Stamp>) -> Due {
    match tried {
        Some(tried) if tried.stamp == stamp && tried.spec.makes_the_same(spec) => {
            if tried.spec.routes == spec.routes {
                Due::Nothing
            } else {
                Due::Routes
            }
        }
        _ => Due::Making,
    }
}

/// What became of a handler.
#[derive(Debug)]
pub enum Event {
    /// It is in place.
    Deployed(Arc<Handler>),
    /// It is not, and what was there before goes on.
    Refused {
        /// Its name.
        name: Arc<str>,
        /// What is in the way.
        why: anyhow::Error,
        /// Whether one of this name goes on serving.
        has_former: bool,
    },
    /// It is gone.
    Removed(Arc<str>),
}

impl Event {
    /// Whether it is refused because nothing could be opened or started just then. It is made when it is wanted again.
    #[must_use]
    pub fn is_for_now(&self) -> bool {
        matches!(self, Self::Refused { why, .. } if is_for_now(why))
    }
}

fn is_for_now(why: &anyhow::Error) -> bool {
    match why.downcast_ref() {
        Some(LoadError {
            why: Why::Unreadable(error) | Why::NotCompiled(CompileError::Spawn(error)),
            ..
        }) => files::is_for_now(error),
        _ => {
            let fault: Option<&Fault> = why.downcast_ref();
            let has_no_room = fault.is_some_and(|fault| fault.kind == FaultKind::NoRoom);
            has_no_room || files::is_for_now(why.as_ref())
        }
    }
}

impl Rollout {
    /// A rollout that has deployed nothing yet. What it deploys becomes versions, if those are kept.
    #[must_use]
    pub fn new(deployer: Arc<Deployer>, versions: Option<Arc<Versions>>) -> Self {
        Self {
            deployer,
            versions,
            making: JoinSet::new(),
            tried: HashMap::new(),
            waiting: BTreeMap::new(),
            own: Vec::new(),
            own_waits: false,
            own_is_told: false,
            has_begun: false,
        }
    }

    /// Where it deploys.
    #[must_use]
    pub fn deployer(&self) -> &Deployer {
        &self.deployer
    }

    /// Takes up what has changed. Handlers that are gone and routes that have moved are so at once; what must be made
    /// comes out of [`Self::next`]. It looks at every file, so call this where that is allowed.
    pub fn want(&mut self, wanted: Wanted) -> Vec<Event> {
        let specs = wanted.handlers.iter().map(|spec| &spec.name);
        let names: HashSet<&HandlerName> = specs.chain(&wanted.kept).collect();
        let gone: Vec<HandlerName> = self
            .tried
            .keys()
            .filter(|name| !names.contains(name))
            .cloned()
            .collect();
        if let Some(versions) = &self.versions {
            versions.pass_over_only(&names);
        }
        // Nobody knows of one that is kept whether it is required now.
        let was_required = |name: &&HandlerName| self.deployer.required().contains(*name);
        let kept: Vec<HandlerName> = wanted.kept.iter().filter(was_required).cloned().collect();
        let required = wanted.handlers.iter().filter(|spec| spec.required);
        let required = required.map(|spec| spec.name.clone());
        self.deployer.require(required.chain(kept));
        let catalog = self.deployer.catalog().load_full();
        let mut change = Change::default();
        let is_start = !std::mem::replace(&mut self.has_begun, true);
        // What served before the host was started has its routes before others that are made sooner.
        if let Some(versions) = self.versions.as_ref().filter(|_| is_start) {
            let of_specs = wanted.handlers.iter();
            let of_specs = of_specs.map(|said| (&said.name, Some(said)));
            let all = of_specs.chain(wanted.kept.iter().map(|name| (name, None)));
            change.awaited = versions.served(all);
        }
        let of_start = change.awaited.iter().map(|(name, _)| name.clone());
        let mut awaited: HashSet<HandlerName> = of_start.collect();
        for (name, it) in &catalog.awaited {
            if it.origin == Origin::Files && names.contains(name) {
                awaited.insert(name.clone());
            } else if it.origin == Origin::Files {
                change.remove.push(name.clone());
            }
        }
        self.own_is_told &= self.own == wanted.own;
        (self.own, self.own_waits) = (wanted.own, true);
        change.every = Some(wanted.every);
        let mut events = Vec::new();
        for name in gone {
            self.forget(&name);
            if catalog.origin(&name) == Some(Origin::Files) {
                events.push(Event::Removed(name.shared()));
                change.remove.push(name);
            }
        }
        for said in wanted.handlers {
            let versions = self.versions.as_ref();
            let spec = versions
                .and_then(|versions| versions.instead(&said))
                .unwrap_or(said);
            let stamp = Stamp::of(spec.source.path());
            let due = due(self.tried.get(&spec.name), &spec, stamp);
            if due != Due::Making
                && let Some(tried) = self.tried.get_mut(&spec.name)
            {
                if due == Due::Routes {
                    let waiting = self.waiting.remove(&spec.name);
                    let ready = waiting.map(|waiting| waiting.handler);
                    let ready = ready.or_else(|| catalog.handler(&spec.name).cloned());
                    if let Some(handler) = ready.filter(|_| tried.making.is_none()) {
                        change.put.push((spec.routes.clone(), handler));
                    }
                }
                tried.spec.routes = spec.routes;
                continue;
            }
            // Nothing of this name serves yet: one that was good before is so at once, and is loaded when it is asked for.
            if catalog.handler(&spec.name).is_none()
                && let Some(handler) = self.deployer.recall(&spec)
            {
                change.put.push((spec.routes.clone(), handler));
                self.tried.insert(
                    spec.name.clone(),
                    Try {
                        spec,
                        stamp,
                        making: None,
                    },
                );
                continue;
            }
            // What serves goes on if the new one cannot be made. After a start nothing does yet.
            let former = versions
                .filter(|_| spec.version.is_none() && awaited.contains(&spec.name))
                .and_then(|versions| versions.last(&spec));
            self.make(spec, stamp, former);
        }
        let removed = change.remove.iter();
        let removed: Vec<Arc<Handler>> = removed
            .filter_map(|name| catalog.handler(name).cloned())
            .collect();
        events.extend(self.commit(change, &HashSet::new()));
        // After the commit: who writes versions down takes a mark beside an entry for an old one.
        if let Some(versions) = &self.versions {
            versions.take_away(&removed);
        }
        events
    }

    /// What became of the next handlers that were made: all that are ready. None when none is being made.
    pub async fn next(&mut self) -> Option<Vec<Event>> {
        let mut made = vec![self.making.join_next_with_id().await?];
        while let Some(more) = self.making.try_join_next_with_id() {
            made.push(more);
        }
        let catalog = self.deployer.catalog().load_full();
        let (mut events, mut not_replaced) = (Vec::new(), Vec::new());
        let mut change = Change::default();
        let versions = self.versions.as_ref();
        let is_left_behind =
            |handler: &Handler| versions.is_some_and(|versions| versions.is_left_behind(handler));
        // An error is a task that was aborted.
        for (task, (name, made)) in made.into_iter().flatten() {
            let of_task = |making: &mut AbortHandle| making.id() == task;
            let Some(tried) = self.tried.get_mut(&name) else {
                continue;
            };
            // Another may be made by now, of a newer file.
            if tried.making.take_if(of_task).is_none() {
                continue;
            }
            if let Made::Former(_, why) | Made::Nothing(why) = &made
                && is_for_now(why)
            {
                // Nobody has seen what is in it, or that it cannot be started.
                tried.stamp = None;
            }
            let (handler, routes) = match made {
                Made::New(handler) => (handler, tried.spec.routes.clone()),
                Made::Former(handler, why) => {
                    not_replaced.push((name.shared(), why));
                    let routes = handler.spec.routes.clone();
                    (handler, routes)
                }
                Made::Nothing(why) => {
                    events.push(self.refused(name.shared(), why));
                    continue;
                }
            };
            // Somebody has taken another version meanwhile, and that serves.
            if is_left_behind(&handler) {
                continue;
            }
            // A file that was written anew with the same bytes: its instances stay warm.
            let now = catalog.handler(&name).filter(|now| now.is_same(&handler));
            let handler = now.cloned().unwrap_or(handler);
            change.put.push((routes, handler));
        }
        let is_new = |handler: &&Arc<Handler>| {
            let now = catalog.handler(&handler.spec.name);
            now.is_none_or(|now| !Arc::ptr_eq(now, handler))
        };
        let made = change.put.iter().map(|(_, handler)| handler).filter(is_new);
        let made: HashSet<HandlerName> = made.map(|handler| handler.spec.name.clone()).collect();
        events.extend(self.commit(change, &made));
        let not_replaced = not_replaced.into_iter();
        events.extend(not_replaced.map(|(name, why)| self.refused(name, why)));
        Some(events)
    }

    /// Puts in place what can be, also what had to wait. A refusal is told when there is nothing left that could lift it.
    fn commit(&mut self, mut change: Change, made: &HashSet<HandlerName>) -> Vec<Event> {
        let mut told = HashSet::new();
        for (name, waiting) in std::mem::take(&mut self.waiting) {
            if change
                .put
                .iter()
                .all(|(_, handler)| handler.spec.name != name)
            {
                change.put.push((waiting.routes, waiting.handler));
                if waiting.is_told {
                    told.insert(name);
                }
            }
        }
        change.own = self.own_waits.then(|| self.own.clone());
        let put = change.put.clone();
        let refused = self.deployer.commit(change);

        if let Some(versions) = &self.versions {
            let is_in = |name: &&Arc<str>| refused.iter().all(|refused| refused.name != **name);
            let names = put.iter().map(|(_, handler)| handler);
            let names = names.filter(|handler| is_in(&&handler.name));
            versions.note(names.map(|handler| handler.spec.name.clone()));
        }
        let is_last = self.making.is_empty();
        let mut events = Vec::new();
        for (routes, handler) in put {
            let name = handler.spec.name.clone();
            if refused.iter().any(|refused| refused.name == handler.name) {
                let is_told = is_last || told.contains(&name);
                self.waiting.insert(
                    name,
                    Waiting {
                        routes,
                        handler,
                        is_told,
                    },
                );
            } else if made.contains(&name) || told.contains(&name) {
                events.push(Event::Deployed(handler));
            }
        }
        let own_was_told = self.own_is_told;
        self.own_waits = refused.iter().any(|refused| &*refused.name == OWN);
        self.own_is_told = self.own_waits && (is_last || own_was_told);
        let is_new = |refused: &Refused| match &*refused.name {
            OWN => !own_was_told,
            other => told.iter().all(|name| name.as_str() != other),
        };
        let told_now = refused
            .into_iter()
            .filter(|refused| is_last && is_new(refused));
        events.extend(
            told_now.map(|refused| self.refused(Arc::clone(&refused.name), refused.into())),
        );
        events
    }

    /// Tries again what has to wait for somebody else's routes, or name.
    pub fn retry(&mut self) -> Vec<Event> {
        if self.waiting.is_empty() && !self.own_waits {
            return Vec::new();
        }
        self.commit(Change::default(), &HashSet::new())
    }

    /// Waits until everything that is wanted is in place or refused.
    pub async fn settle(&mut self) -> Vec<Event> {
        let mut all = Vec::new();
        while let Some(events) = self.next().await {
            all.extend(events);
        }
        self.save();
        all
    }

    /// Notes on disk what was made, so that the next start is quick.
    pub fn save(&self) {
        self.deployer.save_known();
    }

    /// Handlers of this rollout that are in place.
    #[must_use]
    pub fn deployed(&self) -> usize {
        let catalog = self.deployer.catalog().load_full();
        self.tried
            .keys()
            .filter(|name| catalog.handler(name).is_some())
            .count()
    }

    /// Makes it, or else a former version, of a component of this digest.
    fn make(
        &mut self,
        spec: HandlerSpec,
        stamp: Option<Stamp>,
        former: Option<(HandlerSpec, String)>,
    ) {
        self.forget(&spec.name);
        let (deployer, name, of_task) =
            (Arc::clone(&self.deployer), spec.name.clone(), spec.clone());
        let making = self.making.spawn(async move {
            let name = of_task.name.clone();
            let made = match deployer.build(of_task).await {
                Ok(handler) => Made::New(handler),
                Err(why) => match last_of(&deployer, former).await {
                    Some(handler) => Made::Former(handler, why),
                    None => Made::Nothing(why),
                },
            };
            (name, made)
        });
        let tried = Try {
            spec,
            stamp,
            making: Some(making),
        };
        self.tried.insert(name, tried);
    }

    fn forget(&mut self, name: &HandlerName) {
        self.waiting.remove(name);
        if let Some(Try {
            making: Some(making),
            ..
        }) = self.tried.remove(name)
        {
            making.abort();
        }
    }

    fn refused(&self, name: Arc<str>, why: anyhow::Error) -> Event {
        self.deployer.deploys().refuse(Origin::Files);
        let catalog = self.deployer.catalog().load_full();
        let has_former = catalog.handlers().any(|handler| handler.name == name);
        Event::Refused {
            name,
            why,
            has_former,
        }
    }
}

/// A version that served, if it can be made again of the same component.
async fn last_of(
    deployer: &Deployer,
    version: Option<(HandlerSpec, String)>,
) -> Option<Arc<Handler>> {
    let (spec, digest) = version?;
    let made = deployer.build_again(spec).await.ok();
    made.filter(|handler| handler.digest == digest)
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustix::io::Errno;

    use super::*;
    use crate::catalog::Source;
    use crate::engine::GuestSettings;
    use crate::limits::HandlerLimits;

    fn refused_for(why: impl std::error::Error + Send + Sync + 'static) -> Event {
        Event::Refused {
            name: Arc::from("shop"),
            why: anyhow::Error::new(why).context("loading"),
            has_former: true,
        }
    }

    #[test]
    fn a_component_that_cannot_be_opened_for_now_is_told_from_one_that_cannot_be_served() {
        for (code, is_so) in [(Errno::MFILE, true), (Errno::ACCESS, false)] {
            let why = LoadError {
                path: "shop.wasm".into(),
                why: Why::Unreadable(io::Error::from(code)),
            };
            assert_eq!(refused_for(why).is_for_now(), is_so, "{code}");
        }
    }

    #[test]
    fn a_component_that_there_is_no_room_to_start_is_told_from_one_that_cannot_be_started() {
        for (kind, is_so) in [(FaultKind::NoRoom, true), (FaultKind::StartFailed, false)] {
            let refused = refused_for(Fault::new(kind, "it cannot be"));
            assert_eq!(refused.is_for_now(), is_so, "{kind:?}");
        }
    }

    #[test]
    fn only_what_makes_another_guest_is_made_anew() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let stamp = Stamp::of(file.path());
        let spec = HandlerSpec {
            name: HandlerName::like("shop"),
            tenant: None,
            routes: vec![Route::everything()],
            source: Source::Wasm("shop.wasm".into()),
            version: None,
            guest: GuestSettings::default(),
            limits: HandlerLimits::default(),
            warm_up: None,
            quarantine: true,
            required: false,
            keep_output: false,
        };
        let tried = Try {
            spec: spec.clone(),
            stamp,
            making: None,
        };
        let of = |change: fn(&mut HandlerSpec)| {
            let mut wanted = spec.clone();
            change(&mut wanted);
            due(Some(&tried), &wanted, stamp)
        };
        assert_eq!(of(|_| ()), Due::Nothing);
        assert_eq!(of(|it| it.required = true), Due::Nothing);
        assert_eq!(of(|it| it.routes.clear()), Due::Routes);
        assert_eq!(of(|it| it.guest.memory += 1), Due::Making);
        assert_eq!(of(|it| it.limits.deadline *= 2), Due::Making);
        assert_eq!(of(|it| it.tenant = Some("acme".into())), Due::Making);
        assert_eq!(due(Some(&tried), &spec, None), Due::Making);
        assert_eq!(due(None, &spec, stamp), Due::Making);
    }
}
