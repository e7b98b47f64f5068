//! How the client is told of a failure: in the form that it prefers, with a request id, and nothing else.

use crate::support::*;

fn answer(host: &TestHost, request: impl AsRef<[u8]>) -> Reply {
    host.send(request).reply()
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
fn a_head_that_never_became_a_request_is_answered_like_any_other_failure() {
    let host = TestHost::serve(FAULTS, "--header-timeout 300ms");
    let field = format!("X: {}\r\n", "x".repeat(70_000));
    let many = "X: 1\r\n".repeat(150);
    for (request, status, label) in [
        ("nonsense\r\n\r\n".to_owned(), 400, "bad-request"),
        (
            "GET /ok HTTP/1.1\nHost: a\n\n".to_owned(),
            400,
            "bad-request",
        ),
        (
            format!("GET /ok HTTP/1.1\r\nHost: a\r\n{field}\r\n"),
            431,
            "too-large",
        ),
        (
            format!("GET /ok HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
            431,
            "too-large",
        ),
        (
            format!("GET /{} HTTP/1.1\r\n", "x".repeat(70_000)),
            414,
            "too-large",
        ),
        (
            "GET /ok HTTP/1.1\r\nHost: a\r\n".to_owned(),
            408,
            "slow-client",
        ),
        ("P".to_owned(), 408, "slow-client"),
    ] {
        let start: String = request.chars().take(40).collect();
        let mut connection = host.send(&request);
        let reply = connection.reply();
        assert_eq!(reply.status(), status, "{start}");
        let problem: serde_json::Value = serde_json::from_str(&reply.text()).expect("a problem");
        assert_eq!(
            problem["type"],
            format!("urn:host:failure:{label}"),
            "{start}"
        );
        assert_eq!(
            problem["request_id"],
            reply.header("x-request-id").expect("an id"),
            "{start}"
        );
        assert_eq!(reply.header("connection"), Some("close"), "{start}");
        assert!(connection.is_closed(), "{start}");
        let line = host.access(&reply);
        assert_eq!(
            (line.status(), line.label()),
            (u64::from(status), label),
            "{start}"
        );
        assert_eq!(line.text("url.path"), "", "{start}");
    }
}

#[test]
fn requests_before_a_bad_head_are_answered_first_and_those_behind_it_never() {
    let host = TestHost::serve(FAULTS, "");
    let good = "GET /sleep?ms=50 HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut connection = host.send(format!("{good}{good}nonsense\r\n\r\n{good}"));
    assert_eq!(connection.reply().text(), "slept\n");
    assert_eq!(connection.reply().text(), "slept\n");
    assert_eq!(connection.reply().status(), 400);
    assert!(connection.is_closed());
    eventually("three lines", || (host.accesses().len() == 3).then_some(()));
}

#[test]
fn an_http2_head_over_the_limit_is_431_with_an_id() {
    let host = TestHost::serve(FAULTS, "--max-request-head 8KiB");
    let mut h2 = host.h2();
    let request = http::Request::get("http://a/ok").header("x-large", "x".repeat(9_000));
    let reply = h2.exchange(request.body(()).expect("a request"), b"", None);
    assert_eq!(reply.head.status, 431);
    let id = reply.head.headers["x-request-id"].to_str().expect("text");
    assert_eq!(host.access_of(id).label(), "too-large");
    assert_eq!(h2.get("/ok").body, b"ok\n");
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
                    "Switching",
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
