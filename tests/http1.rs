//! HTTP/1.1 and 1.0 on the wire.

use std::time::Duration;

use crate::support::*;

#[test]
fn a_connection_is_kept_for_the_next_request() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.connect();
        for _ in 0..3 {
            assert_eq!(connection.get("/ok").text(), "ok\n", "{guest}");
            assert_eq!(connection.get("/trap").status(), 500, "{guest}");
            assert_eq!(
                connection.get("/bytes?n=100000").body.len(),
                100_000,
                "{guest}"
            );
        }
    }
}

#[test]
fn a_connection_is_closed_when_the_client_asks() {
    let host = TestHost::serve(FAULTS, "");
    let mut connection = host.send("GET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(connection.reply().text(), "ok\n");
    assert!(connection.is_closed());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.send(
            "GET /sleep?ms=50 HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
             GET /ok HTTP/1.1\r\nHost: a\r\n\r\n",
        );
        assert_eq!(connection.reply().text(), "slept\n", "{guest}");
        assert!(connection.reply().text().starts_with("5 "), "{guest}");
        assert_eq!(connection.reply().text(), "ok\n", "{guest}");
    }
}

#[test]
fn a_client_that_expects_100_is_told_to_continue() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.send(
            "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        );
        assert_eq!(connection.head().status, 100, "{guest}");
        connection.send("hello");
        assert!(connection.reply().text().starts_with("5 "), "{guest}");
    }
}

#[test]
fn a_client_that_expects_100_hears_a_refusal_before_it_sends() {
    let host = TestHost::serve(FAULTS, "--max-body 10");
    let head =
        "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(host.send(head).head().status, 413);
}

#[test]
fn a_client_of_http_1_0_gets_a_body_without_chunks_and_the_end() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.send("GET /drip?n=3&ms=20 HTTP/1.0\r\n\r\n");
        let reply = connection.reply();
        assert_eq!(reply.status(), 200, "{guest}");
        assert!(reply.head.version.starts_with("HTTP/1."), "{guest}");
        assert_eq!(reply.header("transfer-encoding"), None, "{guest}");
        assert_eq!(reply.text(), "...", "{guest}");
        assert!(connection.is_closed(), "{guest}");
    }
}

#[test]
fn a_client_of_http_1_0_may_keep_its_connection() {
    let host = TestHost::serve(FAULTS, "");
    let request = "GET /ok HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let mut connection = host.send(request);
    assert_eq!(connection.reply().text(), "ok\n");
    connection.send(request);
    assert_eq!(connection.reply().text(), "ok\n");
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        for (path, length) in [
            ("/bytes-length?n=7", Some("7")),
            ("/ok", None),
            ("/trap", None),
        ] {
            let mut connection = host.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let head = connection.head();
            if length.is_some() {
                assert_eq!(head.header("content-length"), length, "{guest} {path}");
            }
            assert!(
                connection.is_silent_for(Duration::from_millis(50)),
                "{guest} {path}"
            );
            assert_eq!(connection.get("/ok").text(), "ok\n", "{guest} {path}");
        }
    }
}

#[test]
fn no_content_and_not_modified_have_no_body_whatever_the_guest_writes() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        for status in [204, 304] {
            let mut connection = host.connect();
            connection.send(format!(
                "GET /no-body-status/{status} HTTP/1.1\r\nHost: a\r\n\r\n"
            ));
            let head = connection.head();
            assert_eq!(head.status, status, "{guest}");
            assert_eq!(head.header("transfer-encoding"), None, "{guest} {status}");
            // The next answer begins where this one ended.
            assert_eq!(connection.get("/ok").text(), "ok\n", "{guest} {status}");
        }
    }
}

#[test]
fn a_guests_hop_by_hop_headers_never_reach_the_wire() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.connect();
        let reply = connection.get("/hop-by-hop");
        assert_eq!(reply.status(), 200, "{guest}");
        assert!(reply.is_complete, "{guest}");
        for name in [
            "connection",
            "keep-alive",
            "upgrade",
            "te",
            "proxy-connection",
        ] {
            assert_eq!(reply.header(name), None, "{guest} {name}");
        }
        // `connection: close` was the guest's, not ours.
        assert_eq!(connection.get("/ok").text(), "ok\n", "{guest}");

        let reply = host.h2().get("/hop-by-hop");
        assert_eq!(
            (reply.status().as_u16(), reply.reset),
            (200, None),
            "{guest}"
        );
    }
}

#[test]
fn a_guests_header_that_is_none_is_refused_and_its_answer_is_whole() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let reply = host.get("/bad-headers");
        assert_eq!(reply.text(), "taken: 0\n", "{guest}");
        for name in ["x-line", "x-more", "x-nul", "x-feed"] {
            assert_eq!(reply.header(name), None, "{guest} {name}");
        }
    }
}

#[test]
fn a_length_that_the_guest_announced_is_the_one_on_the_wire() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let reply = host.get("/bytes-length?n=1000000");
        assert_eq!(reply.header("content-length"), Some("1000000"), "{guest}");
        assert_eq!(reply.header("transfer-encoding"), None, "{guest}");
        assert_eq!(reply.body.len(), 1_000_000, "{guest}");
    }
}

#[test]
fn a_body_of_unknown_length_is_chunked_and_has_its_last_chunk() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let reply = host.get("/bytes?n=1000000");
        assert!(reply.head.is_chunked(), "{guest}");
        assert!(reply.is_complete, "{guest}");
        assert_eq!(reply.body.len(), 1_000_000, "{guest}");
        assert!(reply.body.iter().all(|byte| *byte == b'x'), "{guest}");
    }
}
