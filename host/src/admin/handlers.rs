//! What is done for each request at the operator's door.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::keys::Keys;
use super::problem::Problem;
use super::ready::Ready;
use super::routes::{self, Call, Operation};
use super::view::{HandlerView, HandlersView};
use super::{Known, LINES, Watched, ask, openapi};
use crate::catalog::{
    Action, Ask, Deployed, HandlerName, NotDone, Receiving, Step, Turn, Versions, Who,
};
use crate::limits;
use crate::observe::metrics::{Form, View};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Where operators are answered.
pub(super) struct Desk {
    versions: Arc<Versions>,
    watched: Watched,
    keys: Arc<Keys>,
    /// Held while a page of metrics is written.
    page: tokio::sync::Mutex<()>,
}

impl Desk {
    pub(super) fn new(versions: Arc<Versions>, watched: Watched, keys: Arc<Keys>) -> Self {
        Self {
            versions,
            watched,
            keys,
            page: tokio::sync::Mutex::default(),
        }
    }

    /// Answers a request of somebody: of the visitor himself, if he needs no token, or of whom his token says.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        visitor: Arc<str>,
        needs_token: bool,
        known: Arc<Known>,
    ) -> Result<Answer, Infallible> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let who = self.who(request.headers(), &visitor, needs_token);
        let found = routes::find(&method, &path);
        if let Ok((operation, _)) = &found
            && operation.call.is_everybodys()
        {
            let query = request.uri().query().unwrap_or("");
            let probed = self.probe(operation, query, who.as_ref().ok());
            return Ok(probed.unwrap_or_else(|problem| tell(&problem)));
        }
        let shown = who.as_ref().map_or(visitor, |who| who.to_string().into());
        let is_tenant = who.as_ref().is_ok_and(|who| who.tenant().is_some());
        let answered = match who {
            Ok(who) => {
                known.note(&who);
                self.call(request, &who).await
            }
            Err(problem) => {
                let (parts, body) = request.into_parts();
                Err(read_over(&parts.headers, body, problem).await)
            }
        };
        Ok(answered.unwrap_or_else(|problem| {
            if method != Method::GET || problem.status().is_server_error() {
                let path = crate::names::short(&path);
                tracing::warn!("{method} {path} by {shown} is refused: {}", problem.detail);
            }
            tell(&told(problem, is_tenant))
        }))
    }

    async fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        who: &Who,
    ) -> Result<Answer, Problem> {
        let (parts, mut body) = request.into_parts();
        let query = parts.uri.query().unwrap_or("");
        let (operation, name) = match routes::find(&parts.method, parts.uri.path()) {
            Ok(found) => found,
            Err(problem) => return Err(read_over(&parts.headers, body, problem).await),
        };
        if !operation.call.is_early() {
            self.watched.lifecycle.started().await;
        }
        let begin = |name: &HandlerName, action| {
            let expected = ask::expected(&parts.headers)?;
            Ok::<_, Problem>(self.versions.begin(name, action, &expected, who)?)
        };
        match operation.call {
            Call::Health | Call::Ready => self.probe(operation, query, Some(who)),
            Call::HandlerReady => self.handler_ready(&ask::name(name)?, who),
            Call::Metrics => self.metrics(&parts.headers, who).await,
            Call::OpenApi => Ok(answer(StatusCode::OK, &openapi::document())),
            Call::List => self.list(who).await,
            Call::Show => self.show(&ask::name(name)?, StatusCode::OK, who),
            Call::Audit => {
                let (last, before) = ask::page(operation, query)?;
                let changes = self.versions.changes(last, before, who).await?;
                Ok(answer(StatusCode::OK, &json!({ "changes": changes })))
            }
            Call::Undeploy => {
                let name = ask::name(name)?;
                let turn = begin(&name, Action::Undeploy)?;
                self.versions.undeploy(turn).await?;
                Ok(answer(StatusCode::OK, &json!({ "name": name })))
            }
            Call::Rollback => {
                let (name, to) = (ask::name(name)?, ask::to(operation, query)?);
                let expected = ask::expected(&parts.headers)?;
                let turn = self.versions.begin_rollback(&name, &expected, who).await?;
                let deployed = self.versions.rollback(turn, to.as_deref()).await?;
                self.deployed(&deployed, who)
            }
            Call::Deploy => {
                let begun = async {
                    let (name, ask) = (ask::name(name)?, ask::ask(operation, query)?);
                    let mut turn = begin(&name, Action::Deploy)?;
                    let receiving = self.versions.receive(&mut turn, &ask).await?;
                    Ok((turn, ask, receiving))
                };
                let (turn, ask, receiving) = match begun.await {
                    Ok(begun) => begun,
                    Err(problem) => return Err(read_over(&parts.headers, body, problem).await),
                };
                let received = receive(receiving, &mut body).await?;
                self.is_still(who, &parts.headers)?;
                if wants_lines(&parts.headers) {
                    return Ok(self.in_lines(turn, ask, received, who));
                }
                let deployed = self.versions.deploy(turn, ask, received, |_| {}).await?;
                self.deployed(&deployed, who)
            }
        }
    }

    /// What everybody may ask: whether the host is there, and ready. Whoever shows no token, or one that is none, is told
    /// nothing else.
    fn probe(
        &self,
        operation: &Operation,
        query: &str,
        who: Option<&Who>,
    ) -> Result<Answer, Problem> {
        if operation.call == Call::Health {
            return Ok(answer(StatusCode::OK, &json!({ "status": "ok" })));
        }
        let parameters = operation.parameters(query).map_err(Problem::mistakes)?;
        let is_verbose = !parameters.is_empty();
        let Watched {
            lifecycle,
            deployer,
            ..
        } = &self.watched;
        let ready = Ready::of_host(lifecycle, deployer, is_verbose, who);
        Ok(answer(ready.code(), &ready))
    }

    fn handler_ready(&self, name: &HandlerName, who: &Who) -> Result<Answer, Problem> {
        // Whether it is there for him.
        self.versions.find(name, who)?;
        let catalog = self.watched.deployer.catalog().load_full();
        let lifecycle = &self.watched.lifecycle;
        if catalog.is_starting(name) {
            let ready = Ready::of_starting(lifecycle, name);
            return Ok(answer(ready.code(), &ready));
        }
        let Some(handler) = catalog.handler(name) else {
            return Err(NotDone::Absent(name.clone()).into());
        };
        let ready = Ready::of_handler(lifecycle, handler);
        Ok(answer(ready.code(), &ready))
    }

    /// One page at a time: it may have megabytes.
    async fn metrics(&self, headers: &HeaderMap, who: &Who) -> Result<Answer, Problem> {
        let accept = headers.get_all(header::ACCEPT).iter();
        let accept: Vec<_> = accept.filter_map(|value| value.to_str().ok()).collect();
        let form = Form::accepted(&accept.join(","));
        let view = match who.tenant() {
            Some(tenant) => View::Tenant(Arc::clone(tenant)),
            None => View::All,
        };
        let _turn = self.page.lock().await;
        let metrics = Arc::clone(&self.watched.metrics);
        let page = spawn_blocking(move || metrics.page(&view, form));
        let page = page.await.map_err(|_| stopped())?;
        let mut response = Response::new(Full::new(Bytes::from(page)).boxed_unsync());
        let kind = HeaderValue::from_static(form.content_type());
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok(response)
    }

    /// Who asks: whose the token is that is shown, or else whoever could open the door.
    fn who(
        &self,
        headers: &HeaderMap,
        visitor: &Arc<str>,
        needs_token: bool,
    ) -> Result<Who, Problem> {
        let refused = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, "token", detail);
        let mut shown = headers.get_all(header::AUTHORIZATION).iter();
        match (shown.next(), shown.next()) {
            (None, _) if !needs_token => Ok(Who::operator(visitor)),
            (None, _) => Err(refused(
                "this door needs a token: send `authorization: Bearer TOKEN`, or give its file with `--admin-token-file`",
            )),
            (Some(shown), None) => shown
                .to_str()
                .ok()
                .and_then(|shown| shown.split_once(' '))
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
                .map(|(_, token)| token)
                .and_then(|shown| self.keys.who(shown, visitor))
                .ok_or_else(|| {
                    refused(if needs_token {
                        "the token is none of this host's"
                    } else {
                        "the token is none of this host's: the operator needs none here"
                    })
                }),
            (Some(_), Some(_)) => Err(refused("two tokens are shown: send one")),
        }
    }

    /// A component takes its time to arrive, and a token may have been taken away meanwhile.
    fn is_still(&self, who: &Who, headers: &HeaderMap) -> Result<(), Problem> {
        // Who needed no token has shown none.
        let now = self.who(headers, &Arc::from(""), false)?;
        if now.tenant() == who.tenant() {
            return Ok(());
        }
        let detail = "the token has another owner meanwhile";
        Err(Problem::new(StatusCode::UNAUTHORIZED, "token", detail))
    }

    /// Twenty thousand handlers take a while to write.
    async fn list(&self, who: &Who) -> Result<Answer, Problem> {
        let (versions, who) = (Arc::clone(&self.versions), who.clone());
        let list = move || {
            let handlers = versions.all(&who).iter().map(HandlerView::from).collect();
            answer(StatusCode::OK, &HandlersView { handlers })
        };
        spawn_blocking(list).await.map_err(|_| stopped())
    }

    fn show(&self, name: &HandlerName, status: StatusCode, who: &Who) -> Result<Answer, Problem> {
        Ok(shown(
            status,
            &HandlerView::from(&self.versions.find(name, who)?),
        ))
    }

    fn deployed(&self, deployed: &Deployed, who: &Who) -> Result<Answer, Problem> {
        self.show(&deployed.record.name, status(deployed), who)
    }

    /// Deploys, and answers with a line for each step. A client that leaves stops it.
    fn in_lines(self: Arc<Self>, turn: Turn, ask: Ask, received: Receiving, who: &Who) -> Answer {
        let (lines, receiver) = mpsc::channel::<Bytes>(STEPS);
        let who = who.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            // There is room for every step.
            let say =
                |line: serde_json::Value| drop(lines.try_send(Bytes::from(format!("{line}\n"))));
            let deployed = self
                .versions
                .deploy(turn, ask, received, |step| say(line(&step)))
                .await;
            let outcome = deployed.map_err(Problem::from).and_then(|deployed| {
                let handler = HandlerView::from(&self.versions.find(&deployed.record.name, &who)?);
                Ok((status(&deployed).as_u16(), handler))
            });
            say(match outcome {
                Ok((status, handler)) => {
                    json!({ "step": "deployed", "status": status, "handler": handler })
                }
                Err(problem) => {
                    tracing::warn!("a deploy by {who} is refused: {}", problem.detail);
                    let problem = told(problem, who.tenant().is_some());
                    json!({ "step": "refused", "status": problem.status, "problem": problem })
                }
            });
        });
        let lines = Lines {
            receiver,
            _task: task,
        };
        let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES));
        response
    }
}

