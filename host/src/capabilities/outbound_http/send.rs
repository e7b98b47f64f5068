//! One request: a place, a connection, the head of its response. It ends as soon as nobody waits for it.

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TE, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until, timeout_at};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::body::Received;
use super::client::Stage;
use super::destination::{Origin, Protocol};
use super::error;
use super::grant::{OutboundGrant, Times};
use super::pool::{Lease, Pool, Site};
use crate::capabilities::lent::Lent;
use crate::gate::Permit;
use crate::limits;

impl OutboundGrant {
    /// Sends a request where it may go. Dropping the future, or the body of the response, cancels it. The permit comes back
    /// when it is over and its guest is done with the response.
    pub(super) async fn send(
        self: Arc<Self>,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        permit: Permit,
    ) -> Result<Response<WasiBody>, Error> {
        let origin = Origin::of(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
        let (at, reach) = self.find(&origin)?;
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let times = reach.said.times.of(options);
        let deadline = times.total.map(after);
        let site = self.pool.site(&reach.said, at, &origin)?;
        let asked = Asked {
            grant: Arc::clone(&self),
            at,
            origin,
            site,
            times,
        };
        // Pinned, so that it is not moved to where it is waited for.
        let answer = pin!(asked.answer(request, deadline, permit));
        match deadline {
            None => answer.await,
            Some(deadline) => timeout_at(deadline, answer)
                .await
                .unwrap_or(Err(Error::HttpResponseTimeout)),
        }
    }
}

/// A request that may be sent.
struct Asked {
    grant: Arc<OutboundGrant>,
    at: usize,
    origin: Origin,
    site: Arc<Site>,
    times: Times,
}

impl Asked {
    async fn answer(
        self,
        request: Request<WasiBody>,
        deadline: Option<Instant>,
        permit: Permit,
    ) -> Result<Response<WasiBody>, Error> {
        let connected_by = after(self.times.connect);
        let places = match self.grant.pool.try_admit(&self.site) {
            Some(places) => places,
            None => {
                let places = self.grant.pool.admit(&self.site);
                let places = timeout_at(connected_by, places).await;
                places.ok().flatten().ok_or(Error::ConnectionLimitReached)?
            }
        };
        let (mut parts, body) = request.into_parts();
        prepare(&mut parts)?;
        // It is put in as the version of each connection has it, and not copied before.
        let target = mem::take(&mut parts.uri).into_parts().path_and_query;
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let body = Lent::new(body);
        // What may be sent twice, if a connection that was kept turns out to be closed (RFC 9110, 9.2.2).
        let spare = parts.method.is_safe().then(|| parts.clone());
        let mut next = Request::from_parts(parts, body.clone());
        let mut tries = 0;
        let (response, lease) = loop {
            tries += 1;
            // What was kept may all have been closed at the same moment.
            let is_last = tries == TRIES;
            let mut lease = self.connection(connected_by, is_last).await?;
            let request = self.in_version(next, &target, lease.is_h2())?;
            body.made_progress();
            let patience = self.times.first_byte;
            match wait_for_head(&mut lease, request, &body, patience).await {
                Ok(response) => break (response, lease),
                Err(Failed::Late) => {
                    lease.retire();
                    return Err(Error::HttpResponseTimeout);
                }
                Err(Failed::Unsent(error, request)) => {
                    let again = request.or_else(|| {
                        let parts = spare.clone()?;
                        let is_whole = is_gone(&error) && !body.is_begun();
                        is_whole.then(|| Box::new(Request::from_parts(parts, body.clone())))
                    });
                    match again {
                        Some(request) if lease.is_reused() && !is_last => next = *request,
                        _ => return Err(error::of_head(&error)),
                    }
                }
            }
        };
        let (mut head, body) = response.into_parts();
        lease.heard().delivers();
        check_head(&head)?;
        drop_hop_by_hop(&mut head.headers);
        let body = Received::new(
            body,
            self.times.between_bytes,
            deadline,
            lease,
            self.grant,
            places,
            permit,
        );
        Ok(Response::from_parts(head, body.boxed_unsync()))
    }

