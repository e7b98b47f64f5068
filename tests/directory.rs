//! `host serve DIRECTORY`: each component in it is a handler, and what happens to its file happens to it.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;

use crate::support::exposition::Exposition;
use crate::support::guests::{ECHO, METHODS};
use crate::support::operator::{Office, Operator};
use crate::support::program::command_with_open_files;
use crate::support::*;

/// `hello` as somebody else would have written it.
pub(crate) fn version(number: usize) -> Vec<u8> {
    const GREETING: &[u8] = b"Hello from WebAssembly!";
    let mut wasm = fs::read(HELLO.path()).expect("a component");
    let at = wasm
        .windows(GREETING.len())
        .position(|window| window == GREETING);
    let at = at.expect("the greeting");
    wasm[at..at + GREETING.len()].copy_from_slice(greeting(number).as_bytes());
    wasm
}

/// As long as the greeting that it replaces.
pub(crate) fn greeting(number: usize) -> String {
    format!("This is version {number:<7}")
}

/// A directory of handlers.
struct Handlers(TempDir);

impl Handlers {
    fn of(handlers: &[(&str, Guest)]) -> Self {
        let here = Self(directory());
        for (name, guest) in handlers {
            here.put(name, &fs::read(guest.path()).expect("a component"));
        }
        here
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Puts a file in place as careful programs do: whole.
    fn put(&self, name: &str, bytes: &[u8]) {
        let new = self.path().join(".new");
        fs::write(&new, bytes).expect("written");
        fs::rename(new, self.path().join(name)).expect("renamed");
    }

    fn serve(&self, flags: &str) -> TestHost {
        TestHost::serve_file(self.path(), flags)
    }
}

pub(crate) fn comes_to_say(host: &TestHost, target: &str, said: &str) {
    eventually(said, || {
        (host.get(target).text().trim_end() == said.trim_end()).then_some(())
    });
}

#[test]
fn each_component_is_served_under_its_name_and_index_at_the_root() {
    let handlers = Handlers::of(&[
        ("shop.wasm", METHODS),
        ("greet.wasm", HELLO),
        ("index.wasm", ECHO),
    ]);
    handlers.put("notes.txt", b"no component");
    handlers.put(".hidden.wasm", &version(1));
    let host = handlers.serve("");
    assert_eq!(host.get("/greet/").text(), "Hello from WebAssembly!\n");
    // The guest sees its own paths.
    assert_eq!(host.get("/shop/hello").status(), 200);
    assert_eq!(host.get("/shop/nothing-here").status(), 404);
    let reply = host.connect().post("/what/ever", "said to the index");
    assert_eq!(reply.text(), "said to the index");
    assert_eq!(host.access_to("/shop/hello").text("host.handler"), "shop");
    assert_eq!(host.access_to("/shop/hello").text("http.route"), "/shop/*");
    assert_eq!(host.access_to("/what/ever").text("host.handler"), "index");
}

#[test]
fn a_name_without_its_slash_leads_to_the_one_with_it() {
    let host = Handlers::of(&[("greet.wasm", HELLO)]).serve("");
    let reply = host.get("/greet?name=x");
    assert_eq!(reply.status(), 308);
    assert_eq!(reply.header("location"), Some("/greet/?name=x"));
}

#[test]
fn what_no_handler_has_is_not_found() {
    let host = Handlers::of(&[("greet.wasm", HELLO)]).serve("");
    for target in ["/", "/greeting/", "/greet.wasm", "/greet%2F"] {
        assert_eq!(host.get(target).status(), 404, "{target}");
    }
    assert_eq!(host.access_to("/").label(), "no-route");
}

#[test]
fn an_empty_directory_is_served_and_waits_for_handlers() {
    let handlers = Handlers::of(&[]);
    let host = handlers.serve("");
    assert_eq!(host.get("/greet/").status(), 404);
    handlers.put("greet.wasm", &version(1));
    comes_to_say(&host, "/greet/", &greeting(1));
}

#[test]
fn a_file_that_is_replaced_or_deleted_is_so_live() {
    let handlers = Handlers::of(&[("other.wasm", HELLO)]);
    handlers.put("greet.wasm", &version(1));
    let host = handlers.serve("");
    assert_eq!(
        host.get("/greet/").text().trim_end(),
        greeting(1).trim_end()
    );
    handlers.put("greet.wasm", &version(2));
    comes_to_say(&host, "/greet/", &greeting(2));
    // Written in place, in two pieces.
    let (new, file) = (version(3), handlers.path().join("greet.wasm"));
    fs::write(&file, &new[..new.len() / 2]).expect("written");
    fs::write(&file, &new).expect("written");
    comes_to_say(&host, "/greet/", &greeting(3));
    fs::remove_file(file).expect("removed");
    eventually("its end", || {
        (host.get("/greet/").status() == 404).then_some(())
    });
    assert_eq!(host.get("/other/").status(), 200);
    host.says("`greet` is undeployed");
}

#[test]
fn of_a_burst_of_changes_few_are_compiled_and_the_last_is_served() {
    const WRITES: usize = 30;
    let (handlers, cache) = (Handlers::of(&[("greet.wasm", HELLO)]), directory());
    let host = handlers.serve(&flag("--cache", cache.path()));
    let file = handlers.path().join("greet.wasm");
    let versions: Vec<_> = (1..=WRITES).map(version).collect();
    for bytes in &versions {
        fs::write(&file, bytes).expect("written");
    }
    comes_to_say(&host, "/greet/", &greeting(WRITES));
    let mut door = Connection::to_unix(host.socket());
    door.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    let page = Exposition::parse(&door.reply().text());
    let compiled = page.sum("host_compilations_total", &[]) as usize;
    assert!(compiled < WRITES / 2, "{compiled}");
}

#[test]
fn a_bad_file_never_replaces_a_good_handler() {
    let handlers = Handlers::of(&[]);
    handlers.put("greet.wasm", &version(1));
    let host = handlers.serve("");
    let truncated = &version(2)[..2000];
    for (bytes, why) in [
        (&b"no component"[..], "not WebAssembly"),
        (b"", "empty"),
        (truncated, "cut short"),
    ] {
        handlers.put("greet.wasm", bytes);
        let said = host.says(why);
        assert!(
            said.contains("`greet` is not replaced") && said.contains("goes on serving"),
            "{said}"
        );
        assert_eq!(
            host.get("/greet/").text().trim_end(),
            greeting(1).trim_end()
        );
    }
    handlers.put("greet.wasm", &version(4));
    comes_to_say(&host, "/greet/", &greeting(4));
}

#[test]
fn a_file_that_cannot_be_read_is_told_and_what_served_goes_on() {
    let handlers = Handlers::of(&[]);
    handlers.put("greet.wasm", &version(1));
    let host = handlers.serve("");
    // A file, and reading it is an error of the system, whoever reads.
    let new = handlers.path().join(".new");
    symlink("/proc/self/mem", &new).expect("linked");
    fs::rename(new, handlers.path().join("greet.wasm")).expect("renamed");
    let said = host.says("`greet` is not replaced");
    assert!(said.contains("goes on serving"), "{said}");
    assert_eq!(
        host.get("/greet/").text().trim_end(),
        greeting(1).trim_end()
    );
    handlers.put("greet.wasm", &version(2));
    comes_to_say(&host, "/greet/", &greeting(2));
}

#[test]
fn a_bad_file_at_the_start_is_told_and_the_others_are_served() {
    let handlers = Handlers::of(&[("greet.wasm", HELLO)]);
    handlers.put("bad.wasm", b"no component");
    handlers.put("not a name.wasm", &version(1));
    let host = handlers.serve("");
    assert_eq!(host.get("/greet/").status(), 200);
    assert_eq!(host.get("/bad/").status(), 404);
    host.says("`bad` is not deployed");
    host.says("`not a name` is no name");
}

#[test]
fn a_handler_whose_manifest_is_no_regular_file_is_not_served_with_less() {
    let handlers = Handlers::of(&[("greet.wasm", HELLO)]);
    let names = ["dangling", "folder", "pipe", "socket"];
    for name in names {
        handlers.put(&format!("{name}.wasm"), &version(1));
    }
    let manifest = |name: &str| handlers.path().join(format!("{name}.toml"));
    symlink("nothing.toml", manifest("dangling")).expect("linked");
    fs::create_dir(manifest("folder")).expect("made");
    mkfifoat(CWD, manifest("pipe"), Mode::RUSR | Mode::WUSR).expect("made");
    let _socket = UnixListener::bind(manifest("socket")).expect("bound");
    let host = handlers.serve("");
    assert_eq!(host.get("/greet/").status(), 200);
    for name in names {
        host.says(&format!("{name}.toml` is not a regular file"));
        assert_eq!(host.get(&format!("/{name}/")).status(), 404, "{name}");
    }
    fs::remove_file(manifest("dangling")).expect("removed");
    comes_to_say(&host, "/dangling/", &greeting(1));
}

#[test]
fn of_two_names_that_differ_in_case_only_the_one_that_is_there_is_served() {
    let handlers = Handlers::of(&[("shop.wasm", HELLO)]);
    let host = handlers.serve("");
    handlers.put("Shop.wasm", &version(1));
    let said = host.says("`Shop` is not deployed");
    assert!(
        said.contains("differs from the handler `shop` only in upper and lower case"),
        "{said}"
    );
    assert_eq!(host.get("/shop/").text(), "Hello from WebAssembly!\n");
    assert_eq!(host.get("/Shop/").status(), 404);
    fs::remove_file(handlers.path().join("shop.wasm")).expect("removed");
    comes_to_say(&host, "/Shop/", &greeting(1));
    assert_eq!(host.get("/shop/").status(), 404);
}

#[test]
fn a_name_is_free_where_the_one_that_differs_in_case_only_has_lost_its_route() {
    let handlers = Handlers::of(&[]);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for (number, name) in ["Able.wasm", "Shop.wasm", "shop.wasm"].iter().enumerate() {
        handlers.put(name, &version(number));
        // What is written now may change within the tick of the file's clock, and is not remembered.
        let file = fs::File::options()
            .write(true)
            .open(handlers.path().join(name));
        file.expect("open").set_modified(long_ago).expect("set");
    }
    let cache = directory();
    let flags = flag("--cache", cache.path());
    let host = handlers.serve(&flags);
    host.says("differs from the handler");
    host.stop();
    // All are known now, and so come at once.
    handlers.put("Shop.toml", b"routes = [\"/Able/*\"]\n");
    let host = handlers.serve(&flags);
    let said = host.says("`Shop` is not deployed");
    assert!(said.contains("/Able/*"), "{said}");
    assert_eq!(host.get("/Able/").text().trim_end(), greeting(0).trim_end());
    assert_eq!(host.get("/shop/").text().trim_end(), greeting(2).trim_end());
}

#[test]
fn a_directory_of_links_that_are_swapped_is_followed() {
    let handlers = Handlers::of(&[]);
    let versions: Vec<_> = (1..=2)
        .map(|number| {
            let real = handlers.path().join(format!("..{number}"));
            fs::create_dir(&real).expect("made");
            fs::write(real.join("greet.wasm"), version(number)).expect("written");
            real
        })
        .collect();
    // As Kubernetes mounts a ConfigMap.
    let data = handlers.path().join("..data");
    symlink(&versions[0], &data).expect("linked");
    symlink("..data/greet.wasm", handlers.path().join("greet.wasm")).expect("linked");
    let host = handlers.serve("");
    assert_eq!(
        host.get("/greet/").text().trim_end(),
        greeting(1).trim_end()
    );
    let new = handlers.path().join("..data_tmp");
    symlink(&versions[1], &new).expect("linked");
    fs::rename(new, data).expect("swapped");
    comes_to_say(&host, "/greet/", &greeting(2));
}

#[test]
fn a_directory_that_vanishes_is_told_and_serving_goes_on() {
    let handlers = Handlers::of(&[]);
    let (here, away) = (handlers.path().join("here"), handlers.path().join("away"));
    fs::create_dir(&here).expect("made");
    fs::write(here.join("greet.wasm"), version(1)).expect("written");
    let host = TestHost::serve_file(&here, "");
    fs::rename(&here, &away).expect("moved");
    let said = host.says("cannot be read");
    assert!(said.contains("what is deployed goes on serving"), "{said}");
    assert_eq!(
        host.get("/greet/").text().trim_end(),
        greeting(1).trim_end()
    );
    fs::write(away.join("greet.wasm"), version(2)).expect("written");
    fs::rename(&away, &here).expect("moved");
    comes_to_say(&host, "/greet/", &greeting(2));
}

#[test]
fn a_file_written_anew_with_the_same_bytes_keeps_its_warm_instances_and_counters() {
    let handlers = Handlers::of(&[("faults.wasm", FAULTS_P3), ("greet.wasm", HELLO)]);
    let office = Office::new();
    let host = handlers.serve(&format!("--idle-instance-timeout 1m {}", office.flags()));
    let operator = Operator::of(&host);
    let is_counted = |requests: f64| {
        eventually("the requests to be counted", || {
            let duration = "http_server_request_duration_seconds_count";
            let sum = operator
                .metrics()
                .sum(duration, &[("host_handler", "faults")]);
            (sum == requests).then_some(())
        });
    };
    let mut connection = host.connect();
    let mut count = || connection.get("/faults/count").text().trim().to_owned();
    // On a busy machine the first instance may be slow to make, and in the background when the next request comes.
    let mut requests = 0.0;
    eventually("an instance to be warm", || {
        requests += 1.0;
        (count() != "1").then_some(())
    });
    is_counted(requests);
    handlers.put(
        "faults.wasm",
        &fs::read(FAULTS_P3.path()).expect("a component"),
    );
    // A later change that is live shows that the earlier one was looked at.
    handlers.put("greet.wasm", &version(2));
    comes_to_say(&host, "/greet/", &greeting(2));
    assert_ne!(
        count(),
        "1",
        "an instance that was there has counted before"
    );
    is_counted(requests + 1.0);
    let said = host.stderr();
    let deployed = said
        .iter()
        .filter(|line| line.contains("`faults` is deployed"));
    assert_eq!(deployed.count(), 1, "nothing has changed: {said:#?}");
}

#[test]
fn a_request_in_flight_ends_with_the_version_that_it_began_with() {
    for guest in BOTH_ECHOES {
        let handlers = Handlers::of(&[("greet.wasm", guest)]);
        let host = handlers.serve("");
        // Each has its head, and waits for the rest of what it echoes.
        let [mut replaced, mut removed] = std::array::from_fn(|_| {
            host.send("POST /greet/ HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        });
        let (of_replaced, of_removed) = (replaced.head(), removed.head());
        handlers.put("greet.wasm", &version(1));
        comes_to_say(&host, "/greet/", &greeting(1));
        replaced.send("world");
        assert_eq!(
            replaced.reply_after(of_replaced).text(),
            "helloworld",
            "{guest}"
        );
        assert_eq!(
            replaced.get("/greet/").text().trim_end(),
            greeting(1).trim_end()
        );
        fs::remove_file(handlers.path().join("greet.wasm")).expect("removed");
        eventually("its end", || {
            (host.get("/greet/").status() == 404).then_some(())
        });
        removed.send("world");
        assert_eq!(
            removed.reply_after(of_removed).text(),
            "helloworld",
            "{guest}"
        );
        assert_eq!(removed.get("/greet/").status(), 404);
    }
}

#[test]
fn no_request_fails_through_replacements() {
    const REPLACEMENTS: usize = 20;
    let handlers = Handlers::of(&[("other.wasm", HELLO)]);
    handlers.put("greet.wasm", &version(0));
    let host = handlers.serve("");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut kept, mut seen, mut asked) = (host.connect(), String::new(), 0);
                    while !is_over.load(Ordering::Relaxed) {
                        for reply in [
                            kept.get("/greet/"),
                            host.get("/greet/"),
                            kept.get("/other/"),
                        ] {
                            assert_eq!(reply.status(), 200, "{}", reply.text());
                            asked += 1;
                        }
                        let now = kept.get("/greet/").text();
                        assert!(
                            number_in(&now) >= number_in(&seen),
                            "`{now}` after `{seen}`"
                        );
                        seen = now;
                    }
                    asked
                })
            })
            .collect();
        for number in 1..=REPLACEMENTS {
            handlers.put("greet.wasm", &version(number));
            comes_to_say(&host, "/greet/", &greeting(number));
        }
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            let asked = client.join().expect("no request failed");
            assert!(asked > REPLACEMENTS, "{asked} requests are no traffic");
        }
    });
}

