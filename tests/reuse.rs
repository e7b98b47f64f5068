//! How often an instance is used again.

use std::fs;
use std::thread;
use std::time::Duration;

use ::host::limits::REUSE_RECOVERS;

use crate::support::operator::{OPERATOR, Office, Operator};
use crate::support::*;

/// How many requests the instance that answered has served.
fn count(connection: &mut Connection) -> u32 {
    connection
        .get("/count")
        .text()
        .trim()
        .parse()
        .expect("a number")
}

#[test]
fn an_instance_of_0_2_serves_one_request_unless_told_otherwise() {
    let host = TestHost::serve(FAULTS, "");
    let mut connection = host.connect();
    for _ in 0..5 {
        assert_eq!(count(&mut connection), 1);
    }
}

#[test]
fn an_instance_of_0_3_serves_128_requests_unless_told_otherwise() {
    // With one place a request waits until the instance of the one before is idle.
    let flags = "--idle-instance-timeout 1m --max-concurrent-requests 1";
    let host = TestHost::serve(FAULTS_P3, flags);
    let mut connection = host.connect();
    for expected in (1..=128).chain([1, 2]) {
        assert_eq!(count(&mut connection), expected);
    }
}

#[test]
fn an_instance_serves_as_many_requests_as_it_is_told() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(
            guest,
            "--max-instance-reuse-count 3 --idle-instance-timeout 1m --max-concurrent-requests 1",
        );
        let mut connection = host.connect();
        for expected in [1, 2, 3, 1, 2, 3, 1] {
            assert_eq!(count(&mut connection), expected, "{guest}");
        }
    }
}

#[test]
fn an_instance_is_not_used_again_after_a_fault() {
    for guest in BOTH_FAULTS {
        let flags = "--max-instance-reuse-count 100 --idle-instance-timeout 1m --cpu 50ms --max-concurrent-requests 1";
        let host = TestHost::serve(guest, flags);
        for fault in ["/trap", "/spin", "/table", "/overflow"] {
            let mut connection = host.connect();
            // A request after which the one before is surely ready for the next.
            eventually("reuse", || (count(&mut connection) > 1).then_some(()));
            assert_eq!(connection.get(fault).status(), 500, "{guest}");
            assert_eq!(count(&mut connection), 1, "{guest} after {fault}");
        }
    }
}

#[test]
fn an_instance_is_not_used_again_after_its_client_left() {
    for guest in BOTH_FAULTS {
        let (office, flags) = (
            Office::new(),
            "--max-instance-reuse-count 100 --idle-instance-timeout 1m",
        );
        let host = TestHost::serve(guest, &format!("{flags} {}", office.flags()));
        assert_eq!(count(&mut host.connect()), 1, "{guest}");
        // It is kept a moment after its answer has come.
        let operator = Operator::of(&host);
        eventually("an instance that waits", || {
            let idle = operator
                .metrics()
                .sum("host_instances", &[("host_state", "idle")]);
            (idle == 1.0).then_some(())
        });
        let mut leaving = host.send("GET /drip?n=1000&ms=20 HTTP/1.1\r\nHost: a\r\n\r\n");
        leaving.head();
        drop(leaving);
        assert_eq!(
            host.access_to("/drip").label(),
            "client-left,after-headers",
            "{guest}"
        );
        assert_eq!(count(&mut host.connect()), 1, "{guest}");
    }
}

#[test]
fn an_idle_instance_lives_no_longer_than_it_is_told() {
    for guest in BOTH_FAULTS {
        let flags = "--max-instance-reuse-count 1000000 --idle-instance-timeout 600ms";
        let host = TestHost::serve(guest, flags);
        let mut connection = host.connect();
        // Looks that come once in a timeout would miss one of two that are half a timeout apart.
        for _ in 0..3 {
            assert_eq!(count(&mut connection), 1, "{guest}");
            assert!(connection.is_silent_for(Duration::from_millis(900)));
        }
    }
}

#[test]
fn an_idle_instance_is_dropped_in_time() {
    for guest in BOTH_FAULTS {
        let flags = "--max-instance-reuse-count 1000000 --idle-instance-timeout 50ms";
        let host = TestHost::serve(guest, flags);
        let mut connection = host.connect();
        eventually("a fresh instance after a pause", || {
            assert_eq!(connection.get("/ok").text(), "ok\n");
            assert!(connection.is_silent_for(Duration::from_millis(200)));
            (count(&mut connection) == 1).then_some(())
        });
    }
}

#[test]
fn requests_at_once_have_an_instance_each_unless_told_otherwise() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-instance-reuse-count 100");
        let mut busy = host.send("GET /drip?n=5&ms=100 HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = busy.head();
        assert_eq!(count(&mut host.connect()), 1, "{guest}");
        assert!(busy.reply_after(head).is_complete, "{guest}");
    }
}

