//! Calls another handler of the same host: `/NAME/PATH` is answered by the handler NAME, asked for `/PATH`. The host must
//! allow it, with `calls = ["NAME"]` or `--allow-call NAME`.
//!
//! Both bodies stream at once: the answer may begin before the request has ended, as that of an echo does.

mod stream;

use stream::{Copy, Step};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingRequest, IncomingResponse,
    OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::poll::poll;

struct Relay;

wasip2::http::proxy::export!(Relay);

impl Guest for Relay {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let sent = match split(&target) {
            Some((name, path)) => Call::to(name, path, &request),
            None => Err(ErrorCode::DestinationNotFound),
        };
        match sent {
            Ok(call) => call.answer(out),
            // What the host refuses is an error, and what the other handler answers is not, also if it is a 500.
            Err(code) => ResponseOutparam::set(out, Err(code)),
        }
    }
}

/// `/NAME/PATH` as the name and `/PATH`.
fn split(target: &str) -> Option<(&str, &str)> {
    let rest = target.strip_prefix('/')?;
    let (name, path) = rest.split_at(rest.find('/')?);
    (!name.is_empty()).then_some((name, path))
}

/// A request that is on its way to the other handler.
struct Call {
    answer: FutureIncomingResponse,
    body: Option<Copy>,
}

impl Call {
    fn to(name: &str, path: &str, asked: &IncomingRequest) -> Result<Self, ErrorCode> {
        let request = OutgoingRequest::new(asked.headers().clone());
        let authority = format!("{name}.handler.internal");
        let invalid = |()| ErrorCode::HttpRequestUriInvalid;
        request.set_method(&asked.method()).map_err(invalid)?;
        request.set_scheme(Some(&Scheme::Http)).map_err(invalid)?;
        request.set_authority(Some(&authority)).map_err(invalid)?;
        request.set_path_with_query(Some(path)).map_err(invalid)?;
        let from = asked.consume().expect("the body is taken once");
        let to = request.body().expect("the body is taken once");
        Ok(Self {
            answer: outgoing_handler::handle(request, None)?,
            body: Some(Copy::of(from, to)),
        })
    }

    /// Copies both bodies, each as far as it goes, and waits when neither does.
    fn answer(mut self, out: ResponseOutparam) {
        let mut out = Some(out);
        let mut response: Option<Copy> = None;
        loop {
            advance(&mut self.body);
            if out.is_some()
                && let Some(answer) = self.answer.get()
            {
                let out = out.take().expect("answered once");
                match answer.expect("asked once") {
                    Ok(answer) => response = Some(respond(&answer, out)),
                    Err(code) => return ResponseOutparam::set(out, Err(code)),
                }
            }
            advance(&mut response);
            if out.is_none() && response.is_none() {
                return; // who has answered need not read the rest of the request
            }
            let mut events: Vec<_> = [&self.body, &response]
                .into_iter()
                .filter_map(|copy| copy.as_ref().map(Copy::next))
                .collect();
            if out.is_some() {
                events.push(self.answer.subscribe());
            }
            poll(&events.iter().collect::<Vec<_>>());
        }
    }
}

/// Hands the head of the answer on; its body is to be copied.
fn respond(answer: &IncomingResponse, out: ResponseOutparam) -> Copy {
    let response = OutgoingResponse::new(answer.headers().clone());
    response
        .set_status_code(answer.status())
        .expect("a status that the host gave");
    let from = answer.consume().expect("the body is taken once");
    let to = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    Copy::of(from, to)
}

/// Copies what is there. A body that breaks off is dropped and not finished, so that its reader can tell; one that nobody
/// reads any more is no error.
fn advance(copy: &mut Option<Copy>) {
    let Some(step) = copy.as_mut().map(Copy::step) else {
        return;
    };
    match step {
        Step::Waits => {}
        Step::Broken => *copy = None,
        Step::Ended => {
            if let Some((from, to)) = copy.take().map(Copy::into_bodies) {
                finish(from, to).ok();
            }
        }
    }
}

/// What came after the body goes after the other.
fn finish(from: IncomingBody, to: OutgoingBody) -> Result<(), ErrorCode> {
    let trailers = IncomingBody::finish(from);
    trailers.subscribe().block();
    let trailers: Option<Fields> = trailers
        .get()
        .expect("the wait is over")
        .expect("asked once")?;
    OutgoingBody::finish(to, trailers)
}
