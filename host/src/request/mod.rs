//! The life of one request, from its head to the last byte of its response.
//!
//! [`Pipeline::handle`] cannot fail: it turns every [`Failure`] into a response in one place. What
//! it calls returns early, and reads as what happens: check, route, admit, limit, call. What a handler
//! asks of another takes the same way behind the route (`calls.rs`).

mod after;
mod around;
mod body;
mod calls;
mod check;
mod compress;
mod cors;
mod failure;
mod forwarded;
mod own;
mod pages;
mod passwords;
mod problem;

use std::error::Error;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri, header, request};
use http_body::Body;

pub use body::ResponseBody;
pub use failure::Failure;
pub use pages::{Page, Pages};

use crate::catalog::{Catalog, Handler, OwnAnswer, Quarantined, Route, Routed, Target, TooOften};
use crate::client::{Client, Peer};
use crate::engine::{Call, GuestBody};
use crate::gate::{Full, Gate, Permit};
use crate::limits::DoorLimits;
use crate::meter::Meter;
use crate::networks::Networks;
use crate::observe::{Exchange, GuestOutput, Ledger};
use crate::shutdown::Shutdown;
use after::After;
use around::{Around, Means};
use body::{Reading, RequestBody};
use cors::Preflight;
use forwarded::Origin;
use problem::Form;

/// Where the response's identifier is.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Everything that a request passes.
pub struct Pipeline {
    catalog: Arc<ArcSwap<Catalog>>,
    gate: Arc<Gate>,
    ledger: Arc<Ledger>,
    shutdown: Shutdown,
    pages: Option<Arc<dyn Pages>>,
    limits: DoorLimits,
    /// The proxies that are believed.
    trusted: Networks,
    means: Means,
    /// Where calls of handlers are driven: one that burns is on background threads, and who it calls is not.
    front: tokio::runtime::Handle,
}

impl Pipeline {
    /// A pipeline to what the catalog holds at each request's arrival; `gate` is the whole host's, and `trusted` are the
    /// proxies that are believed. Call it inside the runtime that serves.
    #[must_use]
    pub fn new(
        catalog: Arc<ArcSwap<Catalog>>,
        gate: Arc<Gate>,
        ledger: Arc<Ledger>,
        shutdown: Shutdown,
        pages: Option<Arc<dyn Pages>>,
        limits: DoorLimits,
        trusted: Networks,
    ) -> Arc<Self> {
        Arc::new(Self {
            catalog,
            gate,
            ledger,
            shutdown,
            pages,
            limits,
            trusted,
            means: Means::new(),
            front: tokio::runtime::Handle::current(),
        })
    }

    /// Answers a request, whatever happens.
    pub async fn handle<B>(
        self: &Arc<Self>,
        request: Request<B>,
        client: Client,
    ) -> Response<Box<ResponseBody>>
    where
        B: Body<Data = Bytes, Error: Error + 'static> + Send + Unpin + 'static,
    {
        let (mut parts, body) = request.into_parts();
        let origin = Origin::of(&client, &parts.headers, &self.trusted);
        let mut exchange = Exchange::begin(&parts, &client, Arc::clone(&self.ledger));
        (exchange.client, exchange.scheme) = (origin.client, Some(origin.scheme.clone()));
        if let Some(id) = &origin.id {
            exchange.id = id.clone();
        }
        let id = exchange.id.clone();
        // The guest takes the headers with it.
        let of_developer = self
            .pages
            .as_ref()
            .map(|pages| (pages, parts.headers.clone()));
        let form = Form::preferred(&parts.headers);

        let mut around = Around::default();
        let response = if let Some((pages, headers)) = &of_developer
            && let Some(page) = pages.instead(&parts.uri, headers)
        {
            show(page, exchange)
        } else {
            let answer = self.answer(&mut parts, body, &origin, &mut around, &mut exchange);
            match answer.await {
                Ok(Answer::Guest(answer)) => respond(answer, exchange),
                Ok(Answer::Own(answer)) => own::respond(&answer, parts.uri.query(), exchange),
                Ok(Answer::Nothing) => around::nothing(exchange),
                Err(failure) => {
                    let page = of_developer.and_then(|(pages, headers)| {
                        pages.failure(&failure, &exchange.guest_output(), &headers)
                    });
                    fail(&failure, (form, around.page(&failure)), page, exchange)
                }
            }
        };
        let mut response = around.finish(&self.means, response);
        response.headers_mut().insert(X_REQUEST_ID, id.header());
        response
    }

