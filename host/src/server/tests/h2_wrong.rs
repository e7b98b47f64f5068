//! HTTP/2 from clients that break its rules, one frame at a time: what is wrong with a request resets its stream, what is wrong
//! with the connection ends it, and what moves nothing may not come for ever.

use std::time::Instant;

use super::h2_client::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, H2Client, HEADERS, PING, PREFACE,
    PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use super::support::{LONG, SHORT, TestDoor, config, count, eventually};
use crate::server::{Config, HeadFault};

const WINDOW: u32 = 65_535;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/hello"),
    (":authority", "a"),
];

/// The code of RST_STREAM, or of GOAWAY.
fn code(frame: &Frame) -> u32 {
    let at = if frame.kind == GOAWAY { 4 } else { 0 };
    u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap())
}

/// A request that is `GET` with what `change` does to it.
fn changed(change: impl Fn(&mut Vec<(&'static str, &'static str)>)) -> Vec<u8> {
    let mut fields = GET.to_vec();
    change(&mut fields);
    H2Client::list(fields)
}

#[tokio::test]
async fn what_is_wrong_with_the_headers_of_a_request_resets_its_stream_alone() {
    let with = |name, value| changed(move |it| it.push((name, value)));
    let without = |name| changed(move |it| it.retain(|&(it, _)| it != name));
    let first = |name, value| changed(move |it| it.insert(0, (name, value)));
    let other = |name, value: &'static str| {
        changed(move |it| {
            for field in it.iter_mut().filter(|field| field.0 == name) {
                field.1 = value;
            }
        })
    };
    for (what, list) in [
        ("connection", with("connection", "close")),
        ("keep-alive", with("keep-alive", "1")),
        ("proxy-connection", with("proxy-connection", "close")),
        ("transfer-encoding", with("transfer-encoding", "chunked")),
        ("upgrade", with("upgrade", "websocket")),
        ("te", with("te", "gzip")),
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        ("an empty path", other(":path", "")),
        ("a path with a fragment", other(":path", "/hello#part")),
        ("a path without a slash", other(":path", "hello")),
        ("a whole URI for a path", other(":path", "http://a/hello")),
        ("two paths", with(":path", "/b")),
        ("two methods", first(":method", "POST")),
        ("a status", first(":status", "200")),
        ("a protocol", first(":protocol", "websocket")),
        (
            "a pseudo-header behind the others",
            changed(|it| it.insert(0, ("x", "y"))),
        ),
        ("a length that is none", with("content-length", "+5")),
        (
            "a length twice",
            changed(|it| it.extend([("content-length", "0"); 2])),
        ),
        (
            "two lengths",
            changed(|it| it.extend([("content-length", "0"), ("content-length", "1")])),
        ),
        (
            "a length of what does not come",
            with("content-length", "5"),
        ),
        ("a name in capitals", with("X-Upper", "1")),
        ("a name with a space", with("a b", "1")),
        ("a name with a colon", with("a:", "1")),
        ("no name", with("", "1")),
        ("no name and no value", with("", "")),
        ("an unknown pseudo-header", with(":nonsense", "1")),
        ("a value of two lines", with("x", "a\nb")),
        ("a value with CR", with("x", "a\rb")),
        ("a value with NUL", with("x", "a\0b")),
        ("a method of two words", other(":method", "GET /")),
        ("an empty method", other(":method", "")),
        ("a status that is none", first(":status", "ok")),
    ] {
        let door = TestDoor::open(config());
        let mut client = H2Client::connect(&door, WINDOW).await;
        client
            .send(HEADERS, END_STREAM | END_HEADERS, 1, &list)
            .await;
        let reset = client.end_of(1).await;
        assert_eq!(
            (reset.kind, code(&reset)),
            (RST_STREAM, PROTOCOL_ERROR),
            "{what}"
        );
        send_in_frames(&mut client, 3, &list, list.len() / 3).await;
        let reset = client.end_of(3).await;
        assert_eq!(
            (reset.kind, code(&reset)),
            (RST_STREAM, PROTOCOL_ERROR),
            "{what}, in several frames"
        );
        assert_eq!(count(&door.seen.requests), 0, "{what}");
        client.get(5, "/hello").await;
        assert_eq!(client.expect(DATA, 5).await.payload, b"hello", "{what}");
    }
}

