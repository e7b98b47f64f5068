//! HTTP/2 with prior knowledge.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use http::{HeaderMap, HeaderValue, Method, Request, Version};

use ::host::limits;

use crate::support::guests::{ECHO, HELLO};
use crate::support::operator::{Office, Operator};
use crate::support::*;

#[test]
fn h2_needs_no_upgrade_and_shares_the_port() {
    for guest in BOTH_HELLOS {
        let host = TestHost::serve(guest, "");
        let reply = host.h2().get("/");
        assert_eq!(reply.head.version, Version::HTTP_2, "{guest}");
        assert_eq!(reply.text(), "Hello from WebAssembly!\n", "{guest}");
        let id = reply.header("x-request-id").expect("an id");
        assert_eq!(host.access_of(id).text("network.protocol.version"), "2.0");
        assert_eq!(host.get("/").text(), "Hello from WebAssembly!\n", "{guest}");
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A whole request without a body, with nothing of it in a table (RFC 7541, 6.2.2).
fn request_by_hand(stream: u32, [method, path, authority]: [&str; 3]) -> Vec<u8> {
    let fields = [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
    ];
    request_of(stream, &fields)
}

/// The same of any fields, in as many frames as they take.
fn request_of(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (name, value) in fields {
        list.push(0);
        for text in [name, value] {
            list.extend(length_by_hand(text.len()));
            list.extend(text.bytes());
        }
    }
    let mut sent = Vec::new();
    let last = list.len().div_ceil(16_384) - 1;
    for (nth, piece) in list.chunks(16_384).enumerate() {
        let (kind, ends) = match nth {
            0 => (frames::HEADERS, frames::END_STREAM),
            _ => (CONTINUATION, 0),
        };
        let ends = ends | if nth == last { frames::END_HEADERS } else { 0 };
        sent.extend(frames::frame(kind, ends, stream, piece));
    }
    sent
}

const CONTINUATION: u8 = 9;

/// RFC 7541, 5.1, seven bits of it in the first byte.
fn length_by_hand(length: usize) -> Vec<u8> {
    let byte = |it: usize| u8::try_from(it).expect("a byte");
    if length < 127 {
        return vec![byte(length)];
    }
    let (mut bytes, mut rest) = (vec![127], length - 127);
    while rest >= 128 {
        bytes.push(byte(128 + rest % 128));
        rest /= 128;
    }
    bytes.push(byte(rest));
    bytes
}

/// The head of the next frame, and its payload.
fn frame(wire: &mut TcpStream) -> ([u8; 9], Vec<u8>) {
    let mut head = [0; 9];
    wire.read_exact(&mut head).expect("a frame");
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    wire.read_exact(&mut payload).expect("its payload");
    (head, payload)
}

/// How the answer of a stream begins, or nothing if the stream is reset.
fn answer(wire: &mut TcpStream, stream: u32) -> Option<u8> {
    loop {
        let ([_, _, _, kind, _, s1, s2, s3, s4], payload) = frame(wire);
        assert_ne!(kind, 7, "the connection is over: {payload:?}");
        match kind {
            1 if u32::from_be_bytes([s1, s2, s3, s4]) == stream => return Some(payload[0]),
            3 if u32::from_be_bytes([s1, s2, s3, s4]) == stream => return None,
            _ => {}
        }
    }
}

/// The whole answer is made, and none of it may be sent (RFC 9113, 6.9.2).
#[test]
fn streams_without_a_window_give_their_places_to_who_has_none() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-concurrent-requests 2");
        let connection = host.connect();
        let mut wire = connection.sender();
        let (magic, _) = PREFACE.split_at(24);
        let no_window = frames::frame(frames::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        wire.write_all(&[magic, &no_window].concat()).expect("sent");
        for stream in [1, 3] {
            let request = request_by_hand(stream, ["GET", "/ok", "a"]);
            wire.write_all(&request).expect("sent");
            assert!(answer(&mut wire, stream).is_some(), "{guest}");
        }
        let mut healthy: Vec<_> = (0..2)
            .map(|_| host.send("GET /sleep?ms=1000 HTTP/1.1\r\nHost: a\r\n\r\n"))
            .collect();
        for one in &mut healthy {
            assert_eq!(one.reply().text(), "slept\n", "{guest}");
        }
    }
}

/// Settings by number (RFC 9113, 6.5.2), and the window of the connection (6.9).
#[test]
fn a_client_hears_how_much_it_may_have_open_and_on_the_way() {
    let host = TestHost::serve(HELLO, "");
    let connection = host.connect();
    let mut wire = connection.sender();
    wire.write_all(PREFACE).expect("sent");
    let (mut settings, mut window) = (Vec::new(), None);
    while settings.is_empty() || window.is_none() {
        let (head, payload) = frame(&mut wire);
        match (head[3], head[4]) {
            (4, 0) => {
                for one in payload.chunks(6) {
                    let value = u32::from_be_bytes([one[2], one[3], one[4], one[5]]);
                    settings.push((one[1], value));
                }
            }
            (8, _) => {
                let more = [payload[0], payload[1], payload[2], payload[3]];
                window = Some(65_535 + u32::from_be_bytes(more));
            }
            _ => {}
        }
    }
    for setting in [(3, limits::H2_STREAMS), (4, limits::H2_WINDOW)] {
        assert!(settings.contains(&setting), "{setting:?}: {settings:?}");
    }
    // A list of headers has a ceiling at all.
    assert!(settings.iter().any(|(it, _)| *it == 6), "{settings:?}");
    assert_eq!(window, Some(limits::H2_CONNECTION_WINDOW));
}

#[test]
fn what_is_no_target_is_refused_on_its_stream_alone() {
    // Entries of HPACK's table.
    const OK: u8 = 0x88;
    const BAD_REQUEST: u8 = 0x8c;
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let connection = host.connect();
        let mut wire = connection.sender();
        wire.write_all(PREFACE).expect("sent");
        let mut stream = 1;
        for wrong in [
            ["GET", "*", "a"],
            ["GET", "ok", "a"],
            ["GET", "", "a"],
            ["GET", "?a", "a"],
            ["GET", "/ok#part", "a"],
            ["GET", "/o k", "a"],
            ["GET", "/ok\t", "a"],
            ["GET", "/\x01", "a"],
            ["GET", "http://a/ok", "a"],
            ["GET", "/ok", "u@a"],
            ["GET", "/ok", "a b"],
            ["GET", "/ok", "a/b"],
            ["GET", "/ok", "a:99999"],
            ["GET", "/ok", ""],
            ["G T", "/ok", "a"],
            ["", "/ok", "a"],
        ] {
            let request = request_by_hand(stream, wrong);
            wire.write_all(&request).expect("sent");
            let refused = answer(&mut wire, stream);
            let is_refused = matches!(refused, None | Some(BAD_REQUEST));
            assert!(is_refused, "{guest}: {wrong:?}: {refused:?}");
            let request = request_by_hand(stream + 2, ["GET", "/ok", "a"]);
            wire.write_all(&request).expect("sent");
            assert_eq!(
                answer(&mut wire, stream + 2),
                Some(OK),
                "{guest}: {wrong:?}"
            );
            stream += 4;
        }
    }
}

