//! HTTP/1.1 over a bare socket: sends the bytes it is given, and tells what came back to the byte.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

use super::PATIENCE;

/// A connection, and what was read of it but not looked at yet.
pub(crate) struct Connection {
    stream: Stream,
    read: Vec<u8>,
}

/// What it goes over.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// The socket beneath, if it is of TCP.
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => &stream.sock,
            Self::Unix(_) => panic!("not over TCP"),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// The head of a response.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) version: String,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

/// A response, whole or not.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// The last chunk came, or as many bytes as `content-length` said.
    pub(crate) is_complete: bool,
}

/// What came next of a body.
enum Piece {
    Data(Vec<u8>),
    Last(Vec<(String, String)>),
    Broken,
}

impl Connection {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self::to_stream(TcpStream::connect(address).expect("connected"))
    }

    pub(crate) fn to_stream(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self::over(Stream::Tcp(stream))
    }

    pub(crate) fn to_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Self::over(Stream::Unix(stream))
    }

    pub(crate) fn over(stream: Stream) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("sent");
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// No more will be sent; answers can still be read.
    pub(crate) fn finish_sending(&self) {
        self.stream
            .tcp()
            .shutdown(Shutdown::Write)
            .expect("shut down");
    }

    /// A second handle, to send from another thread.
    pub(crate) fn sender(&self) -> TcpStream {
        self.stream.tcp().try_clone().expect("a clone")
    }

    pub(crate) fn get(&mut self, target: &str) -> Reply {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        self.reply()
    }

    /// A request with a body of known length.
    pub(crate) fn post(&mut self, target: &str, body: impl AsRef<[u8]>) -> Reply {
        let body = body.as_ref();
        let length = body.len();
        self.send(format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
        ));
        self.send(body);
        self.reply()
    }

    /// The response to anything but HEAD.
    pub(crate) fn reply(&mut self) -> Reply {
        let head = self.head();
        self.reply_after(head)
    }

    /// The rest of a response whose head was read.
    pub(crate) fn reply_after(&mut self, head: Head) -> Reply {
        let mut reply = Reply {
            head,
            body: Vec::new(),
            trailers: Vec::new(),
            is_complete: false,
        };
        if reply.head.is_chunked() {
            loop {
                match self.piece() {
                    Piece::Data(data) => reply.body.extend(data),
                    Piece::Last(trailers) => {
                        reply.trailers = trailers;
                        reply.is_complete = true;
                        return reply;
                    }
                    Piece::Broken => return reply,
                }
            }
        } else if let Some(length) = reply.head.length() {
            while self.read.len() < length && self.fill() {}
            let there = length.min(self.read.len());
            reply.body = self.read.drain(..there).collect();
            reply.is_complete = there == length;
        } else if !matches!(reply.head.status, 204 | 304 | 100..200) {
            while self.fill() {}
            reply.body = std::mem::take(&mut self.read);
        } else {
            reply.is_complete = true;
        }
        reply
    }

    /// The next head; fails the test if the connection ends first.
    pub(crate) fn head(&mut self) -> Head {
        self.try_head().expect("a response")
    }

    /// The next head, if the connection does not end first.
    pub(crate) fn try_head(&mut self) -> Option<Head> {
        let text = self.until(b"\r\n\r\n")?;
        Some(Head::parse(&text))
    }

    /// Waits for more of a chunked body: the data of one chunk.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        match self.piece() {
            Piece::Data(data) => Some(data),
            Piece::Last(_) | Piece::Broken => None,
        }
    }

    fn piece(&mut self) -> Piece {
        let Some(size) = self.until(b"\r\n") else {
            return Piece::Broken;
        };
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
        if size == 0 {
            let mut trailers = Vec::new();
            loop {
                match self.until(b"\r\n") {
                    Some(line) if line.is_empty() => return Piece::Last(trailers),
                    Some(line) => trailers.push(field(&line)),
                    None => return Piece::Broken,
                }
            }
        }
        while self.read.len() < size + 2 {
            if !self.fill() {
                return Piece::Broken;
            }
        }
        let data = self.read.drain(..size).collect();
        assert_eq!(self.read.drain(..2).collect::<Vec<_>>(), b"\r\n");
        Piece::Data(data)
    }

    /// What comes before `end`, as text in which each byte is a character.
    fn until(&mut self, end: &[u8]) -> Option<String> {
        loop {
            let found = self.read.windows(end.len()).position(|part| part == end);
            if let Some(at) = found {
                let text: Vec<u8> = self.read.drain(..at + end.len()).collect();
                return Some(latin1(&text[..at]));
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Reads some more; false at the end of the connection, whichever way it ended.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.read.extend(&buffer[..length]);
                true
            }
            Err(error) if is_end(&error) => false,
            Err(error) => panic!("reading: {error}"),
        }
    }

    /// The host closes the connection, and sends nothing more before.
    pub(crate) fn is_closed(&mut self) -> bool {
        let more = self.fill();
        !more && self.read.is_empty()
    }

    /// Reads to the end of the connection: an error when it was not an orderly one.
    pub(crate) fn end(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.read);
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Nothing comes for `time`, and the connection stays open.
    pub(crate) fn is_silent_for(&self, time: Duration) -> bool {
        let stream = self.stream.tcp();
        stream.set_read_timeout(Some(time)).expect("a timeout");
        let found = stream.peek(&mut [0]);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        self.read.is_empty()
            && found.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

fn is_end(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof
    )
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').expect("a field");
    (name.to_ascii_lowercase(), value.trim().to_owned())
}

impl Head {
    fn parse(text: &str) -> Self {
        let (line, fields) = text.split_once("\r\n").unwrap_or((text, ""));
        let mut words = line.split(' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words.next().and_then(|word| word.parse().ok());
        Self {
            version,
            status: status.unwrap_or_else(|| panic!("no status in `{line}`")),
            headers: fields
                .split("\r\n")
                .filter(|line| !line.is_empty())
                .map(field)
                .collect(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.header("transfer-encoding") == Some("chunked")
    }

    fn length(&self) -> Option<usize> {
        let length = self.header("content-length")?;
        Some(length.parse().expect("a length"))
    }
}

impl Reply {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