fn stopped() -> Problem {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Problem::new(status, "stopped", "the host ends")
}

/// Lines of one deploy: more than it has steps.
const STEPS: usize = 8;

/// What a deploy says, and the deploy itself: dropped together.
struct Lines {
    receiver: mpsc::Receiver<Bytes>,
    _task: JoinSet<()>,
}

impl futures_util::Stream for Lines {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver
            .poll_recv(context)
            .map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

fn line(step: &Step) -> serde_json::Value {
    match step {
        Step::Received { digest, size } => {
            json!({ "step": "received", "digest": digest, "size": size })
        }
        Step::Compiled => json!({ "step": "compiled" }),
    }
}

/// Takes the body. What comes after a piece that could not be written is read for nobody, so that the client comes to
/// read its answer.
async fn receive(mut receiving: Receiving, body: &mut Incoming) -> Result<Receiving, Problem> {
    let mut unwritten = 0;
    loop {
        match timeout(limits::ADMIN_BODY_PAUSE, body.frame()).await {
            Ok(None) => return Ok(receiving),
            Ok(Some(Ok(frame))) => {
                let Ok(chunk) = frame.into_data() else {
                    continue;
                };
                let length = chunk.len() as u64;
                if unwritten > 0 || !receiving.write(chunk).await {
                    unwritten += length;
                }
                if unwritten > limits::COMPONENT_BYTES {
                    return Ok(receiving);
                }
            }
            Ok(Some(Err(error))) => {
                let detail = format!("the component is not complete: {error}");
                return Err(Problem::new(StatusCode::BAD_REQUEST, "incomplete", detail));
            }
            Err(_) => {
                let detail = format!(
                    "nothing of the component came for {:?}: send it again",
                    limits::ADMIN_BODY_PAUSE
                );
                return Err(Problem::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "slow-client",
                    detail,
                ));
            }
        }
    }
}

