//! Guests from source: the directory of a crate in, the file of its component out.
//!
//! Public because the integration tests build the guests of the workspace with it: what they test is
//! what `host build` makes.

mod metadata;
mod target;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow, bail};
use serde::Deserialize;

use metadata::{Metadata, Package};
pub(super) use target::{TARGET, ensure as ensure_target};

/// The name of guests' own profile, for workspaces that hold other programs too.
const PROFILE: &str = "guest";
/// The profile that every crate has.
const OTHERWISE: &str = "release";

/// What `host dev` builds with: the profile's own settings, but for those that make small components
/// and slow builds. Given to cargo with each build, so that no manifest has to have it.
const PROFILE_OF_DEV: &str = "host-dev";
const QUICK: [&str; 3] = ["lto=false", "codegen-units=16", "incremental=true"];

/// What would make cargo build something else than the guest, or for something else. They are set by
/// those who build the host: `cargo test`, clippy, sccache, coverage.
const NOT_FOR_GUESTS: [&str; 9] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
];

/// Builds a crate and says where its component is. What cargo and rustc say goes to stderr.
///
/// # Errors
/// When there is no crate, it makes no component, or it does not compile, with what to do.
pub fn build(directory: &Path) -> anyhow::Result<PathBuf> {
    let guest = Crate::find(directory)?;
    ensure_target(directory)?;
    let built = guest
        .command(Purpose::Deploy)
        .stderr(Stdio::inherit())
        .output()
        .context(NO_CARGO)?;
    if !built.status.success() {
        bail!(
            "`{}` does not compile ({}): what is wrong is above",
            guest.name,
            built.status
        );
    }
    guest.component(&built.stdout)
}

/// What a component is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be served for long: small, and it may take its time to build.
    Deploy,
    /// To be seen at once by the person who wrote it.
    See,
}

/// A crate that makes a component.
#[derive(Debug)]
pub(super) struct Crate {
    /// Its name.
    pub(super) name: String,
    /// Where its sources are: its own directory first, then those of the crates beside it that it uses.
    pub(super) sources: Vec<PathBuf>,
    /// Where cargo writes; nobody's source.
    pub(super) target_directory: PathBuf,
    directory: PathBuf,
    id: String,
    profile: &'static str,
}

impl Crate {
    /// The crate in a directory.
    pub(super) fn find(directory: &Path) -> anyhow::Result<Self> {
        let shown = directory.display();
        if directory.is_file() {
            bail!("`{shown}` is a file: name the directory of its crate");
        }
        if !directory.is_dir() {
            bail!("there is no directory `{shown}`: `host new {shown}` makes a crate there");
        }
        let manifest = directory.join("Cargo.toml");
        if !manifest.is_file() {
            bail!("`{shown}` has no Cargo.toml: name the directory of a crate");
        }
        let manifest = manifest
            .canonicalize()
            .with_context(|| format!("looking at `{}`", manifest.display()))?;
        let metadata = Metadata::of(&manifest)?;
        let package = metadata.package(&manifest).ok_or_else(|| {
            let members: Vec<_> = metadata.components().collect();
            anyhow!(
                "`{shown}` is a workspace: name one of its crates ({})",
                members.join(", ")
            )
        })?;
        if !package.makes_component() {
            bail!("{}", no_component(package));
        }
        Ok(Self {
            name: package.name.clone(),
            sources: metadata.sources(package),
            target_directory: metadata.target_directory.clone(),
            directory: package.directory().to_owned(),
            id: package.id.clone(),
            profile: profile(&metadata.workspace_root),
        })
    }

    /// The command that builds it. Its stdout is for [`Self::component`].
    pub(super) fn command(&self, purpose: Purpose) -> Command {
        let mut cargo = cargo(&self.directory);
        for variable in NOT_FOR_GUESTS {
            cargo.env_remove(variable);
        }
        cargo
            .args(["build", "--lib", "--target", TARGET])
            .args(["--package", &self.id])
            .args(["--message-format", "json-render-diagnostics"])
            // Not the directory of an outer cargo, which holds its lock while it runs us.
            .arg("--target-dir")
            .arg(self.target_directory.join("guests"));
        match purpose {
            Purpose::Deploy => {
                cargo.args(["--profile", self.profile]);
            }
            Purpose::See => {
                let inherits = format!("inherits=\"{}\"", self.profile);
                for setting in [&*inherits].into_iter().chain(QUICK) {
                    cargo.args(["--config", &format!("profile.{PROFILE_OF_DEV}.{setting}")]);
                }
                cargo.args(["--profile", PROFILE_OF_DEV]);
            }
        }
        cargo
    }

