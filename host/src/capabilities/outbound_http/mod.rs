//! `wasi:http/outgoing-handler` and `wasi:http/client`: other handlers of this host, and destinations elsewhere, where they
//! are granted.
//!
//! What a guest may reach elsewhere is judged twice: by scheme, host and port before anything is done, and by address when
//! names are known. The connection goes to the very address that was judged.

mod body;
mod ceiling;
mod client;
mod destination;
mod error;
mod grant;
mod pool;
mod send;
mod tls;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderName, Request, Response};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpHooks,
};

pub use client::Client;
pub use destination::{EVERYWHERE, Origin, Pattern, Protocol};
pub use error::code_name;
pub use grant::{Destination, OutboundGrants, Times};
pub use tls::{Authorities, Identity};

pub(crate) use grant::OutboundGrant;

use super::Granted;
use super::calls::{Broken, Caller, Calling, Foreign, TRACEPARENT, TRACESTATE};
use crate::gate::Gate;
use crate::limits;
use body::Written;

/// What an instance reaches. What it does not is refused with `HTTP-request-denied`, which the guest can handle.
pub struct OutboundHttp {
    granted: Arc<Granted>,
    /// The request that is served, while one is that may call.
    pub caller: Option<Arc<dyn Caller>>,
    /// Whether the instance was cut off.
    pub broken: Broken,
    /// Whether it may serve several requests at once: nobody can tell then for which of them it sends one.
    pub is_shared: bool,
    /// Where the answer to the request goes that is sent next, if it is not left to who sends it.
    pub answering: Option<oneshot::Sender<Result<Response<WasiBody>, Error>>>,
    /// For its calls; made for the first.
    gate: Option<Gate>,
    /// For its requests to elsewhere; made for the first.
    elsewhere: Option<Gate>,
}

type Sent = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl OutboundHttp {
    /// For an instance that serves nobody yet.
    #[must_use]
    pub fn new(granted: Arc<Granted>) -> Self {
        Self {
            granted,
            caller: None,
            broken: Broken::default(),
            is_shared: false,
            answering: None,
            gate: None,
            elsewhere: None,
        }
    }

    /// What its guest was granted, of all kinds: for who needs a copy, which writes to memory that all threads share.
    #[must_use]
    pub fn granted(&self) -> &Arc<Granted> {
        &self.granted
    }

    /// Bytes that the host holds for its calls, a piece of each body on its way, and for its requests to elsewhere.
    #[must_use]
    pub fn holds(&self) -> usize {
        let taken = |gate: &Option<Gate>| gate.as_ref().map_or(0, Gate::taken);
        taken(&self.gate) * 2 * limits::BODY_CHUNK
            + taken(&self.elsewhere) * limits::OUTBOUND_REQUEST_BYTES
    }

    fn send(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Calling, Error> {
        let broken = self.broken.clone();
        let request = request.map(|body| Written { body, broken }.boxed_unsync());
        let granted = Arc::clone(&self.granted);
        match granted.calls.find(request.uri())? {
            Some(name) => self.call(&granted, name, request, options),
            None => self.send_elsewhere(&granted, request, options),
        }
    }

    fn call(
        &mut self,
        granted: &Granted,
        name: &Arc<str>,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Calling, Error> {
        // Nobody is there while a handler is only tried.
        let Some(caller) = &self.caller else {
            return Err(Error::HttpRequestDenied);
        };
        let gate = self
            .gate
            .get_or_insert_with(|| Gate::new(limits::CALLS_AT_ONCE, 0, Duration::ZERO));
        let permit = gate
            .try_admit()
            .map_err(|_| Error::ConnectionLimitReached)?;
        caller
            .call(name, request, options.unwrap_or_default(), permit)
            .map_err(|Foreign| {
                granted.calls.tell_foreign(name);
                Error::HttpRequestDenied
            })
    }

    fn send_elsewhere(
        &mut self,
        granted: &Granted,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Calling, Error> {
        let counted = Counted {
            caller: self.caller.clone(),
            label: "cut-off",
        };
        let gate = self
            .elsewhere
            .get_or_insert_with(|| Gate::new(limits::OUTBOUND_AT_ONCE, 0, Duration::ZERO));
        let Ok(permit) = gate.try_admit() else {
            return Err(counted.failed(Error::ConnectionLimitReached));
        };
        if let Some(caller) = self.caller.as_ref().filter(|_| !self.is_shared) {
            pass_on_trace(&mut request, &**caller);
        }
        let grant = Arc::clone(&granted.outbound);
        Ok(Box::pin(async move {
            match grant.send(request, options, permit).await {
                Ok(response) => Ok(counted.answered(response)),
                Err(error) => Err(counted.failed(error)),
            }
        }))
    }
}

/// The trace of the request that is served, unless the guest says one of its own.
fn pass_on_trace(request: &mut Request<WasiBody>, caller: &dyn Caller) {
    let headers = request.headers_mut();
    if headers.contains_key(TRACEPARENT) {
        return;
    }
    headers.remove(TRACESTATE);
    for (name, value) in caller.trace() {
        headers.append(name, value.clone());
    }
}

/// A request to elsewhere, which is counted when it is known how it went.
struct Counted {
    caller: Option<Arc<dyn Caller>>,
    label: &'static str,
}

impl Counted {
    fn answered<T>(mut self, response: T) -> T {
        self.label = "";
        response
    }

    fn failed(mut self, error: Error) -> Error {
        self.label = code_name(&error);
        error
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(caller) = &self.caller {
            caller.sent(self.label);
        }
    }
}

impl WasiHttpHooks for OutboundHttp {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Sent,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Sent), Error>> + Send> {
        let calling = self.send(request, options);
        let calling = calling.unwrap_or_else(|error| Box::pin(std::future::ready(Err(error))));
        match self.answering.take() {
            // Whoever drives this gets no answer, and is done.
            Some(answering) => Box::new(async move {
                drop(answering.send(calling.await));
                Err(Error::InternalError(None))
            }),
            None => Box::new(async {
                let nothing_left: Sent = Box::new(std::future::ready(Ok(())));
                Ok((calling.await?, nothing_left))
            }),
        }
    }

    // Handlers have no TLS, and a guest that means it for others says so.
    fn default_scheme(&mut self) -> Option<Scheme> {
        Some(Scheme::HTTP)
    }

    // The default makes a closure for each header that it looks at.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        limits::BODY_CHUNK
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        limits::BODY_CHUNK
    }
}
