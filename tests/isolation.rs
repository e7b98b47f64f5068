//! A hostile guest costs only itself, and so does a client: a thousand of each fault and of each refusal, loops on every core,
//! work after the answer.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ::host::limits;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::guests::BOTH_FETCHES;
use crate::support::operator::{Office, Operator};
use crate::support::program::without_settings;
use crate::support::upstream::Upstream;
use crate::support::wat::{component, started_by};
use crate::support::*;

const PLACES: usize = 4;
/// A thousand are asked in rounds of so many.
const ROUND: usize = 200;
/// What is lost of memory is lost with each request, and as much as this is seen.
const LEAK: usize = 4 << 10;

/// Room for as many as there are places, and nothing said of what goes right.
fn few_places() -> String {
    format!("--max-concurrent-requests {PLACES} --access-log off")
}

fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn h2_request(target: &str) -> http::Request<()> {
    let request = http::Request::get(format!("http://a{target}"));
    request.body(()).expect("a request")
}

/// Five rounds of as many requests, and more if none of them was quiet. What the host keeps from the first on is no loss, nor
/// what its allocator holds back and gives away again: a loss is in each round.
fn assert_loses_no_memory(host: &TestHost, requests: usize, what: &str, mut round: impl FnMut()) {
    round();
    let mut before = host.memory();
    let mut grown = Vec::new();
    while grown.len() < 4 || grown.iter().all(|grown| *grown >= requests * LEAK) {
        assert!(grown.len() < 12, "{what}: it grows: {grown:?}");
        round();
        let now = host.memory();
        grown.push(now.saturating_sub(std::mem::replace(&mut before, now)));
    }
}

/// Asks for `target` so often, over a few connections.
fn ask(host: &TestHost, requests: usize, connections: usize, target: &str, status: u16) {
    thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut connection = host.connect();
                for _ in 0..requests / connections {
                    let reply = connection.get(target);
                    assert_eq!(reply.status(), status, "{target}: {}", reply.text());
                    if !reply.is_complete {
                        connection = host.connect();
                    }
                }
            });
        }
    });
}

/// Asks for `target` a thousand times, over as many connections as there are places.
fn a_thousand_times(host: &TestHost, places: usize, what: &str, target: &str, status: u16) {
    let what = format!("{what} {target}");
    assert_loses_no_memory(host, ROUND, &what, || {
        ask(host, ROUND, places, target, status);
    });
    host.assert_all_places_are_free(places, &what);
}

#[test]
fn a_thousand_faults_of_each_kind_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, &format!("{} --memory 3MiB", few_places()));
        let mut faults = vec![
            "/trap",
            "/panic",
            "/abort",
            "/overflow",
            "/grow",
            "/alloc",
            "/table",
            "/status/101",
            "/error/internal-error",
        ];
        if !guest.is_p3() {
            faults.push("/no-response");
        }
        for fault in faults {
            a_thousand_times(&host, PLACES, &guest.to_string(), fault, 500);
        }
    }
}

/// What each makes the host keep is far more than what a leak must be to be seen.
#[test]
fn a_thousand_hoards_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, &format!("{} --memory 3MiB", few_places()));
        a_thousand_times(&host, PLACES, &guest.to_string(), "/hoard", 500);
    }
}

/// Loops end in one way, wherever they are, so that a thousand of each are made of both generations' together.
const LOOPS: usize = ROUND / 2;
/// They run on threads of low priority, and may wait long for their turn.
const OF_LOOPS: &str = "--cpu 8ms --timeout 2m --queue-timeout 2m";

#[test]
fn a_thousand_loops_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, &format!("{} {OF_LOOPS}", few_places()));
        assert_loses_no_memory(&host, LOOPS, &format!("{guest} /spin"), || {
            ask(&host, LOOPS, PLACES, "/spin", 500);
        });
        host.assert_all_places_are_free(PLACES, &format!("{guest} /spin"));
    }
}

/// Many at once, for faults that wait.
const MANY: usize = 100;
/// So many at once from one client, or to one destination.
const SOME: usize = 50;

