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
            let head = ["NAME", "VERSION", "DIGEST", "ROUTE"]
                .map(str::to_owned)
                .to_vec();
            let rows: Vec<Vec<String>> = std::iter::once(head)
                .chain(all.handlers.iter().map(row))
                .collect();
            table(&rows)
        };
        self.remote
            .remote()?
            .print(Method::GET, "/handlers", listed)
            .await
    }
}

fn row(handler: &HandlerView) -> Vec<String> {
    let current = handler.versions.iter().find(|version| version.current);
    let version = match current {
        _ if !handler.serving => "failed".to_owned(),
        Some(version) => format!("v{}", version.number),
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
        routes.join(" "),
    ]
}