    /// Answers what never became a request.
    #[must_use]
    pub fn refuse(&self, failure: &Failure, client: Peer) -> Response<Box<ResponseBody>> {
        let exchange = Exchange::without_request(client, Arc::clone(&self.ledger));
        let id = exchange.id.clone();
        let response = fail(failure, (Form::Json, None), None, exchange);
        let around = Around::no_request(self.catalog.load().policy(&Routed::Nothing));
        let mut response = around.finish(&self.means, response);
        response.headers_mut().insert(X_REQUEST_ID, id.header());
        response
    }

    async fn answer<B>(
        self: &Arc<Self>,
        parts: &mut request::Parts,
        body: B,
        origin: &Origin,
        around: &mut Around,
        exchange: &mut Exchange,
    ) -> Result<Answer, Failure>
    where
        B: Body<Data = Bytes, Error: Error + 'static> + Send + Unpin + 'static,
    {
        if let Err(failure) = check::head(parts, origin, &self.limits) {
            let catalog = self.catalog.load();
            *around = Around::of(catalog.policy(&Routed::Nothing), parts, None);
            return Err(failure);
        }
        origin.tell(&exchange.id, &mut parts.headers);
        let found = self.find(parts, around, exchange);
        let headers = &mut parts.headers;
        around.admit(origin, headers, exchange).await?;
        if around.is_answered() {
            return Ok(Answer::Nothing);
        }
        match found? {
            Target::Handler(handler) => {
                let answer = self.serve(handler, parts, body, exchange).await;
                answer.map(Answer::Guest)
            }
            Target::Own(answer) => Ok(Answer::Own(answer)),
            Target::Awaited(absent) => {
                let failure = Failure::of_absent(&absent);
                (exchange.handler, exchange.tenant) = (Some(absent.name), absent.tenant);
                Err(failure)
            }
        }
    }

    /// Whom a request is for, and what the operator wants around the answer, also if there is nobody.
    fn find(
        &self,
        parts: &mut request::Parts,
        around: &mut Around,
        exchange: &mut Exchange,
    ) -> Result<Target, Failure> {
        let catalog = self.catalog.load();
        // A browser's question is about the route of the request that is to come.
        let preflight = Preflight::of(parts).filter(|preflight| {
            let policy = catalog.policy(&catalog.route(parts, &preflight.method));
            policy.is_some_and(|policy| policy.cors.is_some())
        });
        let method = preflight.as_ref().map_or(&parts.method, |it| &it.method);
        let routed = catalog.route(parts, method);
        *around = Around::of(catalog.policy(&routed), parts, preflight);
        match routed {
            Routed::To(target, route) => {
                exchange.route = Some(route.path.shared());
                if let Some(stripped) = stripped(route, &parts.uri) {
                    parts.uri = stripped;
                }
                Ok(target.clone())
            }
            Routed::Method(allow, _) => Err(Failure::Method(allow.clone())),
            Routed::Nothing if catalog.is_incomplete() => Err(Failure::Starting),
            Routed::Nothing => Err(Failure::NoRoute),
        }
    }

    /// Answers with a handler, once it is known with which.
    async fn serve<B>(
        self: &Arc<Self>,
        handler: Arc<Handler>,
        parts: &mut request::Parts,
        body: B,
        exchange: &mut Exchange,
    ) -> Result<OfGuest, Failure>
    where
        B: Body<Data = Bytes, Error: Error + 'static> + Send + Unpin + 'static,
    {
        exchange.handler = Some(Arc::clone(&handler.name));
        exchange.account = Some(Arc::clone(&handler.account));
        if let Some(tenant) = &handler.tenant {
            exchange.tenant = Some(Arc::clone(tenant.name()));
            let counted = tenant.count();
            counted.map_err(|TooOften(pause)| Failure::TooOften(pause))?;
        }
        let asked = handler.health.admit(exchange.started);
        asked.map_err(|Quarantined(pause)| Failure::Quarantined(pause))?;

        let limits = handler.limits();
        let patience = limits.deadline;
        let deadline = exchange.started + patience;
        let (body, read) = RequestBody::new(body, limits.request_body, limits.body_deadline);
        let answered = {
            let answer = pin!(self.call(&handler, parts, body, exchange));
            tokio::time::timeout_at(deadline.into(), answer).await
        };
        let failure = match answered {
            Ok(Ok((response, permit))) => {
                read.answered();
                handler.answered();
                return Ok(OfGuest {
                    response,
                    handler,
                    permit,
                    is_head: parts.method == Method::HEAD,
                    read,
                });
            }
            // What the client did to its body explains what the guest made of it.
            Ok(Err(failure)) => read.failure().unwrap_or(failure),
            Err(_) => read.at_deadline(patience),
        };
        // Who got no place was not asked.
        if failure.is_of_guest() && exchange.meter.is_some() {
            handler.failed(|| {
                failure
                    .detail()
                    .unwrap_or_else(|| failure.label().into_owned())
            });
        }
        Err(failure)
    }