/// Asks for each of `faults` in rounds of so many, over some connections, of a host with as many places. Of a
/// response that fails early there may be nothing.
fn slow_faults(
    guest: Guest,
    requests: usize,
    connections: usize,
    flags: &str,
    faults: &[&str],
    is_right: fn(Option<&Reply>) -> bool,
) {
    let places = format!("--max-concurrent-requests {connections} --access-log off");
    let host = TestHost::serve(guest, &format!("{places} {flags}"));
    // The first may spend more than a small budget.
    eventually("an answer", || {
        (host.get("/ok").status() == 200).then_some(())
    });
    for fault in faults {
        let round = || {
            thread::scope(|scope| {
                for _ in 0..connections {
                    scope.spawn(|| {
                        let mut connection = host.connect();
                        for _ in 0..requests / connections {
                            connection.send(request(fault));
                            let head = connection.try_head();
                            let reply = head.map(|head| connection.reply_after(head));
                            assert!(is_right(reply.as_ref()), "{guest} {fault}: {reply:?}");
                            if !reply.is_some_and(|reply| reply.is_complete) {
                                connection = host.connect();
                            }
                        }
                    });
                }
            });
        };
        let what = format!("{guest} {fault}");
        assert_loses_no_memory(&host, requests, &what, round);
        host.assert_all_places_are_free(connections, &what);
    }
}

/// A thousand of each, many at once.
fn a_thousand_slow_faults(
    guest: Guest,
    flags: &str,
    faults: &[&str],
    is_right: fn(Option<&Reply>) -> bool,
) {
    slow_faults(guest, ROUND, MANY, flags, faults, is_right);
}

/// See [`LOOPS`].
fn loops(guest: Guest, path: &str, is_right: fn(Option<&Reply>) -> bool) {
    slow_faults(guest, LOOPS, PLACES, OF_LOOPS, &[path], is_right);
}

fn is_cut(reply: Option<&Reply>) -> bool {
    reply.is_some_and(|reply| reply.status() == 200 && !reply.is_complete)
}

#[test]
fn a_thousand_bodies_that_break_off_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        a_thousand_slow_faults(guest, "", &["/trap-mid-body", "/drop-body"], is_cut);
    }
}

#[test]
fn a_thousand_bodies_that_get_stuck_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        let stuck = ["/drip?n=2&ms=60000", "/leak-body"];
        a_thousand_slow_faults(guest, "--body-timeout 300ms", &stuck, is_cut);
    }
}

#[test]
fn a_thousand_deadlines_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        let flags = "--timeout 600ms --body-timeout 20s";
        a_thousand_slow_faults(guest, flags, &["/never"], |reply| {
            reply.is_some_and(|reply| reply.status() == 504)
        });
    }
}

/// On a busy machine the budget may be spent before the headers are out.
#[test]
fn a_thousand_loops_after_the_headers_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        loops(guest, "/spin-after-headers", |reply| {
            is_cut(reply) || reply.is_some_and(|reply| reply.status() == 500)
        });
    }
}

#[test]
fn a_thousand_loops_after_the_response_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        loops(guest, "/spin-after-response", |reply| {
            // On a busy machine the budget may be spent before the body is written.
            is_cut(reply) || reply.is_some_and(|it| it.status() == 500 || it.text() == "answered\n")
        });
    }
}

#[test]
fn a_thousand_lengths_that_are_not_kept_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        let lengths = ["/length-short", "/length-long"];
        a_thousand_slow_faults(guest, "", &lengths, |reply| {
            reply.is_none_or(|reply| reply.status() == 500) || is_cut(reply)
        });
    }
}

#[test]
fn a_thousand_floods_of_output_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        loops(guest, "/flood", |reply| {
            reply.is_some_and(|reply| reply.status() == 500 || reply.text() == "flooded\n")
        });
    }
}

#[test]
fn a_thousand_clients_that_leave_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, &format!("--max-concurrent-requests {PLACES}"));
        let targets = ["/never", "/drip?n=1000&ms=2", "/bytes?n=100000000", "/spin"];
        let what = format!("{guest}, whose clients leave");
        assert_loses_no_memory(&host, ROUND, &what, || {
            for target in targets {
                for _ in 0..ROUND / targets.len() {
                    let connection = host.send(request(target));
                    // Long enough that the guest has begun, most times.
                    connection.is_silent_for(Duration::from_millis(5));
                }
            }
            host.assert_all_places_are_free(PLACES, &what);
        });
        let lines = host.accesses();
        let left = lines
            .iter()
            .filter(|line| line.label().starts_with("client-left"))
            .count();
        assert!(left > 500, "{guest}: {left} of 1000 left");
    }
}

