//! Requests that no guest sees, or not all of.

use crate::support::guests::METHODS;
use crate::support::host::Access;
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
        let line = host.access(&reply);
        assert_eq!(line.label(), "method", "{guest}");
        assert_eq!(line.text("url.path"), "a:80", "{guest}: what was asked for");
    }
    let host = TestHost::serve(FAULTS, "--access-log combined");
    answer(&host, "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n");
    let lines = host.stop().stdout;
    assert!(
        lines[0].contains("\"CONNECT a:80 HTTP/1.1\" 501 "),
        "{lines:?}"
    );
}

#[test]
fn a_badly_framed_body_is_answered_and_logged_also_when_it_comes_with_its_head() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.send(
            "POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
        );
        let reply = connection.reply();
        assert_eq!(reply.status(), 400, "{guest}");
        assert_eq!(host.access(&reply).status(), 400, "{guest}");
        assert!(connection.is_closed(), "{guest}");
    }
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

/// What comes after a request that can be read in two ways, and must be served in neither.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

fn assert_nothing_was_smuggled(host: &TestHost) {
    // What ended before this is in the log before it.
    let last = host.get("/ok");
    assert_eq!(last.text(), "ok\n");
    host.access(&last);
    let paths = host.paths();
    assert!(!paths.iter().any(|path| path == "/smuggled"), "{paths:?}");
}

/// Values of lengths that say more than one, or none (RFC 9112, section 6.3).
const BAD_LENGTHS: [&str; 13] = [
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "Content-Length: 5\r\nContent-Length: 5",
    "Content-Length: 5\r\nContent-Length: 6",
    "Content-Length: 5, 5",
    "Content-Length: +5",
    "Content-Length: x",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, gzip",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: chunked, chunked",
];

#[test]
fn a_body_whose_length_is_not_said_once_is_400_and_the_end() {
    let host = TestHost::serve(FAULTS, "");
    for length in BAD_LENGTHS {
        let head = format!("POST /ok HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\n");
        let mut connection = host.send(format!("{head}0\r\n\r\n{SMUGGLED}"));
        assert_eq!(connection.reply().status(), 400, "{length:?}");
        assert!(connection.is_closed(), "{length:?}");
    }
    assert_nothing_was_smuggled(&host);
}

#[test]
fn a_head_that_is_read_differently_elsewhere_is_400_and_the_end() {
    let host = TestHost::serve(FAULTS, "");
    for head in [
        "nonsense\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\x03\x03\r\n\r\n",
        "GET /ok HTTP/1.1\r\nHost a\r\n\r\n",
        "GET /ok HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        "GET /ok HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
        "GET /ok HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n",
        "GET /ok HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        "GET /ok HTTP/1.1\r\nHost: a\nX: a\r\n\r\n",
        "GET /ok HTTP/1.1\nHost: a\n\n",
        "GET /ok\r\n",
        "GET /ok HTTP/0.9\r\nHost: a\r\n\r\n",
        "GET /ok HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET /ok HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET /ok http/1.1\r\nHost: a\r\n\r\n",
        "GET /ok HTTP/1.1 \r\nHost: a\r\n\r\n",
        "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "POST /ok HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut connection = host.send(format!("{head}{SMUGGLED}"));
        assert_eq!(connection.reply().status(), 400, "{head:?}");
        assert!(connection.is_closed(), "{head:?}");
    }
    assert_nothing_was_smuggled(&host);
}

#[test]
fn a_megabyte_of_a_head_is_refused_and_the_refusal_can_be_read() {
    let host = TestHost::serve(FAULTS, "");
    let long = "x".repeat(1_000_000);
    for (head, status) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (
            format!("GET /ok HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
            431,
        ),
        (
            format!("GET /ok HTTP/1.1\r\nHost: a\r\n{long}: x\r\n\r\n"),
            431,
        ),
    ] {
        let mut connection = host.send(head + SMUGGLED);
        assert_eq!(connection.reply().status(), status);
        assert!(connection.is_closed(), "{status}");
    }
    assert_nothing_was_smuggled(&host);
}

/// Chunks of `hello`, each wrong in one place.
const BAD_CHUNKS: [&str; 15] = [
    // Sizes that are too large for 64 bits, or for a signed number of them.
    "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "8000000000000000\r\nhello\r\n0\r\n\r\n",
    // Sizes that are none.
    "-5\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "\r\nhello\r\n0\r\n\r\n",
    // Lines that end without CR.
    "5\nhello\r\n0\r\n\r\n",
    "5;a\nb\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r\n0\n\r\n",
    "5\r\nhello\r\n0\r\nX: a\n\r\n",
    "5;a\0b\r\nhello\r\n0\r\n\r\n",
    // A size that is not that of the chunk, and no last chunk.
    "4\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\n",
];

fn chunked(target: &str, fields: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\n{fields}Transfer-Encoding: chunked\r\n\r\n")
}

#[test]
fn chunks_that_are_badly_framed_fail_the_exchange_and_end_the_connection() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        for chunks in BAD_CHUNKS {
            let mut connection = host.send(chunked("/read", "Expect: 100-continue\r\n"));
            assert_eq!(connection.head().status, 100, "{guest} {chunks:?}");
            connection.send(format!("{chunks}{SMUGGLED}"));
            if let Some(head) = connection.try_head() {
                assert_eq!(head.status, 400, "{guest} {chunks:?}");
                connection.reply_after(head);
            }
            assert!(connection.is_closed(), "{guest} {chunks:?}");
        }
        assert_nothing_was_smuggled(&host);
        let reads: Vec<Access> = host
            .accesses()
            .into_iter()
            .filter(|line| line.text("url.path") == "/read")
            .collect();
        assert_eq!(reads.len(), BAD_CHUNKS.len(), "{guest}");
        for line in reads {
            assert!(line.status() >= 400, "{guest}: {line:?}");
        }
    }
}

#[test]
fn chunks_that_are_badly_framed_end_the_connection_of_a_guest_that_reads_none() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        for chunks in BAD_CHUNKS {
            let request = chunked("/ignore-body", "") + chunks + SMUGGLED;
            let mut connection = host.send(request);
            if let Some(head) = connection.try_head() {
                connection.reply_after(head);
            }
            assert!(connection.is_closed(), "{guest} {chunks:?}");
        }
        assert_nothing_was_smuggled(&host);
    }
}
