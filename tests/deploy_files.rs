//! The files of `host/deploy`: each is what its program takes, and says of the host only what is true.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::program::{activated, inheritable, without_settings};
use crate::support::{Connection, Guest, HELLO, Program, TestHost, directory, eventually, skipped};

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
        skipped(&format!(
            "host/deploy where `{program}` should look: `apt-get install {package}`"
        ));
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

/// The panels of the dashboard.
fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&text("grafana/host.json")).expect("JSON");
    dashboard["panels"].as_array().expect("panels").clone()
}

/// The queries of the dashboard.
fn queries() -> Vec<String> {
    let panels = panels();
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
fn the_panels_of_the_dashboard_are_told_apart_and_cover_none_of_each_other() {
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels() {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64()), "the number of `{title}`");
        let place = |side: &str| panel["gridPos"][side].as_u64().expect(side);
        let (x, y) = (place("x"), place("y"));
        assert!(x + place("w") <= 24, "`{title}` is too wide");
        for square in (x..x + place("w")).flat_map(|x| (y..y + place("h")).map(move |y| (x, y))) {
            assert!(taken.insert(square), "`{title}` covers another");
        }
        let Some(targets) = panel["targets"].as_array() else {
            assert_eq!(panel["type"], "row", "`{title}` asks nothing");
            continue;
        };
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "`{title}`");
        let names: BTreeSet<_> = targets.iter().map(|it| it["refId"].as_str()).collect();
        assert_eq!(names.len(), targets.len(), "`{title}`");
    }
}

/// Of no use to look at: most of an address space is room that takes no memory.
const NOT_SHOWN: &str = "process_virtual_memory_bytes";

#[test]
fn every_metric_is_on_the_dashboard_or_in_an_alert() {
    let asked = queries().join("\n") + &text("prometheus/alerts.yml");
    let words: BTreeSet<&str> = asked
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .collect();
    for family in ::host::observe::metrics::names::ALL {
        let is_asked = ["", "_bucket", "_count", "_sum"]
            .iter()
            .any(|ending| words.contains(&*format!("{}{ending}", family.name)));
        assert_eq!(is_asked, family.name != NOT_SHOWN, "{}", family.name);
    }
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

/// systemd passes the socket under the name that its unit has, and reloads by what the unit says.
#[test]
fn the_service_takes_its_socket_by_name_and_is_reloaded_as_its_unit_says() {
    let service = text("systemd/host.service");
    let name = values_of(&text("systemd/host.socket"), "FileDescriptorName=").remove(0);
    let start = values_of(&service, "ExecStart=").remove(0);
    let flags = start.split_once("--addr").expect("an address").1;
    let reload = values_of(&service, "ExecReload=").remove(0);
    assert_eq!(reload, "/bin/kill -HUP $MAINPID");
    assert_eq!(values_of(&service, "Requires="), ["host.socket"]);

    let handlers = directory();
    std::fs::copy(HELLO.path(), handlers.path().join("index.wasm")).expect("copied");
    let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = socket.local_addr().expect("one");
    let passed = [inheritable(socket)];
    let program = activated(&passed, &name);
    let host = TestHost::serve_by(program, handlers.path(), &format!("--addr {flags}"));
    let mut client = Connection::to(address);
    assert_eq!(client.get("/").status(), 200);
    host.signal(Signal::HUP);
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(host.stop().code, Some(0));
}

/// Calls of the kernel that a group of systemd's has, and those of the groups in it.
fn calls_of(groups: &BTreeMap<&str, Vec<&str>>, group: &str) -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    for member in groups.get(group).map_or(&[][..], Vec::as_slice) {
        if member.starts_with('@') {
            calls.extend(calls_of(groups, member));
        } else {
            calls.insert((*member).to_owned());
        }
    }
    calls
}