pub(crate) fn number_in(greeting: &str) -> usize {
    let digits: String = greeting.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

#[test]
fn no_request_fails_while_an_editor_renames_a_file_away_and_writes_it_anew() {
    let handlers = Handlers::of(&[]);
    handlers.put("greet.wasm", &version(0));
    let host = handlers.serve("");
    let is_over = AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let (mut connection, mut asked) = (host.connect(), 0);
            while !is_over.load(Ordering::Relaxed) {
                let reply = connection.get("/greet/");
                assert_eq!(reply.status(), 200, "{}", reply.text());
                asked += 1;
            }
            asked
        });
        for number in 1..=3 {
            // As vim does it: it looks whether it may write here, and keeps what was until all is written.
            let (bytes, path) = (version(number), |name: &str| handlers.path().join(name));
            fs::write(path("4913"), b"").expect("written");
            fs::remove_file(path("4913")).expect("removed");
            fs::rename(path("greet.wasm"), path("greet.wasm~")).expect("renamed");
            fs::write(path("greet.wasm"), bytes).expect("written");
            fs::remove_file(path("greet.wasm~")).expect("removed");
            comes_to_say(&host, "/greet/", &greeting(number));
        }
        is_over.store(true, Ordering::Relaxed);
        client.join().expect("no request failed")
    });
    assert!(asked > 10, "{asked} requests are no traffic");
    let said = host.stop().stderr;
    let is_undeployed = |line: &String| line.contains("undeployed");
    assert!(!said.iter().any(is_undeployed), "{said:#?}");
}