    async fn call<B>(
        self: &Arc<Self>,
        handler: &Arc<Handler>,
        parts: &mut request::Parts,
        body: RequestBody<B>,
        exchange: &mut Exchange,
    ) -> Result<(Response<GuestBody>, Arc<Permits>), Failure>
    where
        B: Body<Data = Bytes, Error: Error + 'static> + Send + Unpin + 'static,
    {
        let limits = handler.limits();
        if body.size_hint().lower() > limits.request_body {
            return Err(Failure::BodyTooLarge);
        }
        // The guest holds it too: its instance may outlive a client that leaves.
        let (permit, waited) = timed(pin!(self.admit(handler, exchange))).await;
        let permit = Arc::new(permit?);
        exchange.waited = Some(waited);

        let meter = Arc::new(Meter::new(limits.cpu, Arc::clone(&handler.account)));
        exchange.meter = Some(Arc::clone(&meter));
        let output = Arc::new(GuestOutput::new(
            Arc::clone(&handler.speaker),
            exchange.id.clone(),
            handler.spec.keep_output,
        ));
        exchange.output = handler.spec.keep_output.then(|| Arc::clone(&output));
        let caller = self.caller(handler, exchange, &parts.headers);
        let request = request_for_guest(parts, body.with(&permit, &meter));
        let guest = handler.guest().await?;
        let call = Call {
            meter,
            output,
            caller,
        };
        let response = guest.call(request, call, Arc::clone(&permit)).await?;
        Ok((response, permit))
    }

    /// Waits for a place of the handler's, of its tenant's and of the host's; one who still waits when the host stops is told so.
    async fn admit(&self, handler: &Handler, exchange: &Exchange) -> Result<Permits, Failure> {
        let all = async {
            let (account, is_shared) = (&*handler.account, self.catalog.load().is_shared());
            let tenant = handler.tenant.as_ref();
            let at_once = || -> Result<_, Whose> {
                let of_tenant = tenant.map(|it| it.try_admit()).transpose();
                let of_tenant = of_tenant.map_err(|Full| Whose::Tenant)?;
                let of_host = self.gate.try_admit_among(account, is_shared);
                Ok((of_tenant, of_host.map_err(|Full| Whose::Host)?))
            };
            loop {
                // In this order: who waits for a busy handler takes no place from others.
                let of_handler = handler.gate.admit().await;
                let of_handler = of_handler.map_err(|Full| Whose::Handler)?;
                match at_once() {
                    Ok((of_tenant, of_host)) => return Ok((of_handler, of_tenant, of_host)),
                    // It has places of both already, its caller's, and could wait for itself.
                    Err(whose) if exchange.called_by.is_some() => return Err(whose),
                    // A call that waits for this handler's place may hold the very place that is waited for here.
                    Err(_) => drop(of_handler),
                }
                let of_tenant = match tenant {
                    Some(tenant) => Some(tenant.admit().await.map_err(|Full| Whose::Tenant)?),
                    None => None,
                };
                let of_host = self.gate.admit_among(account, is_shared).await;
                let of_host = of_host.map_err(|Full| Whose::Host)?;
                if let Ok(of_handler) = handler.gate.try_admit() {
                    return Ok((of_handler, of_tenant, of_host));
                }
            }
        };
        // Looked at before he waits: who is seen to wait when the host is told to stop has come before.
        let has_come_late = self.shutdown.is_asked();
        let stopping = async {
            if has_come_late {
                pending().await
            } else {
                self.shutdown.asked().await
            }
        };
        tokio::select! {
            biased;
            permits = all => permits.map_err(|whose: Whose| {
                tell_overload(handler, whose);
                Failure::Overload
            }),
            () = stopping => Err(Failure::Draining),
        }
    }
}

/// What comes of it, and how long that took from when it was not there at once.
async fn timed<T>(mut future: Pin<&mut impl Future<Output = T>>) -> (T, Duration) {
    let mut began = None;
    let result = poll_fn(|context| {
        let polled = future.as_mut().poll(context);
        if polled.is_pending() {
            began.get_or_insert_with(Instant::now);
        }
        polled
    })
    .await;
    (
        result,
        began.map_or(Duration::ZERO, |began| began.elapsed()),
    )
}

/// Whose places are all taken.
#[derive(Debug, Clone, Copy)]
enum Whose {
    Handler,
    Tenant,
    Host,
}

