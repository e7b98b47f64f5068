//! Each thing that a guest does wrong: what the client gets, and the word for it in the access log.

use std::thread;

use crate::parts::TYPES;
use crate::support::wat::component;
use crate::support::*;

/// What each path of both guests comes to, before the headers are out.
const TABLE: [(&str, u16, &str); 15] = [
    ("/trap", 500, "trap"),
    ("/panic", 500, "trap"),
    ("/abort", 500, "trap"),
    ("/overflow", 500, "stack-overflow"),
    ("/grow", 500, "memory-limit"),
    ("/alloc", 500, "memory-limit"),
    ("/table", 500, "memory-limit"),
    ("/spin", 500, "cpu-limit"),
    ("/status/100", 500, "invalid-response"),
    ("/status/101", 500, "invalid-response"),
    ("/status/103", 500, "invalid-response"),
    ("/error/internal-error", 500, "guest-error:internal-error"),
    (
        "/error/connection-refused",
        502,
        "guest-error:connection-refused",
    ),
    (
        "/error/http-response-timeout",
        504,
        "guest-error:HTTP-response-timeout",
    ),
    (
        "/error/http-request-body-size",
        413,
        "guest-error:HTTP-request-body-size",
    ),
];

/// Little memory and CPU, so that the suite is quick. A guest that burns has a low priority, so on a
/// busy machine its budget may last for seconds: the deadline is far off.
const LIMITS: &str = "--timeout 25s --cpu 100ms --memory 16MiB";

fn table_of(guest: Guest) -> Vec<(&'static str, u16, &'static str)> {
    let mut table = TABLE.to_vec();
    if !guest.is_p3() {
        // The bindings of 0.3 leave no way to do this.
        table.push(("/no-response", 500, "no-response"));
    }
    table
}

#[test]
fn each_fault_has_its_status_and_its_label() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, LIMITS);
        for (path, status, label) in table_of(guest) {
            let reply = host.get(path);
            assert_eq!(reply.status(), status, "{guest} {path}");
            assert!(reply.is_complete, "{guest} {path}");
            let line = host.access(&reply);
            assert_eq!(line.label(), label, "{guest} {path}");
            assert_eq!(line.status(), u64::from(status), "{guest} {path}");
            assert_eq!(host.get("/ok").text(), "ok\n", "{guest} after {path}");
        }
    }
}

/// What the bindings of 0.3 leave no way to do.
#[test]
fn a_0_3_guest_that_returns_without_a_response_is_500() {
    let directory = directory();
    let text = format!(
        r#"(component
          (import "wasi:http/types@0.3.0" (instance $types {TYPES}))
          (alias export $types "request" (type $request))
          (alias export $types "response" (type $response))
          (alias export $types "error-code" (type $error))
          (core module $module
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
            (func (export "handle") (param i32) (result i32) (i32.const 0))
            (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
          (core instance $instance (instantiate $module))
          (func $handle async
            (param "request" (own $request)) (result (result (own $response) (error $error)))
            (canon lift (core func $instance "handle") async
              (callback (core func $instance "callback"))
              (memory (core memory $instance "memory")) (realloc (core func $instance "realloc"))))
          (instance $handler (export "handle" (func $handle)))
          (export "wasi:http/handler@0.3.0" (instance $handler)))"#
    );
    let host = TestHost::serve_file(&component(&directory, "silent", &text), "");
    for _ in 0..2 {
        let reply = host.get("/");
        assert_eq!(reply.status(), 500);
        assert_eq!(host.access(&reply).label(), "no-response");
    }
}

#[test]
fn no_answer_before_the_deadline_is_504() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--timeout 200ms");
        for path in ["/never", "/sleep?ms=60000"] {
            let reply = host.get(path);
            assert_eq!(reply.status(), 504, "{guest} {path}");
            assert_eq!(host.access(&reply).label(), "deadline", "{guest} {path}");
            assert_eq!(host.get("/ok").text(), "ok\n", "{guest} after {path}");
        }
    }
}

#[test]
fn each_fault_is_the_same_over_h2() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, LIMITS);
        let mut connection = host.h2();
        for (path, status, label) in table_of(guest) {
            let reply = connection.get(path);
            assert_eq!(reply.status(), status, "{guest} {path}");
            assert_eq!(reply.reset, None, "{guest} {path}");
            let id = reply.header("x-request-id").expect("a request id");
            assert_eq!(host.access_of(id).label(), label, "{guest} {path}");
        }
        assert_eq!(connection.get("/ok").text(), "ok\n", "{guest}");
    }
}

/// Faults after the headers: the client has a status, and must be able to tell that the body is not whole.
const AFTER_HEADERS: [(&str, &str); 3] = [
    ("/trap-mid-body", "trap,after-headers"),
    ("/drop-body", "invalid-response,after-headers"),
    ("/spin-after-headers", "cpu-limit,after-headers"),
];