/// All of a body.
fn body(wire: &mut TcpStream, stream: u32) -> String {
    let mut read = Vec::new();
    loop {
        let ([_, _, _, kind, flags, s1, s2, s3, s4], payload) = frame(wire);
        assert_ne!(kind, frames::GOAWAY, "the connection is over: {payload:?}");
        if kind == frames::DATA && u32::from_be_bytes([s1, s2, s3, s4]) == stream {
            read.extend(payload);
            if flags & frames::END_STREAM != 0 {
                return String::from_utf8(read).expect("a text");
            }
        }
    }
}

#[test]
fn whom_and_what_a_request_is_for_is_judged_as_on_h1() {
    // Of HPACK's table, from its eighth entry.
    const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let connection = host.connect();
        let mut wire = connection.sender();
        wire.write_all(PREFACE).expect("sent");
        let mut stream = 1;
        for (method, path, hosts, status) in [
            ("GET", "/ok", &[][..], 400),
            ("GET", "/ok", &["a", "b"][..], 400),
            ("GET", "/ok", &["a", "a"][..], 400),
            ("OPTIONS", "*", &["a"][..], 404),
            ("TRACE", "/request", &["a"][..], 200),
            ("get", "/request", &["a"][..], 200),
            ("Get", "/request", &["a"][..], 200),
        ] {
            let what = format!("{guest}: {method} {path} {hosts:?}");
            let fields: String = hosts.iter().map(|it| format!("Host: {it}\r\n")).collect();
            let request = format!("{method} {path} HTTP/1.1\r\n{fields}\r\n");
            let of_h1 = host.send(request).reply();
            assert_eq!(of_h1.status(), status, "{what}");

            let mut fields = vec![(":method", method), (":scheme", "http"), (":path", path)];
            fields.extend(hosts.iter().map(|it| ("host", *it)));
            let request = request_of(stream, &fields);
            wire.write_all(&request).expect("sent");
            let begun = answer(&mut wire, stream).expect("an answer");
            let entry = usize::from(begun).checked_sub(0x88);
            let of_h2 = entry.and_then(|entry| STATUSES.get(entry));
            assert_eq!(of_h2, Some(&status), "{what}: {begun:#x}");
            if status == 200 {
                let seen = body(&mut wire, stream);
                let said = format!("method: {method}\n");
                assert!(seen.starts_with(&said), "{what}: {seen}");
            }

            let request = request_by_hand(stream + 2, ["GET", "/ok", "a"]);
            wire.write_all(&request).expect("sent");
            assert_eq!(answer(&mut wire, stream + 2), Some(0x88), "{what}");
            stream += 4;
        }
    }
}

