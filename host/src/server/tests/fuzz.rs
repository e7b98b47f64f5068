//! The connection layer against what a machine thinks of. For HTTP/1 there is a second reading of the same bytes, [`Reading`],
//! written after RFC 9112 and not after the code: what the handler saw must be what it says, to the byte.
//!
//! The same for each run. `HOST_FUZZ_SECONDS` is how long each of the two goes on, 2 if it is not said; `HOST_FUZZ_SEED` is
//! where it begins.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::h2_client::{DATA, END_HEADERS, END_STREAM, H2Client, HEADERS, PREFACE, SETTINGS};
use super::support::{LONG, config, count, eventually};
use crate::client::Client;
use crate::server::{
    Config, Counters, Handler, HeadFault, ListenerConfig, Place, Upload, open, serve,
};
use crate::shutdown::channel;

/// What the handler saw, or the reading.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    line: String,
    /// None if it broke off
    body: Option<Vec<u8>>,
}

struct Recorder(Arc<Mutex<Vec<Seen>>>);

impl Handler for Recorder {
    type Body = Full<Bytes>;

    async fn handle(&self, request: Request<Upload>, _: Client) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.ok();
        let seen = Seen {
            line: format!("{} {}", head.method, head.uri),
            body: body.map(|body| body.to_bytes().to_vec()),
        };
        let is_whole = seen.body.is_some();
        self.0.lock().unwrap().push(seen);
        let mut response = Response::new(Full::from("seen"));
        if !is_whole {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        response
    }

    fn refuse(&self, _: HeadFault, _: Client) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from("refused"));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response
    }
}

struct FuzzedDoor {
    address: SocketAddr,
    counters: Arc<Counters>,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Connections that were made so far
    made: AtomicU64,
    _asker: crate::shutdown::Trigger,
}

