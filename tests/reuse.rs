//! How often an instance is used again.

use std::thread;
use std::time::Duration;

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
        let flags = "--max-instance-reuse-count 100 --idle-instance-timeout 1m --cpu 50ms";
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
        let host = TestHost::serve(
            guest,
            "--max-instance-reuse-count 100 --idle-instance-timeout 1m",
        );
        assert_eq!(count(&mut host.connect()), 1, "{guest}");
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
