//! `inspect`, `check`, `compile`; the cache of compiled components; the compiler's process.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::program::command;
use crate::support::wat::{component, file};
use crate::support::*;

#[test]
fn inspect_says_what_a_component_is() {
    for (guest, generation) in [(FAULTS, "0.2"), (FAULTS_P3, "0.3")] {
        let ended = host(&format!("inspect {}", guest.path().display()));
        assert_eq!(ended.code, Some(0), "{guest}");
        assert_eq!(ended.stderr_text(), "", "{guest}");
        let text = ended.stdout_text();
        let path = guest.path();
        for part in [
            path.to_str().expect("a path"),
            &format!("wasi:http  {generation}"),
            "servable   yes",
            "outbound HTTP, with --allow-outbound (",
            "files, with --dir (",
            "memories   1",
        ] {
            assert!(text.contains(part), "{guest}: no `{part}` in {text}");
        }
    }
}

#[test]
fn inspect_says_the_same_in_json() {
    for (guest, generation) in [(FAULTS, "0.2"), (FAULTS_P3, "0.3")] {
        let ended = host(&format!("inspect --json {}", guest.path().display()));
        assert_eq!(ended.code, Some(0), "{guest}");
        let report: serde_json::Value = serde_json::from_str(&ended.stdout_text()).expect("JSON");
        assert_eq!(report["servable"], true, "{guest}");
        assert_eq!(report["generation"], generation, "{guest}");
        let size = std::fs::metadata(guest.path()).expect("a file").len();
        assert_eq!(report["size"], size, "{guest}");
        assert_eq!(report["memories"]["count"], 1, "{guest}");
        let exports = report["exports"].to_string();
        assert!(exports.contains("wasi:http/"), "{guest}: {exports}");
        assert!(
            report["wants"].to_string().contains("sockets"),
            "{guest}: {report}"
        );
    }
}

#[test]
fn inspect_says_why_a_component_cannot_be_served() {
    let directory = directory();
    let wasm = component(&directory, "module", "(module)");
    let path = wasm.display();
    let ended = host(&format!("inspect {path}"));
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stdout_text(), "");
    assert!(ended.stderr_text().contains("a core module"), "{ended:?}");

    let ended = host(&format!("inspect --json {path}"));
    assert_eq!(ended.code, Some(1));
    let report: serde_json::Value = serde_json::from_str(&ended.stdout_text()).expect("JSON");
    assert_eq!(report["servable"], false);
    let why = report["why_not"].as_str().expect("why");
    assert!(why.contains("a core module"), "{why}");
}

#[test]
fn what_serve_refuses_without_a_flag_inspect_describes_and_calls_not_servable() {
    let directory = directory();
    let handler = r#"(instance $h) (export "wasi:http/incoming-handler@0.2.0" (instance $h))"#;
    let text = format!("(component (core module (memory 4096)) {handler})");
    let wasm = component(&directory, "large", &text);
    let path = wasm.display();
    let ended = host(&format!("inspect {path}"));
    assert_eq!(ended.code, Some(1));
    let said = ended.stdout_text();
    for part in [
        "wasi:http  0.2",
        "servable   no",
        "memories   1 of at least 262144 KiB",
    ] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    let why = ended.stderr_text();
    assert!(
        why.contains("256 MiB") && why.contains("`--memory`"),
        "{why}"
    );

    let ended = host(&format!("inspect --json {path}"));
    assert_eq!(ended.code, Some(1));
    let report: serde_json::Value = serde_json::from_str(&ended.stdout_text()).expect("JSON");
    assert_eq!(report["servable"], false);
    assert!(
        report["why_not"].to_string().contains("`--memory`"),
        "{report}"
    );
    assert_eq!(report["memories"]["min_pages"], 4096);
    let checked = host(&format!("check {path} --no-cache"));
    assert_eq!(checked.stderr_text(), why, "as who would serve it says");
}

