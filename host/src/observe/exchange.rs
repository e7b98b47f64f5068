//! One request and its response, as the log will tell it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::Scheme;
use http::{HeaderValue, Method, Uri, Version, header, request};

use super::line_queue::on_account_of;
use super::metrics::{self, Cost, OfHandler, Request, Requests};
use super::{GuestOutput, Ledger};
use crate::account::Account;
use crate::client::{Client, Peer, Stall};
use crate::limits;
use crate::meter::Meter;

/// Identifies a request in the logs and in the `x-request-id` of its response: a UUID of version 7,
/// so that identifiers sort by time, or what a trusted proxy calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    fn new() -> Self {
        let mut text = uuid::Uuid::encode_buffer();
        let text = uuid::Uuid::now_v7().hyphenated().encode_lower(&mut text);
        // Digits and hyphens are always a header's value.
        HeaderValue::from_str(text).map_or_else(|_| Self::none(), Self)
    }

    /// One that somebody else has given the request, if it can stand in any log, page and header: at most
    /// [`limits::REQUEST_ID`] letters, digits and signs that no form needs to escape.
    #[must_use]
    pub fn accepted(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:=+/@~".contains(&byte);
        let is_one = (1..=limits::REQUEST_ID).contains(&text.len()) && text.bytes().all(is_plain);
        HeaderValue::from_str(text)
            .ok()
            .filter(|_| is_one)
            .map(Self)
    }

    /// Of what is no request.
    #[must_use]
    pub fn none() -> Self {
        Self(HeaderValue::from_static("-"))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or("-")
    }

    /// As a header's value, which shares the text.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The status noted when the client left before there was one, as nginx has it.
const CLIENT_LEFT: u16 = 499;

/// What is known of a request and its response so far. It ends when it is dropped, which writes its
/// line: so it ends exactly once, whichever way.
#[derive(Debug)]
pub struct Exchange {
    /// The request's identifier.
    pub id: RequestId,
    /// When the head of the request had arrived.
    pub started: Instant,
    pub(super) at: jiff::Timestamp,
    /// Who sent the request, or the one that it is a call inside of.
    pub client: Peer,
    /// How he sent it, as far as that is known.
    pub scheme: Option<Scheme>,
    /// What the client is called, if it has shown a password.
    pub user: Option<Arc<str>>,
    /// Who sent it, if it is no client's but a call.
    pub called_by: Option<CalledBy>,
    stall: Stall,
    /// None if no request came of what the client sent.
    pub(super) asked: Option<Asked>,
    /// The path of the route that it took, as it was written.
    pub route: Option<Arc<str>>,
    /// The handler that it was routed to.
    pub handler: Option<Arc<str>>,
    /// Who owns that handler.
    pub tenant: Option<Arc<str>>,
    /// The status sent; none if the client left before.
    pub status: Option<u16>,
    /// Bytes of the response's body that were handed to the connection.
    pub sent: u64,
    /// What went wrong, in a word of the table of failures.
    pub label: Option<Cow<'static, str>>,
    /// Whether that was its guest's doing.
    pub is_fault: bool,
    /// Whether the response's headers were out when it went wrong.
    pub after_headers: bool,
    /// Why, for the log alone.
    pub detail: Option<String>,
    /// How long it waited for a place, once it has one.
    pub waited: Option<Duration>,
    /// Who pays, once it is known whose request it is.
    pub account: Option<Arc<Account>>,
    /// What it has cost, once a guest is asked.
    pub meter: Option<Arc<Meter>>,
    /// What the guest prints, if somebody will ask.
    pub output: Option<Arc<GuestOutput>>,
    /// Whether the response was handed to the connection to its end.
    pub complete: bool,
    /// Whether it is noted when it ends.
    pub is_noted: bool,
    ledger: Arc<Ledger>,
}

/// A handler that sent a request to another, on behalf of one that it serves.
#[derive(Debug, Clone)]
pub struct CalledBy {
    /// Its name.
    pub caller: Arc<str>,
    /// Where its calls are counted.
    pub counts: Arc<OfHandler>,
    /// Calls that the request is inside of, itself included: from 1.
    pub depth: u32,
}

/// What of a request's head the log tells.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) referer: Option<HeaderValue>,
    pub(super) user_agent: Option<HeaderValue>,
}

impl Asked {
    fn of(request: &request::Parts) -> Self {
        let header = |name| request.headers.get(name).cloned();
        Self {
            method: request.method.clone(),
            uri: request.uri.clone(),
            version: request.version,
            referer: header(header::REFERER),
            user_agent: header(header::USER_AGENT),
        }
    }

    /// What CONNECT asks for has no path: it is an authority.
    pub(super) fn path(&self) -> &str {
        match (self.uri.path_and_query(), self.uri.authority()) {
            (None, Some(authority)) => authority.as_str(),
            _ => self.uri.path(),
        }
    }
}

impl Exchange {
    /// Begins with the head of a request.
    #[must_use]
    pub fn begin(request: &request::Parts, client: &Client, ledger: Arc<Ledger>) -> Self {
        let stall = client.stall.clone();
        let mut exchange = Self::new(Some(Asked::of(request)), client.remote, stall, ledger);
        exchange.scheme = Some(client.scheme.clone());
        exchange
    }

