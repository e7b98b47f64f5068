//! A compiled component with everything resolved that can be before a request comes, and the
//! instances of it that wait for their next one.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use wasmtime::component::Component;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{FsPerms, WasiCtx};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};

use super::budget::Budget;
use super::call::Call;
use super::caution::{Caution, Uses};
use super::clearing::Starting;
use super::fault::{CpuBudgetSpent, Stage, classify};
use super::output::{Current, Stream};
use super::shared::Shared;
use super::state::{Context, Memory, State};
use super::{Engine, Fault, FaultKind, Generation};
use crate::capabilities::clocks::{Clocks, Grain};
use crate::capabilities::config::{Told, Values};
use crate::capabilities::files::{SCRATCH, Scratch};
use crate::capabilities::share::Share;
use crate::capabilities::{Granted, Grants};
use crate::files;
use crate::limits::{self, Reuse};
use crate::meter::Meter;
use crate::observe::{GuestOutput, GuestStream, RequestId, Speaker};
use crate::secret::Secret;

/// What the instances of a guest get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestSettings {
    /// Environment variables; none of the host's.
    pub environment: Vec<(String, Secret)>,
    /// Directories, by the names that the guest sees.
    pub directories: Vec<Directory>,
    /// Bytes of a scratch directory that each instance has of its own. None: it has none.
    pub scratch: Option<u64>,
    /// What it reaches through the host.
    pub grants: Grants,
    /// What its clocks show at least between two steps. None: they are those of this machine.
    pub coarse_clocks: Option<Duration>,
    /// Bytes of memory, see [`limits::HandlerLimits::memory`].
    pub memory: usize,
    /// Bytes of a set of header fields that it makes, see [`limits::FIELDS_BYTES`].
    pub fields: usize,
    /// How often an instance is used.
    pub reuse: Reuse,
}

/// A directory that a guest may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Where it is on the host.
    pub host: PathBuf,
    /// What the guest calls it.
    pub guest: String,
    /// Whether the guest may write there too.
    pub writable: bool,
}

/// A guest that can be called.
pub struct Guest {
    pre: Pre,
    pub(super) settings: GuestSettings,
    granted: Arc<Granted>,
    told: Arc<Told>,
    common: Common,
    /// Its share of what instances have together that are made on demand, and how much of it each takes.
    regions: Option<(Share, usize)>,
    /// How many requests its instances may serve.
    pub(super) caution: Arc<Caution>,
    idle: Mutex<Vec<(Instance, IdlePlace)>>,
    pub(super) shared: Mutex<Vec<Arc<Shared>>>,
    /// Goes after all that is made of it: an engine that only the host's table has is in use no more.
    pub(super) engine: Arc<Engine>,
}

/// What a guest has in common with others.
#[derive(Clone, Default)]
pub(crate) struct Common {
    /// What its instances take their memory from.
    pub(crate) memory: Option<Arc<Budget>>,
    /// How coarse its clocks are.
    pub(crate) clocks: Option<Grain>,
}

enum Pre {
    P2(ProxyPre<State>),
    P3(ServicePre<State>),
}

/// A live guest with its store.
pub(super) struct Instance {
    pub(super) store: Store<State>,
    pub(super) exports: Exports,
    served: u32,
    idle_since: Instant,
}

/// One of [`Engine::idle_most`], which all guests of an engine share: one that is idle takes a place in the pool
/// from those that are asked for.
pub(super) struct IdlePlace(Arc<Engine>);

impl IdlePlace {
    pub(super) fn take(engine: &Arc<Engine>) -> Option<Self> {
        let place = Self(Arc::clone(engine));
        let taken = engine.idle.fetch_add(1, Ordering::Relaxed);
        (taken < engine.idle_most).then_some(place)
    }
}

