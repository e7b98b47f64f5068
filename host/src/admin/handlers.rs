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

use super::listen::Token;
use super::problem::Problem;
use super::routes::{self, Call, Operation};
use super::view::{HandlerView, HandlersView};
use super::{LINES, ask, openapi};
use crate::catalog::{Ask, Deployed, HandlerName, Receiving, Step, Turn, Versions};
use crate::limits;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Where operators are answered.
pub(super) struct Desk {
    versions: Arc<Versions>,
    token: Option<Arc<Token>>,
}

impl Desk {
    pub(super) fn new(versions: Arc<Versions>, token: Option<Arc<Token>>) -> Self {
        Self { versions, token }
    }

    /// Answers a request of somebody.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        who: Arc<str>,
    ) -> Result<Answer, Infallible> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answered = self.call(request, &who).await;
        Ok(answered.unwrap_or_else(|problem| {
            if method != Method::GET {
                let path = crate::names::short(&path);
                tracing::warn!("{method} {path} by {who} is refused: {}", problem.detail);
            }
            tell(&problem)
        }))
    }

    async fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        who: &Arc<str>,
    ) -> Result<Answer, Problem> {
        let (parts, mut body) = request.into_parts();
        let query = parts.uri.query().unwrap_or("");
        let found = self.check(&parts.headers, parts.uri.path());
        let found = found.and_then(|()| routes::find(&parts.method, parts.uri.path()));
        let (operation, name) = match found {
            Ok(found) => found,
            Err(problem) => return Err(read_over(&parts.headers, body, problem).await),
        };
        match operation.call {
            Call::Health => Ok(answer(StatusCode::OK, &json!({ "status": "ok" }))),
            Call::OpenApi => Ok(answer(StatusCode::OK, &openapi::document())),
            Call::List => self.list().await,
            Call::Show => self.show(&ask::name(name)?, StatusCode::OK),
            Call::Audit => {
                let changes = self.versions.changes(ask::last(operation, query)?).await?;
                Ok(answer(StatusCode::OK, &json!({ "changes": changes })))
            }
            Call::Undeploy => {
                let name = ask::name(name)?;
                let turn = self
                    .versions
                    .begin(&name, &ask::expected(&parts.headers)?)?;
                self.versions.undeploy(turn, who).await?;
                Ok(answer(StatusCode::OK, &json!({ "name": name })))
            }
            Call::Rollback => {
                let (name, to) = (ask::name(name)?, ask::to(operation, query)?);
                let turn = self
                    .versions
                    .begin(&name, &ask::expected(&parts.headers)?)?;
                let deployed = self.versions.rollback(turn, to.as_deref(), who).await?;
                self.deployed(&deployed)
            }
            Call::Deploy => {
                let begun = self.begin(operation, name, query, &parts.headers);
                let (turn, ask, receiving) = match begun {
                    Ok(begun) => begun,
                    Err(problem) => return Err(read_over(&parts.headers, body, problem).await),
                };
                let received = receive(receiving, &mut body).await?;
                if wants_lines(&parts.headers) {
                    return Ok(self.in_lines(turn, ask, received, who));
                }
                let deployed = self
                    .versions
                    .deploy(turn, ask, received, who, |_| {})
                    .await?;
                self.deployed(&deployed)
            }
        }
    }

    /// Everybody may ask whether the host is there.
    fn check(&self, headers: &HeaderMap, path: &str) -> Result<(), Problem> {
        let Some(token) = self.token.as_ref().filter(|_| path != "/healthz") else {
            return Ok(());
        };
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        match shown.and_then(|shown| shown.strip_prefix("Bearer ")) {
            Some(shown) if token.is(shown) => Ok(()),
            Some(_) => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "token",
                "the token is not that of this host",
            )),
            None => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "token",
                "this door needs a token: send `authorization: Bearer TOKEN`, or give its file with `--admin-token-file`",
            )),
        }
    }

    fn begin(
        &self,
        operation: &Operation,
        name: &str,
        query: &str,
        headers: &HeaderMap,
    ) -> Result<(Turn, Ask, Receiving), Problem> {
        let (name, ask) = (ask::name(name)?, ask::ask(operation, query)?);
        let turn = self.versions.begin(&name, &ask::expected(headers)?)?;
        Ok((turn, ask, self.versions.receive()?))
    }

    /// Twenty thousand handlers take a while to write.
    async fn list(&self) -> Result<Answer, Problem> {
        let versions = Arc::clone(&self.versions);
        let list = move || {
            let handlers = versions.all().iter().map(HandlerView::from).collect();
            answer(StatusCode::OK, &HandlersView { handlers })
        };
        let stopped = |_| {
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "stopped",
                "the host ends",
            )
        };
        spawn_blocking(list).await.map_err(stopped)
    }

    fn show(&self, name: &HandlerName, status: StatusCode) -> Result<Answer, Problem> {
        Ok(shown(
            status,
            &HandlerView::from(&self.versions.find(name)?),
        ))
    }

    fn deployed(&self, deployed: &Deployed) -> Result<Answer, Problem> {
        self.show(&deployed.record.name, status(deployed))
    }

    /// Deploys, and answers with a line for each step. A client that leaves stops it.
    fn in_lines(
        self: Arc<Self>,
        turn: Turn,
        ask: Ask,
        received: Receiving,
        who: &Arc<str>,
    ) -> Answer {
        let (lines, receiver) = mpsc::channel::<Bytes>(STEPS);
        let who = Arc::clone(who);
        let mut task = JoinSet::new();
        task.spawn(async move {
            // There is room for every step.
            let say =
                |line: serde_json::Value| drop(lines.try_send(Bytes::from(format!("{line}\n"))));
            let deployed = self
                .versions
                .deploy(turn, ask, received, &who, |step| say(line(&step)))
                .await;
            let outcome = deployed.map_err(Problem::from).and_then(|deployed| {
                let handler = HandlerView::from(&self.versions.find(&deployed.record.name)?);
                Ok((status(&deployed).as_u16(), handler))
            });
            say(match outcome {
                Ok((status, handler)) => {
                    json!({ "step": "deployed", "status": status, "handler": handler })
                }
                Err(problem) => {
                    tracing::warn!("a deploy by {who} is refused: {}", problem.detail);
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