    /// Begins with the head of a call on behalf of another request, whose identifier it has too.
    #[must_use]
    pub fn of_call(
        request: &request::Parts,
        called_by: CalledBy,
        (id, client): (RequestId, Peer),
        stall: Stall,
        ledger: Arc<Ledger>,
    ) -> Self {
        let mut exchange = Self::new(Some(Asked::of(request)), client, stall, ledger);
        (exchange.id, exchange.called_by) = (id, Some(called_by));
        exchange.scheme = request.uri.scheme().cloned();
        exchange
    }

    /// Whether it came by HTTP/2.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        let version = self.asked.as_ref().map(|asked| asked.version);
        version == Some(Version::HTTP_2)
    }

    /// Begins with something that is no request.
    #[must_use]
    pub fn without_request(client: Peer, ledger: Arc<Ledger>) -> Self {
        Self::new(None, client, Stall::default(), ledger)
    }

    fn new(asked: Option<Asked>, client: Peer, stall: Stall, ledger: Arc<Ledger>) -> Self {
        ledger.requests.begin();
        Self {
            id: RequestId::new(),
            started: Instant::now(),
            at: jiff::Timestamp::now(),
            client,
            scheme: None,
            user: None,
            called_by: None,
            stall,
            asked,
            route: None,
            handler: None,
            tenant: None,
            status: None,
            sent: 0,
            label: None,
            is_fault: false,
            after_headers: false,
            detail: None,
            waited: None,
            account: None,
            meter: None,
            output: None,
            complete: false,
            is_noted: true,
            ledger,
        }
    }

    /// Who cuts its connection knows of this.
    #[must_use]
    pub fn stall(&self) -> &Stall {
        &self.stall
    }

    /// The last lines that the guest printed.
    #[must_use]
    pub fn guest_output(&self) -> Vec<String> {
        self.output
            .as_ref()
            .map(|output| output.tail())
            .unwrap_or_default()
    }

    /// Why it broke off, when nothing else explains it.
    fn label_of_the_cut(&self) -> &'static str {
        if self.stall.is_cut() {
            "slow-client"
        } else if self.ledger.is_cutting() {
            "draining"
        } else {
            "client-left"
        }
    }

    /// The status that was sent, or stands for none.
    pub(super) fn final_status(&self) -> u16 {
        self.status.unwrap_or(CLIENT_LEFT)
    }

    /// The method, if it is one that HTTP knows.
    pub(super) fn method(&self) -> &'static str {
        let asked = self.asked.as_ref();
        asked.map_or(metrics::OTHER, |asked| metrics::method(&asked.method))
    }

    /// Where it is counted.
    #[must_use]
    pub fn requests(&self) -> &Arc<Requests> {
        &self.ledger.requests
    }

    /// Counts it as one that has ended. Its names are given away.
    fn count(&mut self, took: Duration) {
        let meter = self.meter.as_deref();
        let cost = Cost {
            total: took,
            waited: self.waited,
            started: self.instantiation(),
            cpu: meter.map(Meter::note),
            memory: self.guest_memory().unwrap_or(0),
            received: self.received(),
            sent: self.sent,
            is_second_try: self.is_second_try(),
        };
        if let Some(by) = &self.called_by {
            by.counts.call(self.label.as_deref());
        }
        let request = Request {
            handler: self.handler.take(),
            tenant: self.tenant.take(),
            route: self.route.take(),
            method: self.method(),
            status: self.final_status(),
            error: self.label.take(),
        };
        let fault = request.error.clone().filter(|_| self.is_fault);
        let requests = &self.ledger.requests;
        requests.count(request, cost, fault.as_deref());
    }

    /// Bytes that the guest's instance had at most. None: there was none.
    pub(super) fn guest_memory(&self) -> Option<usize> {
        let meter = self.meter.as_deref();
        meter.map(Meter::memory).filter(|bytes| *bytes > 0)
    }

    /// How long it took to make an instance for it, if that was done.
    pub(super) fn instantiation(&self) -> Option<Duration> {
        self.meter.as_deref().and_then(Meter::instantiation)
    }

    /// Bytes of the request's body that the guest took.
    pub(super) fn received(&self) -> u64 {
        self.meter.as_deref().map_or(0, Meter::received)
    }

    /// Whether it was given to another instance when the one that it shared with others had failed.
    pub(super) fn is_second_try(&self) -> bool {
        self.meter.as_deref().is_some_and(Meter::was_tried_again)
    }

    /// CPU time that the guest has used.
    #[must_use]
    pub fn guest_cpu(&self) -> Duration {
        self.meter
            .as_ref()
            .map_or(Duration::ZERO, |meter| meter.used())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.complete && self.label.is_none() {
            self.label = Some(Cow::Borrowed(self.label_of_the_cut()));
            self.after_headers = self.status.is_some();
        }
        let took = self.started.elapsed();
        match &self.account {
            Some(account) => on_account_of(account, || self.tell(took)),
            None => self.tell(took),
        }
        if self.is_noted {
            self.count(took);
        }
        self.ledger.requests.end();
    }
}

impl Exchange {
    /// Its lines in the log and the access log.
    fn tell(&self, took: Duration) {
        if let (Some(label), Some(detail)) = (&self.label, &self.detail) {
            tracing::warn!(
                handler = self.handler.as_deref().unwrap_or("-"),
                tenant = self.tenant.as_deref(),
                request_id = %self.id,
                label = %label,
                "{detail}"
            );
        }
        if self.is_noted {
            self.ledger.access_log.write(self, took);
        }
    }
}
