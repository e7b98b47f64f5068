//! Bodies that end badly, late or with something after them.

use crate::answer::{Body, fields, start};
use crate::crashes::trap;
use crate::time::pause;
use wasip3::http::types::Response;
use wasip3::spawn_local;

pub(crate) fn trap_mid_body() -> Response {
    partial(|_| trap())
}

pub(crate) fn drop_body() -> Response {
    partial(drop)
}

/// Neither finished nor dropped: the handles stay in the instance.
pub(crate) fn leak_body() -> Response {
    partial(std::mem::forget)
}

/// The pause lets the client see the first part before the rest goes wrong.
fn partial(then: impl FnOnce(Body) + 'static) -> Response {
    let (response, mut body) = start(200, &[]);
    spawn_local(async move {
        body.write(b"partial".to_vec()).await.ok();
        pause(100).await;
        then(body);
    });
    response
}

pub(crate) fn bytes(n: u64) -> Response {
    fill(start(200, &[]), n)
}

pub(crate) fn bytes_length(n: u64) -> Response {
    fill(start(200, &[("content-length", &n.to_string())]), n)
}

fn fill((response, mut body): (Response, Body), n: u64) -> Response {
    const CHUNK: u64 = 64 * 1024;
    spawn_local(async move {
        let mut left = n;
        while left > 0 {
            let some = left.min(CHUNK);
            if body.write(vec![b'x'; some as usize]).await.is_err() {
                return; // the client left
            }
            left -= some;
        }
        body.finish(None).await;
    });
    response
}

pub(crate) fn trailers(headers: &[(&str, &str)]) -> Response {
    let (response, mut body) = start(200, headers);
    spawn_local(async move {
        body.write(b"body\n".to_vec()).await.ok();
        body.finish(Some(fields(&[("x-checksum", "abc")]))).await;
    });
    response
}
