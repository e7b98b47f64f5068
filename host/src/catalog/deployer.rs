//! From a component's file to a handler that serves: load, link, try, swap. The only writer of the catalog.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, anyhow};
use arc_swap::ArcSwapOption;

use super::{Catalog, Handler};
use crate::components::{Artifact, Components};
use crate::engine::{Engine, FaultKind, Generation, Guest, GuestSettings, Room};
use crate::limits::{self, HandlerLimits};
use crate::meter::Meter;

/// A handler to be: where its component is, and what it gets.
#[derive(Debug, Clone)]
pub struct HandlerSpec {
    /// Its name in logs.
    pub name: Arc<str>,
    /// The component's file.
    pub source: Source,
    /// What it may use.
    pub limits: HandlerLimits,
    /// What its instances get.
    pub guest: GuestSettings,
    /// What its guest prints is kept for the pages of `host dev`.
    pub keep_output: bool,
}

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A component, compiled here or found in the cache.
    Wasm(PathBuf),
    /// What `host compile` wrote. It runs as it is: only from someone trusted like the host itself.
    Precompiled(PathBuf),
}

impl Source {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::Wasm(path) | Self::Precompiled(path) => path,
        }
    }
}

/// Makes handlers and puts them in place.
pub struct Deployer {
    components: Components,
    catalog: Arc<ArcSwapOption<Catalog>>,
    room: Room,
    engines: [OnceLock<Arc<Engine>>; 2],
}

impl Deployer {
    /// A deployer whose engines have room for handlers with these limits.
    #[must_use]
    pub fn new(components: Components, limits: &HandlerLimits) -> Self {
        let idle = limits::IDLE_INSTANCES.min(limits.concurrent_requests);
        let room = Room {
            instances: limits.concurrent_requests + idle + limits::SPARE_INSTANCES,
            memory: limits.memory,
        };
        Self {
            components,
            catalog: Arc::default(),
            room,
            engines: [OnceLock::new(), OnceLock::new()],
        }
    }

    /// What is deployed: nothing at first, later always something.
    #[must_use]
    pub fn catalog(&self) -> Arc<ArcSwapOption<Catalog>> {
        Arc::clone(&self.catalog)
    }

    /// Makes a handler and puts it in place of the one before, whose requests in flight go on.
    ///
    /// # Errors
    /// As [`Self::build`]; nothing has changed then.
    pub async fn deploy(&self, spec: HandlerSpec) -> anyhow::Result<()> {
        let handler = self.build(spec).await?;
        self.catalog.store(Some(Arc::new(Catalog::of_one(handler))));
        Ok(())
    }

    /// Makes a handler: loads and compiles, resolves the imports, and makes one instance to see
    /// that it can be made.
    ///
    /// # Errors
    /// With the file's name, what is wrong with it, and what to do.
    pub async fn build(&self, spec: HandlerSpec) -> anyhow::Result<Arc<Handler>> {
        let artifact = self.load(&spec.source).await?;
        let file = spec.source.path().display();
        let engine = self.engine(artifact.generation())?;
        let component = engine
            .map(&artifact.file)
            .with_context(|| format!("`{file}` cannot be mapped"))?;
        let guest = Guest::link(engine, &component, spec.guest.clone())
            .with_context(|| format!("`{file}` cannot be linked"))?;
        try_start(&guest, &spec.limits)
            .await
            .map_err(|why| anyhow!("`{file}`: {why}"))?;
        Ok(Handler::new(spec, guest))
    }

    /// The compiled component alone.
    ///
    /// # Errors
    /// With the file's name, what is wrong with it, and what to do.
    pub async fn load(&self, source: &Source) -> anyhow::Result<Artifact> {
        Ok(match source {
            Source::Wasm(path) => self.components.load(path).await?,
            Source::Precompiled(path) => self.components.load_precompiled(path).await?,
        })
    }

    /// An engine is made when the first guest of its generation comes: most hosts need one.
    fn engine(&self, generation: Generation) -> anyhow::Result<Arc<Engine>> {
        let place = &self.engines[generation as usize];
        if let Some(engine) = place.get() {
            return Ok(Arc::clone(engine));
        }
        let engine = Engine::new(generation, self.room)?;
        Ok(Arc::clone(place.get_or_init(|| engine)))
    }
}

async fn try_start(guest: &Guest, limits: &HandlerLimits) -> Result<(), String> {
    let meter = Arc::new(Meter::new(limits.cpu));
    let started = tokio::time::timeout(limits.deadline, guest.try_instantiate(meter));
    let fault = match started.await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(fault)) => fault,
        Err(_) => {
            return Err(format!(
                "it does not start within {:?}: raise `--timeout`",
                limits.deadline
            ));
        }
    };
    Err(match fault.kind {
        FaultKind::CpuLimit => format!(
            "its start function uses more than {:?} of CPU time: if that is not a loop, raise `--cpu`",
            limits.cpu
        ),
        FaultKind::MemoryLimit => format!(
            "it needs more than {} MiB of memory to start: raise `--memory`",
            limits.memory / limits::MIB
        ),
        _ if fault.backtrace.is_empty() => format!("it cannot be started: {fault}"),
        _ => format!(
            "its start function fails: {fault}, in {}",
            fault.backtrace.join(" < ")
        ),
    })
}
