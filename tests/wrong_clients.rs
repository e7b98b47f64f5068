//! Clients that ask for what they may not, or twice in two ways: what each gets, and that nobody is served what he did not ask
//! for. `refused_requests` has the framing of messages, `attack` what is cut and random.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::*;

/// A second request behind one that is wrong, which must not be served if anybody could take the first for longer.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

fn is_served(host: &TestHost, path: &str) -> bool {
    let last = host.get("/ok");
    host.access(&last);
    host.paths().iter().any(|it| it == path)
}

#[test]
fn a_host_is_one_valid_name_that_the_target_agrees_with() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        for (target, hosts, status) in [
            ("/ok", "", 400),
            ("/ok", "Host: a\r\nHost: b\r\n", 400),
            ("/ok", "Host: a\r\nHost: a\r\n", 400),
            ("/ok", "Host:\r\n", 400),
            ("/ok", "Host: a,b\r\n", 400),
            ("/ok", "Host: user@a\r\n", 400),
            ("/ok", "Host: a/ok\r\n", 400),
            ("/ok", "Host: http://a\r\n", 400),
            ("/ok", "Host: a%00b\r\n", 400),
            ("/ok", "Host: a:b\r\n", 400),
            ("/ok", "Host: a:-1\r\n", 400),
            ("/ok", "Host: [::1\r\n", 400),
            ("/ok", "Host: \"a\"\r\n", 400),
            ("http://b/ok", "Host: a\r\n", 400),
            ("http://a:80/ok", "Host: a\r\n", 400),
            ("http://user@a/ok", "Host: a\r\n", 400),
            ("http:///ok", "Host: a\r\n", 400),
            ("ftp://a/ok", "Host: a\r\n", 400),
            ("http://A/ok", "Host: a\r\n", 200),
            ("/ok", "Host: a:81\r\n", 200),
            ("/ok", "Host: [::1]:81\r\n", 200),
        ] {
            let mut connection = host.send(format!("GET {target} HTTP/1.1\r\n{hosts}\r\n{NEXT}"));
            let reply = connection.reply();
            assert_eq!(reply.status(), status, "{guest}: {target} {hosts:?}");
            if status == 400 {
                assert!(connection.is_closed(), "{guest}: {target} {hosts:?}");
            }
        }
    }
}

#[test]
fn each_form_of_a_target_is_for_its_method() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        for (line, status) in [
            ("GET * HTTP/1.1", 400),
            ("POST * HTTP/1.1", 400),
            ("GET a:80 HTTP/1.1", 400),
            ("OPTIONS a:80 HTTP/1.1", 400),
            ("GET ok HTTP/1.1", 400),
            ("GET ?a HTTP/1.1", 400),
            ("GET /ok#part HTTP/1.1", 400),
            ("GET  /ok HTTP/1.1", 400),
            ("GET /o k HTTP/1.1", 400),
            ("GET\t/ok HTTP/1.1", 400),
            ("GET /ok\t HTTP/1.1", 400),
            ("GET /\x01 HTTP/1.1", 400),
            ("CONNECT a:80 HTTP/1.1", 501),
            ("CONNECT /ok HTTP/1.1", 501),
            ("GET http://a/ok HTTP/1.1", 200),
            ("GET //a/./ok HTTP/1.1", 400),
            ("GET /a/%2E%2e/ok HTTP/1.1", 400),
            ("GET /a\\..\\ok HTTP/1.1", 400),
            ("GET //a/..%2Fok HTTP/1.1", 404),
        ] {
            let mut connection = host.send(format!("{line}\r\nHost: a\r\n\r\n"));
            let reply = connection.reply();
            assert_eq!(reply.status(), status, "{guest}: {line:?}");
            if status == 400 {
                assert!(connection.is_closed(), "{guest}: {line:?}");
            }
        }
        // The host as a whole is asked of what answers at its root.
        let asked = host.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").reply();
        assert!(asked.status() < 500, "{guest}: {asked:?}");
    }
}

#[test]
fn a_method_is_what_it_is_to_the_letter_and_none_is_answered_by_the_host() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        for method in ["get", "Get", "TRACE", "TRACK", "PRI", "M-SEARCH"] {
            let secret = "Cookie: secret=1\r\n";
            let request = format!("{method} /request HTTP/1.1\r\nHost: a\r\n{secret}\r\n");
            let seen = host.send(request).reply().text();
            assert!(
                seen.starts_with(&format!("method: {method}\n")),
                "{guest}: {seen}"
            );
            assert!(!seen.contains("secret"), "{guest}: {seen}");
        }
        for line in [
            "GE\u{7f}T /ok HTTP/1.1",
            " GET /ok HTTP/1.1",
            "(GET) /ok HTTP/1.1",
            "GÉT /ok HTTP/1.1",
        ] {
            let mut connection = host.send(format!("{line}\r\nHost: a\r\n\r\n"));
            assert_eq!(connection.reply().status(), 400, "{guest}: {line:?}");
            assert!(connection.is_closed(), "{guest}: {line:?}");
        }
    }
}