    /// The file that a build has made, from what cargo said on stdout.
    pub(super) fn component(&self, messages: &[u8]) -> anyhow::Result<PathBuf> {
        messages
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
            .filter(|message| message.package_id == self.id)
            .flat_map(|message| message.filenames)
            .find(|file| {
                file.extension()
                    .is_some_and(|extension| extension == "wasm")
            })
            .ok_or_else(|| anyhow!("cargo built `{}` and made no `.wasm` file", self.name))
    }
}

/// A line that cargo prints for programs; only those on artifacts have files.
#[derive(Deserialize)]
struct Message {
    package_id: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

const NO_CARGO: &str = "`cargo` cannot be run: install Rust from https://rustup.rs";

/// In the crate's directory, so that its `rust-toolchain.toml` and `.cargo/config.toml` count.
fn cargo(directory: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(directory).stdin(Stdio::null());
    cargo
}

fn profile(workspace: &Path) -> &'static str {
    let manifest = std::fs::read_to_string(workspace.join("Cargo.toml")).unwrap_or_default();
    let header = format!("[profile.{PROFILE}]");
    if manifest.lines().any(|line| line.trim() == header) {
        PROFILE
    } else {
        OTHERWISE
    }
}

fn no_component(package: &Package) -> String {
    let mut message = format!(
        "`{}` makes no component: add this to its Cargo.toml\n\n    [lib]\n    crate-type = [\"cdylib\"]\n",
        package.name
    );
    if !package.has_library() {
        message.push_str("\nand move src/main.rs to src/lib.rs\n");
    }
    message
}

/// Whether cargo, run in this directory, takes it for a member of a workspace further up.
pub(super) fn is_member_of_another(directory: &Path) -> bool {
    let Ok(manifest) = directory.join("Cargo.toml").canonicalize() else {
        return false;
    };
    Metadata::of(&manifest)
        .is_ok_and(|metadata| Some(&*metadata.workspace_root) != manifest.parent())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crate_with(manifest: &str, source: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        std::fs::create_dir(path.join("src")).expect("made");
        std::fs::write(path.join("Cargo.toml"), manifest).expect("written");
        std::fs::write(path.join("src").join(source), "").expect("written");
        directory
    }

    const PACKAGE: &str = "[package]\nname = \"shop\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";

    #[test]
    fn each_refusal_says_what_to_do() {
        let empty = tempfile::tempdir().expect("a directory");
        let program = crate_with(PACKAGE, "main.rs");
        let library = crate_with(PACKAGE, "lib.rs");
        let broken = crate_with("[package", "lib.rs");
        for (directory, hint) in [
            (Path::new("/no/such/place"), "`host new /no/such/place`"),
            (empty.path(), "name the directory of a crate"),
            (library.path(), "crate-type = [\"cdylib\"]"),
            (program.path(), "move src/main.rs to src/lib.rs"),
            (broken.path(), "unclosed table"),
        ] {
            let refusal = Crate::find(directory).expect_err("refused");
            let refusal = format!("{refusal:#}");
            assert!(refusal.contains(hint), "{refusal}");
        }
    }

    #[test]
    fn the_profile_for_guests_is_taken_where_there_is_one() {
        let lib = "[lib]\ncrate-type = [\"cdylib\"]\n";
        let plain = crate_with(&format!("{PACKAGE}{lib}"), "lib.rs");
        let own = crate_with(
            &format!("{PACKAGE}{lib}[profile.guest]\ninherits = \"release\"\n"),
            "lib.rs",
        );
        for (directory, profile) in [(plain, OTHERWISE), (own, PROFILE)] {
            let found = Crate::find(directory.path()).expect("a crate");
            assert_eq!((&*found.name, found.profile), ("shop", profile));
        }
    }

    #[test]
    fn of_a_build_the_file_of_the_crate_itself_is_taken() {
        let lib = "[lib]\ncrate-type = [\"cdylib\"]\n";
        let directory = crate_with(&format!("{PACKAGE}{lib}"), "lib.rs");
        let guest = Crate::find(directory.path()).expect("a crate");
        let line = |id: &str, file: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"{id}","filenames":["{file}"]}}"#
            )
        };
        let messages = [
            line("other", "/t/other.wasm"),
            line(&guest.id, "/t/shop.wasm"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n");
        let file = guest.component(messages.as_bytes()).expect("a file");
        assert_eq!(file, Path::new("/t/shop.wasm"));
        assert!(guest.component(b"").is_err());
    }
}
