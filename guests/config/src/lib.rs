//! What a handler is told from outside: `/greeting` answers with the value `greeting` of `wasi:config`, or else with the
//! variable `GREETING` of the environment, and `/` lists the names of both. Never answer strangers with all that you
//! are told: some of it may be secret.
#![cfg(target_arch = "wasm32")] // natively the crate is empty

use bindings::wasi::config::store;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/deps/wasi-config-0.2.0-rc.1.wit",
        world: "wasi:config/imports",
        generate_all,
    });
}

struct Config;

wasip2::http::proxy::export!(Config);

impl Guest for Config {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let key = target.split('?').next().unwrap_or_default();
        let (status, text) = match key.trim_matches('/') {
            "" => (200, names()),
            key => match value(key) {
                Some(value) => (200, value + "\n"),
                None => (404, format!("nothing was said of {key}\n")),
            },
        };
        let response = OutgoingResponse::new(Fields::new());
        response.set_status_code(status).unwrap();
        let body = response.body().unwrap();
        ResponseOutparam::set(answer, Ok(response));
        let out = body.write().unwrap();
        // One call takes up to 4096 bytes.
        for part in text.as_bytes().chunks(4096) {
            out.blocking_write_and_flush(part).ok();
        }
        drop(out);
        OutgoingBody::finish(body, None).ok();
    }
}

fn value(key: &str) -> Option<String> {
    // An error is a store that cannot be read just now; this host has none.
    let configured = store::get(key).ok().flatten();
    configured.or_else(|| std::env::var(key.to_uppercase()).ok())
}

fn names() -> String {
    let configured = store::get_all().unwrap_or_default();
    let configured = configured.iter().map(|(key, _)| format!("config {key}\n"));
    let environment = std::env::vars().map(|(name, _)| format!("env {name}\n"));
    configured.chain(environment).collect()
}
