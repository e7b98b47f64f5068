//! What a guest may reach over HTTP: as it was written, and ready for one handler.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::ClientConfig;
use wasmtime_wasi_http::{Error, RequestOptions};

use super::client::Client;
use super::destination::{Origin, Pattern};
use super::pool::Pool;
use super::tls::{self, Authorities, Identity};
use crate::capabilities::judge::Denied;
use crate::capabilities::refusals::Refusals;
use crate::capabilities::share::Share;
use crate::limits;
use crate::names::short;
use crate::networks::Networks;

/// Destinations that a guest may send requests to. The default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboundGrants {
    /// Destinations; of several that allow one, the first says how it is reached.
    pub allow: Vec<Destination>,
    /// Networks that are not public and that it may reach all the same, see [`judge`](crate::capabilities::judge::judge).
    pub networks: Networks,
    /// Requests that all its instances have on their way at once; unsaid, [`limits::OUTBOUND_REQUESTS`].
    pub requests: Option<usize>,
    /// Connections that are open for it at once; unsaid, [`limits::OUTBOUND_CONNECTIONS`].
    pub connections: Option<usize>,
}

impl OutboundGrants {
    /// Grants what is granted to every handler too. How a destination is reached, a handler's own word comes first.
    pub fn add(&mut self, every: &Self) {
        self.allow.extend(every.allow.iter().cloned());
        self.networks.add(&every.networks);
        self.requests = self.requests.or(every.requests);
        self.connections = self.connections.or(every.connections);
    }
}

/// Destinations that are reached in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Which.
    pub to: Pattern,
    /// Who signs their certificates; unsaid, whom this system trusts.
    pub authorities: Option<Authorities>,
    /// The certificate that they are shown.
    pub identity: Option<Identity>,
    /// Whether HTTP/2 is spoken in the clear, without asking. Over TLS both sides agree on a version.
    pub has_h2: bool,
    /// How long things may take.
    pub times: Times,
    /// Requests to one host and port at once; unsaid, [`limits::OUTBOUND_REQUESTS`].
    pub requests: Option<usize>,
    /// Connections to one host and port at once; unsaid, [`limits::OUTBOUND_HOST_CONNECTIONS`].
    pub connections: Option<usize>,
}

impl From<Pattern> for Destination {
    fn from(to: Pattern) -> Self {
        Self {
            to,
            authorities: None,
            identity: None,
            has_h2: false,
            times: Times::default(),
            requests: None,
            connections: None,
        }
    }
}

/// How long the parts of a request may take. What a guest says itself holds if it is shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Until there is a connection: the wait for a place, the lookup of a name, TCP and TLS.
    pub connect: Duration,
    /// From the last byte of the request that was taken to the head of the response.
    pub first_byte: Duration,
    /// Between two pieces of the response's body.
    pub between_bytes: Duration,
    /// From the beginning to the last byte of the response. None: as long as bytes come.
    pub total: Option<Duration>,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            connect: limits::OUTBOUND_CONNECT,
            first_byte: limits::OUTBOUND_FIRST_BYTE,
            between_bytes: limits::OUTBOUND_BETWEEN_BYTES,
            total: None,
        }
    }
}

impl Times {
    pub(super) fn of(self, guest: Option<RequestOptions>) -> Self {
        let guest = guest.unwrap_or_default();
        let shorter = |own: Duration, said: Option<Duration>| said.map_or(own, |it| it.min(own));
        Self {
            connect: shorter(self.connect, guest.connect_timeout),
            first_byte: shorter(self.first_byte, guest.first_byte_timeout),
            between_bytes: shorter(self.between_bytes, guest.between_bytes_timeout),
            total: self.total,
        }
    }
}

/// The same, ready: shared by the instances of one handler, with the connections that are open for it.
#[derive(Debug)]
pub(crate) struct OutboundGrant {
    destinations: Vec<Reach>,
    pub(super) networks: Networks,
    refused: Refusals,
    pub(super) pool: Pool,
    pub(super) lookups: Share,
}