#[test]
fn inspect_says_what_is_in_a_component_that_cannot_be_served_at_all() {
    let directory = directory();
    let wasm = component(
        &directory,
        "other",
        r#"(component
             (import "shop:prices/list@1.0.0" (instance (export "f" (func))))
             (core module (memory 3))
             (instance $i) (export "shop:prices/sale@1.0.0" (instance $i)))"#,
    );
    let path = wasm.display();
    let ended = host(&format!("inspect {path}"));
    assert_eq!(ended.code, Some(1));
    let said = ended.stdout_text();
    for part in [
        "servable   no",
        "exports    shop:prices/sale@1.0.0",
        "imports    shop:prices/list@1.0.0",
        "memories   1 of at least 192 KiB",
    ] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    assert!(ended.stderr_text().contains("no HTTP handler"), "{ended:?}");

    let ended = host(&format!("inspect --json {path}"));
    let report: serde_json::Value = serde_json::from_str(&ended.stdout_text()).expect("JSON");
    assert_eq!(report["servable"], false);
    assert_eq!(report["imports"][0], "shop:prices/list@1.0.0");
    assert_eq!(report["memories"]["count"], 1);
}

#[test]
fn check_takes_what_serve_takes_and_serves_nothing() {
    for guest in BOTH_HELLOS {
        let path = guest.path();
        let ended = host(&format!(
            "check {} {}",
            path.display(),
            flag("--cache", &cache())
        ));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(
            ended.stdout_text().contains(&path.display().to_string()),
            "{guest}"
        );
        assert_eq!(ended.stderr_text(), "", "{guest}");
    }
}

/// Compiles a guest ahead of time.
fn precompiled(guest: Guest, directory: &Path) -> PathBuf {
    let output = directory.join(format!("{guest}.cwasm"));
    let ended = host(&format!(
        "compile {} -o {} {}",
        guest.path().display(),
        output.display(),
        flag("--cache", &cache())
    ));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout_text(), output.display().to_string());
    output
}

#[test]
fn compile_takes_only_flags_that_mean_something_to_it() {
    let guest = HELLO.path();
    let guest = guest.display();
    for flag in ["--timeout 1s", "--env A=b", "--allow-precompiled"] {
        let ended = host(&format!("compile {guest} {flag}"));
        assert_eq!(ended.code, Some(2), "{flag}: {ended:?}");
        assert!(ended.stderr_text().contains("unexpected"), "{ended:?}");
    }
    let ended = host(&format!("compile {guest} --no-cache --memory 64KiB"));
    assert_eq!(ended.code, Some(1), "it asks for more: {ended:?}");
    assert!(ended.stderr_text().contains("--memory"), "{ended:?}");
}

#[test]
fn compile_never_replaces_its_own_source_and_does_replace_a_link_to_another_file() {
    let directory = directory();
    let here = directory.path();
    let wasm = std::fs::read(HELLO.path()).expect("a component");
    // Without `-o` the result of one of this name would lie there too.
    let source = here.join("hello.cwasm");
    std::fs::write(&source, &wasm).expect("written");
    std::fs::hard_link(&source, here.join("hard")).expect("linked");
    symlink(&source, here.join("soft")).expect("linked");
    std::fs::create_dir(here.join("sub")).expect("made");
    let outputs = ["hello.cwasm", "sub/../hello.cwasm", "hard", "soft"];
    let outputs = outputs.map(|name| format!("-o {}", here.join(name).display()));
    for output in outputs.iter().map(String::as_str).chain([""]) {
        let ended = host(&format!("compile {} --no-cache {output}", source.display()));
        assert_eq!(ended.code, Some(1), "{output}: {ended:?}");
        let said = ended.stderr_text();
        assert!(said.contains("is the component itself"), "{said}");
        assert!(
            std::fs::read(&source).expect("there") == wasm,
            "{output}: another source"
        );
    }
    let other = here.join("other");
    std::fs::write(&other, "other").expect("written");
    symlink(&other, here.join("link")).expect("linked");
    let ended = host(&format!(
        "compile {} -o {} {}",
        HELLO.path().display(),
        here.join("link").display(),
        flag("--cache", &cache())
    ));
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn what_compile_wrote_is_served_with_the_flag_that_allows_it() {
    let directory = directory();
    for guest in BOTH_HELLOS {
        let artifact = precompiled(guest, directory.path());
        let host = TestHost::serve_file(&artifact, "--allow-precompiled --no-cache");
        assert_eq!(host.get("/").text(), "Hello from WebAssembly!\n", "{guest}");
    }
}

#[test]
fn what_compile_wrote_is_refused_without_the_flag() {
    let directory = directory();
    let artifact = precompiled(HELLO, directory.path());
    let ended = host(&format!("serve {} --addr 127.0.0.1:0", artifact.display()));
    assert_eq!(ended.code, Some(1));
    let said = ended.stderr_text();
    assert!(said.contains("--allow-precompiled"), "what to do: {said}");
}

#[test]
fn a_damaged_artifact_is_refused() {
    let directory = directory();
    let artifact = precompiled(HELLO, directory.path());
    let whole = std::fs::read(&artifact).expect("read");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (name, bytes) in [
        ("flipped", &flipped[..]),
        ("cut", &whole[..whole.len() - 10]),
    ] {
        let path = directory.path().join(format!("{name}.cwasm"));
        std::fs::write(&path, bytes).expect("written");
        let ended = host(&format!(
            "serve {} --addr 127.0.0.1:0 --allow-precompiled",
            path.display()
        ));
        assert_eq!(ended.code, Some(1), "{name}");
        let said = ended.stderr_text();
        assert!(said.contains("host compile"), "{name}: {said}");
    }
    let foreign = file(
        &directory,
        "foreign",
        b"\x7fELF\x02\x01\x01\xc8 of someone else",
    );
    let path = foreign.with_extension("cwasm");
    std::fs::rename(&foreign, &path).expect("renamed");
    let ended = host(&format!(
        "serve {} --addr 127.0.0.1:0 --allow-precompiled",
        path.display()
    ));
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr_text()
            .contains("not written by `host compile`"),
        "{ended:?}"
    );
}

