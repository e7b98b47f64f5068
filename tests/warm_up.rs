//! A request that a handler must answer before it is put in place.

use std::fs;
use std::path::Path;

use crate::directory::{comes_to_say, greeting, version};
use crate::support::*;

/// Puts a component and its manifest into a directory that is served.
fn put(to: &Path, wasm: &[u8], manifest: &str) {
    for (name, bytes) in [("it.toml", manifest.as_bytes()), ("it.wasm", wasm)] {
        let new = to.join(".new");
        fs::write(&new, bytes).expect("written");
        fs::rename(new, to.join(name)).expect("renamed");
    }
}

#[test]
fn one_that_answers_as_its_manifest_says_is_deployed() {
    for guest in BOTH_FAULTS {
        for warm_up in [
            "path = \"/ok\"",
            "path = \"/status/418?a=b\", status = 418",
            "path = \"/read\", method = \"POST\"",
            "path = \"/ok\", method = \"HEAD\"",
            "path = \"/bytes?n=3000000\"",
        ] {
            let files = directory();
            let wasm = fs::read(guest.path()).expect("a component");
            put(files.path(), &wasm, &format!("warm_up = {{ {warm_up} }}"));
            let host = TestHost::serve_file(files.path(), "");
            assert_eq!(host.get("/it/ok").text(), "ok\n", "{guest} {warm_up}");
            host.access_to("/it/ok");
            assert_eq!(host.paths(), ["/it/ok"], "nobody sent the other one");
        }
    }
}

#[test]
fn one_that_does_not_is_refused_and_what_served_stays() {
    for guest in BOTH_FAULTS {
        let wasm = fs::read(guest.path()).expect("a component");
        for (path, why) in [
            (
                "/status/503",
                "`GET /status/503` is answered 503 and not 200",
            ),
            ("/trap", "`GET /trap` fails: wasm trap"),
            ("/trap-mid-body", "`GET /trap-mid-body` fails: wasm trap"),
            ("/never", "`GET /never` is not answered within 500ms"),
            ("/drip?n=100&ms=100", "is not answered within 500ms"),
            ("/error/connection-refused", "fails: "),
        ] {
            let files = directory();
            put(files.path(), &version(1), "");
            let host = TestHost::serve_file(files.path(), "");
            comes_to_say(&host, "/it/", &greeting(1));
            let manifest =
                format!("warm_up = {{ path = \"{path}\" }}\nlimits = {{ timeout = \"500ms\" }}");
            put(files.path(), &wasm, &manifest);
            let said = host.says("its warm-up request");
            for part in [why, "it.wasm", "`it`", "change its `warm_up`"] {
                assert!(said.contains(part), "{guest} {path}: {said}");
            }
            let still = host.get("/it/").text();
            assert_eq!(still.trim_end(), greeting(1).trim_end(), "{guest} {path}");
        }
    }
}

#[test]
fn what_was_ready_before_is_not_asked_again_at_the_next_start() {
    let files = directory();
    let wasm = fs::read(FAULTS.path()).expect("a component");
    put(files.path(), &wasm, "warm_up = { path = \"/say\" }");
    // What is written now may change within the tick of the file's clock, and is not remembered.
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for name in ["it.wasm", "it.toml"] {
        let file = fs::File::options()
            .write(true)
            .open(files.path().join(name));
        file.expect("open").set_modified(long_ago).expect("set");
    }
    let cache = directory();
    let flags = flag("--cache", cache.path());
    let said = |host: TestHost| {
        assert_eq!(host.get("/it/ok").text(), "ok\n");
        let said = host.stop().stderr_text();
        said.contains("to stdout")
    };
    assert!(said(TestHost::serve_file(files.path(), &flags)));
    assert!(!said(TestHost::serve_file(files.path(), &flags)));
    // Another request has not been answered yet.
    fs::write(
        files.path().join("it.toml"),
        "warm_up = { path = \"/say?\" }",
    )
    .expect("written");
    assert!(said(TestHost::serve_file(files.path(), &flags)));
}

#[test]
fn a_deploy_is_refused_with_what_was_answered_and_nothing_changes() {
    let files = directory();
    let socket = files.path().join("admin");
    let flags = format!(
        "{} {}",
        flag("--admin", &socket),
        flag("--state", &files.path().join("state"))
    );
    let serving = TestHost::serve_nothing(&flags);
    let deploy = |guest: Guest, more: &[&str]| {
        let mut command = program::command();
        command
            .arg("deploy")
            .arg(guest.path())
            .args(["--name", "it"]);
        command.arg("--admin").arg(&socket).args(more);
        Program::start(command).ended()
    };
    assert_eq!(deploy(HELLO, &[]).code, Some(0));
    for guest in BOTH_FAULTS {
        let refused = deploy(guest, &["--allow-new-imports", "--warm-up", "/status/503"]);
        assert_eq!(refused.code, Some(1), "{guest}: {refused:?}");
        let said = refused.stderr_text();
        for part in [
            "`GET /status/503` is answered 503 and not 200",
            "the component",
        ] {
            assert!(said.contains(part), "{guest}: {said}");
        }
        assert_eq!(serving.get("/it/").text(), "Hello from WebAssembly!\n");
    }
    let ready = ["--allow-new-imports", "--warm-up", "PUT /status/503=503"];
    assert_eq!(deploy(FAULTS, &ready).code, Some(0));
    assert_eq!(serving.get("/it/ok").text(), "ok\n");
    let shown = host(&format!("show it {}", flag("--admin", &socket)));
    assert!(
        shown.stdout_text().contains("PUT /status/503=503"),
        "{shown:?}"
    );

    // It stays for the next version, until it is taken away.
    assert_eq!(deploy(HELLO, &[]).code, Some(1));
    assert_eq!(deploy(HELLO, &["--warm-up="]).code, Some(0));
    assert_eq!(serving.get("/it/").text(), "Hello from WebAssembly!\n");
    assert_eq!(deploy(HELLO, &["--warm-up=no path"]).code, Some(2));
}

#[test]
fn serve_and_check_ask_what_they_are_told_to() {
    let guest = FAULTS.path();
    let cache = flag("--cache", &cache());
    let check = |more: &str| host(&format!("check {} {cache} {more}", guest.display()));
    assert_eq!(check("--warm-up /ok").code, Some(0));
    for refused in [
        check("--warm-up /ok=204"),
        host(&format!(
            "serve {} --addr 127.0.0.1:0 {cache} --warm-up /ok=204",
            guest.display()
        )),
    ] {
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let said = refused.stderr_text();
        assert!(
            said.contains("`GET /ok` is answered 200 and not 204"),
            "{said}"
        );
        assert!(said.contains("faults.wasm"), "{said}");
    }
}
