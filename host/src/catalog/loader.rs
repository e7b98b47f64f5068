//! From a component's file, or what was made of it, to a guest.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use anyhow::{Context as _, anyhow, bail};
use tokio::task::spawn_blocking;

use super::tenant::{Tenant, Tenants};
use super::{HandlerSpec, Source};
use crate::account::Account;
use crate::capabilities::share::Shared;
use crate::capabilities::{Granted, Services};
use crate::components::{Artifact, Compiled, Components, Stamp};
use crate::engine::{
    Background, Engine, FaultKind, Generation, Guest, Guests, Instances, Room, Target,
};
use crate::limits::{self, HandlerLimits};
use crate::meter::Meter;

/// Loads guests into the engines of this host.
pub(super) struct Loader {
    components: Components,
    room: Room,
    services: Arc<Services>,
    engines: Mutex<Engines>,
    /// Held by the one who makes an engine, or gives one up: each takes address space for a thousand instances.
    turn: Mutex<()>,
    /// What the instances of engines without a pool have together.
    regions: Arc<Shared>,
    /// Where guests of all engines burn.
    background: OnceLock<Arc<Background>>,
    tenants: Arc<Tenants>,
}

/// One for each [`Target`], made when the first guest comes that needs it.
#[derive(Default)]
struct Engines {
    pooled: [Option<Arc<Engine>>; Target::ALL.len()],
    /// For guests that need more than a place in the pool has.
    on_demand: [Option<Arc<Engine>>; Target::ALL.len()],
}

impl Engines {
    fn place(&mut self, target: Target, fits: bool) -> &mut Option<Arc<Engine>> {
        let engines = if fits {
            &mut self.pooled
        } else {
            &mut self.on_demand
        };
        &mut engines[target as usize]
    }
}

impl Loader {
    pub(super) fn new(components: Components, room: Room, services: Arc<Services>) -> Self {
        Self {
            components,
            room,
            services,
            engines: Mutex::default(),
            turn: Mutex::default(),
            regions: Arc::new(Shared::new(limits::LARGE_REGIONS)),
            background: OnceLock::new(),
            tenants: Arc::default(),
        }
    }

    /// Loads and compiles, resolves the imports, makes one instance to see that it can be made, and asks it what it must
    /// answer, unless it has answered before; this account pays. Gives the component's digest too.
    pub(super) async fn make(
        self: &Arc<Self>,
        spec: &HandlerSpec,
        account: &Arc<Account>,
        has_answered: bool,
    ) -> anyhow::Result<(Arc<Guest>, String)> {
        // From before the file is read: one that changes meanwhile is then not remembered.
        let stamp = Stamp::of(spec.source.path());
        let artifact = self.artifact(spec).await?;
        let digest = artifact.digest.clone();
        let guest = Arc::new(self.link(artifact, spec).await?);
        let of_file = || format!("`{}`", spec.source.path().display());
        try_start(&guest, &spec.limits, Arc::clone(account))
            .await
            .with_context(of_file)?;
        if let Some(warm_up) = spec.warm_up.as_ref().filter(|_| !has_answered) {
            let asked = warm_up.ask(&guest, spec, account).await;
            asked.map_err(anyhow::Error::msg).with_context(of_file)?;
        }
        if let Source::Wasm(path) = &spec.source {
            self.components
                .remember(path, stamp, &digest, &spec.settings());
        }
        Ok((guest, digest))
    }

    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// The instances of all engines.
    pub(super) fn instances(&self) -> Instances {
        let engines = self.engines();
        let all = engines.pooled.iter().chain(&engines.on_demand);
        all.flatten().fold(Instances::default(), |sum, engine| {
            sum.and(engine.instances())
        })
    }

    /// What was compiled since the start.
    pub(super) fn compiled(&self) -> Compiled {
        self.components.compiled()
    }

    /// Who owns handlers.
    pub(super) fn tenants(&self) -> &Arc<Tenants> {
        &self.tenants
    }

    /// Who owns the handler.
    pub(super) fn tenant(&self, spec: &HandlerSpec) -> Option<Arc<Tenant>> {
        spec.tenant.as_ref().map(|tenant| self.tenants.get(tenant))
    }

    /// The digest of a handler's component, if it was made with these settings before and need not be looked at.
    pub(super) fn known(&self, spec: &HandlerSpec) -> Option<String> {
        match &spec.source {
            Source::Wasm(path) => self.components.known(path, &spec.settings()),
            Source::Precompiled(_) => None,
        }
    }

    /// Whether a guest can be loaded again whatever becomes of its file.
    pub(super) fn keeps(&self, digest: &str) -> bool {
        self.components.keeps(digest)
    }

    pub(super) fn save_known(&self) {
        self.components.save_known();
    }

    /// A guest that was made before, made again of what was kept, or of its file if that is still the same.
    pub(super) async fn again(
        self: &Arc<Self>,
        spec: &HandlerSpec,
        digest: &str,
    ) -> anyhow::Result<Guest> {
        let artifact = match self.components.kept(digest).await {
            Some(kept) => kept,
            None => self.artifact(spec).await?,
        };
        if artifact.digest != digest {
            bail!(
                "`{}` has changed since it was deployed",
                spec.source.path().display()
            );
        }
        self.link(artifact, spec).await
    }

    /// The compiled component alone.
    async fn artifact(&self, spec: &HandlerSpec) -> anyhow::Result<Artifact> {
        Ok(match &spec.source {
            Source::Wasm(path) => self.components.load(path, &spec.sharer()).await?,
            Source::Precompiled(path) => self.components.load_precompiled(path).await?,
        })
    }