/// Sends a request without a body in frames of so many bytes.
async fn send_in_frames(client: &mut H2Client, stream: u32, list: &[u8], bytes: usize) {
    let (first, rest) = list.split_at(bytes);
    client.send(HEADERS, END_STREAM, stream, first).await;
    let last = rest.len().div_ceil(bytes);
    for (nth, piece) in rest.chunks(bytes).enumerate() {
        client.go_on(stream, piece, nth + 1 == last).await;
    }
}

#[tokio::test]
async fn a_list_that_no_frame_holds_is_refused_alone_or_served() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    let long = "v".repeat(120);
    // Half of the fields go into the table, which holds the last 26 of them.
    let fields = |wrong: &[(&str, &str)]| {
        let mut list = changed(|it| it[2].1 = "/fields");
        for nth in 0..90 {
            let name = format!("x-{nth}");
            list.extend(kept(&name, &long));
            list.extend(H2Client::list([("y", &*long)]));
        }
        list.extend(H2Client::list(wrong.iter().copied()));
        list
    };
    for (stream, wrong) in [
        (1, ("x", "a\nb")),
        (3, ("connection", "close")),
        (5, (":path", "/")),
        (7, ("te", "gzip")),
    ] {
        send_in_frames(&mut client, stream, &fields(&[wrong]), 16_000).await;
        let reset = client.end_of(stream).await;
        assert_eq!(
            (reset.kind, code(&reset)),
            (RST_STREAM, PROTOCOL_ERROR),
            "{wrong:?}"
        );
    }
    // The newest that they have put into the table, and the oldest that is left.
    let references = [changed(|it| it[2].1 = "/fields"), b"\xbe\xd7".to_vec()].concat();
    send_in_frames(&mut client, 9, &references, 7).await;
    let seen = client.expect(DATA, 9).await.payload;
    let wanted = format!("x-89: {long}\nx-64: {long}\n");
    assert_eq!(String::from_utf8_lossy(&seen), wanted);
    send_in_frames(&mut client, 11, &fields(&[]), 16_000).await;
    let mut seen = Vec::new();
    while !seen.windows(6).any(|it| it == b"x-89: ") {
        seen.extend(client.expect(DATA, 11).await.payload);
    }
    assert_eq!(count(&door.counters.violations), 0);
}

/// A literal that goes into the table (RFC 7541, 6.2.1).
fn kept(name: &str, value: &str) -> Vec<u8> {
    let mut literal = H2Client::list([(name, value)]);
    literal[0] = 0x40;
    literal
}

/// Entries of the table count from the newest, which is 62.
#[tokio::test]
async fn a_refused_request_leaves_in_the_table_what_the_client_has_there() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    let flags = END_STREAM | END_HEADERS;
    let with = |fields: &[u8]| [changed(|it| it[2].1 = "/fields"), fields.to_vec()].concat();
    let fields = [
        kept("x-good", "one"),
        kept("X-Upper", "two"),
        kept("x-line", "a\nb"),
        // `X-Upper`, in Huffman's code.
        b"\x40\x86\xfc\x5b\x85\x75\x96\xcf\x01a".to_vec(),
    ]
    .concat();
    client.send(HEADERS, flags, 1, &with(&fields)).await;
    assert_eq!(code(&client.end_of(1).await), PROTOCOL_ERROR);
    let asked: [(u32, &[u8], Option<&str>); 8] = [
        (3, b"\xc1", Some("x-good: one\n")),
        // Who refers to what was wrong is wrong too.
        (5, b"\xbe", None),
        (7, b"\xbf", None),
        (9, b"\xc0", None),
        // A good value for a good name is good, though the value before was not.
        (11, b"\x7f\0\x05three", Some("x-line: three\n")),
        (13, b"\xbe", Some("x-line: three\n")),
        (15, b"\x0f\x2f\x04\nbad", None),
        (17, b"\xc2\xbe", Some("x-good: one\nx-line: three\n")),
    ];
    for (stream, reference, seen) in asked {
        client.send(HEADERS, flags, stream, &with(reference)).await;
        match seen {
            Some(seen) => {
                let body = client.expect(DATA, stream).await.payload;
                assert_eq!(String::from_utf8_lossy(&body), seen, "stream {stream}");
            }
            None => {
                let reset = client.end_of(stream).await;
                assert_eq!(
                    (reset.kind, code(&reset)),
                    (RST_STREAM, PROTOCOL_ERROR),
                    "stream {stream}"
                );
            }
        }
    }
    assert_eq!(count(&door.counters.violations), 0);
}

