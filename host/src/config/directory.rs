//! A directory of handlers: every `NAME.wasm` in it is one, at `/NAME/`; `index.wasm` is at `/`. `NAME.toml` beside it
//! says what it may and gets.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::{Defaults, Mistakes, manifest, text_of};
use crate::catalog::{
    HandlerName, HandlerSpec, OwnAnswer, Policy, Route, RouteError, Source, Wanted,
};
use crate::components::Stamp;
use crate::limits;
use crate::names::short;

/// The handler that has the paths which no other has.
const INDEX: &str = "index";

/// What is not taken up of files that have changed.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Wrong {
    /// For the log.
    pub what: String,
    /// It may be right when the same files are read again: nothing could be opened just then.
    pub is_for_now: bool,
}

/// What lies in a directory of handlers, or is named by the file of a host, at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    files: BTreeMap<PathBuf, Stamp>,
    /// What has the name of a manifest and is none: directories, pipes, links to nothing.
    irregular: BTreeSet<PathBuf>,
}

impl Listing {
    /// Looks at a directory. Files whose names begin with a dot are nobody's.
    ///
    /// # Errors
    /// When the directory cannot be read, or holds more than [`limits::HANDLERS`] components.
    pub fn of_directory(directory: &Path) -> io::Result<Self> {
        let (mut files, mut irregular) = (BTreeMap::new(), BTreeSet::new());
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            let is_hidden = name.as_encoded_bytes().starts_with(b".");
            let is_manifest = path.extension().is_some_and(|it| it == MANIFEST);
            if is_hidden || !is_manifest && !is_component(&path) {
                continue;
            }
            // Without a stamp it is a directory, or a link to nothing.
            if let Some(stamp) = Stamp::of(&path) {
                files.insert(path, stamp);
            } else if is_manifest && path.symlink_metadata().is_ok() {
                irregular.insert(path);
            }
            if files.len() + irregular.len() > 2 * limits::HANDLERS {
                return Err(io::Error::other(format!(
                    "it holds more than {} components: serve several directories by several hosts",
                    limits::HANDLERS
                )));
            }
        }
        Ok(Self { files, irregular })
    }

    /// Looks at files. One that is not there is not in the listing.
    pub fn of_files<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let stamped = |path: &Path| Some((path.to_owned(), Stamp::of(path)?));
        Self {
            files: paths.into_iter().filter_map(stamped).collect(),
            irregular: BTreeSet::new(),
        }
    }

    /// Whether this file is there.
    #[must_use]
    pub fn holds(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    /// What it asks for: handlers like `template`, but for their names, files and routes, and what their manifests
    /// say; on all their routes the host does what `every` says. Also what is wrong with it: files with names that no handler
    /// can have, and manifests with mistakes, whose handlers are left as they are.
    #[must_use]
    pub fn wanted(
        &self,
        template: &HandlerSpec,
        every: Option<&Arc<Policy>>,
    ) -> (Wanted, Vec<Wrong>) {
        let (mut wanted, mut wrong) = (Wanted::default(), Vec::new());
        wanted.every = every.cloned();
        let defaults = Defaults::like(template, every);
        for file in self.files.keys().filter(|file| is_component(file)) {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let name: HandlerName = match stem.parse() {
                Ok(name) => name,
                Err(error) => {
                    let shown = short(&file.to_string_lossy()).escape_debug().to_string();
                    wrong.push(Wrong {
                        what: format!("`{shown}` is not deployed: {error}"),
                        is_for_now: false,
                    });
                    continue;
                }
            };
            match self.handler(file, &name, template, &defaults) {
                Ok(mut handler) => {
                    if handler.routes.is_empty() {
                        mount(&mut handler, &mut wanted.own);
                    }
                    wanted.handlers.push(handler);
                }
                Err(mistakes) => {
                    wrong.push(Wrong {
                        what: format!(
                            "`{name}` is left as it is, its manifest is wrong:\n{mistakes}"
                        ),
                        is_for_now: mistakes.is_for_now(),
                    });
                    wanted.kept.push(name);
                }
            }
        }
        (wanted, wrong)
    }

    fn handler(
        &self,
        file: &Path,
        name: &HandlerName,
        template: &HandlerSpec,
        defaults: &Defaults,
    ) -> Result<HandlerSpec, Mistakes> {
        let beside = file.with_extension(MANIFEST);
        if self.irregular.contains(&beside) {
            let shown = beside.display();
            let message = match beside.metadata() {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    format!("`{shown}` cannot be read: {error}")
                }
                _ => format!(
                    "`{shown}` is not a regular file: put the manifest there, or take it away"
                ),
            };
            return Err(Mistakes::unreadable(&beside, message));
        }
        if !self.holds(&beside) {
            return Ok(HandlerSpec {
                name: name.clone(),
                routes: Vec::new(),
                source: Source::Wasm(file.to_owned()),
                ..template.clone()
            });
        }
        let mut said = manifest(&beside, &text_of(&beside)?, defaults)?.spec();
        // What is granted on the command line is granted to each.
        said.guest
            .environment
            .splice(0..0, template.guest.environment.iter().cloned());
        said.guest
            .directories
            .splice(0..0, template.guest.directories.iter().cloned());
        said.guest.scratch = said.guest.scratch.or(template.guest.scratch);
        said.guest.coarse_clocks = template.guest.coarse_clocks;
        said.guest.grants.add(&template.guest.grants);
        said.warm_up = said.warm_up.or_else(|| template.warm_up.clone());
        Ok(said)
    }
}

fn is_component(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "wasm")
}

const MANIFEST: &str = "toml";

/// Gives a handler that says no routes its place: `/NAME/`, and a way there from `/NAME`, so that links which are
/// relative to it work.
fn mount(handler: &mut HandlerSpec, own: &mut Vec<(Route, OwnAnswer)>) {
    let name = handler.name.as_str();
    if name == INDEX {
        handler.routes.push(Route::everything());
        return;
    }
    let routes = || -> Result<_, RouteError> {
        let mut below: Route = format!("/{name}/*").parse()?;
        below.strip_prefix = true;
        Ok((below, format!("/{name}").parse()?))
    };
    // A name has only characters that a path and a header may hold.
    if let (Ok((below, bare)), Ok(to)) = (routes(), HeaderValue::try_from(format!("/{name}/"))) {
        handler.routes.push(below);
        let status = StatusCode::PERMANENT_REDIRECT;
        own.push((bare, OwnAnswer::Redirect { status, to }));
    }
}
