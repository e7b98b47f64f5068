//! One path for each thing that a guest may reach through the host, taken too far: one path, one behaviour, one test.
#![cfg(target_arch = "wasm32")] // only a guest can do this: natively the crate is empty

mod answer;
mod blobs;
mod logs;

use answer::answer;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

/// Interfaces that `wasip2` has not.
mod bindings {
    wit_bindgen::generate!({
        path: [
            "../../wit/deps/wasi-io-0.2.12.wit",
            "../../wit/deps/wasi-logging-0.1.0-draft.wit",
            "../../wit/deps/wasi-blobstore-0.2.0-draft.wit",
        ],
        inline: "package greedy:guest;
            world imports {
                import wasi:logging/logging@0.1.0-draft;
                import wasi:blobstore/blobstore@0.2.0-draft;
            }",
        with: {
            "wasi:io/error@0.2.12": wasip2::io::error,
            "wasi:io/poll@0.2.12": wasip2::io::poll,
            "wasi:io/streams@0.2.12": wasip2::io::streams,
        },
        generate_all,
    });
}

struct Greedy;

wasip2::http::proxy::export!(Greedy);

impl Guest for Greedy {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let asked = Asked(query);
        let said = match path {
            "/log" => logs::one(&asked),
            "/log-levels" => logs::levels(),
            "/log-control" => logs::control_characters(),
            "/log-flood" => logs::flood(asked.number("n", 100_000)),
            "/log-bytes" => logs::bytes(asked.number("n", 1_000)),
            path => match path.strip_prefix("/blob/") {
                Some(operation) => blobs::operation(operation, &asked),
                None => "no such path\n".to_owned(),
            },
        };
        answer(out, &said);
    }
}

/// The query of a request, as it stands: nothing is decoded.
struct Asked<'a>(&'a str);

impl<'a> Asked<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .into_iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// The same with its percent signs read.
    fn decoded(&self, name: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = self.text(name).unwrap_or_default().bytes();
        while let Some(byte) = rest.next() {
            let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
            bytes.push(match byte {
                b'%' => match (digit(), digit()) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => b'%',
                },
                byte => byte,
            });
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn number(&self, name: &str, otherwise: u64) -> u64 {
        self.text(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(otherwise)
    }
}
