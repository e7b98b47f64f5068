//! Sends the request's body back while it arrives. In wasi:http 0.3 body and trailers are values: they
//! are taken out of the request and put into the response, and the host does the rest without this guest.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_future;

struct Echo;

wasip3::http::service::export!(Echo);

impl Guest for Echo {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let headers = Fields::new();
        let asked = request.get_headers();
        // HTTP/1.1 sends trailers only if the header `trailer` announced them.
        for name in ["content-type", "trailer"] {
            for value in asked.get(name) {
                headers.append(name, &value).ok();
            }
        }

        // The future tells the host how reading the request went; dropping the writer says "well".
        let (_, read) = wit_future::new(|| Ok(()));
        let (body, trailers) = Request::consume_body(request, read);
        let (response, _sent) = Response::new(headers, Some(body), trailers);
        Ok(response)
    }
}
