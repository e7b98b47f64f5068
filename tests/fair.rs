//! Where there is too little of something, whoever pays shares it, and not requests: who sends more gets no more.

use std::fs;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

use crate::support::operator::{Office, Operator};
use crate::support::program::command_with_open_files;
use crate::support::*;

/// A host with two tenants, each with a handler of its own under its name. `of_host` is said of the host, and `limits` of each handler.
fn two_tenants(of_host: &str, limits: &str) -> (TempDir, TestHost) {
    let directory = directory();
    let mut text =
        format!("[listen]\naccess_log = \"json\"\n{of_host}\n[tenants.loud]\n[tenants.quiet]\n");
    for name in ["loud", "quiet"] {
        let wasm = directory.path().join(format!("{name}.wasm"));
        fs::copy(FAULTS.path(), wasm).expect("copied");
        text += &format!(
            "[handlers.{name}]\nsource = \"{name}.wasm\"\ntenant = \"{name}\"\nroutes = [{{ path = \"/{name}/*\", strip_prefix = true }}]\n[handlers.{name}.limits]\n{limits}\n"
        );
    }
    let file = directory.path().join("host.toml");
    fs::write(&file, text).expect("written");
    let host = TestHost::serve_file(&file, "");
    (directory, host)
}

fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

#[test]
fn a_tenant_that_takes_all_places_that_it_can_leaves_some_to_the_next() {
    let (_directory, host) = two_tenants(
        "max_concurrent_requests = 16",
        "max_concurrent_requests = 16\nmax_waiting_requests = 2\nqueue_timeout = \"10s\"",
    );
    // Three quarters are theirs at once, and the others wait.
    let loud: Vec<_> = (0..16).map(|_| host.send(request("/loud/never"))).collect();
    for _ in 0..20 {
        assert_eq!(host.get("/quiet/ok").text(), "ok\n");
    }
    let overload = |it: &Access| it.label() == "overload";
    assert!(!host.accesses().iter().any(overload), "they have time");
    drop(loud);
    assert_eq!(host.get("/loud/ok").text(), "ok\n");
}

#[test]
fn a_tenant_that_opens_all_that_it_can_leaves_the_others_some_to_open() {
    for guest in [PROBE, PROBE_P3] {
        // Who connects there waits for an answer.
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = silent.local_addr().expect("its address");
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let peers = Arc::clone(&accepted);
        thread::spawn(move || {
            for peer in silent.incoming() {
                peers.lock().expect("whole").push(peer);
            }
        });
        let directory = directory();
        fs::copy(guest.path(), directory.path().join("probe.wasm")).expect("copied");
        fs::create_dir(directory.path().join("data")).expect("made");
        fs::write(directory.path().join("data/inside"), "inside").expect("written");
        let mut text =
            "admin = \"off\"\n[listen]\naccess_log = \"json\"\n[tenants.loud]\n[tenants.quiet]\n"
                .to_owned();
        let sockets = format!("sockets = [\"tcp://{to}\"]");
        let files = "dirs = [{ host = \"data\", guest = \"/data\" }]";
        for (name, tenant, grant) in [
            ("sockets", "loud", sockets.as_str()),
            ("files", "loud", files),
            ("quiet", "quiet", files),
        ] {
            text += &format!(
                "[handlers.{name}]\nsource = \"probe.wasm\"\ntenant = \"{tenant}\"\nroutes = [{{ path = \"/{name}/*\", strip_prefix = true }}]\n{grant}\n"
            );
        }
        let file = directory.path().join("host.toml");
        fs::write(&file, &text).expect("written");
        // Fifty are for guests, and three quarters of them for one tenant.
        let host = TestHost::serve_by(command_with_open_files(200), &file, "");
        let connect = format!("/sockets/connect?to={to}");
        let crowd: Vec<_> = (0..60).map(|_| host.send(request(&connect))).collect();
        let connected = || accepted.lock().expect("whole").len();
        eventually("all are connected or refused", || {
            (connected() + host.accesses().len() == 60).then_some(())
        });
        let theirs = connected();
        assert!((30..50).contains(&theirs), "{guest}: {theirs}");
        let said = host.get(&connect).text();
        assert!(said.starts_with("refused"), "{guest}: {said}");
        let read = |handler: &str| host.get(&format!("/{handler}/read?path=/data/inside"));
        assert_eq!(read("files").status(), 503, "{guest}: of the same tenant");
        assert_eq!(read("quiet").text(), "read: inside\n", "{guest}");
        // It may deploy what it has no room to call.
        text += &format!(
            "[handlers.late]\nsource = \"probe.wasm\"\ntenant = \"loud\"\nroutes = [{{ path = \"/late/*\", strip_prefix = true }}]\n{files}\n"
        );
        let new = directory.path().join(".new");
        fs::write(&new, &text).expect("written");
        fs::rename(new, &file).expect("renamed");
        eventually("a handler of the same tenant", || {
            (read("late").status() == 503).then_some(())
        });
        // Who is cut off has nothing open any more.
        drop(crowd);
        eventually("room for the tenant", || {
            (read("files").text() == "read: inside\n").then_some(())
        });
        assert_eq!(read("late").text(), "read: inside\n", "{guest}");
    }
}

