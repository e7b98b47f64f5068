//! Requests that a handler sends to another: they are never on a wire.
//!
//! Each is an exchange of its own, with its handler's places, limits and log line, in a task of its own: who calls only
//! waits for it, so nothing of it is on the caller's meter. The task ends when nobody waits any more.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::problem::Form;
use super::{
    Failure, OfGuest, Pipeline, ResponseBody, X_REQUEST_ID, check, fail, forwarded, respond,
};
use crate::capabilities::calls::{
    Caller, Calling, Foreign, RequestOptions, TRACEPARENT, TRACESTATE, WasiBody,
};
use crate::catalog::Handler;
use crate::client::{Peer, Stall};
use crate::engine::HttpError;
use crate::gate::Permit;
use crate::limits;
use crate::observe::metrics::OfHandler;
use crate::observe::{CalledBy, Exchange, RequestId};

/// A request that is served, and may send others.
struct Served {
    pipeline: Arc<Pipeline>,
    handler: Arc<Handler>,
    id: RequestId,
    client: Peer,
    /// Where the calls are counted.
    counts: Arc<OfHandler>,
    depth: u32,
    trace: HeaderMap,
}

/// A request to a handler, which may not be there.
struct Callee {
    name: Arc<str>,
    handler: Result<Arc<Handler>, Failure>,
}

impl Pipeline {
    /// By what the guest of an exchange calls other handlers, if it may call any.
    pub(super) fn caller(
        self: &Arc<Self>,
        handler: &Arc<Handler>,
        exchange: &Exchange,
        headers: &HeaderMap,
    ) -> Option<Arc<dyn Caller>> {
        let grants = &handler.spec.guest.grants;
        if grants.calls.is_empty() && grants.outbound.allow.is_empty() {
            return None;
        }
        let traced = [TRACEPARENT, TRACESTATE].into_iter().flat_map(|name| {
            let values = headers.get_all(&name).iter().cloned();
            values.map(move |value| (name.clone(), value))
        });
        Some(Arc::new(Served {
            pipeline: Arc::clone(self),
            handler: Arc::clone(handler),
            id: exchange.id.clone(),
            client: exchange.client,
            counts: (self.ledger.requests).of_handler(&handler.name, exchange.tenant.as_ref()),
            depth: exchange.called_by.as_ref().map_or(0, |by| by.depth),
            trace: traced.collect(),
        }))
    }

    /// Answers a call, whatever happens.
    async fn handle_call(
        self: &Arc<Self>,
        callee: Callee,
        request: Request<WasiBody>,
        mut exchange: Exchange,
    ) -> Response<Box<ResponseBody>> {
        let (mut parts, body) = request.into_parts();
        let form = Form::preferred(&parts.headers);
        let id = exchange.id.header();
        exchange.handler = Some(Arc::clone(&callee.name));
        let answer = self.answer_call(callee, &mut parts, body, &mut exchange);
        let mut response = match answer.await {
            Ok(answer) => respond(answer, exchange),
            Err(failure) => fail(&failure, (form, None), None, exchange),
        };
        response.headers_mut().insert(X_REQUEST_ID, id);
        response
    }

    async fn answer_call(
        self: &Arc<Self>,
        callee: Callee,
        parts: &mut http::request::Parts,
        body: WasiBody,
        exchange: &mut Exchange,
    ) -> Result<OfGuest, Failure> {
        let depth = exchange.called_by.as_ref().map_or(0, |by| by.depth);
        if depth > limits::CALL_DEPTH {
            return Err(Failure::Loop);
        }
        check::call(parts, &callee.name, &self.limits)?;
        // Only the host says whose request it is, and only the guest which trace it belongs to.
        forwarded::forget(&mut parts.headers, true);
        forwarded::tell(
            exchange.client,
            &Scheme::HTTP,
            &exchange.id,
            &mut parts.headers,
        );
        self.serve(callee.handler?, parts, body, exchange).await
    }
}

