//! A handler for wasi:http 0.2: `main` is called once for every request.

use wstd::http::{Body, Request, Response, Result, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>> {
    let (status, text) = match request.uri().path() {
        "/" => (StatusCode::OK, "Hello from {{name}}!\n"),
        _ => (StatusCode::NOT_FOUND, "not found\n"),
    };
    Ok(Response::builder()
        .status(status)
        .header("content-type", "text/plain; charset=utf-8")
        .body(text.into())?)
}