/// Sends the same bytes a thousand times, each time on a connection of its own, and is answered with the same status.
fn a_thousand_connections(host: &TestHost, at_once: usize, bytes: &str, status: u16) {
    let what = format!("{bytes:.60}");
    assert_loses_no_memory(host, ROUND, &what, || {
        thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    for _ in 0..ROUND / at_once {
                        let reply = host.send(bytes).reply();
                        assert_eq!(reply.status(), status, "{what}: {}", reply.text());
                    }
                });
            }
        });
    });
    host.assert_all_places_are_free(at_once, &what);
}

/// Nothing of them is a guest's, so one generation is enough.
#[test]
fn a_thousand_refused_requests_of_each_kind_lose_no_place_and_no_memory() {
    let files = directory();
    fs::copy(FAULTS.path(), files.path().join("faults.wasm")).expect("copied");
    let file = files.path().join("host.toml");
    let text = format!(
        "[listen]\naccess_log = \"off\"\nmax_concurrent_requests = {PLACES}\nmax_request_head = \"4KiB\"\n\
         [handlers.faults]\nsource = \"faults.wasm\"\nroutes = [{{ host = \"a\", path = \"/*\", methods = [\"GET\", \"POST\"] }}]\n\
         limits = {{ max_concurrent_requests = {PLACES}, max_body = \"1KiB\" }}\n"
    );
    fs::write(&file, text).expect("written");
    let host = TestHost::serve_file(&file, "");
    let long = "x".repeat(5_000);
    let refused: [(&str, u16); 7] = [
        ("GET /ok HTTP/1.1\r\n\r\n", 400),
        ("GET /ok HTTP/1.1\r\nHost: b\r\n\r\n", 404),
        (
            "PUT /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            405,
        ),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
        (&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (
            &format!("GET /ok HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
            431,
        ),
        (
            "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n",
            413,
        ),
    ];
    for (bytes, status) in refused {
        a_thousand_connections(&host, PLACES, bytes, status);
    }
}

#[test]
fn a_thousand_requests_without_a_place_lose_none_and_no_memory() {
    for guest in BOTH_FAULTS {
        let flags = "--max-concurrent-requests 1 --max-waiting-requests 1 --queue-timeout 20s";
        let host = TestHost::serve(guest, &format!("{flags} --access-log off"));
        let mut held = host.send(request("/drip?n=1&ms=20000"));
        assert_eq!(held.head().status, 200, "{guest}");
        // One of them waits, and the other finds no place even for that.
        let two = [host.send(request("/ok")), host.send(request("/ok"))];
        eventually("a refusal", || {
            let is_refused = |one: &Connection| !one.is_silent_for(Duration::from_millis(5));
            two.iter().any(is_refused).then_some(())
        });
        assert_loses_no_memory(&host, ROUND, &format!("{guest}, full"), || {
            ask(&host, ROUND, PLACES, "/ok", 503);
        });
        drop((held, two));
        // Until the host has seen that they left, they hold the place and the queue.
        eventually("a place", || {
            (host.get("/ok").status() == 200).then_some(())
        });
        host.assert_all_places_are_free(1, &format!("{guest}, full"));
    }
}

#[test]
fn a_thousand_slow_clients_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        let flags = "--header-timeout 200ms --body-timeout 300ms --access-log off";
        let host = TestHost::serve(guest, &format!("{flags} --max-concurrent-requests {MANY}"));
        host.assert_all_places_are_free(MANY, "the start");
        let slow = [
            ("GET /ok HTTP/1.1\r\nHost:", 408),
            // Its guest is told, and answers.
            (
                "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nsome",
                400,
            ),
        ];
        for (bytes, status) in slow {
            a_thousand_connections(&host, MANY, bytes, status);
        }
    }
}

