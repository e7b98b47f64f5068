//! Trailers both ways on HTTP/1.1; `http2.rs` has them on HTTP/2.

use crate::support::*;

#[test]
fn a_client_that_takes_trailers_gets_the_guests() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        // The host announces what it knows in time, if the guest does not.
        for path in ["/trailers", "/trailers-unannounced"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n");
            let mut connection = host.send(request);
            let reply = connection.reply();
            assert_eq!(reply.text(), "body\n", "{guest} {path}");
            assert_eq!(
                reply.header("trailer"),
                Some("x-checksum"),
                "{guest} {path}"
            );
            assert_eq!(
                reply.trailers,
                [("x-checksum".to_owned(), "abc".to_owned())],
                "{guest} {path}"
            );
            assert!(reply.is_complete, "{guest} {path}");
            assert_eq!(connection.get("/ok").text(), "ok\n", "{guest} {path}");
        }
    }
}

#[test]
fn a_client_that_does_not_take_trailers_gets_the_body_alone() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let reply = host.get("/trailers");
        assert_eq!(reply.text(), "body\n", "{guest}");
        assert!(reply.trailers.is_empty(), "{guest}");
        assert!(reply.is_complete, "{guest}");
    }
}

#[test]
fn a_clients_trailers_reach_the_guest() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let request = "POST /request-trailers HTTP/1.1\r\nHost: a\r\nTrailer: x-sum, x-more\r\n\
                       Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More: two\r\n\r\n";
        assert_eq!(
            host.send(request).reply().text(),
            "x-sum: 1\nx-more: two\n",
            "{guest}"
        );
    }
}

#[test]
fn a_request_without_trailers_has_none() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        assert_eq!(
            host.connect().post("/request-trailers", "hello").text(),
            "",
            "{guest}"
        );
    }
}

#[test]
fn trailers_pass_through_an_echo() {
    for guest in BOTH_ECHOES {
        let host = TestHost::serve(guest, "");
        let request = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: x-sum\r\n\
                       Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n";
        let reply = host.send(request).reply();
        assert_eq!(reply.text(), "hello", "{guest}");
        assert_eq!(
            reply.trailers,
            [("x-sum".to_owned(), "1".to_owned())],
            "{guest}"
        );
    }
}

#[test]
fn h2_needs_no_announcement() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let reply = host.h2().get("/trailers");
        assert_eq!(reply.text(), "body\n", "{guest}");
        let trailers = reply.trailers.expect("trailers");
        assert_eq!(trailers["x-checksum"], "abc", "{guest}");
    }
}
