//! Bodies that end badly, late or with something after them.

use crate::answer::{Body, fields, start};
use crate::crashes::trap;
use crate::time::pause;
use wasip2::http::types::ResponseOutparam;

pub(crate) fn trap_mid_body(out: ResponseOutparam) -> ! {
    let _body = partial(out);
    trap()
}

pub(crate) fn drop_body(out: ResponseOutparam) {
    drop(partial(out));
}

/// Neither finished nor dropped: the handle stays in the instance.
pub(crate) fn leak_body(out: ResponseOutparam) {
    std::mem::forget(partial(out));
}

/// The pause lets the client see the first part before the rest goes wrong.
fn partial(out: ResponseOutparam) -> Body {
    let mut body = start(out, 200, &[]);
    body.write(b"partial").ok();
    pause(100);
    body
}

pub(crate) fn bytes(out: ResponseOutparam, n: u64) {
    fill(start(out, 200, &[]), n);
}

pub(crate) fn bytes_length(out: ResponseOutparam, n: u64) {
    fill(start(out, 200, &[("content-length", &n.to_string())]), n);
}

fn fill(mut body: Body, n: u64) {
    let chunk = vec![b'x'; 64 * 1024];
    let mut left = n;
    while left > 0 {
        let some = left.min(chunk.len() as u64);
        if body.write(&chunk[..some as usize]).is_err() {
            return; // the client left
        }
        left -= some;
    }
    body.finish(None);
}

pub(crate) fn trailers(out: ResponseOutparam, headers: &[(&str, &str)]) {
    let mut body = start(out, 200, headers);
    body.write(b"body\n").ok();
    body.finish(Some(fields(&[("x-checksum", "abc")])));
}