/// What the unit forbids is nothing that the program does: `strace` counts its calls, from its start over compiling, serving and
/// a reload to its end.
#[test]
fn the_host_makes_no_call_that_its_unit_forbids() {
    let Some(known) = run("systemd-analyze", "systemd", &["syscall-filter"], &[]) else {
        return;
    };
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut group = "";
    for line in known.lines() {
        if !line.starts_with(' ') {
            group = line;
        } else if !line.trim_start().starts_with('#') {
            groups.entry(group).or_default().push(line.trim());
        }
    }
    let filter = values_of(&text("systemd/host.service"), "SystemCallFilter=").remove(0);
    let allowed = calls_of(&groups, &filter);
    assert!(allowed.len() > 200, "{filter}: {allowed:?}");

    let here = directory();
    let counted = here.path().join("calls");
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-qq", "-c", "-o"]).arg(&counted);
    let mut can = Command::new("strace");
    can.args(["-D", "-o", "/dev/null", "true"]);
    if !can.output().is_ok_and(|it| it.status.success()) {
        skipped("the calls that the host makes: `strace` does not start: `apt-get install strace`");
        return;
    }
    strace.arg(env!("CARGO_BIN_EXE_host"));
    let cache = here.path().join("cache");
    let flags = format!("--cache {}", cache.display());
    let host = TestHost::serve_as(without_settings(strace), HELLO, &flags);
    assert_eq!(host.get("/").status(), 200);
    assert_eq!(host.h2().get("/").status(), 200);
    host.signal(Signal::HUP);
    assert_eq!(host.get("/").status(), 200);
    assert_eq!(host.stop().code, Some(0));
    let table = eventually("what strace has counted", || {
        let table = std::fs::read_to_string(&counted).ok()?;
        table.trim_end().ends_with("total").then_some(table)
    });
    let made: BTreeSet<String> = table
        .lines()
        .filter(|line| {
            line.trim_start()
                .starts_with(|first: char| first.is_ascii_digit())
        })
        .filter_map(|line| line.split_whitespace().last())
        .filter(|call| *call != "total")
        .map(str::to_owned)
        .collect();
    assert!(made.contains("accept4"), "{table}");
    let forbidden: Vec<_> = made.difference(&allowed).collect();
    assert!(forbidden.is_empty(), "`{filter}` forbids {forbidden:?}");
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

/// The instructions of a recipe, each with what is said of it on one line.
fn instructions(recipe: &str) -> Vec<(String, String)> {
    let lines = recipe.lines().filter(|line| !line.starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    joined
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(word, rest)| {
            let rest: Vec<_> = rest.split_whitespace().collect();
            (word.to_owned(), rest.join(" "))
        })
        .collect()
}

/// What one instruction says, which is there once.
fn only(instructions: &[(String, String)], word: &str) -> String {
    let mut said = instructions.iter().filter(|(it, _)| it == word);
    let first = said.next().unwrap_or_else(|| panic!("no {word}"));
    assert!(said.next().is_none(), "more than one {word}");
    first.1.clone()
}

/// What the image has in its environment.
fn environment(instructions: &[(String, String)]) -> BTreeMap<String, String> {
    let said = only(instructions, "ENV");
    let pairs = said
        .split(' ')
        .map(|it| it.split_once('=').expect("NAME=value"));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The steps of the build that put something into the image's root, `/out`.
fn installed(instructions: &[(String, String)]) -> Vec<String> {
    let build = only(instructions, "RUN");
    let steps = build
        .split(" && ")
        .filter(|step| step.starts_with("install "));
    steps.map(str::to_owned).collect()
}

#[test]
fn what_the_recipe_of_the_image_says_in_several_places_agrees() {
    let recipe = text("Dockerfile");
    let said = instructions(&recipe);
    let stages = said.iter().filter(|(word, _)| word == "FROM");
    let stages: Vec<&str> = stages.map(|(_, stage)| &**stage).collect();
    let [build, image] = &stages[..] else {
        panic!("{stages:?}");
    };
    // The toolchain that the workspace asks for.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).expect("a manifest");
    let version = values_of(&manifest, "rust-version = ").remove(0);
    let version = version.trim_matches('"');
    assert!(build.starts_with(&format!("rust:{version}-")), "{build}");
    // What was built with one C library runs with the same.
    assert!(build.contains("bookworm") && image.contains("debian12"));
    assert!(image.ends_with(":nonroot"), "{image}");

    let name = build.split_once(" AS ").expect("a name").1;
    let root = format!("--from={name} /out /");
    let taken = said.iter().filter(|(_, it)| it.starts_with("--from="));
    assert_eq!(taken.map(|(_, it)| &**it).collect::<Vec<_>>(), [root]);

    let user = only(&said, "USER");
    let (uid, gid) = user.split_once(':').expect("user and group");
    assert!(uid.parse::<u32>().expect("a number") > 0, "{user}");
    let steps = installed(&said);
    let own = format!("install -d -m 700 -o {uid} -g {gid} ");
    let own = steps.iter().find_map(|step| step.strip_prefix(&*own));
    let own: Vec<_> = own.expect("directories of the user").split(' ').collect();
    let environment = environment(&said);
    for directory in [
        environment["STATE_DIRECTORY"].clone(),
        environment["CACHE_DIRECTORY"].clone(),
        format!("{}/host", environment["XDG_RUNTIME_DIR"]),
    ] {
        assert!(own.contains(&&*format!("/out{directory}")), "{directory}");
    }
    let words =
        |word: &str| -> Vec<String> { serde_json::from_str(&only(&said, word)).expect(word) };
    assert_eq!(words("VOLUME"), [environment["STATE_DIRECTORY"].as_str()]);
    let port = environment["HOST_ADDR"].rsplit(':').next();
    assert_eq!(port, Some(&*only(&said, "EXPOSE")));
    assert_eq!(only(&said, "STOPSIGNAL"), "SIGTERM");

    let program = format!("target/release/host /out{}", words("ENTRYPOINT")[0]);
    assert!(
        steps.contains(&format!("install -D {program}")),
        "{steps:?}"
    );
    let handlers = format!("install -d -m 755 /out{}", words("CMD")[1]);
    assert!(steps.contains(&handlers), "{steps:?}");
    let health = only(&said, "HEALTHCHECK");
    let health = health.split_once("CMD ").expect("a command").1;
    let health: Vec<String> = serde_json::from_str(health).expect("words");
    assert_eq!(health[0], words("ENTRYPOINT")[0]);
    let build = only(&said, "RUN");
    assert!(build.contains("cargo build --release --locked -p host"));
}

/// The last stage has the C library and what a compiler needs of it, and nothing else.
#[test]
fn the_program_needs_no_library_that_the_image_does_not_have() {
    let program = Path::new(env!("CARGO_BIN_EXE_host"));
    let Some(said) = run("ldd", "libc-bin", &[], &[program]) else {
        return;
    };
    let libraries: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(|path| path.rsplit('/').next().unwrap_or(path))
        .collect();
    assert!(libraries.len() > 1, "{said}");
    for library in libraries {
        let is_there = [
            "linux-vdso",
            "ld-linux",
            "libc",
            "libm",
            "libgcc_s",
            "libdl",
            "libpthread",
            "librt",
        ]
        .iter()
        .any(|known| {
            library
                .strip_prefix(known)
                .is_some_and(|it| it.starts_with(['.', '-']))
        });
        assert!(is_there, "{library}");
    }
}

/// The root of the image as the recipe makes it, in a directory, but for its owners.
#[test]
fn in_the_root_of_the_image_the_program_serves_and_its_health_check_says_so() {
    let said = instructions(&text("Dockerfile"));
    let here = directory();
    let root = here.path().join("out");
    let inside = |path: &str| format!("{}{path}", root.display());
    for step in installed(&said) {
        let (words, program): (Vec<_>, Vec<_>) = step
            .split(' ')
            .skip(1)
            .partition(|word| *word != "target/release/host");
        let owners = words.windows(2).filter(|it| ["-o", "-g"].contains(&it[0]));
        let owners: Vec<&str> = owners.flatten().copied().collect();
        let words = words.iter().filter(|word| !owners.contains(word));
        let words = words.map(|word| match word.strip_prefix("/out") {
            Some(path) => inside(path),
            None => (*word).to_owned(),
        });
        let words: Vec<String> = words.collect();
        let target = words.last().expect("a place");
        if program.is_empty() {
            let made = Command::new("install").args(&words).status();
            assert!(made.expect("install").success(), "{step}");
        } else {
            // Large, so not copied.
            let parent = Path::new(target).parent().expect("a directory");
            std::fs::create_dir_all(parent).expect("created");
            std::fs::hard_link(env!("CARGO_BIN_EXE_host"), target).expect("linked");
        }
    }
    let environment = environment(&said);
    let in_the_image = |program: &str| {
        let mut command = without_settings(Command::new("env"));
        for (name, value) in &environment {
            // The port is the machine's to say.
            let value = match &**name {
                "HOST_ADDR" => "127.0.0.1:0".to_owned(),
                _ => inside(value),
            };
            command.arg(format!("{name}={value}"));
        }
        command.arg(inside(program));
        command
    };
    let words =
        |word: &str| -> Vec<String> { serde_json::from_str(&only(&said, word)).expect(word) };
    let (entry, start) = (words("ENTRYPOINT"), words("CMD"));
    let handlers = inside(&start[1]);
    std::fs::copy(HELLO.path(), Path::new(&handlers).join("index.wasm")).expect("copied");
    let health = only(&said, "HEALTHCHECK");
    let health = health.split_once("CMD ").expect("a command").1;
    let health: Vec<String> = serde_json::from_str(health).expect("words");
    let is_healthy = || {
        let mut check = in_the_image(&health[0]);
        check.args(&health[1..]);
        Program::start(check).ended().code == Some(0)
    };
    assert!(!is_healthy(), "before it has begun");

    let mut command = in_the_image(&entry[0]);
    command.arg(&start[0]).arg(&handlers);
    let mut program = Program::start(command);
    let address = eventually("the line that says it serves", || {
        assert_eq!(program.status(), None, "{:#?}", program.stderr());
        program
            .stderr()
            .iter()
            .find_map(|line| crate::support::host::address_in(line))
    });
    assert_eq!(Connection::to(address).get("/").status(), 200);
    assert!(is_healthy());
    let state = inside(&environment["STATE_DIRECTORY"]);
    assert!(
        std::fs::read_dir(state)
            .expect("the state")
            .next()
            .is_some()
    );
    program.signal(Signal::TERM);
    assert_eq!(program.ended().code, Some(0));
    assert!(!is_healthy(), "after its end");
}
