//! What cargo knows of a crate and the workspace around it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::{NO_CARGO, cargo};

/// What `cargo metadata --no-deps` prints, as far as we read it.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    packages: Vec<Package>,
    pub(super) workspace_root: PathBuf,
    pub(super) target_directory: PathBuf,
}

/// A member of the workspace.
#[derive(Debug, Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) id: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    /// The directory of a dependency that is given as one.
    path: Option<PathBuf>,
}

impl Metadata {
    /// Asks cargo, which reads the manifests and nothing else.
    pub(super) fn of(manifest: &Path) -> anyhow::Result<Self> {
        // A manifest is in a directory.
        let directory = manifest.parent().unwrap_or(manifest);
        let said = cargo(directory)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .arg("--manifest-path")
            .arg(manifest)
            .output()
            .context(NO_CARGO)?;
        if !said.status.success() {
            let why = String::from_utf8_lossy(&said.stderr);
            let why = why.trim().trim_start_matches("error: ");
            bail!("`{}` cannot be used: {why}", manifest.display());
        }
        serde_json::from_slice(&said.stdout).context("reading what `cargo metadata` says")
    }

    pub(super) fn package(&self, manifest: &Path) -> Option<&Package> {
        self.packages
            .iter()
            .find(|package| package.manifest_path == manifest)
    }

    /// The directories of the members that make components.
    pub(super) fn components(&self) -> impl Iterator<Item = String> {
        self.packages
            .iter()
            .filter(|package| package.makes_component())
            .map(|package| {
                let directory = package.directory();
                let directory = directory
                    .strip_prefix(&self.workspace_root)
                    .unwrap_or(directory);
                directory.display().to_string()
            })
    }

    /// The directories of a package and of what it uses by path, directly or through other members.
    pub(super) fn sources(&self, package: &Package) -> Vec<PathBuf> {
        let mut sources = vec![package.directory().to_owned()];
        let mut seen = 0;
        while let Some(directory) = sources.get(seen) {
            let member = self.package(&directory.join("Cargo.toml"));
            let used: Vec<_> = member
                .iter()
                .flat_map(|member| &member.dependencies)
                .filter_map(|dependency| dependency.path.clone())
                .collect();
            for directory in used {
                if !sources.contains(&directory) {
                    sources.push(directory);
                }
            }
            seen += 1;
        }
        sources
    }
}

impl Package {
    pub(super) fn directory(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }

    pub(super) fn makes_component(&self) -> bool {
        self.has_target(&["cdylib"])
    }

    pub(super) fn has_library(&self) -> bool {
        self.has_target(&["lib", "rlib", "dylib", "staticlib", "cdylib", "proc-macro"])
    }

    fn has_target(&self, kinds: &[&str]) -> bool {
        self.targets
            .iter()
            .flat_map(|target| &target.kind)
            .any(|kind| kinds.contains(&&**kind))
    }
}
