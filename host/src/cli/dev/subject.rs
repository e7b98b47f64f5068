//! What `host dev` serves: a crate, or a component that somebody else builds.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::watch::Place;
use crate::cli::cargo::{self, Crate};

/// What is written and served.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    /// The directory of a crate, as typed.
    Crate(PathBuf),
    /// The file of a component, as typed.
    Component(PathBuf),
}

impl Subject {
    /// Refuses what no save could make right.
    pub(super) fn find(path: &Path) -> anyhow::Result<Self> {
        if path.is_file() {
            return Ok(Self::Component(path.to_owned()));
        }
        let shown = path.display();
        if !path.exists() && path.extension().is_some() {
            bail!(
                "there is no file `{shown}`: name a component's file or the directory of a crate"
            );
        }
        Crate::find(path)?;
        cargo::ensure_target(path)?;
        Ok(Self::Crate(path.to_owned()))
    }

    /// What to watch for changes.
    pub(super) fn places(&self) -> anyhow::Result<Vec<Place>> {
        Ok(match self {
            Self::Crate(directory) => {
                let guest = Crate::find(directory)?;
                let tree = |root| Place::Tree {
                    root,
                    except: guest.target_directory.clone(),
                };
                guest.sources.into_iter().map(tree).collect()
            }
            Self::Component(file) => {
                let absolute = std::path::absolute(file)
                    .with_context(|| format!("looking at `{}`", file.display()))?;
                vec![Place::File(absolute)]
            }
        })
    }

    /// Its name for the person who writes it: as typed, and `.` by its name.
    pub(super) fn name(&self) -> String {
        let (Self::Crate(path) | Self::Component(path)) = self;
        let name = path.file_name().map(|_| path.clone());
        let of_here = || path.canonicalize().ok()?.file_name().map(PathBuf::from);
        let shown = name.or_else(of_here).unwrap_or_else(|| path.clone());
        shown.display().to_string()
    }

    /// What to do to see something new.
    pub(super) fn invitation(&self) -> String {
        match self {
            Self::Crate(directory) => {
                let source: PathBuf = directory
                    .join("src")
                    .components()
                    .skip_while(is_here)
                    .collect();
                format!("Edit {} and save", source.display())
            }
            Self::Component(file) => format!("Write {} anew", file.display()),
        }
    }
}

fn is_here(component: &std::path::Component<'_>) -> bool {
    *component == std::path::Component::CurDir
}
