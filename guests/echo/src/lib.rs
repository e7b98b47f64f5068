//! Sends the request's body back while it arrives: nothing is collected, so a body of any length costs
//! the same memory, and client and handler talk in both directions at once.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse,
    ResponseOutparam,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

struct Echo;

wasip2::http::proxy::export!(Echo);

impl Guest for Echo {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let headers = Fields::new();
        let asked = request.headers();
        // HTTP/1.1 sends trailers only if the header `trailer` announced them.
        for name in ["content-type", "trailer"] {
            for value in asked.get(name) {
                headers.append(name, &value).ok();
            }
        }

        let incoming = request.consume().expect("the request's body is taken once");
        let response = OutgoingResponse::new(headers);
        let outgoing = response.body().expect("the response's body is taken once");
        ResponseOutparam::set(answer, Ok(response)); // the head leaves before the first byte is read

        let copied = {
            let input = incoming.stream().expect("one reader");
            let output = outgoing.write().expect("one writer");
            copy(&input, &output)
        };
        // A body that is dropped and not finished tells the client that it is incomplete.
        if copied.is_ok()
            && let Ok(trailers) = trailers(incoming)
        {
            OutgoingBody::finish(outgoing, trailers).ok();
        }
    }
}

/// The bytes go from stream to stream inside the host and never enter this guest's memory.
fn copy(input: &InputStream, output: &OutputStream) -> Result<(), StreamError> {
    loop {
        match output.blocking_splice(input, 64 * 1024) {
            Ok(_) => {}
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// What the client sent after the body: known only once the body has been read to its end.
fn trailers(body: IncomingBody) -> Result<Option<Fields>, ErrorCode> {
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    trailers
        .get()
        .expect("the wait is over")
        .expect("asked once")
}