fn tell_overload(handler: &Handler, whose: Whose) {
    let refused = match whose {
        Whose::Handler => &handler.overload.of_handler,
        Whose::Tenant => &handler.overload.of_tenant,
        Whose::Host => &handler.overload.of_host,
    };
    let Some(refused) = refused.count() else {
        return;
    };
    let tenant = handler.tenant.as_ref().map_or("", |tenant| tenant.name());
    let (full, more) = match whose {
        Whose::Handler => (
            "it serves as many as it may".to_owned(),
            "`max_concurrent_requests` of its `limits`, or `--max-concurrent-requests`, if there is memory for more, or let \
             more wait with `--max-waiting-requests` and `--queue-timeout`"
                .to_owned(),
        ),
        Whose::Tenant => (
            format!("its tenant `{tenant}` serves as many as it may"),
            format!("`max_concurrent_requests` of `[tenants.{tenant}]`"),
        ),
        Whose::Host => (
            "the host serves as many as it may, or has none left for it".to_owned(),
            "`max_concurrent_requests` of `[listen]`, or `--max-concurrent-requests`, if there is memory for more"
                .to_owned(),
        ),
    };
    tracing::warn!(
        handler = &*handler.name,
        refused,
        label = %Failure::Overload.label(),
        "no place for requests of `{}`: {full}: raise {more}",
        handler.name
    );
}

/// The handler's, its tenant's, and the host's.
type Permits = (Permit, Option<Permit>, Permit);

/// Who answers, once it is known what.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are the large one, and none is kept"
)]
enum Answer {
    Guest(OfGuest),
    Own(OwnAnswer),
    /// All that there is to say is around it.
    Nothing,
}

/// The target as the guest sees it, if its route takes a prefix away.
fn stripped(route: &Route, uri: &Uri) -> Option<Uri> {
    let target = uri.path_and_query().filter(|_| route.strip_prefix)?;
    let mut parts = uri.clone().into_parts();
    // A part of a target that begins with `/` is one.
    parts.path_and_query = route.stripped(target.as_str()).parse().ok();
    Uri::from_parts(parts).ok()
}

/// A guest's answer, and what it still needs.
struct OfGuest {
    response: Response<GuestBody>,
    handler: Arc<Handler>,
    permit: Arc<Permits>,
    is_head: bool,
    read: Reading,
}

fn request_for_guest<B>(parts: &mut request::Parts, body: B) -> Request<B> {
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    *request.headers_mut() = std::mem::take(&mut parts.headers);
    request
}

fn respond(answer: OfGuest, mut exchange: Exchange) -> Response<Box<ResponseBody>> {
    let OfGuest {
        response,
        handler,
        permit,
        is_head,
        read,
    } = answer;
    let (mut head, body) = response.into_parts();
    drop_hop_by_hop(&mut head.headers);
    exchange.status = Some(head.status.as_u16());
    let patience = handler.limits().body_deadline;
    let no_body = is_head
        || matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    let body = if no_body {
        After::new(&exchange, Some(permit), patience).read(body);
        ResponseBody::own(Bytes::new(), exchange)
    } else {
        ResponseBody::guest(body, permit, exchange, patience, read)
    };
    Response::from_parts(head, body)
}

fn fail(
    failure: &Failure,
    (form, instead): (Form, Option<&Bytes>),
    page: Option<Page>,
    mut exchange: Exchange,
) -> Response<Box<ResponseBody>> {
    failure.tell(&mut exchange);
    if let Some(page) = page {
        // Whoever made the page has said why.
        exchange.detail = None;
        return show(page, exchange);
    }
    let response = problem::response(failure, &exchange.id, form, instead);
    exchange.status = Some(response.status().as_u16());
    response.map(|body| ResponseBody::own(body, exchange))
}

fn show(page: Page, mut exchange: Exchange) -> Response<Box<ResponseBody>> {
    exchange.status = Some(page.status.as_u16());
    exchange.is_noted = page.is_logged;
    let mut response = Response::new(ResponseBody::own(Bytes::from(page.body), exchange));
    *response.status_mut() = page.status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static(page.content_type),
    );
    headers.insert(
        header::CACHE_CONTROL,
        http::HeaderValue::from_static("no-store"),
    );
    response
}

/// RFC 9110, section 7.6.1: these speak of one connection, and the guest does not have it.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    static OF_ONE_HOP: [HeaderName; 7] = [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    // Most have none.
    if headers.keys().any(|name| OF_ONE_HOP.contains(name)) {
        for name in &OF_ONE_HOP {
            headers.remove(name);
        }
    }
}
