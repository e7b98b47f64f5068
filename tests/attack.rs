//! Clients that send anything but what they should. The bytes are the same in each run.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::*;

const PLACES: usize = 4;
/// Attackers at once: enough that none waits for another's connection to end, and some for a place.
const ATTACKERS: usize = 8;

/// Numbers that look random (Marsaglia's xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }
}

/// Sends `bytes` and no more, and gives what came until the host closed the connection.
fn attack(host: &TestHost, bytes: &[u8]) -> Vec<u8> {
    let mut connection = host.connect();
    let mut sender = connection.sender();
    // The host may have had enough before the end.
    let _ = sender.write_all(bytes);
    // Long enough that a guest has begun, most times: a client that sends no more has left.
    connection.is_silent_for(Duration::from_millis(10));
    let _ = sender.shutdown(Shutdown::Write);
    match connection.end() {
        Ok(answer) => answer,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Vec::new(),
        Err(error) => panic!("{error}, after {}", bytes.escape_ascii()),
    }
}

/// Sends each of `attacks` to both generations, and then looks at what is left of the host.
fn assert_withstands(attacks: &[Vec<u8>], is_answer: impl Fn(&[u8]) -> bool + Sync) {
    for guest in BOTH_FAULTS {
        let flags = format!("--max-concurrent-requests {PLACES} --max-waiting-requests 100");
        let host = TestHost::serve(guest, &flags);
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for part in attacks.chunks(attacks.len().div_ceil(ATTACKERS)) {
                let (host, is_answer, answered) = (&host, &is_answer, &answered);
                scope.spawn(move || {
                    for bytes in part {
                        let answer = attack(host, bytes);
                        answered.fetch_add(usize::from(!answer.is_empty()), Ordering::Relaxed);
                        assert!(
                            answer.is_empty() || is_answer(&answer),
                            "{guest}: {} to {}",
                            answer.escape_ascii(),
                            bytes.escape_ascii()
                        );
                    }
                });
            }
        });
        // Silence is an answer too, but not to everything.
        let answered = answered.into_inner();
        assert!(answered > attacks.len() / 5, "{guest}: {answered}");
        host.assert_all_places_are_free(PLACES, &format!("{guest}: the attack"));
        assert_eq!(host.get("/ok").text(), "ok\n", "{guest}");

        let ended = host.stop();
        assert_eq!(ended.code, Some(0), "{guest}");
        let panicked = ended.stderr.iter().find(|line| line.contains("panicked"));
        assert_eq!(panicked, None, "{guest}");
        assert!(!ended.stdout.is_empty(), "{guest}");
        for line in &ended.stdout {
            let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
            assert!(parsed.is_ok(), "{guest}: {parsed:?} in {line}");
        }
    }
}

fn is_http_1(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.")
}

/// A connection of HTTP/2 begins with SETTINGS, whatever the client has to say.
fn is_http_2(answer: &[u8]) -> bool {
    answer.get(3) == Some(&SETTINGS)
}

const GET: &[u8] =
    b"GET /request?a=1&b=%20 HTTP/1.1\r\nHost: a\r\nAccept: text/html, */*;q=0.8\r\n\
    Cookie: a=1; b=2\r\nUser-Agent: attack\r\n\r\n";
const POST: &[u8] = b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world";
const CHUNKED: &[u8] = b"POST /request-trailers HTTP/1.1\r\nHost: a\r\nTrailer: x-sum\r\n\
    Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;ext=\"1\"\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n";
const PIPELINED: &[u8] =
    b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\nPOST /ignore-body HTTP/1.1\r\nHost: a\r\n\
    Content-Length: 5\r\n\r\nhelloHEAD /headers HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const OLD: &[u8] = b"GET /headers HTTP/1.0\r\nConnection: keep-alive\r\nX-Empty:\r\n\r\n";
const REQUESTS: [&[u8]; 5] = [GET, POST, CHUNKED, PIPELINED, OLD];

#[test]
fn requests_cut_at_every_byte_are_answered_or_closed() {
    let attacks: Vec<Vec<u8>> = REQUESTS
        .iter()
        .flat_map(|request| (1..request.len()).map(|at| request[..at].to_vec()))
        .collect();
    assert_withstands(&attacks, is_http_1);
}

