//! From a guest's bytes to compiled code that the engine can map.
//!
//! [`inspect`] says what a component is and refuses what cannot be served; a child process compiles it under ceilings
//! (`compile`); the artifact is kept on disk under a seal (`cache`, `sealed`). This process never compiles, and
//! names no type of wasmtime: it hands the engine a file that nobody else can have written.

mod cache;
mod child;
mod compile;
mod compile_error;
mod config;
mod contents;
mod error;
mod inspect;
mod known;
mod limits;
mod lookalike;
mod parts;
mod platform;
mod precompiled;
mod provided;
mod refusal;
mod sealed;
mod stamp;
mod trust;

pub use child::{SUBCOMMAND, child_main};
pub use compile::Compiled;
pub use compile_error::CompileError;
pub use config::{CacheConfig, Ceilings, Config};
pub use contents::{Memories, Tables};
pub use error::{LoadError, Why};
pub use inspect::{Inside, Inspection, Wanted, inspect, look_inside};
pub use limits::Limits;
pub use lookalike::Lookalike;
pub use precompiled::write_precompiled;
pub use provided::Reach;
pub use refusal::{OverLimit, Refusal, UnknownImport};
pub use stamp::Stamp;

use crate::capabilities::share::{self, Sharer};
use crate::engine::{self, Target};
use crate::files;
use crate::limits::{COPIED_DATA, DEPLOYS, NICENESS};
use crate::priority;
use cache::{Cache, Key};
use compile::Compiler;
use known::Known;
use sealed::Label;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// A compiled component, verified and ready to be mapped.
#[derive(Debug)]
pub struct Artifact {
    /// SHA-256 of the component, in hex.
    pub digest: String,
    /// What the component is.
    pub inspection: Inspection,
    /// Compiled code from its first byte on. Nobody else can write to it, and it may have no name.
    pub file: File,
    /// It was not compiled this time.
    pub from_cache: bool,
}

impl Artifact {
    /// The engine that can run it.
    pub fn target(&self) -> Target {
        self.inspection.target()
    }

    fn new(label: Label, file: File, from_cache: bool) -> Artifact {
        Artifact {
            digest: label.digest,
            inspection: label.inspection,
            file,
            from_cache,
        }
    }
}

/// Makes artifacts of components. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Components {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cache: Option<Cache>,
    known: Option<Known>,
    limits: Limits,
    compiler: Compiler,
    /// Names everything besides the component that an artifact depends on.
    build: String,
    /// Threads for [`Components::unhurried`].
    unhurried: share::Shared,
}

impl Components {
    /// A cache that cannot be trusted is reported and not used.
    pub fn new(config: Config) -> Components {
        let cache = config.cache.and_then(|config| {
            let directory = config.directory.clone();
            Cache::open(config)
                .inspect_err(|reason| tracing::warn!(directory = %directory.display(), %reason, "component cache is not used"))
                .ok()
        });
        let fingerprints = Target::ALL.map(engine::fingerprint).concat();
        let build = sealed::digest(
            &[
                sealed::MAGIC,
                env!("CARGO_PKG_VERSION").as_bytes(),
                fingerprints.as_bytes(),
                &COPIED_DATA.to_le_bytes(),
            ]
            .concat(),
        );
        let compiler = Compiler::new(config.program, config.ceilings, config.compilers);
        Components {
            shared: Arc::new(Shared {
                known: cache.as_ref().map(|cache| Known::open(cache.directory())),
                cache,
                limits: config.limits,
                compiler,
                build,
                unhurried: share::Shared::new(DEPLOYS),
            }),
        }
    }

    /// Reads a component and gives its artifact: from the cache, or compiled now for him who shares the compilers with others,
    /// which takes seconds for large ones. Dropping the future stops the compiler.
    pub(crate) async fn load(&self, path: &Path, sharer: &Sharer) -> Result<Artifact, LoadError> {
        let (owned, limit) = (path.to_owned(), self.shared.limits.size);
        let made = async {
            let wasm = blocking(move || read(&owned, limit)).await?;
            self.make(wasm, sharer).await
        };
        made.await.map_err(|why| LoadError {
            path: path.to_owned(),
            why,
        })
    }

    async fn make(&self, wasm: Vec<u8>, sharer: &Sharer) -> Result<Artifact, Why> {
        let wasm = Arc::new(wasm);
        let (shared, bytes) = (self.shared.clone(), wasm.clone());
        let (digest, cached) = self
            .unhurried(sharer, move || {
                let digest = sealed::digest(&bytes);
                let cached = shared.cached(&digest);
                Ok((digest, cached))
            })
            .await?;
        if let Some(artifact) = cached {
            self.shared.limits.admit(&artifact.inspection)?;
            return Ok(artifact);
        }
        let (limits, bytes) = (self.shared.limits, wasm.clone());
        let inspection = self
            .unhurried(sharer, move || {
                let inspection = inspect(&bytes)?;
                limits.admit(&inspection)?;
                Ok(inspection)
            })
            .await?;
        let place = self.shared.compiler.place(sharer).await;
        // While we waited another may have compiled the same component.
        let (shared, again) = (self.shared.clone(), digest.clone());
        let cached = self.unhurried(sharer, move || Ok(shared.cached(&again)));
        if let Some(artifact) = cached.await? {
            return Ok(artifact);
        }
        let target = inspection.target();
        let file = self.shared.compiler.compile(place, target, &wasm).await?;
        let label = Label {
            digest,
            fingerprint: engine::fingerprint(target),
            inspection,
        };
        let shared = self.shared.clone();
        self.unhurried(sharer, move || shared.keep(file, label))
            .await
    }

