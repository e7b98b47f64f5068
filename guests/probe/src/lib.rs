//! Uses what it was granted, and tries what it was not, and says what came of it: one path, one thing tried. `probe-p3`
//! does the same through the interfaces of 0.3, for those that there are.
#![cfg(target_arch = "wasm32")] // only a guest can do this: natively the crate is empty

mod asked; // shared with probe-p3, as is `told`
mod clock;
mod files;
mod sockets;
mod told;

use asked::Asked;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Probe;

wasip2::http::proxy::export!(Probe);

/// Lives as long as the instance: above 1, the instance is being reused.
static SERVED: AtomicU64 = AtomicU64::new(0);

impl Guest for Probe {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let served = SERVED.fetch_add(1, Ordering::Relaxed) + 1;
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let asked = Asked(query);
        let said = match path {
            "/count" => format!("{served}\n"),
            "/trap" => panic!("on purpose"),

            "/config" => told::config(&asked),
            "/config-all" => told::all(&asked),
            "/env" => told::env(&asked),

            "/read" => files::read(&asked),
            "/write" => files::write(&asked),
            "/append" => files::append(&asked),
            "/list" => files::list(&asked),
            "/peek" => files::peek(&asked),
            "/fill" => files::fill(&asked),
            "/churn" => files::churn(&asked),
            "/hold" => files::hold(&asked),
            "/hold-listings" => files::hold_listings(&asked),
            "/truncate" => files::truncate(&asked),
            "/unlinked" => files::unlinked(&asked),
            "/mkdir" => files::mkdir(&asked),
            "/link" => files::link(&asked),
            "/symlink" => files::symlink(&asked),
            "/rename" => files::rename(&asked),
            "/remove" => files::remove(&asked),
            "/times" => files::times(&asked),
            "/open-often" => files::open_often(&asked),

            "/clock" => clock::clock(),
            "/timer" => clock::timer(&asked),
            "/now" => clock::now(),
            "/random" => clock::random(&asked),

            "/resolve" => sockets::resolve(&asked),
            "/connect" => sockets::connect(&asked),
            "/udp" => sockets::udp(&asked),
            "/receive" => sockets::receive(&asked),
            "/listen" => sockets::listen(&asked),
            "/bind" => sockets::bind(&asked),
            _ => "no such path\n".to_owned(),
        };
        answer(out, &said);
    }
}

fn answer(out: ResponseOutparam, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let mut stream = body.write().expect("one writer");
    stream.write_all(text.as_bytes()).ok();
    drop(stream);
    OutgoingBody::finish(body, None).ok();
}