/// The one entry of a cache.
fn entry(cache: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(cache).expect("a cache").flatten();
    let only = entries.next().expect("an entry").path();
    assert_eq!(entries.count(), 0);
    only
}

/// Writing an entry makes a new file.
fn written(entry: &Path) -> u64 {
    std::fs::metadata(entry).expect("an entry").ino()
}

#[test]
fn a_second_start_compiles_nothing() {
    let cache = directory();
    let flags = flag("--cache", cache.path());
    drop(TestHost::serve(HELLO, &flags));
    let entry = entry(cache.path());
    let first = written(&entry);
    let host = TestHost::serve(HELLO, &flags);
    assert_eq!(host.get("/").text(), "Hello from WebAssembly!\n");
    assert_eq!(written(&entry), first);
}

#[test]
fn a_damaged_entry_is_compiled_again_and_never_an_error() {
    let cache = directory();
    let flags = flag("--cache", cache.path());
    drop(TestHost::serve(HELLO, &flags));
    let entry = entry(cache.path());
    let whole = std::fs::read(&entry).expect("read");
    for damage in [0, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[damage] ^= 0x40;
        std::fs::write(&entry, &bytes).expect("written");
        let host = TestHost::serve(HELLO, &flags);
        assert_eq!(host.get("/").text(), "Hello from WebAssembly!\n");
        let now = std::fs::read(&entry).expect("read");
        assert!(now != bytes, "byte {damage} is still wrong");
    }
}

#[test]
fn an_entry_of_another_guest_is_not_used_and_never_an_error() {
    let entries: Vec<(TempDir, PathBuf)> = BOTH_HELLOS
        .map(|guest| {
            let cache = directory();
            drop(TestHost::serve(guest, &flag("--cache", cache.path())));
            let entry = entry(cache.path());
            (cache, entry)
        })
        .into();
    let [(cache, own), (_, foreign)] = &entries[..] else {
        unreachable!("two guests")
    };
    std::fs::copy(foreign, own).expect("copied");
    let host = TestHost::serve(BOTH_HELLOS[0], &flag("--cache", cache.path()));
    assert_eq!(host.get("/").text(), "Hello from WebAssembly!\n");
    host.says("cached component is of another guest");
    let (now, foreign) = [own, foreign]
        .map(|it| std::fs::read(it).expect("read"))
        .into();
    assert!(now != foreign, "it was made anew");
}

