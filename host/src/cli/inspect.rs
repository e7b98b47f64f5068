//! `host inspect`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::print;
use crate::components::{self, Inspection, Reach};

/// Say what a component is: its exports, its imports put as grants, its size and memories, and
/// whether this host can serve it.
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The component's file.
    #[arg(value_name = "GUEST.WASM")]
    guest: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Report<'a> {
    servable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
    #[serde(flatten)]
    inspection: Option<&'a Inspection>,
}

impl Inspect {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let file = self.guest.display();
        let wasm = components::read_whole(&self.guest)?;
        let inspected = components::inspect(&wasm);
        let inspection = inspected.as_ref().ok();
        let refusal = match &inspected {
            // What `host serve` refuses unless it is told more.
            Ok(inspection) => components::Limits::default().admit(inspection).err(),
            Err(refusal) => Some(refusal.clone()),
        };
        if self.json {
            let report = Report {
                servable: refusal.is_none(),
                why_not: refusal.as_ref().map(ToString::to_string),
                inspection,
            };
            print(&serde_json::to_string_pretty(&report)?);
        } else if let Some(inspection) = inspection {
            print(text(&file.to_string(), inspection, refusal.is_none()).trim_end());
        }
        match refusal {
            None => Ok(ExitCode::SUCCESS),
            Some(_) if self.json => Ok(ExitCode::FAILURE),
            Some(refusal) => Err(anyhow::anyhow!("`{file}`: {refusal}")),
        }
    }
}

/// The flag that grants it. None of what every guest has.
fn flag(reach: Reach) -> Option<&'static str> {
    match reach {
        Reach::OutboundHttp => Some("--allow-outbound"),
        Reach::Files => Some("--dir"),
        Reach::Blobstore => Some("--blobstore"),
        Reach::Sockets => Some("--allow-socket"),
        Reach::Environment => Some("--env"),
        Reach::Configuration => Some("--config"),
        Reach::KeyValue => Some("--keyvalue"),
        Reach::Output | Reach::Clocks | Reach::Randomness => None,
    }
}

fn text(file: &str, inspection: &Inspection, is_servable: bool) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<11}{value}");
    };
    line(
        "component",
        format!(
            "{file} ({:.1} KiB, {} core modules)",
            inspection.size as f64 / 1024.0,
            inspection.core_modules
        ),
    );
    line("wasi:http", inspection.generation.as_str().to_owned());
    line(
        "servable",
        if is_servable { "yes" } else { "no" }.to_owned(),
    );
    line("exports", inspection.exports.join("\n           "));
    let wants: Vec<String> = inspection
        .wants
        .iter()
        .map(|wanted| match flag(wanted.reach) {
            Some(flag) => format!(
                "{}, with {flag} ({})",
                wanted.reach,
                wanted.imports.join(", ")
            ),
            None => wanted.to_string(),
        })
        .collect();
    line(
        "imports",
        if wants.is_empty() {
            "nothing".to_owned()
        } else {
            wants.join("\n           ")
        },
    );
    let memories = &inspection.memories;
    line(
        "memories",
        format!(
            "{} of at least {} KiB together",
            memories.count,
            memories.min_pages * 64
        ),
    );
    line(
        "tables",
        format!(
            "{} of at least {} elements together",
            inspection.tables.count, inspection.tables.min_elements
        ),
    );
    line(
        "functions",
        if inspection.function_names {
            "named, for backtraces"
        } else {
            "not named: backtraces show numbers"
        }
        .to_owned(),
    );
    text
}
