//! Requests that no guest sees, and how their refusals look.

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
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-body 10");
        let reply = answer(&host, streamed("/read"));
        assert_eq!(reply.text(), "http-request-body-size\n", "{guest}");
    }
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

#[test]
fn every_response_has_a_request_id_of_its_own() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-body 1MiB --timeout 300ms");
        let mut ids: Vec<String> = [
            "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "GET /ok HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n".to_owned(),
            "GET /trap HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "GET /never HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "GET /error/internal-error HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "GET /no-body-status/204 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            "GET /ok HTTP/1.1\r\n\r\n".to_owned(),
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".to_owned(),
            "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n".to_owned(),
        ]
        .iter()
        .map(|request| {
            let reply = answer(&host, request);
            let id = reply.header("x-request-id");
            id.unwrap_or_else(|| panic!("{guest}: none for {request}"))
                .to_owned()
        })
        .collect();
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all, "{guest}");
    }
}

#[test]
fn a_refusal_of_a_head_has_a_request_id_and_a_line_in_the_log() {
    let host = TestHost::serve(FAULTS, "");
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        (
            format!(
                "GET /ok HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
                "x".repeat(70_000)
            ),
            431,
        ),
        (
            format!(
                "GET /ok HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "X: 1\r\n".repeat(150)
            ),
            431,
        ),
    ] {
        let reply = answer(&host, request);
        assert_eq!(reply.status(), status);
        let id = reply.header("x-request-id").expect("an id").to_owned();
        assert_eq!(host.access_of(&id).status(), u64::from(status));
    }
}

#[test]
fn a_failure_is_told_in_the_form_that_the_client_prefers() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let told = |accept: &str| {
            answer(
                &host,
                format!("GET /trap HTTP/1.1\r\nHost: a\r\n{accept}\r\n"),
            )
        };
        for accept in [
            "",
            "Accept: */*\r\n",
            "Accept: application/json\r\n",
            "Accept: image/png\r\n",
        ] {
            let reply = told(accept);
            assert_eq!(
                reply.header("content-type"),
                Some("application/problem+json")
            );
            let problem: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
            assert_eq!(problem["status"], 500, "{guest}");
            assert_eq!(problem["title"], "Internal Server Error", "{guest}");
            assert_eq!(problem["type"], "urn:host:failure:trap", "{guest}");
            assert_eq!(
                problem["request_id"].as_str(),
                reply.header("x-request-id"),
                "{guest}"
            );
        }
        let page = told("Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n");
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert!(page.text().starts_with("<!doctype html>"), "{guest}");
        let text = told("Accept: text/plain\r\n");
        assert_eq!(
            text.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert!(
            text.text()
                .contains(text.header("x-request-id").expect("an id")),
            "{guest}"
        );
    }
}

#[test]
fn a_failure_tells_the_client_nothing_of_the_guest_or_the_host() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        for path in [
            "/trap",
            "/panic",
            "/error/internal-error",
            "/status/101",
            "/length-short",
        ] {
            for accept in ["application/json", "text/html", "text/plain"] {
                let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n");
                let text = answer(&host, request).text();
                for leak in [
                    "wasm",
                    "unreachable",
                    "boom",
                    "secret",
                    "faults",
                    "panicked",
                    ".rs",
                    "101",
                ] {
                    assert!(
                        !text.contains(leak),
                        "{guest} {path} {accept}: {leak} in {text}"
                    );
                }
            }
        }
        host.says("boom");
        host.says("secret detail");
    }
}