#[test]
fn a_body_that_is_cut_at_any_byte_is_never_taken_for_whole() {
    let chunked = [b"POST /read", &CHUNKED[b"POST /request-trailers".len()..]].concat();
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        for request in [POST, &chunked] {
            let whole = host.send(request).reply();
            assert!(whole.text().starts_with("11 "), "{guest}: {whole:?}");
            for at in 1..request.len() {
                let answer = attack(&host, &request[..at]);
                assert!(
                    !answer.starts_with(b"HTTP/1.1 2"),
                    "{guest}: {}",
                    request[..at].escape_ascii()
                );
            }
        }
    }
}

/// One thing done to a request.
fn mutate(request: &mut Vec<u8>, numbers: &mut Numbers) {
    let at = numbers.below(request.len());
    match numbers.below(6) {
        0 => request[at] ^= 1 << numbers.below(8),
        1 => request[at] = numbers.byte(),
        2 => drop(request.remove(at)),
        3 => request.insert(at, numbers.byte()),
        4 => request.truncate(at + 1),
        _ => {
            let line_end = |from: usize| {
                let rest = request[from..].iter().position(|byte| *byte == b'\n');
                rest.map_or(request.len(), |length| from + length + 1)
            };
            let (start, end) = (line_end(at), line_end(line_end(at).min(request.len())));
            let line = request[start..end].to_vec();
            request.splice(end..end, line);
        }
    }
}

#[test]
fn mutated_requests_are_answered_or_closed() {
    let mut numbers = Numbers(0x5eed_0001);
    let attacks: Vec<Vec<u8>> = (0..800)
        .map(|n| {
            let mut request = REQUESTS[n % REQUESTS.len()].to_vec();
            for _ in 0..=numbers.below(4) {
                mutate(&mut request, &mut numbers);
            }
            request
        })
        .collect();
    assert_withstands(&attacks, is_http_1);
}

#[test]
fn random_bytes_are_answered_or_closed() {
    let mut numbers = Numbers(0x5eed_0002);
    let mut attacks = Vec::new();
    for _ in 0..200 {
        let length = 1 + numbers.below(4096);
        attacks.push(numbers.bytes(length));
        // The same where fields are expected.
        let length = 1 + numbers.below(64);
        attacks.push([b"GET /ok HTTP/1.1\r\nHost: a\r\n", &*numbers.bytes(length)].concat());
    }
    assert_withstands(&attacks, is_http_1);
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_HEADERS: u8 = 4;

#[test]
fn a_part_of_an_http_2_preface_is_answered_or_closed() {
    let attacks: Vec<Vec<u8>> = (1..PREFACE.len())
        .flat_map(|at| {
            let part = &PREFACE[..at];
            [part.to_vec(), [part, GET].concat()]
        })
        .collect();
    assert_withstands(&attacks, is_http_1);
}

fn frame(length: usize, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).expect("a length").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `GET http://a/`, as HPACK has it in its table.
const GET_ROOT: &[u8] = b"\x82\x84\x86\x41\x01a";

#[test]
fn random_frames_of_http_2_are_answered_or_closed() {
    let mut numbers = Numbers(0x5eed_0003);
    let attacks: Vec<Vec<u8>> = (0..600)
        .map(|_| {
            let mut bytes = [PREFACE, &frame(0, SETTINGS, 0, 0, b"")].concat();
            for n in 0..1 + numbers.below(12) {
                let stream = u32::try_from(2 * n + 1).expect("a stream");
                let length = numbers.below(64);
                let payload = numbers.bytes(length);
                bytes.extend(match numbers.below(8) {
                    // Good ones among them, or the connection would be over with the first.
                    0..3 => frame(
                        GET_ROOT.len(),
                        HEADERS,
                        END_HEADERS | (numbers.byte() & 1),
                        stream,
                        GET_ROOT,
                    ),
                    3 => frame(length, DATA, numbers.byte() & 1, stream, &payload),
                    4 => {
                        let said = numbers.below(1 << 24);
                        frame(said, numbers.byte() % 11, numbers.byte(), stream, &payload)
                    }
                    5 => frame(length, numbers.byte(), numbers.byte(), stream, &payload),
                    _ => {
                        let stream = u32::try_from(numbers.below(8)).expect("a stream");
                        frame(
                            length,
                            numbers.byte() % 11,
                            numbers.byte(),
                            stream,
                            &payload,
                        )
                    }
                });
            }
            bytes
        })
        .collect();
    assert_withstands(&attacks, is_http_2);
}
