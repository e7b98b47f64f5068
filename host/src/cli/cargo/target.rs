//! The compilation target of guests, which a fresh toolchain does not have.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::cli::say;

/// What guests are compiled for.
pub(in crate::cli) const TARGET: &str = "wasm32-wasip2";

/// Adds the target to the toolchain of a directory if it lacks it, and says so.
pub(in crate::cli) fn ensure(directory: &Path) -> anyhow::Result<()> {
    Toolchain {
        rustc: &["rustc"],
        rustup: &["rustup"],
        directory,
    }
    .ensure()
}

/// The programs, each with its first arguments.
struct Toolchain<'a> {
    rustc: &'a [&'a str],
    rustup: &'a [&'a str],
    directory: &'a Path,
}

impl Toolchain<'_> {
    fn ensure(&self) -> anyhow::Result<()> {
        if self.has_target()? {
            return Ok(());
        }
        say(&format!(
            "the target {TARGET} is not installed: running `rustup target add {TARGET}`"
        ));
        let added = self
            .command(self.rustup)
            .args(["target", "add", TARGET])
            // Stdout is for the path of the component.
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if added && self.has_target()? {
            return Ok(());
        }
        bail!(
            "the target {TARGET} cannot be installed: run `rustup target add {TARGET}` (without rustup, \
             install your distribution's standard library of Rust for {TARGET})"
        );
    }

    /// rustc names the directory whether it is there or not.
    fn has_target(&self) -> anyhow::Result<bool> {
        let said = self
            .command(self.rustc)
            .args(["--print", "target-libdir", "--target", TARGET])
            .output()
            .context("`rustc` cannot be run: install Rust from https://rustup.rs")?;
        if !said.status.success() {
            let why = String::from_utf8_lossy(&said.stderr);
            bail!(
                "`rustc` does not know {TARGET}, install a newer one: {}",
                why.trim()
            );
        }
        let libraries = PathBuf::from(String::from_utf8_lossy(&said.stdout).trim_end());
        Ok(libraries.is_dir())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .current_dir(self.directory)
            .stdin(Stdio::null());
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A toolchain of shell commands: rustc names `<directory>/lib`.
    fn ensured(directory: &Path, rustup: &[&str]) -> Result<(), String> {
        let rustc = ["sh", "-c", "echo \"$PWD/lib\""];
        let toolchain = Toolchain {
            rustc: &rustc,
            rustup,
            directory,
        };
        toolchain.ensure().map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_target_that_is_there_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("lib")).expect("made");
        assert_eq!(ensured(directory.path(), &["/no/such/rustup"]), Ok(()));
    }

    #[test]
    fn a_missing_target_is_added() {
        let directory = tempfile::tempdir().expect("a directory");
        let rustup = ["sh", "-c", "test \"$*\" = 'add wasm32-wasip2' && mkdir lib"];
        assert_eq!(ensured(directory.path(), &rustup), Ok(()));
    }

    #[test]
    fn without_rustup_the_line_to_run_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        for rustup in ["/no/such/rustup", "false", "true"] {
            let refusal = ensured(directory.path(), &[rustup]).expect_err("not added");
            assert!(
                refusal.contains("run `rustup target add wasm32-wasip2`"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn without_rust_it_is_said_where_to_get_it() {
        let toolchain = Toolchain {
            rustc: &["/no/such/rustc"],
            rustup: &[],
            directory: Path::new("."),
        };
        let refusal = toolchain.ensure().expect_err("no rustc");
        assert!(refusal.to_string().contains("https://rustup.rs"));
    }
}
