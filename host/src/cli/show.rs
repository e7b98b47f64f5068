//! `host show`.

use std::process::ExitCode;

use clap::Args;
use http::Method;

use super::remote::{RemoteArgs, short, size, table};
use crate::admin::HandlerView;
use crate::catalog::HandlerName;

/// Show a handler of a running host: its routes, its settings and its versions.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The handler's name.
    name: HandlerName,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Show {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let target = format!("/handlers/{}", self.name);
        self.remote
            .remote()?
            .print(Method::GET, &target, shown)
            .await
    }
}

fn shown(handler: HandlerView) -> String {
    let mut facts = vec![("name", handler.name.clone())];
    if !handler.serving {
        facts.push(("state", "not serving: the host's log says why".to_owned()));
    }
    for route in &handler.routes {
        let stripped = if route.strip_prefix {
            ", prefix stripped"
        } else {
            ""
        };
        facts.push(("route", format!("{}{stripped}", route.route)));
    }
    if let Some(own) = &handler.settings {
        let memory = own.memory.map(|bytes| size(bytes as u64));
        let env = (!own.env.is_empty()).then(|| own.env.join(", "));
        let own = [
            ("env", env),
            ("timeout", own.timeout.clone()),
            ("cpu", own.cpu.clone()),
            ("memory", memory),
        ];
        facts.extend(
            own.into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    }
    facts.extend(handler.file.map(|file| ("file", file)));
    facts.push(("digest", handler.digest));
    let facts: Vec<String> = facts
        .iter()
        .map(|(name, value)| format!("{name:8}{value}"))
        .collect();
    // Not cut: it is there to be copied, and longer than a line.
    let etag = handler
        .etag
        .map(|etag| format!("\netag    {etag}"))
        .unwrap_or_default();
    let mut text = facts.join("\n") + &etag;
    if !handler.versions.is_empty() {
        let head = ["", "VERSION", "DIGEST", "SIZE", "DEPLOYED", "BY"]
            .map(str::to_owned)
            .to_vec();
        let row = |version: &crate::admin::VersionView| {
            vec![
                if version.current { "*" } else { "" }.to_owned(),
                format!("v{}", version.number),
                short(&version.digest).to_owned(),
                size(version.size),
                version.deployed_at.clone(),
                version.by.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = std::iter::once(head)
            .chain(handler.versions.iter().rev().map(row))
            .collect();
        text = format!("{text}\n\n{}", table(&rows));
    }
    text
}