impl FuzzedDoor {
    fn open() -> Self {
        let place = Place::Address(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listeners = open(&[ListenerConfig::at(place)]).unwrap();
        let address = listeners[0].address().unwrap();
        let (asker, shutdown) = channel();
        let counters = Arc::new(Counters::default());
        let seen = Arc::default();
        let config = Config {
            max_head_bytes: HEAD_BYTES,
            max_headers: FIELDS,
            linger_timeout: Duration::from_millis(200),
            ..config()
        };
        let handler = Recorder(Arc::clone(&seen));
        tokio::spawn(serve(
            listeners,
            config,
            Arc::clone(&counters),
            handler,
            shutdown,
        ));
        FuzzedDoor {
            address,
            counters,
            seen,
            made: AtomicU64::new(0),
            _asker: asker,
        }
    }

    /// One more connection was made, and is over: also if its client was gone before it was accepted.
    async fn is_left_in_peace(&self, what: &[u8]) {
        let made = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        let counters = &self.counters;
        eventually(|| count(&counters.accepted) == made && count(&counters.open) == 0).await;
        let panics = count(&self.counters.panics);
        assert_eq!(panics, 0, "a panic by {}", what.escape_ascii());
    }
}

const HEAD_BYTES: usize = 8 * 1024;
const FIELDS: usize = 20;

/// Numbers that look random (Marsaglia's xorshift).
struct Numbers(u64);

impl Numbers {
    fn begin(salt: u64) -> Self {
        let seed = std::env::var("HOST_FUZZ_SEED").ok();
        let seed: u64 = seed.and_then(|seed| seed.parse().ok()).unwrap_or(1);
        // Zero would stay zero.
        Numbers((seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    fn byte(&mut self) -> u8 {
        // Those that mean something to a parser come more often than others.
        match self.below(4) {
            0 => *b"\r\n :;,\t\0#*\"\x7f\x80\xff0x"
                .get(self.below(17))
                .unwrap_or(&b'\n'),
            _ => self.next().to_le_bytes()[0],
        }
    }
}

fn time_is_up(began: Instant) -> bool {
    let seconds = std::env::var("HOST_FUZZ_SECONDS").ok();
    let seconds: u64 = seconds.and_then(|it| it.parse().ok()).unwrap_or(2);
    began.elapsed() >= Duration::from_secs(seconds)
}

/// How RFC 9112 reads what a client sent, and stricter where a message could be read in two ways.
#[derive(Debug, Default)]
struct Reading {
    requests: Vec<Seen>,
    end: End,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum End {
    /// More may come
    #[default]
    Open,
    /// What came last is refused, and the connection is over
    Refused,
    /// The client, or its version, wants no more
    Closed,
    /// Something that this reading does not know enough of; whatever comes behind it may be anything
    Unknown,
}

impl Reading {
    fn of(bytes: &[u8]) -> Reading {
        let mut reading = Reading::default();
        let mut rest = bytes;
        while reading.end == End::Open && !rest.is_empty() {
            rest = match reading.request(rest) {
                Some(rest) => rest,
                None => break,
            };
        }
        reading
    }

    fn ends<T>(&mut self, end: End) -> Option<T> {
        self.end = end;
        None
    }

    /// What is behind the first request, or nothing if that is not complete or the last.
    fn request<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let empty = bytes
            .iter()
            .take_while(|byte| b"\r\n".contains(byte))
            .count();
        if empty > 0 {
            // Which of them are read over, and how many, is the reader's to choose.
            return self.ends(End::Unknown);
        }
        let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else {
            // Some of what is wrong is seen before the end, and it does not matter when.
            return self.ends(End::Unknown);
        };
        let (head, rest) = (&bytes[..end + 2], &bytes[end + 4..]);
        let Some(head) = Head::read(head) else {
            return self.ends(End::Refused);
        };
        if head.is_unknown {
            return self.ends(End::Unknown);
        }
        let (body, rest) = match head.body {
            Framing::None => (Vec::new(), rest),
            Framing::Length(length) if rest.len() < length => return None,
            Framing::Length(length) => (rest[..length].to_vec(), &rest[length..]),
            Framing::Chunked => match chunked(rest) {
                Chunked::Whole(body, rest) => (body, rest),
                Chunked::Partial => return None,
                Chunked::Broken => {
                    let line = head.line;
                    self.requests.push(Seen { line, body: None });
                    return self.ends(End::Refused);
                }
                Chunked::Unknown => return self.ends(End::Unknown),
            },
        };
        self.requests.push(Seen {
            line: head.line,
            body: Some(body),
        });
        if head.is_last {
            return self.ends(End::Closed);
        }
        Some(rest)
    }
}

struct Head {
    line: String,
    body: Framing,
    is_last: bool,
    is_unknown: bool,
}

enum Framing {
    None,
    Length(usize),
    Chunked,
}

fn is_token(text: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_token)
}

fn is_value(text: &[u8]) -> bool {
    text.iter()
        .all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f)
}

impl Head {
    /// `None` if it may not pass. Every line of it ends with CR LF.
    fn read(bytes: &[u8]) -> Option<Head> {
        if bytes.len() + 2 > HEAD_BYTES {
            return None;
        }
        let mut lines = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = rest.windows(2).position(|it| it == b"\r\n")?;
            lines.push(&rest[..end]);
            rest = &rest[end + 2..];
        }
        let (first, fields) = lines.split_first()?;
        let words: Vec<&[u8]> = first.split(|&byte| byte == b' ').collect();
        let [method, target, version] = words[..] else {
            return None;
        };
        let is_1_1 = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ => return None,
        };
        // What is a URI is not this test's question.
        let uri = Uri::try_from(target).ok()?;
        if !is_token(method)
            || target.contains(&b'#')
            || target.iter().any(|&it| it <= b' ' || it == 0x7f)
        {
            return None;
        }
        let method = Method::from_bytes(method).ok()?;
        let mut is_unknown = method == Method::CONNECT;
        if fields.len() > FIELDS {
            return None;
        }
        let (mut lengths, mut codings) = (Vec::new(), Vec::new());
        let (mut is_closed, mut is_kept) = (false, is_1_1);
        for field in fields {
            let colon = field.iter().position(|&byte| byte == b':')?;
            let (name, value) = (&field[..colon], &field[colon + 1..]);
            if !is_token(name) || !is_value(value) {
                return None;
            }
            let value = value.trim_ascii();
            match &name.to_ascii_lowercase()[..] {
                b"content-length" => lengths.push(value),
                b"transfer-encoding" => codings.push(value.to_ascii_lowercase()),
                b"connection" if value.eq_ignore_ascii_case(b"close") => is_closed = true,
                b"connection" if value.eq_ignore_ascii_case(b"keep-alive") => is_kept = true,
                // hyper's to read.
                b"connection" | b"expect" | b"upgrade" => is_unknown = true,
                _ => {}
            }
        }
        let body = match (&lengths[..], &codings[..]) {
            ([], []) => Framing::None,
            ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
                let length: u64 = std::str::from_utf8(length).ok()?.parse().ok()?;
                if length > i64::MAX as u64 {
                    return None;
                }
                Framing::Length(usize::try_from(length).ok()?)
            }
            ([], [coding]) if is_1_1 && coding == b"chunked" => Framing::Chunked,
            _ => return None,
        };
        Some(Head {
            line: format!("{method} {uri}"),
            body,
            is_last: is_closed || !is_kept,
            is_unknown,
        })
    }
}

