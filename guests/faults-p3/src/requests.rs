//! What arrived, told back.

use crate::answer::{answer, fields, start, status};
use crate::text::{Fnv, hex, kebab, variant};
use std::fmt::Write;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response, Scheme};
use wasip3::wit_bindgen::StreamResult;
use wasip3::{spawn_local, wit_future};

/// The body's length and hash; 400 with the error's name if it ended early.
pub(crate) async fn read(request: Request) -> Response {
    let (mut length, mut hash) = (0, Fnv::new());
    let end = consume(request, |bytes| {
        length += bytes.len();
        hash.add(bytes);
    });
    match end.await {
        Ok(_) => answer(&format!("{length} {:016x}\n", hash.0)),
        Err(code) => status(400, &format!("{}\n", kebab(&code))),
    }
}

/// Prints how much of the body there is, each time that some more has come.
pub(crate) async fn read_aloud(request: Request) -> Response {
    let mut length = 0;
    let end = consume(request, |bytes| {
        length += bytes.len();
        println!("{length} bytes were read");
    });
    match end.await {
        Ok(_) => answer(&format!("{length}\n")),
        Err(code) => status(400, &format!("{}\n", kebab(&code))),
    }
}

pub(crate) async fn trailers(request: Request) -> Response {
    match consume(request, |_| {}).await {
        Ok(trailers) => {
            let mut text = String::new();
            for (name, value) in trailers.iter().flat_map(Fields::copy_all) {
                writeln!(text, "{name}: {}", String::from_utf8_lossy(&value)).ok();
            }
            answer(&text)
        }
        Err(code) => status(400, &format!("{}\n", kebab(&code))),
    }
}

/// A gRPC method that streams both ways: each message comes back as it arrives, and then `grpc-status`.
pub(crate) fn grpc(request: Request) -> Response {
    let (response, mut body) = start(200, &[("content-type", "application/grpc")]);
    spawn_local(async move {
        let (_, well) = wit_future::new(|| Ok(()));
        let (mut stream, trailers) = Request::consume_body(request, well);
        loop {
            let (result, bytes) = stream.read(Vec::with_capacity(64 * 1024)).await;
            let is_over = !matches!(result, StreamResult::Complete(_));
            if !bytes.is_empty() && body.write(bytes).await.is_err() || is_over {
                break;
            }
        }
        drop(stream);
        let status = if trailers.await.is_ok() { "0" } else { "1" }; // 1: cancelled
        body.finish(Some(fields(&[("grpc-status", status)]))).await;
    });
    response
}

pub(crate) fn headers(request: &Request) -> Response {
    let mut text = String::new();
    for (name, value) in request.get_headers().copy_all() {
        writeln!(text, "{name}\t{}", hex(&value)).ok();
    }
    answer(&text)
}

pub(crate) fn request(request: &Request) -> Response {
    let method = match request.get_method() {
        Method::Other(name) => name,
        known => variant(&known).to_uppercase(),
    };
    let scheme = request.get_scheme().map(|scheme| match scheme {
        Scheme::Other(name) => name,
        known => variant(&known).to_lowercase(),
    });
    let none = || "none".to_owned();
    answer(&format!(
        "method: {method}\nscheme: {}\nauthority: {}\npath_with_query: {}\n",
        scheme.unwrap_or_else(none),
        request.get_authority().unwrap_or_else(none),
        request.get_path_with_query().unwrap_or_else(none),
    ))
}

/// Reads the body to its end, and then what came after it.
async fn consume(
    request: Request,
    mut take: impl FnMut(&[u8]),
) -> Result<Option<Fields>, ErrorCode> {
    let (_, well) = wit_future::new(|| Ok(()));
    let (mut stream, trailers) = Request::consume_body(request, well);
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        let (result, bytes) = stream.read(buffer).await;
        take(&bytes);
        if !matches!(result, StreamResult::Complete(_)) {
            break;
        }
        buffer = bytes;
        buffer.clear();
    }
    drop(stream);
    trailers.await
}
