//! Sockets in, `http::Request` out. It knows sockets and HTTP connections and nothing of guests: what answers a
//! request is a [`Handler`], so the public door and the admin door share this module.
//!
//! hyper frames messages; everything that keeps one client from hurting the others is here, because hyper has no
//! timer for a silent client, for an idle one, or for one that never reads, and does not see a client leave while its
//! request's body is unread.
//!
//! The life of a connection, in the order of the files: `accept` takes it from a `listener` (some are `inherited`) once
//! there is room, `connection` runs it in a task of its own: `proxy_protocol` hears for whom a proxy speaks, `addresses`
//! counts it, `tls` shakes hands, `preface` tells HTTP/1 from HTTP/2, `h1` and `h2` drive hyper through `client_io` over a
//! `wire`, which is a `socket` with or without TLS, `batch` says when it writes, `intake` lets only well-formed requests of
//! HTTP/1 through (`chunks` finds the end of their bodies), `frames` counts what moves nothing in HTTP/2, `header_lists`
//! replaces headers for which h2 would end the connection (`hpack` reads them, and `field` knows what they can be),
//! `progress` notes what moves and `watch` how long nothing did, `stream` and `pace` do the same for an HTTP/2 stream and
//! `upload` for a request's body, and `linger` closes so that the last response arrives.

mod accept;
mod addresses;
mod batch;
mod chunks;
mod client_io;
mod connection;
mod counters;
mod field;
mod frames;
mod h1;
mod h2;
mod header_lists;
mod hpack;
mod inherited;
mod intake;
mod linger;
mod listener;
mod pace;
mod preface;
mod progress;
mod proxy_protocol;
mod shown;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod unix;
mod upload;
mod watch;
mod wire;

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;

pub use accept::serve;
pub use addresses::counted_as;
pub use batch::thread_rests;
pub use counters::{Counters, Handshakes};
pub use inherited::note_inherited;
pub use listener::{Listener, ListenerConfig, Place, SocketFile, UnixError, bind_unix, open};
pub use shown::{Certificates, Shown};
pub use tls::{
    Certificate, CertificateFiles, ClientCertificates, Tls, TlsConfig, TlsConnector, connect,
    connector,
};
pub use unix::UnixSocket;
pub use upload::Upload;

use crate::client::Client;
use crate::networks::Networks;

/// The ceilings of one door. Every number is the caller's; there are no defaults here.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections open at once; beyond them accepting pauses and the kernel's backlog holds the rest
    pub max_connections: usize,
    /// Of one address, or of one /64 of IPv6; beyond them a connection is closed at once. Behind a proxy that speaks the PROXY
    /// protocol the address is the one that it says
    pub max_connections_per_address: Option<usize>,
    /// Who is believed at a listener for the PROXY protocol; nobody else is let in there
    pub trusted_proxies: Networks,
    /// From accept, or from the end of a handshake, to the client's first byte. A PROXY header must be whole by then
    pub first_byte_timeout: Duration,
    /// From accept, or from the PROXY header, to the end of the handshake of TLS
    pub handshake_timeout: Duration,
    /// From the first byte of a request's head to its last: then 408 (RFC 9110, 15.5.9)
    pub header_read_timeout: Duration,
    /// Bytes of a request's body that must come for each second that somebody waits for them, until the answer begins; 0 for
    /// no minimum
    pub min_body_rate: u32,
    /// How long a client may be below that, and how far ahead of it a fast one can be
    pub body_grace: Duration,
    /// Without a request: from the end of a response to the first byte of the next head, or without an open stream
    pub idle_timeout: Duration,
    /// For how long a client may take no byte that is ready for it (per connection, and per HTTP/2 stream, where it
    /// is one frame of 16 KiB)
    pub write_stall_timeout: Duration,
    /// Bytes of an HTTP/1 request's head: beyond them 431. It is also the read and the write buffer of the connection,
    /// which is never below 8 KiB. An HTTP/2 header list (RFC 9113, 6.5.2) is refused at twice as much, so that who
    /// reads the request can answer those between
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
    /// Bytes of request bodies in flight per stream (RFC 9113, 6.9)
    pub h2_window_bytes: u32,
    /// The same of all streams of a connection: with no more than that of one stream, one that nobody reads would stop the
    /// others
    pub h2_connection_window_bytes: u32,
    /// Bytes of a response's body that one HTTP/2 stream may hold, waiting for the client
    pub max_h2_send_bytes: usize,
    /// Streams that a client reset before they were looked at: beyond them GOAWAY (CVE-2023-44487)
    pub max_h2_pending_resets: usize,
    /// Streams that we reset because of what a client did on them, over the life of a connection: beyond them GOAWAY
    /// (CVE-2025-8671)
    pub max_h2_provoked_resets: usize,
    /// Frames that move nothing (PING, SETTINGS, WINDOW_UPDATE, PRIORITY, resets both ways, empty DATA, CONTINUATION, unknown
    /// ones) that may come in a burst: beyond them GOAWAY (CVE-2019-9512 and those after it). What moves earns them back
    pub h2_control_frames: u32,
    /// How many of them time alone gives back
    pub h2_control_frames_per_second: u32,
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
        request: Request<Upload>,
        client: Client,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Answers an HTTP/1 head that no request came of. The connection is closed behind the answer.
    fn refuse(&self, fault: HeadFault, client: Client) -> Response<Self::Body>;
}

/// Why no request came of an HTTP/1 head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFault {
    /// Not HTTP (RFC 9112), or framed in more than one way; what is wrong with it
    Malformed(&'static str),
    /// Too many bytes or fields
    TooLarge,
    /// Too many bytes in its first line alone
    TargetTooLong,
    /// Not complete in time
    TooSlow,
}
