//! Counts visits: every GET of a path counts it up by one, and answers with how many there were. The number is in the
//! bucket `counters`, so it is there after a restart, and no visit is lost however many come at once.

use wstd::http::{Body, Method, Request, Response, Result, StatusCode};

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/deps/wasi-keyvalue-0.2.0-draft2.wit",
        world: "wasi:keyvalue/imports",
    });
}

use bindings::wasi::keyvalue::atomics::increment;
use bindings::wasi::keyvalue::store::{Error, open};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>> {
    if *request.method() != Method::GET {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "visits are counted by GET\n",
        );
    }
    match count(request.uri().path()) {
        Ok(visits) => text(StatusCode::OK, format!("{visits}\n")),
        // The host says why in its log, and what would allow it.
        Err(Error::AccessDenied | Error::NoSuchStore) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "there is no bucket `counters`\n",
        ),
        Err(Error::Other(why)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// One step in the store, not a read and a write: of two visits at once each gets its own number.
fn count(path: &str) -> std::result::Result<i64, Error> {
    increment(&open("counters")?, path, 1)
}

fn text(status: StatusCode, text: impl Into<Body>) -> Result<Response<Body>> {
    Ok(Response::builder()
        .status(status)
        .header("content-type", "text/plain; charset=utf-8")
        .header("cache-control", "no-store")
        .body(text.into())?)
}
