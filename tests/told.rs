//! What a guest is told: `wasi:config` and its environment, from manifests, flags, files and the host's environment; and
//! that what is secret of it is seen by nobody else.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::operator::{OPERATOR, Operator};
use crate::support::program::command;
use crate::support::*;

#[test]
fn a_guest_reads_its_configuration_by_each_of_the_names_that_are_in_use() {
    let host = TestHost::serve(
        PROBE,
        "--config greeting=hello --config sum=1+1=2 --config empty=",
    );
    for by in ["candidate", "draft", "spin", "runtime"] {
        let get = |key: &str| host.get(&format!("/config?key={key}&by={by}")).text();
        assert_eq!(get("greeting"), "hello\n", "{by}");
        assert_eq!(get("sum"), "1+1=2\n", "{by}");
        assert_eq!(get("empty"), "\n", "{by}");
        assert_eq!(get("other"), "none\n", "{by}");
        let all = host.get(&format!("/config-all?by={by}")).text();
        assert_eq!(all, "greeting=hello\nsum=1+1=2\nempty=\n", "{by}");
    }
}

#[test]
fn a_guest_that_was_told_nothing_sees_nothing() {
    let host = TestHost::serve_with(&[("GREETING", "hello")], &PROBE.path(), "");
    assert_eq!(host.get("/config?key=greeting").text(), "none\n");
    assert_eq!(host.get("/config-all").text(), "");
    assert_eq!(host.get("/env?name=GREETING").text(), "none\n");
}

#[test]
fn the_examples_answer_with_what_they_were_told() {
    let own = [("GREETING_OF_HOST", "of the host")];
    let flags = "--config greeting=hello --env FAREWELL=bye --env GREETING_OF_HOST";
    for guest in BOTH_CONFIGS {
        let host = TestHost::serve_with(&own, &guest.path(), flags);
        for (target, status, text) in [
            ("/greeting", 200, "hello\n"),
            ("/farewell", 200, "bye\n"),
            ("/greeting_of_host", 200, "of the host\n"),
            ("/other", 404, "nothing was said of other\n"),
            (
                "/",
                200,
                "config greeting\nenv FAREWELL\nenv GREETING_OF_HOST\n",
            ),
        ] {
            let reply = host.get(target);
            let seen = (reply.status(), reply.text());
            assert_eq!(seen, (status, text.to_owned()), "{guest}");
        }
    }
}

#[test]
fn flags_that_name_nothing_are_refused() {
    let wasm = PROBE.path();
    for (flag, hint) in [
        ("--config greeting", "write `NAME=VALUE`"),
        ("--config =hello", "write `NAME=VALUE`"),
        ("--env NO_SUCH_VARIABLE", "no variable `NO_SUCH_VARIABLE`"),
        ("--env-from KEY", "write `NAME=FILE`"),
        (
            "--config-from key=/no/such/file",
            "`/no/such/file` cannot be read",
        ),
    ] {
        let refused = host(&format!("serve {} {flag}", wasm.display()));
        assert_eq!(refused.code, Some(2), "{flag}: {refused:?}");
        let said = refused.stderr_text();
        assert!(said.contains(hint), "{flag}: {said}");
    }
}

