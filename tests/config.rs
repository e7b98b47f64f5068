//! The file of a whole host: `check` and `schema`.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::*;

/// A directory with a host's file, and the file.
fn written(text: &str) -> (TempDir, PathBuf) {
    let directory = directory();
    let path = directory.path().join("host.toml");
    std::fs::write(&path, text).expect("written");
    (directory, path)
}

fn check(text: &str) -> Ended {
    let (_directory, path) = written(text);
    host(&format!("check {}", path.display()))
}

#[test]
fn a_file_without_mistakes_is_one_line() {
    let (directory, path) = written(
        r#"
[handlers.hello]
source = "hello.wasm"
routes = ["example.com/*", "/hello"]

[[routes]]
path = "/"
respond = { body = "hi" }
"#,
    );
    std::fs::copy(HELLO.path(), directory.path().join("hello.wasm")).expect("copied");
    let checked = host(&format!("check {}", path.display()));
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let line = format!("{}: no mistakes, 1 handler, 3 routes", path.display());
    assert_eq!(checked.stdout, [line]);
    assert_eq!(checked.stderr_text(), "");
}

#[test]
fn what_is_in_the_way_of_a_door_is_a_mistake_of_its_line() {
    let (directory, path) = written(
        r#"[listeners.nowhere]
socket = "none/http.sock"
[listeners.file]
socket = "host.toml"
[admin]
socket = "plain"
"#,
    );
    std::fs::write(directory.path().join("plain"), "").expect("written");
    let checked = host(&format!("check {}", path.display()));
    assert_eq!(checked.code, Some(78), "{checked:?}");
    let said = checked.stderr_text();
    for part in [
        "make it first",
        "host.toml` is there and",
        "plain` is there and is no socket",
    ] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
}