#[test]
fn a_cache_that_others_can_write_is_not_used() {
    let cache = directory();
    std::fs::set_permissions(cache.path(), PermissionsExt::from_mode(0o777)).expect("set");
    let host = TestHost::serve(HELLO, &flag("--cache", cache.path()));
    assert_eq!(host.get("/").text(), "Hello from WebAssembly!\n");
    assert_eq!(std::fs::read_dir(cache.path()).expect("read").count(), 0);
}

/// Dear to compile, though it has 75 KB: every loop might be where any of the values comes from.
fn bomb(directory: &TempDir) -> PathBuf {
    const LOCALS: usize = 8_000;
    const LOOPS: usize = 400;
    let counts: String = (0..LOCALS)
        .map(|n| format!("(local.set {n} (i64.add (local.get {n}) (i64.const 1)))"))
        .collect();
    let body = [
        format!("(local {})", "i64 ".repeat(LOCALS)),
        "(loop ".repeat(LOOPS),
        counts,
        "(br_if 0 (i64.eqz (local.get 0))))".repeat(LOOPS),
    ]
    .concat();
    let text = format!(
        r#"(component (core module (func {body}))
           (instance $h) (export "wasi:http/incoming-handler@0.2.0" (instance $h)))"#
    );
    component(directory, "bomb", &text)
}

/// The processes that compile for `parent`.
fn compilers(parent: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).expect("its tasks");
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn assert_is_gone(compiler: u32) {
    eventually("the compiler's end", || {
        let state = std::fs::read_to_string(format!("/proc/{compiler}/stat")).unwrap_or_default();
        // Gone, or dead and waiting for somebody to collect it.
        (state.is_empty() || state.contains(") Z ")).then_some(())
    });
}

#[test]
fn the_compiler_is_a_process_of_its_own_and_ends_with_the_host() {
    let directory = directory();
    let mut command = command();
    command
        .args(["serve", "--no-cache", "--addr", "127.0.0.1:0"])
        .arg(bomb(&directory));
    let program = Program::start(command);
    let compiler = eventually("a compiler", || compilers(program.pid()).first().copied());
    assert!(program.stderr().is_empty(), "nothing half started");
    program.signal(Signal::KILL);
    drop(program);
    assert_is_gone(compiler);
}

/// Each with a value that leaves room for a handler of the usual size.
const CEILINGS: [(&str, &str); 3] = [
    ("--compile-cpu", "2s"),
    ("--compile-timeout", "5s"),
    ("--compile-memory", "384MiB"),
];

#[test]
fn a_component_that_is_too_dear_to_compile_is_refused_at_each_ceiling() {
    let directory = directory();
    let bomb = bomb(&directory);
    for (name, value) in CEILINGS {
        let mut command = command();
        command
            .args(["check", "--no-cache", name, value])
            .arg(&bomb);
        let program = Program::start(command);
        let compiler = eventually("a compiler", || compilers(program.pid()).first().copied());
        let ended = program.ended();
        assert_eq!(ended.code, Some(1), "{name}: {ended:?}");
        assert_eq!(ended.stdout_text(), "", "{name}");
        let [said] = &ended.stderr[..] else {
            panic!("{name}: one message: {:#?}", ended.stderr)
        };
        for part in [bomb.to_str().expect("a path"), name, "and was stopped"] {
            assert!(said.contains(part), "{name}: no `{part}` in {said}");
        }
        assert_is_gone(compiler);
    }
}

#[test]
fn requests_do_not_feel_that_something_is_dear_to_compile() {
    alone();
    let directory = directory();
    std::fs::copy(HELLO.path(), directory.path().join("greet.wasm")).expect("copied");
    let host = TestHost::serve_file(directory.path(), "--compile-timeout 2s");
    bomb(&directory);
    eventually("a compiler", || compilers(host.pid()).first().copied());
    let is_refused = |line: &String| line.contains("`bomb` is not deployed");
    let (began, mut times) = (Instant::now(), Vec::new());
    while !host.stderr().iter().any(is_refused) {
        assert!(began.elapsed() < PATIENCE, "it is never refused");
        let start = Instant::now();
        assert_eq!(host.get("/greet/").status(), 200);
        times.push(start.elapsed());
    }
    times.sort();
    assert!(times.len() > 20, "{times:?}");
    assert!(
        times[times.len() / 2] < Duration::from_millis(100),
        "{times:?}"
    );
    // One of few, or one in a hundred.
    let late = times.iter().filter(|it| **it > Duration::from_millis(500));
    assert!(late.count() <= 1.max(times.len() / 100), "{times:?}");
    assert_eq!(host.get("/greet/").status(), 200);
}

