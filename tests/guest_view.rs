//! What a guest sees of a request: all of it, byte for byte.

use crate::support::*;

#[test]
fn method_scheme_authority_path_and_query_are_the_clients() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        for (request, seen) in [
            (
                "GET /request?a=%20b&c HTTP/1.1\r\nHost: example.com:81",
                "method: GET\nscheme: http\nauthority: example.com:81\npath_with_query: /request?a=%20b&c\n",
            ),
            (
                "DELETE /request HTTP/1.1\r\nHost: [::1]",
                "method: DELETE\nscheme: http\nauthority: [::1]\npath_with_query: /request\n",
            ),
            (
                "BREW /request? HTTP/1.1\r\nHost: a",
                "method: BREW\nscheme: http\nauthority: a\npath_with_query: /request?\n",
            ),
            (
                "get /request HTTP/1.1\r\nHost: a",
                "method: get\nscheme: http\nauthority: a\npath_with_query: /request\n",
            ),
            (
                "GET http://b.example/request HTTP/1.1\r\nHost: B.example",
                "method: GET\nscheme: http\nauthority: b.example\npath_with_query: /request\n",
            ),
        ] {
            let reply = host.send(format!("{request}\r\n\r\n")).reply();
            assert_eq!(reply.text(), seen, "{guest}: {request}");
        }
    }
}

#[test]
fn over_h2_the_guest_sees_the_same() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let reply = host.h2().get("/request?x=1");
        assert_eq!(
            reply.text(),
            "method: GET\nscheme: http\nauthority: a\npath_with_query: /request?x=1\n",
            "{guest}"
        );
    }
}

#[test]
fn header_values_are_passed_byte_for_byte() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.connect();
        connection.send(b"GET /headers HTTP/1.1\r\nHost: a\r\nX-Raw: \xff\x80caf\xe9\r\n");
        connection.send(b"X-Twice: 1\r\nX-Twice: 2\r\nX-Empty:\r\n\r\n");
        let seen = connection.reply().text();
        let lines: Vec<&str> = seen.lines().collect();
        for line in [
            "x-raw\tff80636166e9",
            "x-twice\t31",
            "x-twice\t32",
            "x-empty\t",
        ] {
            assert!(lines.contains(&line), "{guest}: no {line} in {seen}");
        }
    }
}

#[test]
fn a_body_arrives_unchanged_whichever_way_it_is_framed() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        // FNV-1a of "hello", 64 bits.
        let seen = "5 a430d84680aabd0b\n";
        assert_eq!(
            host.connect().post("/read", "hello").text(),
            seen,
            "{guest}"
        );
        let chunked = "POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                       2\r\nhe\r\n3;extension\r\nllo\r\n0\r\n\r\n";
        assert_eq!(host.send(chunked).reply().text(), seen, "{guest}");
        let request = http::Request::post("http://a/read")
            .body(())
            .expect("a request");
        assert_eq!(
            host.h2().exchange(request, b"hello", None).text(),
            seen,
            "{guest}"
        );
    }
}

#[test]
fn a_body_that_breaks_off_is_not_taken_for_a_whole_one() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection =
            host.send("POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
        connection.finish_sending();
        if let Some(head) = connection.try_head() {
            assert_eq!(head.status, 400, "{guest}");
        }
        assert_ne!(host.access_to("/read").status(), 200, "{guest}");
    }
}

#[test]
fn a_body_that_nobody_reads_does_not_keep_the_answer_back() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.send(
            "POST /ignore-body HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\npart of it",
        );
        let reply = connection.reply();
        assert_eq!(reply.text(), "ignored\n", "{guest}");
        assert!(reply.is_complete, "{guest}");
    }
}
