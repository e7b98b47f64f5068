//! The smallest handler in wasi:http 0.3: "Hello from WebAssembly!" to every request.
//!
//! 0.3 is async by nature: `handle` returns the head of the response, and the body is written by a task
//! that goes on after it. `http_into_wasi_response` makes both from the `http` crate's familiar types.

use http::{Response, header::CONTENT_TYPE};
use wasip3::exports::http::handler::Guest;
use wasip3::http::types;
use wasip3::http_compat::http_into_wasi_response;

struct Hello;

wasip3::http::service::export!(Hello);

impl Guest for Hello {
    async fn handle(_request: types::Request) -> Result<types::Response, types::ErrorCode> {
        let mut response = Response::new("Hello from WebAssembly!\n".to_owned());
        response
            .headers_mut()
            .insert(CONTENT_TYPE, "text/plain".parse().unwrap());
        http_into_wasi_response(response)
    }
}