/// Reads what a client still sends, so that it comes to read its answer. One that waits to be asked for the body is
/// not asked.
async fn read_over(headers: &HeaderMap, mut body: Incoming, problem: Problem) -> Problem {
    let mut left = limits::COMPONENT_BYTES;
    let read = async {
        while !headers.contains_key(header::EXPECT) && left > 0 {
            let Some(Ok(frame)) = body.frame().await else {
                break;
            };
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(bytes as u64);
        }
    };
    // As long as one pause in all: who has no token holds the door no longer.
    let _ = timeout(limits::ADMIN_BODY_PAUSE, read).await;
    problem
}

fn wants_lines(headers: &HeaderMap) -> bool {
    let accepts = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    accepts
        .flat_map(|value| value.split(','))
        .any(|kind| kind.trim().starts_with(LINES))
}

fn status(deployed: &Deployed) -> StatusCode {
    if deployed.is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    }
}

fn shown(status: StatusCode, handler: &HandlerView) -> Answer {
    let mut response = answer(status, handler);
    let etag = handler
        .etag
        .as_deref()
        .and_then(|etag| HeaderValue::from_str(etag).ok());
    response
        .headers_mut()
        .extend(etag.map(|etag| (header::ETAG, etag)));
    response
}

fn told(problem: Problem, is_tenant: bool) -> Problem {
    if is_tenant {
        problem.for_tenant()
    } else {
        problem
    }
}

fn tell(problem: &Problem) -> Answer {
    let mut response = answer(problem.status(), problem);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if problem.status() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn answer(status: StatusCode, body: &impl Serialize) -> Answer {
    // Our own types have nothing that JSON cannot say.
    let mut json = serde_json::to_vec(body).unwrap_or_default();
    json.push(b'\n');
    let mut response = Response::new(Full::new(Bytes::from(json)).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