#[test]
fn a_response_that_breaks_off_never_looks_complete_on_h1() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, LIMITS);
        for (path, label) in AFTER_HEADERS {
            let mut connection = host.connect();
            let reply = connection.get(path);
            assert_eq!(reply.status(), 200, "{guest} {path}");
            assert!(!reply.is_complete, "{guest} {path}: {}", reply.text());
            assert_eq!(host.access(&reply).label(), label, "{guest} {path}");
            assert!(connection.is_closed(), "{guest} {path}");
        }
    }
}

#[test]
fn a_response_that_breaks_off_never_looks_complete_on_h2() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, LIMITS);
        let mut connection = host.h2();
        for (path, label) in AFTER_HEADERS {
            let reply = connection.get(path);
            assert_eq!(reply.status(), 200, "{guest} {path}");
            assert!(reply.reset.is_some(), "{guest} {path}: no RST_STREAM");
            let id = reply.header("x-request-id").expect("a request id");
            assert_eq!(host.access_of(id).label(), label, "{guest} {path}");
        }
        assert_eq!(
            connection.get("/ok").text(),
            "ok\n",
            "{guest}: the connection goes on"
        );
    }
}

#[test]
fn a_body_that_gets_stuck_is_cut_at_the_deadline() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--timeout 300ms");
        let reply = host.get("/drip?n=2&ms=60000");
        assert_eq!((reply.status(), reply.is_complete), (200, false), "{guest}");
        assert_eq!(
            host.access(&reply).label(),
            "deadline,after-headers",
            "{guest}"
        );
    }
}

#[test]
fn a_body_that_the_guest_forgot_never_looks_complete() {
    for (guest, label) in [
        (FAULTS, "invalid-response,after-headers"),
        // A task may still write to it as long as the instance lives.
        (FAULTS_P3, "deadline,after-headers"),
    ] {
        let host = TestHost::serve(guest, "--timeout 1s");
        let reply = host.get("/leak-body");
        assert!(!reply.is_complete, "{guest}");
        assert_eq!(host.access(&reply).label(), label, "{guest}");
    }
}

/// HTTP/1.0 knows no chunks: the end of the connection is the end of the body, unless it is a reset.
#[test]
fn a_response_that_breaks_off_never_looks_complete_on_http_1_0() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, LIMITS);
        let mut connection = host.send("GET /trap-mid-body HTTP/1.0\r\n\r\n");
        let end = connection.end();
        assert!(
            end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset),
            "{guest}: an orderly end"
        );
    }
}

#[test]
fn a_length_that_is_not_kept_fails_the_exchange() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, LIMITS);
        for path in ["/length-short", "/length-long"] {
            let mut connection = host.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            // A 500 if it is known in time, and else a body that is not whole.
            if let Some(head) = connection.try_head() {
                let reply = connection.reply_after(head);
                assert!(
                    reply.status() == 500 || !reply.is_complete,
                    "{guest} {path}: {reply:?}"
                );
            }
            let label = host.access_to(path).label().to_owned();
            assert!(
                label.starts_with("invalid-response"),
                "{guest} {path}: {label}"
            );
        }
    }
}

#[test]
fn a_length_that_is_not_kept_over_h2_ends_the_stream_and_not_the_connection() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, LIMITS);
        let mut connection = host.h2();
        for path in ["/length-short", "/length-long"] {
            let request = http::Request::get(format!("http://a{path}"));
            let request = request.body(()).expect("a request");
            let (response, _) = connection.send(request, true);
            if let Some(reply) = connection.try_reply(response) {
                // The host says so itself: it is not the client that counts.
                let is_cut = |it: h2::Reason| it != h2::Reason::PROTOCOL_ERROR;
                assert!(
                    reply.status() == 500 || reply.reset.is_some_and(is_cut),
                    "{guest} {path}: {reply:?}"
                );
            }
            let label = host.access_to(path).label().to_owned();
            assert!(
                label.starts_with("invalid-response"),
                "{guest} {path}: {label}"
            );
        }
        assert_eq!(connection.get("/ok").text(), "ok\n", "{guest}");
    }
}

#[test]
fn requests_in_flight_finish_whatever_their_neighbours_do() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, LIMITS);
        thread::scope(|scope| {
            let siblings: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| host.get("/drip?n=10&ms=50")))
                .collect();
            for (path, ..) in TABLE {
                scope.spawn(|| host.get(path));
            }
            for sibling in siblings {
                let reply = sibling.join().expect("an answer");
                assert_eq!(reply.text(), "..........", "{guest}");
                assert!(reply.is_complete, "{guest}");
            }
        });
    }
}

#[test]
fn a_reset_connection_of_one_client_is_nobody_elses() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, LIMITS);
        let mut quiet = host.send("GET /sleep?ms=300 HTTP/1.1\r\nHost: a\r\n\r\n");
        drop(host.send("GET /spin HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(quiet.reply().text(), "slept\n", "{guest}");
    }
}