/// A client with a table of its own, as RFC 7541, 4, has it: what it refers to is what the handler sees, however often something
/// was refused, and however often the table was full.
#[tokio::test]
async fn whatever_was_refused_a_client_and_the_handler_mean_the_same() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    // The newest is the first.
    let mut table: Vec<(String, String)> = Vec::new();
    let mut seed = 7_u64;
    let mut below = |end: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % end as u64).unwrap()
    };
    let (mut good, mut refused) = (0, 0);
    for round in 0..200 {
        let stream = 2 * round + 1;
        let mut list = changed(|it| it[2].1 = "/fields");
        let mut fields = Vec::new();
        for _ in 0..=below(4) {
            let name = match below(12) {
                0 => "X-Upper",
                1 => "d e",
                it => ["x-a", "x-bc", "x-def"][it % 3],
            };
            let mut name = name.to_owned();
            let mut value = match below(10) {
                0 => "a\nb".to_owned(),
                _ => "v".repeat(1 + below(110)),
            };
            let known = below(table.len().clamp(1, 60));
            // One that is kept comes first.
            let form = if table.is_empty() { 3 } else { below(4) };
            if form == 0 {
                list.extend(H2Client::list([(&*name, &*value)]));
            } else if form == 1 {
                (name, value) = table[known].clone();
                list.push(0x80 | u8::try_from(62 + known).unwrap());
            } else if form == 2 {
                name = table[known].0.clone();
                match known.checked_sub(1) {
                    None => list.push(0x7e),
                    Some(more) => list.extend([0x7f, u8::try_from(more).unwrap()]),
                }
                list.push(u8::try_from(value.len()).unwrap());
                list.extend(value.bytes());
            } else {
                list.extend(kept(&name, &value));
            }
            if form > 1 {
                table.insert(0, (name.clone(), value.clone()));
            }
            let bytes = |table: &[(String, String)]| -> usize {
                table.iter().map(|(n, v)| 32 + n.len() + v.len()).sum()
            };
            while bytes(&table) > 4096 {
                table.pop();
            }
            fields.push((name, value));
        }
        let bytes = [list.len(), 1 + below(list.len() - 1)][below(2)];
        if bytes == list.len() {
            client
                .send(HEADERS, END_STREAM | END_HEADERS, stream, &list)
                .await;
        } else {
            send_in_frames(&mut client, stream, &list, bytes.max(list.len() / 8)).await;
        }
        let is_wrong =
            |(name, value): &(String, String)| name.contains(['U', ' ']) || value.contains('\n');
        if fields.iter().any(is_wrong) {
            refused += 1;
            let reset = client.end_of(stream).await;
            assert_eq!(
                (reset.kind, code(&reset)),
                (RST_STREAM, PROTOCOL_ERROR),
                "{fields:?}"
            );
            continue;
        }
        good += 1;
        let body = client.expect(DATA, stream).await.payload;
        let body = String::from_utf8(body).unwrap();
        let mut seen: Vec<String> = body.lines().map(str::to_owned).collect();
        let mut sent: Vec<String> = fields.iter().map(|(n, v)| format!("{n}: {v}")).collect();
        seen.sort();
        sent.sort();
        assert_eq!(seen, sent, "stream {stream}");
    }
    assert!(good > 20 && refused > 20, "{good} and {refused}");
}

#[tokio::test]
async fn a_stream_that_depends_on_itself_is_reset_and_its_list_is_read() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    let flags = END_STREAM | END_HEADERS;
    let with = |fields: &[u8]| [changed(|it| it[2].1 = "/fields"), fields.to_vec()].concat();
    let on_itself = [vec![0, 0, 0, 1, 15], with(&kept("x", "y"))].concat();
    client.send(HEADERS, flags | 0x20, 1, &on_itself).await;
    assert_eq!(code(&client.end_of(1).await), PROTOCOL_ERROR);
    client.send(HEADERS, flags, 3, &with(b"\xbe")).await;
    assert_eq!(client.expect(DATA, 3).await.payload, b"x: y\n");
}

