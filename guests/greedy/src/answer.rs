//! Sending a text.

use std::io::Write as _;
use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};

pub(crate) fn answer(out: ResponseOutparam, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let mut stream = body.write().expect("one writer");
    stream.write_all(text.as_bytes()).ok();
    drop(stream);
    OutgoingBody::finish(body, None).ok();
}
