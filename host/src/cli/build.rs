//! `host build`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{cargo, print_exactly};

/// Build a handler written in Rust, and print the path of its component.
///
/// What cargo says goes to stderr, so that a script can take the path:
/// `host serve "$(host build shop)"`. Builds with the profile `guest` of the workspace, or else with
/// `release`, in a target directory of its own.
#[derive(Debug, Args)]
pub(super) struct Build {
    /// The directory of the crate.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

impl Build {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let component = cargo::build(&self.directory)?;
        print_exactly(&component.display().to_string());
        Ok(ExitCode::SUCCESS)
    }
}
