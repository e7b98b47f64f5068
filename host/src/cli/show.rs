//! `host show`.

use std::process::ExitCode;

use clap::Args;
use http::Method;

use super::remote::{RemoteArgs, short, size, table};
use crate::admin::{
    BucketView, DirectoryView, GrantsView, HandlerView, ReuseView, RouteView, SettingsView,
    VersionView,
};
use crate::catalog::HandlerName;
use crate::names::legible;

/// Show a handler of a running host: its routes, its settings, and its versions with what each changed.
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
    facts.extend(handler.tenant.clone().map(|tenant| ("tenant", tenant)));
    if handler.starting {
        facts.push(("state", "starting: it is still being made".to_owned()));
    } else if !handler.serving {
        facts.push(("state", "not serving: the host's log says why".to_owned()));
    }
    if handler.rolled_back {
        facts.push(("state", "rolled back: an earlier version serves".to_owned()));
    }
    let reuse = |reuse: &ReuseView| ("reuse", reused(reuse));
    facts.extend(handler.reuse.as_ref().map(reuse));
    let all = |route: &RouteView| ("route", routed(route));
    facts.extend(handler.routes.iter().map(all));
    if let Some(own) = &handler.settings {
        let facts_of_own = OWN
            .iter()
            .filter_map(|name| Some((*name, of_own(own, name)?)));
        facts.extend(facts_of_own);
    }
    facts.extend(handler.grants.iter().flat_map(granted));
    facts.extend(handler.not_granted.into_iter().map(|it| ("wants", it)));
    facts.extend(handler.file.map(|file| ("file", file)));
    facts.push(("digest", handler.digest));
    let facts: Vec<String> = facts
        .iter()
        .map(|(name, value)| format!("{name:7} {}", legible(value)))
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
        let row = |version: &VersionView| {
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
        let rows = table(&rows);
        let mut lines = rows.lines().map(str::to_owned);
        let mut of_versions: Vec<String> = lines.next().into_iter().collect();
        for (line, version) in lines.zip(handler.versions.iter().rev()) {
            of_versions.push(line);
            of_versions.extend(
                differences(version)
                    .iter()
                    .map(|it| format!("{INDENT}{}", legible(it))),
            );
        }
        text = format!("{text}\n\n{}", of_versions.join("\n"));
    }
    text
}

/// Under the number of a version.
const INDENT: &str = "       ";

fn reused(reuse: &ReuseView) -> String {
    let ReuseView {
        at_once,
        at_once_granted,
        in_all,
        in_all_granted,
    } = reuse;
    format!(
        "less after faults: an instance serves {at_once} of {at_once_granted} requests at once, {in_all} of {in_all_granted} in all"
    )
}

fn routed(route: &RouteView) -> String {
    let stripped = if route.strip_prefix {
        ", prefix stripped"
    } else {
        ""
    };
    format!("{}{stripped}", route.route)
}

/// What it may reach: names, and no value.
fn granted(grants: &GrantsView) -> Vec<(&'static str, String)> {
    let directory = |it: &DirectoryView| match it.writable {
        true => format!("{} (writable)", it.guest),
        false => it.guest.clone(),
    };
    let bucket = |it: &BucketView| format!("{} in {}", it.name, it.store);
    let dirs: Vec<String> = grants.dirs.iter().map(directory).collect();
    let buckets: Vec<String> = grants.keyvalue.iter().map(bucket).collect();
    let steps = |grain: &String| format!("steps of {grain}");
    let facts = [
        ("env", grants.env.join(", ")),
        ("config", grants.config.join(", ")),
        ("dirs", dirs.join(", ")),
        ("scratch", grants.scratch.map(size).unwrap_or_default()),
        ("sockets", grants.sockets.join(", ")),
        ("calls", grants.calls.join(", ")),
        ("outbound", grants.outbound.join(", ")),
        ("networks", grants.networks.join(", ")),
        ("keyvalue", buckets.join(", ")),
        ("blobstore", grants.blobstore.join(", ")),
        (
            "clocks",
            grants.coarse_clocks.as_ref().map(steps).unwrap_or_default(),
        ),
    ];
    let is_granted = |(_, value): &(&str, String)| !value.is_empty();
    facts.into_iter().filter(is_granted).collect()
}