/// A destination, and what is spoken with it.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) said: Destination,
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl OutboundGrant {
    /// For the guest of the handler of this name and tenant, with its share of look-ups. It may wait for a disk.
    pub(in crate::capabilities) fn new(
        handler: Arc<str>,
        tenant: Option<Arc<str>>,
        grants: &OutboundGrants,
        client: &Arc<Client>,
        lookups: Share,
    ) -> Self {
        // Read here, and not when a connection is made: that is on a thread that serves.
        let needs_system = |said: &Destination| said.to.has_tls() && said.authorities.is_none();
        if grants.allow.iter().any(needs_system) {
            drop(client.system_roots());
        }
        let reach = |said: &Destination| Reach {
            said: said.clone(),
            tls: OnceLock::new(),
        };
        Self {
            destinations: grants.allow.iter().map(reach).collect(),
            networks: grants.networks.clone(),
            refused: Refusals::of(handler),
            pool: Pool::new(
                Arc::clone(client),
                tenant,
                grants.requests.unwrap_or(limits::OUTBOUND_REQUESTS),
                grants.connections.unwrap_or(limits::OUTBOUND_CONNECTIONS),
            ),
            lookups,
        }
    }

    /// The destination that allows this one, and its place among them.
    ///
    /// # Errors
    /// When none does.
    pub(super) fn find(&self, origin: &Origin) -> Result<(usize, &Reach), Error> {
        let mut all = self.destinations.iter().enumerate();
        let found = all.find(|(_, reach)| reach.said.to.allows(origin));
        found.ok_or_else(|| {
            let to = origin.to_string();
            let to = short(&to);
            self.refused.tell(format_args!(
                "may not reach `{to}`: add it to `allow` of its `outbound`, or say `--allow-outbound {to}`"
            ));
            Error::HttpRequestDenied
        })
    }

    /// Whether a destination that allows this one names its very address, whatever else allows it: what was written so
    /// was meant.
    pub(super) fn names_address(&self, origin: &Origin) -> bool {
        let mut all = self.destinations.iter().map(|reach| &reach.said.to);
        all.any(|to| to.address().is_some() && to.allows(origin))
    }

    pub(super) fn reach(&self, at: usize) -> Option<&Reach> {
        self.destinations.get(at)
    }

    pub(super) fn tell_denied(&self, origin: &Origin, denied: Denied) {
        let to = origin.to_string();
        let Denied { address, kind } = denied;
        self.refused.tell(format_args!(
            "may not reach `{}`, for `{address}` is {kind}: add `{address}`, or a network around it, to `networks` of its `outbound`, or say `--allow-network {address}`",
            short(&to)
        ));
    }
}

impl Reach {
    /// What TLS needs to know; made when it is first asked for.
    pub(super) fn tls(&self, client: &Client) -> Result<Arc<ClientConfig>, Error> {
        let made = self.tls.get_or_init(|| {
            let roots = match &self.said.authorities {
                Some(own) => own.roots()?,
                None => client.system_roots(),
            };
            tls::config(roots, self.said.identity.as_ref()).map(Arc::new)
        });
        // It was looked at when it was read.
        made.clone().map_err(|why| {
            tracing::error!("no TLS with `{}`: {why}", self.said.to);
            Error::ConfigurationError
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::lookups::Lookups;
    use crate::capabilities::share::Sharer;

    #[test]
    fn an_address_that_is_named_is_meant_whatever_allows_it_before() {
        let allow = ["everywhere", "http://127.0.0.1:9000"];
        let grants = OutboundGrants {
            allow: allow
                .map(|to| Destination::from(to.parse::<Pattern>().expect(to)))
                .to_vec(),
            ..OutboundGrants::default()
        };
        let shop = Arc::from("shop");
        let lookups = Lookups::default().share(&Sharer::of(&shop, None));
        let grant = OutboundGrant::new(shop, None, &grants, &Arc::default(), lookups);
        for (uri, is_named) in [
            ("http://127.0.0.1:9000/", true),
            ("http://127.1:9000/", true),
            ("http://127.0.0.1:9001/", false),
            ("https://127.0.0.1:9000/", false),
            ("http://127.0.0.2:9000/", false),
            ("http://localhost:9000/", false),
        ] {
            let origin = Origin::of(&uri.parse().expect(uri)).expect(uri);
            assert_eq!(grant.names_address(&origin), is_named, "{uri}");
        }
    }
}
