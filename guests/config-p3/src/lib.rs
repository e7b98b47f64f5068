//! What a handler is told from outside: `/greeting` answers with the value `greeting` of `wasi:config`, or else with the
//! variable `GREETING` of the environment, and `/` lists the names of both. Never answer strangers with all that you
//! are told: some of it may be secret.
//!
//! `wasi:config` has no form of its own for 0.3: a guest of 0.3 imports it as one of 0.2 does.
#![cfg(target_arch = "wasm32")] // natively the crate is empty

use bindings::wasi::config::store;
use http::{Response, StatusCode};
use wasip3::exports::http::handler::Guest;
use wasip3::http::types;
use wasip3::http_compat::http_into_wasi_response;

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/deps/wasi-config-0.2.0-rc.1.wit",
        world: "wasi:config/imports",
        generate_all,
    });
}

struct Config;

wasip3::http::service::export!(Config);

impl Guest for Config {
    async fn handle(request: types::Request) -> Result<types::Response, types::ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let key = target.split('?').next().unwrap_or_default();
        let (status, text) = match key.trim_matches('/') {
            "" => (StatusCode::OK, names()),
            key => match value(key) {
                Some(value) => (StatusCode::OK, value + "\n"),
                None => (
                    StatusCode::NOT_FOUND,
                    format!("nothing was said of {key}\n"),
                ),
            },
        };
        let mut response = Response::new(text);
        *response.status_mut() = status;
        http_into_wasi_response(response)
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