#[test]
fn a_place_that_a_start_makes_is_no_mistake() {
    let checked = check(
        r#"[listeners.here]
socket = "run/http.sock"
[admin]
socket = "run/host/admin.sock"
"#,
    );
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[test]
fn every_mistake_comes_out_in_one_run_under_its_line() {
    let (directory, path) = written(
        r#"[listen]
adress = "127.0.0.1:8080"
idle_timeout = "60 parsecs"

[handlers.shop]
source = "shop.wasm"
tenant = "acme"
routes = ["/shop/*"]
env = { TOKEN = "${NO_SUCH_VARIABLE}" }
"#,
    );
    std::fs::write(directory.path().join("shop.wasm"), "").expect("written");
    let checked = host(&format!("check {}", path.display()));
    assert_eq!(checked.code, Some(78), "{checked:?}");
    assert_eq!(checked.stdout_text(), "");
    let here = format!("{}/", directory.path().display());
    let said = checked.stderr_text().replace(&here, "");
    let expected = r#"
error: no key `adress` here: did you mean `address`?
 --> host.toml:2:1
  |
2 | adress = "127.0.0.1:8080"
  | ^^^^^^

error: `idle_timeout`: not a duration: write `30s`, `500ms`, `2m` or a number of seconds
 --> host.toml:3:16
  |
3 | idle_timeout = "60 parsecs"
  |                ^^^^^^^^^^^^

error: `source`: `shop.wasm`: the file is empty: build the component again
 --> host.toml:6:10
  |
6 | source = "shop.wasm"
  |          ^^^^^^^^^^^

error: `tenant`: no tenant `acme`: write a table `[tenants.NAME]` for it
 --> host.toml:7:10
  |
7 | tenant = "acme"
  |          ^^^^^^

error: the variable `NO_SUCH_VARIABLE` is not set: set it for the host
 --> host.toml:9:18
  |
9 | env = { TOKEN = "${NO_SUCH_VARIABLE}" }
  |                  ^^^^^^^^^^^^^^^^^^^

`host.toml` has 5 mistakes"#;
    assert_eq!(said.trim_end(), expected.trim_start());
}

#[test]
fn a_component_that_cannot_be_served_is_a_mistake_where_it_is_named() {
    let handler = |source: &str| {
        format!(
            "[handlers.a]\nsource = \"{source}\"\nroutes = [\"/\"]\nlimits = {{ memory = \"64KiB\" }}\n"
        )
    };
    let hello = HELLO.path().display().to_string();
    for (source, hint) in [
        ("missing.wasm", "no file"),
        (".", "is a directory"),
        ("host.toml", "not WebAssembly"),
        (&hello, "raise `--memory`"),
    ] {
        let checked = check(&handler(source));
        assert_eq!(checked.code, Some(78), "{checked:?}");
        let said = checked.stderr_text();
        assert!(said.contains(hint) && said.contains(":2:10"), "{said}");
        assert!(said.contains("has 1 mistake"), "{said}");
    }
}

#[test]
fn a_file_that_is_not_there_or_no_text_is_a_bad_configuration() {
    let directory = directory();
    let missing = directory.path().join("none.toml");
    let (_other, binary) = written("");
    std::fs::write(&binary, b"a = \"\xff\"").expect("written");
    for (path, hint) in [(missing, "cannot be read"), (binary, "not UTF-8 at byte 5")] {
        let checked = host(&format!("check {}", path.display()));
        assert_eq!(checked.code, Some(78), "{checked:?}");
        let said = checked.stderr_text();
        assert!(
            said.contains(hint) && said.contains(&path.display().to_string()),
            "{said}"
        );
    }
}

#[test]
fn a_file_of_nothing_but_mistakes_is_not_shown_in_full() {
    let checked = check(&"[[routes]]\nx = 1\n".repeat(20_000));
    assert_eq!(checked.code, Some(78));
    let said = checked.stderr_text();
    assert_eq!(said.matches("error: ").count(), 100);
    assert!(said.contains("that are not shown") && said.len() < 100_000);
}

#[test]
fn a_secret_is_not_printed() {
    let text = "[admin]\naddress = \":9\"\ntoken = \"hunter2\"\n[handlers.a]\nenv = { A = \"hunter2\", B = 1 }\n";
    let checked = check(text);
    assert_eq!(checked.code, Some(78));
    assert!(!checked.stderr_text().contains("hunter2"), "{checked:?}");
}

#[test]
fn grants_that_cannot_be_meant_are_mistakes_where_they_are_written() {
    let checked = check(
        r#"[handlers.a]
source = "a.wasm"
routes = ["/"]
env = { NUL = "a\u0000b", "A=B" = "" }
blobstore = { box = { max_object = "2MiB", max_bytes = "1MiB" } }
keyvalue = { carts = { max_value = "2KiB", max_bytes = "1KiB" } }
outbound = { allow = [], networks = ["10.0.0.0/8"] }
"#,
    );
    assert_eq!(checked.code, Some(78), "{checked:?}");
    let said = checked.stderr_text();
    for (line, mistake) in [
        (4, "`NUL`: a value with a NUL"),
        (4, "not the name of a variable"),
        (5, "`max_object`: nothing of that size fits"),
        (6, "`max_value`: nothing of that size fits"),
        (7, "`networks`: it is for destinations that `allow` allows"),
    ] {
        let (_, below) = said.split_once(mistake).expect(mistake);
        let place = below.lines().nth(1).unwrap_or_default();
        assert!(place.contains(&format!("host.toml:{line}:")), "{said}");
    }
}

#[test]
fn a_handler_is_granted_so_many_destinations_and_networks_one_by_one_and_no_more() {
    let list = |one: &str| vec![format!("\"{one}\""); 1_001].join(", ");
    let checked = check(&format!(
        "[handlers.a]\nsource = \"a.wasm\"\nroutes = [\"/\"]\n[handlers.a.outbound]\nallow = [{}]\nnetworks = [{}]\n",
        list("https://api.example.com"),
        list("10.0.0.0/8")
    ));
    assert_eq!(checked.code, Some(78), "{checked:?}");
    let said = checked.stderr_text();
    for mistake in [
        "`allow`: 1001 are more than can be: write at most 1000",
        "`networks`: 1001 are more than can be: write at most 1000",
    ] {
        assert!(said.contains(mistake), "{mistake}: {said}");
    }
}

#[test]
fn a_variable_that_is_kept_in_a_file_has_no_nul_either() {
    let (directory, file) = written("a\0b");
    for (flag, code) in [("--env-from", 2), ("--config-from", 0)] {
        let guest = HELLO.path();
        let refused = host(&format!(
            "check {} --no-cache {flag} KEY={}",
            guest.display(),
            file.display()
        ));
        assert_eq!(refused.code, Some(code), "{refused:?}");
        let is_told = refused.stderr_text().contains("with a NUL");
        assert_eq!(is_told, code == 2, "{refused:?}");
    }
    drop(directory);
}

#[test]
fn the_schema_is_json_with_a_line_for_each_key() {
    for (words, key) in [("schema", "handlers"), ("schema --manifest", "routes")] {
        let printed = host(words);
        assert_eq!(printed.code, Some(0), "{printed:?}");
        assert_eq!(printed.stderr_text(), "");
        let schema: serde_json::Value = serde_json::from_str(&printed.stdout_text()).expect("JSON");
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        let description = &schema["properties"][key]["description"];
        assert!(
            description.as_str().is_some_and(|text| text.len() > 10),
            "{key}"
        );
    }
}