/// What its version has of its own, what it may reach aside.
const OWN: [&str; 4] = ["timeout", "cpu", "memory", "warm_up"];

fn of_own(own: &SettingsView, name: &str) -> Option<String> {
    match name {
        "timeout" => own.timeout.clone(),
        "cpu" => own.cpu.clone(),
        "memory" => own.memory.map(|bytes| size(bytes as u64)),
        "warm_up" => own.warm_up.clone(),
        "calls" => (!own.calls.is_empty()).then(|| own.calls.join(", ")),
        "outbound" => (!own.outbound.is_empty()).then(|| own.outbound.join(", ")),
        _ => None,
    }
}

/// A line for each thing in which a version differs from the one that it follows, but for its component, whose digest is shown.
fn differences(version: &VersionView) -> Vec<String> {
    let own = &version.settings;
    let mut lines = Vec::new();
    for differs in &version.differs {
        match differs.as_str() {
            "component" => {}
            "routes" => lines.extend(
                version
                    .routes
                    .iter()
                    .map(|route| format!("route   {}", routed(route))),
            ),
            "limits" => lines.push("limits  changed".to_owned()),
            name => lines.push(match name.split_once('.') {
                Some(("config", key)) => named("config", key, &own.config),
                Some((_, variable)) => named("env", variable, &own.env),
                None => {
                    let own = of_own(own, name).unwrap_or_else(|| "of the host".to_owned());
                    format!("{name:7} {own}")
                }
            }),
        }
    }
    lines
}

/// What a version is told under a name, or is told no more.
fn named(what: &str, name: &str, own: &[String]) -> String {
    let without = if own.iter().any(|own| own == name) {
        ""
    } else {
        "without "
    };
    format!("{what:7} {without}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_named_adds_no_line_and_steers_no_terminal() {
        let handler = serde_json::json!({
            "name": "shop",
            "routes": [],
            "digest": "0123",
            "serving": true,
            "file": "/srv/\u{1b}c.wasm",
            "grants": { "env": ["\u{1b}[2J\nname    other"], "dirs": [] },
        });
        let shown = shown(serde_json::from_value(handler).expect("a handler"));
        let expected = [
            "name    shop",
            "env     \\u{1b}[2J\\nname    other",
            "file    /srv/\\u{1b}c.wasm",
            "digest  0123",
        ];
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_differs_is_shown_under_each_version() {
        let version = VersionView {
            number: 2,
            digest: String::new(),
            size: 1,
            deployed_at: String::new(),
            by: String::new(),
            wants: Vec::new(),
            routes: vec![RouteView {
                route: "/shop/*".to_owned(),
                strip_prefix: true,
            }],
            settings: SettingsView {
                env: vec!["NEW".to_owned()],
                config: vec!["new.key".to_owned()],
                timeout: Some("2s".to_owned()),
                cpu: None,
                memory: None,
                calls: Vec::new(),
                outbound: Vec::new(),
                warm_up: None,
            },
            follows: Some(1),
            differs: [
                "component",
                "routes",
                "timeout",
                "cpu",
                "env.NEW",
                "env.OLD",
                "config.new.key",
                "config.old",
            ]
            .map(str::to_owned)
            .to_vec(),
            current: true,
        };
        let expected = [
            "route   /shop/*, prefix stripped",
            "timeout 2s",
            "cpu     of the host",
            "env     NEW",
            "env     without OLD",
            "config  new.key",
            "config  without old",
        ];
        assert_eq!(differences(&version), expected);
    }
}