    async fn connection(&self, by: Instant, is_fresh: bool) -> Result<Lease, Error> {
        let (grant, site) = (&self.grant, &self.site);
        if let Some(lease) = site.take(is_fresh) {
            return Ok(lease);
        }
        let stage = Stage::default();
        let connection = Pool::connection(grant, self.at, &self.origin, site, is_fresh, &stage);
        // It is large, and few requests wait for one.
        match timeout_at(by, Box::pin(connection)).await {
            Ok(connection) => connection,
            Err(_) => Err(stage.error()),
        }
    }

    /// As the version of the connection has it.
    fn in_version(
        &self,
        mut request: Request<Lent>,
        target: &PathAndQuery,
        is_h2: bool,
    ) -> Result<Request<Lent>, Error> {
        if is_h2 {
            let scheme = match self.origin.protocol {
                Protocol::Http => "http",
                Protocol::Https => "https",
            };
            let uri = Uri::builder()
                .scheme(scheme)
                .authority(self.site.authority.clone())
                .path_and_query(target.clone());
            *request.uri_mut() = uri.build().map_err(|_| Error::HttpRequestUriInvalid)?;
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(HOST);
        } else {
            *request.uri_mut() = Uri::from(target.clone());
            *request.version_mut() = Version::HTTP_11;
            let host = self.site.host.clone();
            request.headers_mut().insert(HOST, host);
        }
        Ok(request)
    }
}

/// Times that a request is sent at most: on connections that were kept, and in the end on a new one.
const TRIES: u32 = 4;

/// As good as never, and no overflow of a clock.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

pub(super) fn after(time: Duration) -> Instant {
    Instant::now() + time.min(FOR_EVER)
}

enum Failed {
    Late,
    /// The request itself, if nothing of it was written.
    Unsent(hyper::Error, Option<Box<Request<Lent>>>),
}

/// The time runs anew with each piece of the request that is taken.
async fn wait_for_head(
    lease: &mut Lease,
    request: Request<Lent>,
    body: &Lent,
    patience: Duration,
) -> Result<Response<Incoming>, Failed> {
    let mut head = pin!(lease.send(request));
    loop {
        let until = body.last_progress() + patience.min(FOR_EVER);
        tokio::select! {
            biased;
            head = &mut head => {
                return head.map_err(|unsent| Failed::Unsent(unsent.error, unsent.request));
            }
            () = sleep_until(until) => {
                if body.last_progress() + patience.min(FOR_EVER) <= Instant::now() {
                    return Err(Failed::Late);
                }
            }
        }
    }
}

/// The connection was closed, and there is no sign that the request was looked at.
fn is_gone(error: &hyper::Error) -> bool {
    matches!(error::of_head(error), Error::ConnectionTerminated)
}

/// A request as it may leave: without what is between two neighbours, and without a user or a fragment.
fn prepare(parts: &mut Parts) -> Result<(), Error> {
    let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    if target.len() > limits::OUTBOUND_HEAD {
        return Err(Error::HttpRequestUriTooLong);
    }
    let wants_trailers = parts.headers.get_all(TE).iter().any(|value| {
        let words = value.to_str().unwrap_or("");
        words
            .split(',')
            .any(|word| word.trim().eq_ignore_ascii_case("trailers"))
    });
    drop_hop_by_hop(&mut parts.headers);
    if wants_trailers {
        parts
            .headers
            .insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(())
}

fn check_head(head: &http::response::Parts) -> Result<(), Error> {
    if head.status.is_informational() {
        return Err(Error::HttpUpgradeFailed);
    }
    if head.headers.len() > limits::OUTBOUND_FIELDS {
        return Err(Error::HttpResponseHeaderSectionSize(None));
    }
    Ok(())
}

/// Fields that are for the next neighbour only (RFC 9110, 7.6.1), and those that `connection` names.
pub(super) fn drop_hop_by_hop(headers: &mut HeaderMap) {
    // Most have none of them: one look at each name is less than one for each of these.
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    // RFC 9112, section 6.3: of two lengths the one in chunks holds.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "http2-settings",
];

fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_a_neighbour_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private"),
            ("keep-alive", "timeout=5"),
            ("x-private", "1"),
            ("x-public", "1"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("trailer", "x-sum"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        drop_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["trailer", "x-public"]);
    }
}
