//! `wasi:http/outgoing-handler` and `wasi:http/client`: other handlers of this host where they are granted; everything
//! else is refused until it can be granted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderName, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpHooks,
};

use super::Granted;
use super::calls::{Broken, Caller, Calling, Foreign};
use crate::gate::Gate;
use crate::limits;

/// What an instance reaches. What it does not is refused with `HTTP-request-denied`, which the guest can handle.
pub struct OutboundHttp {
    granted: Arc<Granted>,
    /// The request that is served, while one is that may call.
    pub caller: Option<Arc<dyn Caller>>,
    /// Whether the instance was cut off.
    pub broken: Broken,
    /// For its calls; made for the first.
    gate: Option<Gate>,
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
            gate: None,
        }
    }

    /// Bytes that the host holds for its calls: a piece of each body on its way.
    #[must_use]
    pub fn holds(&self) -> usize {
        let calls = self.gate.as_ref().map_or(0, Gate::taken);
        calls * 2 * limits::BODY_CHUNK
    }

    fn call(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Calling, Error> {
        let name = self.granted.calls.find(request.uri())?;
        // Nobody is there while a handler is only tried.
        let (Some(name), Some(caller)) = (name, &self.caller) else {
            return Err(Error::HttpRequestDenied);
        };
        let gate = self
            .gate
            .get_or_insert_with(|| Gate::new(limits::CALLS_AT_ONCE, 0, Duration::ZERO));
        let permit = gate
            .try_admit()
            .map_err(|_| Error::ConnectionLimitReached)?;
        let broken = self.broken.clone();
        let request = request.map(|body| Written { body, broken }.boxed_unsync());
        caller
            .call(name, request, options.unwrap_or_default(), permit)
            .map_err(|Foreign| {
                self.granted.calls.tell_foreign(name);
                Error::HttpRequestDenied
            })
    }
}

impl WasiHttpHooks for OutboundHttp {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Sent,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Sent), Error>> + Send> {
        match self.call(request, options) {
            Ok(calling) => Box::new(async {
                let nothing_left: Sent = Box::new(std::future::ready(Ok(())));
                Ok((calling.await?, nothing_left))
            }),
            Err(error) => Box::new(std::future::ready(Err(error))),
        }
    }

    // Only handlers can be reached, and they have no TLS.
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

/// The body of a request as its guest writes it. A guest that is cut off closes it, which must not look like an end.
struct Written {
    body: WasiBody,
    broken: Broken,
}

impl Body for Written {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() && self.broken.is_set() {
            return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.broken.is_set()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn a_body_whose_guest_was_cut_off_ends_with_an_error() {
        for is_cut_off in [false, true] {
            let broken = Broken::default();
            let body = Full::new(Bytes::from_static(b"some")).map_err(|never| match never {});
            let mut written = Written {
                body: body.boxed_unsync(),
                broken: broken.clone(),
            };
            let some = written.frame().await.expect("a frame").expect("data");
            assert_eq!(some.into_data().expect("data"), "some");
            if is_cut_off {
                broken.set();
            }
            let end = written.frame().await.map(|frame| frame.is_err());
            assert_eq!(end, is_cut_off.then_some(true));
        }
    }
}
