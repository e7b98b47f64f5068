//! What the numbers were measured on.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::contender::Installed;

/// A list in Markdown.
pub(crate) fn facts(installed: &Installed) -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let entry = |file: &str, name: &str| {
        let text = read(file);
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or_else(|| "unknown".into(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let programs = [&installed.wasmtime, &installed.nginx, &installed.gunicorn];
    let programs: Vec<_> = programs.into_iter().flatten().map(String::as_str).collect();
    format!(
        "- {} on {cores} cores, {} of memory, Linux {}; load average before: {}
- host {} at commit {}; {}
- {}
",
        entry("/proc/cpuinfo", "model name"),
        entry("/proc/meminfo", "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or("unknown"),
        env!("CARGO_PKG_VERSION"),
        said("git", &["describe", "--always", "--dirty"]),
        programs.join("; "),
        jiff::Zoned::now().date(),
    )
}

fn said(program: &str, arguments: &[&str]) -> String {
    let told = Command::new(program)
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output();
    let told = told.ok().filter(|told| told.status.success());
    told.map_or_else(
        || "unknown".into(),
        |told| String::from_utf8_lossy(&told.stdout).trim().to_owned(),
    )
}