#[test]
fn a_tenant_whose_handlers_take_long_to_be_made_keeps_nobody_elses_waiting() {
    let (directory, host) = two_tenants("", "");
    let file = directory.path().join("host.toml");
    let mut text = fs::read_to_string(&file).expect("read");
    let mut say = |more: &str, times: usize| {
        text += more;
        let new = directory.path().join(".new");
        fs::write(&new, &text).expect("written");
        fs::rename(new, &file).expect("renamed");
        eventually("the file is taken up", || {
            let said = host.stderr();
            let taken = said.iter().filter(|line| line.contains("is taken up"));
            (taken.count() >= times).then_some(())
        });
    };
    // More than are made at once, and none of them answers what it must before its time is up.
    let slow = (0..10).map(|nth| {
        format!(
            "[handlers.slow{nth}]\nsource = \"loud.wasm\"\ntenant = \"loud\"\nroutes = [\"/slow{nth}/*\"]\nwarm_up = {{ path = \"/never\" }}\n[handlers.slow{nth}.limits]\ntimeout = \"120s\"\n"
        )
    });
    say(&slow.collect::<String>(), 2);
    say(
        "[handlers.new]\nsource = \"quiet.wasm\"\ntenant = \"quiet\"\nroutes = [{ path = \"/new/*\", strip_prefix = true }]\n",
        3,
    );
    eventually("the new handler", || {
        (host.get("/new/ok").status() == 200).then_some(())
    });
    assert_eq!(host.get("/slow0/ok").status(), 404, "they are still made");
}

#[test]
fn one_loop_of_a_tenant_ends_before_the_many_that_another_began_earlier() {
    let (_directory, host) = two_tenants("", "cpu = \"300ms\"\ntimeout = \"120s\"");
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let _loud: Vec<_> = (0..32 * cores)
        .map(|_| host.send(request("/loud/spin")))
        .collect();
    assert_eq!(host.get("/quiet/spin").status(), 500);
    let first = eventually("some loop ends", || {
        host.accesses()
            .into_iter()
            .find(|it| it.label() == "cpu-limit")
    });
    assert_eq!(first.text("host.handler"), "quiet");
}

#[test]
fn loops_in_an_instance_that_is_shared_keep_nobody_waiting() {
    alone();
    let directory = directory();
    let mut text = "[listen]\naccess_log = \"json\"\n".to_owned();
    for (name, limits) in [
        (
            "loud",
            "cpu = \"20s\"\nmax_instance_concurrent_reuse_count = 8",
        ),
        ("quiet", ""),
    ] {
        let wasm = directory.path().join(format!("{name}.wasm"));
        fs::copy(FAULTS_P3.path(), wasm).expect("copied");
        text += &format!(
            "[handlers.{name}]\nsource = \"{name}.wasm\"\nroutes = [{{ path = \"/{name}/*\", strip_prefix = true }}]\n[handlers.{name}.limits]\n{limits}\n"
        );
    }
    let file = directory.path().join("host.toml");
    fs::write(&file, text).expect("written");
    let host = TestHost::serve_file(&file, "");
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let _loud: Vec<_> = (0..16 * cores)
        .map(|_| host.send(request("/loud/spin")))
        .collect();
    let asked = std::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(host.get("/quiet/ok").text(), "ok\n");
    }
    let each = asked.elapsed() / 50;
    assert!(each.as_millis() < 100, "{each:?}");
}