#[tokio::test]
async fn trailers_that_are_wrong_reset_their_stream_alone() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    let post = changed(|it| {
        it[0].1 = "POST";
        it[2].1 = "/wait";
    });
    for (stream, what, trailers) in [
        (1, "a name in capitals", vec![("X-Upper", "1")]),
        (5, "a path", vec![(":path", "/")]),
        (9, "a length", vec![("content-length", "0")]),
        (13, "too many", vec![("x", "1"); config().max_headers + 1]),
    ] {
        client.send(HEADERS, END_HEADERS, stream, &post).await;
        let trailers = H2Client::list(trailers);
        client
            .send(HEADERS, END_STREAM | END_HEADERS, stream, &trailers)
            .await;
        let reset = client.end_of(stream).await;
        assert_eq!(
            (reset.kind, code(&reset)),
            (RST_STREAM, PROTOCOL_ERROR),
            "{what}"
        );
        client.get(stream + 2, "/hello").await;
        let answer = client.expect(DATA, stream + 2).await;
        assert_eq!(answer.payload, b"hello", "{what}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_says_breaks_off() {
    for (said, sent) in [("5", "hell"), ("5", "hello!"), ("0", "h")] {
        let door = TestDoor::open(config());
        let mut client = H2Client::connect(&door, WINDOW).await;
        let list = changed(|it| {
            it[0].1 = "POST";
            it[2].1 = "/echo";
            it.push(("content-length", said));
        });
        client.send(HEADERS, END_HEADERS, 1, &list).await;
        client.send(DATA, END_STREAM, 1, sent.as_bytes()).await;
        let reset = client.expect(RST_STREAM, 1).await;
        assert_eq!(code(&reset), PROTOCOL_ERROR, "{said} {sent}");
        client.get(3, "/hello").await;
        assert_eq!(client.expect(DATA, 3).await.payload, b"hello");
    }
}

#[tokio::test]
async fn a_target_that_is_too_long_for_anybody_is_431_and_told_and_the_connection_goes_on() {
    // The largest takes h2 several frames to refuse.
    for max_head_bytes in [64 * 1024, 1024 * 1024] {
        let door = TestDoor::open(Config {
            max_head_bytes,
            ..config()
        });
        let mut client = H2Client::connect(&door, WINDOW).await;
        // A path of 70,000 bytes, and a field for the table.
        let mut list = vec![0x82, 0x86, 0x04, 0x7f, 0xf1, 0xa1, 0x04];
        list.extend([b'/'; 70_000]);
        list.extend(kept("x", "y"));
        send_in_frames(&mut client, 1, &list, 16_000).await;
        let head = client.expect(HEADERS, 1).await;
        assert_eq!(head.payload, [0x48, 0x83, 0x69, 0x90, 0xff]);
        let told = || door.seen.refused.lock().unwrap().clone() == [HeadFault::TooLarge];
        eventually(told).await;
        let next = [changed(|it| it[2].1 = "/fields"), vec![0xbe]].concat();
        client
            .send(HEADERS, END_STREAM | END_HEADERS, 3, &next)
            .await;
        assert_eq!(client.expect(DATA, 3).await.payload, b"x: y\n");
    }
}

/// A frame as a client would send it.
type Sent = (u8, u8, u32, Vec<u8>);

#[tokio::test]
async fn what_is_wrong_with_the_connection_ends_it_with_its_code() {
    let get = || changed(|_| ());
    let open = |stream| (HEADERS, END_HEADERS, stream, get());
    let setting = |name: u16, value: u32| {
        let mut payload = name.to_be_bytes().to_vec();
        payload.extend(value.to_be_bytes());
        (SETTINGS, 0, 0, payload)
    };
    let cases: Vec<(&str, Vec<Sent>, u32)> = vec![
        (
            "DATA on no stream",
            vec![(DATA, 0, 0, b"x".to_vec())],
            PROTOCOL_ERROR,
        ),
        (
            "DATA on a stream that is not open",
            vec![(DATA, 0, 1, b"x".to_vec())],
            PROTOCOL_ERROR,
        ),
        ("HEADERS on no stream", vec![open(0)], PROTOCOL_ERROR),
        (
            "HEADERS on a stream of the server's",
            vec![open(2)],
            PROTOCOL_ERROR,
        ),
        (
            "a stream before the last",
            vec![open(3), open(1)],
            PROTOCOL_ERROR,
        ),
        (
            "HEADERS behind the end",
            vec![
                (
                    HEADERS,
                    END_HEADERS | END_STREAM,
                    1,
                    changed(|it| it[2].1 = "/wait"),
                ),
                (HEADERS, END_HEADERS | END_STREAM, 1, get()),
            ],
            STREAM_CLOSED,
        ),
        (
            "DATA behind the end",
            vec![
                (
                    HEADERS,
                    END_HEADERS | END_STREAM,
                    1,
                    changed(|it| it[2].1 = "/wait"),
                ),
                (DATA, 0, 1, b"x".to_vec()),
            ],
            STREAM_CLOSED,
        ),
        (
            "RST_STREAM of what is not open",
            vec![(RST_STREAM, 0, 1, vec![0; 4])],
            PROTOCOL_ERROR,
        ),
        (
            "RST_STREAM of another length",
            vec![open(1), (RST_STREAM, 0, 1, vec![0; 5])],
            FRAME_SIZE_ERROR,
        ),
        (
            "SETTINGS on a stream",
            vec![(SETTINGS, 0, 1, vec![])],
            PROTOCOL_ERROR,
        ),
        (
            "SETTINGS of another length",
            vec![(SETTINGS, 0, 0, vec![0; 5])],
            FRAME_SIZE_ERROR,
        ),
        ("ENABLE_PUSH of 2", vec![setting(2, 2)], PROTOCOL_ERROR),
        ("frames of 1 byte", vec![setting(5, 1)], PROTOCOL_ERROR),
        (
            "windows of 2^31",
            vec![setting(4, 0x8000_0000)],
            FLOW_CONTROL_ERROR,
        ),
        (
            "PING on a stream",
            vec![(PING, 0, 1, vec![0; 8])],
            PROTOCOL_ERROR,
        ),
        (
            "PING of another length",
            vec![(PING, 0, 0, vec![0; 7])],
            FRAME_SIZE_ERROR,
        ),
        (
            "a window of nothing more",
            vec![(WINDOW_UPDATE, 0, 0, vec![0; 4])],
            PROTOCOL_ERROR,
        ),
        (
            "WINDOW_UPDATE of another length",
            vec![(WINDOW_UPDATE, 0, 0, vec![0; 3])],
            FRAME_SIZE_ERROR,
        ),
        (
            "a window of more than 2^31",
            vec![(WINDOW_UPDATE, 0, 0, vec![0x7f, 255, 255, 255])],
            FLOW_CONTROL_ERROR,
        ),
        (
            "CONTINUATION of nothing",
            vec![open(1), (CONTINUATION, END_HEADERS, 1, get())],
            PROTOCOL_ERROR,
        ),
        (
            "a frame within headers",
            vec![(HEADERS, 0, 1, get()), (PING, 0, 0, vec![0; 8])],
            PROTOCOL_ERROR,
        ),
        (
            "headers within headers",
            vec![(HEADERS, 0, 1, get()), open(3)],
            PROTOCOL_ERROR,
        ),
        (
            "CONTINUATION of another stream",
            vec![
                (HEADERS, 0, 1, get()),
                (CONTINUATION, END_HEADERS, 3, vec![]),
            ],
            PROTOCOL_ERROR,
        ),
        (
            "a push",
            vec![
                open(1),
                (5, END_HEADERS, 1, [vec![0, 0, 0, 2], get()].concat()),
            ],
            PROTOCOL_ERROR,
        ),
        (
            "a push of what is malformed",
            vec![(
                5,
                END_HEADERS,
                1,
                [vec![0, 0, 0, 2], kept("te", "x")].concat(),
            )],
            PROTOCOL_ERROR,
        ),
        (
            "a frame that is too large",
            vec![open(1), (DATA, 0, 1, vec![0; 16_385])],
            FRAME_SIZE_ERROR,
        ),
        (
            "padding longer than its frame",
            vec![open(1), (DATA, 8, 1, vec![9, 1])],
            PROTOCOL_ERROR,
        ),
        (
            "more than the window",
            (0..17)
                .map(|n| {
                    if n == 0 {
                        open(1)
                    } else {
                        (DATA, 0, 1, vec![0; 16_384])
                    }
                })
                .chain((0..300).map(|_| (DATA, 0, 1, vec![0; 16_384])))
                .collect(),
            FLOW_CONTROL_ERROR,
        ),
        (
            "headers of an entry 0",
            vec![(HEADERS, END_HEADERS | END_STREAM, 1, vec![0x80])],
            COMPRESSION_ERROR,
        ),
        (
            "headers of an entry that is not there",
            vec![(HEADERS, END_HEADERS | END_STREAM, 1, vec![0xff, 0x7f])],
            COMPRESSION_ERROR,
        ),
        (
            "headers that are cut",
            vec![(HEADERS, END_HEADERS | END_STREAM, 1, vec![0x82, 0, 5, b'x'])],
            COMPRESSION_ERROR,
        ),
        (
            "a table that is larger than it may be",
            vec![(HEADERS, END_HEADERS | END_STREAM, 1, vec![0x3f, 0xe2, 0x1f])],
            COMPRESSION_ERROR,
        ),
        (
            "a field of nothing for the table",
            vec![(HEADERS, END_HEADERS | END_STREAM, 1, kept("", ""))],
            COMPRESSION_ERROR,
        ),
    ];
    let mut others = Vec::new();
    for (what, frames, wanted) in cases {
        let door = TestDoor::open(Config {
            h2_window_bytes: WINDOW,
            linger_timeout: SHORT,
            ..config()
        });
        let mut client = H2Client::connect(&door, WINDOW).await;
        for (kind, flags, stream, payload) in frames {
            client.try_send(kind, flags, stream, &payload).await;
        }
        let goaway = loop {
            match client.next().await {
                Some(frame) if frame.kind == GOAWAY => break Some(frame),
                Some(frame) if frame.kind == RST_STREAM && what == "more than the window" => {
                    break Some(frame);
                }
                Some(_) => {}
                None => break None,
            }
        };
        let goaway = goaway.unwrap_or_else(|| panic!("{what}: closed without a word"));
        let got = code(&goaway);
        if got != wanted {
            others.push(format!("{what}: {got} and not {wanted}"));
        }
        if goaway.kind == GOAWAY {
            while client.next().await.is_some() {}
            drop(client);
            eventually(|| count(&door.counters.open) == 0).await;
        }
    }
    assert!(others.is_empty(), "{others:#?}");
}

#[tokio::test]
async fn a_client_that_leaves_at_any_byte_leaves_nothing_behind() {
    let door = TestDoor::open(config());
    let frame = |kind, flags, stream: u32, payload: &[u8]| {
        let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    };
    let post = changed(|it| {
        it[0].1 = "POST";
        it[2].1 = "/echo";
    });
    let sent = [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
        frame(HEADERS, END_HEADERS, 1, &post),
        frame(DATA, END_STREAM, 1, b"hello"),
    ]
    .concat();
    for at in 0..=sent.len() {
        let mut raw = door.connect().await;
        raw.send(&sent[..at]).await;
    }
    eventually(|| count(&door.counters.accepted) == sent.len() as u64 + 1).await;
    eventually(|| count(&door.counters.open) == 0).await;
    assert_eq!(count(&door.counters.panics), 0);
    let mut client = H2Client::connect(&door, WINDOW).await;
    client.get(1, "/hello").await;
    assert_eq!(client.expect(DATA, 1).await.payload, b"hello");
}

#[tokio::test]
async fn a_client_whose_first_frame_is_not_settings_is_sent_away() {
    let door = TestDoor::open(config());
    let mut client = H2Client {
        raw: door.connect().await,
        answers_pings: false,
        answered_pings: 0,
    };
    client.raw.send(PREFACE).await;
    client.send(PING, 0, 0, &[0; 8]).await;
    while let Some(frame) = client.next().await {
        if frame.kind == GOAWAY {
            assert_eq!(code(&frame), PROTOCOL_ERROR);
        }
    }
    eventually(|| count(&door.counters.open) == 0).await;
}

/// Sends until the connection is over, and gives the code of its end.
async fn flood(door: &TestDoor, client: &mut H2Client, frames: impl Fn(u32) -> Vec<Sent>) -> u32 {
    let began = Instant::now();
    for round in 0.. {
        let mut is_open = true;
        for (kind, flags, stream, payload) in frames(round) {
            is_open &= client.try_send(kind, flags, stream, &payload).await;
        }
        if !is_open || count(&door.counters.open) == 0 || round > 20_000 {
            break;
        }
        assert!(began.elapsed() < LONG, "the flood goes on");
    }
    loop {
        match client.next().await {
            Some(frame) if frame.kind == GOAWAY => return code(&frame),
            Some(_) => {}
            None => panic!("closed without a word"),
        }
    }
}

#[tokio::test]
async fn a_flood_of_what_moves_nothing_ends_its_connection_and_no_other() {
    let list = H2Client::list([("x", "y")]);
    let provoked = |round: u32| {
        let stream = 2 * round + 3;
        vec![
            (
                HEADERS,
                END_HEADERS,
                stream,
                changed(|it| it[2].1 = "/wait"),
            ),
            // RFC 9113, 6.9.1: more than a window can be, so the stream is reset by us.
            (WINDOW_UPDATE, 0, stream, vec![0x7f, 255, 255, 255]),
        ]
    };
    let cancelled = |round: u32| {
        let stream = 2 * round + 3;
        vec![
            (
                HEADERS,
                END_HEADERS | END_STREAM,
                stream,
                changed(|it| it[2].1 = "/wait"),
            ),
            (RST_STREAM, 0, stream, vec![0, 0, 0, 8]),
        ]
    };
    let refused = |round: u32| {
        let wait = changed(|it| it[2].1 = "/wait");
        vec![(HEADERS, END_HEADERS | END_STREAM, 2 * round + 3, wait)]
    };
    type Flood<'a> = Box<dyn Fn(u32) -> Vec<Sent> + 'a>;
    let single = |kind, flags, stream, payload: Vec<u8>| -> Flood<'_> {
        Box::new(move |_| vec![(kind, flags, stream, payload.clone())])
    };
    let floods: Vec<(&str, Flood<'_>)> = vec![
        ("PING", single(PING, 0, 0, vec![0; 8])),
        ("answers to no PING", single(PING, 1, 0, vec![0; 8])),
        ("SETTINGS", single(SETTINGS, 0, 0, vec![0, 4, 0, 1, 0, 0])),
        ("empty SETTINGS", single(SETTINGS, 0, 0, vec![])),
        (
            "WINDOW_UPDATE",
            single(WINDOW_UPDATE, 0, 0, vec![0, 0, 0, 1]),
        ),
        (
            "WINDOW_UPDATE of a stream",
            single(WINDOW_UPDATE, 0, 1, vec![0, 0, 0, 1]),
        ),
        ("PRIORITY", single(PRIORITY, 0, 5, vec![0, 0, 0, 3, 9])),
        ("empty DATA", single(DATA, 0, 1, vec![])),
        ("DATA of padding", single(DATA, 8, 1, vec![3, 0, 0, 0])),
        ("unknown frames", single(0xbe, 0, 0, vec![0; 20])),
        ("resets", Box::new(cancelled)),
        ("resets that we are made to send", Box::new(provoked)),
        ("streams beyond the ceiling", Box::new(refused)),
        (
            "CONTINUATION",
            Box::new(move |round| {
                let kind = if round == 0 { HEADERS } else { CONTINUATION };
                vec![(kind, 0, 3, list.clone())]
            }),
        ),
        (
            "empty CONTINUATION",
            Box::new(|round| {
                vec![(
                    if round == 0 { HEADERS } else { CONTINUATION },
                    0,
                    3,
                    vec![],
                )]
            }),
        ),
    ];
    for (what, frames) in floods {
        let door = TestDoor::open(config());
        let mut neighbour = H2Client::connect(&door, WINDOW).await;
        let mut client = H2Client::connect(&door, WINDOW).await;
        let post = changed(|it| {
            it[0].1 = "POST";
            it[2].1 = "/wait";
        });
        client.send(HEADERS, END_HEADERS, 1, &post).await;
        let ended = flood(&door, &mut client, frames).await;
        assert_eq!(ended, ENHANCE_YOUR_CALM, "{what}");
        drop(client);
        neighbour.get(1, "/hello").await;
        assert_eq!(neighbour.expect(DATA, 1).await.payload, b"hello", "{what}");
        eventually(|| count(&door.counters.open) == 1).await;
        eventually(|| count(&door.seen.dropped) == count(&door.seen.requests) - 1).await;
    }
}