#[test]
fn what_is_wrong_with_a_flag_is_said_without_the_secret_in_its_value() {
    let guest = PROBE.path();
    for (words, flag, value, hint) in [
        (
            "serve",
            "--keyvalue",
            "carts=redis://:hunter2@host:port",
            "not the URL of a Redis",
        ),
        (
            "check",
            "--keyvalue",
            "carts=http://:hunter2@host",
            "no store: write `NAME`",
        ),
        (
            "dev",
            "--keyvalue",
            "redis://:hunter2@host",
            "write `NAME`, `NAME=memory`",
        ),
        (
            "serve",
            "--allow-outbound",
            "https://me:hunter2@api.example.com",
            "`***@api.example.com` names a user, or a password",
        ),
        (
            "dev",
            "--allow-outbound",
            "me:hunter2@api.example.com",
            "`***@api.example.com` is no destination",
        ),
        (
            "check",
            "--allow-outbound",
            "https://api.example.com/?key=hunter2",
            "leave the rest out",
        ),
        (
            "serve",
            "--allow-socket",
            "tcp://me:hunter2@db.example.com:5432",
            "write `tcp://db.example.com:5432`",
        ),
        ("serve", "--env", "=hunter2", "write `NAME=VALUE`"),
        ("serve", "--config", "=hunter2", "write `NAME=VALUE`"),
        ("serve", "--env-from", "=hunter2", "write `NAME=FILE`"),
        ("deploy", "--env", "=hunter2", "write `NAME=VALUE`"),
    ] {
        let refused = host(&format!("{words} {} {flag} {value}", guest.display()));
        assert_eq!(refused.code, Some(2), "{flag} {value}: {refused:?}");
        let said = refused.stderr_text() + &refused.stdout_text();
        assert!(said.contains(flag) && said.contains(hint), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn the_url_of_a_store_where_its_name_should_be_is_a_mistake_that_does_not_quote_it() {
    let site = site(&[(
        "host.toml",
        r#"
[handlers.shop]
source = "shop.wasm"
routes = ["/*"]
[handlers.shop.keyvalue]
one = "redis://:sesame@host"
two = { store = "redis://:sesame@host" }
three = "${URL}"
"#,
    )]);
    let words = format!("check {}", site.path().join("host.toml").display());
    let checked = host_with_env(&words, &[("URL", "redis://:sesame@host")]);
    assert_eq!(checked.code, Some(78), "{checked:?}");
    let said = checked.stderr_text() + &checked.stdout_text();
    assert_eq!(said.matches("table `[stores.NAME]`").count(), 3, "{said}");
    assert!(!said.contains("sesame"), "{said}");
}

#[test]
fn a_password_in_a_destination_is_a_mistake_that_does_not_quote_it() {
    let site = site(&[(
        "host.toml",
        r#"
[handlers.shop]
source = "shop.wasm"
routes = ["/*"]
sockets = ["tcp://me:sesame@db.example.com:5432"]
[handlers.shop.outbound]
allow = [
    "https://me:sesame@api.example.com",
    { to = "https://me:sesame@example.com" },
    "https://example.com/?key=sesame",
    "${URL}",
]
"#,
    )]);
    let words = format!("check {}", site.path().join("host.toml").display());
    let checked = host_with_env(&words, &[("URL", "https://me:sesame@example.com")]);
    assert_eq!(checked.code, Some(78), "{checked:?}");
    let said = checked.stderr_text() + &checked.stdout_text();
    assert_eq!(said.matches("a user, or a password").count(), 3, "{said}");
    assert!(said.contains("leave the rest out"), "{said}");
    assert!(said.contains("write `tcp://db.example.com:5432`"), "{said}");
    assert!(!said.contains("sesame"), "{said}");
}

/// A directory with the probe in it, and whatever else.
fn site(files: &[(&str, &str)]) -> tempfile::TempDir {
    let site = directory();
    fs::copy(PROBE.path(), site.path().join("shop.wasm")).expect("copied");
    for (name, text) in files {
        fs::write(site.path().join(name), text).expect("written");
    }
    site
}

#[test]
fn a_manifest_and_the_file_of_a_host_tell_a_guest_the_same() {
    let told = r#"
greeting = "hello"
host = "${OF_HOST}"
token = { from_file = "token" }
other = { from_env = "OF_HOST" }
"#;
    let manifest = site(&[
        ("token", "hunter2\n"),
        ("shop.toml", &format!("[config]{told}")),
    ]);
    let whole = site(&[("token", "hunter2\n")]);
    let file = whole.path().join("host.toml");
    let handler = "[handlers.shop]\nsource = \"shop.wasm\"\nroutes = [{ path = \"/shop/*\", strip_prefix = true }]\n";
    let text = format!("admin = \"off\"\n{handler}[handlers.shop.config]{told}");
    fs::write(&file, text).expect("written");
    for subject in [manifest.path(), &file] {
        let host = TestHost::serve_with(&[("OF_HOST", "here")], subject, "");
        let all = host.get("/shop/config-all").text();
        assert_eq!(
            all,
            "greeting=hello\nhost=here\nother=here\ntoken=hunter2\n"
        );
    }
}

#[test]
fn flags_tell_each_handler_of_a_directory_and_its_manifest_has_the_last_word() {
    let site = site(&[("shop.toml", "[config]\ngreeting = \"own\"")]);
    let host = TestHost::serve_file(site.path(), "--config greeting=every --config more=every");
    assert_eq!(
        host.get("/shop/config-all").text(),
        "more=every\ngreeting=own\n"
    );
}

#[test]
fn every_mistake_of_a_configuration_comes_out_in_one_run_and_no_value_with_it() {
    let site = site(&[(
        "host.toml",
        r#"
[tenants.acme]
coarse_clocks = "2s"
[handlers.shop]
source = "shop.wasm"
routes = ["/*"]
[handlers.shop.config]
number = 7
"" = "sesame"
gone = { from_file = "gone" }
two = { from_env = "A", from_file = "B" }
unset = { from_env = "NO_SUCH_VARIABLE" }
"#,
    )]);
    let file = site.path().join("host.toml");
    let checked = host(&format!("check {}", file.display()));
    assert_eq!(checked.code, Some(78), "{checked:?}");
    let said = checked.stderr_text() + &checked.stdout_text();
    for mistake in [
        "write `1s` or less",
        "a number, not a text",
        "not the name of a value",
        "cannot be read",
        "write one of `from_env`, `from_file` and `from_credential`",
        "`NO_SUCH_VARIABLE` is not set",
    ] {
        assert!(said.contains(mistake), "{mistake}: {said}");
    }
    assert!(!said.contains("sesame"), "{said}");
}

#[test]
fn a_secret_that_changes_reaches_new_instances_without_a_redeploy() {
    let secrets = directory();
    let file = secrets.path().join("token");
    fs::write(&file, "old\n").expect("written");
    let shown = file.display();
    let told = format!("--env-from TOKEN={shown} --config-from token={shown}");
    // One instance after another, one used again and again, one that several requests share.
    for (guest, reuse) in [
        (PROBE, ""),
        (
            PROBE,
            " --max-instance-reuse-count 100000 --idle-instance-timeout 1h",
        ),
        (
            PROBE_P3,
            " --max-instance-reuse-count 100000 --idle-instance-timeout 1h",
        ),
        (
            PROBE_P3,
            " --max-instance-reuse-count 100000 --idle-instance-timeout 1h --max-instance-concurrent-reuse-count 8",
        ),
    ] {
        fs::write(&file, "old\n").expect("written");
        let host = TestHost::serve(guest, &format!("{told}{reuse}"));
        let token = || host.get("/env?name=TOKEN").text();
        assert_eq!(token(), "old\n", "{guest}{reuse}");

        let new = secrets.path().join("new");
        fs::write(&new, "new\n").expect("written");
        fs::rename(&new, &file).expect("renamed");
        let changed = Instant::now();
        eventually("the new secret", || (token() == "new\n").then_some(()));
        // A second, and what a machine under load adds.
        assert!(
            changed.elapsed() < Duration::from_secs(10),
            "{guest}{reuse}"
        );
        if guest == PROBE {
            assert_eq!(host.get("/config?key=token").text(), "new\n");
        }

        fs::remove_file(&file).expect("removed");
        eventually("that it is gone", || {
            assert_eq!(token(), "new\n", "what is gone stays as it was");
            let said = host.stderr();
            let is_told = said.iter().any(|line| line.contains("stays as it was"));
            is_told.then_some(())
        });
    }
}

/// Everything under a directory that holds these bytes.
fn holding(directory: &Path, bytes: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            holding(&path, bytes, found);
        } else if fs::read(&path).is_ok_and(|all| all.windows(bytes.len()).any(|it| it == bytes)) {
            found.push(path.display().to_string());
        }
    }
}

const SECRETS: [&str; 4] = [
    "sesame-of-a-file",
    "sesame-of-a-variable",
    "sesame-of-a-credential",
    "sesame-that-is-new",
];

#[test]
fn no_secret_is_in_anything_that_the_host_writes() {
    let site = site(&[("operator", OPERATOR)]);
    let (kept, state) = (directory(), site.path().join("state"));
    fs::write(kept.path().join("token"), SECRETS[0]).expect("written");
    fs::write(kept.path().join("credential"), SECRETS[2]).expect("written");
    let token = kept.path().join("token");
    let text = |more: &str| {
        format!(
            r#"
[listen]
access_log = "json"
[log]
file = "host.log"
access_log_file = "access.log"
[state]
directory = "state"
[admin]
address = "127.0.0.1:0"
token = {{ from_file = "operator" }}
[handlers.shop]
source = "shop.wasm"
routes = ["/*"]
{more}
env = {{ TOKEN = {{ from_file = "{0}" }}, VARIABLE = {{ from_env = "SESAME" }} }}
[handlers.shop.config]
token = {{ from_file = "{0}" }}
variable = "${{SESAME}}"
credential = {{ from_credential = "credential" }}
"#,
            token.display()
        )
    };
    let file = site.path().join("host.toml");
    fs::write(&file, text("")).expect("written");
    let environment = [
        ("SESAME", SECRETS[1]),
        (
            "CREDENTIALS_DIRECTORY",
            kept.path().to_str().expect("UTF-8"),
        ),
        ("RUST_BACKTRACE", "1"),
        ("RUST_LOG", "trace"),
    ];
    let host = TestHost::serve_with(&environment, &file, "");
    for (key, value) in [("token", 0), ("variable", 1), ("credential", 2)] {
        let told = host.get(&format!("/config?key={key}")).text();
        assert_eq!(told.trim(), SECRETS[value], "it is told the guest");
    }
    assert_eq!(host.get("/trap").status(), 500);
    fs::write(&token, SECRETS[3]).expect("written");
    eventually("the new secret", || {
        (host.get("/env?name=TOKEN").text().trim() == SECRETS[3]).then_some(())
    });
    // A redeploy with other limits, and a file that is wrong where a secret is near.
    fs::write(&file, text("limits = { timeout = \"7s\" }")).expect("written");
    let operator = Operator::of(&host);
    eventually("the new limits", || {
        let shown = operator.get("/handlers/shop", OPERATOR).text();
        shown.contains("7s").then_some(())
    });
    fs::write(&file, text("env = 1\nconfig = \"x\"")).expect("written");
    eventually("the mistakes", || {
        let log = fs::read_to_string(site.path().join("host.log")).unwrap_or_default();
        log.contains("the same key again").then_some(())
    });
    fs::remove_file(&token).expect("removed");
    eventually("that it is gone", || {
        host.get("/env?name=TOKEN");
        let log = fs::read_to_string(site.path().join("host.log")).unwrap_or_default();
        log.contains("stays as it was").then_some(())
    });

    let mut seen: Vec<String> = Vec::new();
    for target in [
        "/handlers",
        "/handlers/shop",
        "/audit",
        "/metrics",
        "/openapi.json",
        "/livez",
    ] {
        seen.push(operator.get(target, OPERATOR).text());
    }
    let door = operator.0.to_string();
    for words in ["show shop --json", "show shop", "list --json"] {
        let mut command = command();
        command.env("HOST_ADMIN_TOKEN_FILE", site.path().join("operator"));
        command.args(words.split(' ')).args(["--admin", &door]);
        let said = Program::start(command).ended();
        assert_eq!(said.code, Some(0), "{said:?}");
        seen.push(said.stdout_text() + &said.stderr_text());
    }
    let checked = {
        let mut command = command();
        command.envs(environment).arg("check").arg(&file);
        Program::start(command).ended()
    };
    assert_eq!(checked.code, Some(78), "{checked:?}");
    seen.push(checked.stdout_text() + &checked.stderr_text());
    let ended = host.stop();
    seen.push(ended.stdout_text() + &ended.stderr_text());

    assert!(state.is_dir() && site.path().join("access.log").is_file());
    for secret in SECRETS {
        let mut found = Vec::new();
        holding(site.path(), secret.as_bytes(), &mut found);
        assert!(found.is_empty(), "{secret} is in {found:?}");
        for said in &seen {
            assert!(!said.contains(secret), "{secret}: {said}");
        }
    }
}

#[test]
fn host_show_lists_all_that_a_handler_is_granted_and_no_value() {
    let site = site(&[("token", SECRETS[0])]);
    for name in ["public", "data"] {
        fs::create_dir(site.path().join(name)).expect("made");
    }
    let file = site.path().join("host.toml");
    let text = r#"
[state]
directory = "state"
[stores.quick]
type = "memory"
[tenants.acme]
coarse_clocks = "10ms"
[handlers.shop]
source = "shop.wasm"
tenant = "acme"
routes = ["/*"]
env = { TOKEN = { from_file = "token" }, PLAIN = "sesame-in-plain" }
config = { token = { from_file = "token" }, greeting = "sesame-in-plain" }
dirs = [{ host = "public", guest = "/public" }, { host = "data", guest = "/data", writable = true }]
scratch = "10MiB"
sockets = ["tcp://db.example.com:5432", "udp://10.0.0.0/8:53"]
calls = ["cart"]
outbound = { allow = ["https://api.example.com"], networks = ["10.0.0.0/8", "::1"] }
keyvalue = { carts = "quick", orders = {} }
blobstore = { pictures = {} }
"#;
    fs::write(&file, text).expect("written");
    let host = TestHost::serve_file(&file, "");
    host.says("Admin on");
    let show = |words: &str| {
        let socket = host.socket().to_str().expect("a path");
        let shown = host_with_env(words, &[("HOST_ADMIN", socket)]);
        assert_eq!(shown.code, Some(0), "{shown:?}");
        shown.stdout_text()
    };

    let json = show("show shop --json");
    let shown: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let expected = serde_json::json!({
        "env": ["PLAIN", "TOKEN"],
        "config": ["greeting", "token"],
        "dirs": [
            { "guest": "/public", "writable": false },
            { "guest": "/data", "writable": true },
        ],
        "scratch": 10 << 20,
        "sockets": ["tcp://db.example.com:5432", "udp://10.0.0.0/8:53"],
        "calls": ["cart"],
        "outbound": ["https://api.example.com"],
        "networks": ["10.0.0.0/8", "::1"],
        "keyvalue": [
            { "name": "carts", "store": "quick" },
            { "name": "orders", "store": "file" },
        ],
        "blobstore": ["pictures"],
        "coarse_clocks": "10ms",
    });
    assert_eq!(shown["grants"], expected);

    let text = show("show shop");
    for line in [
        "env     PLAIN, TOKEN",
        "config  greeting, token",
        "dirs    /public, /data (writable)",
        "scratch 10.0 MiB",
        "sockets tcp://db.example.com:5432, udp://10.0.0.0/8:53",
        "calls   cart",
        "outbound https://api.example.com",
        "networks 10.0.0.0/8, ::1",
        "keyvalue carts in quick, orders in file",
        "blobstore pictures",
        "clocks  steps of 10ms",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    for said in [json, text] {
        assert!(!said.contains("sesame"), "{said}");
    }
}

#[test]
fn what_flags_grant_to_a_deployed_handler_is_shown_without_the_url_of_a_store() {
    let place = directory();
    let (socket, state) = (place.path().join("admin.sock"), place.path().join("state"));
    let flags = format!(
        "{} {} --keyvalue carts=redis://:sesame@127.0.0.1:1 --env TOKEN=sesame",
        flag("--admin", &socket),
        flag("--state", &state)
    );
    let _host = TestHost::serve_nothing(&flags);
    let at = [("HOST_ADMIN", socket.to_str().expect("a path"))];
    let words = format!(
        "deploy {} --name shop --env OWN=sesame",
        PROBE.path().display()
    );
    let deployed = host_with_env(&words, &at);
    assert_eq!(deployed.code, Some(0), "{deployed:?}");
    let text = host_with_env("show shop", &at).stdout_text();
    for line in ["env     OWN, TOKEN", "keyvalue carts in redis"] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    assert!(!text.contains("sesame"), "{text}");
}

#[test]
fn the_pages_of_dev_show_no_secret() {
    let kept = directory();
    let token = kept.path().join("token");
    fs::write(&token, SECRETS[0]).expect("written");
    let shown = token.display();
    let mut program = Command::new(env!("CARGO_BIN_EXE_host"));
    program.env("RUST_BACKTRACE", "1");
    let program = crate::support::program::without_settings(program);
    let flags = format!("--env-from TOKEN={shown} --config-from token={shown}");
    let host = TestHost::dev_with(program, &PROBE.path(), &flags);
    assert_eq!(host.get("/env?name=TOKEN").text().trim(), SECRETS[0]);
    let request = "GET /trap HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n";
    let page = host.send(request).reply().text();
    assert!(page.contains("on purpose"), "{page}");
    assert!(!page.contains(SECRETS[0]), "{page}");
    let ended = host.stop();
    let said = ended.stdout_text() + &ended.stderr_text();
    assert!(!said.contains(SECRETS[0]), "{said}");
}
