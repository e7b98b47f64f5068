//! The files of `host/deploy`: each is what its program takes, and says of the host only what is true.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Guest, HELLO, TestHost, directory};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).expect(name)
}

/// Runs a program that may not be there.
fn run(program: &str, package: &str, arguments: &[&str], files: &[&Path]) -> Option<String> {
    let ran = Command::new(program).args(arguments).args(files).output();
    let Ok(ran) = ran else {
        eprintln!(
            "SKIPPED: nothing is known of host/deploy where `{program}` should look: `apt-get install {package}`"
        );
        return None;
    };
    let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    assert!(ran.status.success(), "{program} {arguments:?}: {said}");
    Some(said)
}

fn promtool(arguments: &[&str], files: &[&Path]) -> Option<String> {
    run("promtool", "prometheus", arguments, files)
}

/// What is said of a key, at the ends of lines.
fn values_of(text: &str, key: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim_start);
    let values = lines.filter_map(|line| line.trim_start_matches("- ").strip_prefix(key));
    values.map(|value| value.trim().to_owned()).collect()
}

#[test]
fn the_alerts_are_rules_that_do_what_their_tests_say() {
    let rules = file("prometheus/alerts.yml");
    promtool(&["check", "rules"], &[&rules]);
    promtool(&["test", "rules"], &[&file("prometheus/alerts_test.yml")]);
}

#[test]
fn every_alert_has_a_test() {
    let alerts = values_of(&text("prometheus/alerts.yml"), "alert:");
    let tested = values_of(&text("prometheus/alerts_test.yml"), "alertname:");
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(tested.contains(&alert), "`{alert}` has no test");
    }
}

#[test]
fn prometheus_takes_the_example_of_its_settings() {
    let here = directory();
    let token = here.path().join("token");
    std::fs::write(&token, "secret").expect("written");
    let settings = text("prometheus/prometheus.yml");
    let (given, own) = ("/etc/prometheus/host.token", token.display().to_string());
    assert!(settings.contains(given));
    let path = here.path().join("prometheus.yml");
    std::fs::write(&path, settings.replace(given, &own)).expect("written");
    std::fs::copy(
        file("prometheus/alerts.yml"),
        here.path().join("alerts.yml"),
    )
    .expect("copied");
    promtool(&["check", "config"], &[&path]);
}

/// The queries of the dashboard.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&text("grafana/host.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    targets
        .map(|target| {
            target["expr"]
                .as_str()
                .expect("a query")
                .replace("$__rate_interval", "5m")
        })
        .collect()
}

#[test]
fn the_queries_of_the_dashboard_are_what_prometheus_takes() {
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (nth, query) in queries().iter().enumerate() {
        let _ = write!(
            rules,
            "  - record: panel:{nth}\n    expr: {}\n",
            Value::from(query.as_str())
        );
    }
    assert!(rules.len() > 2_000, "{rules}");
    let here = directory();
    let path = here.path().join("rules.yml");
    std::fs::write(&path, rules).expect("written");
    promtool(&["check", "rules"], &[&path]);
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_and_labels_that_there_are() {
    let table = std::fs::read_to_string(file("../METRICS.md")).expect("the table of metrics");
    let known: BTreeSet<&str> = table.split('`').skip(1).step_by(2).collect();
    let alerts = text("prometheus/alerts.yml");
    let asked = queries().join("\n") + &alerts;
    let words = asked.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let mut seen = BTreeSet::new();
    for word in words {
        let is_ours = ["http_", "host_", "process_", "error_type"]
            .iter()
            .any(|beginning| word.starts_with(beginning));
        if !is_ours {
            continue;
        }
        let base = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|ending| word.strip_suffix(ending))
            .unwrap_or(word);
        assert!(
            known.contains(word) || known.contains(base),
            "METRICS.md knows no `{word}`"
        );
        seen.insert(word);
    }
    assert!(seen.len() > 25, "{seen:?}");
}

/// The units in a directory of their own, with the program that was built.
fn units() -> tempfile::TempDir {
    let here = directory();
    for name in ["host.service", "host.socket"] {
        let unit = text(&format!("systemd/{name}"));
        let unit = unit.replace("/usr/local/bin/host", env!("CARGO_BIN_EXE_host"));
        std::fs::write(here.path().join(name), unit).expect("written");
    }
    here
}

#[test]
fn systemd_takes_the_units_and_finds_little_that_they_let_through() {
    let units = units();
    let (service, socket) = (
        units.path().join("host.service"),
        units.path().join("host.socket"),
    );
    let systemd =
        |arguments: &[&str], files: &[&Path]| run("systemd-analyze", "systemd", arguments, files);
    if let Some(said) = systemd(&["verify", "--man=no"], &[&service, &socket]) {
        let of_ours: Vec<_> = said.lines().filter(|line| line.contains("host.")).collect();
        assert!(of_ours.is_empty(), "{of_ours:#?}");
    }
    // 0 to 100 of what systemd calls exposure; a service without any of it has 96.
    systemd(
        &["security", "--offline=true", "--threshold=20"],
        &[&service],
    );
}

/// Starts a host with the words of a file, on a free port and with a directory of ours in the place of theirs.
fn serves_as_said(words: &[String], theirs: &str) {
    let here = directory();
    let guest: Guest = HELLO;
    std::fs::copy(guest.path(), here.path().join("index.wasm")).expect("copied");
    let at = words
        .iter()
        .position(|word| word == "serve")
        .expect("serve");
    assert_eq!(words[at + 1], theirs);
    let mut flags: Vec<&str> = words[at + 2..].iter().map(String::as_str).collect();
    // Which socket is the machine's to say.
    if let Some(at) = flags.iter().position(|flag| *flag == "--addr") {
        flags.drain(at..at + 2);
    }
    let host = TestHost::serve_file(here.path(), &flags.join(" "));
    assert_eq!(host.get("/").status(), 200);
}

#[test]
fn the_service_starts_a_host_that_serves_its_directory() {
    let unit = text("systemd/host.service");
    let start = values_of(&unit, "ExecStart=").remove(0);
    let words: Vec<String> = start.split_whitespace().map(str::to_owned).collect();
    serves_as_said(&words, "/etc/host/handlers");
}

#[test]
fn the_image_is_made_of_files_that_there_are_and_starts_a_host_that_serves_its_directory() {
    let recipe = text("Dockerfile");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let copies = values_of(&recipe, "COPY ");
    let copies = copies.iter().filter(|copy| !copy.starts_with("--from"));
    let mut seen = 0;
    for copy in copies {
        let words: Vec<&str> = copy.split_whitespace().collect();
        for source in &words[..words.len() - 1] {
            assert!(workspace.join(source).exists(), "there is no `{source}`");
            seen += 1;
        }
    }
    assert!(seen > 4, "{seen}");
    // What the workspace is made of is in the image, or its build fails.
    let manifest = std::fs::read_to_string(workspace.join("Cargo.toml")).expect("a manifest");
    assert!(manifest.contains("guests/*"));
    let words = |key: &str| -> Vec<String> {
        let said = values_of(&recipe, key).remove(0);
        serde_json::from_str(&said).expect(key)
    };
    let command = [words("ENTRYPOINT"), words("CMD ")].concat();
    serves_as_said(&command, "/handlers");
}
