//! Files that cannot be served: one message that names the thing and what to do, and nothing half started.

use std::path::Path;

use crate::support::wat::{component, file, started_by};
use crate::support::*;

/// What `host serve` says of a file that it must refuse. `host check` must say the same.
fn refusal(wasm: &Path, flags: &str) -> String {
    let path = wasm.display();
    let served = host(&format!(
        "serve {path} --no-cache --addr 127.0.0.1:0 {flags}"
    ));
    assert_eq!(served.code, Some(1), "{path}: {served:?}");
    assert_eq!(served.stdout_text(), "", "{path}");
    assert_eq!(served.stderr.len(), 1, "one message: {:#?}", served.stderr);
    let message = served.stderr_text();
    assert!(message.starts_with("error: "), "{message}");
    assert!(message.contains(&path.to_string()), "{message}");
    assert!(!message.contains("Serving"), "{message}");

    let checked = host(&format!("check {path} --no-cache {flags}"));
    assert_eq!(checked.code, Some(1), "{path}");
    assert_eq!(checked.stdout_text(), "", "{path}");
    assert_eq!(checked.stderr_text(), message);
    message
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}

const HANDLER: &str = r#"(instance $h) (export "wasi:http/incoming-handler@0.2.0" (instance $h))"#;

#[test]
fn a_file_that_is_not_there() {
    let directory = directory();
    file(&directory, "shop", b"");
    let missing = directory.path().join("shp.wasm");
    let message = refusal(&missing, "");
    assert_says(&message, &["no file", "did you mean", "shop.wasm"]);
    let inspected = host(&format!("inspect {}", missing.display()));
    assert_eq!(inspected.code, Some(1));
    assert_eq!(inspected.stderr_text(), message);
}

#[test]
fn a_directory_in_place_of_a_file() {
    let directory = directory();
    let checked = host(&format!("check {}", directory.path().display()));
    assert_eq!(checked.code, Some(1));
    assert_says(&checked.stderr_text(), &["is a directory", ".wasm"]);
}

#[test]
fn an_empty_file() {
    let directory = directory();
    let wasm = file(&directory, "empty", b"");
    assert_says(&refusal(&wasm, ""), &["is empty", "build"]);
}

#[test]
fn a_component_cut_short() {
    let directory = directory();
    let whole = std::fs::read(FAULTS.path()).expect("a component");
    for length in [3, 7, 8, whole.len() / 2, whole.len() - 1] {
        let wasm = file(&directory, "cut", &whole[..length]);
        let message = refusal(&wasm, "");
        assert!(
            message.contains("cut short") || message.contains("no HTTP handler"),
            "{length}: {message}"
        );
    }
}

#[test]
fn garbage_and_what_else_is_no_webassembly() {
    let directory = directory();
    for (name, bytes, what) in [
        ("page", &b"<!doctype html><title>404</title>"[..], "HTML"),
        ("text", b"(component)", "text"),
        ("archive", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "archive"),
        ("program", b"\x7fELF\x02\x01\x01\x00\x00", "program"),
        ("garbage", b"\xfe\xed\xfa\x11\x00\x99", "not WebAssembly"),
    ] {
        let wasm = file(&directory, name, bytes);
        assert_says(&refusal(&wasm, ""), &["not WebAssembly", what]);
    }
}

#[test]
fn a_damaged_component() {
    let directory = directory();
    let mut bytes = std::fs::read(HELLO.path()).expect("a component");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0xff);
    let wasm = file(&directory, "damaged", &bytes);
    assert_says(&refusal(&wasm, ""), &["at byte"]);
}

#[test]
fn a_core_module() {
    let directory = directory();
    let plain = component(&directory, "plain", "(module)");
    assert_says(&refusal(&plain, ""), &["a core module", "wasm32-wasip2"]);
    let preview1 = component(
        &directory,
        "preview1",
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))))"#,
    );
    assert_says(
        &refusal(&preview1, ""),
        &["wasi_snapshot_preview1", "--adapt"],
    );
}