#[tokio::test]
async fn what_comes_behind_our_goaway_is_not_for_nothing() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    client.get(1, "/wait").await;
    eventually(|| count(&door.seen.requests) == 1).await;
    door.asker.ask();
    // Before it comes one that names no stream, and a PING.
    loop {
        let frame = client.next().await.expect("the connection ended");
        if frame.kind == GOAWAY && frame.payload[..4] == 1_u32.to_be_bytes() {
            break;
        }
    }
    let requests = |round| {
        let stream = 2 * round + 3;
        vec![
            (HEADERS, END_HEADERS, stream, changed(|_| ())),
            (DATA, END_STREAM, stream, b"x".to_vec()),
        ]
    };
    let ended = flood(&door, &mut client, requests).await;
    assert_eq!(ended, ENHANCE_YOUR_CALM);
    assert_eq!(count(&door.seen.requests), 1);
}

#[tokio::test]
async fn an_upload_in_small_pieces_that_is_on_its_way_when_we_reset_it_is_no_flood() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    let post = changed(|it| {
        it[0].1 = "POST";
        it[2].1 = "/unread";
    });
    client.send(HEADERS, END_HEADERS, 1, &post).await;
    assert_eq!(client.end_of(1).await.kind, RST_STREAM);
    let message = [vec![0, 0, 200, DATA, 0, 0, 0, 0, 1], vec![0; 200]].concat();
    client.raw.send(&message.repeat(5_000)).await;
    client.get(3, "/hello").await;
    assert_eq!(client.expect(DATA, 3).await.payload, b"hello");
    assert_eq!(count(&door.counters.violations), 0);
}