/// Over HTTP/2, where a client that takes nothing leaves little in the sockets.
#[test]
fn a_thousand_clients_that_take_nothing_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        let flags = format!("--write-timeout 300ms --max-concurrent-requests {MANY}");
        let host = TestHost::serve(guest, &flags);
        let what = format!("{guest}, whose clients take nothing");
        let mut cut = 0;
        let mut many_at_once = || {
            let mut clients = [host.h2(), host.h2()];
            let unread: Vec<_> = clients
                .iter_mut()
                .flat_map(|client| {
                    (0..SOME).map(move |_| client.send(h2_request("/bytes?n=100000000"), true))
                })
                .collect();
            cut += unread.len();
            eventually("each to be cut", || {
                let lines = host.stdout();
                let slow = lines.iter().filter(|line| line.contains("\"slow-client"));
                (slow.count() >= cut).then_some(())
            });
        };
        assert_loses_no_memory(&host, ROUND, &what, || {
            for _ in 0..ROUND / MANY {
                many_at_once();
            }
        });
        host.assert_all_places_are_free(MANY, &what);
    }
}

#[test]
fn a_thousand_streams_that_break_off_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        let flags = format!("--max-concurrent-requests {ROUND} --access-log off");
        let host = TestHost::serve(guest, &flags);
        let what = format!("{guest} /trap-mid-body over h2");
        assert_loses_no_memory(&host, ROUND, &what, || {
            let mut clients = [(); ROUND / SOME].map(|()| host.h2());
            let begun = clients.each_mut().map(|client| {
                [(); SOME].map(|()| client.send(h2_request("/trap-mid-body"), true).0)
            });
            for (client, responses) in clients.iter().zip(begun) {
                for response in responses {
                    let reply = client.reply(response);
                    assert!(reply.reset.is_some(), "{guest}: {reply:?}");
                }
            }
        });
        host.assert_all_places_are_free(ROUND, &what);
    }
}

#[test]
fn a_thousand_streams_that_their_clients_reset_lose_no_place_and_no_memory() {
    // Who resets on and on is sent away, so that nobody resets many.
    const STREAMS: usize = 25;
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, &few_places());
        let what = format!("{guest}, whose streams are reset");
        assert_loses_no_memory(&host, ROUND, &what, || {
            thread::scope(|scope| {
                for _ in 0..PLACES {
                    scope.spawn(|| {
                        for _ in 0..ROUND / PLACES / STREAMS {
                            let mut client = host.h2();
                            for _ in 0..STREAMS {
                                let request = h2_request("/drip?n=1000&ms=20");
                                let (response, _) = client.send(request, true);
                                assert_eq!(client.head(response).status(), 200, "{guest}");
                            }
                        }
                    });
                }
            });
        });
        host.assert_all_places_are_free(PLACES, &what);
    }
}

#[test]
fn a_thousand_failed_starts_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        let temporary = directory();
        let mut program = without_settings(Command::new(env!("CARGO_BIN_EXE_host")));
        program.env("TMPDIR", temporary.path());
        let flags = format!(
            "--max-concurrent-requests {PLACES} --scratch 1MiB --max-instance-reuse-count 1"
        );
        let host = TestHost::serve_as(program, guest, &flags);
        assert_eq!(host.get("/ok").text(), "ok\n", "{guest}");
        // Where each instance would have its scratch directory is gone.
        let within = |directory: &Path| {
            let mut entries = fs::read_dir(directory).expect("read").flatten();
            let found = entries.find(|it| it.file_name().to_string_lossy().starts_with("host-"));
            found.expect("the host's").path()
        };
        let home = within(&within(temporary.path()));
        eventually("the first instance to be gone", || {
            fs::remove_dir(&home).is_ok().then_some(())
        });
        let reply = host.get("/ok");
        assert_eq!(reply.status(), 500, "{guest}");
        assert_eq!(host.access(&reply).label(), "start-failed", "{guest}");
        let what = format!("{guest}, which cannot start");
        assert_loses_no_memory(&host, ROUND, &what, || {
            ask(&host, ROUND, PLACES, "/ok", 500);
        });
        fs::create_dir(&home).expect("made");
        assert_eq!(host.get("/ok").text(), "ok\n", "{guest}");
        host.assert_all_places_are_free(PLACES, &what);
    }
}

/// A host of one handler, which has so many places and of which `said` is said besides.
fn one_handler(directory: &TempDir, guest: Guest, places: usize, said: &str) -> TestHost {
    fs::copy(guest.path(), directory.path().join("guest.wasm")).expect("copied");
    let file = directory.path().join("host.toml");
    let text = format!(
        "[listen]\naccess_log = \"off\"\n[handlers.guest]\nsource = \"guest.wasm\"\nroutes = [\"/*\"]\n\
         limits = {{ max_concurrent_requests = {places} }}\n{said}"
    );
    fs::write(&file, text).expect("written");
    TestHost::serve_file(&file, "")
}