enum Chunked<'a> {
    Whole(Vec<u8>, &'a [u8]),
    Partial,
    Broken,
    Unknown,
}

fn chunked(mut rest: &[u8]) -> Chunked<'_> {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            // Broken perhaps, and perhaps not yet.
            return Chunked::Unknown;
        };
        let Some(line) = rest[..end].strip_suffix(b"\r") else {
            return Chunked::Broken;
        };
        rest = &rest[end + 1..];
        let digits = line.iter().take_while(|it| it.is_ascii_hexdigit()).count();
        let (size, extension) = line.split_at(digits);
        let is_extension = extension.is_empty() || b"; \t".contains(&extension[0]);
        if !(1..=15).contains(&digits) || !is_extension || !is_value(extension) {
            return Chunked::Broken;
        }
        if extension.first().is_some_and(|&byte| byte != b';') {
            // White space before CR: RFC 9112 has none there, and many send it.
            return Chunked::Unknown;
        }
        let size = std::str::from_utf8(size).ok();
        let size = size
            .and_then(|size| usize::from_str_radix(size, 16).ok())
            .unwrap();
        if size == 0 {
            break;
        }
        if rest.len() < size {
            return Chunked::Partial;
        }
        body.extend(&rest[..size]);
        rest = &rest[size..];
        match rest {
            [] | [b'\r'] => return Chunked::Partial,
            [b'\r', b'\n', ..] => rest = &rest[2..],
            _ => return Chunked::Broken,
        }
    }
    match rest {
        [b'\r', b'\n', rest @ ..] => Chunked::Whole(body, rest),
        // Trailers are hyper's to read.
        _ => Chunked::Unknown,
    }
}

/// One request, nearly always a good one.
fn request(numbers: &mut Numbers) -> Vec<u8> {
    let method = numbers.of(&["GET", "POST", "PUT", "DELETE", "OPTIONS", "BREW"]);
    let target = numbers.of(&[
        "/",
        "/a?b=c",
        "/%20",
        "http://a/b",
        "*",
        "/very/long/path/of/many/parts",
    ]);
    let version = numbers.of(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]);
    let mut bytes = format!("{method} {target} {version}\r\n").into_bytes();
    bytes.extend(b"Host: a\r\n");
    for _ in 0..numbers.below(4) {
        bytes.extend(numbers.of::<[u8]>(&[
            b"Accept: */*\r\n",
            b"X-Empty:\r\n",
            b"X-Text: caf\xe9\r\n",
            b"Cookie: a=b; c=d\r\n",
            b"Connection: keep-alive\r\n",
            b"Connection: close\r\n",
        ]));
    }
    // What looks like a request, so that one who reads a body's end elsewhere is seen.
    let body = b"GET /inside HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = numbers.below(body.len() + 1);
    match numbers.below(4) {
        0 => {
            bytes.extend(format!("Content-Length: {length}\r\n\r\n").bytes());
            bytes.extend(&body[..length]);
        }
        1 => {
            bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for piece in body[..length].chunks(1 + numbers.below(20)) {
                let extension = numbers.of(&["", "", ";a=b", ";c=\"d\""]);
                bytes.extend(format!("{:x}{extension}\r\n", piece.len()).bytes());
                bytes.extend(piece);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
        }
        _ => bytes.extend(b"\r\n"),
    }
    bytes
}