#[test]
fn of_more_handlers_than_can_be_loaded_the_cold_ones_are_let_go_and_come_back() {
    // Half of the files that it may open are for components that are loaded.
    const OPEN_FILES: u32 = 200;
    const HANDLERS: usize = 120;
    let handlers = Handlers::of(&[]);
    let hello = fs::read(HELLO.path()).expect("a component");
    for number in 0..HANDLERS {
        handlers.put(&format!("h{number}.wasm"), &hello);
    }
    let office = Office::new();
    let program = command_with_open_files(OPEN_FILES);
    let host = TestHost::serve_by(program, handlers.path(), &office.flags());
    let operator = Operator::of(&host);
    for _ in 0..2 {
        let mut connection = host.connect();
        for number in 0..HANDLERS {
            let reply = connection.get(&format!("/h{number}/"));
            assert_eq!(reply.status(), 200, "h{number}: {}", reply.text());
        }
        eventually("the cold ones to be let go", || {
            let loaded = operator.metrics().sum("host_handlers_loaded", &[]);
            (loaded > 0.0 && loaded <= f64::from(OPEN_FILES / 2)).then_some(())
        });
    }
}

#[test]
fn what_the_instances_of_a_handler_leave_is_given_back_when_it_is_gone() {
    // So few that what counts is what they have written, and not their stacks.
    const AT_ONCE: usize = 48;
    let handlers = Handlers::of(&[("faults.wasm", FAULTS)]);
    let office = Office::new();
    let host = handlers.serve(&office.flags());
    let operator = Operator::of(&host);
    let running = || {
        let state = [("host_state", "running")];
        operator.metrics().sum("host_instances", &state)
    };
    assert_eq!(host.get("/faults/ok").status(), 200);
    let before = host.memory();
    let mut connections: Vec<_> = (0..AT_ONCE).map(|_| host.connect()).collect();
    for connection in &mut connections {
        connection.send("GET /faults/sleep?mib=1&ms=25000 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    eventually("all of them to run", || {
        (running() == AT_ONCE as f64).then_some(())
    });
    drop(connections);
    eventually("all of them to be gone", || {
        (running() == 0.0).then_some(())
    });
    let left = host.memory().saturating_sub(before);
    assert!(left > 30 << 20, "{left} bytes are no burst");
    fs::remove_file(handlers.path().join("faults.wasm")).expect("removed");
    eventually("their memory to be given back", || {
        (host.memory() < before + left / 3).then_some(())
    });
}