#[test]
fn nobody_is_upgraded_and_what_he_sends_then_is_no_request() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        for upgrade in [
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
            "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
        ] {
            for behind in [
                // A frame of WebSocket with a mask, the preface of HTTP/2, a greeting of TLS.
                &b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"[..],
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
                b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
            ] {
                let head = format!("GET /ok HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n");
                let mut connection = host.send([head.as_bytes(), behind, b"\r\n\r\n"].concat());
                let reply = connection.reply();
                assert_eq!(reply.text(), "ok\n", "{guest}: {upgrade}");
                assert_eq!(reply.header("upgrade"), None, "{guest}: {upgrade}");
                let next = connection.reply();
                assert_eq!(next.status(), 400, "{guest}: {upgrade}");
                assert!(connection.is_closed(), "{guest}: {upgrade}");
            }
        }
    }
}

#[test]
fn behind_a_body_that_nobody_reads_comes_the_next_request_or_the_end() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let small = "GET /inside HTTP/1.1\r\nHost: a\r\n\r\n";
        let large = small.repeat(30_000);
        for body in [small, &large] {
            let length = body.len();
            for framed in [
                format!("Content-Length: {length}\r\n\r\n{body}"),
                format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
            ] {
                let head = "POST /ignore-body HTTP/1.1\r\nHost: a\r\n";
                let mut connection = host.connect();
                let mut sender = connection.sender();
                let sent = format!("{head}{framed}{NEXT}");
                let sending = std::thread::spawn(move || {
                    // It may be closed before all of it is taken.
                    let _ = std::io::Write::write_all(&mut sender, sent.as_bytes());
                });
                assert_eq!(connection.reply().status(), 200, "{guest}");
                if let Some(head) = connection.try_head() {
                    assert_eq!(head.status, 404, "{guest}: /next is no path of this guest");
                }
                drop(connection);
                sending.join().expect("sent");
            }
        }
        assert!(!is_served(&host, "/inside"), "{guest}");
    }
}

#[test]
fn an_extension_of_a_chunk_is_read_over_and_a_flood_of_them_ends() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let head = "POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let good = "5;a=b;c=\"d e\"\r\nhello\r\n0;last\r\n\r\n";
        let reply = host.send(format!("{head}{good}")).reply();
        assert!(reply.text().starts_with("5 "), "{guest}");
        let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(100_000));
        let mut connection = host.send(format!("{head}{long}"));
        if let Some(head) = connection.try_head() {
            assert!(head.status >= 400, "{guest}: {head:?}");
        }
    }
}

#[test]
fn ten_thousand_fields_are_431_on_both_protocols_and_in_the_log() {
    let host = TestHost::serve(FAULTS, "");
    let fields = "x: y\r\n".repeat(10_000);
    let mut connection = host.send(format!("GET /ok HTTP/1.1\r\nHost: a\r\n{fields}\r\n{NEXT}"));
    let reply = connection.reply();
    assert_eq!(reply.status(), 431);
    assert!(connection.is_closed());
    assert_eq!(host.access(&reply).label(), "too-large");

    for (nth, fields) in [150, 10_000].into_iter().enumerate() {
        let mut request = http::Request::get("http://a/ok");
        let headers = request.headers_mut().expect("headers");
        for _ in 0..fields {
            headers.append("x", http::HeaderValue::from_static("y"));
        }
        let mut client = host.h2();
        let request = request.body(()).expect("a request");
        let (response, _) = client.send(request, true);
        let head = client.head(response);
        assert_eq!(head.status(), 431, "{fields}");
        // h2 answers the second by itself, and there is a line of it all the same.
        eventually("its line", || {
            let lines = host.accesses().into_iter();
            let refused = lines.filter(|line| line.label() == "too-large" && line.status() == 431);
            (refused.count() == nth + 2).then_some(())
        });
        assert_eq!(
            client.get("/ok").text(),
            "ok\n",
            "{fields}: the connection goes on"
        );
    }
}

#[test]
fn white_space_around_a_length_is_no_part_of_it() {
    let host = TestHost::serve(FAULTS, "");
    for length in ["  5", "\t5 ", "05"] {
        let request =
            format!("POST /read HTTP/1.1\r\nHost: a\r\nContent-Length:{length}\r\n\r\nhello{NEXT}");
        let mut connection = host.send(request);
        assert!(connection.reply().text().starts_with("5 "), "{length:?}");
        assert_eq!(connection.reply().status(), 404, "{length:?}: then /next");
    }
    for length in [
        "5 5",
        "5\u{b}",
        "\u{c}5",
        "0x5",
        "5.",
        "5e0",
        "-5",
        "٥",
        "18446744073709551621",
    ] {
        let request = format!(
            "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nhello{NEXT}"
        );
        let mut connection = host.send(request);
        assert_eq!(connection.reply().status(), 400, "{length:?}");
        assert!(connection.is_closed(), "{length:?}");
    }
}

