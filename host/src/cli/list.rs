//! `host list`.

use std::process::ExitCode;

use clap::Args;
use http::Method;

use super::remote::{RemoteArgs, short, table};
use crate::admin::{HandlerView, HandlersView};

/// List the handlers of a running host.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    remote: RemoteArgs,
}

impl List {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let listed = |all: HandlersView| {
            let has_tenants = all.handlers.iter().any(|it| it.tenant.is_some());
            let head = ["NAME", "VERSION", "DIGEST", "TENANT", "ROUTE"]
                .map(str::to_owned)
                .to_vec();
            let mut rows: Vec<Vec<String>> = std::iter::once(head)
                .chain(all.handlers.iter().map(row))
                .collect();
            if !has_tenants {
                rows.iter_mut().for_each(|row| drop(row.remove(TENANT)));
            }
            table(&rows)
        };
        self.remote
            .remote()?
            .print(Method::GET, "/handlers", listed)
            .await
    }
}

/// The column that a host without tenants has not.
const TENANT: usize = 3;

fn row(handler: &HandlerView) -> Vec<String> {
    let current = handler.versions.iter().find(|version| version.current);
    let version = match current {
        _ if handler.starting => "starting".to_owned(),
        _ if !handler.serving => "failed".to_owned(),
        Some(version) => {
            let file = if handler.file.is_some() { "file " } else { "" };
            let rolled_back = if handler.rolled_back {
                ", rolled back"
            } else {
                ""
            };
            format!("{file}v{}{rolled_back}", version.number)
        }
        None => "file".to_owned(),
    };
    let routes: Vec<&str> = handler
        .routes
        .iter()
        .map(|route| route.route.as_str())
        .collect();
    vec![
        handler.name.clone(),
        version,
        short(&handler.digest).to_owned(),
        handler.tenant.clone().unwrap_or_else(|| "-".to_owned()),
        routes.join(" "),
    ]
}