#[test]
fn a_handler_that_fails_again_and_again_is_quarantined_and_others_are_not() {
    let handlers = Handlers::of(&[("faults.wasm", FAULTS), ("greet.wasm", HELLO)]);
    let host = handlers.serve("");
    for _ in 0..10 {
        assert_eq!(host.get("/faults/trap").status(), 500);
    }
    let reply = host.get("/faults/trap");
    assert_eq!(reply.status(), 503);
    assert!(reply.header("retry-after").is_some());
    assert_eq!(
        host.access_of(reply.header("x-request-id").expect("an id"))
            .label(),
        "quarantined"
    );
    host.says("quarantined");
    assert_eq!(host.get("/greet/").status(), 200);
    // After a while one request may try, and this one is answered.
    eventually("another try", || {
        (host.get("/faults/count").status() == 200).then_some(())
    });
    assert_eq!(host.get("/faults/trap").status(), 500);
}

#[test]
fn a_new_version_that_only_fails_gives_way_to_the_one_before() {
    let handlers = Handlers::of(&[("greet.wasm", HELLO)]);
    let host = handlers.serve("");
    assert_eq!(host.get("/greet/trap").text(), "Hello from WebAssembly!\n");
    handlers.put("greet.wasm", &fs::read(FAULTS.path()).expect("a component"));
    eventually("the new version", || {
        (host.get("/greet/trap").status() == 500).then_some(())
    });
    eventually("the one before", || {
        (host.get("/greet/trap").status() == 200).then_some(())
    });
    assert_eq!(host.get("/greet/trap").text(), "Hello from WebAssembly!\n");
    host.says("falling back to the one before");
}