#[test]
fn a_thousand_requests_to_a_quarantined_handler_lose_no_place_and_no_memory() {
    for guest in BOTH_FAULTS {
        let directory = directory();
        let host = one_handler(&directory, guest, PLACES, "");
        for _ in 0..10 {
            assert_eq!(host.get("/trap").status(), 500, "{guest}");
        }
        let what = format!("{guest}, quarantined");
        let tried = AtomicUsize::new(0);
        assert_loses_no_memory(&host, ROUND, &what, || {
            thread::scope(|scope| {
                for _ in 0..PLACES {
                    scope.spawn(|| {
                        let mut connection = host.connect();
                        for _ in 0..ROUND / PLACES {
                            let reply = connection.get("/trap");
                            if reply.status() == 500 {
                                tried.fetch_add(1, Ordering::Relaxed);
                                continue;
                            }
                            assert_eq!(reply.status(), 503, "{what}");
                            let said = reply.text();
                            assert!(said.contains("the handler fails"), "{what}: {said}");
                        }
                    });
                }
            });
        });
        // Now and then one may try, less and less often.
        let tried = tried.into_inner();
        assert!(tried < 10, "{what}: {tried}");
        eventually("an answer, which ends the quarantine", || {
            (host.get("/ok").status() == 200).then_some(())
        });
        host.assert_all_places_are_free(PLACES, &what);
    }
}

/// The handler is a gateway, whose upstream closes the connection or is silent.
#[test]
fn a_thousand_answers_that_a_gateway_does_not_get_lose_no_place_and_no_memory() {
    let upstream = Upstream::new(|head, wire| match head {
        _ if head.starts_with("GET /closes ") => Err(wire.close()),
        _ if head.starts_with("GET /silent ") => wire.until_closed(),
        _ => {
            wire.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n.\r\n")?;
            wire.until_closed()
        }
    });
    let url = upstream.url();
    for guest in BOTH_FETCHES {
        let directory = directory();
        let said = format!(
            "env = {{ UPSTREAM = \"{url}\" }}\n\
             outbound = {{ allow = [{{ to = \"{url}\", first_byte_timeout = \"300ms\" }}] }}\n"
        );
        let host = one_handler(&directory, guest, SOME, &said);
        let what = guest.to_string();
        a_thousand_times(&host, SOME, &what, "/closes", 502);
        a_thousand_times(&host, SOME, &what, "/silent", 504);
    }
}

/// The drain waits for every place and every task, so that none is lost when it is over before its time.
#[test]
fn a_thousand_requests_that_wait_when_the_host_stops_lose_no_place() {
    const CLIENTS: usize = 1000 / SOME;
    for guest in BOTH_FAULTS {
        let office = Office::new();
        let flags = "--max-concurrent-requests 1 --max-waiting-requests 1000 --queue-timeout 25s --drain-timeout 2m";
        let host = TestHost::serve(guest, &format!("{flags} {}", office.flags()));
        let operator = Operator::of(&host);
        let mut held = host.send(request("/drip?n=1&ms=20000"));
        assert_eq!(held.head().status, 200, "{guest}");
        let mut clients = [(); CLIENTS].map(|()| host.h2());
        let begun = clients
            .each_mut()
            .map(|client| [(); SOME].map(|()| client.send(h2_request("/ok"), true).0));
        eventually("all to wait", || {
            let waiting = [("host_state", "waiting")];
            let waiting = operator.metrics().sum("host_handler_permits", &waiting);
            (waiting == 1000.0).then_some(())
        });
        host.signal(Signal::TERM);
        for (client, responses) in clients.iter().zip(begun) {
            for response in responses {
                let reply = client.reply(response);
                assert_eq!(reply.status(), 503, "{guest}");
                assert!(reply.text().contains("is stopping"), "{guest}: {reply:?}");
            }
        }
        drop(held);
        assert_eq!(host.ended().code, Some(0), "{guest}");
    }
}