    /// Mapping takes a moment, and disks take longer: not on a thread that serves.
    async fn link(
        self: &Arc<Self>,
        artifact: Artifact,
        spec: &HandlerSpec,
    ) -> anyhow::Result<Guest> {
        let (loader, settings) = (Arc::clone(self), spec.guest.clone());
        let name = spec.name.shared();
        let tenant = spec.tenant.clone();
        let common = self.tenant(spec).map(|it| it.common()).unwrap_or_default();
        let file = spec.source.path().display().to_string();
        let link = move || {
            let (target, parts) = (artifact.target(), artifact.inspection.parts);
            let has_stacks =
                target.generation() == Generation::P2 || parts <= u64::from(limits::PARTS);
            let mut may_fit = has_stacks;
            let mut engine = loader.engine(target, may_fit, parts)?;
            if may_fit && !engine.has_stacks_for(parts) {
                // Made for a component of fewer parts.
                may_fit = false;
                engine = loader.engine(target, false, parts)?;
            }
            let mut mapped = engine.map(&artifact.file);
            if may_fit && mapped.is_err() {
                // It has more memories or tables: wasmtime alone can count what it instantiates.
                engine = loader.engine(target, false, parts)?;
                mapped = engine.map(&artifact.file);
            }
            let component = mapped.with_context(|| format!("`{file}` cannot be mapped"))?;
            let grants = &settings.grants;
            let granted = Granted::new(Arc::clone(&name), tenant, grants, &loader.services)
                .with_context(|| format!("`{file}`"))?;
            Guest::link(engine, &component, parts, name, settings, common, granted)
                .with_context(|| format!("`{file}` cannot be linked"))
        };
        spawn_blocking(link).await?
    }

    fn engines(&self) -> MutexGuard<'_, Engines> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine for a guest of so many parts.
    fn engine(
        self: &Arc<Self>,
        target: Target,
        fits: bool,
        parts: u64,
    ) -> anyhow::Result<Arc<Engine>> {
        let made = || self.engines().place(target, fits).clone();
        if let Some(engine) = made() {
            return Ok(engine);
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = made() {
            return Ok(engine);
        }
        let background = match self.background.get() {
            Some(background) => Arc::clone(background),
            None => {
                let started = Background::start()?;
                Arc::clone(self.background.get_or_init(|| started))
            }
        };
        let engine = if fits {
            let mut room = self.room;
            if room.guests == Guests::One {
                room.parts = u32::try_from(parts).map_or(room.parts, |parts| parts.min(room.parts));
            }
            Engine::new(target, room, background)?
        } else {
            Engine::on_demand(target, Arc::clone(&self.regions), background)?
        };
        *self.engines().place(target, fits) = Some(Arc::clone(&engine));
        if fits {
            tokio::spawn(look_at_leftovers(Arc::downgrade(self), target));
        }
        Ok(engine)
    }

    /// Whether [`Self::give_up`] would find something, without waiting for a turn.
    fn has_leftovers(&self, target: Target) -> bool {
        let mut engines = self.engines();
        engines
            .place(target, true)
            .as_ref()
            .is_some_and(is_left_with_much)
    }

    /// Gives a pool up, if it holds much still and nobody has come who needs it. Whether it is gone.
    fn give_up(&self, target: Target) -> bool {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut engines = self.engines();
        let over = engines
            .place(target, true)
            .take_if(|engine| is_left_with_much(engine));
        drop(engines);
        // Within the turn: Linux has mappings for one of them.
        over.is_some()
    }
}

/// Whether only the table has an engine, which is locked, so that nobody gets it meanwhile, and much is left in it.
fn is_left_with_much(engine: &Arc<Engine>) -> bool {
    Arc::strong_count(engine) == 1 && engine.may_be_given_up()
}

/// Gives the pool of a target up when its instances have left much there and no guest of it is loaded. Ends then, or with the loader.
async fn look_at_leftovers(loader: Weak<Loader>, target: Target) {
    let mut is_gone = false;
    while !is_gone {
        tokio::time::sleep(limits::LEFTOVERS_LOOK).await;
        let Some(loader) = loader.upgrade() else {
            return;
        };
        if loader.has_leftovers(target) {
            // The kernel takes a while for hundreds of megabytes.
            let given_up = spawn_blocking(move || loader.give_up(target)).await;
            is_gone = given_up.unwrap_or(true);
        }
    }
}

async fn try_start(
    guest: &Guest,
    limits: &HandlerLimits,
    account: Arc<Account>,
) -> anyhow::Result<()> {
    let meter = Arc::new(Meter::new(limits.cpu, account));
    let started = tokio::time::timeout(limits.deadline, guest.try_instantiate(meter));
    let fault = match started.await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(fault)) => fault,
        Err(_) => bail!(
            "it does not start within {:?}: raise `--timeout`, or its `timeout` in a file",
            limits.deadline
        ),
    };
    Err(match fault.kind {
        FaultKind::NoRoom => anyhow::Error::new(fault)
            .context("the host has no room to start it for now, try again when less runs"),
        FaultKind::CpuLimit => anyhow!(
            "its start function uses more than {:?} of CPU time: if that is not a loop, raise `--cpu`, or its `cpu` in a file",
            limits.cpu
        ),
        FaultKind::MemoryLimit => anyhow!(
            "it needs more than {} MiB of memory to start: raise `--memory`, or its `memory` in a file",
            limits.memory / limits::MIB
        ),
        _ if fault.backtrace.is_empty() => anyhow!("it cannot be started: {fault}"),
        _ => anyhow!(
            "its start function fails: {fault}, in {}",
            fault.backtrace.join(" < ")
        ),
    })
}