/// So many frames are no list of headers any more. One that is only too large is refused on its stream.
#[test]
fn a_megabyte_of_a_head_ends_its_connection_and_no_other() {
    const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 11];
    let office = Office::new();
    let host = TestHost::serve(FAULTS, &office.flags());
    let operator = Operator::of(&host);
    let violations = || {
        let event = [("host_event", "http2-violation")];
        operator
            .metrics()
            .sum("host_connection_events_total", &event)
    };
    let mut neighbour = host.h2();
    assert_eq!(neighbour.get("/ok").text(), "ok\n");
    let long = "x".repeat(1_000_000);
    let path = format!("/{long}");
    for (ended, [path, value]) in [(1.0, [path.as_str(), "y"]), (2.0, ["/ok", long.as_str()])] {
        let connection = host.connect();
        let mut wire = connection.sender();
        wire.write_all(PREFACE).expect("sent");
        let request = request_of(
            1,
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", path),
                (":authority", "a"),
                ("x", value),
            ],
        );
        // It may be closed before all is sent.
        let _ = wire.write_all(&request);
        let goodbye = loop {
            let (head, payload) = frame(&mut wire);
            if head[3] == frames::GOAWAY {
                break payload;
            }
        };
        assert_eq!(goodbye[4..8], ENHANCE_YOUR_CALM);
        eventually("its count", || (violations() >= ended).then_some(()));
        assert_eq!(neighbour.get("/ok").text(), "ok\n");
    }
    // No URI is as long as this path, which a list of headers may be. Its answer begins with a status that HPACK has no entry for: 431.
    let mut wire = host.connect().sender();
    wire.write_all(PREFACE).expect("sent");
    let request = request_by_hand(1, ["GET", &path[..70_000], "a"]);
    wire.write_all(&request).expect("sent");
    assert_eq!(answer(&mut wire, 1), Some(0x48));
    let request = request_by_hand(3, ["GET", "/ok", "a"]);
    wire.write_all(&request).expect("sent");
    assert_eq!(answer(&mut wire, 3), Some(0x88));
    assert_eq!(violations(), 2.0);
}

#[test]
fn two_names_for_one_request_are_refused() {
    let host = TestHost::serve(HELLO, "");
    let mut connection = host.h2();
    for (named, status) in [("a", 200), ("b", 400)] {
        let request = Request::get("http://a/").header("host", named);
        let reply = connection.exchange(request.body(()).expect("a request"), b"", None);
        assert_eq!(reply.status(), status, "Host: {named}");
    }
}

#[test]
fn streams_of_one_connection_are_served_side_by_side() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.h2();
        let responses: Vec<_> = ["/sleep?ms=300", "/trap", "/ok"]
            .map(|path| {
                let request = Request::get(format!("http://a{path}"))
                    .body(())
                    .expect("a request");
                connection.send(request, true).0
            })
            .into();
        // The last is asked first: it does not wait for the one that sleeps.
        let mut replies: Vec<_> = responses
            .into_iter()
            .rev()
            .map(|response| connection.reply(response))
            .collect();
        let slept = replies.pop().expect("three");
        assert_eq!(slept.text(), "slept\n", "{guest}");
        assert_eq!(replies[0].text(), "ok\n", "{guest}");
        assert_eq!(replies[1].status(), 500, "{guest}");
        host.access_to("/sleep");
        let order = host.paths();
        assert_eq!(
            order.last().map(String::as_str),
            Some("/sleep"),
            "{guest}: {order:?}"
        );
    }
}