#[test]
fn a_component_that_handles_no_http() {
    let directory = directory();
    let wasm = component(
        &directory,
        "other",
        r#"(component (instance $i) (export "shop:prices/list@1.0.0" (instance $i)))"#,
    );
    let parts = [
        "no HTTP handler",
        "`shop:prices/list@1.0.0`",
        "wasi:http/incoming-handler@0.2",
    ];
    assert_says(&refusal(&wasm, ""), &parts);
}

#[test]
fn a_command() {
    let directory = directory();
    let wasm = component(
        &directory,
        "command",
        r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#,
    );
    assert_says(
        &refusal(&wasm, ""),
        &["a command", "`wasi:cli/run@0.2.0`", "wasmtime run"],
    );
}

#[test]
fn a_handler_of_a_version_that_was_never_released() {
    let directory = directory();
    let wasm = component(
        &directory,
        "draft",
        r#"(component (instance $i) (export "wasi:http/handler@0.3.0-draft" (instance $i)))"#,
    );
    let message = refusal(&wasm, "");
    assert_says(&message, &["`wasi:http/handler@0.3.0-draft`", "0.2 or 0.3"]);
}

#[test]
fn an_import_that_nobody_provides_with_the_nearest_that_exists() {
    let directory = directory();
    let import = |name: &str| format!(r#"(import "{name}" (instance (export "f" (func))))"#);
    let text = format!(
        "(component {} {} {HANDLER})",
        import("wasi:clocks/wall-klock@0.2.0"),
        import("shop:prices/list@1.0.0")
    );
    let wasm = component(&directory, "imports", &text);
    let parts = [
        "`wasi:clocks/wall-klock@0.2.0`",
        "wall-clock",
        "`shop:prices/list@1.0.0`",
    ];
    assert_says(&refusal(&wasm, ""), &parts);
}

#[test]
fn more_memory_or_tables_than_allowed() {
    let directory = directory();
    let text = |body: &str| format!("(component (core module {body}) {HANDLER})");
    let wasm = component(&directory, "memory", &text("(memory 4096)"));
    assert_says(&refusal(&wasm, ""), &["256 MiB", "128 MiB", "--memory"]);
    let small = component(&directory, "small", &text("(memory 64)"));
    assert_says(
        &refusal(&small, "--memory 1MiB"),
        &["4 MiB", "1 MiB", "--memory"],
    );
    let wasm = component(&directory, "table", &text("(table 20000000 funcref)"));
    assert_says(&refusal(&wasm, ""), &["20000000 elements"]);
    // A module may have a hundred.
    let module = format!("(core module {})", "(table 1 funcref)".repeat(90));
    let tables = format!("(component {} {HANDLER})", module.repeat(46));
    let wasm = component(&directory, "tables", &tables);
    assert_says(&refusal(&wasm, ""), &["4140 tables"]);
}

#[test]
fn a_start_function_that_traps_never_ends_or_eats_memory() {
    let directory = directory();
    let traps = component(
        &directory,
        "traps",
        &started_by("(memory 1)", "unreachable"),
    );
    assert_says(&refusal(&traps, ""), &["start function", "unreachable"]);
    let loops = component(
        &directory,
        "loops",
        &started_by("(memory 1)", "(loop br 0)"),
    );
    assert_says(
        &refusal(&loops, "--cpu 50ms"),
        &["start function", "50ms", "--cpu"],
    );
    let late = "--cpu 10s --timeout 200ms";
    assert_says(&refusal(&loops, late), &["200ms", "--timeout"]);

    let fine = component(&directory, "fine", &started_by("(memory 1)", "nop"));
    let checked = host(&format!("check --no-cache {}", fine.display()));
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[test]
fn the_ceiling_of_memory_is_over_all_memories_and_tables_of_an_instance() {
    let directory = directory();
    let grows = |what: &str| format!("(if (i32.eq (i32.const -1) ({what})) (then unreachable))");
    // 30 MiB, and 1.45 MiB.
    let memory = grows("memory.grow (i32.const 480)");
    let table = grows("table.grow $t (ref.null func) (i32.const 190000)");
    let module = |own: &str, body: &str| {
        format!(
            "(core module $m {own} (func $f {body}) (start $f)) (core instance (instantiate $m))"
        )
    };
    let memories = module("(memory 0)", &memory);
    let tables = module("(table $t 0 funcref)", &table);
    let both = started_by(
        "(memory 0) (table $t 0 funcref)",
        &format!("{memory} {table}"),
    );
    let with = |more: &str| {
        both.replacen(
            "(component",
            &format!("(component (component $c {more}) (instance (instantiate $c))"),
            1,
        )
    };
    for (name, text, ceilings) in [
        ("both", both.clone(), ["31MiB", "33MiB"]),
        ("memories", with(&memories), ["60MiB", "63MiB"]),
        ("tables", with(&tables), ["32MiB", "34MiB"]),
    ] {
        let wasm = component(&directory, name, &text);
        let [low, enough] = ceilings.map(|ceiling| {
            host(&format!(
                "check --no-cache --memory {ceiling} {}",
                wasm.display()
            ))
        });
        assert_eq!(low.code, Some(1), "{name}: {low:?}");
        assert_says(&low.stderr_text(), &["MiB of memory to start", "--memory"]);
        assert_eq!(enough.code, Some(0), "{name}: {enough:?}");
    }
}

#[test]
fn a_place_that_cannot_be_used_is_named_with_what_to_do() {
    let here = directory();
    let file = here.path().join("file");
    std::fs::write(&file, "").expect("written");
    let socket = here.path().join("admin.sock");
    let guest = HELLO.path();
    let serve = format!("serve {} --addr 127.0.0.1:0", guest.display());
    let (admin, cache) = (flag("--admin", &socket), flag("--cache", &cache()));
    let below = file.join("below");
    let nowhere = Path::new("/proc/no-such-place");
    for (words, code, parts) in [
        (
            format!("{admin} {}", flag("--state", &file)),
            2,
            [file.display().to_string(), "name a directory".to_owned()],
        ),
        (
            format!("--keyvalue carts {}", flag("--state", &below)),
            2,
            [file.display().to_string(), "name a directory".to_owned()],
        ),
        (
            format!("{admin} {}", flag("--state", nowhere)),
            1,
            [nowhere.display().to_string(), "`--state`".to_owned()],
        ),
        (
            format!("--scratch 1MiB {cache}"),
            1,
            [nowhere.display().to_string(), "`TMPDIR`".to_owned()],
        ),
    ] {
        let nowhere = nowhere.to_str().expect("a path");
        let refused = host_with_env(&format!("{serve} {words}"), &[("TMPDIR", nowhere)]);
        assert_eq!(refused.code, Some(code), "{words}: {refused:?}");
        for part in parts {
            assert_says(&refused.stderr_text(), &[&part]);
        }
    }
}

#[test]
fn what_is_in_the_way_of_buckets_and_containers_is_named_with_what_to_do() {
    let guest = HELLO.path();
    for (grant, is_file, place) in [
        ("--keyvalue carts", true, "keyvalue"),
        ("--keyvalue carts", false, "keyvalue/file.redb"),
        ("--blobstore pictures", true, "blobs"),
        ("--blobstore pictures", false, "blobs/lock"),
        ("--blobstore pictures", true, "blobs/incoming"),
    ] {
        let state = directory();
        let place = state.path().join(place);
        if is_file {
            std::fs::create_dir_all(place.parent().expect("a parent")).expect("made");
            std::fs::write(&place, "").expect("written");
        } else {
            std::fs::create_dir_all(place.join("something")).expect("made");
        }
        let words = format!(
            "serve {} --addr 127.0.0.1:0 {grant} {}",
            guest.display(),
            flag("--state", state.path())
        );
        let refused = host(&words);
        assert_eq!(refused.code, Some(1), "{words}: {refused:?}");
        let said = refused.stderr_text();
        assert_says(&said, &[&format!("`{}`", place.display()), "`--state`"]);
    }
}
