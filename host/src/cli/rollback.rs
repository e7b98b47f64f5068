//! `host rollback`.

use std::process::ExitCode;

use clap::Args;
use http::Method;

use super::deploy::told;
use super::remote::{RemoteArgs, target};
use crate::catalog::HandlerName;

/// Take a version of a handler again that was deployed before, as it was: with its routes and its settings.
#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The handler's name.
    name: HandlerName,
    /// The version: `v3`, or how its digest begins [default: the one that served before the current
    /// was deployed].
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Rollback {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let to: Vec<_> = self.to.into_iter().map(|to| ("to", to)).collect();
        let target = target(&format!("/handlers/{}/rollback", self.name), &to);
        self.remote
            .remote()?
            .print(Method::POST, &target, told)
            .await
    }
}
