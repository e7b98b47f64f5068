//! Other handlers of this host, by name: `http://NAME.handler.internal`, where that is granted. The call never leaves the
//! process. `.internal` is reserved for private use, so no name is taken from anybody.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName, Request, Response, Uri, uri::Scheme};
use wasmtime_wasi_http::Error;
pub use wasmtime_wasi_http::{RequestOptions, WasiBody};

use super::refusals::Refusals;
use crate::gate::Permit;
use crate::names::short;

/// Which trace a request belongs to (W3C Trace Context).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What goes with it.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What comes after a handler's name in the authority of a call.
pub const SUFFIX: &str = ".handler.internal";

/// Which handlers a guest may call.
#[derive(Debug)]
pub struct CallGrant {
    allowed: Vec<Arc<str>>,
    refused: Refusals,
}

/// A call on its way: the head of the answer, whose body is still written.
pub type Calling = Pin<Box<dyn Future<Output = Result<Response<WasiBody>, Error>> + Send>>;

/// The request that a guest serves, on whose behalf it may call other handlers.
pub trait Caller: Send + Sync {
    /// Calls the handler of this name. Dropping the future, or the body that it gives, cancels it. What is `held` is
    /// dropped when the call is over.
    ///
    /// # Errors
    /// When the handler is another tenant's.
    fn call(
        &self,
        name: &Arc<str>,
        request: Request<WasiBody>,
        options: RequestOptions,
        held: Permit,
    ) -> Result<Calling, Foreign>;

    /// How many calls the request is inside of: 0 if a client sent it.
    fn depth(&self) -> u32;

    /// The headers that say which trace the request belongs to: [`TRACEPARENT`] and [`TRACESTATE`], if it came with them.
    fn trace(&self) -> &HeaderMap;

    /// Counts a request that its guest has sent elsewhere, by the name of what went wrong with it.
    fn sent(&self, label: &str);
}

/// The handler that was called belongs to another tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign;

/// Whether an instance was cut off. It is known before the instance is cleared away, which closes the bodies that it was
/// writing: who reads one can tell an end from a break.
#[derive(Debug, Clone, Default)]
pub struct Broken(Arc<AtomicBool>);

impl Broken {
    /// What ends from now on broke off.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl CallGrant {
    /// For the guest of this handler.
    #[must_use]
    pub fn new(handler: Arc<str>, allowed: Vec<Arc<str>>) -> Self {
        Self {
            allowed,
            refused: Refusals::of(handler),
        }
    }

    /// The handler that a request is for, as it is called in the grant; none if it is for no handler.
    ///
    /// # Errors
    /// When it is for a handler, and is not allowed.
    pub(super) fn find(&self, uri: &Uri) -> Result<Option<&Arc<str>>, Error> {
        let Some(name) = callee(uri) else {
            return Ok(None);
        };
        if !is_plain(uri) {
            self.refused.tell(format_args!(
                "sends a request to `{}` that is no call: a handler is at `http://NAME{SUFFIX}`, without another port",
                short(uri.authority().map_or("", |authority| authority.as_str()))
            ));
            return Err(Error::HttpRequestDenied);
        }
        // A guest's library may write hosts in lower case.
        let exact = self.allowed.iter().find(|allowed| ***allowed == *name);
        let alike = || self.allowed.iter().find(|it| it.eq_ignore_ascii_case(name));
        let found = exact.or_else(alike);
        if found.is_none() {
            let name = short(name);
            self.refused.tell(format_args!(
                "may not call `{name}`: add it to its `calls`, or say `--allow-call {name}`"
            ));
            return Err(Error::HttpRequestDenied);
        }
        Ok(found)
    }

    pub(super) fn tell_foreign(&self, name: &str) {
        self.refused.tell(format_args!(
            "may not call `{name}`, which is not of its tenant: give both the same `tenant`, or none"
        ));
    }
}

/// The name before [`SUFFIX`].
fn callee(uri: &Uri) -> Option<&str> {
    // A name with a dot at its end is the same name.
    let host = uri.host()?;
    let host = host.strip_suffix('.').unwrap_or(host);
    let (name, suffix) = host.split_at_checked(host.len().checked_sub(SUFFIX.len())?)?;
    (!name.is_empty() && suffix.eq_ignore_ascii_case(SUFFIX)).then_some(name)
}

/// Whether a request asks for nothing that a call does not have: TLS, a port, a user.
fn is_plain(uri: &Uri) -> bool {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let rest = authority.strip_prefix(uri.host().unwrap_or(""));
    uri.scheme() == Some(&Scheme::HTTP) && matches!(rest, Some("" | ":80"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_is_found_by_its_name_in_any_case_and_by_nothing_else() {
        let allowed = ["cart", "Stock.v2_x", "Cart"].map(Arc::from);
        let grant = CallGrant::new(Arc::from("shop"), allowed.to_vec());
        let found = |uri: &'static str| {
            let found = grant.find(&Uri::from_static(uri));
            found.map(|name| name.map_or("", |name| name))
        };
        for (uri, name) in [
            ("http://cart.handler.internal/", "cart"),
            ("http://Cart.handler.internal/a?b", "Cart"),
            ("http://CART.Handler.Internal:80/", "cart"),
            ("http://stock.v2_x.handler.internal/", "Stock.v2_x"),
            ("http://cart.handler.internal./", "cart"),
            // For no handler.
            ("http://example.com/", ""),
            ("http://handler.internal/", ""),
            ("http://.handler.internal/", ""),
            ("http://cart.handler.internal.example.com/", ""),
            ("http://carthandler.internal/", ""),
            ("http://127.0.0.1/", ""),
        ] {
            assert_eq!(found(uri).expect(uri), name, "{uri}");
        }
        for denied in [
            "http://till.handler.internal/",
            "http://a.cart.handler.internal/",
            "https://cart.handler.internal/",
            "http://cart.handler.internal:8080/",
            "http://cart.handler.internal:99999/",
            "http://me@cart.handler.internal/",
        ] {
            assert!(found(denied).is_err(), "{denied}");
        }
    }
}
