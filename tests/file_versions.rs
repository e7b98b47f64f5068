//! What lies in files has versions too: they can be gone back to, and the files have the last word.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::directory::{comes_to_say, greeting, version};
use crate::support::guests::{CONFIG, STATIC_FILES};
use crate::support::*;

/// A directory of handlers, and a state directory.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let here = Self(directory());
        fs::create_dir(here.path("files")).expect("made");
        here
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let (draft, path) = (self.path("draft"), self.path("files").join(name));
        fs::write(&draft, bytes).expect("written");
        fs::rename(draft, path).expect("renamed");
    }

    fn serve(&self) -> TestHost {
        let host = TestHost::serve_file(&self.path("files"), &flag("--state", &self.path("state")));
        host.says("Admin on");
        host
    }
}

fn run(served: &TestHost, words: &str) -> Ended {
    let socket = served.socket().to_str().expect("a path");
    host_with_env(words, &[("HOST_ADMIN", socket)])
}

fn done(served: &TestHost, words: &str) -> String {
    let ended = run(served, words);
    assert_eq!(ended.code, Some(0), "{words}: {ended:?}");
    ended.stdout_text()
}

fn refused(served: &TestHost, words: &str) -> String {
    let ended = run(served, words);
    assert_eq!(ended.code, Some(1), "{words}: {ended:?}");
    ended.stderr_text()
}

/// Waits until `host list` says this of the only handler.
fn is_listed(served: &TestHost, said: &str) {
    eventually(said, || {
        let list = done(served, "list");
        list.lines().nth(1)?.contains(said).then_some(())
    });
}

fn shown(served: &TestHost) -> Value {
    serde_json::from_str(&done(served, "show shop --json")).expect("JSON")
}