#[test]
fn one_instance_of_0_3_serves_requests_at_once_when_told() {
    let flags = "--max-instance-reuse-count 100 --max-instance-concurrent-reuse-count 8";
    let host = TestHost::serve(FAULTS_P3, flags);
    let mut busy = host.send("GET /drip?n=10&ms=100 HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = busy.head();
    assert_eq!(count(&mut host.connect()), 2);
    assert!(busy.reply_after(head).is_complete);
}

#[test]
fn an_instance_is_shared_again_when_what_burned_in_it_is_done() {
    let flags = "--max-instance-reuse-count 1000 --max-instance-concurrent-reuse-count 8";
    let host = TestHost::serve(FAULTS_P3, flags);
    let mut connection = host.connect();
    // Where that ends an instance, each that counts is the first of another.
    eventually("more than two requests in one instance", || {
        assert_eq!(connection.get("/burn?ms=10").status(), 200);
        (count(&mut connection) > 2).then_some(())
    });
}

#[test]
fn an_instance_that_could_be_shared_and_that_nobody_is_in_is_idle() {
    let office = Office::new();
    let host = TestHost::serve(FAULTS_P3, &format!("{SHARED} {}", office.flags()));
    let operator = Operator::of(&host);
    let comes_to = |running: f64, idle: f64| {
        eventually("so many instances", || {
            let metrics = operator.metrics();
            let of = |state| metrics.sum("host_instances", &[("host_state", state)]);
            ((of("running"), of("idle")) == (running, idle)).then_some(())
        });
    };
    let mut connection = host.connect();
    assert_eq!(count(&mut connection), 1);
    comes_to(0.0, 1.0);
    let mut busy = host.send("GET /drip?n=1&ms=20000 HTTP/1.1\r\nHost: a\r\n\r\n");
    busy.head();
    comes_to(1.0, 0.0);
    // It is cut off with its client.
    drop(busy);
    comes_to(0.0, 0.0);
    // So it is with one that was away from the front, where what burned in it went.
    assert_eq!(connection.get("/burn?ms=100").status(), 200);
    comes_to(0.0, 1.0);
}

#[test]
fn an_instance_that_finds_no_place_among_the_idle_ones_ends() {
    for reuse in ["", "--max-instance-concurrent-reuse-count 8"] {
        let here = directory();
        for name in ["first.wasm", "second.wasm"] {
            fs::copy(FAULTS_P3.path(), here.path().join(name)).expect("copied");
        }
        // As many may be idle as may be asked at once.
        let office = Office::new();
        let flags = format!(
            "--max-concurrent-requests 1 --idle-instance-timeout 1h {reuse} {}",
            office.flags()
        );
        let host = TestHost::serve_file(here.path(), &flags);
        let operator = Operator::of(&host);
        let comes_to_one = || {
            eventually("one instance, which is idle", || {
                let metrics = operator.metrics();
                let of = |state| metrics.sum("host_instances", &[("host_state", state)]);
                ((of("running"), of("idle")) == (0.0, 1.0)).then_some(())
            });
        };
        for (handler, expected) in [("first", "1\n"), ("second", "1\n"), ("first", "2\n")] {
            let said = host.get(&format!("/{handler}/count"));
            assert_eq!(said.text(), expected, "{reuse}");
            comes_to_one();
        }
    }
}

#[test]
fn an_instance_that_has_served_all_that_it_may_does_not_wait_for_more() {
    let flags = "--max-instance-reuse-count 2 --max-instance-concurrent-reuse-count 8 --idle-instance-timeout 1h";
    let office = Office::new();
    let host = TestHost::serve(FAULTS_P3, &format!("{flags} {}", office.flags()));
    let mut connection = host.connect();
    for expected in [1, 2] {
        assert_eq!(count(&mut connection), expected);
    }
    let operator = Operator::of(&host);
    eventually("no instance", || {
        (operator.metrics().sum("host_instances", &[]) == 0.0).then_some(())
    });
}

#[test]
fn who_comes_into_an_instance_that_nobody_is_in_has_all_of_its_budget_at_once() {
    let host = TestHost::serve(FAULTS_P3, SHARED);
    assert_eq!(count(&mut host.connect()), 1);
    // Milliseconds in one poll, which nothing can stop.
    let reply = host.get("/alloc?mib=64");
    assert_eq!(reply.text(), format!("{}\n", 64 << 20));
    let line = host.access(&reply);
    assert!(line.0["host.tried_again"].is_null(), "{line:?}");
}

/// One instance for all.
const SHARED: &str = "--max-instance-reuse-count 100000 --idle-instance-timeout 1h --max-instance-concurrent-reuse-count 16";

/// Sends requests that are not answered yet, and waits until all of them are in one instance, which has served others. One after
/// the other: what takes in many at once may take so long that it leaves the front, and takes nobody new.
fn together(host: &TestHost, requests: &[&str]) -> Vec<Connection> {
    let mut asking = host.connect();
    assert_eq!(count(&mut asking), 1);
    let mut asked = 1;
    let hold = |(held, request): (u32, &&str)| {
        let connection = host.send(request);
        eventually("all in one instance", || {
            asked += 1;
            (count(&mut asking) == asked + held).then_some(())
        });
        connection
    };
    (1..).zip(requests).map(hold).collect()
}

#[test]
fn beside_one_that_traps_who_can_be_called_again_is_answered_and_the_others_fail() {
    let host = TestHost::serve(FAULTS_P3, SHARED);
    let mut held = together(
        &host,
        &[
            "GET /first HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS /first HTTP/1.1\r\nHost: a\r\n\r\n",
            "DELETE /first HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            "PUT /first HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nsome",
            "POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nsome",
            "PUT /read-aloud HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nsome",
            "GET /drip?n=100000&ms=20 HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    );
    host.says("4 bytes were read");
    let head = held[6].head();
    assert!(held[6].chunk().is_some());

    // It fails a second time, alone.
    let trapped = host.get("/trap");
    assert_eq!(trapped.status(), 500);
    let tried_again = |line: &Access| line.0["host.tried_again"] == true;
    let line = host.access(&trapped);
    assert!(line.label() == "trap" && tried_again(&line), "{line:?}");

    for (one, read) in held[..4].iter_mut().zip(["0 ", "0 ", "0 ", "4 "]) {
        let reply = one.reply();
        assert_eq!(reply.status(), 200, "{}", reply.text());
        assert!(reply.text().starts_with(read), "{}", reply.text());
        let line = host.access(&reply);
        assert!(line.label().is_empty() && tried_again(&line), "{line:?}");
    }
    for (nth, why) in [(4, "a POST"), (5, "a body that was begun")] {
        let reply = held[nth].reply();
        assert_eq!(reply.status(), 500, "{why}");
        let line = host.access(&reply);
        assert!(
            line.label() == "trap" && !tried_again(&line),
            "{why}: {line:?}"
        );
    }
    assert!(!held[6].reply_after(head).is_complete, "it was begun");
    let line = host.access_to("/drip");
    assert_eq!(line.label(), "trap,after-headers");
    assert!(!tried_again(&line), "{line:?}");
}

#[test]
fn one_that_was_alone_from_the_beginning_is_not_called_again() {
    let host = TestHost::serve(FAULTS_P3, SHARED);
    let reply = host.get("/trap");
    assert_eq!(reply.status(), 500);
    let line = host.access(&reply);
    assert_eq!(line.label(), "trap");
    assert!(line.0["host.tried_again"].is_null(), "{line:?}");
}

#[test]
fn after_a_fault_fewer_share_an_instance_until_many_were_served_well() {
    let office = Office::new();
    let flags = SHARED.replace("reuse-count 16", "reuse-count 2");
    let host = TestHost::serve(FAULTS_P3, &format!("{flags} {}", office.flags()));
    let operator = Operator::of(&host);
    let shown = || {
        let target = format!("/handlers/{}", FAULTS_P3.handler());
        let text = operator.get(&target, OPERATOR).text();
        let handler: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        handler["reuse"].clone()
    };
    // What the second of two at once is told that its instance has served.
    let beside_another = || {
        let mut busy = host.send("GET /drip?n=100000&ms=20 HTTP/1.1\r\nHost: a\r\n\r\n");
        busy.head();
        count(&mut host.connect())
    };
    assert!(shown().is_null());
    assert_eq!(beside_another(), 2, "in the same instance");

    assert_eq!(host.get("/trap").status(), 500);
    let now = shown();
    for (name, expected) in [
        ("at_once", 1),
        ("at_once_granted", 2),
        ("in_all", 50_000),
        ("in_all_granted", 100_000),
    ] {
        assert_eq!(now[name], expected, "{name} in {now}");
    }
    host.says("serves 1 of 2 requests at once, and 50000 of 100000 in all");
    assert_eq!(beside_another(), 1, "in an instance of its own");

    let mut connection = host.connect();
    for _ in 0..REUSE_RECOVERS {
        assert_eq!(connection.get("/ok").status(), 200);
    }
    eventually("all that is granted", || shown().is_null().then_some(()));
    // So many requests may have used up what its account has in front, without which an instance leaves it and takes nobody new.
    eventually("the same instance again", || {
        (beside_another() > 1).then_some(())
    });
}

#[test]
fn after_a_fault_fewer_follow_one_another_in_an_instance() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(
            guest,
            "--max-instance-reuse-count 4 --idle-instance-timeout 1m --max-concurrent-requests 1",
        );
        assert_eq!(host.get("/trap").status(), 500, "{guest}");
        let mut connection = host.connect();
        for expected in [1, 2, 1, 2, 1] {
            assert_eq!(count(&mut connection), expected, "{guest}");
        }
        assert_eq!(connection.get("/trap").status(), 500, "{guest}");
        for _ in 0..3 {
            assert_eq!(count(&mut connection), 1, "{guest}");
        }
    }
}

#[test]
fn under_load_each_request_has_its_own_answer() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-instance-reuse-count 10");
        thread::scope(|scope| {
            for client in 0..8 {
                let host = &host;
                scope.spawn(move || {
                    let mut connection = host.connect();
                    for n in 0..50 {
                        let target = format!("/request?client={client}&n={n}");
                        let seen = connection.get(&target).text();
                        assert!(
                            seen.ends_with(&format!("path_with_query: {target}\n")),
                            "{guest}: {seen}"
                        );
                    }
                });
            }
        });
    }
}
