//! Requests that no guest sees, or not all of.

use crate::support::guests::METHODS;
use crate::support::*;

/// Sends a head and gives the answer; the connection may be closed by it.
fn answer(host: &TestHost, request: impl AsRef<[u8]>) -> Reply {
    host.send(request).reply()
}

#[test]
fn a_host_that_is_missing_twice_or_not_valid_is_400() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        for hosts in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: \r\n",
            "Host: a@b\r\n",
            "Host: a/b\r\n",
            "Host: a, b\r\n",
            "Host: a b\r\n",
            "Host: a:99999\r\n",
        ] {
            let reply = answer(&host, format!("GET /ok HTTP/1.1\r\n{hosts}\r\n"));
            assert_eq!(reply.status(), 400, "{guest} `{hosts}`");
            assert_eq!(
                host.access(&reply).label(),
                "bad-request",
                "{guest} `{hosts}`"
            );
        }
        let reply = answer(&host, "GET /ok HTTP/1.0\r\n\r\n");
        assert_eq!(reply.status(), 200, "{guest}: 1.0 needs none");
    }
}

#[test]
fn connect_is_501() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let reply = answer(&host, "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n");
        assert_eq!(reply.status(), 501, "{guest}");
        assert_eq!(host.access(&reply).label(), "method", "{guest}");
    }
}

#[test]
fn bytes_that_are_not_http_are_400_and_the_end() {
    let host = TestHost::serve(FAULTS, "");
    for request in [
        &b"nonsense\r\n\r\n"[..],
        b"GET /ok\r\n\r\n",
        b"GET /ok HTTP/1.1\r\nHost a\r\n\r\n",
        b"GET /ok HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"GET /ok HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ] {
        let mut connection = host.send(request);
        let name = String::from_utf8_lossy(request).into_owned();
        assert_eq!(connection.reply().status(), 400, "{name}");
        assert!(connection.is_closed(), "{name}");
    }
    assert_eq!(host.get("/ok").text(), "ok\n");
}

#[test]
fn a_transfer_coding_that_we_do_not_know_is_refused() {
    let host = TestHost::serve(FAULTS, "");
    for coding in [
        "gzip, chunked",
        "chunked, gzip",
        "chunked, identity",
        "gzip",
        "chunked, chunked",
    ] {
        let request =
            format!("POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n");
        let status = answer(&host, request).status();
        assert!(matches!(status, 400 | 501), "{coding}: {status}");
    }
}

/// RFC 9112, section 6.3: what follows may be somebody else's request, or part of this one's body.
#[test]
fn two_ways_to_frame_a_body_are_not_both_believed() {
    let host = TestHost::serve(FAULTS, "");
    for framing in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3, 4",
        "Content-Length: +3",
    ] {
        let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut connection = host.send(format!(
            "POST /ok HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{smuggled}"
        ));
        let first = connection.reply();
        let second = connection.try_head();
        assert!(
            matches!(first.status(), 400 | 501) || second.is_none(),
            "{framing}: {} and then {second:?}",
            first.status()
        );
    }
    assert!(
        host.accesses()
            .iter()
            .all(|line| line.text("url.path") != "/smuggled")
    );
}

#[test]
fn a_body_over_the_limit_is_413_before_any_of_it_is_read() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-body 10");
        assert_eq!(
            host.connect().post("/read", "0123456789").status(),
            200,
            "{guest}"
        );
        let reply = host.connect().post("/read", "0123456789a");
        assert_eq!(reply.status(), 413, "{guest}");
        assert_eq!(host.access(&reply).label(), "too-large", "{guest}");
    }
}

/// 12 bytes in two chunks.
fn streamed(target: &str) -> String {
    format!(
        "PUT {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         6\r\n012345\r\n6\r\n678901\r\n0\r\n\r\n"
    )
}

#[test]
fn a_body_that_grows_over_the_limit_is_413_if_the_guest_fails_by_it() {
    let host = TestHost::serve(METHODS, "--max-body 10");
    let reply = answer(&host, streamed("/items/1"));
    assert_eq!(reply.status(), 413);
    assert_eq!(host.access(&reply).label(), "too-large");
}

#[test]
fn a_guest_is_told_by_a_code_that_a_body_is_over_the_limit() {
    // Only 0.3: wasmtime-wasi-http 48 has no error code for the body of a 0.2 request.
    let host = TestHost::serve(FAULTS_P3, "--max-body 10");
    let reply = answer(&host, streamed("/read"));
    assert_eq!(reply.text(), "http-request-body-size\n");
}

#[test]
fn a_body_over_the_limit_never_passes_an_echo_whole() {
    for guest in BOTH_ECHOES {
        let host = TestHost::serve(guest, "--max-body 10");
        let reply = answer(&host, streamed("/"));
        assert!(
            reply.status() == 413 || !reply.is_complete,
            "{guest}: {reply:?}"
        );
        let label = host.access_to("/").label().to_owned();
        assert!(label.starts_with("too-large"), "{guest}: {label}");
    }
}

#[test]
fn a_head_with_too_many_bytes_or_fields_is_431() {
    let host = TestHost::serve(FAULTS, "");
    let with = |headers: &str| {
        answer(
            &host,
            format!("GET /ok HTTP/1.1\r\nHost: a\r\n{headers}\r\n"),
        )
    };
    let field = |length: usize| format!("X: {}\r\n", "x".repeat(length));
    assert_eq!(with(&field(60_000)).status(), 200);
    assert_eq!(with(&field(70_000)).status(), 431);
    assert_eq!(with(&"X: 1\r\n".repeat(99)).status(), 200);
    assert_eq!(with(&"X: 1\r\n".repeat(100)).status(), 431);
    assert_eq!(host.get("/ok").text(), "ok\n");
}

#[test]
fn a_target_that_is_too_long_is_414() {
    let host = TestHost::serve(FAULTS, "");
    let target = format!("/ok?{}", "x".repeat(70_000));
    let reply = answer(&host, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(matches!(reply.status(), 414 | 431), "{}", reply.status());
}