impl Caller for Served {
    fn call(
        &self,
        name: &Arc<str>,
        request: Request<WasiBody>,
        options: RequestOptions,
        held: Permit,
    ) -> Result<Calling, Foreign> {
        let catalog = self.pipeline.catalog.load();
        let (handler, tenant) = if let Some(handler) = catalog.called(name) {
            (Ok(Arc::clone(handler)), Some(handler.spec.tenant.clone()))
        } else if let Some(absent) = catalog.awaited(name) {
            (Err(Failure::of_absent(&absent)), Some(absent.tenant))
        } else {
            (Err(Failure::NotDeployed(Arc::clone(name))), None)
        };
        if tenant.is_some_and(|tenant| tenant != self.handler.spec.tenant) {
            return Err(Foreign);
        }
        let callee = Callee {
            name: Arc::clone(name),
            handler,
        };
        let (parts, body) = request.into_parts();
        let stall = Stall::default();
        let exchange = Exchange::of_call(
            &parts,
            CalledBy {
                caller: Arc::clone(&self.handler.name),
                counts: Arc::clone(&self.counts),
                depth: self.depth + 1,
            },
            (self.id.clone(), self.client),
            stall.clone(),
            Arc::clone(&self.pipeline.ledger),
        );
        let request = Request::from_parts(parts, body);
        let pipeline = Arc::clone(&self.pipeline);
        let (mut answer, answered) = oneshot::channel();
        self.pipeline.front.spawn(async move {
            let _held = held;
            let response = tokio::select! {
                biased;
                () = answer.closed() => return,
                response = pipeline.handle_call(callee, request, exchange) => response,
            };
            deliver(response, answer, options.between_bytes_timeout, &stall).await;
        });
        Ok(Box::pin(async move {
            let answered = match options.first_byte_timeout {
                Some(patience) => timeout(patience, answered)
                    .await
                    .map_err(|_| HttpError::ConnectionReadTimeout)?,
                None => answered.await,
            };
            answered.map_err(|_| HttpError::ConnectionTerminated)
        }))
    }

    fn depth(&self) -> u32 {
        self.depth
    }

    fn trace(&self) -> &HeaderMap {
        &self.trace
    }

    fn sent(&self, label: &str) {
        self.counts.sent(label);
    }
}

/// Hands the answer over, piece by piece as it is taken. `pause` is how long the caller waits for one.
async fn deliver(
    response: Response<Box<ResponseBody>>,
    answer: oneshot::Sender<Response<WasiBody>>,
    pause: Option<Duration>,
    stall: &Stall,
) {
    let (head, mut body) = response.into_parts();
    let (pieces, received) = mpsc::channel(1);
    let received = Received {
        pieces: received,
        is_over: false,
    };
    let response = Response::from_parts(head, received.boxed_unsync());
    if answer.send(response).is_err() {
        return;
    }
    loop {
        let place = match timeout(limits::CALL_STALL, pieces.reserve()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) => return,
            Err(_) => return stall.cut(),
        };
        let piece = tokio::select! {
            biased;
            () = pieces.closed() => return,
            piece = timeout(pause.unwrap_or(Duration::MAX), body.frame()) => piece,
        };
        let piece = match piece {
            Ok(Some(Ok(frame))) => Ok(Some(frame)),
            Ok(Some(Err(_))) => Err(HttpError::HttpResponseIncomplete),
            Ok(None) => Ok(None),
            Err(_) => Err(HttpError::ConnectionReadTimeout),
        };
        let is_last = !matches!(piece, Ok(Some(_)));
        place.send(piece);
        if is_last {
            return;
        }
    }
}

/// The body of an answer, as its caller reads it.
struct Received {
    /// None is the end, which is said: what only stops has broken off.
    pieces: mpsc::Receiver<Result<Option<Frame<Bytes>>, HttpError>>,
    is_over: bool,
}

impl Body for Received {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let piece = ready!(self.pieces.poll_recv(cx));
        let piece = piece.unwrap_or(Err(HttpError::HttpResponseIncomplete));
        self.is_over = !matches!(piece, Ok(Some(_)));
        Poll::Ready(piece.transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}