/// Lines that one who is strict refuses, and one who is not may read in two ways.
const TRAPS: [&[u8]; 22] = [
    b"Content-Length: 5\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content-Length : 5\r\n",
    b"Content-Length: 0x5\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"Transfer-Encoding\t: chunked\r\n",
    b"Transfer-Encoding: chunked\n",
    b" folded\r\n",
    b"\tfolded\r\n",
    b"X: a\0b\r\n",
    b"X: a\rb\r\n",
    b"X: a\nY: b\r\n",
    b": nothing\r\n",
    b"nothing\r\n",
    b"X\x80: y\r\n",
    b"GET / HTTP/1.1\r\n",
    b"\r\n",
];

fn mutate(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let at = numbers.below(bytes.len());
    match numbers.below(9) {
        0 => bytes[at] ^= 1 << numbers.below(8),
        1 => bytes[at] = numbers.byte(),
        2 => drop(bytes.remove(at)),
        3 => bytes.insert(at, numbers.byte()),
        4 => bytes.truncate(at + 1),
        5 => {
            let end = (at + numbers.below(40)).min(bytes.len());
            let part = bytes[at..end].to_vec();
            bytes.splice(end..end, part);
        }
        _ => {
            // Where a line begins.
            let line = bytes[at..].iter().position(|&byte| byte == b'\n');
            let at = line.map_or(at, |line| at + line + 1);
            let trap = TRAPS[numbers.below(TRAPS.len())];
            bytes.splice(at..at, trap.iter().copied());
        }
    }
}

/// Sends in pieces, and gives the statuses that came back until the connection was over, or until there were `wanted` of them.
async fn send(
    address: SocketAddr,
    bytes: &[u8],
    numbers: &mut Numbers,
    wanted: Option<usize>,
) -> (Vec<u16>, bool) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = if numbers.below(3) == 0 {
            rest.len()
        } else {
            1 + numbers.below(rest.len())
        };
        if socket.write_all(&rest[..length]).await.is_err() {
            break;
        }
        rest = &rest[length..];
        tokio::task::yield_now().await;
    }
    let mut answer = Vec::new();
    let mut is_over = false;
    let reading = async {
        loop {
            let statuses = statuses(&answer);
            if wanted.is_some_and(|wanted| statuses.len() >= wanted) {
                return statuses;
            }
            let mut buffer = [0; 4096];
            match socket.read(&mut buffer).await {
                Ok(0) | Err(_) => {
                    is_over = true;
                    return statuses;
                }
                Ok(length) => answer.extend(&buffer[..length]),
            }
        }
    };
    let Ok(statuses) = timeout(LONG, reading).await else {
        panic!("neither answered nor closed: {}", bytes.escape_ascii());
    };
    (statuses, is_over)
}