#[tokio::test]
async fn a_client_that_gives_back_the_window_of_each_frame_is_no_flood() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    client.get(1, "/endless").await;
    for _ in 0..2_000 {
        let taken = client.expect(DATA, 1).await.payload.len();
        let taken = u32::try_from(taken).unwrap().to_be_bytes();
        client.send(WINDOW_UPDATE, 0, 0, &taken).await;
        client.send(WINDOW_UPDATE, 0, 1, &taken).await;
    }
    assert_eq!(count(&door.counters.violations), 0);
}

#[tokio::test]
async fn headers_that_never_end_are_given_up_though_other_streams_are_open() {
    let door = TestDoor::open(Config {
        header_read_timeout: SHORT,
        ..config()
    });
    let mut client = H2Client::connect(&door, WINDOW).await;
    client.get(1, "/hello").await;
    client.expect(DATA, 1).await;
    client.get(3, "/wait").await;
    eventually(|| count(&door.seen.requests) == 2).await;
    client.begin_get(5, "/hello").await;
    while client.next().await.is_some() {}
    eventually(|| count(&door.counters.slow_heads) == 1).await;
    eventually(|| count(&door.counters.open) == 0).await;
}

#[tokio::test]
async fn a_body_that_nobody_reads_does_not_hold_up_those_of_other_streams() {
    let door = TestDoor::open(Config {
        h2_window_bytes: WINDOW,
        h2_connection_window_bytes: 4 * WINDOW,
        ..config()
    });
    let mut client = H2Client::connect(&door, WINDOW).await;
    let post = |path| {
        changed(move |it| {
            it[0].1 = "POST";
            it[2].1 = path;
        })
    };
    // The windows are as large as they will be once the client has heard of them.
    client.get(1, "/hello").await;
    client.expect(DATA, 1).await;
    client.send(HEADERS, END_HEADERS, 3, &post("/wait")).await;
    for piece in vec![0; WINDOW as usize].chunks(16_384) {
        client.send(DATA, 0, 3, piece).await;
    }
    client.send(HEADERS, END_HEADERS, 5, &post("/echo")).await;
    client.send(DATA, END_STREAM, 5, b"hello").await;
    assert_eq!(client.expect(DATA, 5).await.payload, b"hello");
}