#[test]
fn beside_loops_on_every_core_others_are_answered_promptly() {
    alone();
    let cores = thread::available_parallelism().map_or(2, usize::from);
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--cpu 20s");
        let _loops: Vec<_> = (0..2 * cores)
            .map(|_| host.send(request("/spin")))
            .collect();
        let start = Instant::now();
        for _ in 0..20 {
            assert_eq!(host.get("/ok").text(), "ok\n", "{guest}");
        }
        let each = start.elapsed() / 20;
        assert!(each < Duration::from_millis(250), "{guest}: {each:?}");
        // Timers and signals do not wait either.
        assert_eq!(host.get("/sleep?ms=20").text(), "slept\n", "{guest}");
    }
}

#[test]
fn a_signal_does_not_wait_behind_loops() {
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let host = TestHost::serve(FAULTS, "--cpu 20s --drain-timeout 200ms");
    let _loops: Vec<_> = (0..2 * cores)
        .map(|_| host.send(request("/spin")))
        .collect();
    assert_eq!(host.get("/ok").text(), "ok\n");
    let stopped = Instant::now();
    assert_eq!(host.stop().code, Some(0));
    assert!(
        stopped.elapsed() < Duration::from_secs(5),
        "{:?}",
        stopped.elapsed()
    );
}

#[test]
fn work_after_the_response_goes_on_and_holds_its_place() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-concurrent-requests 1");
        let mut connection = host.connect();
        let start = Instant::now();
        assert_eq!(
            connection.get("/after?ms=600").text(),
            "answered\n",
            "{guest}"
        );
        assert!(
            start.elapsed() < Duration::from_millis(600),
            "{guest}: the answer waited"
        );
        assert_eq!(connection.get("/ok").text(), "ok\n", "{guest}");
        assert!(
            start.elapsed() >= Duration::from_millis(600),
            "{guest}: its place was given away"
        );
        host.says("work done");
    }
}

#[test]
fn work_after_the_response_ends_at_its_deadline() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--timeout 300ms --max-concurrent-requests 1");
        assert_eq!(host.get("/after?ms=60000").text(), "answered\n", "{guest}");
        host.says("past its deadline");
        assert_eq!(host.get("/ok").text(), "ok\n", "{guest}: its place is free");
        assert!(
            !host.stderr().iter().any(|line| line.contains("work done")),
            "{guest}"
        );
    }
}

#[test]
fn work_after_the_response_goes_on_when_the_client_has_left() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.connect();
        assert_eq!(
            connection.get("/after?ms=200").text(),
            "answered\n",
            "{guest}"
        );
        drop(connection);
        host.says("work done");
    }
}

#[test]
fn an_instance_finds_nothing_of_those_before_it() {
    let directory = directory();
    // Data is copied into memory and places are shared, or it is mapped there if there is much.
    let [much, more] = ["much".repeat(25_000), "more".repeat(30_000)];
    let all = [
        ("none", ""),
        ("some", "some"),
        ("other", "another"),
        ("much", &much),
        ("more", &more),
    ];
    for (name, data) in all {
        let sum: usize = data.bytes().map(usize::from).sum();
        let memory = format!(r#"(memory 2) (data (i32.const 9000) "{data}")"#);
        // More than stays in a place, so that some goes back to the kernel.
        let pages = limits::KEPT_MEMORY / (64 << 10) + 4;
        let bytes = pages * (64 << 10);
        let adds_up = format!(
            "(local $at i32) (local $sum i32)
             (drop (memory.grow (i32.const {})))
             (loop $each
               (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
               (local.set $at (i32.add (local.get $at) (i32.const 1)))
               (br_if $each (i32.lt_u (local.get $at) (i32.const {bytes}))))
             (if (i32.ne (local.get $sum) (i32.const {sum})) (then unreachable))
             (memory.fill (i32.const 0) (i32.const 0xff) (i32.const {bytes}))",
            pages - 2
        );
        component(&directory, name, &started_by(&memory, &adds_up));
    }
    let host = TestHost::serve_file(directory.path(), "--max-concurrent-requests 1");
    // One more, and they would be quarantined.
    for _ in 1..limits::FIRST_FAILURES {
        for (name, _) in all {
            let reply = host.get(&format!("/{name}/"));
            assert_eq!(host.access(&reply).label(), "no-response", "{name}");
        }
    }
}