/// Of whole answers; each has a length.
fn statuses(mut answer: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while let Some(end) = answer.windows(4).position(|it| it == b"\r\n\r\n") {
        let head = std::str::from_utf8(&answer[..end]).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        if answer.len() < end + 4 + length {
            break;
        }
        statuses.push(head[9..12].parse().unwrap());
        answer = &answer[end + 4 + length..];
    }
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_handler_sees_is_what_was_sent_however_wrong_the_rest_is() {
    let door = FuzzedDoor::open();
    let mut numbers = Numbers::begin(1);
    let began = Instant::now();
    let (mut cases, mut decided) = (0_u32, 0_u32);
    while !time_is_up(began) || cases < 200 {
        cases += 1;
        let mut bytes = Vec::new();
        for _ in 0..=numbers.below(4) {
            bytes.extend(request(&mut numbers));
        }
        for _ in 0..numbers.below(3) {
            mutate(&mut bytes, &mut numbers);
        }
        let reading = Reading::of(&bytes);
        let wanted = match reading.end {
            End::Open => Some(reading.requests.len()),
            // All that can be said is that nothing that is there is lost.
            End::Unknown => Some(reading.requests.len()),
            End::Refused | End::Closed => None,
        };
        let (statuses, is_over) = send(door.address, &bytes, &mut numbers, wanted).await;
        door.is_left_in_peace(&bytes).await;
        let seen = std::mem::take(&mut *door.seen.lock().unwrap());
        let sent = bytes.escape_ascii();
        let good = reading
            .requests
            .iter()
            .filter(|it| it.body.is_some())
            .count();
        match reading.end {
            End::Unknown => {
                let known = seen.get(..reading.requests.len());
                assert_eq!(known, Some(&reading.requests[..]), "{sent}");
                continue;
            }
            // What is behind the last whole request is a part of one, which the handler may have seen break off.
            End::Open => {
                let whole: Vec<Seen> = seen.into_iter().filter(|it| it.body.is_some()).collect();
                assert_eq!(whole, reading.requests, "{sent}");
                assert!(!is_over || statuses.len() == good, "{sent}");
            }
            // A body that is refused while its head waits behind others is seen by nobody.
            End::Refused if reading.requests.len() > good => {
                assert_eq!(seen.get(..good), Some(&reading.requests[..good]), "{sent}");
                assert!(seen.len() <= good + 1, "{seen:?} of {sent}");
                assert!(seen.iter().skip(good).all(|it| it.body.is_none()), "{sent}");
                assert!(
                    statuses.iter().skip(good).all(|&status| status == 400),
                    "{sent}"
                );
            }
            End::Refused => {
                assert_eq!(seen, reading.requests, "{sent}");
                assert_eq!(statuses.len(), good + 1, "{sent}");
                assert_eq!(statuses[good], 400, "{sent}");
            }
            End::Closed => {
                assert_eq!(seen, reading.requests, "{sent}");
                assert_eq!(statuses.len(), good, "{sent}");
            }
        }
        decided += 1;
        assert!(
            statuses.iter().take(good).all(|&status| status == 200),
            "{sent}"
        );
    }
    assert!(
        decided > cases / 4,
        "{decided} of {cases} cases said anything"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_in_any_order_end_a_connection_or_leave_its_good_requests_answered() {
    let door = FuzzedDoor::open();
    let mut numbers = Numbers::begin(2);
    let began = Instant::now();
    let mut cases = 0;
    while !time_is_up(began) || cases < 100 {
        cases += 1;
        let mut sent = PREFACE.to_vec();
        sent.extend(frame(SETTINGS, 0, 0, &[]));
        let mut stream = 1_u32;
        for _ in 0..1 + numbers.below(20) {
            match numbers.below(6) {
                // Good ones, or most connections would be over with their first frame.
                0..=2 => {
                    let list = H2Client::list([
                        (":method", "POST"),
                        (":scheme", "http"),
                        (":path", "/"),
                        (":authority", "a"),
                    ]);
                    let flags = END_HEADERS | u8::from(numbers.below(2) == 0);
                    sent.extend(frame(HEADERS, flags, stream, &list));
                    if flags & END_STREAM == 0 {
                        sent.extend(frame(DATA, END_STREAM, stream, b"body"));
                    }
                    stream += 2;
                }
                3 => {
                    let payload: Vec<u8> = (0..numbers.below(40)).map(|_| numbers.byte()).collect();
                    let (kind, flags) = (numbers.byte() % 11, numbers.byte());
                    let on = numbers.below(stream as usize + 2);
                    sent.extend(frame(kind, flags, u32::try_from(on).unwrap(), &payload));
                }
                4 => {
                    let list: Vec<u8> = (0..numbers.below(60)).map(|_| numbers.byte()).collect();
                    sent.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &list));
                    stream += 2;
                }
                _ => {
                    let at = sent.len() - 1 - numbers.below(20.min(sent.len() - PREFACE.len()));
                    sent[at] ^= 1 << numbers.below(8);
                }
            }
        }
        let mut socket = TcpStream::connect(door.address).await.unwrap();
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let length = 1 + numbers.below(rest.len());
            if socket.write_all(&rest[..length]).await.is_err() {
                break;
            }
            rest = &rest[length..];
            tokio::task::yield_now().await;
        }
        // A good request behind it is answered, unless the connection is over: then it says so or closes.
        let last = H2Client::list([
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/last"),
            (":authority", "a"),
        ]);
        let _ = socket
            .write_all(&frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                0x00ff_ffff,
                &last,
            ))
            .await;
        // A frame that was begun and never ended is waited for: so an end of the sending, in half of the cases.
        let mut client = socket;
        let _ = client.shutdown().await;
        let mut answer = Vec::new();
        let read = timeout(LONG, client.read_to_end(&mut answer)).await;
        assert!(
            read.is_ok(),
            "neither ended nor closed: {}",
            sent.escape_ascii()
        );
        drop(client);
        door.is_left_in_peace(&sent).await;
        let seen = std::mem::take(&mut *door.seen.lock().unwrap());
        assert!(seen.len() <= stream as usize, "{}", sent.escape_ascii());
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
