//! `host schema`.

use std::process::ExitCode;

use clap::Args;

use super::print_exactly;
use crate::config;

/// Print the JSON schema of the file for a whole host, by which an editor completes and checks it.
///
/// For editors with taplo: `host schema > host.schema.json`, and `#:schema ./host.schema.json` as the file's first
/// line.
#[derive(Debug, Args)]
pub(super) struct Schema {
    /// That of a manifest, which lies beside a component in a directory.
    #[arg(long)]
    manifest: bool,
}

impl Schema {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        print_exactly(&if self.manifest {
            config::manifest_schema()
        } else {
            config::schema()
        });
        Ok(ExitCode::SUCCESS)
    }
}