/// A byte for each of thousands of cookies, on streams whose answers nobody takes (CVE-2026-49975).
#[tokio::test]
async fn a_bomb_of_references_is_refused_and_what_is_pinned_is_let_go() {
    let door = TestDoor::open(Config {
        write_stall_timeout: SHORT,
        ..config()
    });
    let mut client = H2Client::connect(&door, 0).await;
    // One cookie into the table, then as many references to it as a frame holds.
    let mut list = vec![0x82, 0x86, 0x84, 0x40, 6];
    list.extend(b"cookie");
    list.extend([1, b'a']);
    list.extend(vec![0xbe; 16_000]);
    for number in 0..50 {
        let (stream, flags) = (2 * number + 1, END_STREAM | END_HEADERS);
        if !client.try_send(HEADERS, flags, stream, &list).await {
            break;
        }
    }
    while let Some(frame) = client.next().await {
        if frame.kind == GOAWAY {
            assert_eq!(code(&frame), ENHANCE_YOUR_CALM);
        }
    }
    assert_eq!(count(&door.seen.requests), 0);
    drop(client);
    eventually(|| count(&door.counters.open) == 0).await;
}

#[tokio::test]
async fn a_request_whose_headers_h2_refuses_is_told_of_as_any_other() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    for (stream, told) in [(1, 1), (3, 2)] {
        client.begin_get(stream, "/hello").await;
        let mut field = vec![0, 1, b'x', 0x7f, 0x81, 0x7c];
        field.extend([b'y'; 16_000]);
        for number in 0..9 {
            client.go_on(stream, &field, number == 8).await;
        }
        client.expect(HEADERS, stream).await;
        eventually(|| door.seen.refused.lock().unwrap().len() == told).await;
        assert_eq!(count(&door.counters.bad_heads), told as u64);
    }
    client.get(5, "/hello").await;
    client.expect(HEADERS, 5).await;
    assert_eq!(client.expect(DATA, 5).await.payload, b"hello");
    assert_eq!(
        count(&door.counters.bad_heads),
        2,
        "trailers and short answers are none"
    );
}