#[test]
fn a_tenant_whose_components_are_dear_to_compile_holds_up_others_by_one_of_them() {
    let directory = directory();
    bomb(&directory);
    std::fs::copy(HELLO.path(), directory.path().join("hello.wasm")).expect("copied");
    let mut text = "admin = \"off\"\n[tenants.loud]\n[tenants.quiet]\n".to_owned();
    let (file, new) = (
        directory.path().join("host.toml"),
        directory.path().join("new"),
    );
    std::fs::write(&file, &text).expect("written");
    let host = TestHost::serve_file(&file, "--no-cache --compile-cpu 2s");
    let mut say = |name: &str, source: &str, tenant: &str| {
        text += &format!(
            "[handlers.{name}]\nsource = \"{source}.wasm\"\ntenant = \"{tenant}\"\nroutes = [\"/{name}/*\"]\n"
        );
        std::fs::write(&new, &text).expect("written");
    };
    let taken_up = |times: usize| {
        std::fs::rename(&new, &file).expect("renamed");
        eventually("the file is taken up", || {
            let said = host.stderr();
            let taken = said.iter().filter(|line| line.contains("is taken up"));
            (taken.count() > times).then_some(())
        });
    };
    for nth in 0..4 {
        say(&format!("dear{nth}"), "bomb", "loud");
    }
    taken_up(1);
    let first = eventually("a compiler", || compilers(host.pid()).first().copied());
    // Its time stands still until somebody else has come.
    let signal = |signal| {
        let first = i32::try_from(first).ok().and_then(Pid::from_raw);
        kill_process(first.expect("a process"), signal).expect("signalled");
    };
    signal(Signal::STOP);
    say("cheap", "hello", "quiet");
    taken_up(2);
    signal(Signal::CONT);
    let deployed = |line: &String| line.contains("`cheap` is deployed");
    let mut most = 0;
    eventually("`cheap`", || {
        most = most.max(compilers(host.pid()).len());
        host.stderr().iter().any(deployed).then_some(())
    });
    // Of the five that there are to compile; two from four cores on.
    assert!((1..=2).contains(&most), "{most} compilers at once");
    let said = host.stderr();
    let before = said.iter().take_while(|line| !deployed(line));
    let refused = before.filter(|line| line.contains("is not deployed"));
    assert!(refused.count() < 2, "{said:#?}");
}

#[test]
fn an_ordinary_component_compiles_under_the_same_ceilings() {
    let ceilings = CEILINGS.map(|(name, value)| format!("{name} {value}"));
    for guest in BOTH_HELLOS {
        let ended = host(&format!(
            "check --no-cache {} {}",
            ceilings.join(" "),
            guest.path().display()
        ));
        assert_eq!(ended.code, Some(0), "{guest}: {ended:?}");
    }
}

#[test]
fn a_compiler_that_has_too_little_memory_to_begin_with_says_so() {
    let ended = host(&format!(
        "check --no-cache --compile-memory 16MiB {}",
        HELLO.path().display()
    ));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = ended.stderr_text();
    assert!(said.contains("--compile-memory"), "{said}");
}

#[test]
fn a_file_may_be_as_large_as_it_says_and_no_larger() {
    let path = HELLO.path();
    let size = std::fs::metadata(&path).expect("a file").len();
    for (allowed, code) in [(size, 0), (size - 1, 1)] {
        let ended = host(&format!(
            "check {} --max-component-size {allowed} {}",
            flag("--cache", &cache()),
            path.display()
        ));
        assert_eq!(ended.code, Some(code), "{ended:?}");
        let is_told = ended.stderr_text().contains("--max-component-size");
        assert_eq!(is_told, code == 1, "{ended:?}");
    }
}