/// `faults` as the new version of what says hello to whatever it is asked, after its first answer.
fn new_version_that_answers(handlers: &Handlers) -> TestHost {
    let host = handlers.serve("");
    assert_eq!(host.get("/greet/ok").text(), "Hello from WebAssembly!\n");
    handlers.put("greet.wasm", &fs::read(FAULTS.path()).expect("a component"));
    comes_to_say(&host, "/greet/ok", "ok");
    host
}

fn fails(connection: &mut Connection, times: usize) {
    for _ in 0..times {
        assert_eq!(connection.get("/greet/trap").status(), 500);
    }
}

#[test]
fn a_new_version_that_answers_some_requests_and_then_only_fails_gives_way_to_the_one_before() {
    let handlers = Handlers::of(&[("greet.wasm", HELLO)]);
    let host = new_version_that_answers(&handlers);
    let mut connection = host.connect();
    // Whoever makes it fail undoes nothing while others are answered.
    fails(&mut connection, 99);
    assert_eq!(connection.get("/greet/ok").text(), "ok\n");
    fails(&mut connection, 100);
    comes_to_say(&host, "/greet/trap", "Hello from WebAssembly!");
    host.says("falling back to the one before");
}

#[test]
fn a_version_that_has_proved_itself_stays_however_it_fails() {
    let handlers = Handlers::of(&[("greet.wasm", HELLO)]);
    let host = new_version_that_answers(&handlers);
    let mut connection = host.connect();
    for _ in 0..100 {
        assert_eq!(connection.get("/greet/ok").text(), "ok\n");
    }
    fails(&mut connection, 100);
    assert_eq!(connection.get("/greet/trap").status(), 503);
    // Never the one before, which would answer this at once.
    eventually("another try", || {
        let reply = host.get("/greet/ok");
        assert!(!reply.text().contains("Hello"));
        (reply.status() == 200).then_some(())
    });
}

