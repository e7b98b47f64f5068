//! `host inspect`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{print, print_exactly};
use crate::components::{self, Inside, Inspection, Reach, Wanted};
use crate::names::legible;

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
    /// Of one that cannot be served at all.
    #[serde(flatten)]
    inside: Option<&'a Inside>,
}

impl Inspect {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let file = self.guest.display();
        let wasm = components::read_whole(&self.guest)?;
        let inspected = components::inspect(&wasm);
        let inspection = inspected.as_ref().ok();
        let inside = components::look_inside(&wasm);
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
                inside: inside.as_ref().filter(|_| inspection.is_none()),
            };
            print_exactly(&serde_json::to_string_pretty(&report)?);
        } else if let Some(inside) = &inside {
            let text = text(&file.to_string(), inside, inspection, refusal.is_none());
            print(text.trim_end());
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

fn granted(wanted: &Wanted) -> String {
    match flag(wanted.reach) {
        Some(flag) => {
            let imports = wanted.imports.join(", ");
            format!("{}, with {flag} ({imports})", wanted.reach)
        }
        None => wanted.to_string(),
    }
}

fn text(file: &str, inside: &Inside, inspection: Option<&Inspection>, is_servable: bool) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<11}{value}");
    };
    line(
        "component",
        format!(
            "{} ({:.1} KiB, {} core modules)",
            legible(file),
            inside.size as f64 / 1024.0,
            inside.core_modules
        ),
    );
    if let Some(inspection) = inspection {
        line("wasi:http", inspection.generation.as_str().to_owned());
    }
    line(
        "servable",
        if is_servable { "yes" } else { "no" }.to_owned(),
    );
    let list = |names: &[String]| match names {
        [] => "nothing".to_owned(),
        names => {
            let names: Vec<String> = names.iter().map(|name| legible(name)).collect();
            names.join("\n           ")
        }
    };
    line("exports", list(&inside.exports));
    line(
        "imports",
        match inspection {
            Some(inspection) => list(&inspection.wants.iter().map(granted).collect::<Vec<_>>()),
            None => list(&inside.imports),
        },
    );
    let memories = &inside.memories;
    line(
        "memories",
        format!(
            "{} of at least {} KiB together",
            memories.count,
            memories.min_pages.saturating_mul(64)
        ),
    );
    line(
        "tables",
        format!(
            "{} of at least {} elements together",
            inside.tables.count, inside.tables.min_elements
        ),
    );
    line(
        "functions",
        if inside.function_names {
            "named, for backtraces"
        } else {
            "not named: backtraces show numbers"
        }
        .to_owned(),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_component_calls_its_imports_adds_no_line_and_steers_no_terminal() {
        let inside = Inside {
            size: 1,
            exports: Vec::new(),
            imports: vec![
                "a:b/c".to_owned(),
                "url=<\u{1b}[2J\nservable   yes>".to_owned(),
            ],
            memories: Default::default(),
            tables: Default::default(),
            data_bytes: 0,
            core_modules: 0,
            function_names: false,
        };
        let text = text("x\u{1b}.wasm", &inside, None, false);
        for line in [
            "component  x\\u{1b}.wasm (",
            "\n           url=<\\u{1b}[2J\\nservable   yes>\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
