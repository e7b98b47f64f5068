//! `host check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::guest::GuestArgs;
use super::print;

/// Compile a component and start it under the limits, without serving it.
///
/// Exits with 0 if `host serve` with the same flags would serve it, with 1 and the reason if not.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The component's file.
    #[arg(value_name = "GUEST.WASM")]
    guest: PathBuf,
    #[command(flatten)]
    of_guest: GuestArgs,
}

impl Check {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let handler = self
            .of_guest
            .deployer()
            .build(self.of_guest.spec(&self.guest))
            .await?;
        print(&format!(
            "`{}` can be served as `{}`",
            self.guest.display(),
            handler.name
        ));
        Ok(ExitCode::SUCCESS)
    }
}
