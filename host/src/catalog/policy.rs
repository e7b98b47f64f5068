//! What the host does on a route around the handler's answer: whom it lets in, and what it adds.
//!
//! Policies are the operator's: they come from files and flags, never from the operator's door, so nobody with a tenant's
//! token takes away what was set there.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use super::Passwords;
use crate::client::Peer;
use crate::networks::Networks;

/// What the host does on a route. By default, nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Changes of the answer's headers.
    pub headers: HeaderChanges,
    /// Whose requests are answered.
    pub access: Access,
    /// Which pages of other origins may use it.
    pub cors: Option<Cors>,
    /// Who must say who he is.
    pub basic_auth: Option<BasicAuth>,
    /// Pages in place of the host's own errors.
    pub pages: ErrorPages,
    /// Whether answers are compressed.
    pub compress: bool,
}

/// Changes of an answer's headers, whoever answers: removed, then set, then added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// In place of what is there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Beside what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Left out.
    pub remove: Vec<HeaderName>,
}

/// An access list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// None but these, if there are any.
    pub allow: Networks,
    /// Not these.
    pub deny: Networks,
}

impl Access {
    /// Whether requests of this client are answered.
    #[must_use]
    pub fn admits(&self, client: &Peer) -> bool {
        !self.deny.hold(client) && (self.allow.is_empty() || self.allow.hold(client))
    }
}

/// Cross-origin resource sharing, as the Fetch standard has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Whose pages.
    pub origins: Origins,
    /// The methods, as a list in a header.
    pub methods: HeaderValue,
    /// The headers of requests, as a list in a header. None: those that are asked for.
    pub headers: Option<HeaderValue>,
    /// The headers of answers that pages may read besides the usual ones.
    pub expose: Option<HeaderValue>,
    /// Whether cookies and passwords go with it.
    pub credentials: bool,
    /// Seconds for which a browser need not ask again.
    pub max_age: Option<HeaderValue>,
}

impl Cors {
    /// Pages of these origins may send what they like but cookies.
    #[must_use]
    pub fn of(origins: Origins) -> Self {
        Self {
            origins,
            methods: HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE"),
            headers: None,
            expose: None,
            credentials: false,
            max_age: None,
        }
    }
}

/// Origins of pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Every one.
    Any,
    /// These, as browsers write them.
    These(Vec<HeaderValue>),
}

impl Origins {
    /// Whether this is one of them.
    #[must_use]
    pub fn hold(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::These(all) => all.contains(origin),
        }
    }
}

/// Passwords by RFC 7617.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// Who has which.
    pub passwords: Arc<Passwords>,
    /// What is asked of a client without one, for `www-authenticate`.
    pub challenge: HeaderValue,
}

/// Pages in place of the host's own errors, for those who prefer HTML.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorPages {
    /// For one status.
    pub by_status: Vec<(StatusCode, Bytes)>,
    /// For every other from 400.
    pub of_clients: Option<Bytes>,
    /// For every other from 500.
    pub of_servers: Option<Bytes>,
}

impl ErrorPages {
    /// The page for a status.
    #[must_use]
    pub fn of(&self, status: StatusCode) -> Option<&Bytes> {
        let exact = self.by_status.iter().find(|(one, _)| *one == status);
        let of_class = match status.as_u16() {
            400..500 => self.of_clients.as_ref(),
            500..600 => self.of_servers.as_ref(),
            _ => None,
        };
        exact.map(|(_, page)| page).or(of_class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::Network;

    #[test]
    fn deny_goes_before_allow() {
        let networks = |all: &[&str]| -> Networks {
            let all = all.iter().map(|one| one.parse::<Network>().expect(one));
            all.collect()
        };
        let client =
            |text: &str| Peer::Address((text.parse::<std::net::IpAddr>().expect(text), 1).into());
        for (allow, deny, address, is_admitted) in [
            (&[][..], &[][..], "192.0.2.1", true),
            (&["192.0.2.0/24"], &[], "192.0.2.1", true),
            (&["192.0.2.0/24"], &[], "192.0.3.1", false),
            (&["192.0.2.0/24"], &["192.0.2.1"], "192.0.2.1", false),
            (&[], &["192.0.2.1"], "192.0.2.1", false),
            (&[], &["192.0.2.1"], "192.0.2.2", true),
        ] {
            let (allow, deny) = (networks(allow), networks(deny));
            let access = Access { allow, deny };
            assert_eq!(
                access.admits(&client(address)),
                is_admitted,
                "{access:?} {address}"
            );
        }
    }
}
