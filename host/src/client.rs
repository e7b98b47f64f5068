//! Who is at the other end of a connection, and what becomes of it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderValue;
use http::uri::Scheme;

use crate::gate::Notice;

/// One end of a connection and the other. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    /// The client's end; behind a proxy, the proxy's.
    pub remote: Peer,
    /// Our end.
    pub local: Peer,
    /// What the connection itself is.
    pub scheme: Scheme,
    /// What the client has shown of itself, if it was asked to. It was verified.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Says why, before a request is dropped because its client takes no bytes.
    pub stall: Stall,
}

/// A client's certificate, as a header tells it.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject (RFC 4514), in ASCII.
    pub subject: HeaderValue,
    /// All of it (RFC 9440, section 2.2).
    pub certificate: HeaderValue,
}

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Of TCP.
    Address(SocketAddr),
    /// Of a Unix socket, where clients have no names.
    Unix,
}

/// As nginx writes it: an address without its port, or `unix:`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.ip().fmt(f),
            Self::Unix => f.write_str("unix:"),
        }
    }
}

/// Whether a connection, or a stream of one, is cut because its client takes no bytes. Only who cuts it knows; only the
/// exchange, which is dropped by that, writes a line. Known to who serves a connection and to the exchanges on it.
#[derive(Debug, Clone, Default)]
pub struct Stall(Arc<Cut>);

#[derive(Debug, Default)]
struct Cut {
    is_stalled: AtomicBool,
    wanted: Notice,
    /// A stream goes with its connection.
    connection: Option<Stall>,
}

impl Stall {
    /// Of one of several streams on the connection.
    #[must_use]
    pub fn of_stream(&self) -> Self {
        Self(Arc::new(Cut {
            connection: Some(self.clone()),
            ..Cut::default()
        }))
    }

    /// Whether another waits for the place of the exchange whose answer the client does not take.
    #[must_use]
    pub fn wanted(&self) -> &Notice {
        &self.0.wanted
    }

    /// What ends from now on was cut for it.
    pub fn cut(&self) {
        self.0.is_stalled.store(true, Ordering::Relaxed);
    }

    /// Whether the client took no bytes for too long.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.0.is_stalled.load(Ordering::Relaxed)
            || self.0.connection.as_ref().is_some_and(Self::is_cut)
    }
}