#[test]
fn handlers_that_were_served_before_are_loaded_when_they_are_asked_for() {
    let handlers = Handlers::of(&[("faults.wasm", FAULTS), ("greet.wasm", HELLO)]);
    drop(handlers.serve("").stop());
    let host = handlers.serve("");
    assert_eq!(host.get("/greet/").status(), 200);
    drop(host.stop());
    // A file that has changed meanwhile is read again.
    handlers.put("greet.wasm", &version(7));
    handlers.put("faults.wasm", b"no component");
    let host = handlers.serve("");
    assert_eq!(
        host.get("/greet/").text().trim_end(),
        greeting(7).trim_end()
    );
    assert_eq!(host.get("/faults/").status(), 404);
}

#[test]
fn versions_of_a_handler_share_its_places() {
    let handlers = Handlers::of(&[("faults.wasm", FAULTS), ("greet.wasm", HELLO)]);
    // A handler of many has a quarter.
    let host = handlers
        .serve("--max-concurrent-requests 8 --max-waiting-requests 8 --queue-timeout 200ms");
    let hold = |_| host.send("GET /faults/drip?n=1&ms=20000 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut held: Vec<_> = (0..2).map(hold).collect();
    for one in &mut held {
        assert_eq!(one.head().status, 200);
    }
    handlers.put("faults.wasm", &version(1));
    eventually("the new version", || {
        let said = host.stderr();
        (said
            .iter()
            .filter(|line| line.contains("`faults` is deployed"))
            .count()
            == 2)
            .then_some(())
    });
    assert_eq!(host.get("/faults/").status(), 503);
    assert_eq!(host.get("/greet/").status(), 200);
    drop(held);
    eventually("a place", || {
        (host.get("/faults/").status() == 200).then_some(())
    });
}

#[test]
fn who_waits_for_a_place_is_not_quarantined_for_it() {
    let handlers = Handlers::of(&[("faults.wasm", FAULTS)]);
    // One place, and a deadline that comes before the wait is over.
    let host = handlers.serve("--max-concurrent-requests 4 --timeout 300ms --body-timeout 30s");
    let mut held = host.send("GET /faults/drip?n=1&ms=20000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(held.head().status, 200);
    for _ in 0..12 {
        assert_eq!(host.get("/faults/count").status(), 504);
    }
    drop(held);
    eventually("an answer", || {
        (host.get("/faults/count").status() == 200).then_some(())
    });
    let labels = host.accesses();
    assert!(labels.iter().all(|line| line.label() != "quarantined"));
}
