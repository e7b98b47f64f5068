//! A handler for wasi:http 0.3: `handle` is called once for every request.

use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{self, ErrorCode};
use wasip3::http_compat::http_into_wasi_response;

struct Handler;

wasip3::http::service::export!(Handler);

impl Guest for Handler {
    async fn handle(request: types::Request) -> Result<types::Response, ErrorCode> {
        let target = request.get_path_with_query();
        let (status, text) = match target.as_deref() {
            Some("/") => (StatusCode::OK, "Hello from {{name}}!\n"),
            _ => (StatusCode::NOT_FOUND, "not found\n"),
        };
        let mut response = Response::new(text.to_owned());
        *response.status_mut() = status;
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        http_into_wasi_response(response)
    }
}