impl Drop for IdlePlace {
    fn drop(&mut self) {
        self.0.idle.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an instance is made for.
#[derive(Clone, Copy)]
enum Purpose {
    Requests,
    /// It is gone in a moment, and takes nothing of what its tenant has, so that one at its ceiling may still deploy.
    Trial,
}

pub(super) enum Exports {
    P2(Proxy),
    P3(Service),
}

impl Guest {
    /// Resolves the imports of a compiled component, for the handler of this name. It has so many `parts`, see
    /// [`limits::PARTS`].
    ///
    /// # Errors
    /// When an import is provided by nobody, the component exports no wasi:http handler, or a directory has the name of
    /// its scratch directory.
    pub(crate) fn link(
        engine: Arc<Engine>,
        component: &Component,
        parts: u64,
        handler: Arc<str>,
        settings: GuestSettings,
        common: Common,
        granted: Granted,
    ) -> anyhow::Result<Self> {
        let is_taken = settings.directories.iter().any(|it| it.guest == SCRATCH);
        ensure!(
            settings.scratch.is_none() || !is_taken,
            "one of its directories is `{SCRATCH}` too, where its scratch directory is: give that one another name"
        );
        let linked = engine
            .linker
            .instantiate_pre(component)
            .map_err(anyhow::Error::from)?;
        let pre = match engine.generation() {
            Generation::P2 => Pre::P2(ProxyPre::new(linked).map_err(anyhow::Error::from)?),
            Generation::P3 => Pre::P3(ServicePre::new(linked).map_err(anyhow::Error::from)?),
        };
        let regions = engine.on_demand.as_ref().map(|on_demand| {
            let each = regions(component, engine.generation(), parts);
            (on_demand.regions.share(&granted.sharer), each)
        });
        let values = Values {
            environment: settings.environment.clone(),
            config: settings.grants.config.clone(),
        };
        let granted_uses = uses(&settings.reuse, engine.generation());
        Ok(Self {
            engine,
            pre,
            regions,
            caution: Arc::new(Caution::new(Arc::clone(&handler), granted_uses)),
            told: Arc::new(Told::new(handler, values)),
            granted: Arc::new(granted),
            settings,
            common,
            idle: Mutex::default(),
            shared: Mutex::default(),
        })
    }

    /// Makes an instance and throws it away, to see whether it can be made.
    ///
    /// # Errors
    /// The fault of a start function, a limit that is too low, a directory that is not there.
    pub async fn try_instantiate(&self, meter: Arc<Meter>) -> Result<(), Fault> {
        let _ticking = self.engine.epoch.ticking();
        let output = Arc::new(GuestOutput::new(
            Speaker::new(Arc::from("start"), None, "", Arc::clone(meter.account())),
            RequestId::none(),
            false,
        ));
        let values = self.values().await;
        let trial = self.instantiate_as(Purpose::Trial, values, &meter, output);
        let mut instance = std::pin::pin!(trial);
        let instance = std::future::poll_fn(|cx| meter.measure(|| instance.as_mut().poll(cx)));
        self.engine.background.clearing.clear(instance.await?, ());
        Ok(())
    }

    /// How many requests one instance may serve: now, since faults make it less, and when there are none.
    #[must_use]
    pub fn uses(&self) -> (Uses, Uses) {
        (self.caution.now(), self.caution.granted())
    }

    /// Whether instances serve several requests at once.
    pub(super) fn shares_instances(&self) -> bool {
        self.caution.now().at_once > 1
    }

    /// Whether one of its instances ever waits for its next request.
    fn keeps_instances(&self) -> bool {
        self.caution.granted().in_all > 1
    }

    pub(super) fn reuse(&self) -> &Reuse {
        &self.settings.reuse
    }

    /// An instance that waits, or a new one, which it is in any case for a request that is tried again.
    pub(super) async fn instance(
        &self,
        Call {
            meter,
            output,
            caller,
        }: Call,
        is_again: bool,
    ) -> Result<Instance, Fault> {
        let values = self.values().await;
        if !is_again
            && self.keeps_instances()
            && let Some(mut instance) = self.take_idle(&values)
        {
            let state = instance.store.data_mut();
            state.memory.serve(meter);
            state.output.replace(output);
            state.outbound_http.caller = caller;
            instance.store.set_epoch_deadline(1);
            return Ok(instance);
        }
        let began = Instant::now();
        let mut instance = self.instantiate(values, &meter, output).await?;
        meter.instantiated(began.elapsed());
        instance.store.data_mut().outbound_http.caller = caller;
        Ok(instance)
    }

    /// Keeps an instance that has served well for the next request. Gives it back if it may not serve again.
    pub(super) fn keep(&self, mut instance: Instance) -> Option<Instance> {
        instance.served += 1;
        // It holds what the request was routed by.
        instance.store.data_mut().outbound_http.caller = None;
        // Where instances are shared, nobody looks for one that waits.
        if instance.served >= self.caution.now().in_all || self.shares_instances() {
            return Some(instance);
        }
        let Some(place) = IdlePlace::take(&self.engine) else {
            return Some(instance);
        };
        instance.store.data_mut().settle_holdings();
        instance.idle_since = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push((instance, place));
        None
    }

    /// What new instances are told.
    pub(super) async fn values(&self) -> Arc<Values> {
        self.told.now().await
    }

    /// The one used last, whose memory is warm. Those that were told something else are of no use any more.
    fn take_idle(&self, values: &Arc<Values>) -> Option<Instance> {
        let mut outdated = Vec::new();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let found = loop {
            match idle.pop() {
                Some((instance, _)) if Arc::ptr_eq(instance.store.data().values(), values) => {
                    break Some(instance);
                }
                Some(other) => outdated.push(other),
                None => break None,
            }
        };
        // Dropping a store is work: not under the lock.
        drop(idle);
        for (instance, place) in outdated {
            self.engine.background.clearing.clear(instance, place);
        }
        found
    }

    /// Drops the instances that have waited too long. Gives the time until the next one has, which an instance that
    /// begins to wait meanwhile cannot shorten.
    pub fn expire_idle(&self) -> Duration {
        if !self.keeps_instances() {
            return Duration::MAX;
        }
        let (now, patience) = (Instant::now(), self.settings.reuse.idle);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = idle
            .partition_point(|(instance, _)| now.duration_since(instance.idle_since) >= patience);
        let expired: Vec<_> = idle.drain(..fresh).collect();
        let waited = idle.first().map_or(Duration::ZERO, |(oldest, _)| {
            now.duration_since(oldest.idle_since)
        });
        drop(idle);
        // Dropping a store is work: not under the lock.
        for (instance, place) in expired {
            self.engine.background.clearing.clear(instance, place);
        }
        patience.saturating_sub(waited).max(limits::TICK)
    }

    pub(super) async fn instantiate(
        &self,
        values: Arc<Values>,
        meter: &Arc<Meter>,
        output: Arc<GuestOutput>,
    ) -> Result<Instance, Fault> {
        self.instantiate_as(Purpose::Requests, values, meter, output)
            .await
    }

    async fn instantiate_as(
        &self,
        purpose: Purpose,
        values: Arc<Values>,
        meter: &Arc<Meter>,
        output: Arc<GuestOutput>,
    ) -> Result<Instance, Fault> {
        let regions = match &self.regions {
            None => None,
            Some((share, each)) => Some(share.try_take(*each).ok_or_else(|| {
                let detail =
                    "as many instances of it run as there is room for components of its size";
                Fault::new(FaultKind::NoRoom, detail)
            })?),
        };
        let shared_memory = match purpose {
            Purpose::Requests => self.common.memory.clone(),
            Purpose::Trial => None,
        };
        // Opened anew for each instance.
        let directories = match (purpose, self.settings.directories.len()) {
            (Purpose::Trial, _) | (_, 0) => None,
            (Purpose::Requests, many) => Some(self.granted.descriptors.try_take_fairly(many).ok_or_else(|| {
                let detail = "no room to open the directories that it is granted: all guests, or those of its tenant, have as many files open as they may; raise the hard limit of open files (`ulimit -Hn`)";
                Fault::new(FaultKind::NoRoom, detail)
            })?),
        };
        let scratch = match self.settings.scratch {
            None => None,
            Some(quota) => Some(self.scratch(quota).await?),
        };
        let (output, now) = (Current::new(output), Instant::now());
        let context =
            self.context(&output, values, scratch, now)
                .map_err(|error| match of_opening(error.as_ref()) {
                    kind @ FaultKind::NoRoom => {
                        Fault::new(kind, format!("{error:#}: {MORE_FILES}"))
                    }
                    kind => Fault::new(kind, format!("{error:#}")),
                })?;
        let usage = Arc::clone(&self.engine.usage);
        let memory = Memory::new(
            self.settings.memory,
            shared_memory,
            usage,
            Arc::clone(meter),
        );
        let state = State::new(
            context,
            &self.settings,
            Arc::clone(&self.granted),
            memory,
            output,
            [regions, directories],
        );
        let mut store = Store::new(&self.engine.wasmtime, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(limits::HOSTCALL_BYTES);
        store.set_max_component_handles(limits::HANDLES);
        if let Some(tasks) = store.concurrent_resource_table() {
            tasks.set_max_capacity(limits::HANDLES);
        }
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            if state.memory.meter().is_spent() {
                return Err(CpuBudgetSpent.into());
            }
            if !state.holdings_fit() {
                return Err(wasmtime::Error::msg(
                    "the host holds more for the guest than its limits or its tenant's allow",
                ));
            }
            state.memory.meter().slice();
            Ok(UpdateDeadline::Yield(1))
        });
        let mut starting = Starting::new(&self.engine.background.clearing);
        let store = starting.store.insert(store);
        let exports = match &self.pre {
            Pre::P2(pre) => pre.instantiate_async(&mut *store).await.map(Exports::P2),
            Pre::P3(pre) => pre.instantiate_async(&mut *store).await.map(Exports::P3),
        };
        let exports = exports.map_err(|error| classify(&error, store.data(), Stage::Start))?;
        let Some(store) = starting.store.take() else {
            // It is there until it is taken.
            return Err(Fault::new(FaultKind::StartFailed, "it is gone"));
        };
        Ok(Instance {
            store,
            exports,
            served: 0,
            idle_since: now,
        })
    }

    async fn scratch(&self, quota: u64) -> Result<Arc<Scratch>, Fault> {
        let scratches = &self.granted.scratches;
        let place = scratches.place().ok_or_else(|| {
            let detail = "as many scratch directories are in use, or files open, as there may be";
            Fault::new(FaultKind::NoRoom, detail)
        })?;
        let made = scratches.make(quota, place).await;
        made.map_err(|error| without_scratch(&error))
    }

    fn context(
        &self,
        output: &Arc<Current>,
        values: Arc<Values>,
        scratch: Option<Arc<Scratch>>,
        now: Instant,
    ) -> anyhow::Result<Context> {
        let mut wasi = WasiCtx::builder();
        wasi.max_random_size(limits::RANDOM_BYTES)
            .stdout(Stream {
                output: Arc::clone(output),
                stream: GuestStream::Stdout,
            })
            .stderr(Stream {
                output: Arc::clone(output),
                stream: GuestStream::Stderr,
            });
        let clocks = Clocks::new(self.common.clocks.clone(), self.settings.coarse_clocks, now);
        wasi.monotonic_clock(clocks.clone());
        if clocks.may_be_coarse() {
            wasi.wall_clock(clocks.clone());
        }
        for (name, value) in &values.environment {
            wasi.env(name, value.reveal());
        }
        for directory in &self.settings.directories {
            let permissions = if directory.writable {
                FsPerms::ReadWrite
            } else {
                FsPerms::ReadOnly
            };
            wasi.preopened_dir(&directory.host, &directory.guest, permissions)
                .map_err(anyhow::Error::from)
                .with_context(|| format!("opening the directory `{}`", directory.host.display()))?;
        }
        Ok(Context {
            wasi: wasi.build(),
            scratch,
            clocks,
            values,
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let idle = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (instance, place) in idle.drain(..) {
            self.engine.background.clearing.clear(instance, place);
        }
    }
}

/// What to do where nothing more can be opened.
const MORE_FILES: &str = "raise the hard limit of open files (`ulimit -Hn`)";

/// Whose doing it is that something cannot be opened: that no file can be is nobody's.
fn of_opening(error: &(dyn Error + 'static)) -> FaultKind {
    if files::is_for_now(error) {
        FaultKind::NoRoom
    } else {
        FaultKind::StartFailed
    }
}

fn without_scratch(error: &io::Error) -> Fault {
    let kind = of_opening(error);
    let advice = match kind {
        FaultKind::NoRoom => MORE_FILES,
        _ => "make that one, or set `TMPDIR` to another",
    };
    let place = std::env::temp_dir();
    let place = place.display();
    let detail = format!("a scratch directory cannot be made in `{place}`: {error}: {advice}");
    Fault::new(kind, detail)
}

/// How many requests one instance may serve.
fn uses(reuse: &Reuse, generation: Generation) -> Uses {
    let (at_once, default) = match generation {
        Generation::P2 => (1, 1),
        Generation::P3 => (reuse.concurrent.max(1), limits::REUSED_REQUESTS_P3),
    };
    Uses {
        at_once,
        in_all: reuse.requests.unwrap_or(default).max(1),
    }
}

/// The memories and stacks of an instance.
fn regions(component: &Component, generation: Generation, parts: u64) -> usize {
    // None of a component that gets its modules from somebody else, which nobody provides.
    let needed = component.resources_required();
    let memories = needed.map_or(1, |it| u64::from(it.num_memories));
    // As the pool has them for each.
    let stacks = match generation {
        Generation::P2 => 2,
        Generation::P3 => parts.saturating_add(2),
    };
    usize::try_from(memories.saturating_add(stacks)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn that_no_file_can_be_opened_is_no_fault_of_the_guest() {
        for (code, kind) in [
            (Errno::MFILE, FaultKind::NoRoom),
            (Errno::NFILE, FaultKind::NoRoom),
            (Errno::NOENT, FaultKind::StartFailed),
        ] {
            let error = anyhow::Error::new(io::Error::from(code));
            let error = error.context("opening the directory `data`");
            assert_eq!(of_opening(error.as_ref()), kind, "{code}");
            assert_eq!(without_scratch(&code.into()).kind, kind, "{code}");
        }
    }
}
