//! `host undeploy`.

use std::process::ExitCode;

use clap::Args;
use http::Method;
use serde_json::Value;

use super::remote::RemoteArgs;
use crate::catalog::HandlerName;

/// Take a handler away from a running host, with all its versions.
#[derive(Debug, Args)]
pub(super) struct Undeploy {
    /// The handler's name.
    name: HandlerName,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Undeploy {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let gone = |_: Value| format!("`{}` is undeployed", self.name);
        let target = format!("/handlers/{}", self.name);
        self.remote
            .remote()?
            .print(Method::DELETE, &target, gone)
            .await
    }
}