#[test]
fn a_reset_stream_cancels_its_guest_and_not_its_neighbours() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.h2();
        let request = |path: &str| {
            Request::get(format!("http://a{path}"))
                .body(())
                .expect("a request")
        };
        let (never, mut stream) = connection.send(request("/never"), true);
        let (slept, _) = connection.send(request("/sleep?ms=300"), true);
        let ok = connection.get("/ok");
        assert_eq!(ok.text(), "ok\n", "{guest}");
        stream.send_reset(h2::Reason::CANCEL);
        drop(never);
        let line = host.access_to("/never");
        assert_eq!(
            (line.status(), line.label()),
            (499, "client-left"),
            "{guest}"
        );
        assert_eq!(connection.reply(slept).text(), "slept\n", "{guest}");
    }
}

#[test]
fn connect_and_strange_methods_are_treated_as_on_h1() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.h2();
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri("a:80")
            .body(());
        let (response, _) = connection.send(request.expect("a request"), true);
        assert_eq!(connection.reply(response).status(), 501, "{guest}");
        assert_eq!(host.access_to("a:80").label(), "method", "{guest}");
        let request = Request::builder()
            .method("BREW")
            .uri("http://a/request")
            .body(());
        let reply = connection.exchange(request.expect("a request"), b"", None);
        assert!(reply.text().starts_with("method: BREW\n"), "{guest}");
    }
}

#[test]
fn head_over_h2_has_no_body() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let request = Request::head("http://a/bytes-length?n=9")
            .body(())
            .expect("a request");
        let reply = host.h2().exchange(request, b"", None);
        assert_eq!(reply.header("content-length"), Some("9"), "{guest}");
        assert_eq!((reply.body.len(), reply.reset), (0, None), "{guest}");
    }
}

#[test]
fn no_content_and_not_modified_have_no_body_over_h2_either() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.h2();
        for status in [204_u16, 304] {
            let reply = connection.get(&format!("/no-body-status/{status}"));
            assert_eq!(reply.status(), status, "{guest}");
            assert_eq!((reply.body.len(), reply.reset), (0, None), "{guest}");
        }
        assert_eq!(connection.get("/ok").text(), "ok\n", "{guest}");
    }
}

#[test]
fn cookies_in_many_crumbs_count_as_headers() {
    let host = TestHost::serve(FAULTS, "");
    let mut request = Request::get("http://a/ok");
    let crumbs = request.headers_mut().expect("headers");
    for n in 0..150 {
        let crumb = HeaderValue::from_str(&format!("crumb={n}")).expect("a value");
        crumbs.append("cookie", crumb);
    }
    let reply = host
        .h2()
        .exchange(request.body(()).expect("a request"), b"", None);
    assert_eq!(reply.status(), 431);
}

#[test]
fn a_guest_sees_crumbs_as_one_cookie() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let request = Request::get("http://a/headers")
            .header("cookie", "a=1")
            .header("cookie", "b=2; c=3");
        let reply = host
            .h2()
            .exchange(request.body(()).expect("a request"), b"", None);
        let seen = reply.text();
        let cookies: Vec<_> = seen
            .lines()
            .filter_map(|line| line.strip_prefix("cookie\t"))
            .collect();
        // `a=1; b=2; c=3`
        assert_eq!(cookies, ["613d313b20623d323b20633d33"], "{guest}");
    }
}

#[test]
fn trailers_go_both_ways_over_h2() {
    for guest in BOTH_ECHOES {
        let host = TestHost::serve(guest, "");
        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-checksum"),
            HeaderValue::from_static("abc"),
        )]);
        let request = Request::post("http://a/").body(()).expect("a request");
        let reply = host
            .h2()
            .exchange(request, b"hello", Some(trailers.clone()));
        assert_eq!(reply.text(), "hello", "{guest}");
        assert_eq!(reply.trailers, Some(trailers), "{guest}");
    }
}

#[test]
fn both_directions_of_one_stream_flow_at_once() {
    let host = TestHost::serve(ECHO, "");
    let mut connection = host.h2();
    let request = Request::post("http://a/").body(()).expect("a request");
    let (response, mut stream) = connection.send(request, false);
    // The answer's head and first bytes are here while the request is not finished.
    stream.send_data("one".into(), false).expect("sent");
    let response = connection.head(response);
    assert_eq!(response.status(), 200);
    let (head, mut body) = response.into_parts();
    assert_eq!(&connection.data(&mut body)[..], b"one");
    stream.send_data("two".into(), true).expect("sent");
    assert_eq!(connection.rest(head, body).text(), "two");
}