#[test]
fn a_client_of_one_address_has_no_more_connections_than_it_may() {
    let host = TestHost::serve(FAULTS, "--max-connections-per-address 2");
    let mut kept = [host.connect(), host.connect()];
    for connection in &mut kept {
        assert_eq!(connection.get("/ok").text(), "ok\n");
    }
    assert!(host.connect().is_closed());
    for connection in &mut kept {
        assert_eq!(connection.get("/ok").text(), "ok\n", "those before go on");
    }
    drop(kept);
    eventually("a place again", || {
        let mut connection = host.send("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n");
        connection.try_head()
    });
}

#[test]
fn who_waits_for_its_client_gives_its_place_to_who_has_none() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-concurrent-requests 4");
        // Two that send slowly, two that read nothing.
        let upload = "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx";
        let mut slow: Vec<_> = (0..2).map(|_| host.send(upload)).collect();
        for _ in 0..2 {
            let mut reader = host.send("GET /bytes?n=100000000 HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(reader.head().status, 200, "{guest}");
            slow.push(reader);
        }
        let mut healthy: Vec<_> = (0..4)
            .map(|_| host.send("GET /sleep?ms=1000 HTTP/1.1\r\nHost: a\r\n\r\n"))
            .collect();
        for one in &mut healthy {
            assert_eq!(one.reply().text(), "slept\n", "{guest}");
        }
        eventually("lines of those who gave way", || {
            let lines = host.accesses().into_iter();
            // A guest may make its own answer of a body that it does not get.
            let gave_way = |line: &Access| {
                line.label().starts_with("slow-client")
                    || line.text("url.path") == "/read" && line.status() == 400
            };
            (lines.filter(gave_way).count() == 4).then_some(())
        });
    }
}

/// What they have sent earns each of them ten seconds, but not beside so many of their kind.
#[test]
fn a_crowd_that_sends_as_slowly_as_it_may_gives_way_and_who_talks_does_not() {
    const PLACES: usize = 40;
    for guest in BOTH_FAULTS {
        let limits = format!("--max-concurrent-requests {PLACES} --queue-timeout 2s");
        let host = TestHost::serve(guest, &limits);
        let mut talk = host.send(
            "POST /faults.Echo/Talk HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        assert_eq!(talk.head().status, 200, "{guest}");
        let mut say = || {
            // A message of gRPC: not compressed, and of 0x900 bytes.
            let message = "x".repeat(0x900);
            talk.send(format!("905\r\n\0\0\0\u{9}\0{message}\r\n"));
            let mut heard = 0;
            while heard < 0x905 {
                heard += talk.chunk().expect("the talk goes on").len();
            }
        };
        say();
        let part = "x".repeat(2400);
        let upload =
            format!("POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{part}");
        let _slow: Vec<_> = (1..PLACES).map(|_| host.send(&*upload)).collect();
        let mut healthy: Vec<_> = (0..4)
            .map(|_| host.send("GET /sleep?ms=1000 HTTP/1.1\r\nHost: a\r\n\r\n"))
            .collect();
        for one in &mut healthy {
            assert_eq!(one.reply().status(), 200, "{guest}");
        }
        say();
    }
}

/// Its kernel takes much at once, so that it looks as if it took nothing for seconds.
#[test]
fn who_has_taken_much_of_its_answer_keeps_its_place_for_a_pause() {
    let host = TestHost::serve(FAULTS, "--max-concurrent-requests 1 --queue-timeout 2s");
    let mut reader = TcpStream::connect(host.address).expect("connected");
    reader
        .write_all(b"GET /bytes?n=100000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("sent");
    reader.read_exact(&mut vec![0; 4 << 20]).expect("4 MiB");
    assert_eq!(host.get("/ok").status(), 503, "nobody gives way");
    reader.read_exact(&mut vec![0; 16 << 20]).expect("16 more");
}

#[test]
fn who_waits_for_its_client_keeps_its_place_while_nobody_wants_it() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-concurrent-requests 2");
        let mut slow = host.send("POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nh");
        assert!(slow.is_silent_for(Duration::from_secs(1)), "{guest}");
        assert_eq!(host.get("/ok").text(), "ok\n", "{guest}");
        slow.send("ello");
        assert!(slow.reply().text().starts_with("5 "), "{guest}");
    }
}