#[test]
fn many_short_burns_of_a_tenant_keep_nobody_waiting() {
    alone();
    let (_directory, host) = two_tenants("", "");
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..8 * cores {
            scope.spawn(|| {
                let mut connection = host.connect();
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(connection.get("/loud/burn?ms=20").text(), "burnt\n");
                }
            });
        }
        let mut connection = host.connect();
        let mut took: Vec<_> = (0..200)
            .map(|_| {
                let asked = std::time::Instant::now();
                assert_eq!(connection.get("/quiet/ok").text(), "ok\n");
                asked.elapsed()
            })
            .collect();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        took.sort_unstable();
        // A burn of each core's eight would be 160 ms.
        assert!(
            took[100].as_millis() < 50,
            "{:?} {:?}",
            took[100],
            took[190]
        );
    });
}

#[test]
fn very_many_that_work_for_a_moment_and_wait_keep_nobody_waiting() {
    alone();
    let (_directory, host) = two_tenants("", "max_concurrent_requests = 400\ncpu = \"60s\"");
    let _loud: Vec<_> = (0..300)
        .map(|_| host.send(request("/loud/flutter?n=1000000&us=200")))
        .collect();
    let mut took: Vec<_> = (0..100)
        .map(|_| {
            let asked = std::time::Instant::now();
            assert_eq!(host.get("/quiet/ok").text(), "ok\n");
            asked.elapsed()
        })
        .collect();
    took.sort_unstable();
    // One after the other they take 60 ms of a thread, and a request waits behind all of them more than once.
    assert!(took[50].as_millis() < 50, "{:?} {:?}", took[50], took[95]);
}

#[test]
fn a_handler_that_is_replaced_gets_no_second_share() {
    let office = Office::new();
    let here = office.0.path();
    let say = |of_loud: &str| {
        let mut text = "[listen]\naccess_log = \"json\"\nmax_concurrent_requests = 16\n\
                        [state]\ndirectory = \"state\"\n\
                        [admin]\naddress = \"127.0.0.1:0\"\ntoken = { from_file = \"token\" }\n"
            .to_owned();
        for (name, more) in [("quiet", ""), ("loud", of_loud)] {
            text += &format!(
                "[handlers.{name}]\nsource = \"faults.wasm\"\nroutes = [{{ path = \"/{name}/*\", strip_prefix = true }}]\n[handlers.{name}.limits]\nmax_concurrent_requests = 16\n{more}\n"
            );
        }
        fs::write(here.join(".new"), text).expect("written");
        fs::rename(here.join(".new"), here.join("host.toml")).expect("renamed");
    };
    fs::copy(FAULTS.path(), here.join("faults.wasm")).expect("copied");
    say("");
    let host = TestHost::serve_file(&here.join("host.toml"), "");
    let operator = Operator::of(&host);
    let sum = |name: &str, labels: &[(&str, &str)]| operator.metrics().sum(name, labels);
    let held: Vec<_> = (0..12).map(|_| host.send(request("/loud/never"))).collect();
    eventually("its share", || {
        let held = sum("host_permits", &[("host_state", "held")]);
        (held == 12.0).then_some(())
    });
    say("timeout = \"2s\"");
    let deployed = [("host_source", "files"), ("host_outcome", "deployed")];
    eventually("the other version", || {
        (sum("host_deploys_total", &deployed) == 3.0).then_some(())
    });
    // Four places are left, and none of them is for it, whichever version is asked.
    assert_eq!(host.get("/loud/ok").status(), 504);
    assert_eq!(host.get("/quiet/ok").text(), "ok\n");
    drop(held);
    assert_eq!(host.get("/loud/ok").text(), "ok\n");
}
