//! `host compile`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::guest::GuestArgs;
use super::print;
use crate::components;

/// Compile a component ahead of time, for this machine and this version of host.
///
/// Prints the path of the result, which `host serve --allow-precompiled` takes.
#[derive(Debug, Args)]
pub(super) struct Compile {
    /// The component's file.
    #[arg(value_name = "GUEST.WASM")]
    guest: PathBuf,
    /// Where to put the result [default: beside the component, as `.cwasm`].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    of_guest: GuestArgs,
}

impl Compile {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let spec = self.of_guest.spec(&self.guest);
        let artifact = self.of_guest.deployer().load(&spec.source).await?;
        let output = self
            .output
            .unwrap_or_else(|| self.guest.with_extension("cwasm"));
        components::write_precompiled(&artifact, &output)
            .with_context(|| format!("writing `{}`", output.display()))?;
        print(&output.display().to_string());
        Ok(ExitCode::SUCCESS)
    }
}