    /// Goes through all bytes of a component, to hash or to validate them, which takes CPU time that those who serve want first. Who
    /// shares the threads for that with others has a place on them until it is done, also when he waits for it no more.
    async fn unhurried<T: Send + 'static>(
        &self,
        sharer: &Sharer,
        work: impl FnOnce() -> Result<T, Why> + Send + 'static,
    ) -> Result<T, Why> {
        let place = self.shared.unhurried.share(sharer).take(1).await;
        let with_place = move || {
            let _place = place;
            work()
        };
        let done = priority::work("component", NICENESS, with_place).await;
        done.unwrap_or_else(|stopped| Err(Why::Unreadable(stopped)))
    }

    /// The artifact of a component that was made before, if it is still kept.
    pub async fn kept(&self, digest: &str) -> Option<Artifact> {
        let (shared, digest) = (self.shared.clone(), digest.to_owned());
        let find = move || Ok(shared.cached(&digest));
        blocking(find).await.ok().flatten()
    }

    /// Whether [`Self::kept`] would find an artifact.
    #[must_use]
    pub fn keeps(&self, digest: &str) -> bool {
        let cache = self.shared.cache.as_ref();
        cache.is_some_and(|cache| cache.holds(self.shared.key(digest)))
    }

    /// The digest of a file that [`Self::remember`] was told of, unless it has changed or its artifact is gone.
    pub fn known(&self, path: &Path, tried: &str) -> Option<String> {
        let (known, cache) = (self.shared.known.as_ref()?, self.shared.cache.as_ref()?);
        let digest = known.digest(path, Stamp::of(path)?, tried)?;
        if !cache.holds(self.shared.key(&digest)) {
            known.forget(path);
            return None;
        }
        Some(digest)
    }

    /// Notes that a file was this component and could be started with the settings `tried`. `stamp` is from before it
    /// was read.
    pub fn remember(&self, path: &Path, stamp: Option<Stamp>, digest: &str, tried: &str) {
        if let (Some(known), Some(stamp)) = (&self.shared.known, stamp) {
            known.remember(path, stamp, digest, tried);
        }
    }

    /// What was compiled since the start.
    #[must_use]
    pub fn compiled(&self) -> Compiled {
        self.shared.compiler.compiled()
    }

    /// Writes down what was noted.
    pub fn save_known(&self) {
        if let Some(Err(error)) = self.shared.known.as_ref().map(Known::save) {
            tracing::warn!(
                "the list of known components is not kept, and the next start is slower: {error}"
            );
        }
    }

    /// Takes an artifact that [`write_precompiled`] wrote. Its code is run as it is: only for files whose writer is
    /// trusted like the host itself.
    pub async fn load_precompiled(&self, path: &Path) -> Result<Artifact, LoadError> {
        let (owned, limits) = (path.to_owned(), self.shared.limits);
        let loaded = blocking(move || {
            let artifact = precompiled::read(&owned)?;
            limits.admit(&artifact.inspection)?;
            Ok(artifact)
        });
        loaded.await.map_err(|why| LoadError {
            path: path.to_owned(),
            why,
        })
    }
}

impl Shared {
    fn key<'a>(&'a self, digest: &'a str) -> Key<'a> {
        Key {
            digest,
            build: &self.build,
        }
    }

    fn cached(&self, digest: &str) -> Option<Artifact> {
        let (file, label) = self.cache.as_ref()?.find(self.key(digest))?;
        Some(Artifact::new(label, file, true))
    }

    /// Whether or not the cache takes it, there is an artifact to serve.
    fn keep(&self, mut file: File, label: Label) -> Result<Artifact, Why> {
        sealed::seal(&mut file, &label)?;
        let kept = self
            .cache
            .as_ref()
            .map(|cache| cache.keep(self.key(&label.digest), &file));
        let file = match kept {
            Some(Ok(kept)) => kept,
            Some(Err(reason)) => {
                tracing::warn!(digest = %label.digest, %reason, "component is not cached and will be compiled again next time");
                file
            }
            None => file,
        };
        Ok(Artifact::new(label, file, false))
    }
}

/// Says what the component in this file is, if it can be served within these limits. Nothing is compiled.
///
/// # Errors
/// When there is no such file, or it cannot be served.
pub fn inspect_file(path: &Path, limits: &Limits) -> Result<Inspection, LoadError> {
    let inspected = || {
        let inspection = inspect(&read(path, limits.size)?)?;
        limits.admit(&inspection)?;
        Ok(inspection)
    };
    inspected().map_err(|why| LoadError {
        path: path.to_owned(),
        why,
    })
}

/// The bytes of a component's file, of any size.
///
/// # Errors
/// When there is no such file, with the one that may have been meant, or it cannot be read.
pub fn read_whole(path: &Path) -> Result<Vec<u8>, LoadError> {
    read(path, u64::MAX).map_err(|why| LoadError {
        path: path.to_owned(),
        why,
    })
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Why> {
    let read = || {
        let mut wasm = Vec::new();
        files::open(path)?
            .take(limit.saturating_add(1))
            .read_to_end(&mut wasm)?;
        Ok(wasm)
    };
    let wasm = read().map_err(|error| Why::about(path, error))?;
    if wasm.len() as u64 > limit {
        return Err(Refusal::TooLarge { limit }.into());
    }
    Ok(wasm)
}

/// Files are work for threads that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Why> + Send + 'static,
) -> Result<T, Why> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(stopped) => Err(Why::Unreadable(io::Error::other(stopped))),
    }
}
