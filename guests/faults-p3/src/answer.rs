//! Sending a response in wasi:http 0.3: a head to return, and a body for a task to write.

use wasip3::http::types::{ErrorCode, Fields, Response, StatusCode, Trailers};
use wasip3::wit_bindgen::{FutureWriter, StreamWriter};
use wasip3::{spawn_local, wit_future, wit_stream};

pub(crate) fn answer(text: &str) -> Response {
    status(200, text)
}

pub(crate) fn status(status: StatusCode, text: &str) -> Response {
    with_text(start(status, &[("content-type", "text/plain")]), text)
}

/// Leaves the text to a task, which finishes the body.
pub(crate) fn with_text((response, mut body): (Response, Body), text: &str) -> Response {
    let text = text.as_bytes().to_vec();
    spawn_local(async move {
        body.write(text).await.ok();
        body.finish(None).await;
    });
    response
}

/// The status must be one that the host takes.
pub(crate) fn start(status: StatusCode, headers: &[(&str, &str)]) -> (Response, Body) {
    let (response, body) = start_with(fields(headers));
    response
        .set_status_code(status)
        .expect("a status the host takes");
    (response, body)
}

pub(crate) fn start_with(headers: Fields) -> (Response, Body) {
    let (stream, contents) = wit_stream::new();
    let (end, trailers) = wit_future::new(|| Err(ErrorCode::HttpResponseIncomplete));
    let (response, _sent) = Response::new(headers, Some(contents), trailers);
    (response, Body { stream, end })
}

pub(crate) fn fields(pairs: &[(&str, &str)]) -> Fields {
    let fields = Fields::new();
    for (name, value) in pairs {
        fields
            .append(name, value.as_bytes())
            .expect("a header the host takes");
    }
    fields
}

/// A body on its way. Dropped, its end says "incomplete"; only `finish` makes it whole.
pub(crate) struct Body {
    stream: StreamWriter<u8>,
    end: FutureWriter<Result<Option<Trailers>, ErrorCode>>,
}

/// Nobody reads the body any more.
pub(crate) struct Gone;

impl Body {
    /// Returns once the host has taken the bytes.
    pub(crate) async fn write(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        let left = self.stream.write_all(bytes).await;
        if left.is_empty() { Ok(()) } else { Err(Gone) }
    }

    pub(crate) async fn finish(self, trailers: Option<Fields>) {
        drop(self.stream);
        self.end.write(Ok(trailers)).await.ok();
    }
}