#[test]
fn a_directory_has_an_admin_door_unless_it_is_turned_off_and_serves_where_it_cannot_have_one() {
    let here = Place::new();
    here.put("shop.wasm", &version(1));
    let files = here.path("files");
    let first = TestHost::serve_file(&files, "");
    first.says(&format!("Admin on unix:{}", first.socket().display()));
    let own = first
        .socket()
        .ancestors()
        .nth(3)
        .expect("its own place")
        .display()
        .to_string();
    let mut states = fs::read_dir(format!("{own}/state/host")).expect("read");
    let state = states.next().expect("one").expect("read").path();
    assert!(states.next().is_none());
    let beside = flag("--state", &state);
    let said = host_with_env(&format!("serve {} {beside}", files.display()), &[]);
    assert_eq!(said.code, Some(1), "what was asked for is had or refused");
    assert!(
        said.stderr_text()
            .contains("another host uses the state directory"),
        "{said:?}"
    );
    let second = first.beside(&files);
    let said = second.says("there is no admin door");
    for part in [
        "another host uses the state directory",
        "`--admin off`",
        "`--state DIR`",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(
        second.get("/shop/").text().trim_end(),
        greeting(1).trim_end()
    );
    let off = TestHost::serve_file(&files, "--admin off");
    assert_eq!(off.get("/shop/").status(), 200);
    assert!(!off.stderr().join("\n").contains("dmin"));
    assert!(!off.socket().exists());
    assert_eq!(host("serve --admin off").code, Some(2));
}

#[test]
fn a_file_of_a_host_turns_its_door_off_with_a_word() {
    let here = directory();
    let file = here.path().join("host.toml");
    fs::write(&file, "admin = \"off\"\n").expect("written");
    let off = TestHost::serve_file(&file, "");
    assert_eq!(off.get("/").status(), 404);
    assert!(!off.stderr().join("\n").contains("Admin on"));
    off.stop();
    fs::write(&file, "admin = \"of\"\n").expect("written");
    let said = host(&format!("check {}", file.display()));
    assert!(
        said.stderr_text().contains("`\"off\"`") || said.stdout_text().contains("`\"off\"`"),
        "{said:?}"
    );
    fs::write(&file, "").expect("written");
    TestHost::serve_file(&file, "").says("Admin on unix:");
}

#[test]
fn a_rollback_of_a_file_holds_over_a_restart_until_the_file_says_something_new() {
    let here = Place::new();
    here.put("shop.wasm", &version(1));
    let served = here.serve();
    is_listed(&served, "file v1");
    assert!(refused(&served, "rollback shop").contains("no version of `shop` before this one"));
    here.put("shop.wasm", &version(2));
    is_listed(&served, "file v2");
    done(&served, "rollback shop");
    assert_eq!(
        served.get("/shop/").text().trim_end(),
        greeting(1).trim_end()
    );
    is_listed(&served, "file v1, rolled back");
    assert!(refused(&served, "undeploy shop").contains("served from a file"));
    assert!(
        refused(
            &served,
            &format!("deploy {} --name shop", HELLO.path().display())
        )
        .contains("served from a file")
    );

    let served = restarted(&here, served);
    is_listed(&served, "file v1, rolled back");
    assert_eq!(
        served.get("/shop/").text().trim_end(),
        greeting(1).trim_end()
    );
    assert!(
        shown(&served)["file"]
            .as_str()
            .expect("a file")
            .ends_with("files/shop.wasm")
    );

    // The same bytes again say nothing new, while the host runs and while it does not.
    here.put("shop.wasm", &version(2));
    here.put("other.wasm", &version(7));
    comes_to_say(&served, "/other/", &greeting(7));
    assert_eq!(
        served.get("/shop/").text().trim_end(),
        greeting(1).trim_end()
    );
    fs::remove_file(here.path("files/other.wasm")).expect("removed");
    here.put("shop.wasm", &version(2));
    let served = restarted(&here, served);
    assert_eq!(
        served.get("/shop/").text().trim_end(),
        greeting(1).trim_end()
    );

    here.put("shop.wasm", &version(3));
    is_listed(&served, "file v3");
    assert_eq!(
        served.get("/shop/").text().trim_end(),
        greeting(3).trim_end()
    );
    done(&served, "rollback shop --to v2");
    assert_eq!(
        served.get("/shop/").text().trim_end(),
        greeting(2).trim_end()
    );
    done(&served, "rollback shop --to v3");
    is_listed(&served, "file v3");
    assert!(!done(&served, "list").contains("rolled back"));
    assert_eq!(
        served.get("/shop/").text().trim_end(),
        greeting(3).trim_end()
    );
    let served = restarted(&here, served);
    is_listed(&served, "file v3");
    assert_eq!(
        shown(&served)["versions"]
            .as_array()
            .expect("versions")
            .len(),
        3
    );
    let log = done(&served, "show shop");
    assert!(log.contains("files") && log.contains("*  v3"), "{log}");
}

#[test]
fn a_file_that_was_taken_away_comes_back_as_it_is_and_not_as_what_was_rolled_back_to() {
    let here = Place::new();
    here.put("shop.wasm", &version(1));
    let served = here.serve();
    is_listed(&served, "file v1");
    let is_noted = |action: &str, from: &Value, to: &Value| {
        let mut door = Connection::to_unix(served.socket());
        door.send("GET /audit?last=1 HTTP/1.1\r\nHost: a\r\n\r\n");
        let log: Value = serde_json::from_slice(&door.reply().body).expect("JSON");
        let last = &log["changes"][0];
        let is_it = last["who"] == "files" && last["action"] == action;
        is_it && last["from_version"] == *from && last["to_version"] == *to
    };
    let version_of = |number: u64| Value::from(number);
    eventually("a line of its beginning", || {
        is_noted("deploy", &Value::Null, &version_of(1)).then_some(())
    });
    here.put("shop.wasm", &version(2));
    is_listed(&served, "file v2");
    done(&served, "rollback shop");
    is_listed(&served, "file v1, rolled back");
    fs::remove_file(here.path("files/shop.wasm")).expect("removed");
    eventually("a line of its end", || {
        is_noted("undeploy", &version_of(1), &Value::Null).then_some(())
    });
    assert_eq!(served.get("/shop/").status(), 404);
    here.put("shop.wasm", &version(2));
    comes_to_say(&served, "/shop/", &greeting(2));
    is_listed(&served, "file v2");
    assert!(!done(&served, "list").contains("rolled back"));
    eventually("a line of its return", || {
        is_noted("deploy", &Value::Null, &version_of(2)).then_some(())
    });
    // Whoever rolls it back again does so for good.
    done(&served, "rollback shop --to v1");
    is_listed(&served, "file v1, rolled back");
    let served = restarted(&here, served);
    assert_eq!(
        served.get("/shop/").text().trim_end(),
        greeting(1).trim_end()
    );
}

#[test]
fn what_a_new_version_of_a_file_also_wants_is_told() {
    let here = Place::new();
    here.put("shop.wasm", &version(1));
    let served = here.serve();
    is_listed(&served, "file v1");
    here.put("shop.wasm", &version(2));
    is_listed(&served, "file v2");
    here.put("shop.wasm", &fs::read(STATIC_FILES.path()).expect("read"));
    let said = served.says("the new version of `shop` also wants files");
    assert!(said.contains("what its files grant it"), "{said}");
    let stderr = served.stderr().join("\n");
    assert_eq!(stderr.matches("also wants").count(), 1, "{stderr}");

    // Once, also where it is written down at the second try.
    here.put("shop.wasm", &version(1));
    is_listed(&served, "file v4");
    let database = here.path("state/catalog.redb");
    fs::rename(&database, here.path("aside")).expect("moved");
    here.put("shop.wasm", &fs::read(STATIC_FILES.path()).expect("read"));
    served.says("is served, and not kept as versions");
    fs::rename(here.path("aside"), &database).expect("moved back");
    is_listed(&served, "file v5");
    eventually("what it wants", || {
        let stderr = served.stderr().join("\n");
        let told = stderr.matches("also wants").count();
        assert!(told <= 2, "{stderr}");
        (told == 2).then_some(())
    });
}

#[test]
fn a_rollback_is_no_rollback_of_a_file_of_the_same_name_elsewhere() {
    let here = Place::new();
    here.put("shop.wasm", &version(1));
    let served = here.serve();
    is_listed(&served, "file v1");
    here.put("shop.wasm", &version(2));
    is_listed(&served, "file v2");
    done(&served, "rollback shop");
    is_listed(&served, "file v1, rolled back");
    assert_eq!(served.stop().code, Some(0));
    let other = here.path("other");
    fs::create_dir(&other).expect("made");
    fs::write(other.join("shop.wasm"), version(2)).expect("written");
    let served = TestHost::serve_file(&other, &flag("--state", &here.path("state")));
    assert_eq!(
        served.get("/shop/").text().trim_end(),
        greeting(2).trim_end()
    );
    is_listed(&served, "file v2");
    assert!(!done(&served, "list").contains("rolled back"));
}

#[test]
fn what_a_state_directory_did_not_take_is_a_version_once_it_does() {
    let here = Place::new();
    here.put("shop.wasm", &version(1));
    let served = here.serve();
    is_listed(&served, "file v1");
    let components = here.path("state/components");
    fs::rename(&components, here.path("aside")).expect("moved");
    here.put("shop.wasm", &version(2));
    served.says("is served, and not kept as versions");
    fs::rename(here.path("aside"), &components).expect("moved back");
    is_listed(&served, "file v2");
    done(&served, "rollback shop");
    assert_eq!(
        served.get("/shop/").text().trim_end(),
        greeting(1).trim_end()
    );
}

fn restarted(here: &Place, served: TestHost) -> TestHost {
    assert_eq!(served.stop().code, Some(0));
    here.serve()
}

#[test]
fn a_rollback_of_a_file_brings_back_routes_and_limits_and_no_secret_is_written_down() {
    let here = Place::new();
    here.put("shop.wasm", &fs::read(FAULTS.path()).expect("read"));
    here.put(
        "shop.toml",
        b"routes = [{ path = \"/one/*\", strip_prefix = true }]\nenv = { KEY = \"s3cr3t-one\" }\nlimits = { timeout = \"7s\" }\n",
    );
    let served = here.serve();
    is_listed(&served, "file v1");
    assert!(served.get("/one/env").text().contains("KEY=s3cr3t-one"));
    here.put(
        "shop.toml",
        b"routes = [{ path = \"/two/*\", strip_prefix = true }]\nenv = { KEY = \"s3cr3t-two\", MORE = \"m0re\" }\n",
    );
    is_listed(&served, "file v2");
    assert_eq!(served.get("/one/env").status(), 404);
    done(&served, "rollback shop");
    let seen = served.get("/one/env").text();
    assert!(
        seen.contains("KEY=s3cr3t-two") && !seen.contains("MORE"),
        "{seen}"
    );
    let show = done(&served, "show shop");
    assert!(
        show.contains("timeout 7s") && show.contains("env     MORE"),
        "{show}"
    );

    // A variable that its files do not give any more cannot be given.
    done(&served, "rollback shop --to v2");
    here.put(
        "shop.toml",
        b"routes = [{ path = \"/three/*\", strip_prefix = true }]\nenv = { MORE = \"m0re\" }\n",
    );
    is_listed(&served, "file v3");
    let said = refused(&served, "rollback shop --to v1");
    assert!(
        said.contains("v1 of `shop` had the variables KEY"),
        "{said}"
    );
    assert_eq!(served.get("/three/env").status(), 200);

    let database = fs::read(here.path("state/catalog.redb")).expect("read");
    for secret in ["s3cr3t", "m0re"] {
        assert!(
            !database
                .windows(secret.len())
                .any(|part| part == secret.as_bytes()),
            "{secret}"
        );
    }
}

#[test]
fn a_route_is_after_a_start_whose_it_was_also_when_his_file_has_changed_meanwhile() {
    let here = Place::new();
    here.put("shop.toml", b"routes = [\"/x\"]\n");
    here.put("shop.wasm", &version(1));
    let served = here.serve();
    is_listed(&served, "file v1");
    // The first by name wants it too.
    here.put("able.toml", b"routes = [\"/x\"]\n");
    here.put("able.wasm", &version(2));
    served.says("`able` is not deployed");
    let says = |served: &TestHost, target: &str, number: usize| {
        let said = served.get(target).text();
        assert_eq!(said.trim_end(), greeting(number).trim_end());
    };

    assert_eq!(served.stop().code, Some(0));
    here.put("shop.wasm", &version(3));
    let served = here.serve();
    says(&served, "/x", 3);
    is_listed(&served, "file v2");

    // What cannot be made replaces nothing, as while the host runs.
    assert_eq!(served.stop().code, Some(0));
    here.put("shop.wasm", b"no component");
    let served = here.serve();
    served.says("`shop` is not replaced");
    says(&served, "/x", 3);
    is_listed(&served, "file v2");

    // While it is not known what is wanted of it, nobody has it.
    assert_eq!(served.stop().code, Some(0));
    here.put("shop.toml", b"routs = [\"/x\"]\n");
    let served = here.serve();
    let said = served.says("`able` is not deployed");
    assert!(said.contains("shop"), "{said}");
    assert_eq!(served.get("/x").status(), 503);

    here.put("shop.toml", b"routes = [\"/y\"]\n");
    here.put("shop.wasm", &version(4));
    comes_to_say(&served, "/y", &greeting(4));
    comes_to_say(&served, "/x", &greeting(2));
    assert_eq!(served.stop().code, Some(0));
    fs::remove_file(here.path("files/able.wasm")).expect("removed");
    let served = here.serve();
    says(&served, "/y", 4);
    assert_eq!(served.get("/x").status(), 404);
}

#[test]
fn what_a_former_version_answers_after_a_start_is_no_more_open_than_it_was() {
    let here = Place::new();
    let closed = "deny = [\"127.0.0.1\"]";
    let say = |admin: &str| {
        let text = format!("routes = [\"/*\"{admin}]\n");
        here.put("shop.toml", text.as_bytes());
    };
    say(&format!(", {{ path = \"/admin/*\", {closed} }}"));
    here.put("shop.wasm", &version(1));
    let served = here.serve();
    is_listed(&served, "file v1");
    assert_eq!(served.get("/admin/").status(), 403);

    // Nobody says any more who may come in.
    assert_eq!(served.stop().code, Some(0));
    say("");
    here.put("shop.wasm", b"no component");
    let served = here.serve();
    served.says("`shop` is not deployed");
    for target in ["/admin/", "/"] {
        assert_eq!(served.get(target).status(), 503, "{target}");
    }

    // It is said again, in other words.
    assert_eq!(served.stop().code, Some(0));
    say(&format!(
        ", {{ path = \"/%61dmin/*\", methods = [\"GET\"], {closed} }}"
    ));
    let served = here.serve();
    served.says("`shop` is not replaced");
    assert_eq!(served.get("/").text().trim_end(), greeting(1).trim_end());
    assert_eq!(served.get("/admin/").status(), 403);
}

#[test]
fn a_version_of_a_file_has_its_methods_after_a_restart_too() {
    let here = Place::new();
    here.put("shop.wasm", &version(1));
    here.put(
        "shop.toml",
        b"routes = [{ path = \"/x\", methods = [\"GET\"] }]\n",
    );
    let served = here.serve();
    is_listed(&served, "file v1");
    here.put("shop.wasm", &version(2));
    is_listed(&served, "file v2");
    done(&served, "rollback shop");
    let served = restarted(&here, served);
    is_listed(&served, "file v1, rolled back");
    assert_eq!(served.get("/x").text().trim_end(), greeting(1).trim_end());
    assert_eq!(served.connect().post("/x", "said").status(), 405);
}

#[test]
fn a_rollback_of_a_file_brings_back_which_keys_it_was_told_and_not_their_values() {
    let here = Place::new();
    here.put("shop.wasm", &fs::read(CONFIG.path()).expect("read"));
    here.put("shop.toml", b"config = { theme = \"dark\" }\n");
    let served = here.serve();
    is_listed(&served, "file v1");
    assert_eq!(served.get("/shop/theme").text(), "dark\n");
    here.put(
        "shop.toml",
        b"config = { theme = \"light\", size = \"large\" }\n",
    );
    is_listed(&served, "file v2");
    assert_eq!(served.get("/shop/size").text(), "large\n");
    done(&served, "rollback shop");
    assert_eq!(served.get("/shop/").text(), "config theme\n");
    assert_eq!(served.get("/shop/theme").text(), "light\n");
    let show = done(&served, "show shop");
    assert!(show.contains("config  size"), "{show}");

    // What its files do not say any more it cannot be told.
    done(&served, "rollback shop --to v2");
    here.put("shop.toml", b"config = { size = \"large\" }\n");
    is_listed(&served, "file v3");
    let said = refused(&served, "rollback shop --to v1");
    assert!(said.contains("theme of `config`"), "{said}");
}

#[test]
fn a_state_directory_that_takes_nothing_keeps_no_file_from_being_served() {
    let here = Place::new();
    here.put("shop.wasm", &version(1));
    let served = here.serve();
    is_listed(&served, "file v1");
    fs::remove_dir_all(here.path("state/components")).expect("removed");
    fs::write(here.path("state/components"), b"").expect("written");
    here.put("shop.wasm", &version(2));
    comes_to_say(&served, "/shop/", &greeting(2));
    served.says("is served, and not kept as versions");
    assert!(refused(&served, "rollback shop").contains("no version"));
}

#[test]
fn a_file_that_only_fails_gives_way_for_good() {
    let here = Place::new();
    here.put("shop.wasm", &version(1));
    let served = here.serve();
    is_listed(&served, "file v1");
    assert_eq!(served.get("/shop/").status(), 200);
    here.put("shop.wasm", &fs::read(FAULTS.path()).expect("read"));
    is_listed(&served, "file v2");
    eventually("the version before", || {
        (served.get("/shop/trap").status() == 200).then_some(())
    });
    is_listed(&served, "file v1, rolled back");
    let served = restarted(&here, served);
    assert_eq!(
        served.get("/shop/").text().trim_end(),
        greeting(1).trim_end()
    );
}
