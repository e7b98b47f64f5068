//! Sockets in, `http::Request` out. It knows sockets and HTTP connections and nothing of guests: what answers a
//! request is a [`Handler`], so the public door and the admin door share this module.
//!
//! hyper frames messages; everything that keeps one client from hurting the others is here, because hyper has no
//! timer for a silent client, for an idle one, or for one that never reads, and does not see a client leave while its
//! request's body is unread.
//!
//! The life of a connection, in the order of the files: `accept` takes it once there is room, `connection` runs it in
//! a task of its own, `preface` tells HTTP/1 from HTTP/2, `h1` and `h2` drive hyper through `client_io`, `progress` notes
//! what moves and `watch` how long nothing did, `stream` and `pace` do the same for an HTTP/2 stream, and `linger` closes
//! so that the last response arrives.

mod accept;
mod client_io;
mod connection;
mod counters;
mod h1;
mod h2;
mod linger;
mod pace;
mod preface;
mod progress;
mod stream;
#[cfg(test)]
mod tests;
mod watch;

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;

pub use accept::{BindError, bind, serve};
pub use counters::Counters;

/// The ceilings of one door. Every number is the caller's; there are no defaults here.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections open at once; beyond them accepting pauses and the kernel's backlog holds the rest
    pub max_connections: usize,
    /// From accept to the client's first byte
    pub first_byte_timeout: Duration,
    /// From the first byte of a request's head to its last: then 408 (RFC 9110, 15.5.9)
    pub header_read_timeout: Duration,
    /// Without a request: from the end of a response to the first byte of the next head, or without an open stream
    pub idle_timeout: Duration,
    /// For how long a client may take no byte that is ready for it (per connection, and per HTTP/2 stream, where it
    /// is one frame of 16 KiB)
    pub write_stall_timeout: Duration,
    /// Bytes of a request's head, or of an HTTP/2 header list (RFC 9113, 6.5.2): beyond them 431. It is also the read
    /// and the write buffer of an HTTP/1 connection, which is never below 8 KiB
    pub max_head_bytes: usize,
    /// Header fields of an HTTP/1 request: beyond them 431. Those of HTTP/2 are counted by who reads the request
    pub max_headers: usize,
    /// How long and how many bytes to listen to a client that still sends when we have closed (RFC 9112, 9.6), and
    /// how long to wait for an HTTP/2 client to answer GOAWAY
    pub linger_timeout: Duration,
    /// See [`Config::linger_timeout`]
    pub max_linger_bytes: usize,
    /// Streams open at once on an HTTP/2 connection (RFC 9113, 5.1.2)
    pub max_h2_streams: u32,
    /// Bytes of request bodies in flight per stream, and per connection (RFC 9113, 6.9)
    pub h2_window_bytes: u32,
    /// Bytes of a response's body that one HTTP/2 stream may hold, waiting for the client
    pub max_h2_send_bytes: usize,
    /// Streams that a client reset before they were looked at: beyond them GOAWAY (CVE-2023-44487)
    pub max_h2_pending_resets: usize,
    /// How often an HTTP/2 client is asked whether it is there
    pub h2_ping_interval: Duration,
    /// How long its answer may take
    pub h2_ping_timeout: Duration,
}

/// What answers the requests of a door.
pub trait Handler: Send + Sync + 'static {
    /// The body of its responses
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// Answers a request. The future is dropped when the client leaves, and so is the body that it gave.
    fn handle(
        &self,
        request: Request<Incoming>,
        client: Client,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// An HTTP/1 client sent a head that no request came of. It has been answered; this is for the log.
    fn refused(&self, client: Client, fault: HeadFault) {
        let _ = (client, fault);
    }
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's end; behind a proxy, the proxy's
    pub remote: SocketAddr,
    /// Our end
    pub local: SocketAddr,
}

/// Why no request came of an HTTP/1 head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFault {
    /// Not HTTP (RFC 9112)
    Malformed,
    /// Too many bytes or fields, or a target longer than 64 KiB
    TooLarge,
    /// Not complete in time
    TooSlow,
}

impl HeadFault {
    /// The status that the client was sent; a target that is too long is sent 414 and counts as 431.
    pub fn status(self) -> StatusCode {
        match self {
            HeadFault::Malformed => StatusCode::BAD_REQUEST,
            HeadFault::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            HeadFault::TooSlow => StatusCode::REQUEST_TIMEOUT,
        }
    }
}
