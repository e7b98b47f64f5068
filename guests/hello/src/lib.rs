//! The smallest handler: "Hello from WebAssembly!" to every request.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(_request: IncomingRequest, answer: ResponseOutparam) {
        let headers = Fields::new();
        headers.append("content-type", b"text/plain").unwrap();

        // The status is 200 unless `set_status_code` says otherwise. The body must be taken before the
        // response is handed over; from `set` on, status and headers are on their way to the client.
        let response = OutgoingResponse::new(headers);
        let body = response.body().unwrap();
        ResponseOutparam::set(answer, Ok(response));

        // One call takes up to 4096 bytes. A client that has left is no reason to trap, hence `.ok()`.
        let out = body.write().unwrap();
        out.blocking_write_and_flush(b"Hello from WebAssembly!\n")
            .ok();
        drop(out); // the body can only be finished once nobody is writing to it
        OutgoingBody::finish(body, None).ok();
    }
}
